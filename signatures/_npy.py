"""The header of a NumPy array file, as a member of an .npz or alone. Never evaluated: read by one regular expression.

Facts: NEP 1 and numpy.lib.format.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 10_000  # numpy's own limit
MAX_RANK = 64
MAX_TOTAL_BYTES = 1 << 62

_HEADER = re.compile(
    r"\s*\{\s*'descr':\s*(?:'([^']{1,64})'|(\[.{0,8000}\]))\s*,\s*'fortran_order':\s*(True|False)\s*,"
    r"\s*'shape':\s*\(([0-9, L]{0,1000})\)\s*,?\s*\}\s*",
    re.DOTALL,
)
_PLAIN = re.compile(r"[<>|=]?[?bBhHiIlLqQefdgFDGSUVmMcu][0-9]{0,9}(?:\[[a-zA-Z0-9]{1,8}\])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayHeader:
    """What an array file's header tells; `item_bytes` is None for objects and records."""

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
    text = raw[8 + width : data_offset_bytes].decode("utf-8" if raw[6] == 3 else "latin-1", "replace")
    met = _HEADER.fullmatch(text)
    shape = _shape(met[4]) if met else None
    if met is None or shape is None:
        return None
    dtype, item_bytes = _dtype(met[1]) if met[1] else ("record", None)
    return ArrayHeader(
        dtype=dtype,
        shape=shape,
        fortran_order=met[3] == "True",
        item_bytes=item_bytes,
        data_offset_bytes=data_offset_bytes,
    )


def _shape(text: str) -> tuple[int, ...] | None:
    words = [word.strip().rstrip("L") for word in text.split(",")]
    words = [word for word in words if word]
    if len(words) > MAX_RANK or not all(word.isdigit() and len(word) < 20 for word in words):
        return None
    shape = tuple(int(word) for word in words)
    return shape if math.prod(shape) < MAX_TOTAL_BYTES else None


def _dtype(text: str) -> tuple[str, int | None]:
    if text.lstrip("<>|=").startswith("O"):
        return "object", None
    if not _PLAIN.fullmatch(text):
        return text, None
    try:
        dtype = np.dtype(text)
    except (TypeError, ValueError):
        return text, None
    return dtype.name, dtype.itemsize
