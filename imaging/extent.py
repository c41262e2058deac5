"""Extents: half-open byte ranges, and the algebra of sets of them.

`ExtentSet` says *where* (sorted, disjoint, nothing empty); a `Layout` says *in which order a file runs* over the
disk and may go backwards. The two are never mixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Offsets: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Extent:
    """The bytes `[offset_bytes, offset_bytes + size_bytes)`."""

    offset_bytes: int
    size_bytes: int

    @property
    def end_bytes(self) -> int:
        """First byte after the extent."""
        return self.offset_bytes + self.size_bytes

    def __str__(self) -> str:
        return f"{self.offset_bytes:#x}+{self.size_bytes:#x}"


Layout: TypeAlias = tuple[Extent, ...]


def span(start_bytes: int, end_bytes: int) -> Extent:
    """Return the extent from `start_bytes` up to, not including, `end_bytes`."""
    return Extent(offset_bytes=start_bytes, size_bytes=end_bytes - start_bytes)


def layout_bytes(layout: Layout) -> int:
    """Return how many bytes a file of this layout has."""
    return sum(extent.size_bytes for extent in layout)


def clip_layout(layout: Layout, offset_bytes: int, size_bytes: int) -> Layout:
    """Return the part of `layout` that holds the file's bytes `[offset_bytes, offset_bytes + size_bytes)`."""
    pieces: list[Extent] = []
    position_bytes, end_bytes = 0, offset_bytes + size_bytes
    for extent in layout:
        low = max(offset_bytes, position_bytes)
        high = min(end_bytes, position_bytes + extent.size_bytes)
        if low < high:
            pieces.append(Extent(offset_bytes=extent.offset_bytes + low - position_bytes, size_bytes=high - low))
        position_bytes += extent.size_bytes
    return tuple(pieces)


class ExtentSet:
    """An immutable set of bytes as sorted, disjoint, non-adjacent extents; O(n log n) to build, O(n) to combine."""

    __slots__ = ("ends", "starts")

    def __init__(self, extents: Iterable[Extent] = ()) -> None:
        pairs = [(e.offset_bytes, e.end_bytes) for e in extents if e.size_bytes > 0]
        table = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
        self.starts, self.ends = _merge(table[:, 0], table[:, 1])

    @classmethod
    def from_arrays(cls, starts: Offsets, ends: Offsets) -> ExtentSet:
        """Build from arrays of starts and ends (int64, shape (n,)); any order, overlaps allowed, empty ones dropped."""
        made = cls.__new__(cls)
        keep = ends > starts
        order = np.argsort(starts[keep], kind="stable")
        made.starts, made.ends = _merge(starts[keep][order], ends[keep][order])
        return made

    def __iter__(self) -> Iterator[Extent]:
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            yield span(start, end)

    def __len__(self) -> int:
        return len(self.starts)

    def __bool__(self) -> bool:
        return len(self.starts) > 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExtentSet):
            return NotImplemented
        return np.array_equal(self.starts, other.starts) and np.array_equal(self.ends, other.ends)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ExtentSet({self})"

    def __str__(self) -> str:
        return ", ".join(map(str, self)) or "nothing"

    @property
    def total_bytes(self) -> int:
        """How many bytes the set holds."""
        return int((self.ends - self.starts).sum())

    def __or__(self, other: ExtentSet) -> ExtentSet:
        return ExtentSet.from_arrays(
            np.concatenate((self.starts, other.starts)), np.concatenate((self.ends, other.ends))
        )

    def __and__(self, other: ExtentSet) -> ExtentSet:
        starts, ends = [], []
        first = np.searchsorted(other.ends, self.starts, side="right")
        last = np.searchsorted(other.starts, self.ends, side="left")
        for index in np.flatnonzero(last > first).tolist():
            low, high = first[index], last[index]
            starts.append(np.maximum(other.starts[low:high], self.starts[index]))
            ends.append(np.minimum(other.ends[low:high], self.ends[index]))
        if not starts:
            return ExtentSet()
        return ExtentSet.from_arrays(np.concatenate(starts), np.concatenate(ends))

    def __sub__(self, other: ExtentSet) -> ExtentSet:
        if not self or not other:
            return self
        return self & other.complement(span(int(self.starts[0]), int(self.ends[-1])))

    def complement(self, domain: Extent) -> ExtentSet:
        """Return the bytes of `domain` that are not in the set."""
        inside = self.within(domain)
        starts = np.concatenate(([domain.offset_bytes], inside.ends))
        ends = np.concatenate((inside.starts, [domain.end_bytes]))
        return ExtentSet.from_arrays(starts, ends)

    def within(self, domain: Extent) -> ExtentSet:
        """Return the part of the set inside `domain`; O(log n) plus what is returned."""
        if domain.size_bytes <= 0:
            return ExtentSet()
        first = np.searchsorted(self.ends, domain.offset_bytes, side="right")
        last = np.searchsorted(self.starts, domain.end_bytes, side="left")
        made = ExtentSet.__new__(ExtentSet)
        made.starts = np.maximum(self.starts[first:last], domain.offset_bytes)
        made.ends = np.minimum(self.ends[first:last], domain.end_bytes)
        return made

    def shifted(self, by_bytes: int) -> ExtentSet:
        """Return the set moved by `by_bytes`."""
        made = ExtentSet.__new__(ExtentSet)
        made.starts, made.ends = self.starts + by_bytes, self.ends + by_bytes
        return made

    def touches(self, domain: Extent) -> bool:
        """Tell whether any byte of `domain` is in the set."""
        return bool(self.within(domain))

    def covers(self, domain: Extent) -> bool:
        """Tell whether every byte of `domain` is in the set."""
        return self.within(domain).total_bytes == domain.size_bytes


def _merge(starts: Offsets, ends: Offsets) -> tuple[Offsets, Offsets]:
    """Join overlapping and adjacent ranges; `starts` ascending."""
    if len(starts) == 0:
        return starts.astype(np.int64), ends.astype(np.int64)
    reach = np.maximum.accumulate(ends)
    new = np.concatenate(([True], starts[1:] > reach[:-1]))
    last = np.concatenate((np.flatnonzero(new)[1:] - 1, [len(starts) - 1]))
    return starts[new].astype(np.int64), reach[last].astype(np.int64)
