"""Zip structures that several formats share: local headers, descriptors, the central directory and its tail.

Everything is bounded: names, entry counts, the directory's size, what is inflated. Facts: PKWARE APPNOTE 6.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from construct import Bytes, Const, Int16ul, Int32ul, Int64ul, Struct

from imaging.window import Window

LOCAL = b"PK\x03\x04"  # APPNOTE 4.3.7
DESCRIPTOR = b"PK\x07\x08"  # 4.3.9
CENTRAL = b"PK\x01\x02"  # 4.3.12
ZIP64_END = b"PK\x06\x06"  # 4.3.14
LOCATOR = b"PK\x06\x07"  # 4.3.15
END = b"PK\x05\x06"  # 4.3.16

LOCAL_BYTES, CENTRAL_BYTES, ZIP64_END_BYTES, LOCATOR_BYTES, END_BYTES = 30, 46, 56, 20, 22
NARROW_DESCRIPTOR_BYTES, WIDE_DESCRIPTOR_BYTES = 16, 24
STORED, DEFLATED = 0, 8
HAS_DESCRIPTOR = 0x0008  # 4.4.4 bit 3
IS_UTF8 = 0x0800  # 4.4.4 bit 11
ENCRYPTED = 0x0001
IN_ZIP64_EXTRA = 0xFFFFFFFF  # 4.5.3
ZIP64_EXTRA_ID = 1

MAX_NAME_BYTES = 4096
MAX_RECORDS = 100_000
MAX_DIRECTORY_BYTES = 64 << 20
MAX_INFLATE_RATIO = 1040  # deflate cannot exceed 1032:1
MAX_INFLATED_BYTES = 16 << 30  # of one record
MAX_SKIM_BYTES = 1 << 30  # of one record whose size is not told before it
SCAN_BYTES = 1 << 20
FIRST_SCAN_BYTES = 1 << 14  # most records are small: the first look costs little

_local = struct.Struct("<4s3H4I2H")
_central = struct.Struct("<4s4H4I5H2I")
_narrow = struct.Struct("<4s3I")
_wide = struct.Struct("<4sI2Q")

END_HEADER = Struct(
    "signature" / Const(END),
    "disk" / Int16ul,
    "directory_disk" / Int16ul,
    "disk_entries" / Int16ul,
    "entries" / Int16ul,
    "directory_bytes" / Int32ul,
    "directory_offset_bytes" / Int32ul,
    "comment_bytes" / Int16ul,
).compile()

ZIP64_END_HEADER = Struct(
    "signature" / Const(ZIP64_END),
    "rest_bytes" / Int64ul,
    "versions" / Bytes(4),
    "disk" / Int32ul,
    "directory_disk" / Int32ul,
    "disk_entries" / Int64ul,
    "entries" / Int64ul,
    "directory_bytes" / Int64ul,
    "directory_offset_bytes" / Int64ul,
).compile()

LOCATOR_HEADER = Struct(
    "signature" / Const(LOCATOR), "disk" / Int32ul, "zip64_end_offset_bytes" / Int64ul, "disks" / Int32ul
).compile()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalHeader:
    """A record's own header. Sizes and CRC are 0 where a descriptor after the data tells them."""

    offset_bytes: int
    version: int
    flags: int
    method: int
    when: int
    crc: int
    packed_bytes: int
    size_bytes: int
    name: str
    extra: bytes
    data_offset_bytes: int
    wide: bool

    @property
    def sizes_follow(self) -> bool:
        """Whether only the descriptor after the data knows the sizes."""
        return bool(self.flags & HAS_DESCRIPTOR) and self.packed_bytes == 0 and self.size_bytes == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record as the central directory tells it."""

    position_bytes: int
    version: int
    flags: int
    method: int
    when: int
    crc: int
    packed_bytes: int
    size_bytes: int
    name: str
    offset_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The end records: `offset_bytes` is where the first of them lies, `end_bytes` the first byte after the comment."""

    offset_bytes: int
    entries: int
    directory_bytes: int
    directory_offset_bytes: int
    end_bytes: int
    end_record_bytes: int
    zip64: bool
    whole: bool

    @property
    def start_bytes(self) -> int:
        """Where the file begins, seen from where the tail was found."""
        return self.offset_bytes - self.directory_bytes - self.directory_offset_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """The central directory; `whole` when it runs without a break to a whole tail and the counts agree."""

    offset_bytes: int
    entries: tuple[Entry, ...]
    end_bytes: int
    tail: Tail | None
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One member whose data was looked at.

    Attributes:
        declared_crc: the CRC-32 the file tells for its contents.
        computed_crc: over the (inflated) contents; None when the data could not be followed to its end.
        end_bytes: the first byte after data and descriptor.
        whole: the end was found where it should be.
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

    @property
    def unproven(self) -> bool:
        """Whether it has contents but its writer left the CRC-32 out (all zero)."""
        return self.declared_crc == 0 and self.size_bytes > 0 and self.computed_crc not in (None, 0)


def decode_name(raw: bytes, flags: int) -> str:
    """Return a member's name; UTF-8 where it is valid, else code page 437 (APPNOTE appendix D)."""
    try:
        return raw.decode("utf-8" if flags & IS_UTF8 or raw.isascii() else "cp437")
    except UnicodeDecodeError:
        return raw.decode("cp437")


def extra_field(extra: bytes, wanted_id: int) -> bytes | None:
    """Return the payload of one extra field, None when it is not there (APPNOTE 4.5)."""
    at = 0
    while at + 4 <= len(extra):
        field_id, size_bytes = struct.unpack_from("<HH", extra, at)
        if field_id == wanted_id:
            return extra[at + 4 : at + 4 + size_bytes]
        at += 4 + size_bytes
    return None


def _widen(values: list[int], extra: bytes | None) -> list[int] | None:
    """Replace each 0xFFFFFFFF by the next u64 of the zip64 extra; None when one is missing."""
    at = 0
    for index, value in enumerate(values):
        if value != IN_ZIP64_EXTRA or extra is None:
            continue
        if at + 8 > len(extra):
            return None
        values[index] = int.from_bytes(extra[at : at + 8], "little")
        at += 8
    return values


def read_local_header(window: Window, offset_bytes: int) -> LocalHeader | None:
    """Return the local header at `offset_bytes`; None when there is none that can be one."""
    raw = window.read_at(offset_bytes, LOCAL_BYTES)
    if len(raw) < LOCAL_BYTES or not raw.startswith(LOCAL):
        return None
    _, version, flags, method, when, crc, packed, size, name_bytes, extra_bytes = _local.unpack(raw)
    if not 0 < name_bytes <= MAX_NAME_BYTES:
        return None
    rest = window.read_at(offset_bytes + LOCAL_BYTES, name_bytes + extra_bytes)
    if len(rest) < name_bytes + extra_bytes or b"\0" in rest[:name_bytes]:
        return None
    extra = rest[name_bytes:]
    zip64 = extra_field(extra, ZIP64_EXTRA_ID)
    sizes = _widen([size, packed], zip64)
    if sizes is None:
        return None
    return LocalHeader(
        offset_bytes=offset_bytes,
        version=version,
        flags=flags,
        method=method,
        when=when,
        crc=crc,
        packed_bytes=sizes[1],
        size_bytes=sizes[0],
        name=decode_name(rest[:name_bytes], flags),
        extra=extra,
        data_offset_bytes=offset_bytes + LOCAL_BYTES + name_bytes + extra_bytes,
        wide=zip64 is not None,
    )


def read_tail(window: Window, offset_bytes: int) -> Tail | None:
    """Read the end records from `offset_bytes`: zip64 end, locator and end, or the plain end alone."""
    raw = window.read_at(offset_bytes, ZIP64_END_BYTES + LOCATOR_BYTES + END_BYTES)
    if raw.startswith(END) and len(raw) >= END_BYTES:
        return _plain_tail(window, offset_bytes, raw)
    if not raw.startswith(ZIP64_END) or len(raw) < ZIP64_END_BYTES:
        return None
    head = ZIP64_END_HEADER.parse(raw)
    locator_offset = offset_bytes + 12 + head.rest_bytes
    whole = ZIP64_END_BYTES - 12 <= head.rest_bytes <= 1 << 16
    if not whole:
        locator_offset = offset_bytes + ZIP64_END_BYTES
    end_bytes, locator_true = _locator_end(window, locator_offset, head)
    return Tail(
        offset_bytes=offset_bytes,
        entries=head.entries,
        directory_bytes=head.directory_bytes,
        directory_offset_bytes=head.directory_offset_bytes,
        end_bytes=end_bytes,
        end_record_bytes=locator_offset + LOCATOR_BYTES,
        zip64=True,
        whole=whole and locator_true and head.disk == head.directory_disk == 0 and head.disk_entries == head.entries,
    )


def read_own_tail(window: Window, offset_bytes: int) -> Tail | None:
    """Return the tail at `offset_bytes` if the file it ends begins where the window does, else None."""
    tail = read_tail(window, offset_bytes)
    if tail is None or tail.directory_bytes == 0:
        return None
    lost_bytes = 0 if tail.zip64 else ZIP64_END_BYTES + LOCATOR_BYTES
    if lost_bytes and tail.start_bytes == lost_bytes and tail.offset_bytes > lost_bytes:
        # the zip64 part before the plain end is damaged
        return replace(tail, offset_bytes=tail.offset_bytes - lost_bytes, whole=False)
    return tail if tail.start_bytes == 0 else None


def tail_before(window: Window, end_record_bytes: int) -> Tail | None:
    """Return the tail that ends with the end record at `end_record_bytes`, its zip64 part included."""
    raw = window.read_at(end_record_bytes - LOCATOR_BYTES, LOCATOR_BYTES)
    if raw.startswith(LOCATOR) and end_record_bytes >= LOCATOR_BYTES + ZIP64_END_BYTES:
        zip64 = read_tail(window, end_record_bytes - LOCATOR_BYTES - ZIP64_END_BYTES)
        if zip64 is not None:
            return zip64
    return read_tail(window, end_record_bytes)


def _plain_tail(window: Window, offset_bytes: int, raw: bytes) -> Tail:
    head = END_HEADER.parse(raw)
    end_bytes = offset_bytes + END_BYTES + head.comment_bytes
    return Tail(
        offset_bytes=offset_bytes,
        entries=head.entries,
        directory_bytes=head.directory_bytes,
        directory_offset_bytes=head.directory_offset_bytes,
        end_bytes=end_bytes,
        end_record_bytes=offset_bytes,
        zip64=False,
        whole=head.disk == head.directory_disk == 0
        and head.disk_entries == head.entries
        and end_bytes <= window.size_bytes,
    )


def _locator_end(window: Window, locator_offset_bytes: int, zip64: object) -> tuple[int, bool]:
    """Return the file's end after a zip64 locator, and whether locator and end record agree with the zip64 end."""
    raw = window.read_at(locator_offset_bytes, LOCATOR_BYTES + END_BYTES)
    full_bytes = locator_offset_bytes + LOCATOR_BYTES + END_BYTES
    if len(raw) < LOCATOR_BYTES + END_BYTES or raw[LOCATOR_BYTES : LOCATOR_BYTES + 4] != END:
        return full_bytes, False
    end = END_HEADER.parse(raw[LOCATOR_BYTES:])
    full_bytes += end.comment_bytes
    if not raw.startswith(LOCATOR):
        return full_bytes, False
    locator = LOCATOR_HEADER.parse(raw)
    wanted = zip64.directory_offset_bytes + zip64.directory_bytes  # type: ignore[attr-defined]
    agrees = (
        locator.zip64_end_offset_bytes == wanted
        and locator.disk == 0
        and locator.disks == 1
        and end.disk == end.directory_disk == 0
        and end.disk_entries == end.entries
        and full_bytes <= window.size_bytes
        and end.entries in (zip64.entries, 0xFFFF)  # type: ignore[attr-defined]
        and end.directory_bytes in (zip64.directory_bytes, IN_ZIP64_EXTRA)  # type: ignore[attr-defined]
        and end.directory_offset_bytes in (zip64.directory_offset_bytes, IN_ZIP64_EXTRA)  # type: ignore[attr-defined]
    )
    return full_bytes, agrees


def read_entry(window: Window, position_bytes: int) -> tuple[Entry, int] | None:
    """Return the central entry at `position_bytes` and where the next begins; None when it is none."""
    raw = window.read_at(position_bytes, CENTRAL_BYTES)
    if len(raw) < CENTRAL_BYTES or not raw.startswith(CENTRAL):
        return None
    fields = _central.unpack(raw)
    version, flags, method, when, crc, packed, size = fields[2:9]
    name_bytes, extra_bytes, comment_bytes, offset = *fields[9:12], fields[15]
    if not 0 < name_bytes <= MAX_NAME_BYTES:
        return None
    rest = window.read_at(position_bytes + CENTRAL_BYTES, name_bytes + extra_bytes)
    if len(rest) < name_bytes + extra_bytes:
        return None
    values = _widen([size, packed, offset], extra_field(rest[name_bytes:], ZIP64_EXTRA_ID))
    if values is None:
        return None
    entry = Entry(
        position_bytes=position_bytes,
        version=version,
        flags=flags,
        method=method,
        when=when,
        crc=crc,
        packed_bytes=values[1],
        size_bytes=values[0],
        name=decode_name(rest[:name_bytes], flags),
        offset_bytes=values[2],
    )
    return entry, position_bytes + CENTRAL_BYTES + name_bytes + extra_bytes + comment_bytes


def read_directory(window: Window, offset_bytes: int, *, tail: Tail | None = None) -> Directory:
    """Read central entries from `offset_bytes` on, and the tail after them; damaged entries are stepped over.

    Args:
        window: the file.
        offset_bytes: where the directory begins.
        tail: the tail, where it was found first; then entries are looked for up to it.
    """
    entries: list[Entry] = []
    position_bytes, broken = offset_bytes, False
    limit_bytes = min(tail.offset_bytes if tail else window.size_bytes, offset_bytes + MAX_DIRECTORY_BYTES)
    while position_bytes < limit_bytes and len(entries) < MAX_RECORDS:
        found = read_entry(window, position_bytes)
        if found is not None:
            entries.append(found[0])
            position_bytes = found[1]
            continue
        if tail is None:
            break
        broken = True
        position_bytes = _find(window, CENTRAL, position_bytes + 1, limit_bytes)
    if tail is None:
        lost_bytes = ZIP64_END_BYTES + LOCATOR_BYTES
        tail = read_own_tail(window, position_bytes) or read_own_tail(window, position_bytes + lost_bytes)
    whole = (
        not broken
        and tail is not None
        and tail.whole
        and tail.entries == len(entries)
        and tail.directory_offset_bytes == offset_bytes
        and tail.offset_bytes == position_bytes
    )
    return Directory(
        offset_bytes=offset_bytes, entries=tuple(entries), end_bytes=position_bytes, tail=tail, whole=whole
    )


def _find(window: Window, needle: bytes, offset_bytes: int, end_bytes: int) -> int:
    """Return where `needle` is next in `[offset_bytes, end_bytes)`, or `end_bytes`."""
    while offset_bytes < end_bytes:
        chunk = window.read_at(offset_bytes, min(SCAN_BYTES, end_bytes - offset_bytes) + len(needle) - 1)
        at = chunk.find(needle)
        if at >= 0:
            return offset_bytes + at
        if len(chunk) < len(needle):
            break
        offset_bytes += len(chunk) - len(needle) + 1
    return end_bytes


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


def skim_directory(window: Window) -> Directory | None:
    """Hop over the records without looking at their contents and return the directory; None when the chain breaks."""
    position_bytes = 0
    for _ in range(MAX_RECORDS):
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
    return read_directory(window, position_bytes)


def record_contents(window: Window, record: Record, *, limit_bytes: int) -> bytes | None:
    """Return a whole record's contents, None when it is longer than `limit_bytes` or cannot be had."""
    if record.size_bytes > limit_bytes:
        return None
    pieces = contents(window, record.method, record.data_offset_bytes, record.packed_bytes, record.size_bytes)
    whole = b"".join(pieces)
    return whole if len(whole) == record.size_bytes else None
