"""Complaints: what went wrong, in one plain line on stderr, with nothing hostile in it."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from carver.visible import visible


def complain(text: str) -> None:
    """Tell on stderr; a terminal that is gone is no reason to fail."""
    with suppress(OSError):
        print(f"carver: {visible(text)}", file=sys.stderr, flush=True)


def explain_crashes(*, verbose: bool) -> None:
    """Make an error of carver's own one line; its traceback stands before it with --verbose.

    A hook, not an `except Exception`: nothing goes on after it, and Python ends with exit code 1 by itself.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if verbose:
            traceback.print_exception(kind, error, trace)
        if isinstance(error, ModuleNotFoundError) and error.name:
            missing = error.name.partition(".")[0]
            complain(
                f"carver is not installed whole: {missing} is missing; `pip install` carver again with the same "
                "Python, as its README says"
            )
            return
        last = traceback.extract_tb(trace)[-1:]
        where = f" at {Path(last[0].filename).name}:{last[0].lineno}" if last else ""
        first = (str(error).splitlines() or [""])[0]
        more = "" if verbose else " (the same command with --verbose shows where)"
        complain(
            f"an error of carver's own, not of yours: {kind.__name__}: {first}{where}. What was done is kept; please "
            f"report this line{more}"
        )

    sys.excepthook = hook


class _VisibleFormatter(logging.Formatter):
    """Log lines with no character in them that drives a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(visible(line) for line in super().format(record).split("\n"))


def log_to_stderr(*, verbose: bool) -> None:
    """Show warnings, or everything."""
    handler = logging.StreamHandler()
    handler.setFormatter(_VisibleFormatter("carver: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, handlers=[handler])
    logging.getLogger("numba").setLevel(logging.WARNING)  # it tells of every step of its compiler
    logging.getLogger("signatures._compiling").setLevel(logging.INFO)  # why the first run takes some seconds more
