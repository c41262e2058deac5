"""Small files inside NTFS's own records: a file of up to some 700 bytes lies in its record of the master file table.

Source: the Linux-NTFS project's documentation ("NTFS Documentation", concepts "Fixup" and "Attribute Header"). The last
two bytes of each 512 of a record hold its update sequence number; those that belong there stand at the record's head.
A file that runs across such a place has a layout of three pieces, the middle one from the record's head: read in this
order the bytes are the file's own. A record of a deleted file stays as it is until it is used again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

from imaging.extent import Layout, span
from imaging.source import Source
from signatures.format import Layouts, Pattern

STRIDE_BYTES: Final = 512  # of the update sequence, whatever the sector size
FIXUP_BYTES: Final = 2
RECORD_SIZES: Final = (1024, 4096)
DATA_ATTRIBUTE: Final = 0x80
MAX_ATTRIBUTES: Final = 64
LOOK_BYTES: Final = 48  # of the content, to tell whether it may be what is looked for

RECORD: Final = struct.Struct("<4xHH12xH6xI")  # a disk has millions of records, nearly all without what is looked for
ATTRIBUTE: Final = struct.Struct("<IIBB6xIH")
PATTERNS: Final = (  # signature, place and number of the fixups: four letters alone are in every C header
    Pattern(bytes=b"FILE0\0\x03\0", name="file record", alignment_bytes=STRIDE_BYTES),
    Pattern(bytes=b"FILE*\0\x03\0", name="file record before XP", alignment_bytes=STRIDE_BYTES),
    Pattern(bytes=b"FILE0\0\x09\0", name="file record of 4 KiB", alignment_bytes=STRIDE_BYTES),
)


def resident(may_begin: Callable[[bytes], bool]) -> Layouts:
    """Return a format's `layouts`: the small file in a record that was hit, where its first bytes may be its own."""

    def layouts(source: Source, hit_bytes: int, pattern: Pattern) -> Iterator[Layout]:
        raw = source.read_at(hit_bytes, RECORD_SIZES[0])
        if len(raw) < RECORD_SIZES[0]:
            return
        fixups_at, fixups, attributes_at, size = RECORD.unpack_from(raw)
        if size not in RECORD_SIZES or fixups != 1 + size // STRIDE_BYTES:
            return
        if fixups_at < RECORD.size or fixups_at + fixups * FIXUP_BYTES > attributes_at:
            return
        if size > len(raw):
            raw = source.read_at(hit_bytes, size)
        record = _restored(raw, fixups_at, fixups)
        start, end = _content(record, attributes_at) if len(record) == size else (0, 0)
        if start < end and may_begin(record[start : min(end, start + LOOK_BYTES)]):
            yield _pieces(hit_bytes, start, end, fixups_at)

    return layouts


def _restored(raw: bytes, fixups_at: int, fixups: int) -> bytes:
    """Return a record with its own bytes at the end of each stride; b"" where it is cut or was torn in writing."""
    record = bytearray(raw)
    number = raw[fixups_at : fixups_at + FIXUP_BYTES]
    for stride in range(1, fixups):
        end = stride * STRIDE_BYTES
        if raw[end - FIXUP_BYTES : end] != number:
            return b""
        own_at = fixups_at + stride * FIXUP_BYTES
        record[end - FIXUP_BYTES : end] = raw[own_at : own_at + FIXUP_BYTES]
    return bytes(record)


def _content(record: bytes, at: int) -> tuple[int, int]:
    """Return where the unnamed data lies in a record, from `at` on; (0, 0) where it is not in it."""
    for _ in range(MAX_ATTRIBUTES):
        if at + ATTRIBUTE.size > len(record):
            return 0, 0
        kind, size, elsewhere, name_characters, content_bytes, content_at = ATTRIBUTE.unpack_from(record, at)
        if size < ATTRIBUTE.size or kind > DATA_ATTRIBUTE:  # they stand in the order of their kinds
            return 0, 0
        if kind == DATA_ATTRIBUTE and not elsewhere and not name_characters:
            fits = content_at + content_bytes <= size and at + size <= len(record)
            return (at + content_at, at + content_at + content_bytes) if fits else (0, 0)
        at += size
    return 0, 0


def _pieces(record_at: int, start: int, end: int, fixups_at: int) -> Layout:
    pieces = []
    while start < end:
        stride = start // STRIDE_BYTES + 1
        edge = stride * STRIDE_BYTES - FIXUP_BYTES
        if start < edge:
            piece, shift = (start, min(end, edge)), 0
        else:
            piece, shift = (start, min(end, edge + FIXUP_BYTES)), fixups_at + stride * FIXUP_BYTES - edge
        pieces.append(span(record_at + piece[0] + shift, record_at + piece[1] + shift))
        start = piece[1]
    return tuple(pieces)
