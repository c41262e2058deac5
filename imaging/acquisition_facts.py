"""Acquisition facts: what a session writes of itself into the record: who, with what, how protected, how it ended."""

from __future__ import annotations

import hashlib
import os
import platform
import pwd
import socket
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from imaging.acquisition_record import MAX_RANGES, NO_BLOCKER, TEST_MODE, Session, utc_now
from imaging.device import describe, in_use
from imaging.errors import InputError, Interrupted
from imaging.extent import ExtentSet
from imaging.hashes import Hashing
from imaging.health import Health
from imaging.rescue.options import RescueOptions
from imaging.rescue.progress import RescueSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Who images: name and version of the program, and the command, word by word."""

    name: str
    version: str
    command: tuple[str, ...]


def begun(device: Path, options: RescueOptions, tool: Tool, changes: tuple[str, ...], health: Health | None) -> Session:
    """Return a session that begins now."""
    info = describe(device)
    return Session(
        started=utc_now(),
        tool=tool.name,
        version=tool.version,
        command=tool.command,
        host=socket.gethostname(),
        system=platform.platform(),
        user=_user(),
        source=str(device),
        write_protection={
            "opened": "read-only",
            "kernel_read_only": info.read_only,  # what BLKROGET answers, as /sys shows it
            "in_use": list(in_use(device)),
            "statement": NO_BLOCKER,
        },
        options=_asked(options),
        retry_passes=options.retry_passes,
        kernel_changes=changes,
        health_before=None if health is None else asdict(health),
    )


def in_test_mode(session: Session, test_map: Path) -> Session:
    """Return a session as it is in test mode: the record must say that no drive failed."""
    return replace(session, options={TEST_MODE: str(test_map), **session.options})


def _user() -> str:
    """Return who images: the one behind sudo, or whom the system knows by this process's number."""
    if behind := os.environ.get("SUDO_USER"):
        return behind
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's number without a name
        return f"user {os.getuid()}"


def outcome_of(summary: RescueSummary | None, error: BaseException | None, too_hot: str | None) -> str:
    """Return how a session ended, in words; `too_hot`: why the drive's temperature ended it."""
    if error is not None:
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        return "stopped" if stopped else f"failed: {error or type(error).__name__}"
    if summary is None:
        return "ended before the rescue"
    if summary.finished:
        return "finished"
    limit = too_hot or summary.limit
    return f"ended: {limit}" if limit else "stopped"


def _asked(options: object) -> dict[str, Any]:
    """Return what differs from the defaults, JSON-ready."""
    found: dict[str, Any] = {}
    for each in fields(options):  # type: ignore[arg-type]
        value = getattr(options, each.name)
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        if value == default:
            continue
        found[each.name] = _plain(value)
    return found


def _plain(value: object) -> object:
    if is_dataclass(value):
        return _asked(value)
    if isinstance(value, ExtentSet):
        return f"{len(value)} ranges, {value.total_bytes} bytes"
    return sorted(value) if isinstance(value, frozenset) else value


def hashes_told(hashing: Hashing, log_file: Path) -> dict[str, Any]:
    """Return what the record says of the hashes."""
    return {
        "log": str(log_file),
        "finished": hashing.finished,
        "pieces": hashing.pieces,
        "from_drive": hashing.from_drive,
        "read_back_bytes": hashing.read_back_bytes,
        "differing": [[extent.offset_bytes, extent.size_bytes] for extent in hashing.differing[:MAX_RANGES]],
        "fault": hashing.fault,
    }


def sha256_of(path: Path) -> str:
    """Return the digest of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise InputError(f"cannot read {path}: {os.strerror(fault.errno or 0)}") from fault
