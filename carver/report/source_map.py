"""Source map: the whole source as rows of cells, in ddrescueview's manner, as inline SVG.

Each cell is a range of the source, a power of two long, so that 20 TB take no more cells than 2 GB. A cell has two
lanes: above, the files that lie in it, by grade; below, whether it was read. A lane that holds several states shows the
worst, so that one bad sector in 16 GiB is still seen. Lanes are told apart by place, states by pattern as well as by
colour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from carver.amounts import human_size
from carver.recovery import Recovery
from carver.report.summary import Places, summarise
from carver.report.wording import GRADES, STATUSES
from carver.visible import shortened, visible
from imaging.extent import ExtentSet, span
from signatures.verdict import Grade

COLUMNS = 96
MAX_CELLS = COLUMNS * 16
MIN_CELL_BYTES = 512
NAMES_A_CELL = 3

CELL_WIDTH, FILE_HEIGHT, READ_HEIGHT, ROW_HEIGHT = 10, 9, 4, 16
LABEL_WIDTH = 64

WORST_GRADES = (Grade.DAMAGED, Grade.TRUNCATED, Grade.UNDECIDED, Grade.CONSISTENT, Grade.INTACT)
WORST_STATUSES = "-/*?"
STATUS_CLASS = {"-": "bad", "/": "scrape", "*": "trim", "?": "untried"}

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMap:
    """The cells of a source.

    Attributes:
        size_bytes: the source's length.
        cell_bytes: how much of the source a cell stands for.
        files: for each grade, the bytes of files in each cell, shape (cells,).
        unread: for each mapfile status, the unread bytes in each cell, shape (cells,); None when unknown.
        names: for each cell, the first few files in it.
    """

    size_bytes: int
    cell_bytes: int
    files: Mapping[Grade, Counts]
    unread: Mapping[str, Counts] | None
    names: tuple[tuple[str, ...], ...]

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.names)

    def grade(self, cell: int) -> Grade | None:
        """Return the worst grade in a cell."""
        return next((grade for grade in WORST_GRADES if grade in self.files and self.files[grade][cell]), None)

    def status(self, cell: int) -> str:
        """Return the worst status in a cell: "+" read, " " unknown."""
        if self.unread is None:
            return " "
        kinds = (*WORST_STATUSES, *sorted(self.unread))
        return next((kind for kind in kinds if kind in self.unread and self.unread[kind][cell]), "+")


def map_source(recovery: Recovery) -> SourceMap:
    """Cut the source in cells and count what lies in each; children lie in their containers' bytes and are left out."""
    size_bytes = recovery.source.size_bytes
    cell_bytes = MIN_CELL_BYTES
    while cell_bytes * MAX_CELLS < size_bytes:
        cell_bytes *= 2
    cells = -(-size_bytes // cell_bytes)
    summary = summarise(recovery)
    unread = recovery.source.unread
    first_files = _first_files(summary.standing, cell_bytes, cells)
    shown = {number for numbers in first_files for number in numbers}
    paths = {number: recovery.files[number].path for number in sorted(shown)}  # read once: one may lie in every cell
    return SourceMap(
        size_bytes=size_bytes,
        cell_bytes=cell_bytes,
        files={
            grade: count_in_cells(summary.standing.extents((grade,)), cell_bytes, cells) for grade in summary.grades
        },
        unread=None
        if unread is None
        else {
            kind: count_in_cells(
                ExtentSet(span(at, at + size) for at, size, k in unread if k == kind), cell_bytes, cells
            )
            for kind in {kind for _, _, kind in unread}
        },
        names=tuple(tuple(paths[number] for number in numbers) for numbers in first_files),
    )


def count_in_cells(extents: ExtentSet, cell_bytes: int, cells: int) -> Counts:
    """Return how many bytes of the set each cell holds, shape (cells,); O((extents + cells) log extents)."""
    edges = np.arange(cells + 1, dtype=np.int64) * cell_bytes
    index = np.searchsorted(extents.ends, edges, side="right")  # extents that end at or before each edge
    before = np.concatenate(([0], np.cumsum(extents.ends - extents.starts)))[index]
    starts = np.append(extents.starts, np.iinfo(np.int64).max)[index]
    counts: Counts = np.diff(before + np.maximum(edges - starts, 0))
    return counts


def _first_files(places: Places, cell_bytes: int, cells: int) -> list[list[int]]:
    """Return the numbers of the first few files in each cell."""
    found: list[list[int]] = [[] for _ in range(cells)]
    columns = (places.numbers, places.starts // cell_bytes, np.minimum(-(-places.ends // cell_bytes), cells))
    for number, first, end in zip(*(column.tolist() for column in columns), strict=True):
        for cell in range(first, end):
            if len(found[cell]) < NAMES_A_CELL and number not in found[cell]:
                found[cell].append(number)
    return found


def draw(cells: SourceMap) -> Markup:
    """Return the map as an SVG element; its classes and patterns are the page's."""
    rows = -(-cells.cells // COLUMNS)
    width, height = LABEL_WIDTH + COLUMNS * CELL_WIDTH, max(rows, 1) * ROW_HEIGHT
    parts = [
        f'<svg class="map" viewBox="0 0 {width} {height}" role="img" aria-labelledby="map-title map-text">',
        '<title id="map-title">Map of the source</title>',
        f'<desc id="map-text">{cells.cells} cells of {human_size(cells.cell_bytes)}, row by row from the start of the '
        "source. The upper lane of a cell shows recovered files, the lower lane what was read.</desc>",
    ]
    for row in range(rows):
        offset_bytes = row * COLUMNS * cells.cell_bytes
        baseline = row * ROW_HEIGHT + FILE_HEIGHT
        parts.append(f'<text x="{LABEL_WIDTH - 6}" y="{baseline}">{human_size(offset_bytes) if row else "0"}</text>')
    parts += [_cell(cells, cell) for cell in range(cells.cells)]
    # every foreign text in the parts went through escape()
    return Markup("\n".join([*parts, "</svg>"]))


def _cell(cells: SourceMap, cell: int) -> str:
    x = LABEL_WIDTH + cell % COLUMNS * CELL_WIDTH
    y = cell // COLUMNS * ROW_HEIGHT
    grade, status = cells.grade(cell), cells.status(cell)
    wide = CELL_WIDTH - 1
    return (
        f"<g><title>{escape(_title(cells, cell))}</title>"
        f'<rect class="g-{grade or "none"}" x="{x}" y="{y}" width="{wide}" height="{FILE_HEIGHT}"/>'
        f'<rect class="s-{status_class(status)}" x="{x}" y="{y + FILE_HEIGHT}" width="{wide}" height="{READ_HEIGHT}"/>'
        "</g>"
    )


def status_class(status: str) -> str:
    """Return the page's class for a mapfile status."""
    return STATUS_CLASS.get(status, "read" if status == "+" else "unknown")


def _title(cells: SourceMap, cell: int) -> str:
    """Return what a cell holds, one fact a line, for reading on hover."""
    start_bytes = cell * cells.cell_bytes
    size_bytes = min(cells.cell_bytes, cells.size_bytes - start_bytes)
    lines = [f"{start_bytes:#x}+{size_bytes:#x} ({human_size(size_bytes)})"]
    lines += [f"{GRADES[g].label}: {human_size(int(n[cell]))}" for g, n in sorted(cells.files.items()) if n[cell]]
    if cells.unread is None:
        lines.append("read or not: unknown")
    for kind, sizes in sorted((cells.unread or {}).items()):
        if sizes[cell]:
            lines.append(f"{STATUSES.get(kind, kind)}: {human_size(int(sizes[cell]))}")
    lines += [visible(shortened(name, 80)) for name in cells.names[cell]]
    return "\n".join(lines)
