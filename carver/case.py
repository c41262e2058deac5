"""Case: the folder that holds all of one recovery, bound to one source, written by one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from carver import __version__
from carver.output import make_folder, output_error, write_whole
from carver.recovery import SCHEMA_VERSION
from imaging.device import same_identity
from imaging.errors import InputError, OutputError
from imaging.ownership import give_to_caller

BINDING = "case.json"
METADATA = "case.toml"
LOCK = ".lock"


class Case:
    """An opened case folder.

    Attributes:
        folder: where it is.
        binding: what `case.json` says: the source's locator and identity, the image and its map.
    """

    def __init__(self, folder: Path, binding: Mapping[str, Any], lock: int) -> None:
        self.folder = folder
        self.binding = dict(binding)
        self._lock = lock

    @classmethod
    def create(cls, folder: Path, *, locator: str, identity: Mapping[str, object]) -> Case:
        """Open the case in `folder` for this source, or begin one there.

        Raises:
            InputError: the folder holds a case of another source, or another process is at work in it.
            OutputError: the folder holds something that is no case, or cannot be written.
        """
        make_folder(folder)
        lock = _lock(folder)
        path = folder / BINDING
        if not path.exists():
            foreign = [name for name in sorted(path.name for path in folder.iterdir()) if name not in (LOCK, METADATA)]
            if foreign:
                os.close(lock)
                raise OutputError(f"{folder} is not empty ({foreign[0]} …) and holds no case; name a new folder")
            source = {"locator": locator, "identity": dict(identity)}
            begun = datetime.now(UTC).isoformat(timespec="seconds")
            _write_json(path, {"schema_version": SCHEMA_VERSION, "begun": begun, "tool": __version__, "source": source})
        binding = _read_binding(path)
        difference = same_identity(binding["source"]["identity"], identity)
        if difference:
            os.close(lock)
            raise InputError(
                f"{folder} holds the case of another source ({binding['source']['locator']}: {difference}); "
                "name another folder for this one"
            )
        return cls(folder, binding, lock)

    @classmethod
    def existing(cls, folder: Path) -> Case:
        """Open a case that is there.

        Raises:
            InputError: there is none, or another process is at work in it.
        """
        if not (folder / BINDING).is_file():
            raise InputError(f"{folder} holds no case (no {BINDING}); `carver carve IMAGE --out {folder}` makes one")
        return cls(folder, _read_binding(folder / BINDING), _lock(folder))

    def note(self, **facts: object) -> None:
        """Keep facts in the binding (where the image is, how the last run went), durably."""
        changed = {**self.binding, **json.loads(json.dumps(facts))}
        if changed != self.binding:
            self.binding = changed
            _write_json(self.folder / BINDING, self.binding)

    def close(self) -> None:
        """Let another process have it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lock(folder: Path) -> int:
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as fault:
        raise output_error(path, fault) from fault
    give_to_caller(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise InputError(f"another carver is at work in {folder}; wait for it, or stop it first") from None
    return descriptor


def _read_binding(path: Path) -> dict[str, Any]:
    try:
        binding = json.loads(path.read_text(encoding="utf-8"))
        if binding["schema_version"] == SCHEMA_VERSION and "identity" in binding["source"]:
            return dict(binding)
    except (ValueError, KeyError, TypeError) as fault:
        raise InputError(f"{path} is not the binding of a case ({fault}); restore it, or begin a new case") from fault
    raise InputError(f"{path} was written by another version of carver; use that one, or begin a new case")


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    write_whole(path, json.dumps(value, indent=2, sort_keys=True).encode() + b"\n")
