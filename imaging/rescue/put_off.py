"""Put off: what hung, and what its pass would have read right behind it, is left for last."""

from __future__ import annotations

from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus
from imaging.rescue.plan import SWEEPING_PASS, Phase, Read, Territory


class PutOff:
    """The reads of a run that hung, and the ranges that wait until everything else is done.

    Attributes:
        hung: what was asked for by reads that passed their deadline, in order.
    """

    def __init__(self) -> None:
        self.hung: list[Extent] = []
        self._waiting = ExtentSet()
        self._last_round = False

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
