"""Hits on disk: the scan's outcome as binary records beside a log of the chunks that are done."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from carver.output import output_error
from carver.scan import HIT_DTYPE, ChunkHits
from carver.stagelog import StageLog
from imaging.errors import InputError
from imaging.ownership import give_to_caller

BLOCK_HITS = 1 << 16


class HitStore:
    """The hits of one scan: `hits.bin` holds `HIT_DTYPE` records, `scan.jsonl` a line a chunk.

    A chunk's hits count when its line is written; what stands behind the last line is cut off.

    Raises:
        InputError: hits that the log tells of are gone.
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, key: Mapping[str, object]) -> None:
        self.path = folder / "hits.bin"
        self.log = StageLog(folder / "scan.jsonl", key, data=self.path)
        self.count = 0
        self.resume_at_bytes = 0
        for entry in self.log.entries():
            self.count, self.resume_at_bytes = entry["hits_through"], entry["end_bytes"]
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
        """Keep a chunk's hits durably.

        Raises:
            DestinationFullError: no room; the chunks before stand.
            OutputError: another write error.
        """
        data = memoryview(chunk.hits.tobytes())
        try:
            written_bytes = 0
            while written_bytes < len(data):
                written_bytes += self._file.write(data[written_bytes:])
            os.fsync(self._file.fileno())
        except OSError as fault:
            self._file.truncate(self.count * HIT_DTYPE.itemsize)
            self._file.seek(0, os.SEEK_END)
            raise output_error(self.path, fault) from fault
        self.count += len(chunk.hits)
        self.log.append(
            {
                "offset_bytes": chunk.chunk.offset_bytes,
                "end_bytes": chunk.chunk.end_bytes,
                "hits_through": self.count,
                "unreadable": [[e.offset_bytes, e.size_bytes] for e in chunk.unread],
            }
        )

    def blocks(self) -> Iterator[npt.NDArray[np.void]]:
        """Yield the hits in order, some at a time."""
        with self.path.open("rb") as file:
            while data := file.read(BLOCK_HITS * HIT_DTYPE.itemsize):
                yield np.frombuffer(data, dtype=HIT_DTYPE)

    def close(self) -> None:
        """Give the files back."""
        self._file.close()
        self.log.close()
