"""Map operations: what ddrescuelog does to mapfiles, as functions from maps to maps.

None changes the map it is given. `domain` restricts an operation to a set of bytes; the rest stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np

from imaging.errors import MapfileError, UsageError
from imaging.extent import Extent, ExtentSet, span
from imaging.map_lines import MAX_OFFSET_BYTES
from imaging.mapfile import BlockStatus, Mapfile

MAX_BITMAP_BYTES = 1 << 32  # a bitmap longer than this (2^35 blocks) is a mistake in the block size

BAD, FINISHED, NON_TRIED = BlockStatus.BAD_SECTOR, BlockStatus.FINISHED, BlockStatus.NON_TRIED


def change_types(mapfile: Mapfile, old: str, new: str, *, domain: ExtentSet | None = None) -> Mapfile:
    """Translate each status in `old` to the one at its place in `new`, as `tr` does; the last of `new` repeats.

    Raises:
        UsageError: a character is no status, or one of the two is empty.
    """
    if not old or not new or not set(old + new) <= set(BlockStatus):
        raise UsageError(f"{old!r} to {new!r}: give statuses out of {' '.join(BlockStatus)}, at least one each")
    padded = new.ljust(len(old), new[-1])
    table = {BlockStatus(a): BlockStatus(b) for a, b in zip(reversed(old), reversed(padded[: len(old)]), strict=True)}
    return _translated(mapfile, table, domain)


def invert(mapfile: Mapfile, *, domain: ExtentSet | None = None) -> Mapfile:
    """Make finished blocks bad sectors, and all others finished."""
    return _translated(mapfile, {s: BAD if s is FINISHED else FINISHED for s in BlockStatus}, domain)


def _translated(mapfile: Mapfile, table: Mapping[BlockStatus, BlockStatus], domain: ExtentSet | None) -> Mapfile:
    held = {status: ExtentSet() for status in BlockStatus}
    for status in BlockStatus:
        extents = mapfile.extents(status)
        moved = extents if domain is None else extents & domain
        held[table.get(status, status)] |= moved
        held[status] |= extents - moved if domain is not None else ExtentSet()
    return _standing_as(mapfile, held)


def _standing_as(mapfile: Mapfile, held: Mapping[BlockStatus, ExtentSet]) -> Mapfile:
    made = Mapfile.from_extents(held)
    made.stand_as(mapfile)
    return made


def and_finished(first: Mapfile, second: Mapfile, *, domain: ExtentSet | None = None) -> Mapfile:
    """Return `first` with only those bytes finished that are in both; outside `second` it stays as it is."""
    return _with_finished(first, second, first.extents(FINISHED) & second.extents(FINISHED), domain)


def or_finished(first: Mapfile, second: Mapfile, *, domain: ExtentSet | None = None) -> Mapfile:
    """Return `first` with those bytes finished that are in either; outside `second` it stays as it is."""
    return _with_finished(first, second, first.extents(FINISHED) | second.extents(FINISHED), domain)


def xor_finished(first: Mapfile, second: Mapfile, *, domain: ExtentSet | None = None) -> Mapfile:
    """Return `first` with those bytes finished that are in one of the two; outside `second` it stays as it is."""
    one, other = first.extents(FINISHED), second.extents(FINISHED)
    return _with_finished(first, second, (one | other) - (one & other), domain)


def _with_finished(first: Mapfile, second: Mapfile, finished: ExtentSet, domain: ExtentSet | None) -> Mapfile:
    """Make exactly `finished` finished where both maps have blocks; what no longer is becomes a bad sector."""
    both = _cut(ExtentSet([_extent_of(first)]) & ExtentSet([_extent_of(second)]), domain)
    finished = finished & both
    held = {status: first.extents(status) - finished for status in BlockStatus}
    undone = (held[FINISHED] & both) - finished
    held[BAD] |= undone
    held[FINISHED] = (held[FINISHED] - undone) | finished
    return _standing_as(first, held)


def same_blocks(first: Mapfile, second: Mapfile, *, domain: ExtentSet | None = None) -> bool:
    """Tell whether both have the same status everywhere (in the domain), and blocks for the same bytes."""
    return all(_cut(first.extents(s), domain) == _cut(second.extents(s), domain) for s in BlockStatus)


def same_finished(first: Mapfile, second: Mapfile, *, domain: ExtentSet | None = None) -> bool:
    """Tell whether both have the same bytes finished: as domains they are the same."""
    return _cut(first.extents(FINISHED), domain) == _cut(second.extents(FINISHED), domain)


def _cut(extents: ExtentSet, domain: ExtentSet | None) -> ExtentSet:
    return extents if domain is None else extents & domain


def shifted(mapfile: Mapfile, by_bytes: int, *, end_bytes: int = MAX_OFFSET_BYTES) -> Mapfile:
    """Move all blocks; what would begin before 0 is cut off, and what a move forwards leaves open is non-tried.

    ddrescuelog 1.27 leaves a gap, which no tool reads, when a map that begins after 0 moves forwards; this does not.

    Args:
        mapfile: the map.
        by_bytes: how far; negative is towards 0.
        end_bytes: what lies from here on is cut off before the move.

    Raises:
        MapfileError: a block would end beyond 2^63−1.
    """
    end_bytes = min(end_bytes, mapfile.end_bytes)
    if end_bytes + by_bytes > MAX_OFFSET_BYTES:
        raise MapfileError(f"moved by {by_bytes:#x}, the map would end beyond {MAX_OFFSET_BYTES:#x}")
    allowed, moving = span(0, MAX_OFFSET_BYTES), span(0, end_bytes)
    held = {s: mapfile.extents(s).within(moving).shifted(by_bytes).within(allowed) for s in BlockStatus}
    if by_bytes > 0 and mapfile.start_bytes < end_bytes:
        held[NON_TRIED] |= ExtentSet([span(0, mapfile.start_bytes + by_bytes)])
    return _standing_as(mapfile, held)


def listed_blocks(
    mapfile: Mapfile,
    statuses: Collection[BlockStatus],
    *,
    block_bytes: int,
    domain: ExtentSet | None = None,
    by_bytes: int = 0,
) -> Iterator[int]:
    """Yield the number of each block of `block_bytes` that has a byte of these statuses, ascending, each once.

    Args:
        mapfile: the map.
        statuses: which blocks are listed.
        block_bytes: the size of a block.
        domain: only these bytes count.
        by_bytes: how far the blocks are moved before they are numbered.

    Raises:
        UsageError: the block size is not positive, or a move is not by whole blocks.
    """
    _check_blocks(block_bytes, by_bytes)
    following = 0
    for extent in _moved(_cut(mapfile.extents(*statuses), domain), by_bytes):
        first, end = extent.offset_bytes // block_bytes, -(-extent.end_bytes // block_bytes)
        yield from range(max(first, following), end)
        following = end


def bitmap(
    mapfile: Mapfile,
    statuses: Collection[BlockStatus],
    *,
    block_bytes: int,
    big_endian: bool = False,
    domain: ExtentSet | None = None,
    by_bytes: int = 0,
) -> bytes:
    """Return a bit for each block of `block_bytes`: 1 where `listed_blocks` lists it, padded with 0 to a byte.

    Args:
        mapfile: the map; its first bit is for byte 0, its last for the map's end.
        statuses: which blocks are listed.
        block_bytes: the size of a block.
        big_endian: whether the first block is a byte's most significant bit.
        domain: only these bytes count.
        by_bytes: how far the blocks are moved before they are numbered.

    Raises:
        UsageError: the bitmap would have over 4 GiB, the block size is not positive, or a move is not by whole blocks.
    """
    _check_blocks(block_bytes, by_bytes)
    end_bytes = max(mapfile.end_bytes + by_bytes, 0)
    if end_bytes // block_bytes > 8 * MAX_BITMAP_BYTES:
        raise UsageError(f"blocks of {block_bytes} bytes make no bitmap of {end_bytes} bytes")
    made = np.zeros(-(-end_bytes // block_bytes // 8), dtype=np.uint8)
    for extent in _moved(_cut(mapfile.extents(*statuses), domain), by_bytes):
        first, last = extent.offset_bytes // block_bytes, (extent.end_bytes - 1) // block_bytes
        head, tail = (
            (0xFF >> first % 8, 0xFF << 7 - last % 8) if big_endian else (0xFF << first % 8, 0xFF >> 7 - last % 8)
        )
        if first // 8 == last // 8:
            made[first // 8] |= head & tail & 0xFF
            continue
        made[first // 8] |= head & 0xFF
        made[first // 8 + 1 : last // 8] = 0xFF
        made[last // 8] |= tail & 0xFF
    return made.tobytes()


def bitmap_blocks(content: bytes, *, big_endian: bool = False) -> list[int]:
    """Return the numbers of the blocks whose bit is 1, ascending."""
    held = np.frombuffer(content, dtype=np.uint8)
    occupied = np.flatnonzero(held)  # bitmaps are mostly empty: only these bytes are spread to one bit a byte
    bits = np.unpackbits(held[occupied], bitorder="big" if big_endian else "little").reshape(-1, 8)
    rows, columns = np.nonzero(bits)
    numbers: list[int] = (occupied[rows] * 8 + columns).tolist()
    return numbers


def from_block_list(
    numbers: Iterable[int],
    *,
    size_bytes: int,
    block_bytes: int,
    listed: BlockStatus = FINISHED,
    others: BlockStatus = BAD,
    domain: ExtentSet | None = None,
    by_bytes: int = 0,
) -> Mapfile:
    """Return a map of `size_bytes` whose numbered blocks are `listed`.

    Blocks that are not wholly inside are ignored, as by ddrescuelog: also a last one cut by the end.

    Args:
        numbers: block 0 is at byte 0; any order, repeated ones count once.
        size_bytes: where the map ends, before it is moved.
        block_bytes: the size of a block.
        listed: the status of the blocks in the list.
        others: the status of everything else.
        domain: only blocks wholly inside count.
        by_bytes: how far the blocks are moved.

    Raises:
        UsageError: a number is negative, the block size is not positive, both statuses are the same, or a move is not
            by whole blocks.
    """
    _check_blocks(block_bytes, by_bytes)
    if listed is others:
        raise UsageError(f"blocks in the list and all others would both be {listed}")
    named = sorted(set(numbers))
    if named and named[0] < 0:
        raise UsageError(f"{named[0]} is no block number")
    starts = (number * block_bytes for number in named if (number + 1) * block_bytes <= size_bytes)
    blocks = (span(start, start + block_bytes) for start in starts)
    held = _moved(ExtentSet(block for block in blocks if domain is None or domain.covers(block)), by_bytes)
    whole = span(0, min(size_bytes + by_bytes, MAX_OFFSET_BYTES))
    return Mapfile.from_extents({listed: held.within(whole), others: held.complement(whole)})


def _check_blocks(block_bytes: int, by_bytes: int) -> None:
    if block_bytes <= 0:
        raise UsageError(f"the block size {block_bytes} is not positive")
    if by_bytes % block_bytes:
        raise UsageError(f"a move by {by_bytes} bytes is not by whole blocks of {block_bytes}")


def _moved(extents: ExtentSet, by_bytes: int) -> ExtentSet:
    if extents and not 0 <= int(extents.starts[0]) + by_bytes <= int(extents.ends[-1]) + by_bytes <= MAX_OFFSET_BYTES:
        raise UsageError(f"a move by {by_bytes} bytes leaves the positions from 0 to 2^63-1")
    return extents.shifted(by_bytes)


def _extent_of(mapfile: Mapfile) -> Extent:
    return span(mapfile.start_bytes, mapfile.end_bytes)
