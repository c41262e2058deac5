"""Workers: judging in child processes, with limits on time and memory and without the privileges of root.

A child that hangs or dies costs one candidate (UNDECIDED), never the run. Results come back in the order of candidates.
"""

from __future__ import annotations

import importlib
import json
import logging
import multiprocessing
import os
import pkgutil
import resource
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic

import signatures
from carver.candidates import Candidate
from carver.judge import judge, undecided
from carver.verdict_json import verdict_from_json, verdict_to_json
from imaging.errors import Interrupted
from imaging.extent import ExtentSet, Offsets
from imaging.source import RawImage
from signatures.format import Format
from signatures.verdict import Verdict

BATCH_CANDIDATES = 64
POLL_SECONDS = 0.25
NOBODY = 65534


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one candidate may cost.

    Attributes:
        timeout_seconds: wall time for one candidate; a checksum over 100 GB at 0.5 GB/s needs 200 s.
        memory_bytes: address space of a worker.
        drop_privileges: whether a worker started as root becomes the calling user (or nobody).
    """

    timeout_seconds: float = 900.0
    memory_bytes: int = 6 << 30
    drop_privileges: bool = True


@dataclass(slots=True)
class _Batch:
    candidates: list[Candidate]
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def judged(self) -> bool:
        return len(self.verdicts) == len(self.candidates)


@dataclass(slots=True)
class _Worker:
    process: multiprocessing.process.BaseProcess
    pipe: Connection
    batch: _Batch | None = None
    since: float = 0.0


def judge_all(
    image: RawImage,
    candidates: Iterable[Candidate],
    format_names: Sequence[str],
    *,
    workers: int,
    limits: Limits | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[list[tuple[Candidate, Verdict]]]:
    """Yield batches of judged candidates, in the order in which the candidates came.

    Raises:
        Interrupted: `stop` said so; what was yielded stands.
    """
    pool = _Pool(image, format_names, max(1, workers), limits or Limits())
    try:
        yield from pool.run(candidates, stop)
    finally:
        pool.close()


class _Pool:
    def __init__(self, image: RawImage, format_names: Sequence[str], workers: int, limits: Limits) -> None:
        self._image, self._format_names, self._size, self._limits = image, tuple(format_names), workers, limits
        self._workers: list[_Worker] = []
        self._waiting: deque[_Batch] = deque()
        self._context = multiprocessing.get_context("spawn")

    def run(
        self, candidates: Iterable[Candidate], stop: Callable[[], bool]
    ) -> Iterator[list[tuple[Candidate, Verdict]]]:
        incoming = iter(candidates)
        batches: Iterator[list[Candidate]] = iter(lambda: list(islice(incoming, BATCH_CANDIDATES)), [])
        in_flight: deque[_Batch] = deque()
        while True:
            for chosen in islice(batches, max(0, 2 * self._size - len(in_flight))):
                in_flight.append(_Batch(candidates=chosen))
                self._waiting.append(in_flight[-1])
            if not in_flight:
                return
            self._assign()
            self._collect()
            if stop():
                raise Interrupted("stopped while judging; the same command goes on from here")
            while in_flight and in_flight[0].judged:
                done = in_flight.popleft()
                yield list(zip(done.candidates, done.verdicts, strict=True))

    def _assign(self) -> None:
        while self._waiting:
            worker = next((worker for worker in self._workers if worker.batch is None), None)
            if worker is None:
                if len(self._workers) >= self._size:
                    return
                worker = self._start()
                self._workers.append(worker)
            batch = self._waiting.popleft()
            worker.batch, worker.since = batch, monotonic()
            worker.pipe.send(batch.candidates[len(batch.verdicts) :])

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        unread = self._image.unread
        ranges = None if unread is None else (unread.starts, unread.ends)
        process = self._context.Process(
            target=_serve, args=(theirs, str(self._image.path), ranges, self._format_names, self._limits), daemon=True
        )
        with _signals_held():
            process.start()
        theirs.close()
        return _Worker(process=process, pipe=ours)

    def _collect(self) -> None:
        """Take what the workers have answered; replace one that died or hangs."""
        ready = wait([worker.pipe for worker in self._workers], timeout=POLL_SECONDS)
        for worker in list(self._workers):
            if worker.pipe in ready:
                self._take(worker)
            elif worker.batch is not None and monotonic() - worker.since > self._limits.timeout_seconds:
                self._replace(worker, "timeout", f"judging took longer than {self._limits.timeout_seconds:.0f} s")

    def _take(self, worker: _Worker) -> None:
        try:
            answer = json.loads(worker.pipe.recv_bytes())
        except (EOFError, ConnectionError):
            self._replace(worker, "validator-died", "the validating process ended by itself")
            return
        if worker.batch is not None:
            worker.batch.verdicts.append(verdict_from_json(answer))
            worker.since = monotonic()
            if worker.batch.judged:
                worker.batch = None

    def _replace(self, worker: _Worker, code: str, detail: str) -> None:
        self._workers.remove(worker)
        _end(worker)
        if worker.batch is not None:
            worker.batch.verdicts.append(undecided(code, detail))
            if not worker.batch.judged:
                self._waiting.appendleft(worker.batch)

    def close(self) -> None:
        for worker in self._workers:
            _end(worker)


def _end(worker: _Worker) -> None:
    worker.process.kill()
    worker.pipe.close()
    worker.process.join(timeout=1.0)  # a read that hangs in the kernel must not hold us


@contextmanager
def _signals_held() -> Iterator[None]:
    """Start a child with the signals blocked that end the run: a terminal sends them to all, the parent decides."""
    resource_tracker.ensure_running()  # it would unblock them when it starts together with the first child
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(
    pipe: Connection,
    image_path: str,
    ranges: tuple[Offsets, Offsets] | None,
    format_names: Sequence[str],
    limits: Limits,
) -> None:
    """Judge what comes down the pipe until it closes."""
    logging.getLogger().addHandler(logging.NullHandler())  # what a validator says is in its verdict
    unread = None if ranges is None else ExtentSet.from_arrays(*ranges)
    image = RawImage(Path(image_path), unread=unread)
    formats = _load_formats(format_names)
    _confine(limits)
    while True:
        try:
            batch: list[Candidate] = pipe.recv()
        except EOFError:
            return
        for candidate in batch:
            try:
                pipe.send_bytes(_encoded(judge(image, candidate, formats)))
            except ConnectionError:  # the parent was killed
                return


def _encoded(verdict: Verdict) -> bytes:
    """Return a verdict as JSON: the parent must not unpickle what a process that read hostile bytes sends."""
    try:
        return json.dumps(verdict_to_json(verdict), allow_nan=False).encode()
    except (TypeError, ValueError) as fault:
        failed = undecided("validator-failed", f"its facts are not plain values: {fault}")
        return json.dumps(verdict_to_json(failed)).encode()


def _load_formats(format_names: Sequence[str]) -> dict[str, Format]:
    """Import everything that judging may need now, while this process may still read its own program."""
    for module in pkgutil.iter_modules(signatures.__path__):
        importlib.import_module(f"signatures.{module.name}")
    known = signatures.formats()
    return {name: known[name] for name in format_names}


def _confine(limits: Limits) -> None:
    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if limits.drop_privileges and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(int(os.environ.get("SUDO_GID", NOBODY)) or NOBODY)
        os.setuid(int(os.environ.get("SUDO_UID", NOBODY)) or NOBODY)
