"""The safetensors header: JSON text, read with every length, depth and number bounded before it is believed."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field

import numpy as np

MAX_DEPTH = 8  # 3 in the format; readers let unknown keys of an entry pass, so a little more
MAX_DIGITS = 19  # of 2**63
MAX_DIMENSION = (1 << 63) - 1
METADATA_KEY = "__metadata__"

# dtype -> (numpy's or ml_dtypes' name, bits an element); safetensors 0.8, tensor.rs
DTYPES = {
    "BOOL": ("bool", 8), "U8": ("uint8", 8), "I8": ("int8", 8), "U16": ("uint16", 16), "I16": ("int16", 16),
    "U32": ("uint32", 32), "I32": ("int32", 32), "U64": ("uint64", 64), "I64": ("int64", 64),
    "F16": ("float16", 16), "BF16": ("bfloat16", 16), "F32": ("float32", 32), "F64": ("float64", 64),
    "C64": ("complex64", 64), "F8_E4M3": ("float8_e4m3fn", 8), "F8_E5M2": ("float8_e5m2", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8), "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8), "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F4": ("float4_e2m1fn", 4), "F6_E2M3": ("float6_e2m3fn", 6), "F6_E3M2": ("float6_e3m2fn", 6),
}  # fmt: skip

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)', re.DOTALL)  # possessive: no backtracking on hostile text
_LONG_NUMBER = re.compile(rb"\d{%d,}" % (MAX_DIGITS + 1))
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_OPENING, _CLOSING = np.frombuffer(b"{[", np.uint8), np.frombuffer(b"}]", np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tensor as the header has it: offsets are from the start of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """How many elements the shape has."""
        return math.prod(self.shape)


@dataclass(slots=True)
class Header:
    """What a header says, and what is odd about it."""

    entries: list[Entry] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    duplicate_keys: bool = False


def find_control(text: bytes) -> int | None:
    """Return where the first byte is that JSON text never has, or None."""
    found = _CONTROL.search(text)
    return found.start() if found else None


def parse_header(text: bytes) -> Header | str:
    """Return the header that `text` holds, or the code of the reason why it holds none."""
    skeleton = _STRING.sub(b"", text)
    if _depth(skeleton) > MAX_DEPTH:
        return "header-depth"
    if _LONG_NUMBER.search(skeleton):
        return "header-number"
    header = Header()

    def as_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        header.duplicate_keys |= len(made) != len(pairs)
        return made

    try:
        root = json.loads(text.decode(), object_pairs_hook=as_object)
    except UnicodeDecodeError:
        return "header-encoding"
    except (ValueError, RecursionError):
        return "header-json"
    return _fill(header, root)


def _fill(header: Header, root: object) -> Header | str:
    if not isinstance(root, dict):
        return "header-json"
    metadata = root.pop(METADATA_KEY, None)
    if metadata is not None:
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            return "metadata-type"
        header.metadata = metadata
    for name, value in root.items():
        entry = _entry(name, value)
        if entry is None:
            return "entry-form"
        header.entries.append(entry)
    return header if _encodable(header) else "header-encoding"


def _entry(name: str, value: object) -> Entry | None:
    if not isinstance(value, dict):
        return None
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not (isinstance(dtype, str) and isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2):
        return None
    if not all(type(size) is int and 0 <= size <= MAX_DIMENSION for size in (*shape, *offsets)):
        return None
    return Entry(name=name, dtype=dtype, shape=tuple(shape), begin=offsets[0], end=offsets[1])


def _encodable(header: Header) -> bool:
    """Tell whether every text is Unicode: a lone surrogate escape is JSON to Python, but no text."""
    try:
        for entry in header.entries:
            entry.name.encode()
        for key, value in header.metadata.items():
            (key + value).encode()
    except UnicodeEncodeError:
        return False
    return True


def _depth(skeleton: bytes) -> int:
    """Return how deep brackets nest; `skeleton` is the text without its strings."""
    codes = np.frombuffer(skeleton, dtype=np.uint8)
    steps = np.isin(codes, _OPENING).astype(np.int32) - np.isin(codes, _CLOSING)
    return int(np.cumsum(steps).max(initial=0))
