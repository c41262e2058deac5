"""Score: a report held against the truth of an image. How much came back, and is what came back true?

Recall, of the true files: *byte-exact* (same SHA-256, and a good grade: INTACT or CONSISTENT) and *located* (something
was reported at the same start in the image, whatever its grade). Precision, of the reported files with a good grade:
those whose SHA-256 or exact layout is in the truth. A file inside a true file (by its `parent`, or because its bytes
lie within) is a child, neither true nor false. DAMAGED, TRUNCATED and UNDECIDED files claim nothing, so they never
count against precision. A true file whose own `grade` is not good cannot come back exactly: it counts for *located*
only, and a good grade over its layout is false.

Small files that tell of models (the report's `side_files`) count only where the truth has files of their format.

A measure over nothing (no true file, no reported file) is not defined: it is printed as a dash and misses no bar.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

from carver.recovery import SCHEMA_VERSION
from carver.report.visible import visible
from imaging.errors import InputError
from imaging.extent import ExtentSet, span
from signatures.verdict import Grade

Runs: TypeAlias = tuple[tuple[int, int], ...]

TOTAL = "all"
LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One format's measures, or those of all.

    Attributes:
        format: its name, or "all".
        truth: true files.
        exact_of: true files that can come back exactly.
        exact: those that did, with a good grade.
        located: true files at whose start something was reported.
        claimed: reported files with a good grade, without the children.
        right: those that are in the truth.
    """

    format: str
    truth: int
    exact_of: int
    exact: int
    located: int
    claimed: int
    right: int

    @property
    def recall(self) -> float | None:
        """Byte-exact recall; None where nothing could come back."""
        return self.exact / self.exact_of if self.exact_of else None

    @property
    def located_recall(self) -> float | None:
        """Located recall; None where there is no true file."""
        return self.located / self.truth if self.truth else None

    @property
    def precision(self) -> float | None:
        """Precision; None where nothing was claimed."""
        return self.right / self.claimed if self.claimed else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A row a format, by name, and "all" last; and by path what was missed (true files) or false (reported files)."""

    rows: tuple[Row, ...]
    missed: tuple[str, ...]
    false: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    path: str
    format: str
    good: bool
    sha256: str
    layout: Runs
    parent: str | None


def load_truth(path: Path) -> Mapping[str, Any]:
    """Read a truth file.

    Raises:
        InputError: it cannot be read or breaks the schema.
    """
    return _load(path, "truth")


def load_report(path: Path) -> Mapping[str, Any]:
    """Read a report.json.

    Raises:
        InputError: it cannot be read or breaks the schema.
    """
    return _load(path, "report")


def _load(path: Path, kind: str) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as fault:
        raise InputError(f"cannot read {path}: {os.strerror(fault.errno or 0)}") from fault
    except (ValueError, RecursionError) as fault:
        raise InputError(f"{path} is no JSON: {fault}") from fault
    try:
        _files(document, kind)
    except InputError as fault:
        raise InputError(f"{path}: {fault}") from fault
    return dict(document)


def score(report: Mapping[str, Any], truth: Mapping[str, Any]) -> Score:
    """Hold a report against a truth, both as read from JSON.

    Raises:
        InputError: one of them breaks the schema.
    """
    true, found = _files(truth, "truth"), _files(report, "report")
    named = {file.format for file in true}
    found += [file for file in _side_files(report) if file.format in named]
    exact = _exact(true, found)
    starts = {file.layout[0][0] for file in found if file.layout}
    located = [file.layout[0][0] in starts if file.layout else hit for file, hit in zip(true, exact, strict=True)]
    claimed, right = _claims(true, found)
    names = sorted({file.format for file in (*true, *found)})
    rows = []
    for name in (*names, TOTAL):
        chosen = [index for index, file in enumerate(true) if name in (file.format, TOTAL)]
        claims = [index for index, file in enumerate(claimed) if name in (file.format, TOTAL)]
        row = Row(
            format=name,
            truth=len(chosen),
            exact_of=sum(true[index].good for index in chosen),
            exact=sum(exact[index] for index in chosen),
            located=sum(located[index] for index in chosen),
            claimed=len(claims),
            right=sum(right[index] for index in claims),
        )
        rows.append(row)
    return Score(
        rows=tuple(rows),
        missed=tuple(file.path for file, hit in zip(true, exact, strict=True) if file.good and not hit),
        false=tuple(file.path for file, ok in zip(claimed, right, strict=True) if not ok),
    )


def _exact(true: Sequence[_File], found: Iterable[_File]) -> list[bool]:
    """Tell of each true file whether it came back; two copies in the truth need two in the report."""
    copies = Counter(file.sha256 for file in found if file.good)
    hits = []
    for file in true:
        hit = file.good and copies[file.sha256] > 0
        copies[file.sha256] -= hit
        hits.append(hit)
    return hits


def _claims(true: Sequence[_File], found: Sequence[_File]) -> tuple[list[_File], list[bool]]:
    """Return the reported files with a good grade that are no children, and of each whether it is right."""
    hashes = {file.sha256 for file in true}
    layouts = {file.layout for file in true if file.layout}
    good_layouts = {file.layout for file in true if file.layout and file.good}
    genuine = {file.path for file in found if file.sha256 in hashes or file.layout in layouts}
    parents = {file.path: file.parent for file in found}
    inside = _Inside(true)
    claimed, right = [], []
    for file in found:
        if not file.good:
            continue
        is_right = file.sha256 in hashes or file.layout in good_layouts
        if is_right or not (_has_ancestor(file, parents, genuine) or inside.holds(file.layout)):
            claimed.append(file)
            right.append(is_right)
    return claimed, right


def _has_ancestor(file: _File, parents: Mapping[str, str | None], genuine: set[str]) -> bool:
    seen: set[str] = set()
    parent = file.parent
    while parent is not None and parent not in seen:
        if parent in genuine:
            return True
        seen.add(parent)
        parent = parents.get(parent)
    return False


class _Inside:
    """Which layouts lie strictly within one true file."""

    def __init__(self, true: Iterable[_File]) -> None:
        self._sets = [ExtentSet(span(start, start + size) for start, size in file.layout) for file in true]

    def holds(self, layout: Runs) -> bool:
        mine = ExtentSet(span(start, start + size) for start, size in layout)
        if not mine:
            return False
        return any(
            bytes_of.total_bytes > mine.total_bytes and (bytes_of & mine) == mine
            for bytes_of in self._sets
            if bytes_of and bytes_of.starts[0] <= mine.starts[0] and mine.ends[-1] <= bytes_of.ends[-1]
        )


def shortfalls(score: Score, min_recall: float | None, min_precision: float | None) -> list[str]:
    """Return one sentence for each format (and for all) whose byte-exact recall or precision is below its bar."""
    found = []
    for row in score.rows:
        if min_recall is not None and row.recall is not None and row.recall < min_recall:
            found.append(f"{row.format}: recall {row.recall:.4f} is below {min_recall:g}")
        if min_precision is not None and row.precision is not None and row.precision < min_precision:
            found.append(f"{row.format}: precision {row.precision:.4f} is below {min_precision:g}")
    return found


def render_text(score: Score) -> str:
    """Return the table for the terminal, and the first of what was missed or false."""
    width = max(6, *(len(visible(row.format)) for row in score.rows))
    lines = [f"{'format':<{width}}  {'exact recall':>19}  {'located':>19}  {'precision':>19}"]
    for row in score.rows:
        cells = (
            _share(row.recall, row.exact, row.exact_of),
            _share(row.located_recall, row.located, row.truth),
            _share(row.precision, row.right, row.claimed),
        )
        lines.append(f"{visible(row.format):<{width}}  " + "  ".join(f"{cell:>19}" for cell in cells))
    for title, paths in (("missed", score.missed), ("false", score.false)):
        lines += [f"{title}: {visible(path)}" for path in paths[:LISTED]]
        if len(paths) > LISTED:
            lines.append(f"{title}: … and {len(paths) - LISTED:,} more")
    return "\n".join(lines) + "\n"


def _share(share: float | None, part: int, whole: int) -> str:
    if share is None:
        return "–"
    percent = f"{share:.2%}" if share == 1 or share < 0.9999 else "99.99%"  # never round up to all
    return f"{percent} ({part}/{whole})"


def as_json(score: Score) -> dict[str, object]:
    """Return the score as JSON-ready values; a measure over nothing is null."""
    rows = [
        {
            "format": row.format,
            "truth": row.truth,
            "exact": row.exact,
            "located": row.located,
            "recall": row.recall,
            "located_recall": row.located_recall,
            "precision": row.precision,
        }
        for row in score.rows
    ]
    return {"schema_version": SCHEMA_VERSION, "formats": rows, "missed": list(score.missed), "false": list(score.false)}


def render_junit(score: Score, min_recall: float | None = None, min_precision: float | None = None) -> str:
    """Return JUnit XML: a test suite a format, a test case a measure, failed where it is below its bar."""
    root = ElementTree.Element("testsuites", name="carver score")
    for row in score.rows:
        suite = ElementTree.SubElement(root, "testsuite", name=visible(row.format))
        _case(suite, row, "recall", row.recall, min_recall)
        _case(suite, row, "precision", row.precision, min_precision)
        suite.set("tests", "2")
        suite.set("failures", str(len(suite.findall("testcase/failure"))))
    output = ElementTree.SubElement(root[-1], "system-out")
    output.text = render_text(score)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, row: Row, name: str, value: float | None, bar: float | None) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=f"carver.score.{visible(row.format)}", name=name)
    if value is None:
        ElementTree.SubElement(case, "skipped", message="nothing to measure")
    elif bar is not None and value < bar:
        ElementTree.SubElement(case, "failure", message=f"{name} {value:.4f} is below {bar:g}")


def _files(document: object, kind: str) -> list[_File]:
    """Check a document's schema, as far as a score needs it."""
    if not isinstance(document, Mapping) or not isinstance(document.get("files"), list):
        raise InputError(f'this {kind} has no list "files"')
    if document.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"this {kind} has schema_version {document.get('schema_version')!r}, not {SCHEMA_VERSION}")
    ungraded = Grade.CONSISTENT.value if kind == "truth" else None  # a true file is good unless it says otherwise
    return [_file(entry, f"{kind} files[{index}]", ungraded) for index, entry in enumerate(document["files"])]


def _side_files(report: Mapping[str, Any]) -> list[_File]:
    """Return a report's small files; reports of earlier versions have none."""
    listed = report.get("side_files", [])
    if not isinstance(listed, list):
        raise InputError('this report has "side_files" that are no list')
    return [_file(entry, f"report side_files[{index}]", None) for index, entry in enumerate(listed)]


def _file(entry: object, where: str, ungraded: str | None) -> _File:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} is no object")
    for key in ("path", "format", "sha256"):
        if not isinstance(entry.get(key), str):
            raise InputError(f'{where}: "{key}" must be text')
    parent, grade = entry.get("parent"), entry.get("grade", ungraded)
    if not (parent is None or isinstance(parent, str)):
        raise InputError(f'{where}: "parent" must be a path or null')
    if grade not in list(Grade):
        raise InputError(f'{where}: "grade" must be one of {", ".join(Grade)}')
    return _File(
        path=entry["path"],
        format=entry["format"],
        good=Grade(grade).good,
        sha256=entry["sha256"].lower(),
        layout=_runs(entry.get("layout"), where),
        parent=parent,
    )


def _runs(layout: object, where: str) -> Runs:
    """Return the layout with neighbours joined, so that one run written as two is still the same layout."""
    runs: list[tuple[int, int]] = []
    for pair in layout if isinstance(layout, list) else [None]:
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(_is_count(number) for number in pair)):
            raise InputError(f'{where}: "layout" must be a list of [offset, size]')
        start, size = pair
        if runs and sum(runs[-1]) == start:
            runs[-1] = (runs[-1][0], runs[-1][1] + size)
        elif size:
            runs.append((start, size))
    return tuple(runs)


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 62
