"""Stored: records that lie on disk, a JSON line each, and are read when they are asked for.

A million recovered files, or models, take 8 MB of memory so; whoever goes through them holds one at a time.
"""

from __future__ import annotations

import json
import os
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeVar, overload

from carver.output import output_error

Record = TypeVar("Record")

READ_BYTES = 4096  # at first: most lines are shorter
WRITE_BYTES = 1 << 20


class Stored(Sequence[Record]):
    """A sequence of records on disk; each time one is asked for it is read and made anew.

    Args:
        descriptor: of the file; closed with the sequence.
        offsets: where each line begins.
        decode: makes a record of what the line holds.
    """

    def __init__(self, descriptor: int, offsets: array[int], decode: Callable[[Any], Record]) -> None:
        self._descriptor, self._offsets, self._decode = descriptor, offsets, decode
        weakref.finalize(self, os.close, descriptor)

    @classmethod
    def in_file(cls, path: Path, offsets: array[int], decode: Callable[[Any], Record]) -> Stored[Record]:
        """Return the records of a file that is there; they stay readable when it is renamed or replaced."""
        return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC), offsets, decode)

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Record, ...]: ...
    def __getitem__(self, index: int | slice) -> Record | tuple[Record, ...]:
        if isinstance(index, slice):
            return tuple(map(self._read, self._offsets[index]))
        return self._read(self._offsets[index])

    def __iter__(self) -> Iterator[Record]:
        return map(self._read, self._offsets)

    def _read(self, offset_bytes: int) -> Record:
        size_bytes = READ_BYTES
        while b"\n" not in (line := os.pread(self._descriptor, size_bytes, offset_bytes)) and len(line) == size_bytes:
            size_bytes *= 4
        return self._decode(json.loads(line.partition(b"\n")[0]))


def store(
    records: Iterable[Record],
    folder: Path,
    *,
    encode: Callable[[Record], object],
    decode: Callable[[Any], Record],
) -> Stored[Record]:
    """Put records on disk as they come, in a file without a name that ends with the sequence.

    Raises:
        DestinationFullError: no room in `folder`.
        OutputError: it cannot be written.
    """
    offsets, end_bytes = array("q"), 0
    try:
        with TemporaryFile(dir=folder, buffering=WRITE_BYTES) as file:
            for record in records:
                line = json.dumps(encode(record), separators=(",", ":")).encode() + b"\n"
                file.write(line)
                offsets.append(end_bytes)
                end_bytes += len(line)
            file.flush()
            return Stored(os.dup(file.fileno()), offsets, decode)
    except OSError as fault:
        raise output_error(folder, fault) from fault
