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

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from carver.listing import ListedFile, Listing, Runs
from carver.recovery import SCHEMA_VERSION
from carver.visible import visible
from imaging.extent import ExtentSet, span

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


def score(report: Listing, truth: Listing) -> Score:
    """Hold a report against a truth."""
    true = truth.files
    named = {file.format for file in true}
    found = (*report.files, *(file for file in report.side_files if file.format in named))
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


def _exact(true: Sequence[ListedFile], found: Iterable[ListedFile]) -> list[bool]:
    """Tell of each true file whether it came back; two copies in the truth need two in the report."""
    copies = Counter(file.sha256 for file in found if file.good)
    hits = []
    for file in true:
        hit = file.good and copies[file.sha256] > 0
        copies[file.sha256] -= hit
        hits.append(hit)
    return hits


def _claims(true: Sequence[ListedFile], found: Sequence[ListedFile]) -> tuple[list[ListedFile], list[bool]]:
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


def _has_ancestor(file: ListedFile, parents: Mapping[str, str | None], genuine: set[str]) -> bool:
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

    def __init__(self, true: Iterable[ListedFile]) -> None:
        self._layouts = [file.layout for file in true if file.layout]
        self._firsts = np.array([min(start for start, _ in runs) for runs in self._layouts], dtype=np.int64)
        self._ends = np.array([max(map(sum, runs)) for runs in self._layouts], dtype=np.int64)

    def holds(self, layout: Runs) -> bool:
        mine = _bytes_of(layout)
        if not mine:
            return False
        around = np.flatnonzero((self._firsts <= mine.starts[0]) & (mine.ends[-1] <= self._ends))
        outer = (_bytes_of(self._layouts[index]) for index in around.tolist())
        return any(theirs.total_bytes > mine.total_bytes and (theirs & mine) == mine for theirs in outer)


def _bytes_of(layout: Runs) -> ExtentSet:
    return ExtentSet(span(start, start + size) for start, size in layout)


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
