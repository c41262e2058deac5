"""Protobuf wire format over a Window, bounded: tags, varints, lengths. Payloads are jumped over, never read.

The encoding is protobuf's (protobuf.dev, "Encoding"): a tag is `number << 3 | wire type`. What a number means is the
business of the format that uses this. A message that breaks the grammar raises `MalformedError`, one that runs past
the end of the window `CutShortError`; both stay inside the package, where a validator turns them into a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from imaging.errors import BudgetExceeded
from imaging.window import Window

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10  # 64 bits in groups of seven
MAX_FIELDS = 10_000_000  # a graph of 100,000 nodes has some 3 million
PAGE_BYTES = 1 << 16
RUN_CHUNK_BYTES = 1 << 18
MAX_FIELD_NUMBER = (1 << 29) - 1

Field: TypeAlias = tuple[int, int, int, int, int]
"""(number, wire type, value of a varint, start of the body, end of the body); offsets are the window's."""


class MalformedError(Exception):
    """The bytes are no such message.

    Attributes:
        code: a kebab-case reason.
        at_bytes: where in the window.
    """

    def __init__(self, code: str, at_bytes: int) -> None:
        super().__init__(code, at_bytes)
        self.code = code
        self.at_bytes = at_bytes

    def __str__(self) -> str:  # made when it is asked for: a hostile file has a fault at every offset
        return f"{self.code} at {self.at_bytes:#x}"


class CutShortError(MalformedError):
    """The message goes on after the end of the window."""


class Wire:
    """Reads messages of a window: one page in memory, positions given by the caller."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.size_bytes = window.size_bytes
        self._page = b""
        self._page_start = 0
        self._fields_left = MAX_FIELDS

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message `[start, end)` in order.

        A field that runs past the window is yielded before the error, so that its head is not lost.

        Raises:
            MalformedError: a tag, wire type, varint or length that the message cannot have.
            CutShortError: the window ends first.
            BudgetExceeded: more fields than any real file has.
        """
        at = start
        while at < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise BudgetExceeded(f"more than {MAX_FIELDS} protobuf fields")
            index = self._reach(at)
            number, wire, value, head_bytes = _field_head(self._page, index, at)
            body = at + head_bytes
            if wire == LENGTH:
                at, value = body + value, 0
            else:
                at = body if wire == VARINT else body + (8 if wire == FIXED64 else 4)
            if at > end:
                raise MalformedError("length", body)
            yield number, wire, value, body, at
            if at > self.size_bytes:
                raise CutShortError("cut-short", self.size_bytes)

    def bytes_at(self, start: int, end: int) -> bytes:
        """Return the bytes `[start, end)`; the caller has bounded them.

        Raises:
            CutShortError: the window ends first.
        """
        if end > self.size_bytes:
            raise CutShortError("cut-short", self.size_bytes)
        index = start - self._page_start
        if index >= 0 and end - self._page_start <= len(self._page):
            return self._page[index : end - self._page_start]
        return self.window.read_at(start, end - start)

    def text(self, start: int, end: int, *, limit_bytes: int) -> str:
        """Return the UTF-8 text there.

        Raises:
            MalformedError: longer than `limit_bytes`, or not UTF-8.
            CutShortError: the window ends first.
        """
        if end - start > limit_bytes:
            raise MalformedError("text-length", start)
        try:
            return self.bytes_at(start, end).decode()
        except UnicodeDecodeError:
            raise MalformedError("text-encoding", start) from None

    def varints(self, start: int, end: int, *, limit_bytes: int) -> list[int]:
        """Return the packed varints of `[start, end)`.

        Raises:
            MalformedError: longer than `limit_bytes`, or the last one is not finished.
            CutShortError: the window ends first.
        """
        if end - start > limit_bytes:
            raise MalformedError("packed-length", start)
        packed = self.bytes_at(start, end)
        values: list[int] = []
        index = 0
        while index < len(packed):
            value, index = _varint(packed, index, start)
            values.append(value)
        return values

    def count_varints(self, start: int, end: int) -> int:
        """Count the packed varints of `[start, end)`: the bytes without the continuation bit; reads all, keeps none.

        Raises:
            MalformedError: the last one is not finished.
            CutShortError: the window ends first.
        """
        if end > self.size_bytes:
            raise CutShortError("cut-short", self.size_bytes)
        count, last = 0, 0
        for chunk in self.window.chunks(start, end - start):
            count += int(np.count_nonzero(np.frombuffer(chunk, dtype=np.uint8) < 0x80))
            last = chunk[-1]
        if last >= 0x80:
            raise MalformedError("varint", end - 1)
        return count

    def run_end(self, tag: int, wire: int, start: int, end: int) -> int:
        """Return where a run of fields with the same one-byte tag and fixed or varint values ends; vectorised.

        Writers of decision forests put millions of numbers one by one. May stop early; what follows is for `fields`.
        """
        at = start
        while at < end:
            chunk = self.window.read_at(at, min(RUN_CHUNK_BYTES, end - at))
            run_bytes = (
                _varint_run(chunk, tag) if wire == VARINT else _fixed_run(chunk, tag, 9 if wire == FIXED64 else 5)
            )
            at += run_bytes
            if run_bytes < len(chunk) - MAX_VARINT_BYTES or run_bytes == 0:
                break
        return at

    def _reach(self, at: int) -> int:
        """Make the page hold the longest possible field head at `at`; return its index in the page."""
        index = at - self._page_start
        if index < 0 or index + 2 * MAX_VARINT_BYTES > len(self._page):
            self._page, self._page_start, index = self.window.read_at(at, PAGE_BYTES), at, 0
        return index


def _fixed_run(chunk: bytes, tag: int, field_bytes: int) -> int:
    count = len(chunk) // field_bytes
    tags = np.frombuffer(chunk, dtype=np.uint8)[: count * field_bytes : field_bytes]
    other = np.flatnonzero(tags != tag)
    return (int(other[0]) if len(other) else count) * field_bytes


def _varint_run(chunk: bytes, tag: int) -> int:
    codes = np.frombuffer(chunk, dtype=np.uint8)
    ends = np.flatnonzero(codes < 0x80)  # of tags and values in turn
    ends = ends[: len(ends) // 2 * 2]
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    good = (starts[::2] == ends[::2]) & (codes[starts[::2]] == tag) & (ends[1::2] - starts[1::2] < MAX_VARINT_BYTES)
    other = np.flatnonzero(~good)
    count = int(other[0]) if len(other) else len(good)
    return int(ends[2 * count - 1]) + 1 if count else 0


def _field_head(page: bytes, index: int, at: int) -> tuple[int, int, int, int]:
    """Return (number, wire type, varint or length, bytes of the head) of the field at `page[index]`."""
    first = index
    try:
        tag = page[index]
        index += 1
        if tag >= 0x80:
            tag, index = _varint(page, index - 1, at)
        wire, value = tag & 7, 0
        if wire in (VARINT, LENGTH):
            value = page[index]
            index += 1
            if value >= 0x80:
                value, index = _varint(page, index - 1, at)
        elif wire not in (FIXED32, FIXED64):
            raise MalformedError("wire-type", at)
    except IndexError:
        raise CutShortError("cut-short", at) from None
    if not 0 < tag >> 3 <= MAX_FIELD_NUMBER:
        raise MalformedError("tag", at)
    return tag >> 3, wire, value, index - first


def _varint(packed: bytes, index: int, at: int) -> tuple[int, int]:
    """Return the varint at `packed[index]` and the index after it; `at` is only for the error."""
    value = shift = 0
    for _ in range(MAX_VARINT_BYTES):
        if index >= len(packed):
            raise CutShortError("cut-short", at)
        byte = packed[index]
        index += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, index
        shift += 7
    raise MalformedError("varint", at)
