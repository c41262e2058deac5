"""report.html: the record for people, in one file that needs nothing else: no network, no script, prints on A4."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from carver.acquired import acquisition_rows, image_digests
from carver.amounts import human_size
from carver.identify.missing import missing_line
from carver.recovery import CarvedFile, Recovery
from carver.report import Report, as_csv, code_words, copy_words, model_words, wording
from carver.report.as_json import condensed, document, plain
from carver.report.map_picture import PATTERNS, STYLE, picture_in_page
from carver.report.source_map import WORST_STATUSES, draw, map_source, status_class
from carver.report.summary import GRADES, Summary, summarise
from carver.visible import shortened, visible
from imaging.extent import Layout, layout_bytes
from signatures import formats
from signatures.tensors import Tensor
from signatures.verdict import Grade

MAX_FILES = 10_000  # a page of some 20 MB, which a browser still opens
FILES_A_TABLE = 200  # more are folded, so that 10,000 files stay readable
MAX_DAMAGED_FILES = 200
MAX_TENSORS = 50
MAX_FINDINGS = 4
MAX_DAMAGE_FINDINGS = 40
MAX_PIECES = 4
MAX_UNREAD = 60
MAX_REASONS = 40
MAX_MODELS = 200
MAX_SIDE_FILES = 200
MAX_LISTED = 12  # files of a model
MAX_DEPTH = 6
MAX_VALUE_CHARACTERS = 160
SHOWN_ELSEWHERE = ("acquisition", "whereabouts", "chosen")  # of the run block
HURT = (Grade.DAMAGED, Grade.TRUNCATED)
GOOD = tuple(grade for grade in Grade if grade.good)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the table of files: of the file no more than the page shows, so that 10,000 can be held.

    Attributes:
        number: as it is cited, from 1.
        file: the file, without tensors, facts and layout, and with its first findings only.
        depth: how many containers it lies in.
        pieces: where it lies in the source, the first few pieces.
        present_bytes: how many of its bytes are there.
        findings: how many there are.
        tensors: how many it has.
        hits: how many of them are not whole.
        hit: the first of those, of the files whose damage is told one by one.
        lost: what of it cannot be reached, and is no tensor therefore.
        shares: the number of a file that shares bytes with it, if any does.
    """

    number: int
    file: CarvedFile
    depth: int
    pieces: tuple[str, ...]
    present_bytes: int
    findings: int
    tensors: int
    hits: int
    hit: tuple[Tensor, ...] = ()
    lost: str = ""
    shares: int | None = None


def render(recovery: Recovery) -> Iterator[str]:
    """Yield report.html."""
    summary = summarise(recovery)
    cells = map_source(recovery)
    known = formats()
    elsewhere = copy_words.by_path(recovery)
    entries = list(_entries(recovery, listed(recovery, summary), summary.sharing))
    told = [entry for entry in entries if entry.file.grade in HURT][:MAX_DAMAGED_FILES]
    return _template().generate(
        recovery=recovery,
        summary=summary,
        wording=wording,
        words=model_words,
        missing_line=missing_line,
        models=model_words.telling(recovery.models, MAX_MODELS),
        headline=[*wording.headline(recovery, summary), model_words.families_sentence(recovery.models)],
        steps=wording.next_steps(recovery, summary),
        simulation=wording.simulation(recovery),
        image_place=wording.image_place(recovery),
        report_id=report_id(recovery),
        cell_bytes=cells.cell_bytes,
        picture=draw(cells),
        run={key: value for key, value in recovery.run.items() if key not in SHOWN_ELSEWHERE},
        acquisition=acquisition_rows(recovery.run),
        image_hashed=image_digests(recovery.run),
        grid=picture_in_page(recovery.source.size_bytes, recovery.source.unread or ()),
        map_style=STYLE,
        map_patterns=PATTERNS,
        entries=entries,
        tables=[entries[at : at + FILES_A_TABLE] for at in range(0, len(entries), FILES_A_TABLE)],
        list_name=as_csv.FILE_NAME,
        list_sha256=_digest(as_csv.render(recovery)),
        told=told,
        linked={entry.number for entry in told},
        elsewhere=elsewhere,
        doubted=[one for one in recovery.elsewhere if one.path not in {entry.file.path for entry in told}],
        copy_words=copy_words,
        codes=[(code, code_words.meaning(code), count) for code, count in summary.codes.items()],
        meaning=code_words.meaning,
        hurt=sum(summary.grades_of_all.get(grade, 0) for grade in HURT),
        formats=[known[name] for name in sorted(summary.formats) if name in known],
        rejected=sorted(recovery.rejected.items(), key=lambda pair: (-pair[1], pair[0])),
        grades=[grade for grade in Grade if grade in wording.GRADES],
        statuses=[(kind, status_class(kind)) for kind in WORST_STATUSES],
        max_findings=MAX_FINDINGS,
        max_damage_findings=MAX_DAMAGE_FINDINGS,
        max_unread=MAX_UNREAD,
        max_reasons=MAX_REASONS,
        max_side_files=MAX_SIDE_FILES,
        max_listed=MAX_LISTED,
    )


def report_id(recovery: Recovery) -> str:
    """Return a digest of everything in the record but its run: the same findings have the same number."""
    findings = {key: value for key, value in document(recovery).items() if key != "run"}
    number = _digest(condensed(findings))[:16].upper()
    return "-".join(number[at : at + 4] for at in range(0, 16, 4))


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", errors="backslashreplace"))
    return digest.hexdigest()


def listed(recovery: Recovery, summary: Summary) -> list[int]:
    """Return which files the page lists: all, or those that are not good and the largest of the others."""
    count = len(recovery.files)
    if count <= MAX_FILES:
        return list(range(count))
    worth = np.zeros(count)
    for places in (summary.standing, summary.inside):
        worth += np.bincount(places.numbers, weights=places.ends - places.starts, minlength=count)
        worth[places.numbers[~np.isin(places.grades, [GRADES.index(grade) for grade in GOOD])]] = np.inf
    return sorted(np.argsort(-worth, kind="stable")[:MAX_FILES].tolist())


def _entries(recovery: Recovery, numbers: Iterable[int], sharing: Mapping[int, int]) -> Iterator[Entry]:
    depths: dict[str, int] = {}
    told = 0
    for number in numbers:
        file = recovery.files[number]
        inside = file.parent is not None
        depth = min(depths.get(file.parent or "", 0) + inside, MAX_DEPTH)  # containers come first
        depths[file.path] = depth
        hit = tuple(tensor for tensor in file.tensors if tensor.grade not in GOOD)
        tell = file.grade in HURT and told < MAX_DAMAGED_FILES
        told += tell
        yield Entry(
            number=number + 1,
            file=replace(file, layout=(), tensors=(), facts={}, findings=file.findings[:MAX_DAMAGE_FINDINGS]),
            depth=depth,
            pieces=tuple(_pieces(file.layout)),
            present_bytes=layout_bytes(file.layout),
            findings=len(file.findings),
            tensors=len(file.tensors),
            hits=len(hit),
            hit=hit[:MAX_TENSORS] if tell else (),
            lost=wording.lost(file.facts),
            shares=sharing[number] + 1 if number in sharing else None,
        )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("carver", "report"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "hex": hex,
        "size": human_size,
        "count": lambda number: f"{number:,}",
        "short": shortened,
        "pieces": _pieces,
        "shape": lambda shape: " × ".join(map(str, shape)) or "scalar",
        "status": status_class,
        "facts": _facts,
    }
    return environment.get_template("report.html.jinja")


def _shown(value: object) -> object:
    """Make every text that the template puts out printable; what the program itself marked up stays."""
    return visible(str(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


def _pieces(layout: Layout) -> list[str]:
    """Return a layout in hex, a piece a line, its first few pieces only."""
    shown = [str(extent) for extent in layout[:MAX_PIECES]]
    if len(layout) > MAX_PIECES:
        shown.append(f"… and {len(layout) - MAX_PIECES:,} more")
    return shown


def _facts(mapping: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - a JSON object
    """Return a mapping as pairs to show: keys as words, nested values as JSON."""
    pairs = []
    for key, value in plain(mapping).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        text = "not known" if value is None else text
        if not isinstance(value, str) and len(text) > MAX_VALUE_CHARACTERS:
            text = f"{len(value):,} entries, listed in report.json"
        pairs.append((str(key).replace("_", " "), shortened(text)))
    return pairs


REPORT = Report(file_name="report.html", render=render)
