"""One member of a zip by both of its headers: what the directory tells of it, and what stands before its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from imaging.window import Window
from signatures._zip import (
    DESCRIPTOR,
    ENCRYPTED,
    HAS_DESCRIPTOR,
    IS_UTF8,
    LOCAL_BYTES,
    MAX_NAME_BYTES,
    NARROW_DESCRIPTOR_BYTES,
    WIDE_DESCRIPTOR_BYTES,
    Entry,
    LocalHeader,
    read_local_header,
)
from signatures._zip_records import Record, contents_crc, sized_record

TORCH_FLAGS = HAS_DESCRIPTOR | IS_UTF8
MAX_EXTRA_BYTES = 0xFFFF  # APPNOTE 4.4.11
Note: TypeAlias = Callable[[str, int | None, str], None]


def checked_record(window: Window, entry: Entry, hopped: Record | None, *, next_bytes: int, note: Note) -> Record:
    """Return the record that an entry of the directory tells of, its contents checked; differences are noted.

    Args:
        window: the file.
        entry: of the directory.
        hopped: the record that was followed at this place before, so that it need not be read again.
        next_bytes: where the next record begins by the directory, or the directory itself.
        note: takes a finding's code, place and detail.
    """
    header = read_local_header(window, entry.offset_bytes)
    if header is None:
        return _headless(window, entry, next_bytes)
    record = hopped
    if record is None or not record.whole or record.packed_bytes != entry.packed_bytes:
        sizes = {"packed_bytes": entry.packed_bytes, "size_bytes": entry.size_bytes}
        record = sized_record(window, header, **sizes, crc=entry.crc, wide=header.wide)
    _compare(entry, header, record, note)
    crc = entry.crc if record.computed_crc == entry.crc else record.declared_crc
    return replace(record, name=entry.name, declared_crc=crc)


def _compare(entry: Entry, header: LocalHeader, record: Record, note: Note) -> None:
    """Compare the directory's copy of a record with the record's own header and descriptor."""
    follows = header.flags & HAS_DESCRIPTOR
    pairs = (
        ("name", entry.name, header.name),
        ("version", entry.version, header.version),
        ("method", entry.method, header.method),
        ("flags", entry.flags, header.flags),
        ("time", entry.when, header.when),
        ("size", entry.size_bytes, record.size_bytes),
        ("CRC-32", entry.crc, record.declared_crc),
        ("size before the data", entry.size_bytes, header.size_bytes or (entry.size_bytes if follows else 0)),
        ("packed size", entry.packed_bytes, header.packed_bytes or (entry.packed_bytes if follows else 0)),
        ("CRC-32 before the data", entry.crc, header.crc or (entry.crc if follows else 0)),
        ("padding", True, _is_padding_whole(header)),
    )
    differs = ", ".join(what for what, ours, theirs in pairs if ours != theirs)
    if differs:
        what = f"{entry.name}: directory and record differ in {differs}"
        note("directory-mismatch", entry.offset_bytes, what)


def _is_padding_whole(header: LocalHeader) -> bool:
    """Tell whether a torch record's padding ("FB", length, 'Z's) is as written; True for other writers' records."""
    if header.when or header.flags & TORCH_FLAGS != header.flags or not header.flags & IS_UTF8 or not header.extra:
        return True
    zip64_bytes = 4 + int.from_bytes(header.extra[2:4], "little") if header.extra.startswith(b"\x01\x00") else 0
    padding = header.extra[zip64_bytes:]
    size_bytes = int.from_bytes(padding[2:4], "little")
    return padding.startswith(b"FB") and len(padding) == 4 + size_bytes and not padding[4:].strip(b"Z")


def _headless(window: Window, entry: Entry, next_bytes: int) -> Record:
    """Return a record without its header; if something is where its data should be, that is checked."""
    found = _data_before(window, entry, next_bytes)
    computed = None
    if found is not None:
        computed = contents_crc(window, entry.method, found, entry.packed_bytes, entry.size_bytes)
    data_offset_bytes = entry.offset_bytes + LOCAL_BYTES + len(entry.name.encode()) if found is None else found
    return Record(
        name=entry.name,
        flags=entry.flags,
        method=entry.method,
        offset_bytes=entry.offset_bytes,
        data_offset_bytes=data_offset_bytes,
        packed_bytes=entry.packed_bytes,
        size_bytes=entry.size_bytes,
        declared_crc=entry.crc,
        computed_crc=computed,
        end_bytes=data_offset_bytes + entry.packed_bytes if found is None else next_bytes,
        whole=found is not None,
        headless=True,
    )


def _data_before(window: Window, entry: Entry, next_bytes: int) -> int | None:
    """Return where a record's data begins, which ends right before the next record or before its own descriptor.

    None where a descriptor should be and is not, or where the header would be longer than one can be.
    """
    trailer_bytes = _descriptor_before(window, next_bytes) if entry.flags & HAS_DESCRIPTOR else 0
    if trailer_bytes is None or entry.flags & ENCRYPTED:
        return None
    offset_bytes = next_bytes - trailer_bytes - entry.packed_bytes
    header_bytes = offset_bytes - entry.offset_bytes - LOCAL_BYTES
    return offset_bytes if 0 < header_bytes <= MAX_NAME_BYTES + MAX_EXTRA_BYTES else None


def _descriptor_before(window: Window, end_bytes: int) -> int | None:
    """Return how long the descriptor is that ends there; None when there is none."""
    for size_bytes in (WIDE_DESCRIPTOR_BYTES, NARROW_DESCRIPTOR_BYTES):
        if window.read_at(end_bytes - size_bytes, len(DESCRIPTOR)) == DESCRIPTOR:
            return size_bytes
    return None
