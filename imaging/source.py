"""Sources: things with bytes at offsets. Positional reads only, no cursor, never opened for writing."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Protocol, runtime_checkable

from imaging.closing import Closing
from imaging.errors import InputError, ReadFault
from imaging.extent import ExtentSet

DEFAULT_SECTOR_BYTES = 512


@runtime_checkable
class Source(Protocol):
    """What every later stage reads from.

    Attributes:
        locator: how the user named it (a path).
        size_bytes: its length.
        sector_bytes: its logical sector.
        unread: what was never read from the drive (None: unknown, there is no mapfile).
    """

    @property
    def locator(self) -> str:
        """How the user named it."""

    @property
    def size_bytes(self) -> int:
        """Its length in bytes."""

    @property
    def sector_bytes(self) -> int:
        """Its logical sector in bytes."""

    @property
    def unread(self) -> ExtentSet | None:
        """The ranges never read from the drive; None when that is not known."""

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return the bytes there; fewer only at the end of the source.

        Raises:
            ReadFault: some of them cannot be read.
        """


class RawImage(Closing):
    """A raw image file (or a healthy block device), read with `pread`, so that a bad disk under it cannot kill us."""

    def __init__(
        self,
        path: Path | str,
        *,
        unread: ExtentSet | None = None,
        sector_bytes: int = DEFAULT_SECTOR_BYTES,
        end_bytes: int | None = None,
    ) -> None:
        """Open it.

        Args:
            path: the file or device.
            unread: what was never read from the drive that it is an image of; None: not known.
            sector_bytes: that drive's sector.
            end_bytes: what lies behind is not part of it (an image on a larger device); None: all is.

        Raises:
            InputError: it cannot be opened for reading.
        """
        self.path = Path(path)
        self._unread = unread
        self._sector_bytes = sector_bytes
        self._descriptor = open_read_only(self.path)
        present_bytes = os.lseek(self._descriptor, 0, os.SEEK_END)
        self._size_bytes = present_bytes if end_bytes is None else min(present_bytes, end_bytes)

    @property
    def locator(self) -> str:
        """The path as given."""
        return str(self.path)

    @property
    def size_bytes(self) -> int:
        """Length in bytes, by seeking to the end (which also works on block devices)."""
        return self._size_bytes

    def present_bytes(self) -> int:
        """Return how much of that is there now: less where the image was cut short under us."""
        return min(os.lseek(self._descriptor, 0, os.SEEK_END), self._size_bytes)

    @property
    def sector_bytes(self) -> int:
        """Logical sector in bytes."""
        return self._sector_bytes

    @property
    def unread(self) -> ExtentSet | None:
        """The ranges never read from the drive; None when that is not known."""
        return self._unread

    def fileno(self) -> int:
        """Return the read-only descriptor, for mapping and in-kernel copies."""
        return self._descriptor

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return the bytes there; fewer only at the end of the image.

        Raises:
            ReadFault: the system answers with an error.
        """
        pieces: list[bytes] = []
        wanted_bytes = max(0, min(size_bytes, self._size_bytes - offset_bytes))
        while wanted_bytes > 0:
            try:
                piece = os.pread(self._descriptor, wanted_bytes, offset_bytes)
            except OSError as fault:
                reason = os.strerror(fault.errno or 0)
                raise ReadFault(
                    f"{self.path}: cannot read {size_bytes} bytes at {offset_bytes:#x}: {reason}",
                    offset_bytes=offset_bytes,
                    size_bytes=size_bytes,
                    errno=fault.errno,
                ) from fault
            if not piece:  # cut short under us
                break
            pieces.append(piece)
            offset_bytes += len(piece)
            wanted_bytes -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def open_read_only(path: Path, *, extra_flags: int = 0) -> int:
    """Open a file or block device for reading only.

    Raises:
        InputError: it does not exist, may not be read, is a directory or something that has no offsets.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | extra_flags)
    except OSError as fault:
        raise InputError(_open_advice(path, fault)) from fault
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and os.uname().sysname == "Darwin"):
        return descriptor
    os.close(descriptor)
    kind = "a directory" if stat.S_ISDIR(mode) else "neither a file nor a block device"
    raise InputError(f"{path} is {kind}; give a raw image file or a block device such as /dev/sdb")


def _missing_advice(path: Path) -> str:
    folder = path.absolute().parent
    if folder.is_relative_to("/dev"):
        return f"{path} does not exist; `lsblk` lists the drives of this machine"
    if not folder.is_dir():
        return f"{path} does not exist, nor does its folder {folder}; is the drive mounted that it lies on?"
    return f"{path} does not exist; there is no such name in {folder}"


def _open_advice(path: Path, fault: OSError) -> str:
    if fault.errno == errno.ENOENT:
        return _missing_advice(path)
    if fault.errno in (errno.EACCES, errno.EPERM):
        return f"no permission to read {path}; run the same command with sudo"
    if fault.errno in (errno.ENXIO, errno.ENOMEDIUM):
        return f"{path} is there, but the drive behind it is gone or has no medium"
    return f"cannot open {path}: {os.strerror(fault.errno or 0)}"
