"""Probes of ONNX external data: small looks at many supposed starts at once, by what its model tells of its tensors.

A data file has no head and mostly no checksum. What its model tells leaves traces all the same: zeros between tensors
exactly where padding must be, whole numbers between floats, and a step in the size of the numbers where one tensor
ends and the next begins. A look says two things of each start: whether it may be the one, and whether it is told so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from imaging.extent import Extent, span
from signatures._onnx_data_plan import DataFile, Piece

Rows = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

SECTOR_BYTES: Final = 512
BESIDE_BYTES: Final = 16  # of a tensor, next to a gap: something must stand there
MIN_GAP_BYTES: Final = 8
MAX_GAP_BYTES: Final = 1 << 16  # wider ones may hold what another model keeps there; onnx itself makes none
GAP_LOOK_BYTES: Final = 64
NUMBERS_LOOKED_AT: Final = 32
FLOATS_LOOKED_AT: Final = 64
PLAUSIBLE_SHARE: Final = 0.9
STEP: Final = 1.0  # in powers of two, of the mean size of 32 to 64 numbers: some four times its chance deviation
MIN_STEP_FLOATS: Final = 32
LARGER: Final = 4  # times
MIN_STEP_PROBES: Final = 3
MAX_PROBES: Final = 64  # of a kind
MAX_WIDE_GAPS: Final = 8  # at either end of the file
WHOLE_NUMBERS: Final = {"int64": ("<i8", 1 << 40), "int32": ("<i4", 1 << 24)}
# dtype -> (bytes, low bit of the exponent in the upper two bytes, its mask, least and largest of plausible weights)
EXPONENTS: Final = {
    "float32": (4, 7, 0xFF, 87, 141),
    "bfloat16": (2, 7, 0xFF, 87, 141),
    "float16": (2, 10, 0x1F, 1, 19),
    "float64": (8, 4, 0x7FF, 983, 1037),
}


class Readable(Protocol):
    """Bytes at offsets: an image, or a window on it."""

    @property
    def size_bytes(self) -> int:
        """How many."""

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return the bytes there; fewer only at the end."""


class Probe(Protocol):
    """A look at `size_bytes` from `at_bytes` on in a data file."""

    @property
    def at_bytes(self) -> int:
        """Where in the file."""

    @property
    def size_bytes(self) -> int:
        """How much."""

    def look(self, rows: Rows) -> tuple[Flags, Flags]:
        """Return which rows may be such bytes, and of which these bytes tell so; rows is uint8, (k, size_bytes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapProbe:
    """The end of a tensor and the padding behind it: zeros, and before them something else."""

    at_bytes: int
    size_bytes: int

    def look(self, rows: Rows) -> tuple[Flags, Flags]:
        zeros: Flags = np.logical_not(rows[:, BESIDE_BYTES:].any(axis=1))
        told: Flags = zeros & rows[:, :BESIDE_BYTES].any(axis=1)
        return zeros, told


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberProbe:
    """Whole numbers of a moderate size, none of them where a tensor of floats ends just before."""

    at_bytes: int
    size_bytes: int
    dtype: str
    limit: int

    def look(self, rows: Rows) -> tuple[Flags, Flags]:
        values = np.ascontiguousarray(rows).view(self.dtype)
        small = (values > -self.limit) & (values < self.limit)
        fits: Flags = np.all(small[:, 1:], axis=1)
        told: Flags = fits & ~small[:, 0] & values[:, 1:].any(axis=1)
        return fits, told


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatProbe:
    """Floats of a size that weights have; told where most of them are not zero, as metadata and blank tensors are."""

    at_bytes: int
    size_bytes: int
    dtype: str

    def look(self, rows: Rows) -> tuple[Flags, Flags]:
        exponents = _exponents(rows, self.dtype)
        fits = _plausible(exponents, self.dtype)
        told: Flags = fits & (2 * np.count_nonzero(exponents, axis=1) >= exponents.shape[1])
        return fits, told


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProbe:
    """The end of one tensor and the beginning of the next, as many numbers of each."""

    at_bytes: int
    size_bytes: int
    dtype: str

    def look(self, rows: Rows) -> tuple[Flags, Flags]:
        exponents = _exponents(rows, self.dtype)
        before, after = np.split(exponents, 2, axis=1)
        step = np.abs(before.mean(axis=1) - after.mean(axis=1)) >= STEP
        fits = _plausible(before, self.dtype) & _plausible(after, self.dtype)
        return fits, fits & step


def _exponents(rows: Rows, dtype: str) -> npt.NDArray[np.uint16]:
    """Return the exponents of floats, uint16, shape (k, n)."""
    item, low_bit, mask, _, _ = EXPONENTS[dtype]
    upper = np.ascontiguousarray(rows).view("<u2")[:, item // 2 - 1 :: item // 2]
    exponents: npt.NDArray[np.uint16] = np.bitwise_and(np.right_shift(upper, np.uint16(low_bit)), np.uint16(mask))
    return exponents


def _plausible(exponents: npt.NDArray[np.uint16], dtype: str) -> Flags:
    _, _, _, least, largest = EXPONENTS[dtype]
    good = ((exponents >= least) & (exponents <= largest)) | (exponents == 0)
    plausible: Flags = good.mean(axis=1) >= PLAUSIBLE_SHARE
    return plausible


def widest_gaps(file: DataFile) -> list[tuple[int, int]]:
    """Return (first byte, end) of the padding between tensors, as far as it must be zeros, the widest first."""
    return sorted(_gaps(file), key=lambda gap: gap[0] - gap[1])[:MAX_PROBES]


def _gaps(file: DataFile) -> Iterator[tuple[int, int]]:
    end = 0
    for piece in file.pieces:
        if MIN_GAP_BYTES <= piece.offset_bytes - end <= MAX_GAP_BYTES and end >= BESIDE_BYTES:
            yield end, piece.offset_bytes
        end = max(end, piece.end_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class WideGap:
    """A padding of a sector or more between two tensors of floats: an edge of the data inside the file.

    Attributes:
        first_bytes: of the padding, in the file.
        end_bytes: behind it.
        last_item: the last number before it.
        first_item: the first one behind.
        sides: a look at the floats right before and right behind.
    """

    first_bytes: int
    end_bytes: int
    last_item: Extent
    first_item: Extent
    sides: tuple[FloatProbe, FloatProbe]


def wide_gaps(file: DataFile) -> list[WideGap]:
    """Return the paddings that are edges of the data, the first ones and the last ones of many."""
    found: list[WideGap] = []
    for before, piece in pairwise(file.pieces):
        first, end = before.end_bytes, piece.offset_bytes
        if SECTOR_BYTES <= end - first <= MAX_GAP_BYTES and min(_floats(before), _floats(piece)) >= FLOATS_LOOKED_AT:
            items = EXPONENTS[before.dtype][0], EXPONENTS[piece.dtype][0]
            looks = tuple(FLOATS_LOOKED_AT * item for item in items)
            sides = (
                FloatProbe(at_bytes=first - looks[0], size_bytes=looks[0], dtype=before.dtype),
                FloatProbe(at_bytes=end, size_bytes=looks[1], dtype=piece.dtype),
            )
            last, behind = span(first - items[0], first), span(end, end + items[1])
            found.append(WideGap(first_bytes=first, end_bytes=end, last_item=last, first_item=behind, sides=sides))
    return found if len(found) <= 2 * MAX_WIDE_GAPS else [*found[:MAX_WIDE_GAPS], *found[-MAX_WIDE_GAPS:]]


def gap_probes(gaps: Sequence[tuple[int, int]]) -> list[GapProbe]:
    """Return a look at the end of a tensor and the padding behind it, for each padding."""
    return [
        GapProbe(at_bytes=first - BESIDE_BYTES, size_bytes=BESIDE_BYTES + min(end - first, GAP_LOOK_BYTES))
        for first, end in gaps
    ]


def number_probes(file: DataFile) -> list[NumberProbe]:
    """Return a look at each tensor of whole numbers that follows one of another kind at once."""
    found: list[NumberProbe] = []
    for before, piece in pairwise(file.pieces):
        if piece.dtype in WHOLE_NUMBERS and before.dtype != piece.dtype and before.end_bytes == piece.offset_bytes:
            dtype, limit = WHOLE_NUMBERS[piece.dtype]
            item = np.dtype(dtype).itemsize
            if before.size_bytes >= item:
                size_bytes = item + min(piece.size_bytes, NUMBERS_LOOKED_AT * item)
                at_bytes = piece.offset_bytes - item
                found.append(NumberProbe(at_bytes=at_bytes, size_bytes=size_bytes, dtype=dtype, limit=limit))
    return found[:MAX_PROBES]


def float_probes(file: DataFile, most: int) -> list[FloatProbe]:
    """Return a look at the middle of the largest tensors of floats."""
    floats = [piece for piece in file.pieces if _floats(piece) >= FLOATS_LOOKED_AT]
    floats.sort(key=lambda piece: -piece.size_bytes)
    return [
        FloatProbe(
            at_bytes=piece.offset_bytes + (_floats(piece) - FLOATS_LOOKED_AT) // 2 * EXPONENTS[piece.dtype][0],
            size_bytes=FLOATS_LOOKED_AT * EXPONENTS[piece.dtype][0],
            dtype=piece.dtype,
        )
        for piece in floats[:most]
    ]


def step_probes(file: DataFile, most: int) -> list[StepProbe]:
    """Return a look at places where one tensor of floats ends and one of the same type begins, over the whole file.

    Where they can be had, half of them are the ends and half the beginnings of large tensors next to small ones: a
    wrong start then has one of the halves inside the large ones, where no step is.
    """
    ends: list[StepProbe] = []
    begins: list[StepProbe] = []
    alike: list[StepProbe] = []
    for before, piece in pairwise(file.pieces):
        count = min(_floats(before), _floats(piece), FLOATS_LOOKED_AT)
        if before.dtype == piece.dtype and before.end_bytes == piece.offset_bytes and count >= MIN_STEP_FLOATS:
            half_bytes = count * EXPONENTS[piece.dtype][0]
            probe = StepProbe(at_bytes=piece.offset_bytes - half_bytes, size_bytes=2 * half_bytes, dtype=piece.dtype)
            if before.size_bytes >= LARGER * piece.size_bytes:
                ends.append(probe)
            elif piece.size_bytes >= LARGER * before.size_bytes:
                begins.append(probe)
            else:
                alike.append(probe)
    telling = [*_spread(ends, most // 2), *_spread(begins, most // 2)]
    return telling if len(telling) >= MIN_STEP_PROBES else _spread([*ends, *begins, *alike], most)


def _spread(probes: Sequence[StepProbe], most: int) -> list[StepProbe]:
    """Return at most so many of them, evenly taken."""
    return [probes[index] for index in sorted({index * len(probes) // most for index in range(most)})] if probes else []


def inside_and_beside(file: DataFile) -> tuple[FloatProbe, FloatProbe, FloatProbe, FloatProbe] | None:
    """Return a look at the first floats of a file and at what lies before, at its last floats and at what lies behind.

    None where it does not begin and end with floats.
    """
    first, last = file.pieces[0], max(file.pieces, key=lambda piece: piece.end_bytes)
    if first.offset_bytes or min(_floats(first), _floats(last)) < FLOATS_LOOKED_AT:
        return None
    head_bytes = FLOATS_LOOKED_AT * EXPONENTS[first.dtype][0]
    tail_bytes = FLOATS_LOOKED_AT * EXPONENTS[last.dtype][0]
    end_bytes = file.size_bytes
    return (
        FloatProbe(at_bytes=0, size_bytes=head_bytes, dtype=first.dtype),
        FloatProbe(at_bytes=-head_bytes, size_bytes=head_bytes, dtype=first.dtype),
        FloatProbe(at_bytes=end_bytes - tail_bytes, size_bytes=tail_bytes, dtype=last.dtype),
        FloatProbe(at_bytes=end_bytes, size_bytes=tail_bytes, dtype=last.dtype),
    )


def _floats(piece: Piece) -> int:
    return piece.size_bytes // EXPONENTS[piece.dtype][0] if piece.dtype in EXPONENTS else 0


def rows_of(source: Readable, start_bytes: int, count: int, probe: Probe) -> Rows:
    """Return what a probe sees from each of `count` starts, a sector apart; fewer where the source ends.

    Raises:
        ReadFault: from the source.
    """
    first = start_bytes + probe.at_bytes
    raw = source.read_at(first, (count - 1) * SECTOR_BYTES + probe.size_bytes) if first >= 0 else b""
    if len(raw) < probe.size_bytes:
        return np.zeros((0, probe.size_bytes), dtype=np.uint8)
    data = np.frombuffer(raw, dtype=np.uint8)
    rows: Rows = np.lib.stride_tricks.sliding_window_view(data, probe.size_bytes)[::SECTOR_BYTES]
    return rows


def tellings(source: Readable, start_bytes: int, probes: Sequence[Probe]) -> tuple[int, int]:
    """Return how many probes fit one start, and how many of them tell.

    Raises:
        ReadFault: from the source.
    """
    fitting = telling = 0
    for probe in probes:
        rows = rows_of(source, start_bytes, 1, probe)
        if len(rows):
            fits, tells = probe.look(rows)
            fitting, telling = fitting + int(fits[0]), telling + int(tells[0])
    return fitting, telling
