"""Stage logs: one JSON line an entry, so that a stage can be stopped at any moment, resumed and audited.

The first line is the key: everything the stage's outcome depends on. A log with another key is set aside, never
overwritten, together with the file of data beside it. An entry counts when its line is whole; a torn last line (a
crash, a full disk) is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from carver.output import output_error
from imaging.closing import Closing
from imaging.errors import OutputError
from imaging.ownership import give_to_caller


class StageLog(Closing):
    """An append-only log of one stage of a case.

    Args:
        path: the log file.
        key: JSON-ready; decides whether what is there can be gone on with.
        data: the file that belongs to the log, set aside with it.
        anew: whether what is there is set aside whatever its key.

    Raises:
        DestinationFullError: no room.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, key: Mapping[str, object], *, data: Path | None = None, anew: bool = False) -> None:
        self.path = path
        self.key = json.loads(json.dumps(key))
        self.finished = False
        self._last_read: tuple[int, dict[str, Any]] = (-1, {})
        try:
            keep_bytes = 0 if anew else self._usable_bytes()
            if keep_bytes == 0:
                for old in (data, path):  # the log last: while it stands, its data is missed
                    _set_aside(old)
            self._file = path.open("r+b" if path.exists() else "xb", buffering=0)
            give_to_caller(path)
            if self._file.seek(0, os.SEEK_END) > keep_bytes:  # else left alone, with its time
                self._file.truncate(keep_bytes)
            self._file.seek(keep_bytes)
        except OSError as fault:
            raise output_error(path, fault) from fault
        if keep_bytes == 0:
            try:
                self.append({"key": self.key})
            except OutputError:
                self.close()
                raise

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield what was logged so far, without the key and the final line."""
        return (entry for _, entry in self.offsets())

    def append(self, *entries: Mapping[str, object]) -> int:
        """Write entries durably, with one wait for the disk, and return the first one's offset in the log.

        Raises:
            DestinationFullError: no room; what was logged before stands.
            OutputError: another write error.
        """
        offset_bytes = self._file.tell()
        lines = [json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n" for entry in entries]
        try:
            for line in lines:
                written_bytes = 0
                while written_bytes < len(line):
                    written_bytes += self._file.write(line[written_bytes:])
            os.fsync(self._file.fileno())
        except OSError as fault:
            self._file.truncate(offset_bytes)  # a torn line must not stand before the next whole one
            self._file.seek(offset_bytes)
            raise output_error(self.path, fault) from fault
        return offset_bytes

    def read_entry(self, offset_bytes: int) -> dict[str, Any]:
        """Return the entry that `append` put at `offset_bytes`; the last one is remembered, since lines are long."""
        if self._last_read[0] != offset_bytes:
            with self.path.open("rb") as file:
                file.seek(offset_bytes)
                self._last_read = (offset_bytes, json.loads(file.readline()))
        return self._last_read[1]

    def offsets(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (offset, entry) for what was logged so far."""
        return read_log(self.path)

    def finish(self) -> None:
        """Note that the stage has run to its end."""
        if not self.finished:
            self.append({"finished": True})
            self.finished = True

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def _usable_bytes(self) -> int:
        """Return how much of an existing log stands: 0 when there is none or it was for something else."""
        if not self.path.exists():
            return 0
        usable_bytes = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                entry = _whole_entry(line)
                if entry is None or (number == 0 and entry.get("key") != self.key):
                    break
                self.finished = "finished" in entry
                usable_bytes += len(line)
        return usable_bytes


def read_log(path: Path, from_bytes: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (offset, entry) of a log that is there, without opening it for writing; a torn last line is left out.

    From its first entry on, or from the one at `from_bytes`.
    """
    with path.open("rb") as file:
        offset_bytes = file.seek(from_bytes) or len(file.readline())
        for line in file:
            entry = _whole_entry(line)
            if entry is None:
                return
            if "finished" not in entry:
                yield offset_bytes, entry
            offset_bytes += len(line)


def _whole_entry(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _set_aside(path: Path | None) -> None:
    """Give what another run left a name of its own; an empty file is nothing."""
    if path is None or not path.exists() or path.stat().st_size == 0:
        return
    number = 1
    while (aside := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    path.rename(aside)
