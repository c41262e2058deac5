"""Memory: the most that a piece of work held, of its process and of its workers, with the time it took."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CLEAR_PEAK = "5"  # proc(5), clear_refs: "reset the peak resident set size" to the current one


@dataclass(slots=True, kw_only=True)
class Spent:
    """What a piece of work took; `peak_bytes` is that of the whole process meanwhile, `before_bytes` when it began."""

    before_bytes: int = 0
    peak_bytes: int = 0
    processor_seconds: float = 0.0
    seconds: float = 0.0


@contextmanager
def spending() -> Iterator[Spent]:
    """Measure what is done inside. Processor time is this process's and that of the workers that ended meanwhile."""
    spent = Spent(before_bytes=_status_bytes("VmRSS"))
    Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
    seconds, processor_seconds = time.monotonic(), _processor_seconds()
    try:
        yield spent
    finally:
        spent.seconds = time.monotonic() - seconds
        spent.processor_seconds = _processor_seconds() - processor_seconds
        spent.peak_bytes = _status_bytes("VmHWM")


def worker_peak_bytes() -> int:
    """Return the most that one of the workers that have ended ever held."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))


def _processor_seconds() -> float:
    times = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in times)
