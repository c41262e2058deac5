"""Chunks: what to scan, cut in overlapping pieces, and how their bytes come into memory.

A chunk is a cell of a fixed grid over the image, so a restart cuts the image in the same places. Every hit belongs to
the chunk it starts in; to see it whole, a chunk's bytes run on past its end by the automaton's reach.

An image file is memory-mapped, a window of some MiB at a time (`Feed`): with the kernel's reading ahead in memory that
is faster than copying the bytes out. Touching a mapped page that the disk cannot deliver, or that lies behind the end
of a file cut short, would kill the process (SIGBUS). So the file's size is asked first, then the system is asked to
populate the window (`MADV_POPULATE_READ`, Linux 5.14), which answers with an error where touching would kill; what can
still break while a window is scanned is caught by `carver.bus_errors`, and what the window gave since then is read.

Whatever cannot be mapped and populated (devices, bad disks, other systems), or is still being written by a rescue, is
read into a small buffer that is used again and again. Where a read fails it is tried again page by page, and what stays
missing is told.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import mmap
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from carver.automaton import Bytes
from imaging.errors import ReadFault
from imaging.extent import Extent, ExtentSet, span
from imaging.mapstore import is_locked
from imaging.source import RawImage

if TYPE_CHECKING:
    from carver.bus_errors import Watch

log = logging.getLogger(__name__)

PAGE_BYTES = mmap.PAGESIZE
MADV_POPULATE_READ = 22  # linux/mman.h, since 5.14; the mmap module does not name it
WINDOW_BYTES = 64 << 20  # mapped at a time: with less the calls of the system are felt, by a tenth with 16 MiB
STAT_BLOCK_BYTES = 512  # of st_blocks, whatever the file system
NOTHING = ExtentSet()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of the scan.

    Attributes:
        extent: a cell of the grid, or the part of it from the first to the last byte that is wanted.
        starts: where hits may start, inside the extent.
    """

    extent: Extent
    starts: ExtentSet

    def behind(self, end_bytes: int) -> Chunk | None:
        """Return what is left behind the part that ends there."""
        rest = span(end_bytes, self.extent.end_bytes)
        return Chunk(extent=rest, starts=self.starts.within(rest)) if rest.size_bytes > 0 else None


def cut(
    image: RawImage,
    *,
    chunk_bytes: int,
    reach_bytes: int,
    domain: ExtentSet | None = None,
    resume_at_bytes: int = 0,
    skip_holes: bool = True,
) -> Iterator[Chunk]:
    """Yield the chunks that hold something to scan, in ascending order.

    Args:
        image: what is scanned; its unread ranges are left out.
        chunk_bytes: side of the grid.
        reach_bytes: how far a hit may run on after its first byte; one that starts in a hole may end in data.
        domain: where hits may start (None: anywhere).
        resume_at_bytes: nothing before is yielded.
        skip_holes: leave out what a sparse file never stored, which is zeros.
    """
    whole = span(min(resume_at_bytes, image.size_bytes), image.size_bytes)
    wanted = (ExtentSet([whole]) if domain is None else domain.within(whole)) - (image.unread or ExtentSet())
    holes = _Holes(image) if skip_holes and _is_sparse(image) else None
    position_bytes = 0
    while True:
        index = int(np.searchsorted(wanted.ends, position_bytes, side="right"))
        if index == len(wanted):
            return
        position_bytes = max(position_bytes, int(wanted.starts[index]))
        if holes:
            stored_bytes = holes.next_stored(position_bytes).offset_bytes - reach_bytes
            if stored_bytes > position_bytes:
                position_bytes = stored_bytes
                continue
        cell_end_bytes = (position_bytes // chunk_bytes + 1) * chunk_bytes
        cell = span(position_bytes, cell_end_bytes)
        starts = wanted.within(cell)
        if holes:
            starts &= holes.stored(cell, reach_bytes)
        if starts:
            yield Chunk(extent=span(int(starts.starts[0]), int(starts.ends[-1])), starts=starts)
        position_bytes = cell_end_bytes


def _is_sparse(image: RawImage) -> bool:
    """Tell whether less is stored than the file is long; to look for holes in vain can cost as much as a scan."""
    status = os.fstat(image.fileno())
    return stat.S_ISREG(status.st_mode) and status.st_blocks * STAT_BLOCK_BYTES < status.st_size


class _Holes:
    """What a sparse file never stored, asked of the system as the scan goes on.

    The last answer is kept: some file systems walk the whole file to find the next hole.
    """

    def __init__(self, image: RawImage) -> None:
        self._image = image
        self._known = span(0, 0)

    def next_stored(self, position_bytes: int) -> Extent:
        """Return what is stored without a hole from the first stored byte at `position_bytes` or later on."""
        if not self._known.offset_bytes <= position_bytes < self._known.end_bytes:
            data_bytes = self._next_data(position_bytes)
            self._known = span(data_bytes, max(data_bytes, self._next_hole(data_bytes)))
        return span(max(position_bytes, self._known.offset_bytes), self._known.end_bytes)

    def stored(self, cell: Extent, reach_bytes: int) -> ExtentSet:
        """Return where in `cell` a hit can start that touches stored bytes."""
        pieces: list[Extent] = []
        end_bytes = min(cell.end_bytes + reach_bytes, self._image.size_bytes)
        position_bytes = cell.offset_bytes
        while position_bytes < end_bytes:
            run = self.next_stored(position_bytes)
            if run.offset_bytes < end_bytes:
                pieces.append(span(run.offset_bytes - reach_bytes, run.end_bytes))
            position_bytes = max(run.end_bytes, position_bytes + 1)  # never stand still, if the file changes under us
        return ExtentSet(pieces).within(cell)

    def _next_data(self, offset_bytes: int) -> int:
        size_bytes = self._image.size_bytes
        try:
            return os.lseek(self._image.fileno(), offset_bytes, os.SEEK_DATA)
        except OSError as fault:
            if fault.errno == errno.ENXIO:  # a hole up to the end, or cut short: reading will tell which
                return size_bytes if _size_now(self._image) >= size_bytes else min(offset_bytes, size_bytes)
            return offset_bytes  # a file system that cannot tell: all is data

    def _next_hole(self, offset_bytes: int) -> int:
        try:
            return os.lseek(self._image.fileno(), offset_bytes, os.SEEK_HOLE)
        except OSError:
            return self._image.size_bytes


def _size_now(image: RawImage) -> int:
    status = os.fstat(image.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else image.size_bytes


class Feed:
    """How one thread gets the bytes of an image: mapped a window at a time, or read piece by piece.

    Args:
        image: what is scanned.
        piece_bytes: the most that is asked for at a time.
        may_map: whether it may be mapped.
    """

    def __init__(self, image: RawImage, piece_bytes: int, *, may_map: bool = True) -> None:
        self._image = image
        self._may_map = may_map
        self._buffer = new_buffer(piece_bytes)
        self._window: _Window | None = None
        self._unmapped = span(0, 0)  # what could not be: the same bad sector need not be waited for again

    def get(self, needed: Extent, run_end_bytes: int) -> tuple[Bytes, ExtentSet]:
        """Return the bytes of `needed` and which could not be read (zeros there); they stand until the next call.

        Args:
            needed: what is asked for now.
            run_end_bytes: up to where more will be asked for: no window goes further.
        """
        if self._window is not None and not _holds(self._window.extent, needed):
            self.close()
        if self._may_map and self._window is None and not _holds(self._unmapped, needed):
            # a page more, since what is needed of a piece runs on into the next
            ahead_bytes = max(needed.end_bytes, min(needed.offset_bytes + WINDOW_BYTES + PAGE_BYTES, run_end_bytes))
            extent = span(needed.offset_bytes, ahead_bytes)
            self._window = _mapped(self._image, extent)
            self._unmapped = extent if self._window is None else span(0, 0)
        if self._window is None:
            return self.read(needed)
        first = needed.offset_bytes - self._window.extent.offset_bytes
        return self._window.data[first : first + needed.size_bytes], NOTHING

    def torn(self) -> bool:
        """Tell whether what `get` gave broke since: then `read` it; what was given before stands."""
        if self._window is None or not self._window.watch.torn:
            return False
        log.info("the mapping of %s broke; reading instead", self._window.extent)
        self._unmapped = self._window.extent
        self.close()
        return True

    def read(self, needed: Extent) -> tuple[Bytes, ExtentSet]:
        """Return the bytes of `needed` as `get` does, but never mapped."""
        missing = read_into(self._buffer, self._image, needed)
        return self._buffer[: needed.size_bytes], missing

    def close(self) -> None:
        """Give the window back."""
        if self._window is not None:
            self._window.watch.close()
            self._window = None


def _holds(outer: Extent, inner: Extent) -> bool:
    return outer.offset_bytes <= inner.offset_bytes and inner.end_bytes <= outer.end_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """A stretch of the image in memory; the array holds the mapping, which ends with it."""

    extent: Extent
    data: Bytes
    watch: Watch


def _mapped(image: RawImage, extent: Extent) -> _Window | None:
    """Return a stretch of a file mapped and populated; None where that cannot be or would be a risk."""
    from carver.bus_errors import watch  # here: it needs LLVM, which takes a while to load

    status = os.fstat(image.fileno())
    if sys.platform != "linux" or not stat.S_ISREG(status.st_mode) or extent.end_bytes > status.st_size:
        return None
    if is_locked(image.fileno()):
        log.info("%s is being written; reading instead", image.locator)  # so that the bytes stand while we look
        return None
    ahead_bytes = extent.offset_bytes % mmap.ALLOCATIONGRANULARITY
    size_bytes = extent.size_bytes + ahead_bytes
    try:
        mapping = mmap.mmap(image.fileno(), size_bytes, prot=mmap.PROT_READ, offset=extent.offset_bytes - ahead_bytes)
    except (OSError, ValueError) as fault:  # ValueError: cut short since we looked
        log.info("cannot map %s: %s; reading instead", extent, fault)
        return None
    data = np.frombuffer(mapping, dtype=np.uint8)
    if not _populate(data.ctypes.data, size_bytes):
        log.info("cannot populate %s: %s; reading instead", extent, os.strerror(ctypes.get_errno()))
        return None
    watched = watch(data.ctypes.data, -(-size_bytes // PAGE_BYTES) * PAGE_BYTES)
    return None if watched is None else _Window(extent=extent, data=data[ahead_bytes:], watch=watched)


def _populate(address: int, size_bytes: int) -> bool:
    """Bring mapped pages in, without the GIL (the mmap module's own call keeps it while the disk is read)."""
    return bool(_libc().madvise(ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), MADV_POPULATE_READ) == 0)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def new_buffer(size_bytes: int) -> Bytes:
    """Return a buffer that begins with a page: the system copies a quarter slower to where numpy would put one."""
    made = np.empty(size_bytes + PAGE_BYTES, dtype=np.uint8)
    first = -made.ctypes.data % PAGE_BYTES
    return made[first : first + size_bytes]


def read_into(buffer: Bytes, image: RawImage, needed: Extent) -> ExtentSet:
    """Read the bytes of `needed` to the beginning of `buffer`; return which could not be read (zeros there)."""
    place = buffer.data[: needed.size_bytes]
    got_bytes = 0
    try:
        while got_bytes < needed.size_bytes:
            read_bytes = _read_at(image, place[got_bytes:], needed.offset_bytes + got_bytes)
            if read_bytes == 0:  # cut short under us
                break
            got_bytes += read_bytes
    except OSError as fault:
        log.info("cannot read %s: %s; trying page by page", needed, os.strerror(fault.errno or 0))
        return _read_pages_into(buffer, image, needed)
    if got_bytes == needed.size_bytes:
        return NOTHING
    buffer[got_bytes : needed.size_bytes] = 0
    return ExtentSet([span(needed.offset_bytes + got_bytes, needed.end_bytes)])


def _read_at(image: RawImage, place: memoryview, offset_bytes: int) -> int:
    return os.preadv(image.fileno(), [place], offset_bytes)


def _read_pages_into(buffer: Bytes, image: RawImage, needed: Extent) -> ExtentSet:
    """Read page by page: one bad sector must not cost its neighbours."""
    buffer[: needed.size_bytes] = 0
    unread: list[Extent] = []
    for page in blocks(needed, PAGE_BYTES):
        try:
            piece = image.read_at(page.offset_bytes, page.size_bytes)
        except ReadFault as fault:
            log.debug("%s", fault)
            piece = b""
        at = page.offset_bytes - needed.offset_bytes
        buffer[at : at + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
        unread.append(span(page.offset_bytes + len(piece), page.end_bytes))
    log.warning("%s: %s could not be read", image.locator, ExtentSet(unread))
    return ExtentSet(unread)


def blocks(extent: Extent, block_bytes: int) -> Iterator[Extent]:
    """Cut `extent` at multiples of `block_bytes`."""
    position_bytes = extent.offset_bytes
    while position_bytes < extent.end_bytes:
        end_bytes = min((position_bytes // block_bytes + 1) * block_bytes, extent.end_bytes)
        yield span(position_bytes, end_bytes)
        position_bytes = end_bytes
