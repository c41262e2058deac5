"""Programs: other programs, run beside a rescue for a bounded time. One that hangs in the kernel is never waited for.

run(command, timeout_seconds=…, stop=…) -> Ran      status None: it did not end in time and was left behind
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

log = logging.getLogger(__name__)

STEP_SECONDS = 0.05
MAX_OUTPUT_BYTES = 1 << 22
SYSTEM_FOLDERS = ("/usr/sbin", "/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")  # not on every user's PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a program ended.

    Attributes:
        status: its exit status, negative for a signal; None: it did not end in time.
        output: what it printed, at most `MAX_OUTPUT_BYTES`.
    """

    status: int | None
    output: bytes


def find(name: str) -> str | None:
    """Return where a system program is, also where a user's PATH does not lead; None where it is not installed."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(SYSTEM_FOLDERS))


def run(
    command: Sequence[str],
    *,
    timeout_seconds: float,
    stop: Callable[[], bool] = lambda: False,
    environment: Mapping[str, str] | None = None,
    folder: str | None = "/",
) -> Ran:
    """Run a program in a session of its own until it ends, its time is over, or `stop` says so.

    Its output goes to a file without a name, so that neither a flood of it nor a grandchild that keeps it open can
    hold us. What does not end in time is killed with all it started; what the kernel does not let go is left.

    Args:
        command: the program and its arguments; no shell sees them.
        timeout_seconds: how long it may take.
        stop: is asked many times a second.
        environment: variables beside our own.
        folder: where it runs; None: where we do.

    Raises:
        OSError: it cannot be started.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder,
            env={**os.environ, **(environment or {})},
        )
        until = time.monotonic() + timeout_seconds
        while process.poll() is None and time.monotonic() < until and not stop():
            time.sleep(STEP_SECONDS)
        status = process.poll()
        if status is None:
            _end(process)
        output.seek(0)
        return Ran(status=status, output=output.read(MAX_OUTPUT_BYTES))


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STEP_SECONDS)
        return
    log.info("process %d does not end, and is left behind", process.pid)
