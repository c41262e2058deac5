"""report.html: the record for people, in one file that needs nothing else: no network, no script, prints on A4."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from carver.acquired import acquisition_rows
from carver.recovery import CarvedFile, Recovery
from carver.report import Report, model_words, wording
from carver.report.as_json import document, encode, file_record, plain
from carver.report.map_picture import PATTERNS, STYLE, picture_in_page
from carver.report.source_map import WORST_STATUSES, draw, map_source, status_class
from carver.report.summary import summarise
from carver.report.visible import shortened, visible
from imaging.extent import Layout, layout_bytes
from signatures import formats
from signatures.tensors import Tensor
from signatures.verdict import Grade

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
MAX_VALUE_CHARACTERS = 160
HURT = (Grade.DAMAGED, Grade.TRUNCATED)
GOOD = tuple(grade for grade in Grade if grade.good)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the table of files.

    Attributes:
        number: as it is cited, from 1.
        file: the file.
        depth: how many containers it lies in.
    """

    number: int
    file: CarvedFile
    depth: int

    @property
    def hit(self) -> list[Tensor]:
        """The tensors that are not whole."""
        return [tensor for tensor in self.file.tensors if tensor.grade not in GOOD]

    @property
    def present_bytes(self) -> int:
        """How many of its bytes are there."""
        return layout_bytes(self.file.layout)


def render(recovery: Recovery) -> str:
    """Return report.html."""
    summary = summarise(recovery)
    cells = map_source(recovery)
    known = formats()
    entries = list(_entries(recovery.files))
    hurt = [entry for entry in entries if entry.file.grade in HURT]
    return _template().render(
        recovery=recovery,
        summary=summary,
        wording=wording,
        words=model_words,
        models=model_words.telling(recovery.models),
        headline=[*wording.headline(recovery, summary), model_words.families_sentence(recovery.models)],
        steps=wording.next_steps(recovery, summary),
        report_id=report_id(recovery),
        cell_bytes=cells.cell_bytes,
        picture=draw(cells),
        run={key: value for key, value in recovery.run.items() if key != "acquisition"},
        acquisition=acquisition_rows(recovery.run),
        grid=picture_in_page(recovery.source.size_bytes, recovery.source.unread or ()),
        map_style=STYLE,
        map_patterns=PATTERNS,
        tables=[entries[at : at + FILES_A_TABLE] for at in range(0, len(entries), FILES_A_TABLE)],
        hurt=hurt,
        linked={entry.number for entry in hurt[:MAX_DAMAGED_FILES]},
        any_md5=any(file.md5 is not None for file in recovery.files),
        formats=[known[name] for name in sorted({file.format for file in recovery.files}) if name in known],
        rejected=sorted(recovery.rejected.items(), key=lambda pair: (-pair[1], pair[0])),
        grades=[grade for grade in Grade if grade in wording.GRADES],
        statuses=[(kind, status_class(kind)) for kind in WORST_STATUSES],
        max_damaged=MAX_DAMAGED_FILES,
        max_tensors=MAX_TENSORS,
        max_findings=MAX_FINDINGS,
        max_damage_findings=MAX_DAMAGE_FINDINGS,
        max_unread=MAX_UNREAD,
        max_reasons=MAX_REASONS,
        max_models=MAX_MODELS,
        max_side_files=MAX_SIDE_FILES,
        max_listed=MAX_LISTED,
    )


def report_id(recovery: Recovery) -> str:
    """Return a digest of everything in the record but its run: the same findings have the same number."""
    head = document(replace(recovery, run={}, files=()))
    digest = hashlib.sha256(encode(head).encode())
    for file in recovery.files:
        digest.update(encode(file_record(file)).encode())
    number = digest.hexdigest()[:16].upper()
    return "-".join(number[at : at + 4] for at in range(0, 16, 4))


def _entries(files: Sequence[CarvedFile]) -> Iterator[Entry]:
    depths: dict[str, int] = {}
    for number, file in enumerate(files, start=1):
        depth = depths.get(file.parent, 0) + 1 if file.parent is not None else 0  # containers come first
        depths[file.path] = depth
        yield Entry(number=number, file=file, depth=min(depth, 6))


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
        "size": wording.human_size,
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
