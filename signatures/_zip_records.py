"""Zip records: one record followed from its local header to its end, and its contents checked and inflated.

Facts: PKWARE APPNOTE 6.3. Everything is bounded, also what is inflated.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from imaging.errors import BudgetExceeded
from imaging.window import Window
from signatures._zip import (
    CENTRAL,
    DEFLATED,
    DESCRIPTOR,
    ENCRYPTED,
    END,
    HAS_DESCRIPTOR,
    LOCAL,
    MAX_RECORDS,
    NARROW_DESCRIPTOR_BYTES,
    SCAN_BYTES,
    STORED,
    WIDE_DESCRIPTOR_BYTES,
    ZIP64_END,
    Directory,
    LocalHeader,
    read_directory,
    read_local_header,
)

MAX_SKIM_BYTES = 1 << 30  # of one record whose size is not told before it
MAX_INFLATE_RATIO = 1040  # deflate cannot exceed 1032:1
MAX_INFLATED_BYTES = 16 << 30  # of one record
FIRST_SCAN_BYTES = 1 << 14  # most records are small: the first look costs little
_narrow = struct.Struct("<4s3I")
_wide = struct.Struct("<4sI2Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One member whose data was looked at.

    Attributes:
        declared_crc: the CRC-32 the file tells for its contents.
        computed_crc: over the (inflated) contents; None when the data could not be followed to its end.
        end_bytes: the first byte after data and descriptor.
        whole: the end was found where it should be.
        headless: its local header is gone; the directory alone tells of it. It is whole if its data is where the next
            record says that it ends, and then that was checked.
    """

    name: str
    flags: int
    method: int
    offset_bytes: int
    data_offset_bytes: int
    packed_bytes: int
    size_bytes: int
    declared_crc: int
    computed_crc: int | None
    end_bytes: int
    whole: bool
    headless: bool = False

    @property
    def lost(self) -> bool:
        """Whether its header is gone and its contents were not found whole without it."""
        return self.headless and self.computed_crc != self.declared_crc

    @property
    def opaque(self) -> bool:
        """Whether it is encrypted, or packed by a method that is not undone here: its contents cannot be checked."""
        return bool(self.flags & ENCRYPTED) or self.method not in (STORED, DEFLATED)

    @property
    def unproven(self) -> bool:
        """Whether it has contents but its writer left the CRC-32 out (all zero)."""
        return self.declared_crc == 0 and self.size_bytes > 0 and self.computed_crc not in (None, 0)


def marks(window: Window, offset_bytes: int, end_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, signature) of every zip signature that begins in `[offset_bytes, end_bytes)`."""
    known = {LOCAL, DESCRIPTOR, CENTRAL, ZIP64_END, END}
    while offset_bytes < end_bytes:
        body_bytes = min(SCAN_BYTES, end_bytes - offset_bytes)
        chunk = window.read_at(offset_bytes, body_bytes + 3)
        at = chunk.find(b"PK")
        while 0 <= at < body_bytes:
            if chunk[at : at + 4] in known:
                yield offset_bytes + at, chunk[at : at + 4]
            at = chunk.find(b"PK", at + 2)
        offset_bytes += body_bytes


def match_descriptor(raw: bytes, distance_bytes: int, header: LocalHeader) -> tuple[int, int, int] | None:
    """Return (CRC, size, descriptor bytes) when `raw` is the descriptor of data that is `distance_bytes` long.

    The width (16 or 24 bytes) is 24 exactly when the local header carries a zip64 extra; a writer that got that wrong
    is still understood.
    """
    order = ((_wide, True), (_narrow, False)) if header.wide else ((_narrow, False), (_wide, True))
    for layout, wide in order:
        if len(raw) < layout.size:
            continue
        _, crc, packed, size = layout.unpack_from(raw)
        wanted = distance_bytes if wide else distance_bytes & 0xFFFFFFFF
        if packed == wanted and (header.method != STORED or size == packed):
            return crc, size if wide or header.method != STORED else distance_bytes, layout.size
    return None


def follow(window: Window, header: LocalHeader, *, end_bytes: int, is_ours: Callable[[int, bytes], bool]) -> Record:
    """Follow a record whose sizes come after its data; CRC-32 is taken on the way.

    Args:
        window: the file.
        header: its local header.
        end_bytes: no further than this.
        is_ours: whether a signature met on the way is a later structure of the same file (then the record is broken).

    Returns:
        the record; when its descriptor was not found, `whole` is False and `end_bytes` is where the search ended.
    """
    crc, position_bytes = 0, header.data_offset_bytes
    end_bytes = min(end_bytes, window.size_bytes)
    step_bytes = FIRST_SCAN_BYTES
    while position_bytes < end_bytes:
        body_bytes = min(step_bytes, end_bytes - position_bytes)
        step_bytes = min(step_bytes * 4, SCAN_BYTES)
        chunk = window.read_at(position_bytes, body_bytes + WIDE_DESCRIPTOR_BYTES)
        at = chunk.find(b"PK")
        while 0 <= at < body_bytes:
            signature, here = chunk[at : at + 4], position_bytes + at
            if signature == DESCRIPTOR:
                raw = chunk[at : at + WIDE_DESCRIPTOR_BYTES]
                met = match_descriptor(raw, here - header.data_offset_bytes, header)
                if met is not None:
                    computed = zlib.crc32(memoryview(chunk)[:at], crc) if header.method == STORED else None
                    return _followed(window, header, here, met, computed)
            elif signature in (LOCAL, CENTRAL, ZIP64_END, END) and is_ours(here, signature):
                return _lost(header, here)
            at = chunk.find(b"PK", at + 2)
        if header.method == STORED:
            crc = zlib.crc32(memoryview(chunk)[:body_bytes], crc)
        position_bytes += body_bytes
    return _lost(header, end_bytes)


def _followed(
    window: Window, header: LocalHeader, at_bytes: int, met: tuple[int, int, int], computed: int | None
) -> Record:
    crc, size_bytes, descriptor_bytes = met
    packed_bytes = at_bytes - header.data_offset_bytes
    if computed is None:
        computed = contents_crc(window, header.method, header.data_offset_bytes, packed_bytes, size_bytes)
    return Record(
        name=header.name,
        flags=header.flags,
        method=header.method,
        offset_bytes=header.offset_bytes,
        data_offset_bytes=header.data_offset_bytes,
        packed_bytes=packed_bytes,
        size_bytes=size_bytes,
        declared_crc=crc,
        computed_crc=computed,
        end_bytes=at_bytes + descriptor_bytes,
        whole=True,
    )


def _lost(header: LocalHeader, at_bytes: int) -> Record:
    packed_bytes = max(0, at_bytes - header.data_offset_bytes)
    return Record(
        name=header.name,
        flags=header.flags,
        method=header.method,
        offset_bytes=header.offset_bytes,
        data_offset_bytes=header.data_offset_bytes,
        packed_bytes=packed_bytes,
        size_bytes=packed_bytes,
        declared_crc=header.crc,
        computed_crc=None,
        end_bytes=at_bytes,
        whole=False,
    )


def sized_record(
    window: Window, header: LocalHeader, *, packed_bytes: int, size_bytes: int, crc: int, wide: bool
) -> Record:
    """Check a record whose sizes are known (from its header or from the directory)."""
    end_bytes = header.data_offset_bytes + packed_bytes
    whole = end_bytes <= window.size_bytes
    computed = (
        contents_crc(window, header.method, header.data_offset_bytes, packed_bytes, size_bytes) if whole else None
    )
    if header.flags & HAS_DESCRIPTOR and whole:
        raw = window.read_at(end_bytes, WIDE_DESCRIPTOR_BYTES)
        met = match_descriptor(raw, packed_bytes, header) if raw.startswith(DESCRIPTOR) else None
        width = WIDE_DESCRIPTOR_BYTES if wide else NARROW_DESCRIPTOR_BYTES
        whole = met is not None and met[0] == crc and met[1] == size_bytes
        end_bytes += met[2] if met else width
    return Record(
        name=header.name,
        flags=header.flags,
        method=header.method,
        offset_bytes=header.offset_bytes,
        data_offset_bytes=header.data_offset_bytes,
        packed_bytes=packed_bytes,
        size_bytes=size_bytes,
        declared_crc=crc,
        computed_crc=computed,
        end_bytes=end_bytes,
        whole=whole,
    )


def contents_crc(window: Window, method: int, offset_bytes: int, packed_bytes: int, size_bytes: int) -> int | None:
    """Return the CRC-32 of a member's contents; None when they cannot be had (cut, not deflate, other length)."""
    crc, seen_bytes = 0, 0
    for piece in contents(window, method, offset_bytes, packed_bytes, size_bytes):
        crc = zlib.crc32(piece, crc)
        seen_bytes += len(piece)
    return crc if seen_bytes == size_bytes else None


def contents(window: Window, method: int, offset_bytes: int, packed_bytes: int, size_bytes: int) -> Iterator[bytes]:
    """Yield a member's contents, never more than `size_bytes` + 1; stops early where the stream is bad."""
    if method == STORED and packed_bytes == size_bytes:
        yield from window.chunks(offset_bytes, packed_bytes)
    elif method == DEFLATED and size_bytes <= min(MAX_INFLATED_BYTES, packed_bytes * MAX_INFLATE_RATIO):
        yield from _inflate(window, offset_bytes, packed_bytes, size_bytes + 1)


def _inflate(window: Window, offset_bytes: int, packed_bytes: int, limit_bytes: int) -> Iterator[bytes]:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    for packed in window.chunks(offset_bytes, packed_bytes):
        rest, piece = packed, b"-"
        while (rest or piece) and not stream.eof and limit_bytes > 0:
            try:
                piece = stream.decompress(rest, min(SCAN_BYTES, limit_bytes))
            except zlib.error:
                return
            rest = stream.unconsumed_tail
            limit_bytes -= len(piece)
            yield piece


def record_contents(window: Window, record: Record, *, limit_bytes: int) -> bytes | None:
    """Return a whole record's contents, None when it is longer than `limit_bytes` or cannot be had."""
    if record.size_bytes > limit_bytes:
        return None
    pieces = contents(window, record.method, record.data_offset_bytes, record.packed_bytes, record.size_bytes)
    whole = b"".join(pieces)
    return whole if len(whole) == record.size_bytes else None


def skim_directory(window: Window) -> Directory | None:
    """Hop over the records without looking at their contents and return the directory; None when the chain breaks.

    Raises:
        BudgetExceeded: there are more records than are kept.
        ReadFault: from the window.
    """
    position_bytes = 0
    for _ in range(MAX_RECORDS + 1):
        header = read_local_header(window, position_bytes)
        if header is None:
            break
        if header.sizes_follow:
            end_bytes = header.data_offset_bytes + MAX_SKIM_BYTES
            record = follow(window, header, end_bytes=end_bytes, is_ours=lambda *_: False)
            if not record.whole:
                return None
            position_bytes = record.end_bytes
            continue
        position_bytes = header.data_offset_bytes + header.packed_bytes
        if header.flags & HAS_DESCRIPTOR:
            raw = window.read_at(position_bytes, WIDE_DESCRIPTOR_BYTES)
            met = match_descriptor(raw, header.packed_bytes, header) if raw.startswith(DESCRIPTOR) else None
            position_bytes += met[2] if met else 0
    else:
        raise BudgetExceeded(f"the zip has more than {MAX_RECORDS:,} members")
    return read_directory(window, position_bytes)
