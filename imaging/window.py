"""Window: a layout read as if it were one file, starting at 0, with a budget.

A validator sees a Window and nothing else, so a file in one piece and a file in nine are the same to it, and a hostile
header cannot make it read without end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from imaging.errors import BudgetExceeded
from imaging.extent import Extent, ExtentSet, Layout, clip_layout, layout_bytes, span
from imaging.source import Source

PAGE_BYTES = 1 << 16  # small structure reads are served from one page kept
CHUNK_BYTES = 1 << 20  # hashes and checksums are at full speed from 1 MiB on
DEFAULT_BUDGET_STEPS = 4_000_000
DEFAULT_BUDGET_BYTES = 1 << 40


@dataclass(slots=True)
class Budget:
    """What one candidate may still cost, shared by all windows on it."""

    steps_left: int = DEFAULT_BUDGET_STEPS
    bytes_left: int = DEFAULT_BUDGET_BYTES

    def spend(self, size_bytes: int) -> None:
        """Take one read of `size_bytes` off.

        Raises:
            BudgetExceeded: nothing is left.
        """
        self.steps_left -= 1
        self.bytes_left -= size_bytes
        if self.steps_left < 0 or self.bytes_left < 0:
            raise BudgetExceeded("the candidate asks for more reads than a file of its kind needs")


class Window:
    """The bytes of `source` that `layout` names, in its order.

    Args:
        source: where the bytes are.
        layout: extents in file order.
        budget: what may be read in all, in calls and in bytes.
    """

    def __init__(self, source: Source, layout: Layout, *, budget: Budget | None = None) -> None:
        self._source = source
        self.layout = layout
        self.size_bytes = layout_bytes(layout)
        self._budget = budget or Budget()
        self._page = b""
        self._page_offset_bytes = 0

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return the bytes there; fewer only where the window ends (none before 0 or past the end).

        Unread ranges of the drive are returned as the image has them (a fill); ask `unread_within` about them.

        Raises:
            BudgetExceeded: the candidate costs more than it may.
            ReadFault: the image itself cannot be read.
        """
        if offset_bytes < 0 or size_bytes <= 0 or offset_bytes >= self.size_bytes:
            return b""
        if size_bytes > self.size_bytes - offset_bytes:
            size_bytes = self.size_bytes - offset_bytes
        self._budget.spend(size_bytes)
        skip = offset_bytes - self._page_offset_bytes
        if skip < 0 or skip + size_bytes > len(self._page):
            if size_bytes > PAGE_BYTES // 2:
                return self._fetch(offset_bytes, size_bytes)
            self._page = self._fetch(offset_bytes, min(PAGE_BYTES, self.size_bytes - offset_bytes))
            self._page_offset_bytes, skip = offset_bytes, 0
        return self._page[skip : skip + size_bytes]

    def chunks(self, offset_bytes: int, size_bytes: int, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Yield the bytes there in order, `chunk_bytes` at a time: for checksums over any length in bounded memory."""
        end_bytes = min(offset_bytes + size_bytes, self.size_bytes)
        while offset_bytes < end_bytes:
            piece = self.read_at(offset_bytes, min(chunk_bytes, end_bytes - offset_bytes))
            if not piece:
                return
            yield piece
            offset_bytes += len(piece)

    @property
    def unread_known(self) -> bool:
        """Whether a mapfile told what was never read from the drive."""
        return self._source.unread is not None

    def unread_within(self, offset_bytes: int, size_bytes: int) -> ExtentSet:
        """Return which of these bytes were never read from the drive, in the window's own offsets."""
        if self._source.unread is None or not self._source.unread:
            return ExtentSet()
        pieces: list[Extent] = []
        position_bytes = offset_bytes
        for extent in clip_layout(self.layout, offset_bytes, size_bytes):
            for hole in self._source.unread.within(extent):
                start = position_bytes + hole.offset_bytes - extent.offset_bytes
                pieces.append(span(start, start + hole.size_bytes))
            position_bytes += extent.size_bytes
        return ExtentSet(pieces)

    def part(self, offset_bytes: int, size_bytes: int) -> Window:
        """Return a window on a part of this one (a member of a container); both spend from one budget."""
        return Window(self._source, clip_layout(self.layout, offset_bytes, size_bytes), budget=self._budget)

    def _fetch(self, offset_bytes: int, size_bytes: int) -> bytes:
        layout = self.layout if len(self.layout) == 1 else clip_layout(self.layout, offset_bytes, size_bytes)
        if len(layout) == 1:
            inside = offset_bytes if layout is self.layout else 0
            return self._source.read_at(layout[0].offset_bytes + inside, size_bytes)
        return b"".join(self._source.read_at(extent.offset_bytes, extent.size_bytes) for extent in layout)
