"""Limits: when a rescue gives up, how fast it may read, and where it pauses; meanings are GNU ddrescue's."""

from __future__ import annotations

from dataclasses import dataclass

from imaging.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What ends or slows a rescue. None: without limit.

    Attributes:
        max_read_errors: more failed reads than this in one run end it (-X).
        max_bad_areas: more separate bad areas than this in the map end it (-e).
        count_new_areas: only the areas count that this run has added (-e +N).
        max_error_rate_bytes: more bytes of failed reads within a second end it (-E).
        timeout_seconds: so long without a successful read ends it (-T).
        max_read_rate_bytes: never read more bytes a second (-Z); at least one read a second.
        pause_on_error_seconds: wait after each failed read (--pause-on-error).
        pause_on_pass_seconds: wait between passes (--pause-on-pass).
        reopen_on_error: open the drive anew after each failed read of the copying phase (-O).
    """

    max_read_errors: int | None = None
    max_bad_areas: int | None = None
    count_new_areas: bool = False
    max_error_rate_bytes: int | None = None
    timeout_seconds: float | None = None
    max_read_rate_bytes: int | None = None
    pause_on_error_seconds: float = 0.0
    pause_on_pass_seconds: float = 0.0
    reopen_on_error: bool = False

    def check(self) -> None:
        """Refuse limits that cannot be.

        Raises:
            UsageError: a negative number, or a rate of nothing.
        """
        counts = (self.max_read_errors, self.max_bad_areas, self.max_error_rate_bytes, self.timeout_seconds)
        if any(count is not None and count < 0 for count in counts):
            raise UsageError("a limit is 0 or more")
        if self.max_read_rate_bytes is not None and self.max_read_rate_bytes <= 0:
            raise UsageError("the maximum read rate is more than 0 bytes a second")
        if self.pause_on_error_seconds < 0 or self.pause_on_pass_seconds < 0:
            raise UsageError("a pause is 0 seconds or more")
