"""Fill: data of the user's choice written over blocks of an image, by their status in the map (ddrescue's fill mode).

The map's blocks stay as they are, so that a filled image is as good for going on as before; only the status line tells
how far the filling came. Everything is written as GNU ddrescue 1.27 writes it, location data included. Two things are
refused that it allows: to fill the drive that the map was made of, and, unless forced, what was read. The acquisition
record and the log of the hashes are told, where there are any.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imaging import belonging, binding, placement
from imaging.acquisition_record import note_filling
from imaging.device import describe
from imaging.errors import InputError, OutputError, UsageError
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore, lock_exclusively
from imaging.pump import Piece
from imaging.rescue import destination
from imaging.rescue.options import RescueOptions, settle_placement
from imaging.rescue.sweep import Surroundings, SweepProgress, domain_of, resume_bytes, sector_of, sweep
from imaging.rescue.writer import ImageWriter

FILLING = "F"
LOCATION = "l"
MARK = "Filling: "
DEFAULT_SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """What to write where.

    Attributes:
        statuses: blocks of these are filled.
        location: each sector begins with its position, number and status.
    """

    statuses: frozenset[BlockStatus]
    location: bool = False

    @property
    def types(self) -> str:
        """The letters that `filling_of` reads, in a fixed order."""
        return "".join(status for status in BlockStatus if status in self.statuses) + LOCATION * self.location


def filling_of(types: str) -> Filling:
    """Return what ddrescue's `--fill-mode=TYPES` asks for: letters of statuses and, if wanted, `l`.

    Raises:
        UsageError: a letter is none of these, or no status is among them.
    """
    unknown = sorted(set(types) - set(BlockStatus) - {LOCATION})
    if unknown:
        raise UsageError(f"{unknown[0]!r} is no status to fill; those are {' '.join(BlockStatus)} (and l)")
    statuses = frozenset(BlockStatus(letter) for letter in types if letter != LOCATION)
    if not statuses:
        raise UsageError(f"say which blocks to fill: one or more of {' '.join(BlockStatus)}")
    return Filling(statuses=statuses, location=LOCATION in types)


def fill(
    pattern_path: Path,
    image_path: Path,
    map_path: Path,
    filling: Filling,
    options: RescueOptions,
    *,
    on_progress: Callable[[SweepProgress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    comments: Sequence[str] = (),
) -> SweepProgress:
    """Fill blocks of an image; the same call goes on where one was interrupted.

    Args:
        pattern_path: what is written, again and again; a pipe will do, and no more than a cluster is read.
        image_path: the image that the map belongs to.
        map_path: its map.
        filling: which blocks.
        options: of them count the range, the domain, the positions, cluster and sector, synchronous and compared
            writes, and `force`: for a device, and to fill what was read.
        on_progress: is told where it is, a few times a second.
        stop: is asked before each write; True saves and returns.
        clock: seconds, monotonic.
        comments: lines for the head of the map.

    Raises:
        UsageError: a size or position that cannot be, or finished blocks without `force`.
        InputError: pattern, image or map are missing or empty, or do not belong together.
        MapfileError: the map breaks its grammar.
        DestinationFullError: no room is left; how far it came is saved.
        OutputError: the image is not ours to write, or the destination fails.
    """
    sector_bytes = sector_of(options, DEFAULT_SECTOR_BYTES)
    if BlockStatus.FINISHED in filling.statuses and not options.force:
        raise UsageError("blocks with + hold what was read, which filling destroys; if that is meant, say --force")
    mapfile = _map_of(image_path, map_path)
    domain = domain_of(options, mapfile.end_bytes)
    place = settle_placement(options, domain, drive_bytes=mapfile.end_bytes)
    placement.refuse_other_shift(map_path, place.shift_bytes)
    if destination.is_block_device(image_path):
        _refuse_bound(image_path, map_path)
        destination.refuse_device(image_path, map_path, needed_bytes=place.needed_bytes, force=options.force)
    buffer = _read_pattern(pattern_path, options.cluster_bytes)
    record = f"{MARK}{filling.types} with {hashlib.sha256(buffer).hexdigest()[:16]}"
    begin_bytes = _resume_bytes(mapfile, domain, map_path, record)
    with (
        MapStore.open(map_path, mapfile.end_bytes, comments=(*comments, *_kept(map_path), record)) as store,
        ImageWriter(
            image_path,
            0,
            finished=mapfile.extents(BlockStatus.FINISHED) & domain,
            shift_bytes=place.shift_bytes,
            synchronous=options.synchronous,
            compare_before_write=options.compare_before_write,
        ) as writer,
        lock_exclusively(image_path),
    ):
        blocks = list(blocks_to_fill(store.mapfile, filling, domain, begin_bytes))
        if begin_bytes == 0:
            _note(image_path, map_path, pattern_path, filling)
        return sweep(
            store,
            (part for block in blocks for part in _clusters(block, options.cluster_bytes)),
            _Pen(buffer, filling, store.mapfile, writer, sector_bytes),
            current_status=FILLING,
            total_bytes=sum(block.size_bytes for block in blocks),
            sync=writer.sync,
            around=Surroundings(on_progress=on_progress, stop=stop, clock=clock),
        )


class _Pen:
    """Writes a part of a block."""

    def __init__(
        self, buffer: bytes, filling: Filling, mapfile: Mapfile, writer: ImageWriter, sector_bytes: int
    ) -> None:
        self._buffer, self._filling, self._mapfile = buffer, filling, mapfile
        self._writer, self._sector_bytes = writer, sector_bytes

    def __call__(self, part: Extent) -> None:
        data = self._buffer[: part.size_bytes]
        if self._filling.location:
            status = self._mapfile.block_at(part.offset_bytes)[1]
            data = with_location(data, part.offset_bytes, status, self._sector_bytes)
        self._writer(Piece(extent=part, status=BlockStatus.FINISHED, data=data))


def blocks_to_fill(mapfile: Mapfile, filling: Filling, domain: ExtentSet, begin_bytes: int) -> Iterator[Extent]:
    """Yield the blocks of these statuses inside the domain, from a position on, each of one status."""
    wanted = domain.within(span(begin_bytes, max(begin_bytes, mapfile.end_bytes)))
    for extent, status in mapfile.blocks():
        if status in filling.statuses:
            yield from wanted.within(extent)


def with_location(data: bytes, position_bytes: int, status: BlockStatus, sector_bytes: int) -> bytes:
    """Return the data with each sector's position, number and status at its start, as GNU ddrescue 1.27 puts it.

    Args:
        data: what would be written.
        position_bytes: where on the drive.
        status: what the map says of it.
        sector_bytes: sectors are counted from the position on.
    """
    located = bytearray(data)
    for start in range(0, len(data), sector_bytes):
        at_bytes = position_bytes + start
        text = f"\n# position 0x{at_bytes:08X} sector 0x{at_bytes // sector_bytes:08X} status {status} ".encode()
        room_bytes = min(sector_bytes, len(data) - start)
        if len(text) > room_bytes:
            text = text[: room_bytes - 1] + b"\0"
        located[start : start + len(text)] = text
    return bytes(located)


def _clusters(block: Extent, cluster_bytes: int) -> Iterator[Extent]:
    for start in range(block.offset_bytes, block.end_bytes, cluster_bytes):
        yield span(start, min(start + cluster_bytes, block.end_bytes))


def _map_of(image_path: Path, map_path: Path) -> Mapfile:
    if not image_path.exists():
        raise InputError(f"there is no image {image_path} to fill; name the one that {map_path} belongs to")
    if not image_path.is_file() and not destination.is_block_device(image_path):
        raise OutputError(f"{image_path} is neither a file nor a block device; name the image")
    mapfile = MapStore.read_snapshot(map_path)
    if mapfile.size_bytes == 0:
        raise InputError(f"{map_path} is empty, so nobody knows what of {image_path} to fill; name its map")
    return mapfile


def _read_pattern(path: Path, size_bytes: int) -> bytes:
    """Return this many bytes of the file, over and over where it is shorter."""
    data = b""
    try:
        with path.open("rb", buffering=0) as file:
            while len(data) < size_bytes and (more := file.read(size_bytes - len(data))):
                data += more
    except OSError as fault:
        raise InputError(f"cannot read {path}: {os.strerror(fault.errno or 0)}") from fault
    if not data:
        raise InputError(f"{path} is empty: there is nothing to fill with")
    return (data * -(-size_bytes // len(data)))[:size_bytes]


def _resume_bytes(mapfile: Mapfile, domain: ExtentSet, map_path: Path, record: str) -> int:
    """Return where the same filling was interrupted, or 0; a map that ddrescue wrote does not tell which it was."""
    if resume_bytes(mapfile, domain, FILLING) == 0:
        return 0
    recorded = [line for line in placement.head_of(map_path) if line.startswith(f"# {MARK}")]
    return mapfile.position_bytes if not recorded or recorded == [f"# {record}"] else 0


def _kept(map_path: Path) -> list[str]:
    """Return what the map's head must go on saying: of which drive it is, and where the image lies."""
    marks = (binding.MARK, belonging.MARK, placement.MARK, destination.MARK)
    return [line[2:] for line in placement.head_of(map_path) if line[2:].startswith(marks)]


def _note(image_path: Path, map_path: Path, pattern_path: Path, filling: Filling) -> None:
    of_read_bytes = BlockStatus.FINISHED in filling.statuses
    note_filling(image_path, map_path, f"blocks of {filling.types} with {pattern_path}", of_read_bytes=of_read_bytes)


def _refuse_bound(image_path: Path, map_path: Path) -> None:
    """Refuse the drive that was read: nothing is ever written to a source."""
    bound, serial = binding.bound_identity(map_path), describe(image_path).serial
    if bound and serial and bound.get("serial") == serial:
        raise OutputError(f"{image_path} is the drive that {map_path} was made of, which is never written to")
