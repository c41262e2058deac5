"""Where a zip may start, seen from a member's name or from the end record."""

from __future__ import annotations

from collections.abc import Iterable

from imaging.extent import span
from imaging.source import Source
from imaging.window import Window
from signatures._zip import (
    CENTRAL,
    CENTRAL_BYTES,
    END,
    LOCAL,
    LOCAL_BYTES,
    MAX_NAME_BYTES,
    Tail,
    read_entry,
    read_local_header,
    tail_before,
)

FIRST_LOOK_BYTES = 1 << 16
MAX_TRAILING_DIRECTORY_BYTES = 4 << 20
MAX_ENTRIES_TRIED = 256


def whole_source(source: Source) -> Window:
    """Return a window on all of a source, for a few looks around a hit."""
    return Window(source, (span(0, source.size_bytes),))


def from_name(window: Window, hit_bytes: int, name: bytes, *, exact: bool = False) -> Iterable[int]:
    """Yield the start of the zip whose member's name ends with the `name` found at `hit_bytes`.

    In a local header the header itself may be the start; in the directory the end record tells it. `exact`: the
    member's name is no longer than `name`.
    """
    end_bytes = hit_bytes + len(name)
    look_back_bytes = min(hit_bytes, MAX_NAME_BYTES + CENTRAL_BYTES)
    at = window.read_at(hit_bytes - look_back_bytes, look_back_bytes).rfind(b"PK")
    if at < 0:
        return ()
    header_bytes = hit_bytes - look_back_bytes + at
    raw = window.read_at(header_bytes, CENTRAL_BYTES)
    for signature, size_bytes, at in ((LOCAL, LOCAL_BYTES, 26), (CENTRAL, CENTRAL_BYTES, 28)):
        name_bytes = int.from_bytes(raw[at : at + 2], "little")
        if not raw.startswith(signature) or header_bytes + size_bytes + name_bytes != end_bytes:
            continue
        if exact and name_bytes != len(name):
            continue
        return (header_bytes,) if signature == LOCAL else from_next_end(window, end_bytes)
    return ()


def from_next_end(window: Window, offset_bytes: int) -> Iterable[int]:
    """Yield the start that the next end record after `offset_bytes` tells."""
    reach_bytes = FIRST_LOOK_BYTES
    while reach_bytes <= MAX_TRAILING_DIRECTORY_BYTES:
        at = window.read_at(offset_bytes, reach_bytes).find(END)
        if at >= 0:
            tail = tail_at_end(window, offset_bytes + at)
            return (tail.start_bytes,) if tail is not None else ()
        reach_bytes *= 8
    return ()


def tail_at_end(window: Window, end_record_bytes: int) -> Tail | None:
    """Return the tail that the end record at `end_record_bytes` belongs to, when a zip stands before it.

    One of the first entries must have its local header where the tail says; those before it may be overwritten.
    """
    tail = tail_before(window, end_record_bytes)
    if tail is None or tail.start_bytes < 0 or tail.directory_bytes < CENTRAL_BYTES:
        return None
    at_bytes = tail.offset_bytes - tail.directory_bytes
    for _ in range(MAX_ENTRIES_TRIED):
        found = read_entry(window, at_bytes) if at_bytes < tail.offset_bytes else None
        if found is None:
            return None
        entry, at_bytes = found
        header = read_local_header(window, tail.start_bytes + entry.offset_bytes)
        if header is not None and header.name == entry.name:
            return tail
    return None
