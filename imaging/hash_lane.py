"""Hash lane: a thread that takes bytes in the order they come; hashlib lets go of the interpreter while it hashes.

What waits for it is bounded: who brings more waits until it has caught up.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from imaging.errors import CarverError

WAITING_BATCHES = 16
STEP_SECONDS = 1.0

Batch: TypeAlias = Sequence[tuple[int, bytes]]


class Running:
    """Digests of bytes from one place on, without a gap.

    Attributes:
        start_bytes: where they begin.
        end_bytes: where they end by now.
    """

    def __init__(self, start_bytes: int, algorithms: Iterable[str]) -> None:
        self.start_bytes = self.end_bytes = start_bytes
        self._states = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}

    def update(self, data: bytes | memoryview) -> None:
        """Add the bytes that follow."""
        for state in self._states.values():
            state.update(data)
        self.end_bytes += len(data)

    def digests(self) -> dict[str, str]:
        """Return the digests by now, hexadecimal."""
        return {name: state.hexdigest() for name, state in self._states.items()}


class HashLane:
    """Hands batches of (offset, bytes) to `work`, in order, in a thread of its own.

    Attributes:
        fault: what ended it early; None while all is well. What comes afterwards is dropped.
    """

    def __init__(self, work: Callable[[int, bytes], None]) -> None:
        self.fault: CarverError | None = None
        self._work = work
        self._queue: queue.Queue[Batch | None] = queue.Queue(WAITING_BATCHES)
        self._thread = threading.Thread(target=self._run, name="hashing", daemon=True)
        self._thread.start()

    def put(self, batch: Batch | None) -> None:
        """Hand in a batch; None is the last."""
        while self._thread.is_alive():
            try:
                self._queue.put(batch, timeout=STEP_SECONDS)
                return
            except queue.Full:
                continue  # it is behind, or has died

    def close(self) -> None:
        """Return when all that was handed in is hashed."""
        self.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            if self.fault is not None:
                continue
            try:
                for offset_bytes, data in batch:
                    self._work(offset_bytes, data)
            except CarverError as fault:  # the log cannot be written: the rescue goes on without
                self.fault = fault
