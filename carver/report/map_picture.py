"""Map picture: a mapfile as a grid of blocks in ddrescueview's manner, by itself as SVG or HTML, or inside the report.

Each block of the grid is a range of the drive, a power of two long, row by row from the drive's start. One that holds
several statuses shows the worst, so that one bad sector in 20 TB is still seen. Statuses are told apart by pattern as
well as by colour; the legend gives the size of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from markupsafe import Markup, escape

from carver.amounts import human_size
from carver.report.source_map import WORST_STATUSES, Counts, count_in_cells, status_class
from carver.report.wording import STATUSES, plural
from imaging.extent import ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile

COLUMNS = 64
MAX_CELLS = COLUMNS * 48
MIN_CELL_BYTES = 512
CELL, GAP = 12, 1
LABEL_WIDTH, HEAD_HEIGHT, LEGEND_HEIGHT = 76, 44, 22
ROWS_A_LABEL = 4
LABELS = {**STATUSES, "+": "read"}
OTHERS = " "  # what the picture is not about: outside the domain, or before the map's start

PATTERNS = Markup(
    """<pattern id="p-scrape" width="2.4" height="2.4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">\
<rect width="2.4" height="2.4" fill="var(--paper)"/><rect width="1.3" height="2.4" fill="var(--bad)"/></pattern>
<pattern id="p-trim" width="2.4" height="2.4" patternUnits="userSpaceOnUse"><rect width="2.4" height="2.4" \
fill="var(--paper)"/><rect width="1" height="2.4" fill="var(--bad)"/></pattern>
<pattern id="p-unknown" width="3" height="3" patternUnits="userSpaceOnUse"><rect width="3" height="3" \
fill="var(--none)"/><circle cx="1.5" cy="1.5" r=".7" fill="var(--quiet)"/></pattern>"""
)
STYLE = Markup(
    """.s-read { fill: var(--read); } .s-bad { fill: var(--bad); } .s-scrape { fill: url(#p-scrape); } \
.s-trim { fill: url(#p-trim); }
.s-untried { fill: var(--untried); stroke: var(--quiet); stroke-width: .6; } .s-unknown { fill: url(#p-unknown); }
.here { fill: none; stroke: var(--accent); stroke-width: 2; }"""
)
COLOURS = Markup(
    """svg { color-scheme: light dark; --paper: #fff; --ink: #1b222c; --quiet: #566070; --accent: #1d4b7a; \
--none: #e9edf1; --read: #b9c4cf; --untried: #fff; --bad: #8f1d1d; background: var(--paper); \
font: 12px system-ui, "Segoe UI", "Helvetica Neue", Arial, "Liberation Sans", sans-serif; }
@media (prefers-color-scheme: dark) { svg { --paper: #14181e; --ink: #e4e8ed; --quiet: #9ca7b5; --accent: #8fbdea; \
--none: #252c36; --read: #526070; --untried: #14181e; --bad: #ff6b5e; } }
text { fill: var(--ink); } .quiet { fill: var(--quiet); } .label { fill: var(--quiet); font-size: 10px; \
text-anchor: end; } .head { font-size: 15px; font-weight: 600; }"""
)


def picture_svg(mapfile: Mapfile, *, name: str, domain: ExtentSet | None = None) -> str:
    """Return a map as an SVG document that needs nothing else.

    Args:
        mapfile: the map.
        name: what it is called in the title.
        domain: only this is shown, and counted; None: all of it.
    """
    held = {status.value: mapfile.extents(status) for status in BlockStatus}
    if domain is not None:
        held = {status: extents & domain for status, extents in held.items()}
    grid = _Grid(mapfile.end_bytes, held)
    legend = _legend(held)
    width = LABEL_WIDTH + COLUMNS * CELL + 12
    height = HEAD_HEIGHT + grid.rows * CELL + 16 + LEGEND_HEIGHT * len(legend) + 8
    whole_bytes = sum(extents.total_bytes for extents in held.values())
    read_bytes = held[BlockStatus.FINISHED.value].total_bytes
    title = f"{name}: {_share(read_bytes, whole_bytes)} of {human_size(whole_bytes)} read"
    stands = f"one block is {human_size(grid.cell_bytes)}; framed: where the rescue stands, {mapfile.position_bytes:#x}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-labelledby="title">',
        f"<style>{COLOURS}\n{STYLE}</style>",
        f"<defs>{PATTERNS}</defs>",
        f'<title id="title">{escape(title)}</title>',
        f'<text class="head" x="12" y="20">{escape(title)}</text>',
        f'<text class="quiet" x="12" y="36">{escape(stands)}</text>',
        f'<g transform="translate(0 {HEAD_HEIGHT})">',
        *grid.draw(mapfile.position_bytes),
        "</g>",
        f'<g transform="translate({LABEL_WIDTH} {HEAD_HEIGHT + grid.rows * CELL + 16})">',
        *(_legend_row(row, status, text) for row, (status, text) in enumerate(legend)),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def picture_html(mapfile: Mapfile, *, name: str, domain: ExtentSet | None = None) -> str:
    """Return the same as an HTML page without script or network."""
    svg = picture_svg(mapfile, name=name, domain=domain)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(name)}</title>\n</head>\n<body>\n{svg}</body>\n</html>\n"
    )


def picture_in_page(size_bytes: int, unread: tuple[tuple[int, int, str], ...]) -> Markup:
    """Return the grid for a page that has `STYLE` and `PATTERNS`.

    Args:
        size_bytes: the source's length.
        unread: (offset, size, status) of what was not read.
    """
    kinds = {kind for _, _, kind in unread}
    held = {kind: ExtentSet(span(at, at + size) for at, size, k in unread if k == kind) for kind in kinds}
    missing = ExtentSet(span(at, at + size) for at, size, _ in unread)
    held["+"] = missing.complement(span(0, size_bytes))
    grid = _Grid(size_bytes, held)
    width, height = LABEL_WIDTH + COLUMNS * CELL, max(grid.rows, 1) * CELL
    head = f'<svg class="map grid" viewBox="0 0 {width} {height}" role="img" aria-labelledby="grid-title">'
    title = f"What was read, block by block; one block is {human_size(grid.cell_bytes)}"
    # nothing in the parts is foreign text
    return Markup("\n".join([head, f'<title id="grid-title">{title}</title>', *grid.draw(None), "</svg>"]))


class _Grid:
    """The blocks of a picture."""

    def __init__(self, size_bytes: int, held: Mapping[str, ExtentSet]) -> None:
        self.size_bytes = size_bytes
        self.cell_bytes = MIN_CELL_BYTES
        while self.cell_bytes * MAX_CELLS < size_bytes:
            self.cell_bytes *= 2
        self.cells = -(-size_bytes // self.cell_bytes)
        self.rows = -(-self.cells // COLUMNS)
        self._counts: dict[str, Counts] = {
            kind: count_in_cells(extents, self.cell_bytes, self.cells) for kind, extents in held.items() if extents
        }

    def status(self, cell: int) -> str:
        """Return the worst status in a cell."""
        kinds = (*WORST_STATUSES, "+")
        return next((kind for kind in kinds if kind in self._counts and self._counts[kind][cell]), OTHERS)

    def draw(self, position_bytes: int | None) -> Iterator[str]:
        """Yield labels, blocks, and a frame where the rescue stands: what is read in one path, the rest one by one."""
        for row in range(0, self.rows, ROWS_A_LABEL):
            offset_bytes = row * COLUMNS * self.cell_bytes
            text = human_size(offset_bytes) if row else "0"
            yield f'<text class="label" x="{LABEL_WIDTH - 6}" y="{row * CELL + CELL - 2}">{text}</text>'
        statuses = [self.status(cell) for cell in range(self.cells)]
        side = CELL - GAP
        for kind in ("+", OTHERS):
            runs = "".join(f"M{x} {y}h{side}v{side}h-{side}z" for x, y in self._places(statuses, kind))
            if runs:
                yield f'<path class="s-{status_class(kind)}" d="{runs}"/>'
        for cell, kind in enumerate(statuses):
            if kind not in ("+", OTHERS):
                x, y = _place(cell)
                yield (
                    f'<rect class="s-{status_class(kind)}" x="{x}" y="{y}" width="{side}" height="{side}">'
                    f"<title>{self._title(cell)}</title></rect>"
                )
        if position_bytes is not None and 0 <= position_bytes // self.cell_bytes < self.cells:
            x, y = _place(position_bytes // self.cell_bytes)
            yield f'<rect class="here" x="{x - 1}" y="{y - 1}" width="{side + 2}" height="{side + 2}"/>'

    def _places(self, statuses: list[str], kind: str) -> Iterator[tuple[int, int]]:
        return (_place(cell) for cell, status in enumerate(statuses) if status == kind)

    def _title(self, cell: int) -> str:
        start_bytes = cell * self.cell_bytes
        size_bytes = min(self.cell_bytes, self.size_bytes - start_bytes)
        lines = [f"{start_bytes:#x}+{size_bytes:#x} ({human_size(size_bytes)})"]
        kinds = (*WORST_STATUSES, "+")
        counts = [(kind, int(self._counts[kind][cell])) for kind in kinds if kind in self._counts]
        return "\n".join(lines + [f"{LABELS[kind]}: {human_size(count)}" for kind, count in counts if count])


def _place(cell: int) -> tuple[int, int]:
    return LABEL_WIDTH + cell % COLUMNS * CELL, cell // COLUMNS * CELL


def _legend(held: Mapping[str, ExtentSet]) -> list[tuple[str, str]]:
    """Return each status with its name, size, share and number of areas; also those of which there is nothing."""
    whole_bytes = sum(extents.total_bytes for extents in held.values())
    rows = []
    for kind in ("+", "?", "*", "/", "-"):
        extents = held.get(kind, ExtentSet())
        areas = plural(len(extents), "area", "areas")
        share = _share(extents.total_bytes, whole_bytes)
        rows.append((kind, f"{LABELS[kind]}: {human_size(extents.total_bytes)} ({share}) in {areas}"))
    return rows


def _legend_row(row: int, kind: str, text: str) -> str:
    y = row * LEGEND_HEIGHT
    side = CELL - GAP
    return (
        f'<rect class="s-{status_class(kind)}" x="0" y="{y}" width="{side}" height="{side}"/>'
        f'<text x="{CELL + 6}" y="{y + 10}">{escape(text)}</text>'
    )


def _share(part_bytes: int, whole_bytes: int) -> str:
    """Return a share that calls nothing whole, or nothing, that is not."""
    if whole_bytes == 0:
        return "100 %"
    hundredths = 10_000 * part_bytes // whole_bytes
    if part_bytes and not hundredths:
        return "less than 0.01 %"
    return f"{hundredths // 100}.{hundredths % 100:02} %"
