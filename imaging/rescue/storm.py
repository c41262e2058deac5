"""Storm: many errors in a row. Is it the medium, or is the drive gone, or a bridge answering for it?"""

from __future__ import annotations

from imaging.extent import Extent
from imaging.mapfile import BlockStatus, Mapfile

MAX_STORM_ERRORS = 4096


class Storm:
    """The failures since anything was last read, what they changed, and when to look at known good sectors again.

    The first look comes after `first_errors` failures, and each that goes well doubles the wait: in a large bad zone
    the looks cost one read in hundreds.
    """

    def __init__(self, first_errors: int) -> None:
        """Begin without failures; 0 never looks."""
        self._first_errors = first_errors
        self._patience = first_errors
        self._failures: list[tuple[Extent, BlockStatus]] = []

    def calm(self) -> None:
        """Note that something was read."""
        self._failures.clear()
        self._patience = self._first_errors

    def fail(self, extent: Extent, before: BlockStatus) -> bool:
        """Note a failure and the status that it changes; return whether it is time to look."""
        if self._first_errors == 0:
            return False
        self._failures.append((extent, before))
        return len(self._failures) >= self._patience

    def endure(self) -> None:
        """Note that known good sectors are still good: the failures are the medium's."""
        self._failures.clear()
        self._patience = min(self._patience * 2, MAX_STORM_ERRORS)

    def take_back(self) -> list[tuple[Extent, BlockStatus]]:
        """Return what the failures changed, latest first, once: they were not the medium's."""
        failures = self._failures[::-1]
        self.calm()
        return failures


def known_good(mapfile: Mapfile, position_bytes: int, sector_bytes: int) -> list[Extent]:
    """Return up to three sectors that were read before: the nearest on both sides, and the first of all."""
    finished = BlockStatus.FINISHED
    before = mapfile.previous_block(position_bytes, finished)
    behind, first = (mapfile.next_block(at, finished) for at in (position_bytes, mapfile.start_bytes))
    sectors: list[Extent] = []
    for block, at_its_end in ((before, True), (behind, False), (first, False)):
        if block is None:
            continue
        start = -(-block.offset_bytes // sector_bytes) * sector_bytes
        last = block.end_bytes // sector_bytes * sector_bytes - sector_bytes
        sector = Extent(offset_bytes=last if at_its_end else start, size_bytes=sector_bytes)
        if start <= last and sector not in sectors:
            sectors.append(sector)
    return sectors
