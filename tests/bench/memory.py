"""Memory: the most that a piece of work held, of its process and of its workers, with the time it took."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CLEAR_PEAK = "5"  # proc(5), clear_refs: "reset the peak resident set size" to the current one
SAMPLE_SECONDS = 0.02


@dataclass(slots=True, kw_only=True)
class Spent:
    """What a piece of work took.

    Attributes:
        peak_bytes: the most that was resident, pages of mapped files (which the system takes back at will) included.
        own_bytes: the most of it that was the process's own, also where it was swapped out; sampled.
        processor_seconds: of this process and of the workers that ended meanwhile.
        seconds: by the clock.
    """

    peak_bytes: int = 0
    own_bytes: int = 0
    processor_seconds: float = 0.0
    seconds: float = 0.0


@contextmanager
def spending() -> Iterator[Spent]:
    """Measure what is done inside."""
    spent = Spent()
    done = threading.Event()
    sampler = threading.Thread(target=_sample, args=(spent, done))
    Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
    seconds, processor_seconds = time.monotonic(), _processor_seconds()
    sampler.start()
    try:
        yield spent
    finally:
        spent.seconds = time.monotonic() - seconds
        spent.processor_seconds = _processor_seconds() - processor_seconds
        done.set()
        sampler.join()
        spent.peak_bytes = _status_bytes("VmHWM")


def worker_peak_bytes() -> int:
    """Return the most that one of the workers that have ended ever held."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10


def _sample(spent: Spent, done: threading.Event) -> None:
    while True:
        spent.own_bytes = max(spent.own_bytes, _status_bytes("RssAnon") + _status_bytes("VmSwap"))
        if done.wait(SAMPLE_SECONDS):
            return


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))


def _processor_seconds() -> float:
    times = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in times)
