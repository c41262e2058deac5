"""Temperature: a drive that grows too hot is left in peace until it has cooled.

    with TemperatureGuard(device, max_celsius=60, stop=stop, tell=…) as guard:
        rescue(…, subscribers=(…, guard), stop=guard.stop)

A thread asks smartctl once a minute. At the given temperature no more reads are asked of the drive until it is five
degrees cooler: heat kills a failing drive, and a pause costs only time. A drive that is not cooler after half an hour
will not be without help (a fan, ice, another place), so then the rescue ends, saved, and the same command goes on.
A drive that stops telling its temperature on the way is read on, and that is told once. The thread never holds us: a
smartctl that hangs is left behind, and after three in a row it is not asked again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from imaging.errors import InputError, UsageError
from imaging.health import Health, read_health
from imaging.pump import Piece

log = logging.getLogger(__name__)

ASK_SECONDS = 60.0
COOLED_DEGREES = 5
COOLING_SECONDS = 1800.0
STEP_SECONDS = 0.1
MAX_SILENT = 3
LEAST_CELSIUS, MOST_CELSIUS = 20, 100


class TemperatureGuard:
    """A subscriber of the pump that pauses it while the drive is too hot.

    Attributes:
        device: the drive, under the name that it has now.
        celsius: the latest temperature; None while it is not told.
        highest_celsius: the highest in this run.
        ended: why it ended the rescue; None while it has not.
    """

    def __init__(
        self,
        device: Path | str,
        *,
        max_celsius: int,
        stop: Callable[[], bool],
        tell: Callable[[str], None] = log.warning,
        ask: Callable[[Path | str], Health] = read_health,
        ask_seconds: float = ASK_SECONDS,
        cooling_seconds: float = COOLING_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Ask once, before anything is read.

        Args:
            device: the drive.
            max_celsius: what is too hot.
            stop: whether the user wants an end.
            tell: gets a line when it pauses and goes on.
            ask: returns the drive's health.
            ask_seconds: how often.
            cooling_seconds: how long a pause may last.
            clock: seconds, monotonic.
            sleep: lets seconds pass on that clock.

        Raises:
            UsageError: no drive works at such a limit.
            InputError: the drive tells no temperature, so this cannot protect it.
        """
        if not LEAST_CELSIUS <= max_celsius <= MOST_CELSIUS:
            raise UsageError(f"a highest temperature of {max_celsius} °C: it is {LEAST_CELSIUS} to {MOST_CELSIUS}")
        self.device, self._max_celsius = str(device), max_celsius
        self._stop, self._tell, self._ask = stop, tell, ask
        self._ask_seconds, self._cooling_seconds = ask_seconds, cooling_seconds
        self._clock, self._sleep = clock, sleep
        self.ended: str | None = None
        health = ask(device)
        if health.temperature_celsius is None:
            raise InputError(
                f"{device} does not tell its temperature ({health.note or 'smartctl shows none'}), so no limit can be "
                "kept; leave --max-temperature out, and feel the drive now and then"
            )
        self.celsius: int | None = health.temperature_celsius
        self.highest_celsius = health.temperature_celsius
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="temperature", daemon=True)

    def __call__(self, piece: Piece) -> None:
        """Return at once, or when the drive has cooled, or when the rescue is to end."""
        if self.ended is None and (self.celsius or 0) >= self._max_celsius:
            self._pause()

    def stop(self) -> bool:
        """Tell whether the rescue is to end: the user wants it, or the drive does not cool."""
        return self.ended is not None or self._stop()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()  # not waited for: it may be asking

    def _pause(self) -> None:
        cool_celsius = self._max_celsius - COOLED_DEGREES
        self._tell(f"{self.device} is at {self.celsius} °C: not read until it is at {cool_celsius} °C")
        since = self._clock()
        while (celsius := self.celsius) is not None and celsius > cool_celsius:
            if self._stop():
                return
            if self._clock() - since >= self._cooling_seconds:
                self.ended = (
                    f"the drive is still at {celsius} °C after {self._cooling_seconds / 60:.0f} min without a read"
                )
                self._tell(f"{self.ended}: cool it, and run the same command again")
                return
            self._sleep(STEP_SECONDS)
        self._tell(f"{self.device} is at {celsius} °C: reading on" if celsius is not None else "reading on")

    def _watch(self) -> None:
        silent = 0
        while not self._closing.wait(self._ask_seconds):
            health = self._ask(self.device)
            if health.temperature_celsius is not None:
                silent = 0
                self.highest_celsius = max(self.highest_celsius, health.temperature_celsius)
            elif (silent := silent + 1) >= MAX_SILENT:
                self.celsius = None
                self._tell(f"{self.device} does not tell its temperature any more: its limit is not kept from here on")
                return
            self.celsius = health.temperature_celsius if health.temperature_celsius is not None else self.celsius
