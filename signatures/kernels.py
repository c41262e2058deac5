"""Kernels: checksums and statistics that Python is too slow for, compiled by numba without the interpreter's lock.

Import this module inside the function that needs it: numba alone takes most of a second to load. The import compiles
everything (or loads it from numba's cache, where there is a place for one) and calls it once: a process that has given
up its privileges since could do neither. Arrays of bytes in, a number out; nothing here allocates. Each kernel has a
plain Python twin in `tests/signatures/test_kernels.py`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from signatures._compiling import Compiler

Bytes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]
Columns = npt.NDArray[np.uint64]  # shape (32,)
_BYTES = numba.types.Array(numba.types.uint8, 1, "C", readonly=True)  # a writable array passes as well
_MUTABLE = numba.types.Array(numba.types.uint8, 1, "C")
_COUNTS = numba.types.Array(numba.types.int64, 1, "C")
_COUNTS_2D = numba.types.Array(numba.types.int64, 2, "C")

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


@_compiled(numba.types.int64, _BYTES)
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


@_compiled(numba.types.int64, _BYTES, numba.types.int64)
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


@_compiled(numba.types.int64, _BYTES, numba.types.int64)
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


@_compiled(numba.types.int64, _BYTES, numba.types.int64, numba.types.int64, numba.types.int64, _COUNTS)
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


BLOCK_BYTES = 4096
# what `survey_blocks` says of a block
UNCLEAR, UNIFORM, CLEAR, CLEAR_SWAPPED, TEXT, ONE_BYTE, WIDER, OTHER_FLOATS, WILD, WILD_UNCLEAR = range(10)
PACKED, PACKED_UNIFORM, PACKED_UNCLEAR = range(10, 13)  # and `survey_packed`
_UNIFORM_CHI2 = 420.0  # of 255 degrees of freedom: mean 255, deviation 23; 7 deviations
_PACKED_UNIFORM_CHI2 = 340.0  # of all its bytes
_PACKED_CHI2 = 440.0  # 8-bit weights and packed 4-bit ones have 1000 and more, q5_0 460
_CLEAR = 4.0  # times the collisions of uniform bytes: float16 weights have 9, float32 16 and more
_TEXT_VALUES = 12  # a constant has fewer different bytes
_TEXT_LANE_VALUES = 4  # of an exponent that counts up there are one or two
_WILD_VALUES = 16  # high bytes of huge numbers in one block: weights have none, masks one or two
_WILD_TINY_VALUES = 8  # and of tiny ones beside them
_HALVES_STEP = 64  # bytes between two samples
_HALVES_SAMPLED = 4.0  # times chance: 16-bit floats have 6 and more; one block of weights in a hundred has it
_HALVES_SHARED = 0.6  # of two halves of one type; weights share 0.4 at most
_HALVES_FLAT = 8.0  # times the collisions of uniform bytes: a low byte of few values is one of few numbers
_FLOAT16_CLEAR = 10.0  # bfloat16 weights have 13 and more, float16 in their place 6 to 8


@numba.njit(nogil=True, inline="always")
def _is_one_byte(data: Bytes, start: int, end: int) -> bool:
    for at in range(start + 1, end):  # noqa: SIM110 - a loop is what numba makes fast
        if data[at] != data[start]:
            return False
    return True


@numba.njit(nogil=True, inline="always")
def _count_lane(data: Bytes, first: int, end: int, step: int, counts: Counts) -> tuple[int, np.uint64]:
    """Count the bytes at first, first + step, …; return how many, and the sum of the squares of the counts."""
    counts[:] = 0
    for at in range(first, end, step):
        counts[data[at]] += 1
    squares = np.uint64(0)
    for value in range(256):
        squares += np.uint64(counts[value]) * np.uint64(counts[value])
    return (end - first + step - 1) // step, squares


@numba.njit(nogil=True, inline="always")
def _is_uniform(number: int, squares: np.uint64) -> bool:
    return bool(squares * 256.0 / number - number < _UNIFORM_CHI2)


@numba.njit(nogil=True, inline="always")
def _different(data: Bytes, first: int, end: int, step: int, counts: Counts) -> int:
    """Return how many values the bytes at first, first + step, … take."""
    _count_lane(data, first, end, step, counts)
    different = 0
    for value in range(256):
        different += counts[value] != 0
    return different


@numba.njit(nogil=True, inline="always")
def _is_utf8(data: Bytes, at: int, end: int) -> bool:
    """Whether bytes are printable ASCII, white space and whole characters beyond; the first may be the rest of one."""
    more, cut = 0, True
    for index in range(at, end):
        byte = data[index]
        if 0x80 <= byte < 0xC0:
            if more:
                more -= 1
            elif not cut or index >= at + 3:
                return False
            continue
        cut = False
        if more or not (32 <= byte < 127 or 9 <= byte <= 13 or 0xC2 <= byte < 0xF5):
            return False
        if byte >= 0xC2:
            more = 1 if byte < 0xE0 else 2 if byte < 0xF0 else 3
    return True


@numba.njit(nogil=True, inline="always")
def _is_text(data: Bytes, at: int, high: int, item: int, counts: Counts) -> bool:
    """Whether a block is nothing but UTF-8 text, of several characters, also in its high bytes.

    Numbers that count up are printable for a while, but their exponents are one character.
    """
    end = at + BLOCK_BYTES
    if not _is_utf8(data, at, end) or _different(data, high, end, item, counts) < _TEXT_LANE_VALUES:
        return False
    return bool(_different(data, at, end, 1, counts) >= _TEXT_VALUES)


@numba.njit(nogil=True, inline="always")
def _count_nan(data: Bytes, first: int, end: int, item: int, exponent_low: int) -> int:
    """Count the little-endian floats whose exponent is all ones and whose fraction is not 0.

    Args:
        data: the bytes.
        first: where the first item's high byte is.
        end: where to stop.
        item: bytes an item.
        exponent_low: the part of the second-highest byte that belongs to the exponent; for float16, whose exponent
            ends in the high byte, -1.
    """
    found = 0
    for at in range(first, end, item):
        high, low = data[at], data[at - 1]
        if exponent_low < 0:
            found += (high & 0x7C) == 0x7C and ((high & 3) | low) != 0
        elif (high & 0x7F) == 0x7F and (low & exponent_low) == exponent_low:
            rest = low & ~exponent_low & 0xFF
            for back in range(2, item):
                rest |= data[at - back]
            found += rest != 0
    return found


@numba.njit(nogil=True, inline="always")
def _is_wider(data: Bytes, high: int, end: int, item: int, counts: Counts) -> bool:
    """Whether every other high byte is random and those between are not: floats of twice the width, or pairs of them.

    Weights in two kinds of bytes by turns are no float of `item` bytes: one half of each is the other's low fraction.
    """
    first_number, first_squares = _count_lane(data, high, end, 2 * item, counts)
    then_number, then_squares = _count_lane(data, high + item, end, 2 * item, counts)
    first_clear = first_squares * 256.0 > _CLEAR * first_number * first_number
    then_clear = then_squares * 256.0 > _CLEAR * then_number * then_number
    if first_clear == then_clear:
        return False
    return bool(_is_uniform(then_number, then_squares) if first_clear else _is_uniform(first_number, first_squares))


@numba.njit(nogil=True, inline="always")
def _is_wild(counts: Counts, number: int, exponent_low: int) -> bool:
    """Whether many numbers are huge, of many sizes, and others tiny: programs, pictures, 8-bit weights, other floats.

    Huge is 2**33 and more (float64: 2**257; float16: 1024), tiny 2**-33 and less; tiny float16 are common.
    """
    share = 0  # two loops of known length: numba makes them as fast as one addition a value
    if exponent_low < 0:
        for value in range(0x64, 0x7C):
            share += counts[value] + counts[value + 0x80]
        if share * 20 < number:
            return False
    else:
        for value in range(0x50, 0x7F):
            share += counts[value] + counts[value + 0x80]
        if share * 32 < number:
            return False
    huge, top = (0x64, 0x7C) if exponent_low < 0 else (0x50, 0x7F)
    values = tiny = 0
    for value in range(huge, top):
        values += counts[value] + counts[value + 0x80] != 0
    for value in range(1, 0x30):
        tiny += counts[value] + counts[value + 0x80] != 0
    return bool(values >= _WILD_VALUES and (exponent_low < 0 or tiny >= _WILD_TINY_VALUES))


@numba.njit(nogil=True, inline="always")
def _holds_halves(data: Bytes, high: int, end: int, item: int, counts: Counts) -> bool:
    """Whether each item is two floats: the high bytes of its halves take the same values, and their low ones many.

    Floats that were rounded from shorter ones end in zeros and are none. A few samples tell most blocks apart.

    Args:
        data: the bytes.
        high: where the high byte of a whole item is.
        end: where to stop.
        item: bytes an item.
        counts: of the high bytes; overwritten.
    """
    half = item // 2
    sampled = score = 0
    for at in range(high, end, _HALVES_STEP):
        sampled += 1
        score += counts[data[at - half]]
    number = (end - high + item - 1) // item
    if score * 256.0 < _HALVES_SAMPLED * sampled * number:
        return False
    shared = 0
    for at in range(high, end, item):
        value = data[at - half]
        if counts[value] > 0:
            counts[value] -= 1
            shared += 1
    if shared < _HALVES_SHARED * number:
        return False
    number, squares = _count_lane(data, high - half, end, item, counts)
    low_number, low_squares = _count_lane(data, high - half - 1, end, item, counts)
    clear = squares * 256.0 > _CLEAR * number * number
    return bool(clear and low_squares * 256.0 < _HALVES_FLAT * low_number * low_number)


@numba.njit(nogil=True, inline="always")
def _is_bfloat16(counts: Counts, number: int) -> bool:
    """Whether the high bytes of float16 are those of bfloat16 weights: all near 1, of both signs, no two alike."""
    near = below = values = 0
    for value in range(0x36, 0x40):
        near += counts[value] + counts[value + 0x80]
        below += counts[value + 0x80]
        values += (counts[value] != 0) + (counts[value + 0x80] != 0)
    return bool(20 * near >= 19 * number and 5 * min(below, number - below) >= number and values >= 6)


@numba.njit(nogil=True, inline="always")
def _is_other_type(
    data: Bytes, high: int, end: int, item: int, exponent_low: int, squares: np.uint64, counts: Counts
) -> bool:
    """Whether a clear block holds floats of half the width or less, or 16-bit ones of the other type.

    Args:
        data: the bytes.
        high: where the high byte of a whole item is.
        end: where to stop.
        item: bytes an item.
        exponent_low: see `_count_nan`.
        squares: the sum of the squares of the counts.
        counts: of the high bytes; overwritten.
    """
    if item > 2:
        return bool(_holds_halves(data, high, end, item, counts))
    number = (end - high + item - 1) // item
    if exponent_low < 0:
        return bool(_is_bfloat16(counts, number))
    return bool(squares * 256.0 < _FLOAT16_CLEAR * number * number)


@_compiled(numba.types.int64, _BYTES, numba.types.int64, numba.types.int64, numba.types.int64, _MUTABLE, _COUNTS_2D)
def survey_blocks(data: Bytes, phase: int, item: int, exponent_low: int, classes: Bytes, tallies: Counts) -> int:
    """Say of each block of 4096 bytes of floats what its bytes look like; return how many NaN its clear ones hold.

    The byte with the exponent tells: of weights it takes few values. Encrypted, compressed or random bytes are uniform
    there as they are in the lowest byte. Of big-endian numbers the lanes are swapped. WIDER and OTHER_FLOATS are floats
    of another type than the tensor's; WILD is what is clear and yet of all sizes that weights never have, WILD_UNCLEAR
    what is neither clear nor uniform.

    Cost: about 0.3 ns a byte for float32, 0.6 for float16; each high byte is read once, nothing is allocated.
    Measured by `tests/bench`.

    Args:
        data: uint8, shape (4096 n,), contiguous.
        phase: where in a block's first item-sized stretch an item begins, 0 <= phase < item.
        item: bytes a float: 2, 4 or 8.
        exponent_low: see `_count_nan`.
        classes: uint8, shape (n,), receives UNCLEAR or another of these.
        tallies: int64, shape (2, 256); the first row is scratch, to the second are added the high bytes of blocks
            that are UNIFORM.
    """
    nans = 0
    counts = tallies[0]
    for block in range(classes.shape[0]):
        start = block * BLOCK_BYTES
        end = start + BLOCK_BYTES
        high = start + (phase + item - 1) % item
        number, squares = _count_lane(data, high, end, item, counts)
        other = False
        special = counts[0x7F] + counts[0xFF]
        if exponent_low < 0:
            for value in range(0x7C, 0x7F):
                special += counts[value] + counts[value + 0x80]
        first = high if high >= start + item - 1 else high + item  # of a whole item
        wild = _is_wild(counts, number, exponent_low)
        kind = UNCLEAR
        if squares == np.uint64(number) * np.uint64(number) and _is_one_byte(data, start, end):
            kind = ONE_BYTE
        elif squares * 256.0 > _CLEAR * number * number:
            kind = CLEAR
            other = not wild and _is_other_type(data, first, end, item, exponent_low, squares, counts)
        elif _is_text(data, start, high, item, counts):
            kind = TEXT
        else:
            low_number, low_squares = _count_lane(data, start + phase % item, end, item, counts)
            if low_squares * 256.0 > _CLEAR * low_number * low_number:
                kind = CLEAR_SWAPPED
            elif _is_uniform(number, squares) and _is_uniform(low_number, low_squares):
                kind = UNIFORM
                for at in range(high, end, item):
                    tallies[1, data[at]] += 1
        if kind == CLEAR and _is_text(data, start, high, item, counts):
            kind = TEXT
        if kind == CLEAR and special:
            nans += _count_nan(data, first, end, item, exponent_low)
        if special and kind in (CLEAR, UNCLEAR) and _is_wider(data, high, end, item, counts):
            kind = WIDER
        elif kind == CLEAR and other:
            kind = OTHER_FLOATS
        elif wild and kind in (CLEAR, UNCLEAR):
            # the low bytes of big-endian numbers are their exponents, and not wild
            low_number, _ = _count_lane(data, start + phase % item, end, item, counts)
            if _is_wild(counts, low_number, exponent_low):
                kind = WILD if kind == CLEAR else WILD_UNCLEAR
        classes[block] = kind
    return nans


@_compiled(numba.types.void, _BYTES, _MUTABLE, _COUNTS_2D)
def survey_packed(data: Bytes, classes: Bytes, tallies: Counts) -> None:
    """Say of each block of 4096 bytes of quantised numbers whether all bytes in it are equally frequent.

    Quantised weights are not: a few steps around zero, and the scales between them, are the most. Of a block that is
    clear in its first quarter no more is read.

    Args:
        data: uint8, shape (4096 n,), contiguous.
        classes: uint8, shape (n,), receives PACKED, PACKED_UNIFORM or PACKED_UNCLEAR, which is also what one byte is.
        tallies: int64, shape (2, 256); the first row is scratch, to the second are added the bytes of uniform blocks.
    """
    counts = tallies[0]
    for block in range(classes.shape[0]):
        start = block * BLOCK_BYTES
        end = start + BLOCK_BYTES
        number, squares = _count_lane(data, start, start + BLOCK_BYTES // 4, 1, counts)
        if squares * 256.0 / number - number < _PACKED_CHI2 or squares == np.uint64(number) * np.uint64(number):
            number, squares = _count_lane(data, start, end, 1, counts)
        chi2 = squares * 256.0 / number - number
        classes[block] = PACKED_UNCLEAR
        if chi2 < _PACKED_UNIFORM_CHI2:
            classes[block] = PACKED_UNIFORM
            for value in range(256):
                tallies[1, value] += counts[value]
        elif chi2 > _PACKED_CHI2 and squares < np.uint64(number) * np.uint64(number):
            classes[block] = PACKED


_CELL_BYTES = 256  # a run of 511 bytes covers a whole one, wherever it begins


@_compiled(numba.types.int64, _BYTES, numba.types.int64, _COUNTS_2D)
def find_runs(data: Bytes, carried: int, runs: Counts) -> int:
    """Find where one byte is repeated 511 times or more, and, however short, the part of a run at either end.

    Cost: some 0.02 ns a byte where there are none: two bytes of each 256 are read. Nothing is allocated. Measured by
    `tests/bench`.

    Args:
        data: uint8, shape (n,), contiguous.
        carried: the byte of a run that ends where `data` begins, or -1.
        runs: int64, shape (m, 3), receives (first, end, byte) of each, ascending; the rest is left out when it is full.

    Returns:
        How many were found, at most m.
    """
    size = data.shape[0]
    found = 0
    at = 0
    if size and data[0] == carried:
        while at < size and data[at] == carried:
            at += 1
        runs[0, 0], runs[0, 1], runs[0, 2] = 0, at, carried
        found = 1
    low = at  # nothing before belongs to a run to come
    cell = -(-at // _CELL_BYTES) * _CELL_BYTES
    while cell + _CELL_BYTES <= size and found < runs.shape[0]:
        if data[cell] != data[cell + _CELL_BYTES - 1] or not _is_one_byte(data, cell, cell + _CELL_BYTES):
            cell += _CELL_BYTES
            continue
        byte, first, end = data[cell], cell, cell + _CELL_BYTES
        while first > low and data[first - 1] == byte:
            first -= 1
        while end < size and data[end] == byte:
            end += 1
        runs[found, 0], runs[found, 1], runs[found, 2] = first, end, byte
        found += 1
        low = end
        cell = -(-end // _CELL_BYTES) * _CELL_BYTES
    if size > low and found < runs.shape[0]:
        first = size - 1
        while first > low and data[first - 1] == data[size - 1]:
            first -= 1
        runs[found, 0], runs[found, 1], runs[found, 2] = first, size, data[size - 1]
        found += 1
    return found


_EMPTY = np.frombuffer(b"", dtype=np.uint8)
_SCRATCH = np.zeros((2, 256), dtype=np.int64)
lookup3(_EMPTY)  # the first call imports more of numpy and numba
fletcher32(_EMPTY, 0)
survey_blocks(_EMPTY, 0, 4, 0x80, np.zeros(0, dtype=np.uint8), _SCRATCH)
survey_packed(_EMPTY, np.zeros(0, dtype=np.uint8), _SCRATCH)
crc32c(_EMPTY, 0)
find_crc32c(_EMPTY, 1, 0, 1, np.zeros(1, dtype=np.int64))
find_runs(_EMPTY, -1, np.zeros((1, 3), dtype=np.int64))
