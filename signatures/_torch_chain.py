"""Where a distributed checkpoint goes on behind an object that lost its head or its end.

An object's end record tells where the object begins: what leads right to the end of the one before is proven to be the
next. Without that, a later object is taken only where the file must go on, not far away, and off the sectors' edges,
since other files begin on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from imaging.window import Window
from signatures._pickle import read_pickle
from signatures._torch_layout import predicted_size
from signatures._torch_pickle import storage_sizes
from signatures._zip import (
    CENTRAL,
    END,
    END_BYTES,
    LOCAL,
    ZIP64_END,
    Tail,
    read_directory,
    read_entry,
    read_local_header,
    read_tail,
    tail_before,
)
from signatures._zip_records import Record, follow, marks, record_contents

ROOT = "archive"
FIRST_RECORD = f"{ROOT}/data.pkl"
SECTOR_BYTES = 512
BLOCK_BYTES = 4096  # a file system fills the last one of a file up with zeros
MAX_PICKLE_BYTES = 1 << 20  # of one tensor or one small object
MAX_SMALL_RECORDS = 8  # before the storages
MAX_STORAGES = 1000
MAX_SMALL_BYTES = 4096
MAX_VISITS = 20_000  # of objects in such a pickle
MIN_LOOK_BYTES = 64 << 20  # behind what may be the end of a file; behind a long one as much as it is long
MIN_SURE_LOOK_BYTES = 1 << 30  # the same where the file must go on: the next end may be that of a large tensor
MAX_LOST_BYTES = 64 << 20  # without any structure: more may be room between two files
MAX_MARKS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an object lies.

    Attributes:
        end_bytes: as its end record tells, of an object whose head is lost; else None.
        passed: where records of objects that are lost begin, before this one.
    """

    start_bytes: int
    end_bytes: int | None = None
    passed: tuple[int, ...] = ()


def begins_object(window: Window, at_bytes: int) -> bool:
    """Tell whether an object's first record begins there."""
    header = read_local_header(window, at_bytes)
    return header is not None and header.name == FIRST_RECORD


def object_at(window: Window, at_bytes: int) -> Place | None:
    """Return the object there, by its head or else by its end record; None when neither is there."""
    if begins_object(window, at_bytes):
        return Place(start_bytes=at_bytes)
    found = _search(window, at_bytes, max(MIN_LOOK_BYTES, at_bytes))
    return found if found is not None and found.start_bytes == at_bytes else None


def behind_whole(window: Window, end_bytes: int) -> Place | None:
    """Return the next object behind one that is whole; None where the file ends there.

    It is looked for only where something speaks for it: damage right there, or anything but zeros up to the block's
    end.
    """
    if begins_object(window, end_bytes):
        return Place(start_bytes=end_bytes)
    if _must_go_on(window, end_bytes):
        return _taken(_search(window, end_bytes, max(MIN_SURE_LOOK_BYTES, end_bytes)), end_bytes)
    return None if only_zeros_follow(window, end_bytes) else object_at(window, end_bytes)


def _must_go_on(window: Window, end_bytes: int) -> bool:
    """Tell whether the end before is damaged, a piece of a head is there, or what was there could not be read."""
    damaged_end = window.read_at(end_bytes - END_BYTES, len(END)) != END
    return damaged_end or window.read_at(end_bytes, len(LOCAL)) == LOCAL or bool(window.unread_within(end_bytes, 1))


def only_zeros_follow(window: Window, end_bytes: int) -> bool:
    """Tell whether what ends there may be the end of a file: zeros fill the rest of its last block."""
    rest_bytes = -end_bytes % BLOCK_BYTES
    return not any(window.read_at(end_bytes, rest_bytes or len(LOCAL)))


def behind_cut(window: Window, start_bytes: int) -> tuple[int, Place | None]:
    """Return how long an object without its end was, 0 where its pickle does not tell, and the next one."""
    told_bytes = size_of_object(window.part(start_bytes, window.size_bytes - start_bytes)) or 0
    from_bytes = start_bytes + (told_bytes or 1)
    reach_bytes = told_bytes + max(MIN_SURE_LOOK_BYTES, from_bytes) if told_bytes else MAX_LOST_BYTES
    found = _search(window, start_bytes + 1, reach_bytes)
    if found is None or found.start_bytes < from_bytes:  # another file's head where its own bytes should be
        return told_bytes, None
    return told_bytes, _taken(found, from_bytes)


def _taken(found: Place | None, from_bytes: int) -> Place | None:
    if found is None or found.start_bytes == from_bytes:
        return found
    near = found.start_bytes - from_bytes <= MAX_LOST_BYTES
    return found if near and found.start_bytes % SECTOR_BYTES else None


def _search(window: Window, from_bytes: int, reach_bytes: int) -> Place | None:
    """Return the first object from there on that has its head or its end."""
    passed: list[int] = []
    end_bytes = min(from_bytes + reach_bytes, window.size_bytes)
    for at_bytes, signature in islice(marks(window, from_bytes, end_bytes), MAX_MARKS):
        if signature == LOCAL:
            header = read_local_header(window, at_bytes)
            if header is not None and header.name == FIRST_RECORD:
                return Place(start_bytes=at_bytes, passed=tuple(passed))
            if header is not None and header.name.startswith(f"{ROOT}/"):
                passed.append(at_bytes)
        elif signature == ZIP64_END:
            found = _by_tail(window, at_bytes, from_bytes)
            if found is not None:
                passed = [at for at in passed if at < found.start_bytes]
                return Place(start_bytes=found.start_bytes, end_bytes=found.end_bytes, passed=tuple(passed))
        elif signature == CENTRAL:
            passed.append(at_bytes)
    return None


def _by_tail(window: Window, tail_bytes: int, from_bytes: int) -> Place | None:
    """Return the object that ends with the end record there, if it begins at `from_bytes` or behind it."""
    tail = read_tail(window, tail_bytes)
    if tail is None or not _is_ours(window, tail) or tail.start_bytes < from_bytes:
        return None
    return Place(start_bytes=tail.start_bytes, end_bytes=tail.end_bytes)


def _is_ours(window: Window, tail: Tail) -> bool:
    """Tell whether the directory before an end record is that of an object."""
    entry = read_entry(window, tail.offset_bytes - tail.directory_bytes) if tail.whole else None
    return entry is not None and entry[0].name.startswith(f"{ROOT}/")


def object_before(window: Window, at_bytes: int) -> int | None:
    """Return where an object begins that ends right before; None where none does, and on a sector's edge."""
    end_record_bytes = at_bytes - END_BYTES
    if at_bytes % SECTOR_BYTES == 0 or window.read_at(end_record_bytes, len(END)) != END:
        return None
    tail = tail_before(window, end_record_bytes)
    if tail is None or tail.start_bytes < 0 or tail.end_bytes != at_bytes or not _is_ours(window, tail):
        return None
    return tail.start_bytes


def size_of_object(window: Window, *, max_storages: int = MAX_STORAGES) -> int | None:
    """Return how long a zip of one object is, as its pickle and torch's layout tell.

    Returns:
        bytes; 0 where that is lost, None where it has more storages than it may.
    """
    records: list[Record] = []
    sizes: dict[str, int] = {}
    at_bytes = 0
    header = read_local_header(window, 0)
    while header is not None and header.name not in sizes and len(records) < MAX_SMALL_RECORDS:
        end_bytes = header.data_offset_bytes + (MAX_SMALL_BYTES if records else MAX_PICKLE_BYTES)
        record = follow(window, header, end_bytes=end_bytes, is_ours=lambda *_: False)
        if not record.whole:
            return 0
        if not records:
            raw = record_contents(window, record, limit_bytes=MAX_PICKLE_BYTES) or b""
            sizes = storage_sizes(read_pickle(raw).value, f"{ROOT}/data", max_visits=MAX_VISITS)
        records.append(record)
        at_bytes = record.end_bytes
        header = read_local_header(window, at_bytes)
    if sizes:
        return (predicted_size(ROOT, records, sizes) or 0) if len(sizes) <= max_storages else None
    tail = read_directory(window, at_bytes).tail
    return tail.end_bytes if tail is not None else 0
