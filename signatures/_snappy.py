"""Snappy, as blocks of tables may be compressed with it: literals, and copies of what came before.

Facts: Snappy's format_description.txt. Lengths are bounded before anything is copied.
"""

from __future__ import annotations

from typing import Final

LITERAL: Final = 0
WIDTHS: Final = {1: 1, 2: 2, 3: 4}  # bytes of a copy's offset, by the tag's two low bits
LONG_LITERAL: Final = 60  # from this on the length stands in the bytes behind the tag


class SnappyError(Exception):
    """These are no such bytes; stays inside the package."""


def decompress(raw: bytes, *, limit_bytes: int) -> bytes:
    """Return the whole text.

    Raises:
        SnappyError: it is none, or longer than `limit_bytes`.
    """
    size_bytes, at = _length(raw)
    if size_bytes > limit_bytes:
        raise SnappyError
    text, end = _expand(raw, at, size_bytes)
    if len(text) != size_bytes or end != len(raw):
        raise SnappyError
    return text


def beginning(raw: bytes, *, limit_bytes: int) -> bytes:
    """Return what the first bytes of such a text tell of it, at most `limit_bytes`; nothing if they are no such."""
    try:
        size_bytes, at = _length(raw)
        return _expand(raw, at, min(size_bytes, limit_bytes))[0][:limit_bytes]
    except SnappyError:
        return b""


def _length(raw: bytes) -> tuple[int, int]:
    value = 0
    for at in range(min(5, len(raw))):
        value |= (raw[at] & 0x7F) << 7 * at
        if raw[at] < 0x80:
            return value, at + 1
    raise SnappyError


def _expand(raw: bytes, at: int, size_bytes: int) -> tuple[bytes, int]:
    """Return the text from `raw[at]` on, up to the element that reaches `size_bytes`, and where the next one is."""
    text = bytearray()
    while at < len(raw) and len(text) < size_bytes:
        tag = raw[at]
        at += 1
        if tag & 3 == LITERAL:
            more = max(0, (tag >> 2) - LONG_LITERAL + 1)
            length = (int.from_bytes(raw[at : at + more], "little") if more else tag >> 2) + 1
            at += more
            text += raw[at : at + length]
            at += length
            continue
        width = WIDTHS[tag & 3]
        offset = int.from_bytes(raw[at : at + width], "little") | (tag >> 5 << 8 if width == 1 else 0)
        length = (tag >> 2 & 7) + 4 if width == 1 else (tag >> 2) + 1
        at += width
        if not 0 < offset <= len(text):
            raise SnappyError
        while length > 0:  # a copy may reach into itself: what it adds repeats
            start = len(text) - offset
            piece = text[start : start + length]
            text += piece
            length -= len(piece)
    return bytes(text), at
