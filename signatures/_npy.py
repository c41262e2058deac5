"""The header of a NumPy array file, as a member of an .npz or alone. Never evaluated: its dict is read as a literal.

Facts: NEP 1 and numpy.lib.format.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from signatures._literal import read_literal

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 10_000  # numpy's own limit
MAX_RANK = 64
MAX_TOTAL_BYTES = 1 << 62

_KEYS = {"descr", "fortran_order", "shape"}
MAX_DESCR_CHARACTERS = 64
_PLAIN = re.compile(r"[<>|=]?[?bBhHiIlLqQefdgFDGSUVmMcu][0-9]{0,9}(?:\[[a-zA-Z0-9]{1,8}\])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayHeader:
    """What an array file's header tells; `item_bytes` is None for objects and unknown dtypes."""

    dtype: str
    shape: tuple[int, ...]
    fortran_order: bool
    item_bytes: int | None
    data_offset_bytes: int

    @property
    def size_bytes(self) -> int | None:
        """How long the whole array file must be; None when the dtype does not tell."""
        if self.item_bytes is None:
            return None
        return self.data_offset_bytes + math.prod(self.shape) * self.item_bytes


def read_array_header(raw: bytes) -> ArrayHeader | None:
    """Return the header at the start of `raw`; None when it is none, or longer than numpy would read."""
    if len(raw) < 12 or not raw.startswith(MAGIC) or raw[6] not in (1, 2, 3) or raw[7] != 0:
        return None
    width = 2 if raw[6] == 1 else 4
    header_bytes = int.from_bytes(raw[8 : 8 + width], "little")
    data_offset_bytes = 8 + width + header_bytes
    if header_bytes > MAX_HEADER_BYTES or data_offset_bytes > len(raw):
        return None
    try:
        text = raw[8 + width : data_offset_bytes].decode("utf-8" if raw[6] == 3 else "latin-1")
        told = read_literal(text)
    except ValueError:
        return None
    if not isinstance(told, dict) or told.keys() != _KEYS or not isinstance(told["fortran_order"], bool):
        return None
    shape, descr = _shape(told["shape"]), told["descr"]
    if shape is None or not isinstance(descr, str | list) or (isinstance(descr, str) and not _is_descr(descr)):
        return None
    dtype, item_bytes = _dtype(descr)
    return ArrayHeader(
        dtype=dtype,
        shape=shape,
        fortran_order=told["fortran_order"],
        item_bytes=item_bytes,
        data_offset_bytes=data_offset_bytes,
    )


def _is_descr(text: str) -> bool:
    return 0 < len(text) <= MAX_DESCR_CHARACTERS


def _shape(told: object) -> tuple[int, ...] | None:
    if not isinstance(told, tuple) or len(told) > MAX_RANK:
        return None
    if not all(isinstance(extent, int) and not isinstance(extent, bool) and extent >= 0 for extent in told):
        return None
    return told if math.prod(told) < MAX_TOTAL_BYTES else None


def _dtype(descr: object) -> tuple[str, int | None]:
    """Return (dtype, bytes an item); None for objects, and where a part is not known."""
    if isinstance(descr, str):
        return _plain(descr)
    if isinstance(descr, list):
        return _record(descr)
    if isinstance(descr, tuple) and len(descr) == 2:
        name, item_bytes = _dtype(descr[0])
        shape = _shape((descr[1],) if isinstance(descr[1], int) else descr[1])
        return name, math.prod(shape) * item_bytes if shape is not None and item_bytes is not None else None
    return "record", None


def _record(fields: list[object]) -> tuple[str, int | None]:
    """Add up a record's fields: (name, type) or (name, type, shape); padding stands there as a field of its own."""
    sizes: list[int | None] = []
    names: list[object] = []
    for one in fields:
        if not isinstance(one, tuple) or len(one) not in (2, 3):
            return "record", None
        names += one[0] if isinstance(one[0], tuple) else [one[0]] if one[0] else []
        name, item_bytes = _dtype(one[1] if len(one) == 2 else one[1:])
        if name == "object":
            return "object", None
        sizes.append(item_bytes)
    known = [size for size in sizes if size is not None]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return "record", None
    return "record", sum(known) if len(known) == len(sizes) else None


def _plain(text: str) -> tuple[str, int | None]:
    if text.lstrip("<>|=").startswith("O"):
        return "object", None
    if not _PLAIN.fullmatch(text):
        return text[:MAX_DESCR_CHARACTERS], None
    try:
        dtype = np.dtype(text)
    except (TypeError, ValueError, OverflowError):
        return text, None
    return dtype.name, dtype.itemsize
