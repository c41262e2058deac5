"""Kernel settings: what a user lets us change for the time of a rescue, put back whatever happens.

    with changed(device, WantedSettings(command_timeout_seconds=…, readahead_kib=…, erc_deciseconds=(70, 70)),
                 note=note_path(map), tell=…) as changes:      str() of each is a line for the record
    restore_left_over(note_path(map), tell=…)                        what a killed run left behind

- the kernel's command timeout (`/sys/block/*/device/timeout`, SCSI and ATA): how long it waits for one command;
- readahead (`queue/read_ahead_kb`): only buffered reads have it, ours have none;
- SCT ERC (`smartctl -l scterc`): how long the drive itself tries a bad sector before it answers with an error.

Before anything is changed, what it was is written beside the map; the note goes when all is put back. So also a kill
leaves a note, and the next start puts back what it says: unless the machine was started anew since (then the kernel
has forgotten ours), or another drive has the place now, or someone has changed the setting since. A drive's power
cycle makes it forget SCT ERC by itself. Linux only; elsewhere nothing is changed, and that is told.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeAlias

from imaging import block_stack
from imaging.block_stack import PROC, SYS, read_text
from imaging.device import describe_number
from imaging.disk import LocalDisk, failures_named
from imaging.errors import UsageError
from imaging.health import ask_smartctl, erc_of

MAX_NOTE_BYTES = 1 << 16
MAX_COMMAND_TIMEOUT_SECONDS = 3600
MAX_READAHEAD_KIB = 1 << 20
MAX_ERC_DECISECONDS = 999  # smartctl(8), -l scterc
SMARTCTL_SECONDS = 15.0

TIMEOUT, READAHEAD, ERC = "command timeout", "readahead", "SCT ERC"
PLACES = {TIMEOUT: "device/timeout", READAHEAD: "queue/read_ahead_kb"}  # in the disk's folder in /sys
VALUE = re.compile(r"[0-9]{1,9}(,[0-9]{1,9})?")

Tell: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedSettings:
    """What is to be changed; None leaves it.

    Attributes:
        command_timeout_seconds: how long the kernel waits for a command before it resets the drive.
        readahead_kib: how far the kernel reads ahead.
        erc_deciseconds: how long the drive tries to read and to write a bad sector; 0: as long as it likes.
    """

    command_timeout_seconds: int | None = None
    readahead_kib: int | None = None
    erc_deciseconds: tuple[int, int] | None = None

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            UsageError: a value is out of its range.
        """
        _check("command timeout", self.command_timeout_seconds, 1, MAX_COMMAND_TIMEOUT_SECONDS, "seconds")
        _check("readahead", self.readahead_kib, 0, MAX_READAHEAD_KIB, "KiB")
        for value in self.erc_deciseconds or ():
            _check("error recovery time (SCT ERC)", value, 0, MAX_ERC_DECISECONDS, "tenths of a second")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One setting that was changed, so that it can be put back.

    Attributes:
        what: a key of `PLACES`, or "SCT ERC".
        was: its text before; for SCT ERC "reading,writing" in deciseconds.
        became: its text now.
    """

    what: str
    was: str
    became: str

    def __str__(self) -> str:
        return f"{self.what}: {self.was} -> {self.became}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a run has changed, and of which drive in which start of the machine.

    Attributes:
        boot: the kernel's word for this start of the machine.
        number: "major:minor".
        sequence: the kernel's number of this very attachment (diskseq, Linux 5.15); "" where it has none.
        serial: the drive's own, where it is known.
    """

    boot: str
    number: str
    sequence: str
    serial: str
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Where the kernel's trees are; a test lays out its own."""

    sys: Path = SYS
    proc: Path = PROC


def note_path(map_path: Path) -> Path:
    """Return where the note of what was changed lies, while something is."""
    return map_path.with_name(map_path.name + ".settings")


@contextmanager
def changed(
    device: Path | str,
    wanted: WantedSettings,
    *,
    note: Path,
    tell: Tell = lambda line: None,
    roots: Roots | None = None,
) -> Iterator[tuple[Change, ...]]:
    """Change a drive's settings for the time of the block; what cannot be changed is told, and left.

    First whatever an earlier run left behind is put back. Nothing wanted: that is all that happens.

    Raises:
        UsageError: a wanted value cannot be.
        OutputError: the note cannot be written; nothing is changed then.
    """
    roots = roots or Roots()
    wanted.check()
    restore_left_over(note, tell=tell, roots=roots)
    here = _note_of(device, roots)
    if wanted == WantedSettings():
        yield ()
        return
    if here is None:
        tell(f"{device} has no settings of the kernel to change: it is no disk that /sys describes")
        yield ()
        return
    drive = _Drive(here.number, roots, tell)
    changes = tuple(drive.planned(wanted))
    _write(note, replace(here, changes=changes))
    try:
        yield tuple(change for change in changes if drive.put(change.what, change.became))
    finally:
        restore_left_over(note, tell=tell, roots=roots)


def restore_left_over(note: Path, *, tell: Tell = lambda line: None, roots: Roots | None = None) -> None:
    """Put back what a note says was changed, and take the note away; without a note, do nothing.

    What cannot be put back now keeps its note, for the next start.
    """
    roots = roots or Roots()
    left = _read(note)
    if left is None:
        return
    keep = [change for change in reversed(left.changes) if not _restore(change, left, roots, tell)]
    if keep:
        _write(note, replace(left, changes=tuple(reversed(keep))))
        return
    with failures_named(note):
        note.unlink(missing_ok=True)


def _restore(change: Change, left: Note, roots: Roots, tell: Tell) -> bool:
    """Put one setting back; return whether that is done, or has become needless."""
    if change.what != ERC and left.boot != _boot(roots):
        return True
    here = _note_of_number(left.number, roots)
    if here is None or here.serial != left.serial or (change.what != ERC and here.sequence != left.sequence):
        return True  # another drive, or none: ours has lost the setting with its place or its power
    drive = _Drive(left.number, roots, tell)
    now = drive.value(change.what)
    if now == change.was:
        return True
    if now is not None and now != change.became:
        tell(f"{change.what} was changed by someone else to {now}; it is left so")
        return True
    return drive.put(change.what, change.was)


class _Drive:
    """The settings of one drive, as texts. Places come from the kernel's tree, never from a note."""

    def __init__(self, number: str, roots: Roots, tell: Tell) -> None:
        self._folder = block_stack.disk_folder_of(number, sys_root=roots.sys)
        disk = block_stack.parent_disk_of(number, sys_root=roots.sys) or number
        self._device = block_stack.name_of(disk, sys_root=roots.sys)
        self._tell = tell

    def planned(self, wanted: WantedSettings) -> Iterator[Change]:
        """Yield what has to be changed; what the drive has not is told."""
        values = {TIMEOUT: wanted.command_timeout_seconds, READAHEAD: wanted.readahead_kib}
        texts = {what: str(value) for what, value in values.items() if value is not None}
        if wanted.erc_deciseconds is not None:
            texts[ERC] = _erc_text(wanted.erc_deciseconds)
        for what, text in texts.items():
            was = self.value(what)
            if was is None:
                self._tell(f"{what} cannot be changed: {self._device} has none that is told")
            elif was != text:
                yield Change(what=what, was=was, became=text)

    def value(self, what: str) -> str | None:
        """Return a setting as it is; None where it is not told."""
        if what != ERC:
            return read_text(self._folder / PLACES[what]) if self._folder else None
        answer = ask_smartctl(["-l", "scterc", self._device], timeout_seconds=SMARTCTL_SECONDS)
        if isinstance(answer, str):
            self._tell(f"{ERC}: {answer}")
            return None
        found = erc_of(answer)
        return None if found is None else _erc_text(found)

    def put(self, what: str, value: str) -> bool:
        """Give a setting a value; return whether it took it."""
        if what == ERC:
            answer = ask_smartctl(["-l", f"scterc,{value}", self._device], timeout_seconds=SMARTCTL_SECONDS)
            reason = answer if isinstance(answer, str) else None
        else:
            reason = self._write(PLACES[what], value)
        if reason is None and (now := self.value(what)) != value:
            reason = f"it is {now} afterwards"
        if reason is not None:
            self._tell(f"{what} of {self._device} cannot be set to {value}: {reason}")
        return reason is None

    def _write(self, place: str, value: str) -> str | None:
        if self._folder is None:
            return "the drive is gone"
        try:
            descriptor = os.open(self._folder / place, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)  # never made
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(value)
        except OSError as fault:
            return os.strerror(fault.errno or 0)
        return None


def _note_of(device: Path | str, roots: Roots) -> Note | None:
    number = block_stack.number_of(device)
    return None if number is None else _note_of_number(number, roots)


def _note_of_number(number: str, roots: Roots) -> Note | None:
    disk = block_stack.disk_folder_of(number, sys_root=roots.sys)
    if disk is None:
        return None
    return Note(
        boot=_boot(roots),
        number=number,
        sequence=read_text(disk / "diskseq") or "",
        serial=describe_number(number, path=Path(), sys_root=roots.sys).serial or "",
    )


def _boot(roots: Roots) -> str:
    return read_text(roots.proc / "sys" / "kernel" / "random" / "boot_id") or ""


def _read(note: Path) -> Note | None:
    """Return the note; None where there is none that we wrote whole."""
    try:
        with note.open("rb") as file:
            fields = json.loads(file.read(MAX_NOTE_BYTES))
        changes = tuple(Change(**change) for change in fields.pop("changes"))
        if not all(change.what in (*PLACES, ERC) and VALUE.fullmatch(change.was) for change in changes):
            return None
        return Note(**fields, changes=changes)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _write(note: Path, content: Note) -> None:
    disk, partial = LocalDisk(), note.with_name(note.name + ".partial")
    with failures_named(note):
        disk.write_synced(partial, json.dumps(asdict(content), indent=1).encode() + b"\n")
        disk.rename(partial, note)
        with suppress(OSError):  # some network file systems cannot
            disk.sync_folder(note.parent)


def _erc_text(deciseconds: tuple[int, int]) -> str:
    return f"{deciseconds[0]},{deciseconds[1]}"


def _check(name: str, value: int | None, least: int, most: int, unit: str) -> None:
    if value is not None and not least <= value <= most:
        raise UsageError(f"a {name} of {value} {unit}: it is {least} to {most}")
