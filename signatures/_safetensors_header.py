"""The safetensors header: JSON text, read with every length, depth and number bounded before it is believed."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul

import numpy as np

MAX_DEPTH = 8  # 3 in the format; readers let unknown keys of an entry pass, so a little more
MAX_KEYS = 4_000_000  # a tensor has four; Python takes some 300 bytes for each
MAX_DIGITS = 19  # of 2**63
MAX_ENTRY_BYTES = 4096  # of a name, and of an entry, in a broken header
MAX_BROKEN_ENTRIES = 1000  # more than sound ones by this: not worth going on
MIN_BYTES_PER_BRACKET = 8  # the tersest entry opens three in some 50 bytes
BLANKS = b" \t\r\n"
ENTRY_WORD = b'"data_offsets"'
MAX_DIMENSION = (1 << 63) - 1
MAX_PRODUCT = (1 << 64) - 1  # of the first dimensions, too: the reference reader multiplies in order, and checks
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
_BAD_NUMBER = re.compile(rb"\d{%d,}|-0(?![.\deE])|NaN|Infinity" % (MAX_DIGITS + 1))  # Python's json takes them all
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))


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

    @property
    def size_fits(self) -> bool:
        """Whether the bytes are exactly those of the dtype and shape; an unknown dtype may have any whole bits."""
        stored_bits = 8 * (self.end - self.begin)
        if self.dtype in DTYPES:
            return stored_bits == self.elements * DTYPES[self.dtype][1]
        if self.elements == 0:
            return stored_bits == 0
        return stored_bits % self.elements == 0 and stored_bits > 0


@dataclass(slots=True)
class Header:
    """What a header says, and what is odd about it."""

    entries: list[Entry] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    duplicate_keys: bool = False


def salvage_entries(text: bytes) -> list[Entry]:
    """Return the whole and sound entries of a header that is broken, by offset, without overlaps.

    Each entry carries its own proof: the size of its range equals that of its dtype and shape. Looks only a little
    way around each `"data_offsets"`, so the cost is linear in the text.
    """
    sound: list[Entry] = []
    broken = 0
    at = text.find(ENTRY_WORD)
    while at >= 0 and broken <= MAX_BROKEN_ENTRIES + len(sound):
        entry = _entry_around(text, at)
        if entry is not None and entry.size_fits:
            sound.append(entry)
        else:
            broken += 1
        at = text.find(ENTRY_WORD, at + 1)
    sound.sort(key=lambda entry: (entry.begin, entry.end))
    kept: list[Entry] = []
    for entry in sound:
        if not kept or entry.begin >= kept[-1].end:
            kept.append(entry)
    return kept


def _entry_around(text: bytes, at: int) -> Entry | None:
    """Return the entry whose key `"data_offsets"` is at `at`, or None where its text is not whole."""
    low = max(0, at - MAX_ENTRY_BYTES)
    brace = text.rfind(b"{", low, at)
    end = text.find(b"}", at, at + MAX_ENTRY_BYTES)
    before = text[low : max(brace, low)].rstrip(BLANKS)
    key = before[:-1].rstrip(BLANKS)
    if brace < 0 or end < 0 or before[-1:] != b":" or key[-1:] != b'"':
        return None
    quote = len(key) - 1
    while quote > 0:
        quote = key.rfind(b'"', 0, quote)
        escapes = quote - len(key[: max(0, quote)].rstrip(b"\\"))
        if quote < 0 or escapes % 2 == 0:
            break
    if quote < 0:
        return None
    if _BAD_NUMBER.search(text, brace, end):
        return None
    try:
        pair = json.loads((b"{" + key[quote:] + b":" + text[brace : end + 1] + b"}").decode())
    except (ValueError, RecursionError):
        return None
    if len(pair) != 1:  # the brace before belongs to another entry, which ends before these offsets
        return None
    ((name, value),) = pair.items()
    entry = _entry(name, value)
    return entry if entry is not None and _encodable(Header(entries=[entry])) else None


def find_control(text: bytes) -> int | None:
    """Return where the first byte is that JSON text never has, or None."""
    found = _CONTROL.search(text)
    return found.start() if found else None


def parse_header(text: bytes) -> Header | str:
    """Return the header that `text` holds, or the code of the reason why it holds none."""
    skeleton = _STRING.sub(b"", text)
    brackets = skeleton.translate(None, delete=_NO_BRACKETS)
    if len(brackets) * MIN_BYTES_PER_BRACKET > 2 * len(text) + 64 or _depth(brackets) > MAX_DEPTH:
        return "header-brackets"
    if skeleton.count(b":") > MAX_KEYS:
        return "header-keys"
    if _BAD_NUMBER.search(skeleton):
        return "header-number"
    repeated: list[tuple[str, object]] = []

    def as_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) != len(pairs):
            repeated.extend(pairs)
        return made

    try:
        root = json.loads(text.decode(), object_pairs_hook=as_object)
    except UnicodeDecodeError:
        return "header-encoding"
    except (ValueError, RecursionError):
        return "header-json"
    return _fill(Header(duplicate_keys=bool(repeated)), root) if _may_repeat(repeated) else "entry-form"


def _may_repeat(pairs: list[tuple[str, object]]) -> bool:
    """Tell whether an object with these pairs may have a key twice: tensors and metadata may, an entry may not.

    The reference reader keeps the last of equal names, yet reads them all, and knows no dtype but its own. Two blocks
    of metadata it refuses.
    """
    if sum(name == METADATA_KEY and not isinstance(value, str) for name, value in pairs) > 1:
        return False
    for name, value in pairs:
        if isinstance(value, str) or name == METADATA_KEY:
            continue
        entry = _entry(name, value)
        if entry is None or entry.dtype not in DTYPES:
            return False
    return True


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
    if len(shape) > 1 and max(accumulate(shape, mul)) > MAX_PRODUCT:
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


def _depth(brackets: bytes) -> int:
    """Return how deep brackets nest; `brackets` is the text without anything else."""
    codes = np.frombuffer(brackets, dtype=np.uint8)
    steps = np.where((codes == ord("{")) | (codes == ord("[")), np.int32(1), np.int32(-1))
    return int(np.cumsum(steps).max(initial=0))
