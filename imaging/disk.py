"""Disk: the few file-system calls a map's promise rests on, so that a test can put one there that loses power."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from imaging.errors import DestinationFullError, OutputError
from imaging.ownership import give_to_caller

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Disk(Protocol):
    """What a MapStore asks of the file system; a test puts a disk here that loses power."""

    def read(self, path: Path) -> bytes | None:
        """Return a file's bytes, None if there is none."""

    def write_synced(self, path: Path, content: bytes) -> None:
        """Make a file of this content, old content gone, and wait until it is on the disk (its name may not be)."""

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what had it."""

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in a folder are on the disk."""

    def open(self, path: Path) -> int:
        """Open a file for reading and writing, made if missing; return its descriptor."""

    def write_at(self, descriptor: int, offset_bytes: int, content: bytes) -> None:
        """Write all of `content` there."""

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        """Cut the file."""

    def sync(self, descriptor: int) -> None:
        """Wait until the file's bytes and size are on the disk."""

    def close(self, descriptor: int) -> None:
        """Give the descriptor back."""


class LocalDisk:
    """The real file system."""

    def read(self, path: Path) -> bytes | None:
        """Return a file's bytes, None if there is none."""
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def write_synced(self, path: Path, content: bytes) -> None:
        """Make a file of this content and wait until it is on the disk."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            self.write_at(descriptor, 0, content)
            self.sync(descriptor)
        finally:
            os.close(descriptor)
        give_to_caller(path)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name; the one it replaces passes on its owner and mode."""
        with suppress(OSError):
            status = new.stat()
            old.chmod(stat.S_IMODE(status.st_mode))
            os.chown(old, status.st_uid, status.st_gid)
        old.replace(new)

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in a folder are on the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def open(self, path: Path) -> int:
        """Open a file for reading and writing, made if missing."""
        return open_or_create(path)

    def write_at(self, descriptor: int, offset_bytes: int, content: bytes) -> None:
        """Write all of `content` there."""
        rest = memoryview(content)
        while rest:
            written_bytes = os.pwrite(descriptor, rest, offset_bytes)
            offset_bytes += written_bytes
            rest = rest[written_bytes:]

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        """Cut the file."""
        os.ftruncate(descriptor, size_bytes)

    def sync(self, descriptor: int) -> None:
        """Wait until the file's bytes and size are on the disk."""
        sync_to_disk(descriptor)

    def close(self, descriptor: int) -> None:
        """Give the descriptor back."""
        os.close(descriptor)


@contextmanager
def failures_named(path: Path) -> Iterator[None]:
    """Turn a failing write into the error that says what to do."""
    try:
        yield
    except OSError as fault:
        if fault.errno in FULL:
            raise DestinationFullError(
                f"no room to write {path}; make room there and run the same command again"
            ) from fault
        raise OutputError(f"cannot write {path}: {os.strerror(fault.errno or 0)}") from fault


def sync_to_disk(descriptor: int) -> None:
    """Wait until a file's bytes and size are on its disk (macOS's `fsync` alone does not wait for the drive).

    Raises:
        OSError: the disk refused; what it holds now is unknown.
    """
    if hasattr(fcntl, "F_FULLFSYNC"):
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def open_or_create(path: Path) -> int:
    """Open for reading and writing; what is made is the caller's."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        descriptor = os.open(path, flags | os.O_CREAT, 0o666)
        give_to_caller(path)
        return descriptor
