"""Signals: the first one asks the work to save and end, the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

CLEAR_BELOW = b"\r\x1b[J"
clear_below = False  # while several lines are drawn in place: a message takes their place

_drawing = _unsaid = False
_stopping = threading.Event()
_at_once = threading.Event()


def listen() -> None:
    """Take the signals that end a program, but for those that it was started to ignore (`nohup`, a shell's `&`)."""
    _stopping.clear()
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _stop)


def stopping() -> bool:
    """Tell whether the user wants an end."""
    return _stopping.is_set()


@contextmanager
def ending_at_once() -> Iterator[None]:
    """While this runs there is nothing to save: already the first signal ends it."""
    _at_once.set()
    try:
        yield
    finally:
        _at_once.clear()


@contextmanager
def drawing() -> Iterator[None]:
    """While this runs the cursor is somewhere in between: what a first signal says is said at the end."""
    global _drawing, _unsaid
    _drawing = True
    try:
        yield
    finally:
        _drawing = False
        if _unsaid:
            _unsaid = False
            _say_stopping()


def _stop(number: int, frame: FrameType | None) -> None:
    global _unsaid
    if _stopping.is_set() or _at_once.is_set():
        raise KeyboardInterrupt
    _stopping.set()
    if _drawing:
        _unsaid = True
    else:
        _say_stopping()


def _say_stopping() -> None:
    with suppress(OSError):  # not print(): the signal may have come in the middle of one
        os.write(
            2,
            (CLEAR_BELOW if clear_below else b"\n")
            + b"carver: stopping: saving what is done (once more to stop at once)\n",
        )
