"""Checksums that Python is too slow for: lookup3 and Fletcher-32 of HDF5, CRC-32C of TensorFlow."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from signatures._compiling import BYTES, COUNTS, Bytes, Compiler, Counts

Columns = npt.NDArray[np.uint64]  # shape (32,)

_LOW_32 = np.uint64(0xFFFFFFFF)
_LOOKUP3_SEED = np.uint64(0xDEADBEEF)
_FLETCHER_RUN = 360  # words: the 32-bit sums of this many cannot overflow

_compiled = Compiler("the checks")


@numba.njit(nogil=True, inline="always")
def _rotate(word: np.uint64, by: int) -> np.uint64:
    return ((word << np.uint64(by)) | (word >> np.uint64(32 - by))) & _LOW_32


@numba.njit(nogil=True, inline="always")
def _word(data: Bytes, at: int, end: int) -> np.uint64:
    """Return the little-endian u32 at `at`; bytes from `end` on count as zero."""
    word = np.uint64(0)
    for index in range(min(4, end - at)):
        word |= np.uint64(data[at + index]) << np.uint64(8 * index)
    return word


@_compiled(numba.types.int64, BYTES)
def lookup3(data: Bytes) -> int:
    """Return Bob Jenkins' hashlittle with initial value 0: the checksum of HDF5's version-2 metadata.

    Cost: about 1 ns a byte; each byte is read once, nothing is allocated. Measured by `tests/bench`.

    Args:
        data: uint8, shape (n,), contiguous.
    """
    size = data.shape[0]
    a = b = c = (_LOOKUP3_SEED + np.uint64(size)) & _LOW_32
    if size == 0:
        return int(c)
    at = 0
    while size - at > 12:
        a = (a + _word(data, at, size)) & _LOW_32
        b = (b + _word(data, at + 4, size)) & _LOW_32
        c = (c + _word(data, at + 8, size)) & _LOW_32
        a = ((a - c) & _LOW_32) ^ _rotate(c, 4)
        c = (c + b) & _LOW_32
        b = ((b - a) & _LOW_32) ^ _rotate(a, 6)
        a = (a + c) & _LOW_32
        c = ((c - b) & _LOW_32) ^ _rotate(b, 8)
        b = (b + a) & _LOW_32
        a = ((a - c) & _LOW_32) ^ _rotate(c, 16)
        c = (c + b) & _LOW_32
        b = ((b - a) & _LOW_32) ^ _rotate(a, 19)
        a = (a + c) & _LOW_32
        c = ((c - b) & _LOW_32) ^ _rotate(b, 4)
        b = (b + a) & _LOW_32
        at += 12
    a = (a + _word(data, at, size)) & _LOW_32
    b = (b + _word(data, at + 4, size)) & _LOW_32
    c = (c + _word(data, at + 8, size)) & _LOW_32
    c = ((c ^ b) - _rotate(b, 14)) & _LOW_32
    a = ((a ^ c) - _rotate(c, 11)) & _LOW_32
    b = ((b ^ a) - _rotate(a, 25)) & _LOW_32
    c = ((c ^ b) - _rotate(b, 16)) & _LOW_32
    a = ((a ^ c) - _rotate(c, 4)) & _LOW_32
    b = ((b ^ a) - _rotate(a, 14)) & _LOW_32
    return int(((c ^ b) - _rotate(b, 24)) & _LOW_32)


@numba.njit(nogil=True, inline="always")
def _fold(total: np.uint64) -> np.uint64:
    """Reduce a sum to 16 bits as HDF5 does: modulo 65535, but only a sum of nothing becomes 0, others 65535."""
    while total > np.uint64(0xFFFF):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    return total


@_compiled(numba.types.int64, BYTES, numba.types.int64)
def fletcher32(data: Bytes, so_far: int) -> int:
    """Return HDF5's Fletcher-32: 16-bit big-endian words, an odd last byte as a high half; see `_fold`.

    Cost: about 0.4 ns a byte; each byte is read once, nothing is allocated. Measured by `tests/bench`.

    Args:
        data: uint8, shape (n,), contiguous.
        so_far: 0, or the checksum of what came before, which must have been of even length.
    """
    low = np.uint64(so_far) & np.uint64(0xFFFF)
    high = (np.uint64(so_far) >> np.uint64(16)) & np.uint64(0xFFFF)
    words = data.shape[0] // 2
    at = 0
    while at < words:
        stop = min(words, at + _FLETCHER_RUN)
        for index in range(at, stop):
            low += (np.uint64(data[2 * index]) << np.uint64(8)) | np.uint64(data[2 * index + 1])
            high += low
        low, high = _fold(low), _fold(high)
        at = stop
    if data.shape[0] % 2:
        low = _fold(low + (np.uint64(data[data.shape[0] - 1]) << np.uint64(8)))
        high = _fold(high + low)
    return int((high << np.uint64(16)) | low)


def _crc32c_tables() -> npt.NDArray[np.uint32]:
    """Return eight tables of 256: what a byte does to the checksum 0 to 7 bytes later (slicing by 8)."""
    tables = np.zeros((8, 256), dtype=np.uint32)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        tables[0, byte] = value
    for later in range(1, 8):
        tables[later] = tables[0][tables[later - 1] & 0xFF] ^ tables[later - 1] >> 8
    return tables


_CRC = _crc32c_tables()


@intrinsic
def _eight(context: Any, data: Any, at: Any) -> Any:  # noqa: ANN401 - numba's own
    """Return the eight bytes at `at` as a number."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:  # noqa: ANN401
        bytes_ = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(bytes_, [args[1]]), ir.IntType(64).as_pointer())
        return builder.load(place, align=1)

    return numba.types.uint64(data, numba.types.int64), generate


@intrinsic
def _crc_instruction(context: Any, crc: Any, word: Any) -> Any:  # noqa: ANN401 - numba's own
    """Return the processor's CRC-32C of eight bytes more (SSE 4.2)."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:  # noqa: ANN401
        wide = ir.IntType(64)
        name, kind = "llvm.x86.sse42.crc32.64.64", ir.FunctionType(wide, [wide, wide])
        return builder.call(builder.module.declare_intrinsic(name, fnty=kind), args)

    return numba.types.uint64(numba.types.uint64, numba.types.uint64), generate


@numba.njit(nogil=True, inline="always")
def _eight_by_tables(crc: np.uint64, word: np.uint64) -> np.uint64:
    word ^= crc
    return np.uint64(
        _CRC[7, word & np.uint64(0xFF)]
        ^ _CRC[6, word >> np.uint64(8) & np.uint64(0xFF)]
        ^ _CRC[5, word >> np.uint64(16) & np.uint64(0xFF)]
        ^ _CRC[4, word >> np.uint64(24) & np.uint64(0xFF)]
        ^ _CRC[3, word >> np.uint64(32) & np.uint64(0xFF)]
        ^ _CRC[2, word >> np.uint64(40) & np.uint64(0xFF)]
        ^ _CRC[1, word >> np.uint64(48) & np.uint64(0xFF)]
        ^ _CRC[0, word >> np.uint64(56)]
    )


def _has_crc_instruction() -> bool:
    """Whether the processor that numba compiles for has it; all others use the tables."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    return triple.split("-")[0] in ("x86_64", "amd64") and "+sse4.2" in features.split(",")


_eight_more = _crc_instruction if _has_crc_instruction() else _eight_by_tables


@numba.njit(nogil=True, inline="always")
def _crc32c_of(data: Bytes, at: int, end: int, crc: np.uint64) -> np.uint64:
    while at + 8 <= end:
        crc = _eight_more(crc, _eight(data, at))
        at += 8
    while at < end:
        crc = np.uint64(_CRC[0, (crc ^ np.uint64(data[at])) & np.uint64(0xFF)]) ^ crc >> np.uint64(8)
        at += 1
    return crc


@_compiled(numba.types.int64, BYTES, numba.types.int64)
def crc32c(data: Bytes, so_far: int) -> int:
    """Return the CRC-32C (Castagnoli) of `data`, by the processor's instruction or slicing by 8.

    Cost: about 0.15 ns a byte, by tables 0.6; each byte is read once, nothing is allocated. Measured by `tests/bench`.

    Args:
        data: uint8, shape (n,), contiguous.
        so_far: 0, or the checksum of what came before.
    """
    return int(_crc32c_of(data, 0, data.shape[0], np.uint64(so_far) ^ _LOW_32) ^ _LOW_32)


@numba.njit(nogil=True, inline="always")
def _through(columns: Columns, crc: np.uint64) -> np.uint64:
    """Return what a register becomes; `columns` say what each of its 32 bits becomes."""
    becomes = np.uint64(0)
    for bit in range(32):
        becomes ^= columns[bit] & (np.uint64(0) - (crc >> np.uint64(bit) & np.uint64(1)))  # no branch to guess
    return becomes


@numba.njit(nogil=True)
def _zeros_later(size: int) -> Columns:
    """Return what each bit of a register becomes over `size` bytes of zeros, by squaring."""
    power, becomes = np.empty(32, dtype=np.uint64), np.empty(32, dtype=np.uint64)
    for bit in range(32):
        crc = np.uint64(1) << np.uint64(bit)
        becomes[bit] = crc
        power[bit] = np.uint64(_CRC[0, crc & np.uint64(0xFF)]) ^ crc >> np.uint64(8)
    while size:
        if size & 1:
            becomes = np.array([_through(power, becomes[bit]) for bit in range(32)])
        power = np.array([_through(power, power[bit]) for bit in range(32)])
        size >>= 1
    return becomes


@_compiled(numba.types.int64, BYTES, numba.types.int64, numba.types.int64, numba.types.int64, COUNTS)
def find_crc32c(data: Bytes, size: int, wanted: int, step: int, found: Counts) -> int:
    """Find where `size` bytes have the CRC-32C `wanted`, at every `step` bytes.

    The register over the bytes before a place, carried on over `size` zeros, is taken off the one over all bytes up to
    the place's end: what is left is that of the place alone. Cost: each byte is read twice, as `crc32c` does, however
    large `size` is, and 20 ns a place; but where `size` is less than `step`, only those bytes are read, and once.

    Args:
        data: uint8, shape (n,), contiguous.
        size: bytes under the checksum.
        wanted: the checksum.
        step: between two places.
        found: int64, shape (m,), receives the places, ascending; the rest is left out when it is full.

    Returns:
        How many were found, at most m.
    """
    count = 0
    target = np.uint64(wanted) ^ _LOW_32
    if size <= step:
        for at in range(0, data.shape[0] - size + 1, step):
            if count < found.shape[0] and _crc32c_of(data, at, at + size, _LOW_32) == target:
                found[count] = at
                count += 1
        return count
    if data.shape[0] < size:
        return 0
    later = _zeros_later(size)
    target ^= _through(later, _LOW_32)
    before, upto = np.uint64(0), _crc32c_of(data, 0, size, np.uint64(0))
    for at in range(0, data.shape[0] - size + 1, step):
        if at:
            before = _crc32c_of(data, at - step, at, before)
            upto = _crc32c_of(data, at - step + size, at + size, upto)
        if upto ^ _through(later, before) == target and count < found.shape[0]:
            found[count] = at
            count += 1
    return count


_EMPTY = np.frombuffer(b"", dtype=np.uint8)
lookup3(_EMPTY)  # the first call imports more of numpy and numba
fletcher32(_EMPTY, 0)
crc32c(_EMPTY, 0)
find_crc32c(_EMPTY, 1, 0, 1, np.zeros(1, dtype=np.int64))
