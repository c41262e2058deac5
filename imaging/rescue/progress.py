"""Progress: what a rescue tells of itself, while it runs and at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from imaging.extent import Extent, ExtentSet
from imaging.mapfile import BlockStatus, Mapfile
from imaging.rescue.plan import Phase

REPORT_SECONDS = 0.25
RATE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What the whole map knows of the drive, in bytes by status; a bad area is a run of bad sectors."""

    size_bytes: int
    rescued_bytes: int
    non_tried_bytes: int
    non_trimmed_bytes: int
    non_scraped_bytes: int
    bad_bytes: int
    bad_areas: int

    def __sub__(self, other: Totals) -> Totals:
        """Return what is left without `other`, a part of it."""
        return Totals(**{field.name: getattr(self, field.name) - getattr(other, field.name) for field in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a running rescue is.

    Attributes:
        phase: copying, trimming, scraping, retrying or finished; `phase.word` is the word.
        pass_number: the pass of that phase, from 1.
        position_bytes: what is read next.
        totals: what the map knows of what was asked for (the range, the domain).
        reads: reads of the drive in this run.
        read_errors: how many of them failed.
        rate_bytes: bytes rescued a second, over about the last second.
        average_rate_bytes: the same over the whole run.
        seconds: since the run began.
        since_success_seconds: since a read last gave anything.
        last_error_bytes: where the latest failed read began; None while there was none.
        waiting_seconds: how long the drive has owed an answer, or has been gone; 0 while it answers.
        hung: a read has passed its deadline, and the drive answers nobody.
        gone: the drive has vanished, and is waited for.
        hangs: reads of this run that passed their deadline; what they asked for is left for last.
        slow_reads: reads of this run that were slower than they should be, while that was looked at.
    """

    phase: Phase
    pass_number: int
    position_bytes: int
    totals: Totals
    reads: int
    read_errors: int
    rate_bytes: float
    average_rate_bytes: float
    seconds: float
    since_success_seconds: float
    last_error_bytes: int | None
    waiting_seconds: float = 0.0
    hung: bool = False
    gone: bool = False
    hangs: int = 0
    slow_reads: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RescueSummary:
    """How a run ended.

    Attributes:
        finished: everything that was asked for is done (bad sectors may remain); False: stopped on request.
        totals: what the map knows.
        asked: what it knows of what was asked for (the range, the domain); None: that was all of the drive.
        rescued_bytes: what this run added.
        reads: reads of the drive in this run.
        read_errors: how many of them failed.
        seconds: how long it took.
        last_error_bytes: where the latest failed read began; None when none did.
        source_end_bytes: where the source ended before the size that it had claimed; None when it did not.
        limit: which limit ended the run (see `limits`), in words; None when none did.
        hung: what was asked for by reads that passed their deadline, in order; it may have been read since.
        returned_as: the names under which the drive came back after it had vanished, in order.
        blank_after_errors_bytes: bytes that read as one repeated sector right after errors (see `zero_alarm`).
        blank_alarm: there are so many of them that a bridge may have answered without data.
    """

    finished: bool
    totals: Totals
    rescued_bytes: int
    reads: int
    read_errors: int
    seconds: float
    last_error_bytes: int | None
    source_end_bytes: int | None
    asked: Totals | None = None
    limit: str | None = None
    hung: tuple[Extent, ...] = ()
    returned_as: tuple[str, ...] = ()
    blank_after_errors_bytes: int = 0
    blank_alarm: bool = False

    @property
    def stopped(self) -> bool:
        """Whether it was stopped, on request or by a limit; the same call goes on."""
        return not self.finished


def outside_of(mapfile: Mapfile, domain: ExtentSet) -> Totals:
    """Count what a map knows outside of what is asked for, which no run changes; O(n), so do it once.

    A bad area that reaches inside counts as inside.
    """
    held = {status: mapfile.extents(status) for status in BlockStatus}
    outer_bytes = {status: (extents - domain).total_bytes for status, extents in held.items()}
    return Totals(
        size_bytes=sum(outer_bytes.values()),
        rescued_bytes=outer_bytes[BlockStatus.FINISHED],
        non_tried_bytes=outer_bytes[BlockStatus.NON_TRIED],
        non_trimmed_bytes=outer_bytes[BlockStatus.NON_TRIMMED],
        non_scraped_bytes=outer_bytes[BlockStatus.NON_SCRAPED],
        bad_bytes=outer_bytes[BlockStatus.BAD_SECTOR],
        bad_areas=sum(not domain.touches(extent) for extent in held[BlockStatus.BAD_SECTOR]),
    )


def totals_of(mapfile: Mapfile) -> Totals:
    """Count a map."""
    return Totals(
        size_bytes=mapfile.size_bytes,
        rescued_bytes=mapfile.count_bytes(BlockStatus.FINISHED),
        non_tried_bytes=mapfile.count_bytes(BlockStatus.NON_TRIED),
        non_trimmed_bytes=mapfile.count_bytes(BlockStatus.NON_TRIMMED),
        non_scraped_bytes=mapfile.count_bytes(BlockStatus.NON_SCRAPED),
        bad_bytes=mapfile.count_bytes(BlockStatus.BAD_SECTOR),
        bad_areas=mapfile.count_blocks(BlockStatus.BAD_SECTOR),
    )


class Stopwatch:
    """Time and rates of one run.

    Attributes:
        now_seconds: the clock at the latest `tick`.
        last_error_bytes: where the latest failed read began.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.now_seconds = self._start_seconds = self._success_seconds = clock()
        self._window_seconds, self._window_bytes = self._start_seconds, 0
        self._report_seconds: float | None = None
        self.rescued_bytes = 0
        self.rate_bytes = 0.0
        self.last_error_bytes: int | None = None

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self.now_seconds - self._start_seconds

    @property
    def since_success_seconds(self) -> float:
        """Since a read last gave anything."""
        return self.now_seconds - self._success_seconds

    def tick(self, rescued_bytes: int) -> None:
        """Note that a read ended, and what it gave."""
        self.now_seconds = self._clock()
        self.rescued_bytes += rescued_bytes
        if rescued_bytes:
            self._success_seconds = self.now_seconds
        past_seconds = self.now_seconds - self._window_seconds
        if past_seconds >= RATE_SECONDS:
            self.rate_bytes = (self.rescued_bytes - self._window_bytes) / past_seconds
            self._window_seconds, self._window_bytes = self.now_seconds, self.rescued_bytes
        elif 0 < self.seconds < RATE_SECONDS:  # the first second is not over
            self.rate_bytes = self.rescued_bytes / self.seconds

    def report_is_due(self) -> bool:
        """Tell whether it is time to say something; True starts the next wait."""
        if self._report_seconds is not None and self.now_seconds - self._report_seconds < REPORT_SECONDS:
            return False
        self._report_seconds = self.now_seconds
        return True


def progress_of(
    mapfile: Mapfile,
    stopwatch: Stopwatch,
    *,
    reads: int,
    read_errors: int,
    hangs: int,
    slow_reads: int = 0,
    outside: Totals | None = None,
) -> Progress:
    """Return where a run is, by its map and its stopwatch; `outside` was not asked for, and does not count."""
    totals = totals_of(mapfile)
    return Progress(
        phase=Phase(mapfile.current_status),
        pass_number=mapfile.current_pass,
        position_bytes=mapfile.position_bytes,
        totals=totals if outside is None else totals - outside,
        reads=reads,
        read_errors=read_errors,
        rate_bytes=stopwatch.rate_bytes,
        average_rate_bytes=stopwatch.rescued_bytes / stopwatch.seconds if stopwatch.seconds > 0 else 0.0,
        seconds=stopwatch.seconds,
        since_success_seconds=stopwatch.since_success_seconds,
        last_error_bytes=stopwatch.last_error_bytes,
        hangs=hangs,
        slow_reads=slow_reads,
    )
