"""Places: what speaks for one place being where an ONNX data file begins, and what against it.

A place fits where nothing speaks against it: zeros in every padding, whole numbers where they must be, floats that
weights may be. How much speaks for it is counted in marks: each padding with a tensor's bytes on both sides, each
tensor of whole numbers between floats, steps in the size of the numbers at the tensors' borders that no other place
nearby has, a start right behind another file, zeros or what no weights are, an end that such things follow at once,
and two such edges where so many bytes lie between that their number is no chance: the start, the end, or a padding of
a sector or more between floats, which ends the one run of weights and begins the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from imaging.extent import Extent, ExtentSet, span
from signatures._onnx_data_plan import BLOCK_BYTES, DataFile
from signatures._onnx_data_probes import (
    BESIDE_BYTES,
    SECTOR_BYTES,
    FloatProbe,
    GapProbe,
    NumberProbe,
    Probe,
    Readable,
    StepProbe,
    WideGap,
    float_probes,
    gap_probes,
    inside_and_beside,
    number_probes,
    step_probes,
    tellings,
    wide_gaps,
    widest_gaps,
)

MARKS_NEEDED = 3
SOME_STEPS, MANY_STEPS = 3, 8  # one mark, two
STEP_PROBES, FLOAT_PROBES = 24, 4
NEIGHBOURS = 16  # starts on either side that must show less than two thirds of the steps
MIN_EXACT_BYTES = 16 << 10
MIN_SECTORS_BYTES = 64 << 10  # whole sectors: many a small file has as many
MIN_SLACK_BYTES = 8
MIN_BLANK_BYTES = 4096
CHUNK_BYTES = 1 << 20
PADDED_TO = (1, 4096, 1 << 16)  # what the file's own length may be rounded up to


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a data file may begin.

    Attributes:
        start_bytes: in the image.
        gaps: paddings that are zeros between other bytes.
        numbers: tensors of whole numbers found between floats.
        steps: borders of tensors where the size of the numbers changes; 0 where they are few, or nearby starts show as
            many.
        at_edge: it begins right behind a file, zeros, or what no weights are.
        ends: zeros, another file, or what no weights are, follow its end at once.
        exact: two edges (start, end, wide padding), and so much lies between that this is no chance.
    """

    start_bytes: int
    gaps: int = 0
    numbers: int = 0
    steps: int = 0
    at_edge: bool = False
    ends: bool = False
    exact: bool = False

    @property
    def marks(self) -> int:
        """How much speaks for it."""
        return self.traces + self.at_edge + self.ends + self.exact

    @property
    def seen(self) -> int:
        """How many traces are inside, however much each is worth."""
        return self.gaps + self.numbers + self.steps

    @property
    def traces(self) -> int:
        """How much of that is inside."""
        return self.gaps + self.numbers + (self.steps >= MANY_STEPS) + (self.steps >= SOME_STEPS)


@dataclass(slots=True)
class Weigher:
    """Weighs places for one data file.

    Args:
        source: the image.
        file: what the model tells.
        claimed: bytes of good files; the data lies in none of them.
        was_read: tells of a range whether its bytes are the drive's; what is not read speaks neither for nor against.
    """

    source: Readable
    file: DataFile
    claimed: ExtentSet
    was_read: Callable[[Extent], bool] = lambda _: True
    _paddings: list[tuple[int, int]] = field(init=False)
    gaps: list[GapProbe] = field(init=False)
    numbers: list[NumberProbe] = field(init=False)
    floats: list[FloatProbe] = field(init=False)
    steps: list[StepProbe] = field(init=False)
    wide: list[WideGap] = field(init=False)
    borders: tuple[FloatProbe, FloatProbe, FloatProbe, FloatProbe] | None = field(init=False)

    def __post_init__(self) -> None:
        self._paddings = widest_gaps(self.file)
        self.gaps, self.numbers = gap_probes(self._paddings), number_probes(self.file)
        self.floats, self.steps = float_probes(self.file, FLOAT_PROBES), step_probes(self.file, STEP_PROBES)
        self.borders = inside_and_beside(self.file)
        self.wide = wide_gaps(self.file)

    def fits(self, start: int) -> bool:
        """Tell whether nothing speaks against a start: other files, bytes in the padding, numbers unlike weights."""
        if self.claimed.touches(span(start, start + self.file.size_bytes)):
            return False
        hard = self._read_of(start, (*self.gaps, *self.numbers))
        if tellings(self.source, start, hard)[0] < len(hard):
            return False
        floats = self._read_of(start, self.floats)
        fitting, telling = tellings(self.source, start, floats)
        if self.floats and (not floats or 4 * fitting < 3 * len(floats) or 2 * telling < len(floats)):
            return False
        return all(self._may_be_zero(start + first, start + end) for first, end in self._paddings)

    def _read_of(self, start: int, probes: Sequence[Probe]) -> list[Probe]:
        """Return the probes whose bytes were read."""
        return [
            probe for probe in probes if self._read(start + probe.at_bytes, start + probe.at_bytes + probe.size_bytes)
        ]

    def _read(self, first: int, end: int) -> bool:
        return first >= 0 and self.was_read(span(first, end))

    def weigh(self, start: int) -> Place:
        """Return what speaks for a start."""
        at_edge, ends = self.begins_at_edge(start), self._ends_at(start)
        return Place(
            start_bytes=start,
            gaps=self._sharp_gaps(start),
            numbers=self._telling(start, self.numbers),
            steps=self._own_steps(start),
            at_edge=at_edge,
            ends=ends,
            exact=self._is_exact(start, at_edge=at_edge, ends=ends),
        )

    def _is_exact(self, start: int, *, at_edge: bool, ends: bool) -> bool:
        if at_edge and ends and self.borders is not None and _is_no_chance(self.file.size_bytes):
            return True
        return any(
            (at_edge and _is_no_chance(gap.first_bytes))
            or (ends and _is_no_chance(self.file.size_bytes - gap.end_bytes))
            for gap in self.wide
            if self._is_edge(start, gap)
        )

    def _is_edge(self, start: int, gap: WideGap) -> bool:
        """Whether the zeros of a padding begin and end where they must, to the number, weights on both sides."""
        items = (gap.last_item, gap.first_item)
        if not all(any(self.source.read_at(start + item.offset_bytes, item.size_bytes)) for item in items):
            return False
        seen = self._read_of(start, gap.sides)
        return tellings(self.source, start, seen)[1] == len(gap.sides) and self._is_zero(
            start + gap.first_bytes, start + gap.end_bytes
        )

    @property
    def some_steps(self) -> int:
        """How many steps are worth anything: half of them, at least some."""
        return max(SOME_STEPS, -(-len(self.steps) // 2))

    def _sharp_gaps(self, start: int) -> int:
        """Return how many paddings have bytes of tensors on both sides."""
        behind = sum(any(self.source.read_at(start + end, BESIDE_BYTES)) for _, end in self._paddings)
        return min(behind, self._telling(start, self.gaps))

    def _telling(self, start: int, probes: Sequence[Probe]) -> int:
        return tellings(self.source, start, self._read_of(start, probes))[1]

    def _own_steps(self, start: int) -> int:
        steps = self._telling(start, self.steps)
        if steps < self.some_steps:
            return 0
        shifts = (by * SECTOR_BYTES for by in range(-NEIGHBOURS, NEIGHBOURS + 1) if by)
        beside = max(tellings(self.source, start + shift, self.steps)[1] for shift in shifts)
        return steps if 2 * steps > 3 * beside else 0

    def begins_at_edge(self, start: int) -> bool:
        """Tell whether a start is right behind a file, zeros, or what no weights are."""
        if not any(self.source.read_at(start, BESIDE_BYTES)) or not self._borders_told(start, 0):
            return False
        if start == 0 or self._is_zero(start - SECTOR_BYTES, start) or self._follows_file(start):
            return True
        return self.borders is not None and self._differ(start, self.borders[:2])

    def _borders_told(self, start: int, number: int) -> bool:
        """Whether weights are seen at one border of the file, where it begins and ends with them."""
        return self.borders is None or self._telling(start, (self.borders[number],)) == 1

    def _differ(self, start: int, probes: Sequence[FloatProbe]) -> bool:
        """Whether the first look shows weights, and the other, next to it, does not."""
        if len(self._read_of(start, probes)) < len(probes):
            return False
        (_, inside), (beside, _) = (tellings(self.source, start, (probe,)) for probe in probes)
        return inside > beside

    def _follows_file(self, start: int) -> bool:
        """Whether a file ends in the block before, and nothing but zeros lies between."""
        before = list(self.claimed.within(span(max(0, start - BLOCK_BYTES), start)))
        return bool(before) and self._is_zero(before[-1].end_bytes, start)

    def _ends_at(self, start: int) -> bool:
        """Whether the last byte is told by what follows: the zeros of its sector, another file, no weights any more."""
        end = start + self.file.size_bytes
        if not any(self.source.read_at(max(0, end - BESIDE_BYTES), BESIDE_BYTES)) or not self._borders_told(start, 2):
            return False
        slack = -end % SECTOR_BYTES
        if slack >= MIN_SLACK_BYTES:
            return self._is_zero(end, end + slack)
        following = list(self.claimed.within(span(end, end + BLOCK_BYTES)))
        if following:
            return self._is_zero(end, following[0].offset_bytes)
        if end == self.source.size_bytes or self._is_zero(end, end + SECTOR_BYTES):
            return True
        return self.borders is not None and self._differ(start, self.borders[2:])

    def _is_zero(self, first: int, end: int) -> bool:
        return self._may_be_zero(first, end) and self._read(first, end)

    def _may_be_zero(self, first: int, end: int) -> bool:
        """Whether nothing but zeros was read there."""
        return first >= 0 and not any(self.source.read_at(first, end - first))


def _is_no_chance(between_bytes: int) -> bool:
    """Tell whether so many bytes between two edges are too many to be met by chance."""
    return between_bytes >= (MIN_EXACT_BYTES if between_bytes % SECTOR_BYTES else MIN_SECTORS_BYTES)


def proven_size(source: Readable, start: int, file: DataFile) -> int:
    """Return at which length the bytes from `start` on have the file's SHA-1: what it must have, or padded; 0: never.

    Raises:
        ReadFault: from the source.
    """
    digest, at = hashlib.sha1(usedforsecurity=False), 0
    for size_bytes in sorted({-(-file.size_bytes // unit) * unit for unit in PADDED_TO}):
        while at < size_bytes:
            piece = source.read_at(start + at, min(CHUNK_BYTES, size_bytes - at))
            if not piece:
                return 0
            digest.update(piece)
            at += len(piece)
        if digest.hexdigest() == file.sha1:
            return size_bytes
    return 0


def zeros_from(source: Readable, start: int, file: DataFile) -> int | None:
    """Return where in a data file the zeros begin that end it, if they cover a matrix and another tensor, else None.

    Raises:
        ReadFault: from the source.
    """
    high = file.size_bytes
    while high > 0:
        low = max(0, high - CHUNK_BYTES)
        piece = source.read_at(start + low, high - low).rstrip(b"\0")
        if piece:
            high = low + len(piece)
            break
        high = low
    blank = [piece for piece in file.pieces if piece.offset_bytes >= high]
    matrices = any(len(piece.shape) > 1 and piece.size_bytes >= MIN_BLANK_BYTES for piece in blank)
    return high if matrices and len(blank) > 1 else None
