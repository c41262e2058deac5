"""Belonging: which image a map belongs to, so that a map of another image of the same drive is not believed.

Such a map fits in drive and size, and what it calls finished would never be read: the image would keep zeros there. So
the map's head names the image file (path and inode) that was written with it. Where it names another one, or none (the
image was copied, the map is GNU ddrescue's), a few finished sectors of the image are compared with the drive before
anything is written. A wrong map shows as zeros in the image, so sectors of zeros are compared first; where the sampled
ones hold data, two are enough. A read that fails or takes long tells nothing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from time import monotonic

import numpy as np

from imaging.direct import is_device
from imaging.errors import InputError, OutputError, ReadFault
from imaging.extent import Extent, ExtentSet
from imaging.impatient import Impatient
from imaging.mapfile import BlockStatus
from imaging.mapstore import MapStore, read_remarks
from imaging.placement import Placement, head_of
from imaging.rescue.put_off import recalled
from imaging.source import Source

MARK = "Image file: "
SAMPLES = 64
MAX_ZERO_SECTORS = 8
MAX_DATA_SECTORS = 2
MAX_SECONDS = 3.0


def image_comments(image_path: Path) -> tuple[str, ...]:
    """Return what the head of the map says of the image file; nothing for a device, or where there is none yet."""
    if is_device(image_path) or not image_path.is_file():
        return ()
    named = {"path": str(image_path.resolve()), "inode": image_path.stat().st_ino}
    return (MARK + json.dumps(named, sort_keys=True),)


def refuse_foreign_map(source: Source, image_path: Path, map_path: Path, placement: Placement) -> None:
    """Refuse a map whose finished bytes are not in the image.

    Args:
        source: the drive; a few sectors of it are read where the map does not name the image.
        image_path: the image.
        map_path: its map; there may be none yet.
        placement: where the drive's bytes lie in the image.

    Raises:
        InputError: they are not, or the map cannot be read.
        OutputError: the image cannot be read.
        Interrupted: the user wants an end.
    """
    if not (map_path.is_file() and image_path.exists()) or _is_named(image_path, map_path):
        return
    finished = MapStore.read_snapshot(map_path).extents(BlockStatus.FINISHED)
    look = Impatient(source, spare=recalled(read_remarks(map_path)))
    until = monotonic() + MAX_SECONDS
    for sector, held in _telling(image_path, sampled_sectors(finished, source.sector_bytes), placement.shift_bytes):
        if monotonic() > until:
            return
        if look.unread is not None and look.unread.touches(sector):
            continue
        try:
            there = look.read_at(sector.offset_bytes, sector.size_bytes)
        except ReadFault:
            continue
        if len(there) == sector.size_bytes and there != held:
            raise InputError(
                f"{image_path} does not hold what {map_path} says was read: at {sector.offset_bytes:#x} it holds other "
                "bytes than the drive; name the map that belongs to this image, or begin anew under other names"
            )


def sampled_sectors(finished: ExtentSet, sector_bytes: int, *, count: int = SAMPLES) -> list[Extent]:
    """Return at most `count` whole sectors spread over what is finished, always the same ones."""
    if not finished:
        return []
    sizes = finished.ends - finished.starts
    ends = np.cumsum(sizes)
    sectors = []
    for index in range(count):
        position = int(ends[-1]) * (2 * index + 1) // (2 * count)
        block = int(np.searchsorted(ends, position, side="right"))
        low, high = int(finished.starts[block]), int(finished.ends[block])
        at_bytes = low + position - int(ends[block] - sizes[block])
        at_bytes -= at_bytes % sector_bytes
        if low <= at_bytes and at_bytes + sector_bytes <= high:
            sectors.append(Extent(offset_bytes=at_bytes, size_bytes=sector_bytes))
    return list(dict.fromkeys(sectors))


def _is_named(image_path: Path, map_path: Path) -> bool:
    named = image_comments(image_path)
    return bool(named) and f"# {named[0]}" in head_of(map_path)


def _telling(image_path: Path, sectors: list[Extent], shift_bytes: int) -> list[tuple[Extent, bytes]]:
    """Return which sectors to compare, with what the image holds there: zeros first, then data."""
    try:
        descriptor = os.open(image_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            held = [(at, os.pread(descriptor, at.size_bytes, at.offset_bytes + shift_bytes)) for at in sectors]
        finally:
            os.close(descriptor)
    except OSError as fault:
        raise OutputError(f"cannot read {image_path}: {fault.strerror}") from fault
    zeros = [each for each in held if not any(each[1])]
    data = [each for each in held if any(each[1])]
    return _spread(zeros, MAX_ZERO_SECTORS) + _spread(data, MAX_DATA_SECTORS)


def _spread(held: list[tuple[Extent, bytes]], count: int) -> list[tuple[Extent, bytes]]:
    return held[:: -(-len(held) // count)] if held else []
