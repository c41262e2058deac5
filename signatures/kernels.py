"""Kernels: the checksums that Python is too slow for, compiled by numba without the interpreter's lock.

Import this module inside the function that needs it: numba alone takes most of a second to load. The import compiles
everything (or loads it from numba's cache) and calls it once: a process that has given up its privileges since could
do neither. Arrays of bytes in, a number out; nothing here allocates. Each kernel has a plain Python twin in
`tests/signatures/test_kernels.py`.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
_BYTES = numba.types.Array(numba.types.uint8, 1, "C", readonly=True)  # a writable array passes as well

_LOW_32 = np.uint64(0xFFFFFFFF)
_LOOKUP3_SEED = np.uint64(0xDEADBEEF)
_FLETCHER_RUN = 360  # words: the 32-bit sums of this many cannot overflow


@numba.njit(nogil=True, cache=True, inline="always")
def _rotate(word: np.uint64, by: int) -> np.uint64:
    return ((word << np.uint64(by)) | (word >> np.uint64(32 - by))) & _LOW_32


@numba.njit(nogil=True, cache=True, inline="always")
def _word(data: Bytes, at: int, end: int) -> np.uint64:
    """Return the little-endian u32 at `at`; bytes from `end` on count as zero."""
    word = np.uint64(0)
    for index in range(min(4, end - at)):
        word |= np.uint64(data[at + index]) << np.uint64(8 * index)
    return word


@numba.njit(numba.types.int64(_BYTES), nogil=True, cache=True)
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


@numba.njit(nogil=True, cache=True, inline="always")
def _fold(total: np.uint64) -> np.uint64:
    """Reduce a sum to 16 bits as HDF5 does: modulo 65535, but only a sum of nothing becomes 0, others 65535."""
    while total > np.uint64(0xFFFF):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    return total


@numba.njit(numba.types.int64(_BYTES, numba.types.int64), nogil=True, cache=True)
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


_EMPTY = np.frombuffer(b"", dtype=np.uint8)
lookup3(_EMPTY)  # the first call imports more of numpy and numba
fletcher32(_EMPTY, 0)
