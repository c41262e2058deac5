"""Map status: what `carver map -t` and `-A` say of a mapfile, in ddrescuelog's words and columns, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile

LONGEST_PLAIN = 999_999  # a larger number gets a prefix
LABELS = {
    BlockStatus.NON_TRIED: "non-tried",
    BlockStatus.FINISHED: "rescued",
    BlockStatus.NON_TRIMMED: "non-trimmed",
    BlockStatus.NON_SCRAPED: "non-scraped",
    BlockStatus.BAD_SECTOR: "bad-sector",
}
PHASES = {
    "?": "copying",
    "*": "trimming",
    "/": "scraping",
    "-": "retrying",
    "F": "filling",
    "G": "generating",
    "+": "finished",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MapStatus:
    """What a map says of a domain, which has at least one byte and lies inside the map."""

    mapfile: Mapfile
    domain: ExtentSet

    def held(self, status: BlockStatus) -> ExtentSet:
        """Return where the domain has this status."""
        return self.mapfile.extents(status) & self.domain

    @property
    def is_partial(self) -> bool:
        """Whether the domain is anything else than everything from 0 to the map's end."""
        return self.domain != ExtentSet([span(0, self.mapfile.end_bytes)])


def render_text(status: MapStatus, *, name: str = "", binary: bool = False) -> str:
    """Return the summary, with `name` in front."""
    mapfile, domain = status.mapfile, status.domain

    def shown(size_bytes: int) -> str:
        return f"{_prefixed(size_bytes, binary=binary):>11}"

    lines = [
        "",
        *([name] if name else []),
        f"   current pos:{shown(mapfile.position_bytes)},  current status: {PHASES[mapfile.current_status]}",
        f"mapfile extent:{shown(mapfile.size_bytes)},  in {len(mapfile):6} area(s)",
    ]
    if status.is_partial:
        first, end = int(domain.starts[0]), int(domain.ends[-1])
        lines.append(f"  domain begin:{shown(first)},  domain end:{shown(end)}")
        lines.append(f"   domain size:{shown(domain.total_bytes)},  in {len(domain):6} area(s)")
    lines.append("")
    for which, label in LABELS.items():
        held = status.held(which)
        share = _percent(held.total_bytes, domain.total_bytes)
        lines.append(f"{label:>14}:{shown(held.total_bytes)},  in {len(held):6} area(s)  ({share})")
    return "\n".join(lines) + "\n"


def as_json(status: MapStatus) -> dict[str, object]:
    """Return the summary for machines; statuses are the characters of the mapfile."""
    mapfile, domain = status.mapfile, status.domain
    return {
        "position_bytes": mapfile.position_bytes,
        "current_status": mapfile.current_status,
        "current_pass": mapfile.current_pass,
        "start_bytes": mapfile.start_bytes,
        "end_bytes": mapfile.end_bytes,
        "areas": len(mapfile),
        "domain": _tally(domain) | {"start_bytes": int(domain.starts[0]), "end_bytes": int(domain.ends[-1])},
        "statuses": {which.value: _tally(status.held(which)) for which in LABELS},
    }


def annotated(mapfile: Mapfile, domain: ExtentSet, *, comments: Sequence[str], binary: bool = False) -> str:
    """Return the map's text with readable positions behind the blocks, which are cut at the domain's borders."""
    head = Mapfile()
    head.stand_as(mapfile)
    *lines, standing, columns = head.to_text(comments).splitlines()
    lines += [f"{standing}\t#  {_prefixed(mapfile.position_bytes, binary=binary)}", columns]
    for extent, status, is_inside in _cut_blocks(mapfile, domain):
        line = f"0x{extent.offset_bytes:08X}  0x{extent.size_bytes:08X}  {status}"
        if is_inside:
            position, size = (_prefixed(b, binary=binary) for b in (extent.offset_bytes, extent.size_bytes))
            line += f"\t# {position:>11} {size.replace(' B', '  '):>11}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _cut_blocks(mapfile: Mapfile, domain: ExtentSet) -> Iterator[tuple[Extent, BlockStatus, bool]]:
    for extent, status in mapfile.blocks():
        inside = domain.within(extent)
        pieces = [(piece, True) for piece in inside] + [(piece, False) for piece in inside.complement(extent)]
        for piece, is_inside in sorted(pieces):
            yield piece, status, is_inside


def _tally(extents: ExtentSet) -> dict[str, int]:
    return {"size_bytes": extents.total_bytes, "areas": len(extents)}


def _prefixed(size_bytes: int, *, binary: bool) -> str:
    """Return at most six digits and a unit; what is over is cut, not rounded."""
    base, prefixes = (1024, ("", "Ki", "Mi", "Gi", "Ti", "Pi")) if binary else (1000, ("", "k", "M", "G", "T", "P"))
    power = 0
    while size_bytes > LONGEST_PLAIN:
        size_bytes, power = size_bytes // base, power + 1
    return f"{size_bytes} {prefixes[power]}B"


def _percent(part: int, whole: int) -> str:
    """Return a share in hundredths of a percent, rounded half up; only an exact one loses its final zeros."""
    hundredths, rest = divmod(10_000 * part, whole)
    if rest:
        hundredths += 2 * rest >= whole
        return f"{hundredths // 100:3}.{hundredths % 100:02}%"
    decimals = f"{hundredths % 100:02}".rstrip("0")
    return f"{hundredths // 100:3}{'.' if decimals else ''}{decimals}%"
