"""Hooks: a command of the user's that is run when the drive hangs or is gone, to switch its power off and on.

    hook = Hook("./power-cycle --port 3", device="/dev/sdb", serial=…, tell=…)
    rescue(…, on_progress=hook.watching(on_progress), on_gone=hook.before(on_gone))

The command's words are those that a shell would see, but no shell runs them (who wants one writes `sh -c '…'`). It
gets, beside our environment:

    CARVER_DEVICE     the device as it was named
    CARVER_SERIAL     its serial number, or nothing
    CARVER_REASON     "hung" or "gone"
    CARVER_POSITION   where it was being read, in bytes
    CARVER_SECONDS    for how long it has not answered

It has a time to end in, and is not run again before an interval has passed since its last start. Its failure is told,
and changes nothing. While it runs the rescue goes on watching the drive, saves, and answers the user. If the rescue
ends first, the command is left to end by itself: it may just have switched the drive off.
"""

from __future__ import annotations

import logging
import shlex
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from imaging import programs
from imaging.errors import UsageError
from imaging.rescue.comeback import Gone, OnGone, Tell
from imaging.rescue.progress import Progress
from imaging.source import Source

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 60.0
INTERVAL_SECONDS = 300.0
HUNG_SECONDS = 120.0  # the kernel's own first abort and reset have failed by then
STEP_SECONDS = 0.2
SETTLE_SECONDS = 0.5
SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why the hook is run.

    Attributes:
        reason: "hung" or "gone".
        position_bytes: where the drive was being read.
        seconds: for how long it has not answered.
    """

    reason: str
    position_bytes: int
    seconds: float


class Hook:
    """Runs the user's command, beside the rescue.

    Attributes:
        runs: what it was run for, and how that ended, in order; for the record.
    """

    def __init__(
        self,
        command: str,
        *,
        device: str,
        serial: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        interval_seconds: float = INTERVAL_SECONDS,
        hung_seconds: float = HUNG_SECONDS,
        tell: Callable[[str], None] = log.warning,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Note what to run.

        Args:
            command: words, quoted as for a shell.
            device: what it is about.
            serial: the drive's serial number.
            timeout_seconds: how long it may take.
            interval_seconds: the least time between two starts.
            hung_seconds: for how long the drive must not have answered.
            tell: gets a line when it is run and when it has ended.
            clock: seconds, monotonic.

        Raises:
            UsageError: the command has no words, or a quote that does not end.
        """
        try:
            self._words = shlex.split(command)
        except ValueError as fault:
            raise UsageError(f"the hook command {command!r} cannot be read: {fault}") from fault
        if not self._words:
            raise UsageError("the hook command is empty")
        self._device, self._serial = device, serial or ""
        self._timeout_seconds, self._interval_seconds = timeout_seconds, interval_seconds
        self._hung_seconds, self._tell, self._clock = hung_seconds, tell, clock
        self._started_seconds: float | None = None
        self._thread: threading.Thread | None = None
        self._position_bytes = 0
        self.runs: list[str] = []

    def watching(self, on_progress: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """Return an `on_progress` that also runs the hook when the drive hangs."""

        def watch(progress: Progress) -> None:
            self._position_bytes = progress.position_bytes
            if not progress.gone and progress.waiting_seconds >= self._hung_seconds:
                self.run(
                    Trouble(reason="hung", position_bytes=progress.position_bytes, seconds=progress.waiting_seconds)
                )
            on_progress(progress)

        return watch

    def before(self, on_gone: OnGone | None) -> OnGone:
        """Return an `on_gone` that runs the hook, and then waits for the drive as before."""

        def run_and_wait(gone: Gone, tell: Tell) -> Source | None:
            since = self._clock()
            self.run(Trouble(reason="gone", position_bytes=self._position_bytes, seconds=0.0))
            while self._is_running():
                tell(self._clock() - since)
                time.sleep(STEP_SECONDS)
            return None if on_gone is None else on_gone(gone, tell)

        return run_and_wait

    def run(self, trouble: Trouble) -> bool:
        """Start the command, unless it runs or ran a short time ago; return whether it was started."""
        now = self._clock()
        if self._is_running() or (
            self._started_seconds is not None and now - self._started_seconds < self._interval_seconds
        ):
            return False
        self._started_seconds = now
        self._tell(f"the drive {_is(trouble)}: running {shlex.join(self._words)}")
        self._thread = threading.Thread(target=self._run, args=(trouble,), name="hook", daemon=True)
        self._thread.start()
        return True

    def settle(self) -> None:
        """Wait a moment for a command that still runs, and tell where it goes on."""
        if self._thread is not None:
            self._thread.join(SETTLE_SECONDS)
            if self._is_running():
                self._tell("the hook still runs; it is left to end by itself")

    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self, trouble: Trouble) -> None:
        environment = {
            "CARVER_DEVICE": self._device,
            "CARVER_SERIAL": self._serial,
            "CARVER_REASON": trouble.reason,
            "CARVER_POSITION": str(trouble.position_bytes),
            "CARVER_SECONDS": f"{trouble.seconds:.0f}",
        }
        try:
            ran = programs.run(self._words, timeout_seconds=self._timeout_seconds, environment=environment, folder=None)
        except (OSError, ValueError) as fault:
            self._end(trouble, f"could not be started: {getattr(fault, 'strerror', None) or fault}")
            return
        said = ran.output.decode("utf-8", "replace").strip()[-SHOWN_CHARACTERS:]
        if ran.status is None:
            ended = f"did not end within {self._timeout_seconds:.0f} s, and was killed"
        elif ran.status == 0:
            ended = "ended well"
        else:
            ended = f"failed with exit status {ran.status}"
        self._end(trouble, f"{ended}: {said}" if said else ended)

    def _end(self, trouble: Trouble, ended: str) -> None:
        self.runs.append(f"the drive {_is(trouble)} at {trouble.position_bytes:#x}: the hook {ended}")
        self._tell(f"the hook {ended}")


def _is(trouble: Trouble) -> str:
    return "is gone" if trouble.reason == "gone" else f"has not answered for {trouble.seconds:.0f} s"
