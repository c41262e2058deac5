"""Writer: the image on the destination; bytes land at the offset that they have on the drive, or a fixed way off."""

from __future__ import annotations

import errno
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from imaging.closing import Closing
from imaging.errors import DestinationFullError, OutputError
from imaging.extent import Extent, ExtentSet
from imaging.mapfile import BlockStatus
from imaging.ownership import give_to_caller
from imaging.pump import Piece
from imaging.rescue.destination import check_finished, is_block_device
from imaging.rescue.room import take_room

log = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RESERVE_BYTES = 1 << 20
SPARSE_BLOCK_BYTES = 4096
_ZEROS = bytes(SPARSE_BLOCK_BYTES)


class ImageWriter(Closing):
    """The image: a file as long as the drive from the start, or a device; what is not read yet is left as it is.

    Use it as a subscriber of the pump. Positions of pieces are the drive's; `shift_bytes` further they are the image's.

    All writes go through the system's cache; --odirect needs no writes of another kind. What it is wanted for, that no
    failing write goes unnoticed and that the map never runs ahead, is done by the sync before each save of the map.
    Direct writes of 64 KiB cost speed: 411 to 926 MB/s against 1,635 to 1,744 with a sync every 2 s (1 GiB, ext4 on
    a virtual disk, 2026-11-22).
    """

    def __init__(
        self,
        path: Path,
        size_bytes: int,
        *,
        finished: ExtentSet | None = None,
        shift_bytes: int = 0,
        synchronous: bool = False,
        sparse: bool = False,
        compare_before_write: bool = False,
    ) -> None:
        """Open the image or make it.

        Args:
            path: the image, a file or a device.
            size_bytes: how long it must be; a file is made so.
            finished: the finished blocks of the map, which the image must have room for.
            shift_bytes: the position in the image minus the one on the drive.
            synchronous: each piece is on the disk before `__call__` returns.
            sparse: zeros are not written where the image reads as zeros already.
            compare_before_write: nothing is written that the image has already.

        Raises:
            InputError: the image is shorter than its map says.
            OutputError: it cannot be made, its file system cannot hold a file of that size, or it is a device that is
                in use, or that was to be sparse.
        """
        self.path = path
        self._shift_bytes = shift_bytes
        self._synchronous = synchronous
        self._sparse = sparse
        self._compares = compare_before_write
        spared = finished.shifted(shift_bytes) if finished else ExtentSet()
        if not path.exists():  # not even made: an empty image beside a map that promises data would be a trap
            check_finished(path, 0, spared)
        self._descriptor = _open(path)
        try:
            self._is_file = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
            self._began_empty = (present_bytes := os.lseek(self._descriptor, 0, os.SEEK_END)) == 0
            check_finished(path, present_bytes, spared)
            if sparse and not self._is_file:
                raise OutputError(f"{path} is a device, and only a file can be sparse; leave --sparse out")
            if self._is_file and present_bytes < size_bytes:
                self._extend(size_bytes)
            if sparse or compare_before_write:
                self._forget_cache()
        except BaseException:
            self.close()
            raise

    def take_room(self, extents: ExtentSet) -> None:
        """Have the room for these bytes of the drive now, so that it cannot be missing later.

        Raises:
            DestinationFullError: there is not so much of it.
            OutputError: the file system cannot do it, or the image is a device.
        """
        if not self._is_file:
            raise OutputError(f"{self.path} is a device, and has all its room already; leave --preallocate out")
        take_room(self._descriptor, self.path, extents.shifted(self._shift_bytes), empty_it=self._began_empty)

    def __call__(self, piece: Piece) -> None:
        """Write a finished piece at its place; others are left as they are.

        Raises:
            DestinationFullError: no room is left.
            OutputError: the destination answers with another error.
        """
        if piece.status is not BlockStatus.FINISHED:
            return
        offset_bytes = piece.extent.offset_bytes + self._shift_bytes
        if self._compares and self._present(offset_bytes, len(piece.data)) == piece.data:
            return
        if self._sparse:
            self._write_sparsely(offset_bytes, piece.data)
        else:
            self._write(offset_bytes, piece.data)
        if self._synchronous:
            self.sync()

    def read_back(self, extent: Extent) -> bytes:
        """Return what the image holds of these bytes of the drive.

        Raises:
            OutputError: it cannot be read.
        """
        try:
            return os.pread(self._descriptor, extent.size_bytes, extent.offset_bytes + self._shift_bytes)
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

    def _write(self, offset_bytes: int, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                written_bytes = os.pwrite(self._descriptor, rest, offset_bytes)
                offset_bytes += written_bytes
                rest = rest[written_bytes:]
        except OSError as fault:
            raise self._failure(fault) from fault

    def _write_sparsely(self, offset_bytes: int, data: bytes) -> None:
        """Write all but the zeros; these only where the image has something else, from an earlier run or a filling."""
        for start, end, is_zero in zero_runs(data, offset_bytes):
            part = data[start:end]
            if not is_zero or self._present(offset_bytes + start, len(part)) != part:
                self._write(offset_bytes + start, part)

    def _forget_cache(self) -> None:
        """Have what is looked at come from the disk: after a failed sync the system keeps, as clean, what is not on it.

        Raises:
            OutputError: the destination answers with an error.
        """
        self.sync()
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def _present(self, offset_bytes: int, size_bytes: int) -> bytes | None:
        """Return what the image has there; None where it cannot be read, so that it is written."""
        try:
            return os.pread(self._descriptor, size_bytes, offset_bytes)
        except OSError:
            return None

    def _extend(self, size_bytes: int) -> None:
        try:
            os.ftruncate(self._descriptor, size_bytes)
        except OSError as fault:
            if fault.errno in (errno.ENOSPC, errno.EDQUOT):  # a file system without holes takes the room at once
                raise self._failure(fault) from fault
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


def zero_runs(data: bytes, offset_bytes: int) -> Iterator[tuple[int, int, bool]]:
    """Yield (start, end, whether it is all zeros) of runs that cover `data`.

    Only whole blocks of `SPARSE_BLOCK_BYTES`, by their position in the image, count as zeros, and what of one there is
    at either end: less is no hole in any file system.

    Args:
        data: what is to be written.
        offset_bytes: where in the image.
    """
    start, was_zero = 0, False
    edge = -offset_bytes % SPARSE_BLOCK_BYTES or SPARSE_BLOCK_BYTES
    position = 0
    while position < len(data):
        end = min(edge, len(data))
        is_zero = data[position:end] == _ZEROS[: end - position]
        if is_zero is not was_zero and position > start:
            yield start, position, was_zero
            start = position
        was_zero = is_zero
        position, edge = end, edge + SPARSE_BLOCK_BYTES
    if position > start:
        yield start, position, was_zero


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        try:
            # of a device that is mounted or in use, the system itself refuses O_EXCL
            return os.open(path, flags | (os.O_EXCL if is_block_device(path) else 0))
        except FileNotFoundError:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as fault:
        if fault.errno == errno.EBUSY:
            raise OutputError(f"{path} is in use by the system; unmount or stop it first, or name another") from fault
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
