"""Sorted tables as LevelDB and TensorFlow write them: blocks of keys and values under CRC-32C, and a footer.

Facts: LevelDB's table_format.md. The CRC is kept masked: rotated right by 15 bits, plus a constant.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from imaging.window import Window
from signatures._snappy import SnappyError, decompress

FOOTER_MAGIC: Final = bytes.fromhex("57fb808b247547db")
FOOTER_BYTES: Final = 48
TRAILER_BYTES: Final = 5  # type and CRC after each block
PLAIN_BLOCK: Final = 0  # types
SNAPPY_BLOCK: Final = 1
MAX_BLOCK_BYTES: Final = 16 << 20
MAX_FILE_BYTES: Final = 64 << 20
MAX_BLOCK_ENTRIES: Final = 500_000
MAX_KEY_BYTES: Final = 1 << 16
SEARCH_BYTES: Final = 1 << 20
_MASK_DELTA: Final = 0xA282EAD8


class TableError(Exception):
    """A block or footer that cannot be read; stays inside the package.

    Attributes:
        code: a kebab-case reason.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """Where a block lies, its trailer not counted."""

    offset_bytes: int
    size_bytes: int

    @property
    def end_bytes(self) -> int:
        """The first byte after its trailer."""
        return self.offset_bytes + self.size_bytes + TRAILER_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """The two last blocks; the footer follows the index at once, which tells where the file begins."""

    metaindex: Handle
    index: Handle

    @property
    def end_bytes(self) -> int:
        """The file's length."""
        return self.index.end_bytes + FOOTER_BYTES


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC: Final = _crc_table()


def masked_crc32c(raw: bytes) -> int:
    """Return the CRC-32C of `raw` as tables keep it; some 0.1 microseconds a byte."""
    crc = 0xFFFFFFFF
    for byte in raw:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    return mask(crc ^ 0xFFFFFFFF)


def mask(crc: int) -> int:
    """Return a CRC-32C as tables keep it."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def unmask(masked: int) -> int:
    """Return the CRC-32C that a table keeps."""
    rotated = (masked - _MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def read_varint(raw: bytes, at: int) -> tuple[int, int]:
    """Return the varint at `raw[at]` and where the next byte is.

    Raises:
        TableError: it does not end.
    """
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(raw):
            break
        value |= (raw[at] & 0x7F) << shift
        at += 1
        if raw[at - 1] < 0x80:
            return value, at
    raise TableError("varint")


def read_handle(raw: bytes, at: int = 0) -> tuple[Handle, int]:
    """Return the block handle at `raw[at]` and where the next byte is.

    Raises:
        TableError: it is none, or larger than any file of this kind.
    """
    offset_bytes, at = read_varint(raw, at)
    size_bytes, at = read_varint(raw, at)
    if size_bytes > MAX_BLOCK_BYTES or offset_bytes + size_bytes > MAX_FILE_BYTES:
        raise TableError("handle")
    return Handle(offset_bytes=offset_bytes, size_bytes=size_bytes), at


def read_footer(raw: bytes) -> Footer | None:
    """Return the footer in these 48 bytes; None when it is none: both last blocks adjacent, zeros after the handles."""
    if len(raw) < FOOTER_BYTES or not raw.endswith(FOOTER_MAGIC):
        return None
    try:
        metaindex, at = read_handle(raw)
        index, at = read_handle(raw, at)
    except TableError:
        return None
    if at > 40 or any(raw[at:40]) or metaindex.end_bytes != index.offset_bytes:
        return None
    return Footer(metaindex=metaindex, index=index)


def find_footer(window: Window) -> Footer | None:
    """Return the footer of the file that begins where the window does, None when it is not there."""
    return next((footer for end_bytes, footer in find_footers(window) if footer.end_bytes == end_bytes), None)


def find_footers(window: Window) -> Iterator[tuple[int, Footer]]:
    """Yield where a footer ends, and the footer, of each that ends within the length of the largest table."""
    at_bytes = 0
    while at_bytes < min(window.size_bytes, MAX_FILE_BYTES):
        chunk = window.read_at(at_bytes, SEARCH_BYTES + len(FOOTER_MAGIC) - 1)
        hit = chunk.find(FOOTER_MAGIC)
        while hit >= 0:
            end_bytes = at_bytes + hit + len(FOOTER_MAGIC)
            footer = read_footer(window.read_at(end_bytes - FOOTER_BYTES, FOOTER_BYTES))
            if footer is not None and footer.end_bytes <= end_bytes:
                yield end_bytes, footer
            hit = chunk.find(FOOTER_MAGIC, hit + 1)
        at_bytes += SEARCH_BYTES


def read_block(window: Window, handle: Handle) -> bytes:
    """Return a block's bytes as they were before they were compressed; the CRC-32C of what is there agrees.

    Raises:
        TableError: "block-cut", "crc-mismatch", "compressed" for a compression that is not known, or "block-grammar".
    """
    raw = window.read_at(handle.offset_bytes, handle.size_bytes + TRAILER_BYTES)
    if len(raw) < handle.size_bytes + TRAILER_BYTES:
        raise TableError("block-cut")
    if masked_crc32c(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
        raise TableError("crc-mismatch")
    if raw[-TRAILER_BYTES] == PLAIN_BLOCK:
        return raw[:-TRAILER_BYTES]
    if raw[-TRAILER_BYTES] != SNAPPY_BLOCK:
        raise TableError("compressed")
    try:
        return decompress(raw[:-TRAILER_BYTES], limit_bytes=MAX_BLOCK_BYTES)
    except SnappyError as error:
        raise TableError("block-grammar") from error


def block_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of a whole block.

    Raises:
        TableError: it breaks the grammar; what came before is good.
    """
    count = struct.unpack("<I", block[-4:])[0] if len(block) >= 4 else MAX_BLOCK_BYTES
    end = len(block) - 4 - 4 * count
    if end < 0:
        raise TableError("block-grammar")
    yield from prefixed_entries(block[:end])


def prefixed_entries(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of entries whose keys share what they can with the one before.

    Raises:
        TableError: an entry that cannot be one.
    """
    at, key = 0, b""
    for _ in range(MAX_BLOCK_ENTRIES):
        if at >= len(raw):
            return
        shared, at = read_varint(raw, at)
        own_bytes, at = read_varint(raw, at)
        value_bytes, at = read_varint(raw, at)
        end = at + own_bytes + value_bytes
        if shared > len(key) or shared + own_bytes > MAX_KEY_BYTES or end > len(raw):
            raise TableError("block-grammar")
        key = key[:shared] + raw[at : at + own_bytes]
        yield key, raw[at + own_bytes : end]
        at = end
    raise TableError("entry-count")
