"""Runs of the command that are stopped at some moment: by a signal, or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.command import COMMAND, TIMEOUT_SECONDS

PARTIAL = "*.partial*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """How a run is stopped.

    Attributes:
        number: the signal.
        to_group: to all its processes, as a terminal's Ctrl-C is sent, or to the parent alone.
        twice: sent again at once: the user is in a hurry.
    """

    number: signal.Signals
    to_group: bool
    twice: bool = False


STOPS = {
    "Ctrl-C": Stop(number=signal.SIGINT, to_group=True),
    "SIGINT to the parent": Stop(number=signal.SIGINT, to_group=False),
    "SIGTERM": Stop(number=signal.SIGTERM, to_group=False),
    "SIGTERM to all": Stop(number=signal.SIGTERM, to_group=True),
    "Ctrl-C twice": Stop(number=signal.SIGINT, to_group=True, twice=True),
    "kill -9": Stop(number=signal.SIGKILL, to_group=False),
    "kill -9 to all": Stop(number=signal.SIGKILL, to_group=True),
}


def run_until(command: list[str], stop: Stop, delay_seconds: float) -> tuple[int, str]:
    """Start a command, stop it after a while, and return its exit code and stderr (0 when it was quicker)."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True) as child:
        try:
            child.wait(delay_seconds)
        except subprocess.TimeoutExpired:
            for _ in range(2 if stop.twice else 1):
                (os.killpg if stop.to_group else os.kill)(child.pid, stop.number)
        try:
            told = child.communicate(timeout=TIMEOUT_SECONDS)[1]
        finally:
            _end_group(child.pid)
    return child.returncode, told.decode("utf-8", "replace")


def _end_group(leader: int) -> None:
    """See that nothing of the run is left: orphans end by themselves when their pipe closes, or are ended here."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.killpg(leader, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(leader, signal.SIGKILL)
    raise AssertionError("a child process outlived the run by 20 s")


def rescue_command(drive: Path, case: Path) -> list[str]:
    arguments = ["rescue", "--test-mode", drive / "damage.map", drive / "drive.img", case]
    return [*COMMAND, *map(str, arguments)]
