"""Surveys: what blocks of a tensor's bytes look like, and where one byte is repeated."""

from __future__ import annotations

import numba
import numpy as np

from signatures._compiling import BYTES, COUNTS_2D, MUTABLE, Bytes, Compiler, Counts

_compiled = Compiler("the statistics")

BLOCK_BYTES = 4096  # compiled in, and the same as in `_plausible_stretches`
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


@_compiled(numba.types.int64, BYTES, numba.types.int64, numba.types.int64, numba.types.int64, MUTABLE, COUNTS_2D)
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


@_compiled(numba.types.void, BYTES, MUTABLE, COUNTS_2D)
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


@_compiled(numba.types.int64, BYTES, numba.types.int64, COUNTS_2D)
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
survey_blocks(_EMPTY, 0, 4, 0x80, np.zeros(0, dtype=np.uint8), _SCRATCH)
survey_packed(_EMPTY, np.zeros(0, dtype=np.uint8), _SCRATCH)
find_runs(_EMPTY, -1, np.zeros((1, 3), dtype=np.int64))
