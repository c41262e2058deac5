"""Where a PyTorch zip may start, seen from a hit: inner records are dropped by a look at a few bytes around them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from imaging.source import Source
from imaging.window import Window
from signatures._zip import (
    CENTRAL_BYTES,
    DESCRIPTOR,
    LOCAL,
    NARROW_DESCRIPTOR_BYTES,
    WIDE_DESCRIPTOR_BYTES,
    read_entry,
    read_local_header,
    read_tail,
)
from signatures._zip_starts import from_name, whole_source
from signatures.format import Pattern

SECTOR_BYTES = 512
ALIGNMENT_BYTES = 64  # of each record's data, from the file's start
MAX_HEADER_BYTES = 5120  # of a record, its name and its padding of up to 4 KiB included

STORED_PREFIX: Final = b"PK\x03\x04\x00\x00\x08\x08" + bytes(18)  # version 0, descriptor, UTF-8; no time, CRC, sizes
EMPTY_PREFIX: Final = b"PK\x03\x04\x00\x00\x00\x08" + bytes(18)  # a record of no bytes has no descriptor
DEFLATED_PREFIX: Final = b"PK\x03\x04\x14\x00\x08\x08\x08\x00" + bytes(16)  # Java's begin so too, but tell a time
TAIL_PREFIX: Final = b"PK\x06\x06\x2c\x00\x00\x00\x00\x00\x00\x00\x1e\x03\x2d\x00"
PICKLE_NAME: Final = b"/data.pkl"
ENTRY_PREFIX: Final = b"PK\x01\x02\x00\x00\x00\x00\x08\x08\x00\x00\x00\x00\x00\x00"

PATTERNS: Final = (
    Pattern(bytes=STORED_PREFIX, name="stored"),
    Pattern(bytes=EMPTY_PREFIX, name="empty"),
    Pattern(bytes=DEFLATED_PREFIX, name="deflated"),
    Pattern(bytes=TAIL_PREFIX, name="tail"),
    Pattern(bytes=PICKLE_NAME, name="pickle"),
    Pattern(bytes=ENTRY_PREFIX, name="anchor directory entry", anchor=True),
    Pattern(bytes=DESCRIPTOR, name="anchor descriptor", anchor=True),
)


def torch_starts(source: Source, hit_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the possible starts of the file that a hit belongs to; none for a record inside a file.

    Args:
        source: what was scanned.
        hit_bytes: where the pattern was found.
        pattern: one of `PATTERNS`.
    """
    window = whole_source(source)
    if pattern.name == "tail":
        return _from_tail(window, hit_bytes)
    if pattern.name == "pickle":
        return _from_pickle_name(window, hit_bytes)
    return _from_record(window, hit_bytes)


def _from_record(window: Window, hit_bytes: int) -> Iterable[int]:
    """Yield the hit itself unless another record of the same file ends right before it."""
    header = read_local_header(window, hit_bytes)
    if header is None or "/" not in header.name:
        return ()
    if header.method and not any(header.extra.startswith(mark) for mark in (b"FB", b"\x01\x00")):
        return ()  # other writers use the same flags; torch always pads
    aligned = (header.data_offset_bytes - hit_bytes) % ALIGNMENT_BYTES == 0
    if _follows_record(window, hit_bytes) and not (aligned and hit_bytes % SECTOR_BYTES == 0):
        return ()
    return (hit_bytes,)


def _follows_record(window: Window, offset_bytes: int) -> bool:
    """Tell whether a record of the same file ends right before `offset_bytes`.

    A descriptor tells how long its data was; where no header stands before that data, the head of the file is lost,
    and what follows is all there is. Before a record may also stand the padding of one without data.
    """
    if offset_bytes < WIDE_DESCRIPTOR_BYTES:
        return False
    before = window.read_at(offset_bytes - WIDE_DESCRIPTOR_BYTES, WIDE_DESCRIPTOR_BYTES)
    if before.startswith(DESCRIPTOR):
        return _has_header(window, offset_bytes - WIDE_DESCRIPTOR_BYTES - int.from_bytes(before[8:16], "little"))
    narrow = before[WIDE_DESCRIPTOR_BYTES - NARROW_DESCRIPTOR_BYTES :]
    if narrow.startswith(DESCRIPTOR):
        return _has_header(window, offset_bytes - NARROW_DESCRIPTOR_BYTES - int.from_bytes(narrow[8:12], "little"))
    return before.endswith((b"ZZ", b"FB\0\0", b"FB\x01\0Z"))


def _has_header(window: Window, data_offset_bytes: int) -> bool:
    """Tell whether a record's header ends right before its data."""
    look_back_bytes = min(max(0, data_offset_bytes), MAX_HEADER_BYTES)
    before = window.read_at(data_offset_bytes - look_back_bytes, look_back_bytes)
    at = before.rfind(LOCAL)
    while at >= 0:
        header = read_local_header(window, data_offset_bytes - look_back_bytes + at)
        if header is not None and header.data_offset_bytes == data_offset_bytes:
            return True
        at = before.rfind(LOCAL, 0, at)
    return False


def _from_tail(window: Window, hit_bytes: int) -> Iterable[int]:
    tail = read_tail(window, hit_bytes)
    if tail is None or not 0 <= tail.start_bytes <= hit_bytes or tail.directory_bytes < CENTRAL_BYTES:
        return ()
    entry = read_entry(window, hit_bytes - tail.directory_bytes)
    return (tail.start_bytes,) if entry is not None and "/" in entry[0].name else ()


def _from_pickle_name(window: Window, hit_bytes: int) -> Iterable[int]:
    """Find the start of a re-zipped file; torch's own records are found by their headers and tail."""
    starts = from_name(window, hit_bytes, PICKLE_NAME)
    return [start for start in starts if not _is_torch_record(window, start)]


def _is_torch_record(window: Window, offset_bytes: int) -> bool:
    head = window.read_at(offset_bytes, len(STORED_PREFIX))
    return head in (STORED_PREFIX, EMPTY_PREFIX) or _follows_record(window, offset_bytes)
