"""Plan: which extent a rescue reads next, as pure generators over a map; nothing here touches a drive.

A planner yields steps. To a `Read` it is sent back what came of it, and by then the map must hold what `settle` made of
that; a `Mark` only wants to be entered in the map. The phases are those of GNU ddrescue's manual, chapter "Algorithm":
copying in up to five passes, trimming, scraping, retrying. Here they read in the very order of GNU ddrescue, which is
the compatibility mode; the default order is in `order`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import TypeAlias

from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.rescue.options import COPYING_PASSES, Geometry, RescueOptions

SKIPPING_PASS, SWEEPING_PASS = 1, COPYING_PASSES
SLOW_PASSES = (1, 2)  # in which slow reads count: ddrescue's manual, --min-read-rate


class Phase(StrEnum):
    """What a rescue is at; the member is the current status in the mapfile."""

    COPYING = "?"
    TRIMMING = "*"
    SCRAPING = "/"
    RETRYING = "-"
    FINISHED = "+"

    @property
    def word(self) -> str:
        """The word for it: copying, trimming, scraping, retrying, finished."""
        return self.name.lower()


class Heading(Enum):
    """Which way a pass travels over the drive."""

    FORWARD = 1
    BACKWARD = -1

    def near_edge(self, extent: Extent) -> int:
        """Return the offset at which a traveller meets the extent."""
        return extent.offset_bytes if self is Heading.FORWARD else extent.end_bytes

    def far_edge(self, extent: Extent) -> int:
        """Return the offset at which a traveller leaves it."""
        return extent.end_bytes if self is Heading.FORWARD else extent.offset_bytes

    def first_part(self, extent: Extent, unit_bytes: int) -> Extent:
        """Return the part up to the next multiple of `unit_bytes` on the way: the first after a jump may be short."""
        if self is Heading.FORWARD:
            boundary = (extent.offset_bytes // unit_bytes + 1) * unit_bytes
            return span(extent.offset_bytes, min(boundary, extent.end_bytes))
        boundary = (extent.end_bytes - 1) // unit_bytes * unit_bytes
        return span(max(boundary, extent.offset_bytes), extent.end_bytes)

    def after(self, extent: Extent, size_bytes: int) -> Extent:
        """Return what is left of the extent after `size_bytes` of the way; empty when they reach its far edge."""
        left_bytes = max(extent.size_bytes - size_bytes, 0)
        start = extent.end_bytes - left_bytes if self is Heading.FORWARD else extent.offset_bytes
        return Extent(offset_bytes=start, size_bytes=left_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Bytes to read next, and on which pass of which phase.

    Attributes:
        next_extent: what is read after it if all of it comes; None where that is not settled yet.
    """

    extent: Extent
    phase: Phase
    pass_number: int
    heading: Heading
    next_extent: Extent | None = field(default=None, compare=False)

    @property
    def position_bytes(self) -> int:
        """The mapfile's position: the start of what is tried on a forward pass, its end on a backward one."""
        return self.heading.near_edge(self.extent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A status to be entered in the map."""

    extent: Extent
    status: BlockStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a step.

    Attributes:
        good_bytes: how many bytes a read gave, counted from its start.
        slow: they came, but slowly; see `slowness`.
    """

    good_bytes: int = 0
    slow: bool = False


Step: TypeAlias = Read | Mark
Planner: TypeAlias = Generator[Step, Outcome, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Where the map says an earlier rescue stopped."""

    phase: str = Phase.COPYING
    pass_number: int = 1
    position_bytes: int | None = None


class Territory:
    """The blocks of a map inside the range to be rescued, looked up in either direction."""

    def __init__(self, mapfile: Mapfile, domain: ExtentSet) -> None:
        self.mapfile = mapfile
        self._confine(domain.within(span(mapfile.start_bytes, mapfile.end_bytes)))

    def _confine(self, domain: ExtentSet) -> None:
        self.domain = domain
        self._starts: list[int] = domain.starts.tolist()
        self._ends: list[int] = domain.ends.tolist()

    def cut_at(self, end_bytes: int) -> Territory:
        """Return the territory without what lies at or behind `end_bytes`."""
        return Territory(self.mapfile, self.domain.within(span(0, end_bytes)))

    def leave_out(self, extents: ExtentSet) -> None:
        """Have planners not find these any more, also those at work; what one has in hand it still reads."""
        self._confine(self.domain - extents)

    def first_position(self, heading: Heading) -> int:
        """Return where a pass starts."""
        if not self._starts:
            return 0
        return self._starts[0] if heading is Heading.FORWARD else self._ends[-1]

    def ahead(self, position_bytes: int, status: BlockStatus, heading: Heading) -> Extent | None:
        """Return the next block of this status on the way from the position, or what of it is ahead; O(log n)."""
        if heading is Heading.FORWARD:
            return self._next(position_bytes, status)
        return self._previous(position_bytes, status)

    def blocks(self, *statuses: BlockStatus) -> list[Extent]:
        """Return the blocks of these statuses, ascending."""
        return list(self.mapfile.extents(*statuses) & self.domain)

    def status_before(self, extent: Extent, heading: Heading) -> BlockStatus | None:
        """Return the status of what a traveller leaves when entering the extent; None at the edge of the map."""
        edge = heading.near_edge(extent)
        neighbour = edge - 1 if heading is Heading.FORWARD else edge
        if not self.mapfile.start_bytes <= neighbour < self.mapfile.end_bytes:
            return None
        return self.mapfile.block_at(neighbour)[1]

    def _next(self, position_bytes: int, status: BlockStatus) -> Extent | None:
        index = bisect_right(self._ends, position_bytes)
        while index < len(self._ends):
            block = self.mapfile.next_block(max(position_bytes, self._starts[index]), status)
            if block is None:
                return None
            if block.offset_bytes < self._ends[index]:
                return span(block.offset_bytes, min(block.end_bytes, self._ends[index]))
            index = bisect_right(self._ends, block.offset_bytes)
        return None

    def _previous(self, position_bytes: int, status: BlockStatus) -> Extent | None:
        index = bisect_left(self._starts, position_bytes) - 1
        while index >= 0:
            block = self.mapfile.previous_block(min(position_bytes, self._ends[index]), status)
            if block is None:
                return None
            if block.end_bytes > self._starts[index]:
                return span(max(block.offset_bytes, self._starts[index]), block.end_bytes)
            index = bisect_left(self._starts, block.end_bytes) - 1
        return None


def settle(read: Read, good_bytes: int, geometry: Geometry) -> Iterator[Mark]:
    """Yield what a read makes of its bytes: what came is finished, the rest failed.

    A rest inside one sector is bad, since no smaller read can win anything of it; one that reaches into another is to
    be trimmed. What failed of a read larger than a cluster stays as it is: it will be read again in clusters.
    """
    extent = read.extent
    if good_bytes > 0:
        yield Mark(extent=Extent(offset_bytes=extent.offset_bytes, size_bytes=good_bytes), status=BlockStatus.FINISHED)
    rest = span(extent.offset_bytes + good_bytes, extent.end_bytes)
    if rest.size_bytes > 0 and extent.size_bytes <= max(geometry.cluster_bytes, geometry.sector_bytes):
        sectors = range(rest.offset_bytes // geometry.sector_bytes, -(-rest.end_bytes // geometry.sector_bytes))
        failed_whole = read.phase is Phase.COPYING and len(sectors) > 1  # one may be good, however short the rest is
        yield Mark(extent=rest, status=BlockStatus.NON_TRIMMED if failed_whole else BlockStatus.BAD_SECTOR)


def reset_marks(territory: Territory, options: RescueOptions) -> Iterator[Mark]:
    """Yield what --try-again and --retrim change in the map before anything is read."""
    statuses = [BlockStatus.NON_TRIMMED, BlockStatus.NON_SCRAPED]
    if options.retrim:
        statuses.append(BlockStatus.BAD_SECTOR)
    if options.try_again or options.retrim:
        status = BlockStatus.NON_TRIED if options.try_again else BlockStatus.NON_TRIMMED
        for extent in territory.blocks(*statuses):
            yield Mark(extent=extent, status=status)


def plan_in_gnu_order(territory: Territory, geometry: Geometry, options: RescueOptions, resume: Resume) -> Planner:
    """Yield all steps of a rescue, from where `resume` says, in the order of GNU ddrescue."""
    yield from plan_copying(territory, geometry, options, resume)
    heading = heading_of(1, options)
    if not options.no_trim:
        yield from plan_trimming(territory, geometry, heading)
    if not options.no_scrape:
        yield from plan_scraping(territory, geometry, heading)
    yield from plan_retrying(territory, geometry, options, resume)


def pending(options: RescueOptions) -> Iterator[BlockStatus]:
    """Yield the statuses that the phases before retrying work on."""
    yield BlockStatus.NON_TRIED
    if not options.no_trim:
        yield BlockStatus.NON_TRIMMED
    if not options.no_scrape:
        yield BlockStatus.NON_SCRAPED


def heading_of(pass_number: int, options: RescueOptions) -> Heading:
    """Return which way a pass goes: they alternate, also where one is left out."""
    flips = 0 if options.unidirectional else pass_number - 1
    return Heading.BACKWARD if (flips + options.reverse) % 2 else Heading.FORWARD


def plan_copying(territory: Territory, geometry: Geometry, options: RescueOptions, resume: Resume) -> Planner:
    """Read what was not tried, in clusters, the promising parts first."""
    resumed = resume.phase == Phase.COPYING and 1 <= resume.pass_number <= COPYING_PASSES
    first = resume.pass_number if resumed else 1
    numbers = [number for number in range(first, COPYING_PASSES + 1) if number in options.copying_passes]
    if SWEEPING_PASS in numbers:
        numbers.append(SWEEPING_PASS)  # again, for what lies behind the place where a sweep was resumed
    for number in numbers:
        heading = heading_of(number, options)
        position_bytes = territory.first_position(heading)
        if resumed and number == first and resume.position_bytes is not None:
            # nothing ahead: the map is new, or the direction was changed between the runs
            if territory.ahead(resume.position_bytes, BlockStatus.NON_TRIED, heading):
                position_bytes = resume.position_bytes
            resumed = False
        yield from _plan_copying_pass(territory, geometry, number, heading, position_bytes)


def _plan_copying_pass(
    territory: Territory, geometry: Geometry, number: int, heading: Heading, position_bytes: int
) -> Planner:
    while block := territory.ahead(position_bytes, BlockStatus.NON_TRIED, heading):
        position_bytes = heading.far_edge(block)
        if number in (3, 4) and territory.status_before(block, heading) not in (BlockStatus.FINISHED, None):
            continue  # only what follows good data is promising
        skip_bytes = geometry.initial_skip_bytes
        while block.size_bytes > 0:
            extent = first_cluster(block, geometry.cluster_bytes, heading)
            block = heading.after(block, extent.size_bytes)
            outcome = yield Read(
                extent=extent,
                phase=Phase.COPYING,
                pass_number=number,
                heading=heading,
                next_extent=first_cluster(block, geometry.cluster_bytes, heading) if block.size_bytes else None,
            )
            slow = outcome.slow and number in SLOW_PASSES
            if outcome.good_bytes == extent.size_bytes and not slow:
                skip_bytes = geometry.initial_skip_bytes
            elif number == SKIPPING_PASS:
                block = heading.after(block, skip_bytes)
                skip_bytes = min(skip_bytes * 2, geometry.max_skip_bytes)
            elif number != SWEEPING_PASS:
                break  # the rest of the block is left to a later pass


def first_cluster(block: Extent, cluster_bytes: int, heading: Heading) -> Extent:
    """Return what to read first of a block: all of it where it is no larger than a cluster."""
    return block if block.size_bytes <= cluster_bytes else heading.first_part(block, cluster_bytes)


def plan_trimming(territory: Territory, geometry: Geometry, heading: Heading) -> Planner:
    """Narrow each failed block down, sector by sector, from both edges to the first failure."""
    position_bytes = territory.first_position(heading)
    while block := territory.ahead(position_bytes, BlockStatus.NON_TRIMMED, heading):
        position_bytes = heading.far_edge(block)
        for way in (Heading.FORWARD, Heading.BACKWARD):  # also in reverse: the leading edge comes first
            # an edge beside a bad sector has been trimmed already
            trimmed = territory.status_before(block, way) is BlockStatus.BAD_SECTOR
            while block.size_bytes > 0 and not trimmed:
                extent = way.first_part(block, geometry.sector_bytes)
                outcome = yield Read(extent=extent, phase=Phase.TRIMMING, pass_number=1, heading=way)
                block = way.after(block, extent.size_bytes)
                trimmed = outcome.good_bytes < extent.size_bytes
        if block.size_bytes > 0:
            yield Mark(extent=block, status=BlockStatus.NON_SCRAPED)


def plan_scraping(territory: Territory, geometry: Geometry, heading: Heading) -> Planner:
    """Read what trimming left, sector by sector; blocks in the order of the heading, each of them forward."""
    position_bytes = territory.first_position(heading)
    while block := territory.ahead(position_bytes, BlockStatus.NON_SCRAPED, heading):
        position_bytes = heading.far_edge(block)
        while block.size_bytes > 0:
            extent = Heading.FORWARD.first_part(block, geometry.sector_bytes)
            yield Read(extent=extent, phase=Phase.SCRAPING, pass_number=1, heading=Heading.FORWARD)
            block = Heading.FORWARD.after(block, extent.size_bytes)


def plan_retrying(territory: Territory, geometry: Geometry, options: RescueOptions, resume: Resume) -> Planner:
    """Read each bad sector once more a pass; an interrupted pass is finished first, and counts."""
    resumed = resume.phase == Phase.RETRYING
    number = resume.pass_number if resumed else 1
    position_bytes = resume.position_bytes if resumed else None
    passes_left = options.retry_passes
    while passes_left != 0 and territory.ahead(
        territory.first_position(Heading.FORWARD), BlockStatus.BAD_SECTOR, Heading.FORWARD
    ):
        heading = heading_of(number, options)
        if position_bytes is None:
            position_bytes = territory.first_position(heading)
        while block := territory.ahead(position_bytes, BlockStatus.BAD_SECTOR, heading):
            extent = heading.first_part(block, geometry.sector_bytes)
            position_bytes = heading.far_edge(extent)
            yield Read(extent=extent, phase=Phase.RETRYING, pass_number=number, heading=heading)
        number, position_bytes, passes_left = number + 1, None, passes_left - 1
