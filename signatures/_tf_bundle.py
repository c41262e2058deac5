"""Entries of a TensorFlow tensor bundle. Source: TensorFlow's tensor_bundle.proto, tensor_shape.proto, types.proto."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from signatures._table import TableError, read_varint

MAX_RANK: Final = 254  # TensorShape::MaxDimensions
MAX_BYTES: Final = 1 << 50
DTYPES: Final = {  # (dtype, bytes an element; 0: not fixed)
    1: ("float32", 4), 2: ("float64", 8), 3: ("int32", 4), 4: ("uint8", 1), 5: ("int16", 2), 6: ("int8", 1),
    7: ("string", 0), 8: ("complex64", 8), 9: ("int64", 8), 10: ("bool", 1), 11: ("qint8", 1), 12: ("quint8", 1),
    13: ("qint32", 4), 14: ("bfloat16", 2), 15: ("qint16", 2), 16: ("quint16", 2), 17: ("uint16", 2),
    18: ("complex128", 16), 19: ("float16", 2), 20: ("resource", 0), 21: ("variant", 0), 22: ("uint32", 4),
    23: ("uint64", 8),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleEntry:
    """One tensor: where it lies in which data file, and the masked CRC-32C of its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset_bytes: int
    size_bytes: int
    masked_crc32c: int
    item_bytes: int
    sliced: bool

    @property
    def fits(self) -> bool:
        """Whether dtype and shape ask for as many bytes as the entry tells; True where that is not fixed."""
        return self.sliced or not self.item_bytes or math.prod(self.shape) * self.item_bytes == self.size_bytes


def _fields(raw: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (number, varint or fixed value, body) of a small message."""
    at = 0
    while at < len(raw):
        tag, at = read_varint(raw, at)
        wire, value, body = tag & 7, 0, b""
        if wire == 0:
            value, at = read_varint(raw, at)
        elif wire == 2:
            size_bytes, at = read_varint(raw, at)
            body, at = raw[at : at + size_bytes], at + size_bytes
        elif wire == 5:
            value, at = int.from_bytes(raw[at : at + 4], "little"), at + 4
        else:
            raise TableError("bad-entry")
        if at > len(raw):
            raise TableError("bad-entry")
        yield tag >> 3, value, body


def read_bundle_header(raw: bytes) -> tuple[int, bool]:
    """Return (number of data files, whether they are big-endian) of a BundleHeaderProto.

    Raises:
        TableError: it is none.
    """
    shards, big_endian, version = 0, False, False
    for number, value, body in _fields(raw):
        if number == 1:
            shards = value
        elif number == 2:
            big_endian = value == 1
        elif number == 3:
            version = any(inner == 1 and 0 < producer < 1000 for inner, producer, _ in _fields(body))
    if not 0 < shards < 100_000 or not version:
        raise TableError("bundle-header")
    return shards, big_endian


def read_entry(key: bytes, raw: bytes) -> BundleEntry:
    """Return a BundleEntryProto.

    Raises:
        TableError: it is none.
    """
    told = dict.fromkeys((1, 3, 4, 5, 6), 0)
    shape, sliced = list[int](), False
    for number, value, body in _fields(raw):
        if number in told:
            told[number] = value
        elif number == 2:
            shape = [_dimension(dim) for inner, _, dim in _fields(body) if inner == 2]
        sliced = sliced or number == 7
    if len(shape) > MAX_RANK or told[4] + told[5] > MAX_BYTES or min(shape, default=0) < 0:
        raise TableError("bad-entry")
    dtype, item_bytes = DTYPES.get(told[1], ("unknown", 0))
    return BundleEntry(
        name=key.decode(errors="replace"),
        dtype=dtype,
        shape=tuple(shape),
        shard=told[3],
        offset_bytes=told[4],
        size_bytes=told[5],
        masked_crc32c=told[6],
        item_bytes=item_bytes,
        sliced=sliced,
    )


def _dimension(raw: bytes) -> int:
    size = next((value for number, value, _ in _fields(raw) if number == 1), 0)
    return size if size < MAX_BYTES else -1
