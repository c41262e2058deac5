"""The header of a GGUF file: a fixed head, keys with typed values, then a record for each tensor. Bounded throughout.

Facts: the GGUF specification of ggml. Versions 2 and 3 are laid out alike; a big-endian file has the same magic and its
version in big-endian order.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import Any, Final

from construct import Bytes, Int32ub, Int32ul, Int64ub, Int64ul, Struct

from imaging.window import Window

MAGIC: Final = b"GGUF"
HEAD_BYTES: Final = 24
VERSIONS: Final = (2, 3)
MAX_KEYS: Final = 100_000
MAX_TENSORS: Final = 1 << 18
MAX_HEADER_BYTES: Final = 1 << 28
MAX_KEY_BYTES: Final = 65_535  # the specification's own limit
MAX_NAME_BYTES: Final = 1024
MAX_STRING_BYTES: Final = 1 << 24
MAX_ITEMS: Final = 1 << 22  # strings and inner arrays, of all arrays together
MAX_RANK: Final = 4  # GGML_MAX_DIMS
MAX_DEPTH: Final = 4
MAX_EXTENT: Final = 1 << 56  # elements, and bytes of an offset
MAX_TYPE: Final = 1024
MAX_KEPT_VALUES: Final = 4096
MAX_KEPT_BYTES: Final = 4096  # a longer string is a template or a licence: its length is kept
PAGE_BYTES: Final = 1 << 20

_STRING, _ARRAY = 8, 9
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_KEY = re.compile(rb"[\x20-\x7e]+")
_HEADS: Final = {
    "<": Struct("magic" / Bytes(4), "version" / Int32ul, "tensor_count" / Int64ul, "key_count" / Int64ul).compile(),
    ">": Struct("magic" / Bytes(4), "version" / Int32ub, "tensor_count" / Int64ub, "key_count" / Int64ub).compile(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tensor's record; `dims` as stored (the fastest first), `offset_bytes` from the start of the data."""

    name: str
    dims: tuple[int, ...]
    ggml_type: int
    offset_bytes: int
    at_bytes: int


@dataclass(slots=True, kw_only=True)
class Header:
    """What could be read.

    Attributes:
        order: "<" or ">", as `struct` has it.
        values: scalars and short strings by key.
        lengths: how many items each array has, and how many bytes each long string.
        types: the type number of each key's value.
        end_bytes: where the reading ended.
        repeated: keys and tensor names that come twice, with their offsets.
        fault: (code, offset) of why the reading ended early; None when all of it was read.
        lost: the name of the entry that stands for a broken record, or "".
    """

    version: int
    order: str
    declared_tensors: int
    declared_keys: int
    values: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    end_bytes: int = HEAD_BYTES
    repeated: list[tuple[str, str, int]] = field(default_factory=list)
    fault: tuple[str, int] | None = None
    lost: str = ""


class _BreakOff(Exception):  # noqa: N818 - caught in this module, and made a value
    def __init__(self, code: str, at_bytes: int) -> None:
        super().__init__(code)
        self.code = code
        self.at_bytes = at_bytes


def read_header(window: Window) -> Header | str:
    """Return the header, or the code of why this is no GGUF file; a header that breaks off says where."""
    raw = window.read_at(0, HEAD_BYTES)
    if len(raw) < HEAD_BYTES or not raw.startswith(MAGIC):
        return "magic"
    order = "<" if int.from_bytes(raw[4:8], "little") in VERSIONS else ">"
    head = _HEADS[order].parse(raw)
    if head.version not in VERSIONS:
        return "version"
    if head.tensor_count > MAX_TENSORS or head.key_count > MAX_KEYS:
        return "counts"
    if not head.tensor_count + head.key_count:
        return "empty"
    header = Header(version=head.version, order=order, declared_tensors=head.tensor_count, declared_keys=head.key_count)
    reading = Reading(window, order, HEAD_BYTES)
    try:
        for _ in range(head.key_count):
            _read_key(reading, header)
            header.end_bytes = reading.at
    except _BreakOff as fault:
        header.fault = (fault.code, fault.at_bytes)
    else:
        read_entries(reading, header)
    return header


class Reading:
    """A position in the header. A page is kept, so that an array of a million strings costs few reads."""

    def __init__(self, window: Window, order: str, at: int) -> None:
        self.at = at
        self.order = order
        self.items_left = MAX_ITEMS
        self._window = window
        self._page = b""
        self._page_at = at
        self._wide = struct.Struct(order + "Q")

    def take(self, size_bytes: int) -> bytes:
        """Return the next bytes and go past them."""
        inside = self.at - self._page_at
        if not 0 <= inside <= len(self._page) - size_bytes:
            self._turn(size_bytes)
            inside = 0
        self.at += size_bytes
        return self._page[inside : inside + size_bytes]

    def unpack(self, codes: str) -> tuple[Any, ...]:
        """Return the next numbers, by `struct`'s codes."""
        form = self.order + codes
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def skip(self, size_bytes: int) -> None:
        """Go past bytes that are not wanted."""
        if self.at + size_bytes > MAX_HEADER_BYTES:
            raise _BreakOff("header-length", self.at)
        if self.at + size_bytes > self._window.size_bytes:
            raise _BreakOff("header-past-end", self._window.size_bytes)
        self.at += size_bytes

    def text(self, limit_bytes: int, code: str) -> bytes:
        """Return a string: its length in 8 bytes, then its bytes."""
        at = self.at
        (size_bytes,) = self.unpack("Q")
        if size_bytes > limit_bytes:
            raise _BreakOff(code, at)
        return self.take(size_bytes)

    def skip_strings(self, count: int) -> None:
        """Go past `count` strings; a vocabulary has some 100,000."""
        unpack = self._wide.unpack_from
        for _ in range(count):
            inside = self.at - self._page_at
            if not 0 <= inside <= len(self._page) - 8:
                self._turn(8)
                inside = 0
            size_bytes = unpack(self._page, inside)[0]
            if size_bytes > MAX_STRING_BYTES:
                raise _BreakOff("string-length", self.at)
            self.at += 8 + size_bytes
        self.skip(0)

    def _turn(self, size_bytes: int) -> None:
        if self.at + size_bytes > MAX_HEADER_BYTES:
            raise _BreakOff("header-length", self.at)
        self._page = self._window.read_at(self.at, max(PAGE_BYTES, size_bytes))
        self._page_at = self.at
        if len(self._page) < size_bytes:
            raise _BreakOff("header-past-end", self._window.size_bytes)


def _read_key(reading: Reading, header: Header) -> None:
    at = reading.at
    raw = reading.text(MAX_KEY_BYTES, "key-length")
    if not _KEY.fullmatch(raw):
        raise _BreakOff("key-text", at)
    key = raw.decode("ascii")
    (number,) = reading.unpack("I")
    if key in header.types:
        header.repeated.append(("duplicate-key", key, at))
    header.types[key] = number
    if number == _ARRAY:
        header.lengths[key] = _skip_array(reading, 1)
    elif number == _STRING:
        text = reading.text(MAX_STRING_BYTES, "string-length")
        header.lengths[key] = len(text)
        if len(text) <= MAX_KEPT_BYTES and len(header.values) < MAX_KEPT_VALUES:
            header.values[key] = text.decode("utf-8", "replace")
    elif number in _SCALARS:
        (value,) = reading.unpack(_SCALARS[number])
        if len(header.values) < MAX_KEPT_VALUES:
            header.values[key] = value
    else:
        raise _BreakOff("value-type", reading.at - 4)


def _skip_array(reading: Reading, depth: int) -> int:
    at = reading.at
    kind, count = reading.unpack("IQ")
    if kind in _SCALARS:
        if count > MAX_HEADER_BYTES:
            raise _BreakOff("array-length", at)
        reading.skip(count * struct.calcsize("<" + _SCALARS[kind]))
        return int(count)
    if kind not in (_STRING, _ARRAY):
        raise _BreakOff("value-type", at)
    if count > reading.items_left:
        raise _BreakOff("array-length", at)
    reading.items_left -= count
    if kind == _STRING:
        reading.skip_strings(count)
    elif depth >= MAX_DEPTH:
        raise _BreakOff("array-depth", at)
    else:
        for _ in range(count):
            _skip_array(reading, depth + 1)
    return int(count)


def read_entries(reading: Reading, header: Header) -> None:
    """Read the tensors' records into the header, up to a broken one, which becomes its fault."""
    seen: set[str] = set()
    for _ in range(header.declared_tensors):
        try:
            entry = _read_entry(reading)
        except _BreakOff as fault:
            header.fault = (fault.code, fault.at_bytes)
            return
        if entry.name in seen:
            header.repeated.append(("duplicate-name", entry.name, entry.at_bytes))
        seen.add(entry.name)
        header.entries.append(entry)
        header.end_bytes = reading.at


def _read_entry(reading: Reading) -> Entry:
    at = reading.at
    raw = reading.text(MAX_NAME_BYTES, "tensor-name")
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise _BreakOff("tensor-name", at) from None
    if not name or not name.isprintable():
        raise _BreakOff("tensor-name", at)
    (rank,) = reading.unpack("I")
    if rank > MAX_RANK:
        raise _BreakOff("tensor-rank", at)
    dims = reading.unpack("Q" * rank)
    ggml_type, offset_bytes = reading.unpack("IQ")
    elements = 1
    for extent in dims:
        elements *= extent
    if max((*dims, elements, offset_bytes)) > MAX_EXTENT:
        raise _BreakOff("tensor-shape", at)
    if ggml_type > MAX_TYPE:
        raise _BreakOff("tensor-type", at)
    return Entry(name=name, dims=dims, ggml_type=ggml_type, offset_bytes=offset_bytes, at_bytes=at)
