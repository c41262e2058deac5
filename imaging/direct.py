"""Direct: reads of a device by this very process, past the system's cache, in whole aligned sectors.

A read that hangs in the kernel takes its process with it: the rescue reads through `imaging.reads`, whose child
processes do what is written here.

Buffered reads are wrong for a failing drive: the kernel reads ahead into the damage, turns one bad sector into a page,
and tries twice. On Linux a device is opened with O_DIRECT and read into page-aligned memory. macOS has no O_DIRECT:
there the raw device (/dev/rdiskN) is opened with F_NOCACHE and its sizes come from the DKIOC ioctls; that path is
written from Apple's headers and was never tested.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
import sys
from pathlib import Path

from imaging.closing import Closing
from imaging.errors import InputError, ReadFault, ReadTimeout
from imaging.extent import ExtentSet
from imaging.source import open_read_only

BLKSSZGET = 0x1268  # linux/fs.h: _IO(0x12, 104), logical sector, an int
BLKALIGNOFF = 0x127A  # linux/fs.h: _IO(0x12, 122), where the first whole physical sector begins, an int; -1: nowhere
BLKPBSZGET = 0x127B  # linux/fs.h: _IO(0x12, 123), physical sector, an unsigned int
DKIOCGETBLOCKSIZE = 0x40046418  # sys/disk.h: _IOR('d', 24, uint32_t)
DKIOCGETBLOCKCOUNT = 0x40086419  # sys/disk.h: _IOR('d', 25, uint64_t)
DKIOCGETPHYSICALBLOCKSIZE = 0x4004644D  # sys/disk.h: _IOR('d', 77, uint32_t)
F_NOCACHE = 48  # macOS fcntl.h
BUFFER_BYTES = 1 << 20
MAX_SECTOR_BYTES = 1 << 16


class UnansweredError(OSError):
    """The drive did not answer in time."""


class AlignedDevice(Closing):
    """Any bytes of a device, out of whole aligned sectors; how these are had is left to the heirs.

    Attributes:
        path: its node.
    """

    path: Path
    _size_bytes: int
    _sector_bytes: int
    _physical_sector_bytes: int

    @property
    def locator(self) -> str:
        """The path as given."""
        return str(self.path)

    @property
    def size_bytes(self) -> int:
        """Length in bytes when it was opened."""
        return self._size_bytes

    @property
    def sector_bytes(self) -> int:
        """Logical sector in bytes: the unit of every read."""
        return self._sector_bytes

    @property
    def physical_sector_bytes(self) -> int:
        """Physical sector in bytes: what is lost as one."""
        return self._physical_sector_bytes

    @property
    def unread(self) -> ExtentSet | None:
        """A device comes without a mapfile: not known."""
        return None

    def fill(self, position_bytes: int, size_bytes: int) -> memoryview:
        """Return what one read of the device gives, until the next call; the numbers are multiples of the sector.

        Args:
            position_bytes: where to read.
            size_bytes: how much, at most `BUFFER_BYTES`.

        Raises:
            OSError: the drive answers with an error, or (`UnansweredError`) not in time.
        """
        raise NotImplementedError

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return the bytes there; fewer only at the end of the device. The drive is asked for whole sectors.

        Raises:
            ReadFault: the drive answers with an error; what it gave before is the fault's `prefix`.
            ReadTimeout: it did not answer in time (only where reads have a deadline).
        """
        end_bytes = min(offset_bytes + size_bytes, self._size_bytes)
        position_bytes = offset_bytes // self._sector_bytes * self._sector_bytes
        lead_bytes = offset_bytes - position_bytes
        wanted_bytes = max(end_bytes - offset_bytes, 0)
        pieces: list[bytes] = []
        while position_bytes < end_bytes:
            ask_bytes = min(-(-(end_bytes - position_bytes) // self._sector_bytes) * self._sector_bytes, BUFFER_BYTES)
            try:
                view = self.fill(position_bytes, ask_bytes)
            except OSError as fault:
                kind = ReadTimeout if isinstance(fault, UnansweredError) else ReadFault
                raise kind(
                    f"{self.path}: cannot read {ask_bytes} bytes at {position_bytes:#x}: {fault.strerror}",
                    offset_bytes=offset_bytes,
                    size_bytes=size_bytes,
                    errno=fault.errno,
                    prefix=b"".join(pieces)[lead_bytes : lead_bytes + wanted_bytes],
                ) from fault
            got_bytes = len(view) - len(view) % self._sector_bytes  # the next read must be aligned as well
            if got_bytes == 0:
                break
            pieces.append(bytes(view[:got_bytes]))
            position_bytes += got_bytes
        whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return whole if len(whole) == wanted_bytes else whole[lead_bytes : lead_bytes + wanted_bytes]


class DirectDevice(AlignedDevice):
    """A block device, opened read-only and read directly."""

    def __init__(self, path: Path | str, memory: mmap.mmap | None = None) -> None:
        """Open it; it is never opened for writing.

        Args:
            path: its node.
            memory: where reads go, `BUFFER_BYTES` of it; its own when None.

        Raises:
            InputError: it does not exist, may not be read, is no block device, has no medium, or refuses direct reads.
        """
        self.path = Path(path)
        self._descriptor = _open_direct(self.path)
        try:
            self._node = self.path.stat().st_rdev
            self._sector_bytes, self._physical_sector_bytes = _sectors(self._descriptor, self.path)
            self._size_bytes = _device_bytes(self._descriptor)
        except BaseException:
            os.close(self._descriptor)
            raise
        # mapped memory begins at a page, which O_DIRECT asks for
        self._memory = mmap.mmap(-1, BUFFER_BYTES) if memory is None else memory

    def present_bytes(self) -> int:
        """Return the size that the device has now; 0 when its node or the drive behind it is gone."""
        try:
            if self.path.stat().st_rdev != self._node:
                return 0
            return _device_bytes(self._descriptor)
        except OSError:
            return 0

    def fill(self, position_bytes: int, size_bytes: int) -> memoryview:
        """Read once; see `AlignedDevice.fill`."""
        return memoryview(self._memory)[: self.fill_at(0, position_bytes, size_bytes)]

    def fill_at(self, memory_offset_bytes: int, position_bytes: int, size_bytes: int) -> int:
        """Read once into the memory, at this offset in it, and return how many bytes came.

        Raises:
            OSError: the drive answers with an error.
        """
        view = memoryview(self._memory)[memory_offset_bytes : memory_offset_bytes + size_bytes]
        return os.preadv(self._descriptor, [view], position_bytes)

    def close(self) -> None:
        """Give the descriptor back; the buffer goes with its last view, which a fault's traceback may hold."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def is_claimed(path: Path) -> bool:
    """Tell whether something in this system holds a block device for itself, by asking to do so and letting go at once.

    The kernel refuses (EBUSY) where a file system is mounted from it, also in another container or beneath an overlay,
    where it is swap, or a member of an array, a volume group, an encrypted mapping; for a disk also where one of its
    partitions is (open(2), O_EXCL without O_CREAT). Nothing is written. Elsewhere than on Linux nothing is known.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as fault:
        return fault.errno == errno.EBUSY  # what else keeps it from being opened is told by those who read it
    return False


def is_device(path: Path) -> bool:
    """Tell whether the path names a drive (on macOS also a raw one, which is a character device)."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False  # opening it says why
    return stat.S_ISBLK(mode) or (sys.platform == "darwin" and stat.S_ISCHR(mode))


def _open_direct(path: Path) -> int:
    if not is_device(path):
        os.close(open_read_only(path))  # says why, where it cannot be opened at all
        raise InputError(f"{path} is a file, not a block device")
    if sys.platform == "darwin":
        raw = path.with_name(f"r{path.name}") if path.name.startswith("disk") else path
        descriptor = open_read_only(raw)
        fcntl.fcntl(descriptor, F_NOCACHE, 1)
        return descriptor
    return open_read_only(path, extra_flags=os.O_DIRECT)


def _sectors(descriptor: int, path: Path) -> tuple[int, int]:
    """Return the logical and the physical sector in bytes.

    On a partition that begins inside a physical sector (512e drives that were partitioned as if they had sectors of
    512 bytes) the logical one is both: reads by the other would each touch two, and lose the good one with the bad.
    """
    if sys.platform == "darwin":
        requests = DKIOCGETBLOCKSIZE, DKIOCGETPHYSICALBLOCKSIZE
    else:
        requests = BLKSSZGET, BLKPBSZGET
    logical_bytes, physical_bytes = (_ask_integer(descriptor, request) for request in requests)
    for size_bytes in (logical_bytes, physical_bytes):
        if not (0 < size_bytes <= MAX_SECTOR_BYTES and size_bytes & (size_bytes - 1) == 0):
            raise InputError(f"{path} reports a sector of {size_bytes} bytes, which cannot be; is the drive all there?")
    if sys.platform != "darwin" and _ask_integer(descriptor, BLKALIGNOFF) != 0:
        return logical_bytes, logical_bytes
    return logical_bytes, max(logical_bytes, physical_bytes)


def _ask_integer(descriptor: int, request: int) -> int:
    answer = fcntl.ioctl(descriptor, request, bytes(4))
    return int(struct.unpack("=I", answer)[0])


def _device_bytes(descriptor: int) -> int:
    """Return the device's size: by seeking to its end, which on macOS gives 0."""
    if sys.platform == "darwin":
        blocks = struct.unpack("=Q", fcntl.ioctl(descriptor, DKIOCGETBLOCKCOUNT, bytes(8)))[0]
        return int(blocks) * _ask_integer(descriptor, DKIOCGETBLOCKSIZE)
    return os.lseek(descriptor, 0, os.SEEK_END)
