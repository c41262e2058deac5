"""Chunks: what to scan, cut in overlapping pieces, and how their bytes come into memory.

A chunk is a cell of a fixed grid over the image, so a restart cuts the image in the same places. Every hit belongs to
the chunk it starts in; to see it whole, a chunk's bytes run on past its end by the automaton's reach.

Bytes are mapped where that is safe, else read. Touching a mapped page that the disk cannot deliver, or that lies
behind the end of a file cut short, kills the process (SIGBUS). So the length is looked up again for each chunk, and the
kernel is asked to populate the mapping first (`MADV_POPULATE_READ`, Linux 5.14), which answers with an error where
touching would kill. Whatever cannot be populated is read through the source, page by page where reading fails. What
remains is the race with a file that is cut short in the moments between populating and scanning.
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

import numpy as np

from carver.automaton import Bytes
from imaging.errors import ReadFault
from imaging.extent import Extent, ExtentSet, span
from imaging.source import RawImage

log = logging.getLogger(__name__)

MADV_POPULATE_READ = 22  # linux/mman.h, since 5.14; the mmap module does not name it
READ_BYTES = 1 << 20
PAGE_BYTES = mmap.PAGESIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of the scan.

    Attributes:
        extent: a cell of the grid, or the part of it from the first to the last byte that is wanted.
        starts: where hits may start, inside the extent.
    """

    extent: Extent
    starts: ExtentSet


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
    sparse = skip_holes and stat.S_ISREG(os.fstat(image.fileno()).st_mode)
    position_bytes = 0
    while True:
        index = int(np.searchsorted(wanted.ends, position_bytes, side="right"))
        if index == len(wanted):
            return
        position_bytes = max(position_bytes, int(wanted.starts[index]))
        if sparse:
            stored_bytes = _next_data(image, position_bytes) - reach_bytes
            if stored_bytes > position_bytes:
                position_bytes = stored_bytes
                continue
        cell_end_bytes = (position_bytes // chunk_bytes + 1) * chunk_bytes
        starts = wanted.within(span(position_bytes, cell_end_bytes))
        if sparse:
            starts &= _stored(image, span(position_bytes, cell_end_bytes), reach_bytes)
        if starts:
            yield Chunk(extent=span(int(starts.starts[0]), int(starts.ends[-1])), starts=starts)
        position_bytes = cell_end_bytes


def _stored(image: RawImage, cell: Extent, reach_bytes: int) -> ExtentSet:
    """Return where in `cell` a hit can start that touches stored bytes."""
    pieces: list[Extent] = []
    position_bytes, end_bytes = cell.offset_bytes, min(cell.end_bytes + reach_bytes, image.size_bytes)
    while (data_bytes := _next_data(image, position_bytes)) < end_bytes:
        position_bytes = _next_hole(image, data_bytes)
        pieces.append(span(data_bytes - reach_bytes, position_bytes))
    return ExtentSet(pieces).within(cell)


def _next_data(image: RawImage, offset_bytes: int) -> int:
    try:
        return os.lseek(image.fileno(), offset_bytes, os.SEEK_DATA)
    except OSError as fault:
        if fault.errno == errno.ENXIO:  # a hole up to the end, or cut short: reading will tell which
            return image.size_bytes if _size_now(image) >= image.size_bytes else offset_bytes
        return offset_bytes  # a file system that cannot tell: all is data


def _next_hole(image: RawImage, offset_bytes: int) -> int:
    try:
        return os.lseek(image.fileno(), offset_bytes, os.SEEK_HOLE)
    except OSError:
        return image.size_bytes


def _size_now(image: RawImage) -> int:
    status = os.fstat(image.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else image.size_bytes


def load(image: RawImage, needed: Extent) -> tuple[Bytes, ExtentSet]:
    """Return the bytes of `needed` (uint8, read-only or private), and which of them could not be read (zeros there).

    A mapping lives as long as the array (and the views made of it), and its pages leave memory with it.
    """
    if needed.end_bytes <= _size_now(image):
        mapped = _mapped(image, needed)
        if mapped is not None:
            return mapped, ExtentSet()
    return _read(image, needed)


def _mapped(image: RawImage, needed: Extent) -> Bytes | None:
    if sys.platform != "linux":
        return None
    ahead_bytes = needed.offset_bytes % mmap.ALLOCATIONGRANULARITY
    size_bytes = needed.size_bytes + ahead_bytes
    try:
        mapping = mmap.mmap(image.fileno(), size_bytes, prot=mmap.PROT_READ, offset=needed.offset_bytes - ahead_bytes)
    except (OSError, ValueError) as fault:  # ValueError: cut short since we looked
        log.info("cannot map %s: %s; reading instead", needed, fault)
        return None
    mapped = np.frombuffer(mapping, dtype=np.uint8)
    failed = _libc().madvise(ctypes.c_void_p(mapped.ctypes.data), ctypes.c_size_t(size_bytes), MADV_POPULATE_READ)
    if failed:
        log.info("cannot populate %s: %s; reading instead", needed, os.strerror(ctypes.get_errno()))
        return None
    return mapped[ahead_bytes:]


@cache
def _libc() -> ctypes.CDLL:
    """Return the C library: mmap.madvise would keep the GIL while the disk is read, a call through ctypes does not."""
    return ctypes.CDLL(None, use_errno=True)


def _read(image: RawImage, needed: Extent) -> tuple[Bytes, ExtentSet]:
    buffer = np.zeros(needed.size_bytes, dtype=np.uint8)
    unread: list[Extent] = []
    for block in _blocks(needed, READ_BYTES):
        faults = _read_into(buffer, needed.offset_bytes, image, block)
        # a second try page by page: one bad sector must not cost its neighbours
        pages = (page for fault in faults for page in _blocks(fault, PAGE_BYTES))
        unread += (gap for page in pages for gap in _read_into(buffer, needed.offset_bytes, image, page))
    if unread:
        log.warning("%s: %s could not be read", image.locator, ExtentSet(unread))
    return buffer, ExtentSet(unread)


def _read_into(buffer: Bytes, origin_bytes: int, image: RawImage, block: Extent) -> list[Extent]:
    """Read `block` to its place in `buffer`; return what of it is missing."""
    try:
        piece = image.read_at(block.offset_bytes, block.size_bytes)
    except ReadFault as fault:
        log.debug("%s", fault)
        return [block]
    at = block.offset_bytes - origin_bytes
    buffer[at : at + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
    return [span(block.offset_bytes + len(piece), block.end_bytes)] if len(piece) < block.size_bytes else []


def _blocks(extent: Extent, block_bytes: int) -> Iterator[Extent]:
    """Cut `extent` at multiples of `block_bytes`."""
    position_bytes = extent.offset_bytes
    while position_bytes < extent.end_bytes:
        end_bytes = min((position_bytes // block_bytes + 1) * block_bytes, extent.end_bytes)
        yield span(position_bytes, end_bytes)
        position_bytes = end_bytes
