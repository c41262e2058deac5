"""A long run of mutated inputs through the validators, and through what looks for their starts.

    python -m tests.fuzz.run FORMAT INPUTS [SEED]       our own mutations; FORMAT,FORMAT,… one after the other
    python -m tests.fuzz.run --atheris FORMAT INPUTS [SEED]    atheris, guided by coverage, where it is installed

`--believed` before all else: every checksum of a structure is right, as a hostile writer would make it.
An input that raises, takes more than `SLOW_SECONDS` of processor time, or makes a verdict that is not plain values is
kept in the folder that `CARVER_KEEP` names, and told; the exit code is then 1. Memory is limited, so that a bomb raises
as well.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from itertools import islice
from pathlib import Path

import signatures
from carver.candidates import MAX_STARTS
from carver.verdict_json import verdict_to_json
from imaging.errors import BudgetExceeded
from imaging.extent import span
from imaging.window import Window
from signatures.format import Format
from tests.fuzz.mutation import mutated

SLOW_SECONDS = 5.0
MEMORY_BYTES = 6 << 30
MAX_SEED_BYTES = 1 << 16
FEW_SEEDS = 1  # where all are larger
TELL_EVERY = 10_000
SMALL_SEED_BYTES = 1 << 10  # of atheris: what an input costs goes with its size, and coverage wants many
MAX_HITS = 4  # of one pattern
KEEP = os.environ.get("CARVER_KEEP", "")


class Memory:
    """Bytes as a source."""

    locator, sector_bytes, unread = "memory", 512, None

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size_bytes = len(content)

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        return self.content[offset_bytes : offset_bytes + size_bytes]


CHECKSUMS = (
    ("signatures._hdf5.space", "lookup3"),
    ("signatures._hdf5.fractal", "lookup3"),
    ("signatures._hdf5.superblock", "lookup3"),
    ("signatures._table", "masked_crc32c"),
)


class Right(int):
    """A checksum that equals any other, as a hostile writer would have made it; what is behind it is looked at."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


def believe_checksums() -> None:
    for module, function in CHECKSUMS:
        setattr(importlib.import_module(module), function, lambda content: Right())


class HungError(Exception):
    """An input took too long."""


def seeds_of(name: str, most_bytes: int = MAX_SEED_BYTES) -> list[bytes]:
    """Return the samples of a format that are small, with what must lie behind them."""
    samples = importlib.import_module(f"fixtures.formats.{name}").samples(3)
    contents = [sample.content + sample.behind for sample in samples]
    return [raw for raw in contents if len(raw) <= most_bytes] or sorted(contents, key=len)[:FEW_SEEDS]


def seek_starts(form: Format, content: bytes) -> None:
    """Ask for the starts and layouts that the first hits of each pattern tell, as the engine does."""
    source = Memory(content)
    for pattern in form.patterns:
        at, left = content.find(pattern.bytes), MAX_HITS
        while at >= 0 and left:
            for asked in (form.starts, form.layouts):
                try:
                    list(islice(asked(source, at, pattern), MAX_STARTS) if asked is not None else ())
                except BudgetExceeded:
                    continue
            at, left = content.find(pattern.bytes, at + 1), left - 1


def judged(form: Format, content: bytes) -> str:
    """Return the grade, or "budget".

    Raises:
        Exception: whatever the validator, or what looks for starts, does wrong.
    """
    seek_starts(form, content)
    try:
        verdict = form.validate(Window(Memory(content), (span(0, len(content)),)))
    except BudgetExceeded:
        return "budget"
    if verdict.size_bytes < 0:
        raise ValueError("a negative size")
    json.dumps(verdict_to_json(verdict), allow_nan=False)
    if verdict.grade.good and verdict.size_bytes > len(content):
        raise ValueError(f"good, and longer than what is there: {verdict.size_bytes} of {len(content)}")
    return verdict.grade.value


def limit() -> None:
    """Bound memory and time of this process; an input that hangs raises."""

    def hung(number: int, frame: object) -> None:
        raise HungError(f"more than {SLOW_SECONDS} s of processor time")

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGPROF, hung)


def fuzz(name: str, inputs: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Return how many inputs had which grade, and the last lines of each failure."""
    form, seeds = signatures.formats()[name], seeds_of(name)
    counts, failures = Counter[str](), list[str]()
    for number in range(seed, seed + inputs):
        content = mutated(random.Random(number), seeds)
        signal.setitimer(signal.ITIMER_PROF, SLOW_SECONDS)
        try:
            counts[judged(form, content)] += 1
        except Exception:  # noqa: BLE001 - any failure is what is looked for
            failures.append(f"{number}: {' | '.join(traceback.format_exc().strip().splitlines()[-3:])}")
            keep(name, content)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return counts, failures


def keep(name: str, content: bytes) -> None:
    if KEEP:
        (Path(KEEP) / f"{hashlib.sha256(content).hexdigest()[:16]}.{name}").write_bytes(content)


def with_atheris(name: str, inputs: int, seed: int = 0, *, believed: bool = False) -> None:
    """Let atheris look for failures from small samples; it ends the process by itself, with 77 if it found one.

    Comparisons are not traced, and a branch is told once an input, however often it was taken: less than half the price
    an input. Values at their limits are for our own mutations. What takes long is told by its processor time, as above;
    the time limit of atheris goes by the clock, which runs on when the machine sleeps or the run is paused.
    """
    import atheris

    with atheris.import_hook.HookManager({"signatures"}, set(), True, trace_dataflow=False):
        for module in [key for key in sys.modules if key.partition(".")[0] == "signatures"]:
            if not module.startswith("signatures.kernels"):  # numba cannot compile what has counters in it
                del sys.modules[module]  # imported again, now with counters
        form = importlib.import_module("signatures").formats()[name]
    if believed:
        believe_checksums()
    seeds = seeds_of(name, SMALL_SEED_BYTES)
    corpus = Path(KEEP or tempfile.mkdtemp(prefix="fuzz-")) / f"corpus-{name}"  # kept, the next run goes on from it
    corpus.mkdir(exist_ok=True)
    for number, raw in enumerate(seeds):
        (corpus / str(number)).write_bytes(raw)
    counts, begun, slowest = Counter[str](), time.monotonic(), 0.0
    branches, tell = set[int](), atheris._trace_branch
    atheris._trace_branch = branches.add

    def one(content: bytes) -> None:
        nonlocal slowest
        signal.setitimer(signal.ITIMER_PROF, SLOW_SECONDS)
        before = time.process_time()
        counts[judged(form, content)] += 1
        for branch in branches:
            tell(branch)
        branches.clear()
        slowest = max(slowest, time.process_time() - before)
        if counts.total() % TELL_EVERY == 0 or counts.total() == inputs:
            told = {"format": name, "atheris": counts.total(), "counts": counts, "slowest_ms": round(1000 * slowest)}
            told["seconds"] = round(time.monotonic() - begun)
            told["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            print(json.dumps(told), flush=True)

    kept = f"-artifact_prefix={KEEP}/" if KEEP else "-artifact_prefix=/dev/shm/"
    longest = max(SMALL_SEED_BYTES, *map(len, seeds))
    options = [f"-runs={inputs}", f"-seed={seed + 1}", "-timeout=3600", f"-max_len={longest}", kept, str(corpus)]
    gc.freeze()  # what was imported is not looked through again and again
    gc.set_threshold(20_000)
    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    limit()
    importlib.import_module("signatures.kernels")  # what compiling takes is no input's
    believed = arguments[0] == "--believed"
    arguments = arguments[believed:]
    if arguments[0] == "--atheris":
        with_atheris(arguments[1], *map(int, arguments[2:4]), believed=believed)
        return 0
    if believed:
        believe_checksums()
    failed = False
    for name in arguments[0].split(","):
        begun = time.monotonic()
        counts, failures = fuzz(name, int(arguments[1]), *map(int, arguments[2:3]))
        seconds = round(time.monotonic() - begun)
        print(json.dumps({"format": name, "counts": counts, "failures": failures, "seconds": seconds}), flush=True)
        failed = failed or bool(failures)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
