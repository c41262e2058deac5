"""Acquisition record: who imaged what, when, how, and what came of it; kept as `IMAGE.acquisition.json`.

    load(path) -> AcquisitionRecord | None        save(path, record)        (for people: acquisition_text)
    add_verification(path, verification)          appends what a later re-reading showed
    note_filling(image, map, words)               before blocks of the image are filled (fill mode)

One record an image; every run of the imager appends a session. Times are UTC. The file is written anew as a whole and
renamed, so that it is there in one piece at any moment; a session that was killed is known by having no end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imaging.disk import LocalDisk, failures_named
from imaging.errors import InputError
from imaging.hash_log import log_path, note_change
from imaging.read_back import Verification

SCHEMA_VERSION = 1
MAX_RECORD_BYTES = 1 << 26
MAX_RANGES = 10_000  # the map has them all
TEST_MODE = "test_mode"  # among a session's options: the map that says what fails of a file that stands for a drive
RUNNING, KILLED = "running", "ended without a word (killed, or the machine stopped)"
NO_BLOCKER = (
    "The source was opened for reading only, and no data was written to it. This is no hardware write blocker: it "
    "does not keep the operating system or other programs from writing."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run of the imager.

    Attributes:
        started: UTC.
        ended: likewise; None while it runs, and for ever where it was killed.
        outcome: "running", "finished", "stopped", "failed: …", ….
        command: word by word.
        source: the device as it was named in this run.
        write_protection: how the source was kept from being written to.
        options: what was asked of the imager, where it is not the default.
        retry_passes: how often bad sectors were to be tried again; -1: without end.
        kernel_changes: settings of the kernel or the drive that were changed for the time of the run.
        events: what happened on the way, in order.
        health_before: what SMART told before the first read; `health_after`: after the last.
        hung: (offset, size) in bytes of what was asked for by reads that passed their deadline.
        blank_after_errors_bytes: what read as one repeated sector right after errors (see `zero_alarm`).
    """

    started: str
    ended: str | None = None
    outcome: str = RUNNING
    tool: str = ""
    version: str = ""
    command: tuple[str, ...] = ()
    host: str = ""
    system: str = ""
    user: str = ""
    source: str = ""
    write_protection: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    retry_passes: int = 0
    kernel_changes: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    health_before: Mapping[str, Any] | None = None
    health_after: Mapping[str, Any] | None = None
    highest_celsius: int | None = None
    reads: int | None = None
    read_errors: int | None = None
    rescued_bytes: int | None = None
    seconds: float | None = None
    hung: tuple[tuple[int, int], ...] = ()
    blank_after_errors_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the image is after the latest session.

    Attributes:
        at: when this was so, UTC.
        finished: everything that was asked for was done; bad sectors may remain.
        image_bytes: how long the image is.
        rescued_bytes: of the drive.
        unread_bytes: of the drive, whatever the reason.
        unread_ranges: (offset, size, mapfile status) of each, the first 10,000; offsets are the drive's.
        unread_range_count: how many there are.
        fill: what the image holds there.
        map_sha256: of the mapfile as it lies beside the image.
        digests: of the whole image; empty where it was not hashed.
        hashes: how they came about.
    """

    at: str
    finished: bool
    image_bytes: int
    rescued_bytes: int
    unread_bytes: int
    unread_ranges: tuple[tuple[int, int, str], ...]
    unread_range_count: int
    fill: str
    map_sha256: str
    digests: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcquisitionRecord:
    """All of it.

    Attributes:
        case: identifiers, examiner and notes, as the lab gave them.
        drive: what the system knows of the source, and its hidden areas.
        image: where the image and its map are, and how it is laid out.
        sessions: in order.
        result: None while the first session has not ended.
        verifications: what re-reading the image showed, in order.
        fillings: what was written over blocks of the image that were not read (fill mode), in order.
    """

    schema_version: int = SCHEMA_VERSION
    case: Mapping[str, str] = field(default_factory=dict)
    drive: Mapping[str, Any] = field(default_factory=dict)
    image: Mapping[str, Any] = field(default_factory=dict)
    sessions: tuple[Session, ...] = ()
    result: Result | None = None
    verifications: tuple[Mapping[str, Any], ...] = ()
    fillings: tuple[str, ...] = ()


def record_path(image_path: Path, map_path: Path) -> Path:
    """Return where the record of an image lies: beside its map, under the image's name."""
    return map_path.with_name(image_path.name + ".acquisition.json")


def load(path: Path) -> AcquisitionRecord | None:
    """Return the record; None where there is none yet. Sessions that never ended are marked as such.

    Raises:
        InputError: it cannot be read, or is no such record.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_RECORD_BYTES)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise InputError(f"cannot read {path}: {os.strerror(fault.errno or 0)}") from fault
    try:
        record = record_of(json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
        raise InputError(f"{path} is no acquisition record of this version; keep it, under another name") from fault
    if record.schema_version != SCHEMA_VERSION:
        raise InputError(f"{path} is of another version of carver; keep it, under another name")
    return record


def record_of(document: Mapping[str, Any]) -> AcquisitionRecord:
    """Return the record of a JSON document; whatever the document lacks is a ValueError, TypeError or KeyError."""
    fields = dict(document)
    sessions = tuple(_session(each) for each in fields.pop("sessions"))
    result = fields.pop("result")
    return AcquisitionRecord(**fields, sessions=sessions, result=None if result is None else Result(**result))


def save(path: Path, record: AcquisitionRecord) -> None:
    """Write the record anew: whole and durable, or not at all.

    Raises:
        DestinationFullError: no room is left; the old one stays.
        OutputError: it cannot be written.
    """
    disk, partial = LocalDisk(), path.with_name(path.name + ".partial")
    with failures_named(path):
        disk.write_synced(partial, json.dumps(asdict(record), indent=1, ensure_ascii=False).encode() + b"\n")
        disk.rename(partial, path)
        with suppress(OSError):  # some network file systems cannot
            disk.sync_folder(path.parent)


def add_verification(path: Path, verification: Verification) -> AcquisitionRecord | None:
    """Append what re-reading the image showed; None where there is no record to append to.

    Raises:
        InputError: it is no such record.
        OutputError: it cannot be written.
    """
    record = load(path)
    if record is None:
        return None
    found = {
        "at": utc_now(),
        "finished": verification.finished,
        "checked_pieces": verification.checked_pieces,
        "differing": [[extent.offset_bytes, extent.size_bytes] for extent in verification.differing[:MAX_RANGES]],
        "unhashed_bytes": verification.unhashed_bytes,
        "digests": dict(verification.digests),
        "image_agrees": verification.image_agrees,
        "clean": verification.clean,
    }
    record = replace(record, verifications=(*record.verifications, found))
    save(path, record)
    return record


def note_filling(image_path: Path, map_path: Path, words: str, *, of_read_bytes: bool = False) -> None:
    """Say, before it is done, that blocks of the image are filled: its hashes and its record must know.

    Args:
        image_path: the image.
        map_path: its map.
        words: which blocks, and with what: "blocks of -/ with zero.bin".
        of_read_bytes: whether blocks that were read are among them.

    Raises:
        InputError: the image is being written, or the record is not ours.
        OutputError: record or hashes cannot be written.
    """
    note_change(log_path(image_path, map_path), of_read_bytes=of_read_bytes)
    path = record_path(image_path, map_path)
    if (record := load(path)) is not None:
        save(path, replace(record, fillings=(*record.fillings, f"{utc_now()}: {words}")))


def utc_now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _session(fields: Mapping[str, Any]) -> Session:
    session = Session(**fields)
    return replace(session, outcome=KILLED) if session.outcome == RUNNING else session
