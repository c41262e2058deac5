"""The search for ONNX external data around its model: every sector gets a first look, and what is left is weighed.

A place is taken when it has three marks (see `_onnx_data_place`) and no other place comes near; else all are told.
Chance gives a mark now and then, and no third one; another version's data of the same tensors gives all of them, which
is why such a file is probable, never proven, unless the model tells its SHA-1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from imaging.errors import Interrupted
from imaging.extent import Extent, ExtentSet, span
from signatures._onnx_data_place import MARKS_NEEDED, NEIGHBOURS, Place, Weigher, proven_size
from signatures._onnx_data_plan import BLOCK_BYTES, DataFile
from signatures._onnx_data_probes import SECTOR_BYTES, Flags, FloatProbe, Probe, Readable, rows_of

FIRST_GAPS, FIRST_NUMBERS = 6, 2  # what every start is looked at by
FIRST_STEPS = 6
PIECE_SECTORS = 1 << 14
MAX_WEIGHED = 2048  # places a file
MAX_TOLD = 16
SOME_TRACES = 2
FAR_BYTES = 2 << 30  # on either side of the model, where gaps or whole numbers let most starts die at once
NEAR_BYTES = 128 << 20  # where nothing but floats can be looked at
MAX_HASHED = 64
MAX_HASHED_BYTES = 64 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search came to.

    Attributes:
        places: those with enough marks and their rivals, and where there are none the best others; bounded.
        taken: the one that is the file's, or None.
        proven_bytes: the file's length when its SHA-1 agreed there, else 0.
        searched_bytes: on either side of the model.
        crowded: more places fitted than could be weighed.
        in_part: what is told are places that something speaks against, too.
        unlike_sum: there is a place, and its bytes have not the SHA-1 that the model tells.
    """

    places: tuple[Place, ...] = ()
    taken: Place | None = None
    proven_bytes: int = 0
    searched_bytes: int = 0
    crowded: bool = False
    in_part: bool = False
    unlike_sum: bool = False


def _rivals(place: Place, best: Place, size_bytes: int) -> bool:
    """Tell whether a place shows so much of what the best one shows that chance does not explain it.

    One that overlaps the best sees most of the same bytes, a layer too early or too late: it must show as much.
    """
    if abs(place.start_bytes - best.start_bytes) < size_bytes:
        return place.marks >= best.marks or place.seen >= best.seen
    alike = place.marks > 1 and best.traces <= 2 * place.traces
    return alike if best.traces else alike or place.marks >= MARKS_NEEDED


@dataclass(slots=True)
class Search:
    """The search for one data file.

    Args:
        source: the image.
        file: what the model tells.
        model: where the model lies.
        claimed: bytes of good files; the data lies in none of them.
        stop: asked now and then; True ends the search.
        was_read: as of `Weigher`.
    """

    source: Readable
    file: DataFile
    model: Extent
    claimed: ExtentSet
    stop: Callable[[], bool] = lambda: False
    was_read: Callable[[Extent], bool] = lambda _: True
    _weigher: Weigher = field(init=False)

    def __post_init__(self) -> None:
        self._weigher = Weigher(source=self.source, file=self.file, claimed=self.claimed, was_read=self.was_read)

    @property
    def is_cheap(self) -> bool:
        """Whether paddings or whole numbers let most starts die at the first look; else each costs 16 times as much."""
        return bool(self._weigher.gaps or self._weigher.numbers)

    def find(self, most_bytes: int = FAR_BYTES) -> Found:
        """Look around the model, at most so far.

        Raises:
            Interrupted: stopped.
            ReadFault: from the source.
        """
        reach = min(most_bytes, FAR_BYTES if self.is_cheap else NEAR_BYTES)
        low = max(0, self.model.offset_bytes - self.file.size_bytes - reach)
        high = min(self.source.size_bytes - self.file.size_bytes, self.model.end_bytes + reach) + 1
        fitting: list[Place] = []
        crowded = False
        for start in self._starts(low, high):
            if len(fitting) >= MAX_WEIGHED:
                crowded = True
                break
            if self._weigher.fits(start):
                fitting.append(self._weigher.weigh(start))
        reach = min(reach, self.source.size_bytes)
        if not fitting:
            return Found(places=tuple(self._in_part(low, high)[:MAX_TOLD]), searched_bytes=reach, in_part=True)
        return self._concluded(fitting, reach, crowded)

    def _in_part(self, low: int, high: int) -> list[Place]:
        """Return places right behind other files that show traces of the data, though something speaks against them."""
        around = self.claimed.within(span(low, max(low, high)))
        ends = {-(-extent.end_bytes // unit) * unit for extent in around for unit in (SECTOR_BYTES, BLOCK_BYTES)}
        starts = (start for start in sorted(ends)[:MAX_WEIGHED] if start < high)
        return [place for start in starts if (place := self._weigher.weigh(start)).traces >= SOME_TRACES]

    def _starts(self, low: int, high: int) -> Iterator[int]:
        """Yield the sectors of `[low, high)` that a first look does not rule out."""
        low = -(-low // SECTOR_BYTES) * SECTOR_BYTES
        for first in range(low, high, PIECE_SECTORS * SECTOR_BYTES):
            if self.stop():
                raise Interrupted("stopped while looking for ONNX data; the same command goes on from here")
            count = min(PIECE_SECTORS, -(-(high - first) // SECTOR_BYTES))
            left = self._first_look(first, count)
            yield from (first + SECTOR_BYTES * number for number in np.flatnonzero(left).tolist())

    def _first_look(self, first: int, count: int) -> Flags:
        """Return which of `count` sectors from `first` on are worth weighing."""
        left, telling = np.ones(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
        hard: Sequence[Probe] = (*self._weigher.gaps[:FIRST_GAPS], *self._weigher.numbers[:FIRST_NUMBERS])
        for probe in hard:
            telling |= self._sieve(first, left, probe)
        plausible, alive = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)  # of those that are left
        for float_probe in self._weigher.floats:
            fits, tells = self._fitting(first, left, float_probe)
            plausible, alive = plausible + fits, alive + tells
        left &= 4 * plausible >= 3 * len(self._weigher.floats)
        left &= alive >= min(1, len(self._weigher.floats))
        return left & telling if hard else left & (self._step_peaks(first, left) | self._edges(first, left))

    def _sieve(self, first: int, left: Flags, probe: Probe) -> Flags:
        """Drop from `left` what a probe does not fit; return which it tells."""
        at, telling = np.flatnonzero(left), np.zeros_like(left)
        if not len(at):
            return telling
        rows = rows_of(self.source, first, len(left), probe)
        at, gone = at[at < len(rows)], at[at >= len(rows)]
        fits, tells = probe.look(rows[at])
        left[at], left[gone], telling[at] = fits, False, tells
        return telling

    def _fitting(self, first: int, left: Flags, probe: FloatProbe) -> tuple[Flags, Flags]:
        """Return which of `left` show plausible floats, and which show some that are not zero."""
        fits, tells, at = np.zeros_like(left), np.zeros_like(left), np.flatnonzero(left)
        if len(at):
            rows = rows_of(self.source, first, len(left), probe)
            at = at[at < len(rows)]
            fits[at], tells[at] = probe.look(rows[at])
        return fits, tells

    def _step_peaks(self, first: int, left: Flags) -> Flags:
        """Return the starts that show some steps, and twice as many as any nearby."""
        steps, at = np.zeros(len(left), dtype=np.int64), np.flatnonzero(left)
        for number, probe in enumerate(self._weigher.steps):
            if number == FIRST_STEPS:
                at = at[steps[at] > 0]  # inside a tensor, where most starts are, there was none
            if not len(at):
                break
            rows = rows_of(self.source, first, len(left), probe)
            inside = at[at < len(rows)]
            steps[inside] += probe.look(rows[inside])[1]
        beside = np.zeros_like(steps)
        for by in range(1, min(NEIGHBOURS, len(left) - 1) + 1):
            np.maximum(beside[by:], steps[:-by], out=beside[by:])
            np.maximum(beside[:-by], steps[by:], out=beside[:-by])
        peaks: Flags = (steps >= self._weigher.some_steps) & (2 * steps > 3 * beside)
        return peaks

    def _edges(self, first: int, left: Flags) -> Flags:
        """Return the starts that may be right behind another file or behind zeros."""
        edges = np.zeros_like(left)
        for number in np.flatnonzero(left & self._behind_zeros(first, len(left))).tolist():
            edges[number] = self._weigher.begins_at_edge(first + SECTOR_BYTES * number)
        return edges

    def _behind_zeros(self, first: int, count: int) -> Flags:
        """Return which sectors follow a zero byte, or the image's start, or a file's end: most others are dropped."""
        behind = np.zeros(count, dtype=np.bool_)
        before = self.source.read_at(max(0, first - 1), (count - 1) * SECTOR_BYTES + 1)
        last = np.frombuffer(before, dtype=np.uint8)[(0 if first else SECTOR_BYTES - 1) :: SECTOR_BYTES]
        shift = 0 if first else 1
        behind[shift : shift + len(last)] = last[: count - shift] == 0
        behind[0] |= first == 0
        if self._weigher.borders is not None:
            behind |= self._unlike_before(first, count, self._weigher.borders[1])
        for extent in self.claimed.within(span(max(0, first - 1), first + count * SECTOR_BYTES)):
            number = -(-(extent.end_bytes - first) // SECTOR_BYTES)
            if 0 <= number < count:
                behind[number] = True
        return behind

    def _unlike_before(self, first: int, count: int, before: FloatProbe) -> Flags:
        """Return which sectors follow what no weights are."""
        unlike = np.zeros(count, dtype=np.bool_)
        skip = 0 if first else 1
        if count > skip:
            rows = rows_of(self.source, first + skip * SECTOR_BYTES, count - skip, before)
            unlike[skip : skip + len(rows)] = ~before.look(rows)[0]
        return unlike

    def _concluded(self, fitting: list[Place], reach: int, crowded: bool) -> Found:
        fitting.sort(key=lambda place: (-place.marks, abs(place.start_bytes - self.model.end_bytes)))
        good = [place for place in fitting if place.marks >= MARKS_NEEDED]
        told = tuple((good or [place for place in fitting if place.marks > 1])[:MAX_TOLD])
        if self.file.sha1:
            place, size_bytes = self._proven(fitting)
            return Found(
                places=told,
                taken=place,
                proven_bytes=size_bytes,
                searched_bytes=reach,
                crowded=crowded,
                unlike_sum=bool(good) and place is None,
            )
        rivals = [place for place in fitting[1:] if good and _rivals(place, good[0], self.file.size_bytes)]
        if rivals:
            told = (good[0], *rivals[: MAX_TOLD - 1])
        taken = good[0] if good and not rivals and not crowded else None
        return Found(places=told, taken=taken, searched_bytes=reach, crowded=crowded)

    def _proven(self, fitting: Sequence[Place]) -> tuple[Place | None, int]:
        """Return the place whose bytes have the SHA-1 that the model tells, and how many they are."""
        hashed_bytes = 0
        for place in fitting[:MAX_HASHED]:
            hashed_bytes += self.file.size_bytes
            if hashed_bytes > MAX_HASHED_BYTES:
                break
            size_bytes = proven_size(self.source, place.start_bytes, self.file)
            if size_bytes:
                return place, size_bytes
        return None, 0
