"""Hits on disk: the scan's outcome as binary records beside a log of the chunks that are done.

Waiting for the disk after each chunk would cost more than the scan of it, so chunks are made durable together, once a
second; a kill loses that second's work, no more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic

import numpy as np
import numpy.typing as npt

from carver.output import output_error
from carver.scan import HIT_DTYPE, ChunkHits
from carver.stagelog import StageLog, read_log
from imaging.errors import InputError, OutputError
from imaging.extent import ExtentSet, span
from imaging.ownership import give_to_caller

BLOCK_HITS = 1 << 16
COMMIT_SECONDS = 1.0
LOG, DATA = "scan.jsonl", "hits.bin"


class HitStore:
    """The hits of one scan: `hits.bin` holds `HIT_DTYPE` records, `scan.jsonl` a line a chunk.

    A chunk's hits count when its line is written; what stands behind the last line is cut off.

    Args:
        folder: where both are.
        key: what the hits depend on.
        names: of the log and of the hits.

    Raises:
        InputError: hits that the log tells of are gone.
        OutputError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        key: Mapping[str, object],
        *,
        names: tuple[str, str] = (LOG, DATA),
    ) -> None:
        log_name, data_name = names
        self.path = folder / data_name
        self.log = StageLog(folder / log_name, key, data=self.path)
        self._pending: list[dict[str, object]] = []
        self._committed_at = monotonic()
        self.count = 0
        self.resume_at_bytes = 0
        for entry in self.log.entries():
            self.count, self.resume_at_bytes = entry["hits_through"], entry["end_bytes"]
        self._durable = self.count
        try:
            self._file = self.path.open("r+b" if self.path.exists() else "xb", buffering=0)
            keep_bytes = self.count * HIT_DTYPE.itemsize
            there_bytes = self._file.seek(0, os.SEEK_END)
            if there_bytes > keep_bytes:  # else left alone, with its time
                self._file.truncate(keep_bytes)
                self._file.seek(keep_bytes)
        except OSError as fault:
            raise output_error(self.path, fault) from fault
        give_to_caller(self.path)
        if there_bytes < keep_bytes:
            self.close()
            raise InputError(
                f"{self.path} lacks hits that {self.log.path} tells of; remove {self.log.path} and run the same "
                "command again to scan anew"
            )

    @property
    def finished(self) -> bool:
        """Whether the scan ran to its end."""
        return self.log.finished

    def append(self, chunk: ChunkHits) -> None:
        """Keep a chunk's hits; they are durable within a second, or with `commit`.

        Raises:
            DestinationFullError: no room; the chunks before stand.
            OutputError: another write error.
        """
        data = memoryview(chunk.hits.tobytes())
        try:
            written_bytes = 0
            while written_bytes < len(data):
                written_bytes += self._file.write(data[written_bytes:])
        except OSError as fault:
            self._cut(self.count)
            with suppress(OutputError):  # then they are lost too: they are scanned again
                self.commit()
            raise output_error(self.path, fault) from fault
        self.count += len(chunk.hits)
        self._pending.append(
            {
                "offset_bytes": chunk.chunk.offset_bytes,
                "end_bytes": chunk.chunk.end_bytes,
                "hits_through": self.count,
                "unreadable": [[e.offset_bytes, e.size_bytes] for e in chunk.unread],
            }
        )
        if monotonic() - self._committed_at > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Make durable what was appended.

        Raises:
            DestinationFullError: no room; what was committed before stands.
            OutputError: another write error.
        """
        pending, self._pending = self._pending, []
        self._committed_at = monotonic()
        if not pending:
            return
        try:
            os.fsync(self._file.fileno())
            self.log.append(*pending)
        except OSError as fault:
            self._cut(self._durable)
            raise output_error(self.path, fault) from fault
        except OutputError:
            self._cut(self._durable)
            raise
        self._durable = self.count

    def _cut(self, count: int) -> None:
        """Forget the hits behind the first `count`."""
        self.count = count
        self._file.truncate(count * HIT_DTYPE.itemsize)
        self._file.seek(0, os.SEEK_END)

    def finish(self) -> None:
        """Note that the scan ran to its end."""
        self.commit()
        self.log.finish()

    def blocks(self) -> Iterator[npt.NDArray[np.void]]:
        """Yield the hits in order, some at a time."""
        with self.path.open("rb") as file:
            while data := file.read(BLOCK_HITS * HIT_DTYPE.itemsize):
                yield np.frombuffer(data, dtype=HIT_DTYPE)

    def close(self) -> None:
        """Keep what there is, and give the files back."""
        try:
            self.commit()
        finally:
            self._file.close()
            self.log.close()


def unreadable(folder: Path) -> ExtentSet:
    """Return the ranges of the image that could not be read while it was scanned into `folder`."""
    path = folder / LOG
    if not path.is_file():
        return ExtentSet()
    told = (extent for _, entry in read_log(path) for extent in entry["unreadable"])
    return ExtentSet(span(offset_bytes, offset_bytes + size_bytes) for offset_bytes, size_bytes in told)
