"""Filters: what a chunk's own checksums prove. Deflate carries an Adler-32, Fletcher-32 is one, others none."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from signatures._hdf5.messages import Filter
from signatures._hdf5.space import Damage, Space

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
    for index in range(len(steps) - 1, -1, -1):
        step = steps[index]
        if step.number == FLETCHER32:
            size_bytes -= _FLETCHER_BYTES
            proven = _compare_fletcher(space, at_bytes, size_bytes)
        elif step.number == DEFLATE:
            return _inflate(space, at_bytes, size_bytes, steps[:index], chunk_bytes) or proven
        elif step.number != SHUFFLE:
            return proven
    if size_bytes != chunk_bytes:
        raise Damage("chunk-size", at_bytes, f"a chunk of {size_bytes} bytes that should have {chunk_bytes}")
    return proven


def _compare_fletcher(space: Space, at_bytes: int, size_bytes: int) -> bool:
    """Compare a chunk's Fletcher-32; False where it is zero, as over bytes that were wiped together with it."""
    from signatures.kernels import fletcher32  # numba takes most of a second to load

    if size_bytes < 0:
        raise Damage("chunk-size", at_bytes, "a chunk with no room for its checksum")
    computed = 0
    for piece in space.window.chunks(at_bytes, size_bytes):
        computed = fletcher32(np.frombuffer(piece, dtype=np.uint8), computed)
    stored = space.window.read_at(at_bytes + size_bytes, _FLETCHER_BYTES)
    halves_swapped = bytes((stored[1], stored[0], stored[3], stored[2])) if len(stored) == _FLETCHER_BYTES else b""
    # HDF5 before 1.6.3 wrote the halves' bytes the other way round
    if computed not in (int.from_bytes(stored, "little"), int.from_bytes(halves_swapped, "little")):
        raise Damage("chunk-checksum", at_bytes, "the Fletcher-32 of a chunk does not agree")
    if computed == 0:
        space.remark("zero-checksum", at_bytes, "a chunk of zeros under a checksum of zero, which proves nothing")
    return computed != 0


def _inflate(space: Space, at_bytes: int, size_bytes: int, below: Sequence[Filter], chunk_bytes: int) -> bool:
    """Inflate a chunk to nowhere; zlib compares the Adler-32."""
    exact = not unverifiable(below)
    added = _FLETCHER_BYTES * sum(step.number == FLETCHER32 for step in below)
    expected_bytes = chunk_bytes + added
    limit_bytes = expected_bytes if exact else 2 * expected_bytes + _SLACK_BYTES
    if space.inflate_left_bytes < expected_bytes:
        space.unproven = True
        space.remark("inflate-limit", at_bytes, "more compressed data than one file may cost; the rest is not inflated")
        return False
    try:
        inflated_bytes, rest = inflated_size(space.window.chunks(at_bytes, size_bytes), limit_bytes)
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
