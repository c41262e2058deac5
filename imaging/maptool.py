"""Map operations: what ddrescuelog does to mapfiles, as functions from maps to maps.

None changes the map it is given. `domain` restricts an operation to a set of bytes; the rest stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np

from imaging.errors import MapfileError, UsageError
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import MAX_OFFSET_BYTES, BlockStatus, Mapfile

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


def and_finished(first: Mapfile, second: Mapfile) -> Mapfile:
    """Return `first` with only those bytes finished that are in both; outside `second` it stays as it is."""
    return _with_finished(first, second, first.extents(FINISHED) & second.extents(FINISHED))


def or_finished(first: Mapfile, second: Mapfile) -> Mapfile:
    """Return `first` with those bytes finished that are in either; outside `second` it stays as it is."""
    return _with_finished(first, second, first.extents(FINISHED) | second.extents(FINISHED))


def xor_finished(first: Mapfile, second: Mapfile) -> Mapfile:
    """Return `first` with those bytes finished that are in one of the two; outside `second` it stays as it is."""
    one, other = first.extents(FINISHED), second.extents(FINISHED)
    return _with_finished(first, second, (one | other) - (one & other))


def _with_finished(first: Mapfile, second: Mapfile, finished: ExtentSet) -> Mapfile:
    """Make exactly `finished` finished where both maps have blocks; what no longer is becomes a bad sector."""
    both = ExtentSet([_extent_of(first)]) & ExtentSet([_extent_of(second)])
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


def is_done(mapfile: Mapfile, *, domain: ExtentSet | None = None) -> bool:
    """Tell whether everything (in the domain) is finished."""
    return not _cut(mapfile.unread, domain)


def _cut(extents: ExtentSet, domain: ExtentSet | None) -> ExtentSet:
    return extents if domain is None else extents & domain


def shifted(mapfile: Mapfile, by_bytes: int) -> Mapfile:
    """Move all blocks; what would begin before 0 is cut off, and what a move forwards leaves open is non-tried.

    ddrescuelog 1.27 leaves a gap, which no tool reads, when a map that begins after 0 moves forwards; this does not.

    Raises:
        MapfileError: a block would end beyond 2^63−1.
    """
    if mapfile.end_bytes + by_bytes > MAX_OFFSET_BYTES:
        raise MapfileError(f"moved by {by_bytes:#x}, the map would end beyond {MAX_OFFSET_BYTES:#x}")
    allowed = span(0, MAX_OFFSET_BYTES)
    held = {status: mapfile.extents(status).shifted(by_bytes).within(allowed) for status in BlockStatus}
    if by_bytes > 0 and len(mapfile):
        held[NON_TRIED] |= ExtentSet([span(0, mapfile.start_bytes + by_bytes)])
    return _standing_as(mapfile, held)


def fitted(mapfile: Mapfile, size_bytes: int) -> Mapfile:
    """Make a map cover a drive of `size_bytes`, as ddrescue does when it resumes: what is missing is non-tried.

    Raises:
        MapfileError: blocks beyond the end of the drive are finished, so that the map is of another drive.
    """
    whole = span(0, size_bytes)
    beyond = mapfile.extents(FINISHED) - ExtentSet([whole])
    if beyond:
        raise MapfileError(f"the map has {beyond.total_bytes} finished bytes beyond the drive's {size_bytes}")
    held = {status: mapfile.extents(status).within(whole) for status in BlockStatus}
    held[NON_TRIED] |= ExtentSet([_extent_of(mapfile)]).complement(whole)
    return _standing_as(mapfile, held)


def listed_blocks(
    mapfile: Mapfile, statuses: Collection[BlockStatus], *, block_bytes: int, domain: ExtentSet | None = None
) -> Iterator[int]:
    """Yield the number of each block of `block_bytes` that has a byte of these statuses, ascending, each once.

    Raises:
        UsageError: the block size is not positive.
    """
    if block_bytes <= 0:
        raise UsageError(f"the block size {block_bytes} is not positive")
    following = 0
    for extent in _cut(mapfile.extents(*statuses), domain):
        first, end = extent.offset_bytes // block_bytes, -(-extent.end_bytes // block_bytes)
        yield from range(max(first, following), end)
        following = end


def bitmap(mapfile: Mapfile, statuses: Collection[BlockStatus], *, block_bytes: int, big_endian: bool = False) -> bytes:
    """Return a bit for each block of `block_bytes`: 1 where `listed_blocks` lists it, padded with 0 to a byte.

    Args:
        mapfile: the map; its first bit is for byte 0.
        statuses: which blocks are listed.
        block_bytes: the size of a block.
        big_endian: whether the first block is a byte's most significant bit.

    Raises:
        UsageError: the bitmap would have over 4 GiB, or the block size is not positive.
    """
    if block_bytes <= 0 or mapfile.end_bytes // block_bytes > 8 * MAX_BITMAP_BYTES:
        raise UsageError(f"blocks of {block_bytes} bytes make no bitmap of {mapfile.end_bytes} bytes")
    bits = np.zeros(-(-mapfile.end_bytes // block_bytes), dtype=np.uint8)
    for extent in mapfile.extents(*statuses):
        bits[extent.offset_bytes // block_bytes : -(-extent.end_bytes // block_bytes)] = 1
    return np.packbits(bits, bitorder="big" if big_endian else "little").tobytes()


def from_block_list(
    numbers: Iterable[int],
    *,
    size_bytes: int,
    block_bytes: int,
    listed: BlockStatus = FINISHED,
    others: BlockStatus = BAD,
) -> Mapfile:
    """Return a map of `size_bytes` whose numbered blocks are `listed`.

    Blocks that are not wholly inside are ignored, as by ddrescuelog: also a last one cut by the end.

    Raises:
        UsageError: a number is negative, the block size is not positive, or both statuses are the same.
    """
    if block_bytes <= 0:
        raise UsageError(f"the block size {block_bytes} is not positive")
    if listed is others:
        raise UsageError(f"blocks in the list and all others would both be {listed}")
    named = list(numbers)
    if named and min(named) < 0:
        raise UsageError(f"{min(named)} is no block number")
    starts = (number * block_bytes for number in named if (number + 1) * block_bytes <= size_bytes)
    held = ExtentSet(span(start, start + block_bytes) for start in starts)
    return Mapfile.from_extents({listed: held, others: held.complement(span(0, size_bytes))})


def _extent_of(mapfile: Mapfile) -> Extent:
    return span(mapfile.start_bytes, mapfile.end_bytes)
