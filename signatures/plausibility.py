"""Plausibility: do a tensor's bytes look like weights of its type? Evidence, never proof.

Bytes are taken as they come by, in file order, in one pass: whoever reads a file for another reason (to hash it) hands
them on. Trained weights have few exponents, so the byte that holds it is concentrated; encrypted, compressed or random
bytes are uniform there. Zeros are natural where design puts them (biases, unused rows, masks): whole tensors, whole
rows. A run that begins and ends on a sector's edge in the middle of rows was put there by a drive, not by training.

What changes a grade is only what design hardly explains: see `Conclusion`. Big-endian numbers, packed quantised ones
in the clothes of floats, sparse matrices and integer tables look odd and are healthy. Quantised weights have no
exponents, but a few steps and scales that are more frequent than others: stretches where none is are told.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imaging.extent import ExtentSet, span
from imaging.window import Window
from signatures._plausible_conclusion import SECTOR_BYTES, Conclusion, Evidence
from signatures._plausible_places import Place, places_of
from signatures._plausible_signatures import find_signatures
from signatures._plausible_stretches import BLOCK_BYTES, Span
from signatures.tensors import Tensor

if TYPE_CHECKING:
    import numpy.typing as npt

PADDING_BYTES = 1 << 14  # between tensors, and small ones that are no places: biases, norms
MAX_SPANS = 1 << 16
MAX_RUNS = 1 << 14
MAX_RUNS_A_CALL = 4096
MAX_SIGNATURES = 256
JOIN_BYTES = 4 * BLOCK_BYTES  # between two stretches of one kind: edges of tensors, which no whole block covers
CERTAIN_VALUES = 1 << 18
CERTAIN_CHI2 = 420.0  # of 255 degrees of freedom; what a quantiser packs is far off with so many values


class Plausibility:
    """Takes a file's bytes in order; `conclude` says what they look like.

    Args:
        tensors: of the file.
        start_bytes: where the file begins in the image, whose sectors count.
        unread: ranges of the file that were never read from the drive: what stands there is the image's, and known.
    """

    def __init__(self, tensors: Sequence[Tensor], *, start_bytes: int = 0, unread: ExtentSet | None = None) -> None:
        self._places = places_of(tensors)
        self._begins = [place.begin for place in self._places]
        self._shift = start_bytes % BLOCK_BYTES
        self._unread = unread or ExtentSet()
        self._spans: list[Span] = []
        self._runs: list[Span] = []
        self._nans: dict[int, int] = {}
        self._signatures: list[tuple[int, str]] = []
        self._full = False
        self._last = (-1, -1)  # end and byte of what may be a run that goes on
        self._tallies = np.zeros((2, 256), dtype=np.int64)
        self._packed_tallies = np.zeros((2, 256), dtype=np.int64)
        self._found = np.zeros((MAX_RUNS_A_CALL, 3), dtype=np.int64)

    @property
    def wanted(self) -> bool:
        """Whether any tensor is of a kind that can be judged."""
        return bool(self._places)

    def take(self, offset_bytes: int, piece: bytes) -> None:
        """Look at the file's bytes from `offset_bytes` on; pieces come in ascending order."""
        data = np.frombuffer(piece, dtype=np.uint8)
        end_bytes = offset_bytes + len(piece)
        index = max(0, bisect_right(self._begins, offset_bytes) - 1)
        while index < len(self._places) and self._places[index].begin < end_bytes:
            place = self._places[index]
            low, high = max(place.begin, offset_bytes), min(place.end, end_bytes)
            if high > low:
                inside = data[low - offset_bytes : high - offset_bytes]
                self._take_blocks(index, place, low, inside)
            if high > low and place.runs:
                before = max(offset_bytes, self._places[index - 1].end) if index else low
                padding = low - before if low - before <= PADDING_BYTES else 0  # a run goes on through it
                self._take_runs(low - padding, data[low - padding - offset_bytes : high - offset_bytes])
                if len(self._signatures) < MAX_SIGNATURES:
                    self._signatures += find_signatures(inside, low, -(low + self._shift) % SECTOR_BYTES)
            index += 1

    def _take_runs(self, low: int, data: npt.NDArray[np.uint8]) -> None:
        from signatures.kernels.surveys import find_runs

        end, byte = self._last
        count = find_runs(data, byte if end == low else -1, self._found)
        self._last = (-1, -1)
        for first, stop, value in self._found[:count].tolist():
            if self._runs and self._runs[-1].end == low + first and self._runs[-1].kind == value:
                self._runs[-1].end = low + stop
            else:
                self._drop_short_run()
                self._runs.append(Span(start=low + first, end=low + stop, kind=value))
            if stop == len(data):
                self._last = (low + stop, value)
        self._full = self._full or len(self._runs) > MAX_RUNS or count == MAX_RUNS_A_CALL
        if self._full:
            self._runs.clear()

    def _drop_short_run(self) -> None:
        if self._runs and self._runs[-1].end - self._runs[-1].start < SECTOR_BYTES:
            self._runs.pop()

    def _take_blocks(self, index: int, place: Place, low: int, data: npt.NDArray[np.uint8]) -> None:
        from signatures.kernels.surveys import survey_blocks, survey_packed

        skip = -(low + self._shift) % BLOCK_BYTES
        blocks = (len(data) - skip) // BLOCK_BYTES
        if blocks <= 0 or len(self._spans) > MAX_SPANS:
            return
        classes = np.empty(blocks, dtype=np.uint8)
        whole = data[skip : skip + blocks * BLOCK_BYTES]
        if place.lane_bytes:
            phase = (place.begin - low - skip) % place.lane_bytes
            nans = survey_blocks(whole, phase, place.lane_bytes, place.exponent_low, classes, self._tallies)
            if nans:
                self._nans[index] = self._nans.get(index, 0) + nans
        else:
            survey_packed(whole, classes, self._packed_tallies)
        edges = np.flatnonzero(np.diff(classes)) + 1
        for first, stop in zip([0, *edges.tolist()], [*edges.tolist(), blocks], strict=True):
            self._add_span(low + skip + first * BLOCK_BYTES, low + skip + stop * BLOCK_BYTES, int(classes[first]))

    def _add_span(self, start: int, end: int, kind: int) -> None:
        last = self._spans[-1] if self._spans else None
        if last is not None and last.kind == kind and start - last.end <= JOIN_BYTES:
            last.end = end
        else:
            self._spans.append(Span(start=start, end=end, kind=kind))

    def conclude(self) -> Evidence:
        """Return what was seen, once all bytes were taken."""
        self._drop_short_run()
        return Conclusion(
            places=self._places,
            begins=self._begins,
            shift=self._shift,
            spans=self._spans,
            runs=[run for run in self._runs if not self._is_unread(run)],
            certain=_certainly_random(self._tallies[1]),
            packed_certain=_certainly_random(self._packed_tallies[1]),
        ).evidence(self._nans, self._signatures)

    def _is_unread(self, run: Span) -> bool:
        """Whether most of a run was never read: others tell of it."""
        if not self._unread:
            return False
        return 2 * self._unread.within(span(run.start, run.end)).total_bytes >= run.end - run.start


def examine(window: Window, tensors: Sequence[Tensor], *, start_bytes: int = 0) -> Evidence:
    """Return what the bytes of a whole file look like.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    seen = Plausibility(tensors, start_bytes=start_bytes)
    at_bytes = 0
    for piece in window.chunks(0, window.size_bytes if seen.wanted else 0):
        seen.take(at_bytes, piece)
        at_bytes += len(piece)
    return seen.conclude()


def _certainly_random(counts: npt.NDArray[np.int64]) -> bool:
    """Whether the exponents of all uniform blocks together are uniform, too: no quantiser packs so evenly."""
    number = int(counts.sum())
    if number < CERTAIN_VALUES:
        return False
    return float((counts.astype(np.float64) ** 2).sum()) * 256 / number - number < CERTAIN_CHI2
