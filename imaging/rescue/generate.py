"""Generate: an approximate map of an image that was made without one (ddrescue's generate mode).

Sectors that hold only zeros count as not read, everything else as read: what was copied is not read again, and zeros
of the drive are. From positions on that are whole sectors, the blocks are those of GNU ddrescue 1.27. They are wrong
where the image's disk or file held other data before the copy was begun.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from imaging.errors import InputError, OutputError, ReadFault
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus
from imaging.mapstore import MapStore
from imaging.rescue.destination import device_comments, is_block_device
from imaging.rescue.options import RescueOptions, settle_placement
from imaging.rescue.sweep import Surroundings, SweepProgress, domain_of, resume_bytes, sector_of, sweep
from imaging.source import RawImage, Source

log = logging.getLogger(__name__)

GENERATING = "G"
PART_BYTES = 1 << 20
NOTE = "Approximate: made from the image, in which zeros count as not read"


def generate(
    source: Source,
    image_path: Path,
    map_path: Path,
    options: RescueOptions,
    *,
    on_progress: Callable[[SweepProgress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    comments: Sequence[str] = (),
) -> SweepProgress:
    """Write a map of an image, with which the rescue can go on; the same call goes on where one was interrupted.

    Args:
        source: the drive; only its size is asked for, nothing is read from it.
        image_path: what was copied of it.
        map_path: the map to be made; it must not be there, or have nothing tried, or be one of these, begun.
        options: of them count the range, the domain, the positions, cluster and sector.
        on_progress: is told where it is, a few times a second.
        stop: is asked before each part; True saves and returns.
        clock: seconds, monotonic.
        comments: lines for the head of the map.

    Raises:
        UsageError: a size or position that cannot be.
        InputError: the image is missing.
        OutputError: the map holds something already, or cannot be written.
    """
    sector_bytes = sector_of(options, source.sector_bytes)
    domain = domain_of(options, source.size_bytes)
    place = settle_placement(options, domain, drive_bytes=source.size_bytes)
    _refuse_used_map(map_path)
    if is_block_device(image_path):
        log.warning("%s is a device: what it held before the copy counts as read, wherever it is not zero", image_path)
    comments = (*comments, *place.comments(), *device_comments(image_path), NOTE)
    with RawImage(image_path) as image, MapStore.open(map_path, source.size_bytes, comments=comments) as store:
        mapfile = store.mapfile
        begin_bytes = resume_bytes(mapfile, domain, GENERATING)
        ahead = span(begin_bytes, max(begin_bytes, source.size_bytes))
        held = _data_of(image, place.shift_bytes, options.cluster_bytes) & domain.within(ahead)
        blocks = held & mapfile.extents(BlockStatus.NON_TRIED)

        def look(part: Extent) -> None:
            try:
                data = image.read_at(part.offset_bytes + place.shift_bytes, part.size_bytes)
            except ReadFault as fault:
                log.warning("%s; counted as not read", fault)
                return
            for run in runs_with_data(data, part.offset_bytes, sector_bytes):
                store.record(run, BlockStatus.FINISHED)

        return sweep(
            store,
            _parts(blocks, options.cluster_bytes),
            look,
            current_status=GENERATING,
            total_bytes=blocks.total_bytes,
            sync=lambda: None,  # nothing is written but the map
            around=Surroundings(on_progress=on_progress, stop=stop, clock=clock),
        )


def runs_with_data(data: bytes, position_bytes: int, sector_bytes: int) -> Iterator[Extent]:
    """Yield the runs of sectors that hold anything but zeros.

    Args:
        data: what the image has there.
        position_bytes: where on the drive; sectors are counted from here, and the last may be short.
        sector_bytes: how large one is.
    """
    padded = np.zeros(-(-len(data) // sector_bytes) * sector_bytes, np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    edges = np.diff(padded.reshape(-1, sector_bytes).any(axis=1).astype(np.int8), prepend=0, append=0)
    starts, ends = np.flatnonzero(edges == 1) * sector_bytes, np.flatnonzero(edges == -1) * sector_bytes
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        yield span(position_bytes + start, position_bytes + min(end, len(data)))


def _parts(blocks: ExtentSet, cluster_bytes: int) -> Iterator[Extent]:
    """Yield the blocks in parts that end at multiples of the cluster, from where ddrescue counts sectors anew."""
    part_bytes = max(PART_BYTES // cluster_bytes, 1) * cluster_bytes
    for block in blocks:
        start = block.offset_bytes
        while start < block.end_bytes:
            boundary = (start // cluster_bytes + 1) * cluster_bytes
            end = min(boundary if start % cluster_bytes else start + part_bytes, block.end_bytes)
            yield span(start, end)
            start = end


def _data_of(image: RawImage, shift_bytes: int, cluster_bytes: int) -> ExtentSet:
    """Return what of the drive is no hole in the image, widened to whole clusters."""
    starts, ends = [], []
    end = 0
    while end < image.size_bytes:
        start = _seek(image, end, os.SEEK_DATA)
        if start is None:
            break
        end = _seek(image, start, os.SEEK_HOLE) or image.size_bytes
        starts.append((start - shift_bytes) // cluster_bytes * cluster_bytes)
        ends.append(min(-(-(end - shift_bytes) // cluster_bytes) * cluster_bytes, image.size_bytes - shift_bytes))
    return ExtentSet.from_arrays(np.array(starts, np.int64), np.array(ends, np.int64))


def _seek(image: RawImage, offset_bytes: int, what: int) -> int | None:
    """Return where the next data or hole begins, at or behind the offset; None when there is none."""
    try:
        return os.lseek(image.fileno(), offset_bytes, what)
    except OSError as fault:
        if fault.errno == errno.ENXIO:
            return None
        return offset_bytes if what == os.SEEK_DATA else image.size_bytes  # no such call there: all is data


def _refuse_used_map(map_path: Path) -> None:
    """Refuse a map that knows more than this would tell."""
    if not map_path.exists():
        return
    if not map_path.is_file():
        raise OutputError(f"{map_path} is not a regular file; name a file for the map")
    if map_path.stat().st_size == 0:
        return
    mapfile = MapStore.read_snapshot(map_path)
    untouched = mapfile.count_bytes(BlockStatus.NON_TRIED) == mapfile.size_bytes
    if mapfile.current_status != GENERATING and not untouched:
        raise OutputError(f"{map_path} tells already what was read; go on with it, or name a new map")
    if mapfile.size_bytes == 0:
        raise InputError(f"{map_path} is empty; name a new map")
