"""Where the tensors of a GGUF file lie. They must tile the data: each begins where the one before ends, padded.

A record whose numbers contradict its neighbours is found this way, and costs that tensor only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from imaging.extent import Layout, span
from signatures._gguf_header import Entry
from signatures._gguf_types import GGML_TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One tensor and its place in the data; `fault` is a finding's code, or "" where all agrees."""

    entry: Entry
    begin: int
    end: int
    fault: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape as numpy has it: slowest first."""
        return self.entry.dims[::-1]

    @property
    def dtype(self) -> str:
        """The name of the type; of an unknown one its number."""
        known = GGML_TYPES.get(self.entry.ggml_type)
        return known[0] if known else f"ggml_{self.entry.ggml_type}"

    def layout(self, data_start: int) -> Layout:
        """Return its byte range in the file."""
        return (span(data_start + self.begin, data_start + self.end),) if self.end > self.begin else ()


def stored_bytes(entry: Entry) -> int | None:
    """Return how many bytes a tensor takes; None when its type is unknown or its rows are no whole blocks."""
    known = GGML_TYPES.get(entry.ggml_type)
    row = entry.dims[0] if entry.dims else 1
    if known is None or row % known[1]:
        return None
    return math.prod(entry.dims) // known[1] * known[2]


def padded(size_bytes: int, alignment_bytes: int) -> int:
    """Round up."""
    return -(-size_bytes // alignment_bytes) * alignment_bytes


def in_order(entries: Sequence[Entry], alignment_bytes: int) -> list[Entry]:
    """Return the entries as they are stored, or by offset where only that makes them tile."""
    by_offset = sorted(entries, key=lambda entry: entry.offset_bytes)
    if by_offset != list(entries) and all(not one.fault for one in place(by_offset, alignment_bytes)):
        return by_offset
    return list(entries)


def place(entries: Sequence[Entry], alignment_bytes: int) -> list[Placed]:
    """Give each tensor, in order, its range; a record that contradicts the next one is marked."""
    placed: list[Placed] = []
    for index, entry in enumerate(entries):
        following = entries[index + 1].offset_bytes if index + 1 < len(entries) else None
        placed.append(_place(entry, following, alignment_bytes, first=index == 0))
    return placed


def _place(entry: Entry, following: int | None, alignment_bytes: int, *, first: bool) -> Placed:
    begin = entry.offset_bytes
    size_bytes = stored_bytes(entry)
    fault = "tensor-offset" if first and begin else ""
    if size_bytes is None:
        fault = "unknown-type" if entry.ggml_type not in GGML_TYPES else "block-size"
        size_bytes = max(0, following - begin) if following is not None else 0
    elif following is not None and begin + padded(size_bytes, alignment_bytes) != following:
        fault = "tensor-offset"
        size_bytes = min(size_bytes, max(0, following - begin))
    return Placed(entry=entry, begin=begin, end=begin + size_bytes, fault=fault)
