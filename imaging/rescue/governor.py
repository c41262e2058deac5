"""Governor: holds a run to its limits. It counts reads and errors, waits where a wait is due, and says when to end."""

from __future__ import annotations

from collections.abc import Callable

from imaging.errors import Interrupted
from imaging.mapfile import BlockStatus, Mapfile
from imaging.rescue.limits import Limits
from imaging.rescue.plan import Phase, Read

WINDOW_SECONDS = 1.0  # over which the rate of errors is taken, as GNU ddrescue does
STEP_SECONDS = 0.1  # of a pause


class Governor:
    """Holds one run to its limits.

    Attributes:
        reached: the limit that ended the run, for the user; None while none did.
    """

    def __init__(
        self,
        limits: Limits,
        mapfile: Mapfile,
        *,
        now_seconds: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        meanwhile: Callable[[], bool],
    ) -> None:
        """Begin a run.

        Args:
            limits: its limits.
            mapfile: its map, whose bad areas are counted.
            now_seconds: the time on `clock`.
            clock: seconds, monotonic.
            sleep: lets seconds pass on that clock.
            meanwhile: is called several times a second during a pause; False: the user wants an end.
        """
        self._limits = limits
        self._mapfile = mapfile
        self._clock, self._sleep, self._meanwhile = clock, sleep, meanwhile
        self._areas_before = mapfile.count_blocks(BlockStatus.BAD_SECTOR) if limits.count_new_areas else 0
        self._success_seconds = self._window_seconds = self._next_seconds = now_seconds
        self._window_bytes = 0
        self._errors = 0
        self._pass: tuple[Phase, int] | None = None
        self.reached: str | None = None

    def before_read(self, read: Read) -> None:
        """Wait where a pass has ended, or where the last read was so large that the rate is used up.

        Raises:
            Interrupted: the user wants an end.
        """
        at = read.phase, read.pass_number
        if self._pass not in (None, at):
            self._wait(self._limits.pause_on_pass_seconds)
        self._pass = at
        if self._limits.max_read_rate_bytes is not None:
            now_seconds = self._clock()
            self._wait(self._next_seconds - now_seconds)
            seconds = min(read.extent.size_bytes / self._limits.max_read_rate_bytes, 1.0)
            self._next_seconds = max(self._next_seconds, now_seconds) + seconds

    def after_read(
        self,
        read: Read,
        good_bytes: int,
        now_seconds: float,
        *,
        failed: bool,
        slow: bool = False,
        limit: str | None = None,
    ) -> None:
        """Count a read; `reached` tells whether it was one too many, also where `limit` says so already.

        Raises:
            Interrupted: the user wants an end during the pause.
        """
        if good_bytes:
            self._success_seconds = now_seconds
        if failed:
            self._errors += 1
            if now_seconds - self._window_seconds >= WINDOW_SECONDS:
                self._window_seconds, self._window_bytes = now_seconds, 0
            self._window_bytes += read.extent.size_bytes - good_bytes
        self.reached = limit or self._broken(now_seconds)
        if (failed or slow) and self.reached is None:
            self._wait(self._limits.pause_on_error_seconds)

    def look(self, now_seconds: float) -> bool:
        """While a read waits: tell whether it has taken too long since anything was read."""
        self.reached = self._overdue(now_seconds)
        return self.reached is not None

    def _broken(self, now_seconds: float) -> str | None:
        limits = self._limits
        if limits.max_read_errors is not None and self._errors > limits.max_read_errors:
            reads = "read" if limits.max_read_errors == 1 else "reads"
            return f"more than {limits.max_read_errors} {reads} failed (-X)"
        if limits.max_bad_areas is not None:
            areas = self._mapfile.count_blocks(BlockStatus.BAD_SECTOR) - self._areas_before
            if areas > limits.max_bad_areas:
                new = "new " if limits.count_new_areas else ""
                if limits.max_bad_areas == 1:
                    return f"there is more than 1 {new}bad area (-e)"
                return f"there are more than {limits.max_bad_areas} {new}bad areas (-e)"
        if limits.max_error_rate_bytes is not None and self._window_bytes > limits.max_error_rate_bytes:
            unit = "byte" if limits.max_error_rate_bytes == 1 else "bytes"
            return f"more than {limits.max_error_rate_bytes} {unit} failed within a second (-E)"
        return self._overdue(now_seconds)

    def _overdue(self, now_seconds: float) -> str | None:
        timeout_seconds = self._limits.timeout_seconds
        if timeout_seconds is not None and now_seconds - self._success_seconds > timeout_seconds:
            return f"nothing was read for more than {timeout_seconds:g} s (-T)"
        return None

    def _wait(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            Interrupted: the user wants an end.
        """
        if seconds <= 0:
            return
        end_seconds = self._clock() + seconds
        while (left_seconds := end_seconds - self._clock()) > 0:
            if not self._meanwhile():
                raise Interrupted("stopped during a pause")
            self._sleep(min(left_seconds, STEP_SECONDS))
