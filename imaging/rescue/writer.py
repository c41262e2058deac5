"""Writer: the image on the destination; bytes land at the offset that they have on the drive."""

from __future__ import annotations

import errno
import logging
import os
import stat
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from imaging.errors import DestinationFullError, InputError, OutputError
from imaging.extent import Extent
from imaging.mapfile import BlockStatus
from imaging.mapstore import MapStore
from imaging.ownership import give_to_caller
from imaging.pump import Piece

log = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RESERVE_BYTES = 1 << 20


def check_destination(image_path: Path, map_path: Path, source_path: Path) -> None:
    """Refuse an image that this rescue did not begin.

    Raises:
        OutputError: it is there without its map, or is no regular file, or would be its own map or source.
        MapfileError: the map breaks its grammar.
    """
    if image_path.absolute() == map_path.absolute():
        raise OutputError(f"{image_path} cannot be the image and its map at once; name another map")
    try:
        status = image_path.stat()
    except FileNotFoundError:
        return
    except OSError as fault:
        raise OutputError(f"cannot look at {image_path}: {fault.strerror}") from fault
    if source_path.exists() and source_path.samefile(image_path):
        raise OutputError(f"{image_path} is the source itself; name a new image file")
    if not stat.S_ISREG(status.st_mode):
        raise OutputError(f"{image_path} is not a regular file; name a new image file")
    if status.st_size and not (map_path.is_file() and MapStore.read_snapshot(map_path).size_bytes):
        what = "is empty" if map_path.is_file() else "does not"
        raise OutputError(
            f"{image_path} exists, but its map {map_path} {what}, so nobody knows what of it was read; it is not "
            "overwritten: name its map, or another image"
        )


class ImageWriter:
    """The image file, as long as the drive from the start; what is not read yet is a hole that reads as zeros.

    Use it as a subscriber of the pump.
    """

    def __init__(self, path: Path, size_bytes: int, *, finished_bytes: int, synchronous: bool = False) -> None:
        """Open the image or make it.

        Args:
            path: the image.
            size_bytes: the drive's size.
            finished_bytes: where the last finished block of the map ends: a shorter image is not the map's.
            synchronous: each piece is on the disk before `__call__` returns.

        Raises:
            InputError: the image is shorter than its map says.
            OutputError: it cannot be made, or its file system cannot hold a file of that size.
        """
        self.path = path
        self._synchronous = synchronous
        if not path.exists():  # not even made: an empty image beside a map that promises data would be a trap
            _check_length(path, 0, finished_bytes)
        self._descriptor = _open(path)
        try:
            present_bytes = os.fstat(self._descriptor).st_size
            _check_length(path, present_bytes, finished_bytes)
            if present_bytes < size_bytes:
                self._extend(size_bytes)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __call__(self, piece: Piece) -> None:
        """Write a finished piece at its place; others are left as they are.

        Raises:
            DestinationFullError: no room is left.
            OutputError: the destination answers with another error.
        """
        if piece.status is not BlockStatus.FINISHED:
            return
        offset_bytes, rest = piece.extent.offset_bytes, memoryview(piece.data)
        try:
            while rest:
                written_bytes = os.pwrite(self._descriptor, rest, offset_bytes)
                offset_bytes += written_bytes
                rest = rest[written_bytes:]
        except OSError as fault:
            raise self._failure(fault) from fault
        if self._synchronous:
            self.sync()

    def read_back(self, extent: Extent) -> bytes:
        """Return what the image holds there.

        Raises:
            OutputError: it cannot be read.
        """
        try:
            return os.pread(self._descriptor, extent.size_bytes, extent.offset_bytes)
        except OSError as fault:
            raise self._failure(fault) from fault

    def sync(self) -> None:
        """Return when all that was written is on the destination's disk.

        Raises:
            DestinationFullError: no room is left (some file systems notice only now).
            OutputError: the destination answers with another error.
        """
        try:
            if hasattr(os, "fdatasync"):
                os.fdatasync(self._descriptor)
            else:  # macOS
                os.fsync(self._descriptor)
        except OSError as fault:
            raise self._failure(fault) from fault

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _extend(self, size_bytes: int) -> None:
        try:
            os.ftruncate(self._descriptor, size_bytes)
        except OSError as fault:
            raise OutputError(
                f"{self.path}: the destination cannot hold a file of {size_bytes} bytes ({fault.strerror}); "
                "use a file system that can (FAT32 ends at 4 GiB)"
            ) from fault

    def _failure(self, fault: OSError) -> OutputError:
        if fault.errno in FULL:
            return DestinationFullError(
                f"no room is left for {self.path}; what was read stays; make room and run the same command again"
            )
        reason = os.strerror(fault.errno or 0)
        return OutputError(f"cannot write {self.path}: {reason}; mend the destination and run the same command again")


class Reserve:
    """A little room kept on the map's file system, so that the map can still be saved when the image has filled it.

    The file has no name: nothing is left of it however we end.
    """

    def __init__(self, folder: Path) -> None:
        """Take the room; where there is none to take, do without."""
        self._file: IO[bytes] | None = None
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - kept for the run
            self._file.write(bytes(RESERVE_BYTES))
        except OSError:
            self.release()

    def release(self) -> None:
        """Give the room back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _check_length(path: Path, present_bytes: int, finished_bytes: int) -> None:
    if present_bytes < finished_bytes:
        raise InputError(
            f"{path} has {present_bytes} bytes, but its map knows of data up to {finished_bytes}: it was cut short or "
            "is missing, or the map is of another image; restore the image, or begin anew under other names"
        )


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as fault:
        raise OutputError(f"cannot write {path}: {fault.strerror}") from fault
    give_to_caller(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # a map must never outlive the name of its image
    except OSError as fault:
        log.info("%s cannot be synced (%s)", path.parent, fault.strerror)  # some network file systems
    finally:
        os.close(folder)
    return descriptor
