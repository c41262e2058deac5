"""Slowness: which reads come too slowly, so that their neighbourhood is better left for later.

A weak area is read in the end, but each of its sectors may take the drive seconds of trying. GNU ddrescue looks at the
rate once a second. Here every read is judged by its own latency, as measured beside the drive: a read of a tenth of a
second or more by itself, quicker ones together until they fill a tenth, so that a seek between fast reads is no slow
read. Where no rate was given the quicker ones are never slow: reading backward is that, and no weakness.
"""

from __future__ import annotations

from dataclasses import dataclass

from imaging.errors import UsageError

STRETCH_SECONDS = 0.1
SLOW_SHARE = 10  # slow is what comes at less than a tenth of the usual rate: ddrescue's manual, --min-read-rate=0
MEMORY = 64  # so many stretches make what is usual: a slow zone is long left when it seems so, a slow drive soon does


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowReads:
    """When a read is slow, and how many may be.

    Attributes:
        min_read_rate_bytes: slow is what comes at fewer bytes a second (-a); 0: than a tenth of the average of the
            run; None: in the default order, than a tenth of what is usual; in the compatible one nothing is slow.
        delay_slow_seconds: the first seconds of a run are not judged (--delay-slow), where a rate is given.
        max_slow_reads: more slow reads than this in the first two passes end the run (--max-slow-reads); None: any.
        reset_slow: only slow reads in a row count (--reset-slow).
    """

    min_read_rate_bytes: int | None = None
    delay_slow_seconds: float = 30.0
    max_slow_reads: int | None = None
    reset_slow: bool = False

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            UsageError: a negative number, or a limit of slow reads where nothing says what is slow.
        """
        if (self.min_read_rate_bytes or 0) < 0 or self.delay_slow_seconds < 0 or (self.max_slow_reads or 0) < 0:
            raise UsageError("a minimum read rate, its delay and a number of slow reads cannot be negative")
        if self.max_slow_reads is not None and self.min_read_rate_bytes is None:
            raise UsageError("--max-slow-reads needs --min-read-rate (-a), which says what is slow; -a 0 finds out")


class SlowJudge:
    """Judges the reads of one run, in order.

    Attributes:
        slow_reads: how many were slow; with `reset_slow`, how many of them in a row.
    """

    def __init__(self, rules: SlowReads, *, adaptive: bool) -> None:
        """Judge by the rules; where they give no rate, by what is usual if `adaptive`, else not at all."""
        self._rules = rules
        self._adaptive = adaptive
        self._bytes = 0
        self._seconds = 0.0
        self._usual_rate: float | None = None
        self.slow_reads = 0

    @property
    def limit(self) -> str | None:
        """The limit that has ended the run, for the user; None while there were no more slow reads than allowed."""
        allowed = self._rules.max_slow_reads
        if allowed is None or self.slow_reads <= allowed:
            return None
        reads = "read was" if allowed == 1 else "reads were"
        return f"more than {allowed} {reads} slow (--max-slow-reads)"

    def judge(self, size_bytes: int, seconds: float, *, run_seconds: float, average_rate_bytes: float) -> bool:
        """Tell whether a read that gave all of its bytes was slow.

        Args:
            size_bytes: how much it gave.
            seconds: how long the drive took for it.
            run_seconds: how long the run has taken so far.
            average_rate_bytes: what the run has rescued a second.
        """
        alone = seconds >= STRETCH_SECONDS
        if not alone:
            self._bytes, self._seconds = self._bytes + size_bytes, self._seconds + seconds
            if self._seconds < STRETCH_SECONDS:
                return False
            size_bytes, seconds = self._bytes, self._seconds
        self._bytes, self._seconds = 0, 0.0
        rate = size_bytes / seconds
        slow = rate < self._least_rate(run_seconds, average_rate_bytes, alone=alone)
        usual = rate if self._usual_rate is None else self._usual_rate
        self._usual_rate = usual + (rate - usual) / MEMORY
        if slow:
            self.slow_reads += 1
        elif self._rules.reset_slow:
            self.slow_reads = 0
        return slow

    def _least_rate(self, run_seconds: float, average_rate_bytes: float, *, alone: bool) -> float:
        rules = self._rules
        if rules.min_read_rate_bytes is None:
            return (self._usual_rate or 0.0) / SLOW_SHARE if self._adaptive and alone else 0.0
        if run_seconds < rules.delay_slow_seconds:
            return 0.0
        return rules.min_read_rate_bytes or average_rate_bytes / SLOW_SHARE
