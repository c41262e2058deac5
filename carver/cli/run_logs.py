"""Run logs: what --log-events, --log-rates and --log-reads append to their files while a drive is imaged.

The lines are for people and for plotting programs: fields between spaces, `#` before what is no data. They are
appended, since the same command goes on after a stop, and its log with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from carver.cli.imaging_words import phase_line, share
from imaging.errors import OutputError
from imaging.extent import Extent
from imaging.ownership import give_to_caller
from imaging.rescue.options import RescueOptions
from imaging.rescue.progress import Progress, RescueSummary

RATES = "# seconds position_bytes rate_bytes average_rate_bytes bad_areas bad_bytes read_errors\n"
READS = "# offset_bytes size_bytes good_bytes seconds\n"


class RunLogs:
    """The logs of one run that were asked for; for a `with`."""

    def __init__(
        self, *, events: Path | None, rates: Path | None, reads: Path | None, options: RescueOptions, source: Path
    ) -> None:
        """Open them.

        Raises:
            OutputError: one cannot be written, or is the source itself.
        """
        self._options = options
        self._files = ExitStack()
        try:
            self._events, self._rates, self._reads = (self._open(path, source) for path in (events, rates, reads))
        except OutputError:
            self._files.close()
            raise
        self._at: tuple[object, int] | None = None
        self._rates_seconds: float | None = None
        self._put(self._rates, RATES)
        self._put(self._reads, READS)

    def _open(self, path: Path | None, source: Path) -> IO[str] | None:
        if path is None:
            return None
        try:
            if path.exists() and source.exists() and path.samefile(source):
                raise OutputError(f"{path} is the source itself; name another log")
            if path.exists() and not path.is_file():
                raise OutputError(f"{path} is not a regular file; name another log")
            file = self._files.enter_context(path.open("a", buffering=1, encoding="utf-8"))
        except OSError as fault:
            raise _unwritten(path, fault) from fault
        give_to_caller(path)
        return file

    @property
    def on_read(self) -> Callable[[Extent, int, float], None] | None:
        """What wants to be told of each read: its extent, the bytes that came, the seconds it took."""
        return None if self._reads is None else self._read

    def _read(self, extent: Extent, good_bytes: int, seconds: float) -> None:
        self._put(self._reads, f"{extent.offset_bytes:#x} {extent.size_bytes} {good_bytes} {seconds:.6f}\n")

    def note(self, progress: Progress) -> None:
        """Write what the latest progress gives."""
        at = progress.phase, progress.pass_number
        if at != self._at:
            self._at = at
            self._event(f"{share(progress.totals)}  {phase_line(progress, self._options)}")
            self._put(self._reads, f"# {phase_line(progress, self._options)}\n")
        if self._rates_seconds is None or progress.seconds - self._rates_seconds >= 1:
            self._rates_seconds = progress.seconds
            self._put(
                self._rates,
                f"{progress.seconds:.1f} {progress.position_bytes:#x} {progress.rate_bytes:.0f} "
                f"{progress.average_rate_bytes:.0f} {progress.totals.bad_areas} {progress.totals.bad_bytes} "
                f"{progress.read_errors}\n",
            )

    def end(self, summary: RescueSummary) -> None:
        """Write how it ended."""
        how = "finished" if summary.finished else summary.limit or "stopped"
        self._event(f"{share(summary.totals)}  end of run: {how}")

    def fail(self, error: BaseException) -> None:
        """Write what ended it."""
        self._event(f"end of run: {str(error) or type(error).__name__}")

    def _event(self, text: str) -> None:
        self._put(self._events, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}  {text}\n")

    def _put(self, file: IO[str] | None, line: str) -> None:
        if file is None:
            return
        try:
            file.write(line)
        except OSError as fault:
            raise _unwritten(Path(file.name), fault) from fault

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.fail(error)
        try:
            self._files.close()
        except OSError as fault:
            reason = os.strerror(fault.errno or 0)
            raise OutputError(f"cannot write the end of a log: {reason}; the map tells how far the image is") from fault


def _unwritten(path: Path, fault: OSError) -> OutputError:
    reason = os.strerror(fault.errno or 0)
    return OutputError(f"cannot write the log {path}: {reason}; mend that, name another place, or go on without a log")
