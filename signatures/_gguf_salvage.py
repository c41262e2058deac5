"""A GGUF header with a broken place: one flipped bit in a vocabulary must not lose the tensors' records after it.

The records prove themselves: as many as the head declares, one after the other, and their offsets tile the data. So
they are looked for behind the broken place, and what was read before it is kept.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from imaging.window import Window
from signatures._gguf_header import HEAD_BYTES, Entry, Header, Reading, read_entries
from signatures._gguf_layout import padded, place, stored_bytes

LOOK_BYTES: Final = 1 << 25
MAX_TRIED: Final = 20_000
MIN_RECORDS: Final = 3
INT8: Final = 24

_ZEROS: Final = rb"\0\0\0\0\0\0\0"  # spelt out, so that `re` looks for a string: 20 times as fast
_LENGTHS: Final = {"<": re.compile(_ZEROS + rb"(?=[!-~])"), ">": re.compile(_ZEROS + rb"(?=[\x01-\xff][!-~])")}


def salvage_entries(window: Window, header: Header, alignment_bytes: int) -> Header | None:
    """Return the header with all its records, the broken place left out; None when they are not to be found.

    One record that is itself broken becomes an entry of bytes, named by its number, over the data that must be its.
    """
    if header.fault is None:
        return None
    kept = header.entries
    wanted = header.declared_tensors - len(kept) - bool(kept)
    if wanted < MIN_RECORDS:
        return None
    low = header.end_bytes + 1 if kept else HEAD_BYTES  # an array of a wrong length may have gone past the records
    raw = window.read_at(low, LOOK_BYTES)
    tried = 0
    for met in _LENGTHS[header.order].finditer(raw):
        at = met.start() - (header.order == "<")  # the length's one byte, before or behind the zeros
        if not _may_be_record(raw, at, header.order):
            continue
        tried += 1
        if tried > MAX_TRIED:
            return None
        found = _records(window, header, low + at, wanted)
        if found is None:
            continue
        entries = _joined(kept, found.entries, alignment_bytes)
        if not any(one.fault for one in place(entries, alignment_bytes)):
            lost = entries[len(kept)].name if kept else ""
            return replace(header, entries=entries, end_bytes=found.end_bytes, lost=lost)
    return None


def _may_be_record(raw: bytes, at: int, order: str) -> bool:
    """Tell by the number of dimensions after the name, before anything is built."""
    sign = 0 if order == "<" else 7
    if at < 0 or not raw[at + sign]:
        return False
    rank_at = at + 8 + raw[at + sign]
    rank = raw[rank_at : rank_at + 4]
    return len(rank) == 4 and 0 < int.from_bytes(rank, "little" if order == "<" else "big") <= 4


def _records(window: Window, header: Header, at_bytes: int, count: int) -> Header | None:
    found = replace(header, declared_tensors=count, entries=[], repeated=[], fault=None, end_bytes=at_bytes)
    read_entries(Reading(window, header.order, at_bytes), found)
    return found if found.fault is None else None


def _joined(kept: list[Entry], found: list[Entry], alignment_bytes: int) -> list[Entry]:
    """Put an entry of plain bytes in the place of the broken record between."""
    if not kept:
        return found
    begin = kept[-1].offset_bytes + padded(stored_bytes(kept[-1]) or 0, alignment_bytes)
    size_bytes = max(0, found[0].offset_bytes - begin)
    lost = Entry(
        name=f"record-{len(kept)}", dims=(size_bytes,), ggml_type=INT8, offset_bytes=begin, at_bytes=found[0].at_bytes
    )
    return [*kept, lost, *found]


def read_uncounted(window: Window, header: Header, alignment_bytes: int) -> bool:
    """Read records that follow where the head's count ends, if they go on with the tiling; tell whether any did."""
    before = len(header.entries)
    while header.entries:
        last = header.entries[-1]
        found = _records(window, header, header.end_bytes, 1)
        size_bytes = stored_bytes(last)
        if found is None or size_bytes is None:
            break
        if found.entries[0].offset_bytes != last.offset_bytes + padded(size_bytes, alignment_bytes) or not size_bytes:
            break
        header.entries.append(found.entries[0])
        header.end_bytes = found.end_bytes
    return len(header.entries) > before
