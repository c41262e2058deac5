"""Live: what an imaging run shows; several lines in place on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from carver.cli import imaging_words as words
from carver.cli import screen, signals
from carver.cli.durations import duration
from carver.cli.imaging_words import Road
from carver.visible import visible
from imaging.rescue.forecast import Forecast, Forecaster
from imaging.rescue.progress import Progress

LOG_SECONDS = 60.0
FACT_LINES = 5
ADVICE_LINES = 4
FEWEST_ROWS = FACT_LINES + ADVICE_LINES + 3  # on a lower terminal the bar is all there is room for
NARROW_COLUMNS = 20
BAR = "{desc}|{bar}| {elapsed}"


class Live(Protocol):
    """Something that shows a running rescue."""

    def show(self, progress: Progress) -> None:
        """Show where it is."""

    def close(self) -> None:
        """End: what is printed from now on stands below."""


class Silent:
    """Shows nothing (--quiet)."""

    def show(self, progress: Progress) -> None:
        """Show nothing."""

    def close(self) -> None:
        """There is nothing to end."""


class Log:
    """Says a line at each change of phase and each minute, for a file or a pipe."""

    def __init__(self, road: Road, forecaster: Forecaster) -> None:
        """Begin."""
        self._road, self._forecaster = road, forecaster
        self._phase: object = None
        self._told_seconds = 0.0
        self._advised: object = None
        self._trouble_seconds: dict[tuple[bool, bool], float] = {}

    def show(self, progress: Progress) -> None:
        """Say where it is, if it is time to."""
        forecast = self._forecaster.note(progress)
        self._tell_trouble(progress)
        if progress.phase is not self._phase or progress.seconds - self._told_seconds >= LOG_SECONDS:
            self._phase, self._told_seconds = progress.phase, progress.seconds
            screen.say(words.log_line(progress, forecast, self._road.options))
        self._advise(progress, forecast)

    def _tell_trouble(self, progress: Progress) -> None:
        """Tell of a drive that does not answer, each minute at most; at once where that has become another trouble."""
        kind = (progress.hung, progress.gone)
        told_seconds = self._trouble_seconds.get(kind)
        if told_seconds is not None and progress.seconds - told_seconds < LOG_SECONDS:
            return
        if (trouble := words.trouble(progress)) is not None:
            self._trouble_seconds[kind] = progress.seconds
            screen.say(f"after {duration(progress.seconds)}, at {progress.position_bytes:#x}: {trouble}")

    def _advise(self, progress: Progress, forecast: Forecast) -> None:
        """Give the advice once a phase, when there is a success rate to go by."""
        if self._advised is progress.phase or forecast.tried < words.TELLING_READS:
            return
        if (text := words.advice(progress, forecast, self._road)) is not None:
            self._advised = progress.phase
            screen.say(f"{text}.")

    def close(self) -> None:
        """There is nothing to end."""


class Terminal:
    """A bar and a few lines below it, updated in place."""

    def __init__(self, road: Road, forecaster: Forecaster, preview: Callable[[], Sequence[str]]) -> None:
        """Begin; `preview` gives lines of the data read last."""
        self._road, self._forecaster, self._preview = road, forecaster, preview
        self._bars: list[tqdm[object]] = []
        self._redirect = logging_redirect_tqdm()  # a warning is written above the bar
        self._redirect.__enter__()
        signals.clear_below = True

    def show(self, progress: Progress) -> None:
        """Draw everything anew."""
        forecast = self._forecaster.note(progress)
        with suppress(OSError), signals.drawing():  # OSError: the terminal is gone, the work goes on
            self._draw(progress, forecast)

    def _draw(self, progress: Progress, forecast: Forecast) -> None:
        columns, rows = screen.terminal_size() or (NARROW_COLUMNS, 0)
        columns = max(columns, NARROW_COLUMNS)
        lines = self._lines(progress, forecast, columns)[: rows - 2] if rows >= FEWEST_ROWS else []
        totals = progress.totals
        read = f"{screen.human(totals.rescued_bytes)} of {screen.human(totals.size_bytes)}"
        bar = self._bar(0, BAR)
        bar.total, bar.n = max(totals.size_bytes, 1), totals.rescued_bytes
        note = words.trouble(progress) if not lines else None
        bar.set_description_str(f"{words.share(totals)} read, {note or read} ", refresh=False)
        bar.refresh()
        for row, line in enumerate(lines, start=1):
            self._bar(row, "{desc}").set_description_str(_cut(line, columns))
        while len(self._bars) > len(lines) + 1:
            self._bars.pop().close()

    def _lines(self, progress: Progress, forecast: Forecast, columns: int) -> list[str]:
        lines = [
            words.phase_line(progress, self._road.options),
            words.rate_line(progress),
            f"remaining: {words.remaining(forecast)}",
            words.place_line(progress),
            words.damage_line(progress),
        ]
        last = words.trouble(progress) or words.advice(progress, forecast, self._road)
        if last is not None:
            lines += textwrap.wrap(last, columns - 1, max_lines=ADVICE_LINES, placeholder=" …")
        return [*lines, *self._preview()]

    def _bar(self, row: int, form: str) -> tqdm[object]:
        while len(self._bars) <= row:
            self._bars.append(
                tqdm(
                    total=1,
                    position=len(self._bars),
                    bar_format=form,
                    dynamic_ncols=True,
                    leave=not self._bars,
                    file=sys.stderr,
                )
            )
        return self._bars[row]

    def close(self) -> None:
        """Take the lines away; the bar stays."""
        signals.clear_below = False
        self._redirect.__exit__(None, None, None)
        with suppress(OSError):
            while self._bars:
                self._bars.pop().close()


def _cut(line: str, columns: int) -> str:
    """Return the line so that it does not wrap; one that did would push the others out of place."""
    line = visible(line)
    return line if len(line) < columns else f"{line[: columns - 2]}…"


class Showing:
    """A rescue's live view, for a `with`."""

    def __init__(
        self,
        road: Road,
        forecaster: Forecaster,
        *,
        quiet: bool,
        preview: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """Choose the view that fits: none, the terminal's, or the log's (also where the terminal tells no size)."""
        self._live: Live = Log(road, forecaster)
        if quiet:
            self._live = Silent()
        elif sys.stderr is not None and sys.stderr.isatty() and screen.terminal_size() is not None:
            self._live = Terminal(road, forecaster, preview)

    def show(self, progress: Progress) -> None:
        """Show where the rescue is."""
        self._live.show(progress)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.close()
