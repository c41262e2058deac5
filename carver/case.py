"""Case: the folder that holds all of one recovery, bound to one source, written by one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from carver import __version__
from carver.output import PARTIAL_SUFFIX, make_folder, output_error, write_whole
from carver.recovery import SCHEMA_VERSION
from imaging.closing import Closing
from imaging.device import same_identity
from imaging.errors import InputError, OutputError
from imaging.ownership import give_to_caller

BINDING = "case.json"
METADATA = "case.toml"
LOCK = ".lock"
CUTS = "cut_short"
OWN_BEFORE_BINDING = (LOCK, METADATA, BINDING + PARTIAL_SUFFIX, "lost+found")


class Case(Closing):
    """An opened case folder.

    Attributes:
        folder: where it is.
        binding: what `case.json` says: the source's locator and identity, the image and its map.
        earlier_cuts: under how many earlier runs the image was cut short.
    """

    def __init__(self, folder: Path, binding: Mapping[str, Any], lock: int) -> None:
        self.folder = folder
        self.binding = dict(binding)
        self.earlier_cuts: int = self.binding.get(CUTS, 0)
        self._lock = lock

    @classmethod
    def create(cls, folder: Path, *, locator: str, identity: Mapping[str, object]) -> Case:
        """Open the case in `folder` for this source, or begin one there.

        Raises:
            InputError: the folder holds a case of another source, or another process is at work in it.
            OutputError: the folder holds something that is no case, or cannot be written.
        """
        make_folder(folder)
        _refuse_foreign(folder)
        case = cls(folder, {}, _lock(folder))
        try:
            if not (folder / BINDING).exists():
                _begin(folder / BINDING, {"locator": locator, "identity": dict(identity)})
            case.binding = _read_binding(folder / BINDING)
            case.earlier_cuts = case.binding.get(CUTS, 0)
            source = case.binding["source"]
            difference = same_identity(source["identity"], identity)
            if difference:
                raise InputError(
                    f"{folder} holds the case of another source ({source['locator']}: {difference}); "
                    "name another folder for this one"
                )
        except BaseException:
            case.close()
            raise
        return case

    @classmethod
    def existing(cls, folder: Path) -> Case:
        """Open a case that is there.

        Raises:
            InputError: there is none, or another process is at work in it.
        """
        if not (folder / BINDING).is_file():
            what = "does not exist" if not folder.exists() else "is a file" if folder.is_file() else "holds no case"
            raise InputError(f"{folder} {what}; give the folder that `carver rescue` or `carver carve --out` wrote to")
        binding = _read_binding(folder / BINDING)
        return cls(folder, binding, _lock(folder))

    def note(self, **facts: object) -> None:
        """Keep facts in the binding (where the image is, how the last run went), durably."""
        changed = {**self.binding, **json.loads(json.dumps(facts))}
        if changed != self.binding:
            self.binding = changed
            _write_json(self.folder / BINDING, self.binding)

    def note_cut_short(self) -> None:
        """Keep that the image was cut short under this run, once for all of it."""
        self.note(**{CUTS: self.earlier_cuts + 1})

    def close(self) -> None:
        """Let another process have it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder that others use, before anything is left in it."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as fault:
        raise InputError(f"cannot look into {folder}: {os.strerror(fault.errno or 0)}; name another folder") from fault
    if BINDING not in names and (foreign := [name for name in names if name not in OWN_BEFORE_BINDING]):
        raise OutputError(f"{folder} is not empty ({foreign[0]} …) and holds no case; name a new folder")


def _begin(path: Path, source: Mapping[str, object]) -> None:
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    _write_json(path, {"schema_version": SCHEMA_VERSION, "begun": begun, "tool": __version__, "source": source})


def _lock(folder: Path) -> int:
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except PermissionError as fault:
        advice = "run the same command with sudo, or as the user who owns it"
        raise OutputError(f"no permission to write in {folder}; {advice}") from fault
    except OSError as fault:
        raise output_error(path, fault) from fault
    give_to_caller(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(f"another carver is at work in {folder}; wait for it, or stop it first") from None
    except OSError as fault:
        os.close(descriptor)
        reason = os.strerror(fault.errno or 0)
        raise OutputError(f"{folder} cannot be locked ({reason}); name a folder on a local disk") from fault
    return descriptor


def _read_binding(path: Path) -> dict[str, Any]:
    try:
        binding = json.loads(path.read_text(encoding="utf-8"))
        if binding["schema_version"] == SCHEMA_VERSION and "identity" in binding["source"]:
            return dict(binding)
    except OSError as fault:
        raise InputError(f"cannot read {path}: {os.strerror(fault.errno or 0)}") from fault
    except (ValueError, KeyError, TypeError) as fault:
        raise InputError(f"{path} is not the binding of a case ({fault}); restore it, or begin a new case") from fault
    raise InputError(f"{path} was written by another version of carver; use that one, or begin a new case")


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    write_whole(path, json.dumps(value, indent=2, sort_keys=True).encode() + b"\n")
