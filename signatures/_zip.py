"""Zip structures that several formats share: local headers, descriptors, the central directory and its tail.

Everything is bounded: names, entry counts, the directory's size, what is inflated. Facts: PKWARE APPNOTE 6.3.
"""

from __future__ import annotations

import struct
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
MAX_RECORDS = 1_000_000  # a list of small tensors has some 100,000
MAX_DIRECTORY_BYTES = 256 << 20
MAX_ENTRIES_AT_A_HIT = 100_000  # that decide whether a file is to be judged
SCAN_BYTES = 1 << 20

_local = struct.Struct("<4s3H4I2H")
_central = struct.Struct("<4s4H4I5H2I")

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
    extra_whole: bool


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


def _is_whole_extra(extra: bytes) -> bool:
    """Whether no extra field runs over the end of its entry; Python's zipfile refuses the whole archive then."""
    at = 0
    while at + 4 <= len(extra):
        at += 4 + int.from_bytes(extra[at + 2 : at + 4], "little")
    return at <= len(extra)


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
        extra_whole=_is_whole_extra(rest[name_bytes:]),
    )
    return entry, position_bytes + CENTRAL_BYTES + name_bytes + extra_bytes + comment_bytes


def find_bytes(window: Window, needle: bytes, offset_bytes: int, end_bytes: int) -> int:
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


def read_directory(
    window: Window, offset_bytes: int, *, tail: Tail | None = None, max_entries: int = MAX_RECORDS
) -> Directory:
    """Read central entries from `offset_bytes` on, and the tail after them; damaged entries are stepped over.

    Args:
        window: the file.
        offset_bytes: where the directory begins.
        tail: the tail, where it was found first; then entries are looked for up to it.
        max_entries: the rest is left out.
    """
    entries: list[Entry] = []
    position_bytes, broken = offset_bytes, False
    limit_bytes = min(tail.offset_bytes if tail else window.size_bytes, offset_bytes + MAX_DIRECTORY_BYTES)
    while position_bytes < limit_bytes and len(entries) < max_entries:
        found = read_entry(window, position_bytes)
        if found is not None:
            entries.append(found[0])
            broken = broken or not found[0].extra_whole
            position_bytes = found[1]
            continue
        if tail is None:
            break
        broken = True
        position_bytes = find_bytes(window, CENTRAL, position_bytes + 1, limit_bytes)
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
