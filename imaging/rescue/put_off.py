"""Put off: what hung, and what its pass would have read right behind it, is left for last, also by the next run.

The map's statuses cannot say so in GNU's grammar: a sector that hung may be non-tried, or bad like any other. So the
ranges are kept as remarks in the map's head, from the moment that a read is suspiciously late: whoever is stopped or
killed at a drive that hangs does not meet the same hang first thing again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.rescue.plan import SWEEPING_PASS, Phase, Read, Territory

SUSPECT_SECONDS = 5.0  # slower than any read of a drive that is well, sooner than a user at the keyboard gives up
MAX_REMARKS = 1000  # more would be a drive that hangs everywhere
_REMARK = re.compile(r"left for last (0x[0-9a-f]{1,15})\+(0x[0-9a-f]{1,15})")


def recalled(remarks: Iterable[str]) -> ExtentSet:
    """Return what earlier runs have left for last, by the remarks in the head of their map."""
    found = (match for remark in remarks if (match := _REMARK.fullmatch(remark)))
    return ExtentSet(Extent(offset_bytes=int(match[1], 16), size_bytes=int(match[2], 16)) for match in found)


class PutOff:
    """The reads of a run that hung, and the ranges that wait until everything else is done.

    Attributes:
        hung: what was asked for by reads that passed their deadline, in order.
    """

    def __init__(self, recalled: ExtentSet | None = None, *, domain: ExtentSet | None = None) -> None:
        """Begin with what earlier runs left for last; of it, what lies outside `domain` waits for another run."""
        self.hung: list[Extent] = []
        self._hung_before = recalled or ExtentSet()
        self._waiting = self._hung_before if domain is None else self._hung_before & domain
        self._taken = ExtentSet()
        self._suspect = ExtentSet()
        self._last_round = False

    def leave_out_of(self, territory: Territory) -> None:
        """Have planners not find what waits."""
        territory.leave_out(self._waiting)

    def suspect(self, read: Read) -> bool:
        """Note a read that is late, for the next run if this one does not see its end; return whether it is news."""
        suspect = ExtentSet([read.extent])
        news = suspect != self._suspect
        self._suspect = suspect
        return news

    def acquit(self) -> None:
        """Note that the read was answered after all, or has passed its deadline."""
        self._suspect = ExtentSet()

    def remarks(self, mapfile: Mapfile) -> tuple[str, ...]:
        """Return what the next run should leave for last, as lines for the map's head."""
        open_blocks = mapfile.extents(BlockStatus.NON_TRIED, BlockStatus.NON_TRIMMED, BlockStatus.NON_SCRAPED)
        late = (self._waiting | self._taken) & open_blocks
        hung = (self._hung_before | ExtentSet(self.hung) | self._suspect) - mapfile.extents(BlockStatus.FINISHED)
        return tuple(f"left for last {extent}" for extent in list(late | hung)[:MAX_REMARKS])

    def may_wait(self, read: Read) -> bool:
        """Tell whether there is a later turn for this read: not in the last round, nor in a retry pass."""
        return not self._last_round and read.phase is not Phase.RETRYING

    def add(self, read: Read, good_bytes: int, territory: Territory) -> bool:
        """Leave what hung for last; where its pass would go on right behind it, also the rest of the block.

        Returns:
            Whether the plan at work must be made anew, since it has that rest in hand.
        """
        self.hung.append(span(read.extent.offset_bytes + good_bytes, read.extent.end_bytes))
        if not self.may_wait(read):
            return False
        late = [read.extent]
        behind = _rest_of_block(read, territory)
        if behind is not None:
            late.append(behind)
        self._waiting |= ExtentSet(late)
        territory.leave_out(self._waiting)
        return behind is not None

    def cut_at(self, end_bytes: int) -> None:
        """Forget what lies at or behind `end_bytes`: the source ends there."""
        self._waiting = self._waiting.within(span(0, end_bytes))

    def take(self) -> ExtentSet:
        """Return what waits, once; from now on nothing is put off any more. Empty where nothing waits."""
        waiting, self._waiting = self._waiting, ExtentSet()
        self._taken |= waiting
        self._last_round = self._last_round or bool(waiting)
        return waiting


def _rest_of_block(read: Read, territory: Territory) -> Extent | None:
    """Return what a pass without skips would read right behind the read that hung."""
    status = {Phase.COPYING: BlockStatus.NON_TRIED, Phase.SCRAPING: BlockStatus.NON_SCRAPED}.get(read.phase)
    sweeps = read.phase is Phase.SCRAPING or read.pass_number == SWEEPING_PASS
    if status is None or not sweeps:
        return None
    edge = read.heading.far_edge(read.extent)
    behind = territory.ahead(edge, status, read.heading)
    return behind if behind is not None and read.heading.near_edge(behind) == edge else None
