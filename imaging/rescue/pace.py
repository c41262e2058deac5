"""Pace: how large the first pass reads, and how far it jumps out of trouble, by what the reads before have given.

Damage of one cause looks alike: one dead head leaves stripes of one width, at one distance. So the width of zones that
are alike is learned (each one that is crossed halves what is not known of it), and where three begin at equal
distances, the next are jumped over before they are touched. Nothing that is jumped over is lost: later passes read it.

Places are counted in bytes on the way, so that they grow also where a pass goes backward.
"""

from __future__ import annotations

from dataclasses import dataclass

from imaging.rescue.options import Geometry

CALM_BYTES = 1 << 30  # so much clean reading, and the drive is trusted with large reads again
SECOND_GROWTH, GROWTH = 2, 4  # a jump from cluster to cluster is small, then soon large: each landing costs an error
FIRST_TRUST, TRUST = 3, 15  # so many zones are jumped over untouched before one is touched again


@dataclass(slots=True)
class _Crossing:
    """Trouble that is not left behind yet: its first failure, and where the latest one begins."""

    start: int
    first_end: int
    last: int
    hits: int = 1


@dataclass(frozen=True, slots=True)
class _Rhythm:
    """Zones at equal distances.

    Attributes:
        anchor: where the last one that was touched begins.
        period: from the start of one to the start of the next.
        jumped: how many were jumped over since.
        trust: how many more may be.
    """

    anchor: int
    period: int
    jumped: int
    trust: int

    @property
    def expected(self) -> int:
        """Where the next one begins."""
        return self.anchor + self.period * (self.jumped + 1)


class Pace:
    """What the first pass has learned."""

    def __init__(self, geometry: Geometry, *, troubled: bool, growth: int = GROWTH) -> None:
        """Begin; on a drive whose map knows of trouble with clusters, else with large reads."""
        self._growth = growth
        self._geometry = geometry
        self._slack = 2 * geometry.cluster_bytes
        self._calm_bytes = 0 if troubled else CALM_BYTES
        self._crossing: _Crossing | None = None
        self._skip_bytes = 0
        self._least = self._most = 0  # between these lies the width of the zones; 0: none is known
        self._left_at = 0  # where the last trouble was left behind
        self._is_apart = True  # what is good between zones is worth it: else a jump would leave more than it spares
        self._alike = 0  # how many zones were like the one before
        self._starts: list[int] = []
        self._rhythm: _Rhythm | None = None

    @property
    def cluster_bytes(self) -> int:
        """How much to read next."""
        return self._geometry.large_bytes if self._calm_bytes >= CALM_BYTES else self._geometry.cluster_bytes

    def may_jump_at(self, end: int) -> bool:
        """Tell whether a jump may follow also a clean read that ends there: nothing is to be read ahead then."""
        rhythm = self._rhythm
        return self._crossing is not None or (rhythm is not None and end >= rhythm.expected - self._slack)

    def after_clean(self, start: int, end: int) -> int:
        """Return how many bytes to jump over after a clean read."""
        if self._crossing is not None:
            self._leave(self._crossing, start)
            self._crossing, self._left_at = None, start
        self._calm_bytes += end - start
        rhythm = self._rhythm
        if rhythm is None:
            return 0
        if end > rhythm.expected + self._most:  # nothing was there
            self._rhythm, self._starts = None, []
            return 0
        if end < rhythm.expected - self._slack or rhythm.trust == 0:
            return 0
        self._rhythm = _Rhythm(rhythm.anchor, rhythm.period, rhythm.jumped + 1, rhythm.trust - 1)
        return rhythm.expected + self._most + self._geometry.cluster_bytes - end

    def after_trouble(self, start: int, end: int) -> int:
        """Return how many bytes to jump over after a read that failed or was slow."""
        self._calm_bytes = 0
        initial_bytes = self._geometry.initial_skip_bytes
        if self._crossing is None:
            self._crossing = _Crossing(start, end, start)
            self._is_apart = 2 * (start - self._left_at) >= self._least
            self._skip_bytes = initial_bytes
            # a large read that failed has hidden more than enough
            return 0 if end - start > self._geometry.cluster_bytes else initial_bytes
        self._crossing.hits += 1
        self._crossing.last = start
        learned = self._learned_jump(self._crossing, end) if initial_bytes else 0
        if learned > 0:
            return learned
        growth = SECOND_GROWTH if self._crossing.hits == 2 else self._growth
        self._skip_bytes = min(self._skip_bytes * growth, self._geometry.max_skip_bytes)
        return self._skip_bytes

    def _learned_jump(self, crossing: _Crossing, end: int) -> int:
        """Return how far it is out of a zone like those before; 0 or less where that is not known, or was wrong."""
        if self._alike == 0 or not self._is_apart or crossing.hits > 3:
            return 0
        known = self._most - self._least <= self._slack
        width = self._most if known or crossing.hits == 3 else (self._least + self._most) // 2
        return crossing.start + width - end

    def _leave(self, crossing: _Crossing, clean: int) -> None:
        """Learn from a zone whose far side is reached; a single failure is none, and a large one has no clear edge."""
        if crossing.hits == 1 or crossing.first_end - crossing.start > self._geometry.cluster_bytes:
            return
        least, most = max(crossing.last - crossing.first_end, 0), clean - crossing.start
        low, high = max(least, self._least), min(most, self._most)
        if self._most and self._is_apart and low <= high + self._slack:
            self._alike += 1
            self._least, self._most = min(low, high), max(low, high)
        else:
            self._alike, self._least, self._most = 0, least, most
            self._rhythm, self._starts = None, []
        self._starts = [*self._starts[-2:], crossing.start]
        self._find_rhythm(crossing.start)

    def _find_rhythm(self, start: int) -> None:
        rhythm = self._rhythm
        if rhythm is not None:
            period = (start - rhythm.anchor) // (rhythm.jumped + 1)
            self._rhythm = _Rhythm(start, period, 0, TRUST)
        elif len(self._starts) == 3:
            first, second, third = self._starts
            if abs(third - second - (second - first)) <= self._slack and 2 * (third - second) >= 3 * self._least:
                self._rhythm = _Rhythm(third, (third - first) // 2, 0, FIRST_TRUST)
