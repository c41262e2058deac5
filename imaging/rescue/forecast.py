"""Forecast: how long a rescue may still take, and what the rest of it is likely to win; pure counting, no drive.

Each phase lives off one status of the map: copying off what was not tried, trimming off what was not trimmed, scraping
off what was not scraped. What is left of the phase divided by how fast it shrank during the last half minute is its
remaining time, so slow zones, errors and hangs of that half minute count as they are. A retry pass asks for each bad
sector once: its reads left, at the seconds that a read took lately. While too little was seen, or nothing moves, the
time is unknown (None), not a guess. Phases may take turns: what trimming finds not tried is copied later, at a pace
that nobody knows yet. What copying leaves behind in bad areas is counted in reads of one sector, at most;
what these will take is known once such reads are made, and not before: a bad sector may cost a thousand good ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from imaging.rescue.plan import Phase
from imaging.rescue.progress import Progress, Totals

WINDOW_SECONDS = 30.0
LEAST_SECONDS = 2.0  # less says nothing of a rate

LEFT: Mapping[Phase, Callable[[Totals], int]] = {
    Phase.COPYING: lambda totals: totals.non_tried_bytes,
    Phase.TRIMMING: lambda totals: totals.non_trimmed_bytes,
    Phase.SCRAPING: lambda totals: totals.non_scraped_bytes,
    Phase.RETRYING: lambda totals: totals.bad_bytes,
    Phase.FINISHED: lambda totals: 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is to come, as far as counts and rates tell.

    Attributes:
        phase: the phase it speaks of.
        seconds: to the end of the phase (of the pass, while retrying); None: unknown.
        reads: reads of one sector to that end, at most; None while copying, which reads clusters.
        later_bytes: what was not tried and is still to be copied, once this phase is through.
        later_reads: reads of one sector that the phases behind it may need, at most, retry passes left out.
        later_seconds: how long those would take at the present pace; None: unknown.
        tried: reads of this phase that this run has made.
        won: how many of them gave what they asked for.
    """

    phase: Phase
    seconds: float | None
    reads: int | None
    later_bytes: int
    later_reads: int
    later_seconds: float | None
    tried: int
    won: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """Where the counts stood at one time."""

    seconds: float
    reads: int
    read_errors: int
    left_bytes: int


class Forecaster:
    """Follows the progress of one run."""

    def __init__(self, *, sector_bytes: int, sweeps: bool = True, trims: bool = True, scrapes: bool = True) -> None:
        """Begin.

        Args:
            sector_bytes: what trimming, scraping and retrying read at a time.
            sweeps: the last pass of copying is not left out.
            trims: the trimming phase is not left out.
            scrapes: nor is the scraping phase.
        """
        self._sector_bytes = sector_bytes
        self._sweeps, self._trims, self._scrapes = sweeps, trims, scrapes
        self._phase, self._pass_number = Phase.COPYING, 0
        self._phase_begin: _Mark | None = None
        self._pass_begin: _Mark | None = None
        self._recent: deque[_Mark] = deque()

    def note(self, progress: Progress) -> Forecast:
        """Take the latest progress in, and return what it makes likely."""
        mark = _Mark(
            seconds=progress.seconds,
            reads=progress.reads,
            read_errors=progress.read_errors,
            left_bytes=LEFT[progress.phase](progress.totals),
        )
        if self._phase_begin is None or progress.phase is not self._phase:
            self._phase, self._phase_begin = progress.phase, mark
            self._recent.clear()
            self._pass_number = 0
        if self._pass_begin is None or progress.pass_number != self._pass_number:
            self._pass_number, self._pass_begin = progress.pass_number, mark
        self._recent.append(mark)
        while len(self._recent) > 2 and self._recent[1].seconds <= mark.seconds - WINDOW_SECONDS:
            self._recent.popleft()
        return self._forecast(progress, mark, self._phase_begin, self._pass_begin)

    def _forecast(self, progress: Progress, now: _Mark, phase_begin: _Mark, pass_begin: _Mark) -> Forecast:
        tried = now.reads - phase_begin.reads
        seconds_a_read = self._seconds_a_read(now)
        reads: int | None
        if progress.phase is Phase.RETRYING:
            reads = max(self._sectors(pass_begin.left_bytes) - (now.reads - pass_begin.reads), 0)
            seconds = _times(reads, seconds_a_read)
        else:
            reads = None if progress.phase is Phase.COPYING else self._sectors(now.left_bytes)
            seconds = self._shrinking(now)
        later_reads = self._later_reads(progress)
        later_bytes = progress.totals.non_tried_bytes if progress.phase is Phase.TRIMMING and self._sweeps else 0
        later_is_known = progress.phase is not Phase.COPYING and not later_bytes
        return Forecast(
            phase=progress.phase,
            seconds=None if progress.hung or progress.gone else seconds,
            reads=reads,
            later_bytes=later_bytes,
            later_reads=later_reads,
            later_seconds=_times(later_reads, seconds_a_read) if later_is_known else None,
            tried=tried,
            won=tried - (now.read_errors - phase_begin.read_errors),
        )

    def _shrinking(self, now: _Mark) -> float | None:
        """Return how long what is left lasts as it shrank lately."""
        if now.left_bytes == 0:
            return 0.0
        first = self._recent[0]
        past_seconds, gone_bytes = now.seconds - first.seconds, first.left_bytes - now.left_bytes
        if past_seconds < LEAST_SECONDS or gone_bytes <= 0:
            return None
        return now.left_bytes * past_seconds / gone_bytes

    def _seconds_a_read(self, now: _Mark) -> float | None:
        first = self._recent[0]
        past_seconds, reads = now.seconds - first.seconds, now.reads - first.reads
        return past_seconds / reads if past_seconds >= LEAST_SECONDS and reads > 0 else None

    def _later_reads(self, progress: Progress) -> int:
        """Return how many sectors the phases behind this one would read."""
        totals, later_bytes = progress.totals, 0
        if self._scrapes and progress.phase in (Phase.COPYING, Phase.TRIMMING):
            later_bytes += totals.non_scraped_bytes
        if progress.phase is Phase.COPYING and self._trims:
            # trimming ends at the first failure of each edge, and leaves the rest to scraping
            later_bytes += totals.non_trimmed_bytes
        return self._sectors(later_bytes)

    def _sectors(self, size_bytes: int) -> int:
        return -(-size_bytes // self._sector_bytes)


def _times(reads: int, seconds_a_read: float | None) -> float | None:
    if reads == 0:
        return 0.0
    return None if seconds_a_read is None else reads * seconds_a_read
