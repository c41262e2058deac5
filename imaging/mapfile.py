"""Mapfile: what became of every byte of a drive, in GNU ddrescue's text, kept in memory for the rescue loop.

A block starts where the last one ended; what a line may hold is `imaging.map_lines`'s to know.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imaging.errors import InputError, MapfileError
from imaging.extent import Extent, ExtentSet, span
from imaging.map_lines import MAX_OFFSET_BYTES, block_line, content_lines, status_line


class BlockStatus(StrEnum):
    """What is known of a block; the member is the character in the mapfile."""

    NON_TRIED = "?"
    NON_TRIMMED = "*"
    NON_SCRAPED = "/"
    BAD_SECTOR = "-"
    FINISHED = "+"


_STATUS_OF_CODE = {ord(status): status for status in BlockStatus}
# what `to_text` and ddrescue write: comments, the status line, a comment, blocks; at most 2^60 a number
_PLAIN_MAP = re.compile(
    r"(?:#[^\n\0]*+\n)*+(?P<status>0x[0-9A-F]{8,15} ++[?*/+FG-] ++[1-9][0-9]{0,8}+)\n"
    r"(?:#[^\n\0]*+\n)*+(?P<blocks>(?:0x[0-9A-F]{8,15}+  0x[0-9A-F]{8,15}+  [?*/+-]\n)++)"
)


class Mapfile:
    """Contiguous blocks of one status each, and where the rescue stands.

    Neighbouring blocks always differ in status. Look-ups are binary searches; a change is one splice of two flat
    arrays (9 bytes a block), so that a map of millions of blocks changes in well under a millisecond.

    Attributes:
        position_bytes: where the rescue is reading.
        current_status: one of `?*/-FG+`: copying, trimming, scraping, retrying, filling, generating, finished.
        current_pass: 1 or more.
    """

    def __init__(self, blocks: Sequence[tuple[Extent, BlockStatus]] = ()) -> None:
        """Hold `blocks`, which must be contiguous; neighbours of one status are merged, empty ones dropped.

        Raises:
            MapfileError: a gap or an overlap, or offsets outside 0 … 2^63−1.
        """
        self.position_bytes = 0
        self.current_status = BlockStatus.NON_TRIED.value
        self.current_pass = 1
        self._starts = array("q")
        self._codes = bytearray()
        self._end_bytes = blocks[0][0].offset_bytes if blocks else 0
        self._count_of_code = dict.fromkeys(_STATUS_OF_CODE, 0)
        for extent, status in blocks:
            if extent.offset_bytes != self._end_bytes:
                raise MapfileError(f"gap or overlap at {extent.offset_bytes:#x}, expected {self._end_bytes:#x}")
            if extent.offset_bytes < 0 or extent.end_bytes > MAX_OFFSET_BYTES:
                raise MapfileError(f"block {extent} lies outside the offsets a mapfile can hold")
            self._append(extent, ord(status))

    def _append(self, extent: Extent, code: int) -> None:
        if extent.size_bytes <= 0:
            return
        if not self._codes or self._codes[-1] != code:
            self._starts.append(extent.offset_bytes)
            self._codes.append(code)
        self._end_bytes = extent.end_bytes
        self._count_of_code[code] += extent.size_bytes

    @classmethod
    def covering(cls, size_bytes: int) -> Mapfile:
        """Return the map of a drive of `size_bytes` of which nothing was tried."""
        return cls([(span(0, size_bytes), BlockStatus.NON_TRIED)])

    @classmethod
    def from_extents(cls, extents: Mapping[BlockStatus, ExtentSet]) -> Mapfile:
        """Return the map whose bytes of each status are these; one sort in numpy.

        Raises:
            MapfileError: together they have a gap or an overlap.
        """
        parts = [(held.starts, held.ends, np.full(len(held), ord(s), np.uint8)) for s, held in extents.items() if held]
        if not parts:
            return cls()
        starts, ends, codes = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(starts)
        return cls._from_arrays(starts[order], ends[order], codes[order])

    @classmethod
    def _from_arrays(
        cls, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], codes: npt.NDArray[np.uint8]
    ) -> Mapfile:
        """Build from blocks in order, none empty; neighbours of one status are merged."""
        torn = np.flatnonzero(starts[1:] != ends[:-1])
        if len(torn):
            raise MapfileError(f"gap or overlap at {int(ends[torn[0]]):#x}")
        made = cls()
        for code in _STATUS_OF_CODE:
            made._count_of_code[code] = int((ends - starts)[codes == code].sum())
        first_of_status = np.append(True, codes[1:] != codes[:-1])
        made._starts = array("q", starts[first_of_status].tobytes())
        made._codes = bytearray(codes[first_of_status].tobytes())
        made._end_bytes = int(ends[-1])
        return made

    @classmethod
    def load(cls, path: Path) -> Mapfile:
        """Read a mapfile.

        Raises:
            InputError: it cannot be read.
            MapfileError: it breaks the grammar.
        """
        try:
            text = path.read_bytes().decode("latin-1")
        except OSError as fault:
            raise InputError(f"cannot read the mapfile {path}: {fault.strerror}") from fault
        return cls.parse(text, name=str(path))

    @classmethod
    def parse(cls, text: str, *, name: str = "") -> Mapfile:
        """Read a mapfile's text; a text without data lines is an empty map.

        Raises:
            MapfileError: the message gives `name`, the line, and what is wrong with it.
        """
        return _parse(text, name or "mapfile")

    def copy(self) -> Mapfile:
        """Return an independent copy."""
        made = Mapfile()
        made.stand_as(self)
        made._starts, made._codes, made._end_bytes = self._starts[:], self._codes[:], self._end_bytes
        made._count_of_code = dict(self._count_of_code)
        return made

    def _stand(self, position_bytes: int, current_status: str, current_pass: int) -> None:
        self.position_bytes, self.current_status, self.current_pass = position_bytes, current_status, current_pass

    def stand_as(self, other: Mapfile) -> None:
        """Take over where another map's rescue stands: its position, status and pass."""
        self._stand(other.position_bytes, other.current_status, other.current_pass)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapfile):
            return NotImplemented
        return (
            (self._starts, self._codes, self.start_bytes) == (other._starts, other._codes, other.start_bytes)
            and self._end_bytes == other._end_bytes
            and (self.position_bytes, self.current_status, self.current_pass)
            == (other.position_bytes, other.current_status, other.current_pass)
        )

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        """How many blocks there are."""
        return len(self._starts)

    def __repr__(self) -> str:
        return f"Mapfile({span(self.start_bytes, self._end_bytes)}, {len(self)} blocks)"

    @property
    def start_bytes(self) -> int:
        """Where the first block begins."""
        return self._starts[0] if self._starts else self._end_bytes

    @property
    def end_bytes(self) -> int:
        """First byte after the last block."""
        return self._end_bytes

    @property
    def size_bytes(self) -> int:
        """How many bytes the blocks hold together."""
        return self._end_bytes - self.start_bytes

    @property
    def unread(self) -> ExtentSet:
        """Everything that is not finished."""
        return self.extents(*(status for status in BlockStatus if status is not BlockStatus.FINISHED))

    def count_bytes(self, status: BlockStatus) -> int:
        """Return how many bytes have this status; O(1)."""
        return self._count_of_code[ord(status)]

    def count_blocks(self, status: BlockStatus) -> int:
        """Return how many blocks have this status."""
        return self._codes.count(ord(status))

    def blocks(self) -> Iterator[tuple[Extent, BlockStatus]]:
        """Yield the blocks in order; the map must not be changed meanwhile."""
        for index, code in enumerate(self._codes):
            yield self._extent(index), _STATUS_OF_CODE[code]

    def block_at(self, offset_bytes: int) -> tuple[Extent, BlockStatus]:
        """Return the block that holds the byte; O(log n).

        Raises:
            ValueError: no block does.
        """
        if not self.start_bytes <= offset_bytes < self._end_bytes:
            raise ValueError(f"{offset_bytes:#x} is outside {self!r}")
        index = bisect_right(self._starts, offset_bytes) - 1
        return self._extent(index), _STATUS_OF_CODE[self._codes[index]]

    def next_block(self, offset_bytes: int, status: BlockStatus) -> Extent | None:
        """Return the first block of this status at or after the offset (the rest of the one it is in), or None.

        One binary search and one `memchr` over a byte a block.
        """
        index = max(bisect_right(self._starts, offset_bytes) - 1, 0)
        index = self._codes.find(ord(status), index)
        if index >= 0 and self._block_end(index) <= offset_bytes:
            index = self._codes.find(ord(status), index + 1)
        return None if index < 0 else span(max(self._starts[index], offset_bytes), self._block_end(index))

    def previous_block(self, offset_bytes: int, status: BlockStatus) -> Extent | None:
        """Return the last block of this status that ends at or before the offset, or None.

        Of the block that the offset is in, the part before it.
        """
        index = self._codes.rfind(ord(status), 0, bisect_left(self._starts, offset_bytes))
        return None if index < 0 else span(self._starts[index], min(self._block_end(index), offset_bytes))

    def extents(self, *statuses: BlockStatus) -> ExtentSet:
        """Return where the blocks of these statuses lie; O(n), in numpy."""
        starts: npt.NDArray[np.int64] = np.array(self._starts, dtype=np.int64)
        ends = np.append(starts[1:], np.int64(self._end_bytes))[: len(starts)]
        codes = np.frombuffer(bytes(self._codes), dtype=np.uint8)
        wanted = np.isin(codes, [ord(status) for status in statuses])
        return ExtentSet.from_arrays(starts[wanted], ends[wanted])

    def mark(self, extent: Extent, status: BlockStatus) -> None:
        """Give the bytes of `extent` a status; neighbours of one status become one block.

        Raises:
            ValueError: a part of it is outside the map.
        """
        low, high, code = extent.offset_bytes, extent.end_bytes, ord(status)
        if extent.size_bytes <= 0:
            return
        if low < self.start_bytes or high > self._end_bytes:
            raise ValueError(f"{extent} is not inside {self!r}")
        first = bisect_right(self._starts, low) - 1
        last = bisect_left(self._starts, high) - 1
        if first == last and self._codes[first] == code:
            return
        self._recount(first, last, extent, code)
        if first > 0 and self._starts[first] == low and self._codes[first - 1] == code:
            first -= 1
        if self._block_end(last) == high and last + 1 < len(self._codes) and self._codes[last + 1] == code:
            last += 1
        self._splice(first, last, extent, code)

    def _splice(self, first: int, last: int, extent: Extent, code: int) -> None:
        """Replace the blocks `first` … `last` by what `extent` leaves of the two, and itself between them."""
        starts, codes = array("q"), bytearray()
        if self._starts[first] < extent.offset_bytes and self._codes[first] != code:
            starts.append(self._starts[first])
            codes.append(self._codes[first])
        starts.append(self._starts[first] if self._codes[first] == code else extent.offset_bytes)
        codes.append(code)
        if extent.end_bytes < self._block_end(last) and self._codes[last] != code:
            starts.append(extent.end_bytes)
            codes.append(self._codes[last])
        self._starts[first : last + 1] = starts
        self._codes[first : last + 1] = codes

    def _recount(self, first: int, last: int, extent: Extent, code: int) -> None:
        """Move the bytes of `extent` from the counts of the blocks `first` … `last` to that of `code`."""
        for index in range(first, last + 1):
            low = max(self._starts[index], extent.offset_bytes)
            self._count_of_code[self._codes[index]] -= min(self._block_end(index), extent.end_bytes) - low
        self._count_of_code[code] += extent.size_bytes

    def _block_end(self, index: int) -> int:
        return self._starts[index + 1] if index + 1 < len(self._starts) else self._end_bytes

    def _extent(self, index: int) -> Extent:
        return span(self._starts[index], self._block_end(index))

    def to_text(self, comments: Sequence[str] = ()) -> str:
        """Return the map as ddrescue writes it.

        Args:
            comments: lines for the head, without their `#`.
        """
        starts: npt.NDArray[np.int64] = np.array(self._starts, dtype=np.int64)
        sizes = np.diff(starts, append=self._end_bytes) if len(self) else starts
        lines = [f"# {line}" for comment in comments for line in comment.splitlines() or [""]]
        lines.append("# current_pos  current_status  current_pass")
        lines.append(f"0x{self.position_bytes:08X}     {self.current_status}               {self.current_pass}")
        lines.append("#      pos        size  status")
        blocks = zip(starts.tolist(), sizes.tolist(), self._codes, strict=True)
        lines.extend(map("0x%08X  0x%08X  %c".__mod__, blocks))
        return "\n".join(lines) + "\n"


def _parse(text: str, name: str) -> Mapfile:
    return _parse_plain(text) or _parse_lines(text, name)


def _parse_plain(text: str) -> Mapfile | None:
    """Read a map in the very form that is written, ten times as fast; None for any other, also for a wrong one."""
    found = _PLAIN_MAP.fullmatch(text)
    if found is None:
        return None
    fields = found["blocks"].split()
    starts: npt.NDArray[np.int64] = np.array([int(field, 16) for field in fields[0::3]], dtype=np.int64)
    sizes: npt.NDArray[np.int64] = np.array([int(field, 16) for field in fields[1::3]], dtype=np.int64)
    if (sizes == 0).any() or not np.array_equal(starts[1:], starts[:-1] + sizes[:-1]):
        return None
    codes: npt.NDArray[np.uint8] = np.frombuffer("".join(fields[2::3]).encode(), dtype=np.uint8)
    made = Mapfile._from_arrays(starts, starts + sizes, codes)
    made._stand(*status_line(found["status"], ""))
    return made


def _parse_lines(text: str, name: str) -> Mapfile:
    made = Mapfile()
    expected_bytes: int | None = None
    for where, extent, code in _parsed_blocks(text, name, made):
        if expected_bytes is not None and extent.offset_bytes != expected_bytes:
            kind = "a gap" if extent.offset_bytes > expected_bytes else "an overlap"
            raise MapfileError(
                f"{where}: {kind}: the block starts at {extent.offset_bytes:#x}, the one before ends at "
                f"{expected_bytes:#x}"
            )
        made._append(extent, code)
        expected_bytes = extent.end_bytes
    return made


def parse_loose(text: str, fill: BlockStatus, *, name: str = "") -> Mapfile:
    """Read a map made by hand: blocks in any order, overlapping where they agree; gaps, from 0 on, become `fill`.

    The map ends with its last block (`ddrescuelog -C` lets one of status `fill` run on to 2^63−1).

    Raises:
        MapfileError: a line breaks the grammar, or blocks of different status overlap.
    """
    made = Mapfile()
    listed: dict[BlockStatus, list[Extent]] = {status: [] for status in BlockStatus}
    for _, extent, code in _parsed_blocks(text, name or "mapfile", made):
        listed[_STATUS_OF_CODE[code]].append(extent)
    held = {status: ExtentSet(extents) for status, extents in listed.items()}
    taken = ExtentSet()
    for status, extents in held.items():
        if taken & extents:
            raise MapfileError(
                f"{name or 'mapfile'}: blocks of different status overlap: {status} at {taken & extents}"
            )
        taken |= extents
    if taken:
        held[fill] |= taken.complement(span(0, int(taken.ends[-1])))
    filled = Mapfile.from_extents(held)
    filled.stand_as(made)
    return filled


def _parsed_blocks(text: str, name: str, made: Mapfile) -> Iterator[tuple[str, Extent, int]]:
    """Yield the block lines (where it stands, extent, status); the status line goes into `made`."""
    lines = content_lines(text, name)
    if (first := next(lines, None)) is not None:
        where, content = first
        made._stand(*status_line(content, where))
    for where, content in lines:
        extent, status = block_line(content, where)
        yield where, extent, ord(status)
