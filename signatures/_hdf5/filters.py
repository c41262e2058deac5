"""Filters: what a chunk's own checksums prove. Deflate carries an Adler-32, Fletcher-32 is one, others none."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from signatures._hdf5.messages import Filter
from signatures._hdf5.space import MAX_STRUCTURE_BYTES, Damage, Space

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
NAMES = {
    DEFLATE: "deflate",
    SHUFFLE: "shuffle",
    FLETCHER32: "fletcher32",
    4: "szip",
    5: "nbit",
    6: "scaleoffset",
    305: "lzo",
    307: "bzip2",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32017: "sz",
    32026: "blosc2",
}  # the numbers above 255 are The HDF Group's register of filters
INFLATE_STEP_BYTES = 1 << 20
_SLACK_BYTES = 1 << 16  # a filter below deflate may have made the data a little longer
_FLETCHER_BYTES = 4


def filter_name(step: Filter) -> str:
    """Return what people call a filter."""
    return NAMES.get(step.number) or step.name or f"filter {step.number}"


def active_filters(filters: Sequence[Filter], mask: int) -> list[Filter]:
    """Return the filters that were applied to a chunk with this mask."""
    return [step for index, step in enumerate(filters) if not mask >> index & 1]


def unverifiable(filters: Sequence[Filter]) -> list[Filter]:
    """Return the filters whose output we cannot check."""
    return [step for step in filters if step.number not in (DEFLATE, SHUFFLE, FLETCHER32)]


@dataclass(slots=True, kw_only=True)
class _Stored:
    """A chunk on the way back through its filters: in the file, or in memory once a shuffle was undone.

    Attributes:
        at_bytes: where in the window the chunk begins.
        size_bytes: how much of it is left.
        content: its bytes in memory; None while they are only in the file.
    """

    space: Space
    at_bytes: int
    size_bytes: int
    content: bytes | None = None

    def pieces(self) -> Iterable[bytes]:
        """Return what is left, piece by piece."""
        if self.content is not None:
            return (self.content[: self.size_bytes],)
        return self.space.window.chunks(self.at_bytes, self.size_bytes)

    def cut(self, size_bytes: int) -> bytes:
        """Return the last bytes of what is left, which they no longer belong to."""
        self.size_bytes -= size_bytes
        if self.content is not None:
            return self.content[self.size_bytes : self.size_bytes + size_bytes]
        return self.space.window.read_at(self.at_bytes + self.size_bytes, size_bytes)


def prove_chunk(space: Space, at_bytes: int, size_bytes: int, steps: Sequence[Filter], chunk_bytes: int) -> bool:
    """Tell whether a checksum over a chunk was computed and agrees; False when it is under none.

    Args:
        space: the file; its `inflate_left_bytes` is spent.
        at_bytes: where in the window the stored chunk begins.
        size_bytes: its stored size.
        steps: the filters that were applied, in the writer's order.
        chunk_bytes: its size before any filter.

    Raises:
        Damage: a checksum does not agree, or the sizes do not.
    """
    proven = False
    stored = _Stored(space=space, at_bytes=at_bytes, size_bytes=size_bytes)
    for index in range(len(steps) - 1, -1, -1):
        step, below = steps[index], steps[:index]
        if step.number == FLETCHER32:
            proven = _compare_fletcher(stored)
        elif step.number == DEFLATE:
            return _inflate(stored, below, chunk_bytes) or proven
        elif step.number != SHUFFLE:
            return proven
        elif any(inner.number in (DEFLATE, FLETCHER32) for inner in below) and not _unshuffle(stored, step):
            return False
    if stored.size_bytes != chunk_bytes:
        raise Damage("chunk-size", at_bytes, f"a chunk of {stored.size_bytes} bytes that should have {chunk_bytes}")
    return proven


def _compare_fletcher(stored: _Stored) -> bool:
    """Compare a chunk's Fletcher-32; False where it is zero, as over bytes that were wiped together with it."""
    from signatures.kernels.checksums import fletcher32  # numba takes most of a second to load

    if stored.size_bytes < _FLETCHER_BYTES:
        raise Damage("chunk-size", stored.at_bytes, "a chunk with no room for its checksum")
    told = stored.cut(_FLETCHER_BYTES)
    computed = 0
    for piece in stored.pieces():
        computed = fletcher32(np.frombuffer(piece, dtype=np.uint8), computed)
    halves_swapped = bytes((told[1], told[0], told[3], told[2])) if len(told) == _FLETCHER_BYTES else b""
    # HDF5 before 1.6.3 wrote the halves' bytes the other way round
    if computed not in (int.from_bytes(told, "little"), int.from_bytes(halves_swapped, "little")):
        raise Damage("chunk-checksum", stored.at_bytes, "the Fletcher-32 of a chunk does not agree")
    if computed == 0:
        detail = "a chunk of zeros under a checksum of zero, which proves nothing"
        stored.space.remark("zero-checksum", stored.at_bytes, detail)
    return computed != 0


def _unshuffle(stored: _Stored, step: Filter) -> bool:
    """Undo a shuffle that a writer applied over a checksum; False where the chunk is too large to hold."""
    space, element_bytes = stored.space, step.values[0] if step.values else 1
    if stored.size_bytes > MAX_STRUCTURE_BYTES:
        space.unproven = True
        space.remark(
            "filter-unverified", stored.at_bytes, "a shuffle over a checksum, too large to be undone in memory"
        )
        return False
    content = b"".join(stored.pieces())
    whole_bytes = len(content) // element_bytes * element_bytes if element_bytes else 0
    if element_bytes > 1:
        table = np.frombuffer(content, dtype=np.uint8, count=whole_bytes).reshape(element_bytes, -1)
        content = table.T.tobytes() + content[whole_bytes:]
    stored.content = content
    return True


def _inflate(stored: _Stored, below: Sequence[Filter], chunk_bytes: int) -> bool:
    """Inflate a chunk to nowhere; zlib compares the Adler-32."""
    space, at_bytes = stored.space, stored.at_bytes
    exact = not unverifiable(below) and not any(step.number == DEFLATE for step in below)
    added = _FLETCHER_BYTES * sum(step.number == FLETCHER32 for step in below)
    expected_bytes = chunk_bytes + added
    limit_bytes = expected_bytes if exact else 2 * expected_bytes + _SLACK_BYTES
    if space.inflate_left_bytes < expected_bytes:
        space.unproven = True
        space.remark("inflate-limit", at_bytes, "more compressed data than one file may cost; the rest is not inflated")
        return False
    try:
        inflated_bytes, rest = inflated_size(stored.pieces(), limit_bytes)
    except zlib.error as error:
        raise Damage("chunk-checksum", at_bytes, f"a chunk does not inflate: {error}") from error
    space.inflate_left_bytes -= inflated_bytes
    if rest or inflated_bytes > limit_bytes or (exact and inflated_bytes != expected_bytes):
        raise Damage("chunk-size", at_bytes, f"a chunk inflates to another size than {expected_bytes} bytes")
    return True


def inflated_size(pieces: Iterable[bytes], limit_bytes: int) -> tuple[int, bool]:
    """Return how many bytes a zlib stream holds, and whether something follows it; stops soon after `limit_bytes`.

    Raises:
        zlib.error: it is broken, cut short, or its Adler-32 does not agree.
    """
    machine = zlib.decompressobj()
    size_bytes, rest = 0, False
    for piece in pieces:
        if machine.eof:
            rest = True
            break
        pending = piece
        while True:
            made = machine.decompress(pending, INFLATE_STEP_BYTES)
            size_bytes += len(made)
            if size_bytes > limit_bytes:
                return size_bytes, rest
            pending = machine.unconsumed_tail
            if machine.eof or (not pending and len(made) < INFLATE_STEP_BYTES):
                break
    if not machine.eof:
        raise zlib.error("the stream is cut short")
    return size_bytes, rest or bool(machine.unused_data)
