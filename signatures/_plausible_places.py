"""Places: which tensors' bytes can be looked at as numbers, and how their rows lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from signatures.tensors import Tensor
from signatures.verdict import Grade

MIN_PLACE_BYTES = 4096
MIN_ROW_BYTES = 256
MAX_PLACES = 1 << 20

# dtype -> (bytes an element, bytes a float in it, the exponent's part of the second-highest byte; -1: none)
FLOATS = {
    "float16": (2, 2, -1),
    "bfloat16": (2, 2, 0x80),
    "float32": (4, 4, 0x80),
    "float64": (8, 8, 0xF0),
    "complex64": (8, 4, 0x80),
    "complex128": (16, 8, 0xF0),
}
INTEGERS = ("int8", "uint8", "int32")  # 8-bit weights, and 4-bit ones in their clothes
QUANTISED = ("q2_", "q3_", "q4_", "q5_", "q6_", "q8_", "iq", "tq", "mxfp", "nvfp", "float8_", "float6_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One extent of a tensor.

    Attributes:
        lane_bytes: bytes a float; 0 where the numbers are packed or integers.
        runs: whether runs of one byte mean anything: in tables and masks of integers they do not.
        exponent_low: the exponent's part of a float's second-highest byte; -1 for float16, which has none there.
        item_bytes: bytes an element.
        row_bytes: the lengths of its rows, of rows of rows and so on, in bytes.
    """

    name: str
    begin: int
    end: int
    lane_bytes: int
    runs: bool
    exponent_low: int
    item_bytes: int
    row_bytes: tuple[int, ...]


def places_of(tensors: Sequence[Tensor]) -> list[Place]:
    """Return the places of all tensors that can be judged, by offset, without overlaps (tied weights come twice)."""
    found = sorted((place for tensor in tensors for place in _places(tensor)), key=lambda place: place.begin)
    kept: list[Place] = []
    for place in found[:MAX_PLACES]:
        if not kept or place.begin >= kept[-1].end:
            kept.append(place)
    return kept


def _places(tensor: Tensor) -> Iterator[Place]:
    """Yield a tensor's extents; none where a checksum proved it, and none where it is stored packed."""
    if tensor.grade == Grade.INTACT:
        return
    item, lane, low = FLOATS.get(tensor.dtype, (1, 0, 0))
    if lane and math.prod(tensor.shape) * item != tensor.size_bytes:
        return  # deflated, or spread over a larger storage
    integers = tensor.dtype in INTEGERS and len(tensor.shape) > 1  # what is no table may be a file in an array
    if not lane and not integers and not tensor.dtype.startswith(QUANTISED):
        return
    for extent in tensor.layout:
        if extent.size_bytes >= MIN_PLACE_BYTES:
            yield Place(
                name=tensor.name[:200],
                begin=extent.offset_bytes,
                end=extent.end_bytes,
                lane_bytes=lane,
                runs=not integers,
                exponent_low=low,
                item_bytes=item,
                row_bytes=_rows(tensor, item if math.prod(tensor.shape) * item == tensor.size_bytes else 0),
            )


def _rows(tensor: Tensor, item_bytes: int) -> tuple[int, ...]:
    """Return the lengths of rows from the innermost out; of packed numbers only that of the outermost is known."""
    if not item_bytes:
        outer = tensor.shape[0] if tensor.shape else 1
        return (tensor.size_bytes // outer,) if outer > 1 else ()
    rows, size = [], item_bytes
    for extent in tensor.shape[:0:-1]:
        size *= extent
        if size >= MIN_ROW_BYTES:
            rows.append(size)
    return tuple(rows)
