"""Room: what the image will need on its file system, taken before the first read (--preallocate).

`posix_fallocate` would write a byte to each block where a file system cannot do it: for hours, on a large image. So the
system call itself is asked, which says no.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

from imaging.disk import FULL
from imaging.errors import DestinationFullError, OutputError
from imaging.extent import ExtentSet

UNABLE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.EINVAL)


def take_room(descriptor: int, path: Path, extents: ExtentSet, *, empty_it: bool) -> None:
    """Give a file blocks where it has none yet; what it holds is not changed.

    Args:
        descriptor: the file, open for writing.
        path: its name, for messages.
        extents: where.
        empty_it: it holds nothing, and when there is not enough room, none of it is kept.

    Raises:
        DestinationFullError: there is not enough room.
        OutputError: the file system cannot do it.
    """
    try:
        for extent in extents:
            _allocate(descriptor, extent.offset_bytes, extent.size_bytes)
    except OSError as fault:
        if fault.errno in UNABLE:
            raise OutputError(
                f"the file system of {path} cannot take room beforehand; leave --preallocate out: a run that fills it "
                "stops there, saved, and goes on later"
            ) from fault
        if fault.errno in FULL:
            if empty_it:
                os.ftruncate(descriptor, 0)  # half of it would only be in the way of what the user does next
            raise DestinationFullError(
                f"there is no room for {path}: {extents.total_bytes} bytes are needed. Nothing was read; make room and "
                "run the same command again, or leave --preallocate out"
            ) from fault
        reason = os.strerror(fault.errno or 0)
        raise OutputError(f"cannot take room for {path}: {reason}; mend the destination and run it again") from fault


def _allocate(descriptor: int, offset_bytes: int, size_bytes: int) -> None:
    """Call fallocate(2) with mode 0.

    Raises:
        OSError: it refuses; with EOPNOTSUPP also where there is no such call (macOS).
    """
    if sys.platform != "linux":
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    while _fallocate()(descriptor, 0, offset_bytes, size_bytes) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def _fallocate() -> ctypes._NamedFuncPointer:
    call = ctypes.CDLL(None, use_errno=True).fallocate
    call.argtypes = ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64  # off_t is 64 bits wide on 64-bit Linux
    call.restype = ctypes.c_int
    return call
