"""Following: the scan of an image while it is being made, so that the scan of a healthy drive ends with its imaging.

A follower subscribes to the read pump. It keeps book of what was read, cell by cell of the grid that the scan cuts the
image into; a cell that was read whole, with the few bytes behind it into which its hits can run, is scanned by a thread
of its own, in whatever order cells become whole. The bytes are read back from the image file, where the system still
has them in memory, and never mapped, as the file is being written.

Cells with a gap are left: when the gap fills they are scanned like the others, and if it never does, afterwards. A cell
that is read once more is scanned once more. So the hits are those of a scan afterwards, which asks here first
(`KnownHits`) and scans what is not known; it takes nothing from a cell of which the map says that a byte is unread.

    follow.jsonl    a line a part of a cell, in the order they were scanned; the last lines about a cell count
    follow.bin      their hits

Following must never harm the imaging: whatever goes wrong here is told, ends the following and nothing else.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from carver.automaton import Automaton, build
from carver.chunks import Chunk
from carver.hits import HitStore
from carver.scan import CHUNK_BYTES, HIT_DTYPE, ChunkHits, Scanner
from carver.stagelog import read_log
from imaging.closing import Closing
from imaging.errors import CarverError, InputError
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus
from imaging.pump import Piece
from imaging.source import RawImage
from signatures.format import Format

log = logging.getLogger(__name__)

LOG, DATA = "follow.jsonl", "follow.bin"
MAX_WAITING = 32  # cells: what waits longer may be out of memory, and is cheaper to read in one go afterwards


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The cells of an image.

    Attributes:
        image_bytes: its length.
        cell_bytes: side of a cell.
        reach_bytes: how far hits run on behind a cell.
    """

    image_bytes: int
    cell_bytes: int
    reach_bytes: int

    @property
    def count(self) -> int:
        """How many cells there are."""
        return -(-self.image_bytes // self.cell_bytes)

    def cell(self, number: int) -> Extent:
        """Return where hits of a cell start."""
        start_bytes = number * self.cell_bytes
        return span(start_bytes, min(start_bytes + self.cell_bytes, self.image_bytes))

    def needed(self, number: int) -> Extent:
        """Return what must be read to see them whole."""
        start_bytes = number * self.cell_bytes
        return span(start_bytes, min(start_bytes + self.cell_bytes + self.reach_bytes, self.image_bytes))

    def touched(self, extent: Extent) -> range:
        """Return the cells that need any of these bytes."""
        first = max(extent.offset_bytes - self.reach_bytes, 0) // self.cell_bytes
        return range(first, min(-(-extent.end_bytes // self.cell_bytes), self.count))


class Readings:
    """Which cells were read whole; what is read on and on costs one look a piece.

    Args:
        grid: the cells.
        finished: what had been read before.
    """

    def __init__(self, grid: Grid, finished: ExtentSet) -> None:
        self._grid = grid
        self._finished = finished
        self._whole = bytearray(grid.count)
        self._partly: dict[int, ExtentSet] = {}
        self._run = self._until = span(0, 0)  # what is read on, and where it leaves its first cell
        for number in range(grid.count) if finished else ():
            self._whole[number] = finished.covers(grid.needed(number))

    def is_whole(self, number: int) -> bool:
        """Whether a cell was read whole, as far as is known without `settle`."""
        return bool(self._whole[number])

    def add(self, extent: Extent) -> list[int]:
        """Note bytes that were read; return cells to scan: whole now, or read once more."""
        told: list[int] = []
        run = self._run
        if run.size_bytes > 0 and extent.offset_bytes == run.end_bytes:
            self._run = span(run.offset_bytes, extent.end_bytes)
            full = extent.end_bytes >= self._until.end_bytes
        elif run.size_bytes > 0 and extent.end_bytes == run.offset_bytes:
            self._run = span(extent.offset_bytes, run.end_bytes)
            full = extent.offset_bytes <= self._until.offset_bytes
        else:
            told = self.settle()
            self._run, self._until = extent, self._grid.needed(extent.offset_bytes // self._grid.cell_bytes)
            full = extent.end_bytes >= self._until.end_bytes
        return told + self.settle() if full else told

    def settle(self) -> list[int]:
        """Take what was read on into the book; return cells to scan."""
        run, self._run = self._run, span(0, 0)
        told: list[int] = []
        for number in self._grid.touched(run):
            if not self._whole[number]:
                needed = self._grid.needed(number)
                known = self._known(number) | ExtentSet([run]).within(needed)
                if not known.covers(needed):
                    self._partly[number] = known
                    continue
                self._whole[number] = True
                self._partly.pop(number, None)
            told.append(number)
        return told

    def lose(self, extent: Extent) -> list[int]:
        """Note that these bytes count as unread; return cells that were whole and are not any more."""
        told = self.settle()
        for number in self._grid.touched(extent):
            if not (known := self._known(number)).touches(extent):
                continue
            self._partly[number] = known - ExtentSet([extent])
            if self._whole[number]:
                told.append(number)
            self._whole[number] = False
        return told

    def _known(self, number: int) -> ExtentSet:
        needed = self._grid.needed(number)
        if self._whole[number]:
            return ExtentSet([needed])
        known = self._partly.get(number)
        return self._finished.within(needed) if known is None else known


class Follower(Closing):
    """A subscriber of the read pump that scans what was read whole; `close` it when the imaging has ended.

    Args:
        folder: where its log and hits are kept.
        image_path: the image that is being written; it is as long as the drive from the start.
        formats: what to look for.
        image_bytes: how long that is.
        finished: what an earlier run has read; of cells that need more nothing is known.
        domain: where hits may start (None: anywhere).
        stop: whether to leave what waits for the scan afterwards.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        image_path: Path,
        formats: Sequence[Format],
        *,
        image_bytes: int,
        finished: ExtentSet,
        domain: ExtentSet | None = None,
        cell_bytes: int = CHUNK_BYTES,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._automaton = build(formats)
        self._image_path = image_path
        self._grid = Grid(image_bytes=image_bytes, cell_bytes=cell_bytes, reach_bytes=self._automaton.reach_bytes)
        self._domain = domain
        self._readings = Readings(self._grid, finished)
        self._stop = stop
        self._image: RawImage | None = None
        key = follow_key(self._automaton, self._grid, domain)
        self._store = HitStore(folder, key, names=(LOG, DATA))
        self._orders: queue.SimpleQueue[tuple[int, bool] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="follow", daemon=True)
        for number in {entry["offset_bytes"] // cell_bytes for entry in self._store.log.entries()}:
            if not self._readings.is_whole(number):
                self._orders.put((number, False))
        self._thread.start()

    def __call__(self, piece: Piece) -> None:
        """Take what became of some bytes."""
        if piece.status is BlockStatus.FINISHED:
            for number in self._readings.add(piece.extent):
                self._orders.put((number, self._orders.qsize() < MAX_WAITING))
        else:
            for number in self._readings.lose(piece.extent):
                self._orders.put((number, self._readings.is_whole(number)))

    def close(self) -> None:
        """Scan what waits, and save."""
        for number in self._readings.settle():
            self._orders.put((number, True))
        self._orders.put(None)
        self._thread.join()
        if self._image is not None:
            self._image.close()
        try:
            self._store.close()
        except CarverError as fault:
            log.warning("the scan along with the imaging could not be saved, and is done again: %s", fault)

    def _work(self) -> None:
        scanner: Scanner | None = None
        try:
            while (order := self._orders.get()) is not None:
                number, scan = order
                if scan and not self._stop():
                    scanner = scanner or self._new_scanner()
                    self._scan(scanner, number)
                else:
                    self._forget(number)
        except CarverError as fault:
            log.warning("the scan along with the imaging ends here; the rest is scanned afterwards: %s", fault)

    def _new_scanner(self) -> Scanner:
        """Open the image, which is made when the first bytes come."""
        self._image = RawImage(self._image_path)
        if self._image.size_bytes != self._grid.image_bytes:
            raise InputError(f"{self._image_path} is not as long as the drive")
        return Scanner(self._automaton, self._image, may_map=False)

    def _scan(self, scanner: Scanner, number: int) -> None:
        cell = self._grid.cell(number)
        whole = ExtentSet([cell])
        rest: Chunk | None = Chunk(extent=cell, starts=whole if self._domain is None else self._domain.within(cell))
        while rest is not None:
            part, rest = scanner.part(rest)
            if part.unread:
                self._forget(number)
                return
            self._store.append(part)

    def _forget(self, number: int) -> None:
        """Note that nothing is known of a cell."""
        here = span(number * self._grid.cell_bytes, number * self._grid.cell_bytes)
        self._store.append(ChunkHits(chunk=here, hits=np.zeros(0, HIT_DTYPE), unread=ExtentSet()))


def follow_key(automaton: Automaton, grid: Grid, domain: ExtentSet | None) -> dict[str, object]:
    """Return what the hits of cells depend on, but for their bytes."""
    return {
        "image_bytes": grid.image_bytes,
        "cell_bytes": grid.cell_bytes,
        "patterns": automaton.digest,
        "domain": None if domain is None else [[e.offset_bytes, e.end_bytes] for e in domain],
    }


class KnownHits:
    """What a follower found, for the scan afterwards to ask (`carver.scan.Known`).

    Args:
        folder: where the follower kept it.
        key: what it must have been found for.
        grid: the cells.
        unread: what was never read; cells that need any of it are not known.
    """

    def __init__(self, folder: Path, key: Mapping[str, object], grid: Grid, unread: ExtentSet) -> None:
        self._log, self._data = folder / LOG, folder / DATA
        self._grid = grid
        self._unread = unread
        self._lines = np.full(grid.count, -1, dtype=np.int64)  # of a cell: where its lines begin in the log,
        self._firsts = np.zeros(grid.count, dtype=np.int64)  # and its hits in the data
        if self._log.is_file() and _key_of(self._log) == json.loads(json.dumps(key)):
            self._read_log()

    def __call__(self, chunk: Chunk) -> tuple[ChunkHits, Chunk | None] | None:
        """Return the hits of a chunk, or of its beginning, and the rest; None when they are not known."""
        number = chunk.extent.offset_bytes // self._grid.cell_bytes
        needed = self._grid.needed(number)
        if self._lines[number] < 0 or chunk.extent.end_bytes > needed.end_bytes or self._unread.touches(needed):
            return None
        first = int(self._firsts[number])
        for _, entry in read_log(self._log, int(self._lines[number])):
            if entry["end_bytes"] > chunk.extent.offset_bytes:
                break
            first = entry["hits_through"]
        part = span(chunk.extent.offset_bytes, min(entry["end_bytes"], chunk.extent.end_bytes))
        with self._data.open("rb") as file:
            hits = np.fromfile(file, HIT_DTYPE, entry["hits_through"] - first, offset=first * HIT_DTYPE.itemsize)
        inside = (hits["offset_bytes"] >= part.offset_bytes) & (hits["offset_bytes"] < part.end_bytes)
        return ChunkHits(chunk=part, hits=hits[inside], unread=ExtentSet()), chunk.behind(part.end_bytes)

    def _read_log(self) -> None:
        through, line, first = 0, -1, 0
        for offset_bytes, entry in read_log(self._log):
            number = entry["offset_bytes"] // self._grid.cell_bytes
            if entry["offset_bytes"] == number * self._grid.cell_bytes:  # the first part; whatever was known is void
                line, first = offset_bytes, through
                self._lines[number] = -1
            through = entry["hits_through"]
            if entry["end_bytes"] == self._grid.cell(number).end_bytes:
                self._lines[number], self._firsts[number] = line, first


def _key_of(path: Path) -> object:
    with path.open("rb") as file:
        try:
            return json.loads(file.readline()).get("key")
        except (ValueError, AttributeError):
            return None
