"""Workers: judging in child processes, with limits on time and memory and without the privileges of root.

A child that hangs or dies costs one candidate (UNDECIDED), never the run. Results come back in the order of candidates.

A child that hangs in the kernel's read stays, even after SIGKILL, until the read ends. So nothing here waits for one
without a limit, also not when the interpreter ends, and children inherit no descriptor but their pipe. When the parent
dies, the kernel ends them (Linux), or the end of their pipe does.
"""

from __future__ import annotations

import codecs
import ctypes
import importlib
import json
import logging
import os
import pkgutil
import resource
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, Pipe, wait
from time import monotonic
from typing import Any

import numpy as np

import signatures
from carver.candidates import Candidate
from carver.judge import judge, undecided
from carver.verdict_json import layout_from_pairs, layout_pairs, verdict_from_json, verdict_to_json
from imaging.errors import CarverError, Interrupted
from imaging.extent import ExtentSet
from imaging.laid_over import LaidOver
from imaging.source import RawImage, Source
from signatures.format import Format
from signatures.verdict import Verdict

log = logging.getLogger(__name__)

BATCH_CANDIDATES = 64
POLL_SECONDS = 0.25
START_SECONDS = 300.0  # the first run on a machine compiles the kernels
MAX_ANSWER_BYTES = 1 << 30
NOBODY = 65534
PR_SET_PDEATHSIG = 1  # linux/prctl.h
READY, READING = b"ready", b"reading"  # what is no verdict; a verdict is JSON
LOADER = "signatures:formats"
CODECS = ("cp437", "raw-unicode-escape")  # of names in zips and text in pickles: Python imports each at its first use
# -I: nothing from the working folder, which may hold hostile files; the path of modules is the parent's
BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from carver.workers import serve; serve(sys.argv[2:])"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one candidate may cost.

    Attributes:
        timeout_seconds: wall time for one candidate, anew with each `progress_bytes` that it reads: 100 GB under a
            checksum take 1,000 s from a slow disk.
        progress_bytes: how much must be read for that; what may be read in all is the budget's (`imaging.window`).
        memory_bytes: address space of a worker.
        drop_privileges: whether a worker started as root becomes the calling user (or nobody).
    """

    timeout_seconds: float = 900.0
    progress_bytes: int = 1 << 30
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
    process: subprocess.Popen[bytes]
    pipe: Connection
    since: float
    ready: bool = False
    batch: _Batch | None = None


def judge_all(
    image: RawImage,
    candidates: Iterable[Candidate],
    format_names: Sequence[str],
    *,
    workers: int,
    limits: Limits | None = None,
    stop: Callable[[], bool] = lambda: False,
    loader: str = LOADER,
) -> Generator[list[tuple[Candidate, Verdict]], None, None]:
    """Yield batches of judged candidates, in the order in which the candidates came.

    Args:
        image: what the candidates lie in; every child opens it anew.
        candidates: taken as they are needed.
        format_names: what the children must know.
        workers: how many children at a time.
        limits: what a candidate may cost.
        stop: asked several times a second.
        loader: "module:function" that gives the formats by name in the children.

    Raises:
        Interrupted: `stop` said so; what was yielded stands.
        CarverError: the children cannot be started at all.
    """
    pool = _Pool(image, format_names, max(1, workers), limits or Limits(), loader)
    try:
        yield from pool.run(candidates, stop)
    finally:
        pool.close()


class _Pool:
    def __init__(self, image: RawImage, format_names: Sequence[str], workers: int, limits: Limits, loader: str) -> None:
        self._size, self._limits = workers, limits
        self._unread = image.unread
        self._order = {
            "image": str(image.path),
            "unread_known": image.unread is not None,
            "loader": loader,
            "formats": list(format_names),
            "limits": asdict(limits),
            "parent": os.getpid(),
        }
        self._workers: list[_Worker] = []
        self._waiting: deque[_Batch] = deque()

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
        """Give what waits to workers that are ready; start as many as there is work for."""
        missing = min(self._size, len(self._waiting) + sum(w.batch is not None for w in self._workers))
        while len(self._workers) < missing:
            self._workers.append(self._start())
        for worker in self._workers:
            if self._waiting and worker.ready and worker.batch is None:
                worker.batch, worker.since = self._waiting.popleft(), monotonic()
                rest = worker.batch.candidates[len(worker.batch.verdicts) :]
                _send(worker, json.dumps([[c.format, layout_pairs(c.layout)] for c in rest]).encode())

    def _start(self) -> _Worker:
        importlib.import_module("signatures.kernels")  # compiled here, where it can be told, and not in each child
        ours, theirs = Pipe()
        with theirs:
            command = [sys.executable, "-I", "-c", BOOT, json.dumps(sys.path), str(theirs.fileno())]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),), start_new_session=True
            )
        worker = _Worker(process=process, pipe=ours, since=monotonic())
        unread = self._unread or ExtentSet()
        _send(worker, json.dumps(self._order).encode())
        _send(worker, np.stack((unread.starts, unread.ends)).astype("<i8").tobytes())
        return worker

    def _collect(self) -> None:
        """Take what the workers have answered; replace one that died or hangs."""
        ready = wait([worker.pipe for worker in self._workers], timeout=POLL_SECONDS)
        for worker in list(self._workers):
            if worker.pipe in ready:
                self._take(worker)
            elif not worker.ready and monotonic() - worker.since > START_SECONDS:
                raise CarverError(f"a checking process did not start within {START_SECONDS:.0f} s")
            elif worker.batch is not None and monotonic() - worker.since > self._limits.timeout_seconds:
                self._replace(worker, "timeout", f"judging took longer than {self._limits.timeout_seconds:.0f} s")

    def _take(self, worker: _Worker) -> None:
        try:
            answer = worker.pipe.recv_bytes(MAX_ANSWER_BYTES)
        except (EOFError, OSError):
            if not worker.ready:
                raise CarverError("a checking process could not be started; what it says stands above") from None
            self._replace(worker, "validator-died", "the validating process ended by itself")
            return
        if not worker.ready:
            worker.ready = True
        elif worker.batch is not None:
            worker.since = monotonic()
            if answer == READING:
                return
            worker.batch.verdicts.append(verdict_from_json(json.loads(answer)))
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


def _send(worker: _Worker, message: bytes) -> None:
    try:
        worker.pipe.send_bytes(message)
    except OSError:  # it died: reading its pipe will tell
        log.debug("worker %d is gone", worker.process.pid)


def _end(worker: _Worker) -> None:
    worker.process.kill()
    worker.pipe.close()
    try:
        worker.process.wait(timeout=1.0)
    except subprocess.TimeoutExpired:  # a read that hangs in the kernel must not hold us
        log.warning("worker %d hangs in the system and is left behind", worker.process.pid)


def serve(arguments: Sequence[str]) -> None:
    """Judge what comes down the pipe until it closes: the life of a child.

    Args:
        arguments: the descriptor of the pipe.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when to stop
    pipe = Connection(int(arguments[0]))
    try:
        order: dict[str, Any] = json.loads(pipe.recv_bytes())
        starts, ends = np.frombuffer(pipe.recv_bytes(), dtype="<i8").reshape(2, -1)
    except EOFError:
        return
    unread = ExtentSet.from_arrays(starts, ends) if order["unread_known"] else None
    formats = _load_formats(order["loader"], order["formats"])
    with RawImage(order["image"], unread=unread) as image:
        limits = Limits(**order["limits"])
        _confine(limits)
        _end_with(order["parent"])
        pipe.send_bytes(READY)
        _judge_until_closed(pipe, _Telling(image, pipe, limits.progress_bytes), formats)


class _Telling(LaidOver):
    """A source that tells the parent now and then that it is read: a large file on a slow disk is no hang."""

    def __init__(self, source: Source, pipe: Connection, every_bytes: int) -> None:
        super().__init__(source)
        self._pipe = pipe
        self._every_bytes = self._left_bytes = every_bytes

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return the bytes there.

        Raises:
            ReadFault: from the source.
        """
        content = self._source.read_at(offset_bytes, size_bytes)
        self._left_bytes -= len(content)
        if self._left_bytes <= 0:
            self._left_bytes = self._every_bytes
            with suppress(ConnectionError):  # sending the verdict will tell
                self._pipe.send_bytes(READING)
        return content


def _judge_until_closed(pipe: Connection, image: Source, formats: dict[str, Format]) -> None:
    while True:
        try:
            batch = json.loads(pipe.recv_bytes())
        except (EOFError, ConnectionError):
            return
        for name, pairs in batch:
            candidate = Candidate(format=name, layout=layout_from_pairs(pairs), hits=())
            answer = _encoded(judge(image, candidate, formats))
            try:
                pipe.send_bytes(answer)
            except ConnectionError:
                return


def _encoded(verdict: Verdict) -> bytes:
    """Return a verdict as JSON: the parent must not unpickle what a process that read hostile bytes sends."""
    try:
        return json.dumps(verdict_to_json(verdict), allow_nan=False).encode()
    except (TypeError, ValueError) as fault:
        failed = undecided("validator-failed", f"its facts are not plain values: {fault}")
        return json.dumps(verdict_to_json(failed)).encode()


def _load_formats(loader: str, format_names: Sequence[str]) -> dict[str, Format]:
    """Import everything that judging may need now, while this process may still read its own program."""
    for module in pkgutil.walk_packages(signatures.__path__, "signatures."):
        importlib.import_module(module.name)
    for name in CODECS:
        codecs.lookup(name)
    module_name, function = loader.split(":")
    known = getattr(importlib.import_module(module_name), function)()
    return {name: known[name] for name in format_names}


def _confine(limits: Limits) -> None:
    """Give up what judging does not need; from here on no file can be written and no program folder may be readable."""
    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if limits.drop_privileges and os.geteuid() == 0:
        user, group = _lesser_ids()
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
        except PermissionError as fault:  # a container's root may be one in name only
            log.info("privileges cannot be dropped: %s", fault)


def _lesser_ids() -> tuple[int, int]:
    """Return user and group of the caller behind sudo, or of nobody."""
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if user.isdecimal() and group.isdecimal() and int(user) and int(group):
        return int(user), int(group)
    return NOBODY, NOBODY


def _end_with(parent: int) -> None:
    """Have the kernel end this process with its parent; after the change of user, which resets the wish."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before
        sys.exit(1)
