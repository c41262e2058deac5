"""Order: what a rescue reads first, so that most of a drive is had soon.

On a failing drive the time goes into reads that fail: each may take seconds, in which thousands of good ones would
pass. GNU ddrescue's order (see `plan`) is the frame, and what is tried last and by what size is the same. The default
order spends fewer failures on what is likely to be bad:

1. (pass 1) what is healthy, in large reads; the first failure makes them small. Jumps grow faster, zones that repeat
   are crossed by what was learned of them (see `pace`), and slow areas are left behind like bad ones;
2. (passes 2 to 4) the edges of the good parts, from the good side, each up to its first failure. What lies between
   two failures is left alone, unless it is wide: then pass 4 goes into it as pass 1 did, with small jumps again;
3. (trimming, pass 1) the failed clusters beside good parts;
4. (pass 5) what was left alone. Behind a failure a cluster is read sector by sector up to the next one: the same
   failure then tells the sector, and what came before it is had;
5. (trimming, pass 2) all other failed clusters;
6. (scraping) what lies between the edges, first where both sides could be read, then one, then none; where eight
   sectors fail in a row, the rest waits for the last round;
7. (retrying) as GNU ddrescue.

All of this is planned from the map alone, so either program can go on with the map of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from imaging.extent import Extent
from imaging.mapfile import BlockStatus
from imaging.rescue.options import COPYING_PASSES, Geometry, RescueOptions
from imaging.rescue.pace import GROWTH, SECOND_GROWTH, Pace
from imaging.rescue.plan import (
    SKIPPING_PASS,
    SLOW_PASSES,
    SWEEPING_PASS,
    Heading,
    Mark,
    Outcome,
    Phase,
    Planner,
    Read,
    Resume,
    Step,
    Territory,
    first_cluster,
    heading_of,
    pending,
    plan_in_gnu_order,
    plan_retrying,
)

GOOD = (BlockStatus.FINISHED, None)  # None: the drive's own edge
TROUBLE = (BlockStatus.NON_TRIMMED, BlockStatus.NON_SCRAPED, BlockStatus.BAD_SECTOR)
LAST_EDGE_PASS = 4
WIDE_CLUSTERS = 16
EDGE_SHARE = 32  # a large read backward risks at most this part of what is left of its block
DEAD_SECTORS = 8
RUN_SECTORS = 8


def plan_rescue(territory: Territory, geometry: Geometry, options: RescueOptions, resume: Resume) -> Planner:
    """Yield all steps of a rescue, from where `resume` says."""
    if resume.phase == Phase.RETRYING and territory.blocks(*pending(options)):
        resume = Resume()  # other work comes first, so the retry pass is a new one
    if options.compatible:
        yield from plan_in_gnu_order(territory, geometry, options, resume)
        return
    forward = heading_of(1, options)
    trimmer = _Trimmer(territory, geometry)
    sweeps = resume.phase == Phase.COPYING and resume.pass_number == SWEEPING_PASS
    trims = resume.phase == Phase.TRIMMING and not _has_untouched(territory, geometry)
    if not sweeps and not trims:
        yield from _plan_early_passes(territory, geometry, options, resume)
    if not sweeps and not options.no_trim:
        yield from trimmer.plan_edges(forward)
    if SWEEPING_PASS in options.copying_passes:
        heading = heading_of(SWEEPING_PASS, options)
        if sweeps:
            yield from _plan_sweep(territory, geometry, heading, _start_of(territory, heading, resume))
        # also what lies behind the place where a sweep was resumed
        yield from _plan_sweep(territory, geometry, heading, territory.first_position(heading))
    if not options.no_trim:
        yield from trimmer.plan_rest(forward)
    if not options.no_scrape:
        yield from _plan_scraping(territory, geometry, forward)
    yield from plan_retrying(territory, geometry, options, resume)


def _has_untouched(territory: Territory, geometry: Geometry) -> bool:
    """Tell whether there is more in one piece than any jump leaves: the range has grown since the map was made."""
    return any(block.size_bytes > 2 * geometry.max_skip_bytes for block in territory.blocks(BlockStatus.NON_TRIED))


def _plan_early_passes(territory: Territory, geometry: Geometry, options: RescueOptions, resume: Resume) -> Planner:
    resumed = resume.phase == Phase.COPYING and 1 <= resume.pass_number < COPYING_PASSES
    first = resume.pass_number if resumed else 1
    for number in range(first, SWEEPING_PASS):
        if number not in options.copying_passes:
            continue
        heading = heading_of(number, options)
        start = _start_of(territory, heading, resume if resumed and number == first else Resume())
        if number == SKIPPING_PASS:
            yield from _plan_skipping_pass(territory, geometry, number, heading, start)
        else:
            yield from _plan_edge_pass(territory, geometry, number, heading, start)
        if number == LAST_EDGE_PASS:  # large jumps may have passed over good parts between bad ones
            forward = heading_of(SKIPPING_PASS, options)
            start = territory.first_position(forward)
            yield from _plan_skipping_pass(territory, geometry, number, forward, start, WIDE_CLUSTERS)
            yield from _plan_edge_pass(territory, geometry, number, heading, territory.first_position(heading))


def _start_of(territory: Territory, heading: Heading, resume: Resume) -> int:
    """Return where a pass begins; at its start also where nothing is ahead, since the direction was changed then."""
    position_bytes = resume.position_bytes
    if position_bytes is not None and territory.ahead(position_bytes, BlockStatus.NON_TRIED, heading):
        return position_bytes
    return territory.first_position(heading)


def _plan_skipping_pass(
    territory: Territory,
    geometry: Geometry,
    number: int,
    heading: Heading,
    position_bytes: int,
    least_clusters: int = 0,
) -> Planner:
    """Read what is healthy, and jump out of trouble; blocks of fewer clusters are left alone."""
    troubled = any(territory.mapfile.count_bytes(status) for status in TROUBLE)
    troubled |= _has_passed_by(territory, heading, position_bytes)
    pace = Pace(geometry, troubled=troubled, growth=SECOND_GROWTH if least_clusters else GROWTH)
    sign = heading.value
    while block := territory.ahead(position_bytes, BlockStatus.NON_TRIED, heading):
        position_bytes = heading.far_edge(block)
        if block.size_bytes < least_clusters * geometry.cluster_bytes:
            continue
        while block.size_bytes > 0:
            extent = first_cluster(block, pace.cluster_bytes, heading)
            start, end = sign * heading.near_edge(extent), sign * heading.far_edge(extent)
            block = heading.after(block, extent.size_bytes)
            goes_on = block.size_bytes > 0 and not pace.may_jump_at(end)
            outcome = yield Read(
                extent=extent,
                phase=Phase.COPYING,
                pass_number=number,
                heading=heading,
                next_extent=first_cluster(block, pace.cluster_bytes, heading) if goes_on else None,
            )
            clean = outcome.good_bytes == extent.size_bytes and not outcome.slow
            block = heading.after(block, pace.after_clean(start, end) if clean else pace.after_trouble(start, end))


def _has_passed_by(territory: Territory, heading: Heading, position_bytes: int) -> bool:
    """Tell whether an earlier run left something untried on the way here: a large read failed, which marks nothing.

    Going on with large reads, a run that ends at its first error (-X 0) would never mark anything in a wide bad area.
    """
    left = territory.ahead(territory.first_position(heading), BlockStatus.NON_TRIED, heading)
    return left is not None and heading.value * heading.near_edge(left) < heading.value * position_bytes


def _plan_edge_pass(
    territory: Territory, geometry: Geometry, number: int, heading: Heading, position_bytes: int
) -> Planner:
    """Read on from good parts, each block up to its first failure, in the second pass also to the first slow read."""
    again = False
    while block := territory.ahead(position_bytes, BlockStatus.NON_TRIED, heading):
        position_bytes = heading.far_edge(block)
        if territory.status_before(block, heading) not in GOOD:
            continue
        # backward each read costs a turn of the platter, so large ones pay where little is at stake
        small = again or heading is Heading.FORWARD
        again = False
        while block.size_bytes > 0:
            large = not small and block.size_bytes >= EDGE_SHARE * geometry.large_bytes
            unit_bytes = geometry.large_bytes if large else geometry.cluster_bytes
            extent = first_cluster(block, unit_bytes, heading)
            block = heading.after(block, extent.size_bytes)
            outcome = yield Read(
                extent=extent,
                phase=Phase.COPYING,
                pass_number=number,
                heading=heading,
                next_extent=first_cluster(block, unit_bytes, heading) if block.size_bytes else None,
            )
            if outcome.good_bytes < extent.size_bytes:
                if extent.size_bytes > geometry.cluster_bytes:
                    again, position_bytes = True, heading.near_edge(extent)
                break
            if outcome.slow and number in SLOW_PASSES:
                break


def _plan_sweep(territory: Territory, geometry: Geometry, heading: Heading, position_bytes: int) -> Planner:
    """Read all that was not tried; behind a failure with care."""
    while block := territory.ahead(position_bytes, BlockStatus.NON_TRIED, heading):
        position_bytes = heading.far_edge(block)
        failed = territory.status_before(block, heading) not in GOOD
        while block.size_bytes > 0:
            extent = first_cluster(block, geometry.cluster_bytes, heading)
            block = heading.after(block, extent.size_bytes)
            if failed:
                rest, failed = yield from _read_sectors(extent, geometry, Phase.COPYING, SWEEPING_PASS)
                if rest.size_bytes > 0:
                    yield Mark(extent=rest, status=BlockStatus.NON_TRIMMED)
                continue
            outcome = yield Read(extent=extent, phase=Phase.COPYING, pass_number=SWEEPING_PASS, heading=heading)
            failed = outcome.good_bytes < extent.size_bytes


def _read_sectors(
    extent: Extent, geometry: Geometry, phase: Phase, pass_number: int, way: Heading = Heading.FORWARD
) -> Generator[Step, Outcome, tuple[Extent, bool]]:
    """Read sector by sector up to the first failure; return what is left of the extent, and whether one failed."""
    rest = extent
    while rest.size_bytes > 0:
        sector = way.first_part(rest, geometry.sector_bytes)
        rest = way.after(rest, sector.size_bytes)
        outcome = yield Read(
            extent=sector,
            phase=phase,
            pass_number=pass_number,
            heading=way,
            next_extent=way.first_part(rest, geometry.sector_bytes) if rest.size_bytes else None,
        )
        if outcome.good_bytes < sector.size_bytes:
            return rest, True
    return rest, False


class _Trimmer:
    """Narrows failed clusters down from their edges.

    A disk reads backward at a sector a turn. So as long as most clusters prove to hold one fault, their far side is
    read in runs, the last sectors first, but each run forward.
    """

    def __init__(self, territory: Territory, geometry: Geometry) -> None:
        self._territory = territory
        self._geometry = geometry
        self._singles = 2  # rises with each cluster of one fault, falls twice as fast; runs while it is positive

    def plan_edges(self, heading: Heading) -> Planner:
        """Trim the edges that lie beside good parts."""
        yield from self._plan(heading, 1, lambda status: status in GOOD)

    def plan_rest(self, heading: Heading) -> Planner:
        """Trim what is left, and leave all of it to scraping; an edge beside a bad sector has been trimmed."""
        yield from self._plan(heading, 2, lambda status: status is not BlockStatus.BAD_SECTOR)

    def _plan(self, heading: Heading, number: int, promising: Callable[[BlockStatus | None], bool]) -> Planner:
        position_bytes = self._territory.first_position(heading)
        while block := self._territory.ahead(position_bytes, BlockStatus.NON_TRIMMED, heading):
            position_bytes = heading.far_edge(block)
            if promising(self._territory.status_before(block, Heading.FORWARD)):
                block, _ = yield from _read_sectors(block, self._geometry, Phase.TRIMMING, number)
            if block.size_bytes > 0 and promising(self._territory.status_before(block, Heading.BACKWARD)):
                block = yield from self._read_trailing(block, number)
            sides = [self._territory.status_before(block, way) for way in Heading] if block.size_bytes > 0 else []
            if sides and (number == 2 or all(status is BlockStatus.BAD_SECTOR for status in sides)):
                yield Mark(extent=block, status=BlockStatus.NON_SCRAPED)

    def _read_trailing(self, block: Extent, number: int) -> Generator[Step, Outcome, Extent]:
        """Read from the trailing edge up to the first failure; return what is left before it."""
        run_bytes = RUN_SECTORS * self._geometry.sector_bytes
        failed = False
        if self._singles <= 0:
            block, failed = yield from _read_sectors(block, self._geometry, Phase.TRIMMING, number, Heading.BACKWARD)
        while block.size_bytes > 0 and not failed:
            run = first_cluster(block, run_bytes, Heading.BACKWARD)
            block = Heading.BACKWARD.after(block, run.size_bytes)
            rest, failed = yield from _read_sectors(run, self._geometry, Phase.TRIMMING, number)
            if rest.size_bytes > 0:  # the failure was not the last of the run, seen from its far side
                rest, _ = yield from _read_sectors(rest, self._geometry, Phase.TRIMMING, number, Heading.BACKWARD)
            if rest.size_bytes > 0:
                yield Mark(extent=rest, status=BlockStatus.NON_SCRAPED)
            run_bytes *= 2
        self._singles = max(self._singles - 2, -2) if failed else min(self._singles + 1, 4)
        return block


def _plan_scraping(territory: Territory, geometry: Geometry, heading: Heading) -> Planner:
    """Read what trimming left, sector by sector: blocks between good parts first, the inside of dead zones last."""
    for sides in (2, 1, 0):
        position_bytes = territory.first_position(heading)
        while block := territory.ahead(position_bytes, BlockStatus.NON_SCRAPED, heading):
            position_bytes = heading.far_edge(block)
            if sum(_behind_bad(territory, block, way) in GOOD for way in Heading) >= sides:
                yield from _scrape(block, geometry, DEAD_SECTORS if sides else None)


def _scrape(block: Extent, geometry: Geometry, patience: int | None) -> Planner:
    """Scrape a block up to so many failures in a row."""
    failures = 0
    while block.size_bytes > 0 and failures != patience:
        sector = Heading.FORWARD.first_part(block, geometry.sector_bytes)
        outcome = yield Read(extent=sector, phase=Phase.SCRAPING, pass_number=1, heading=Heading.FORWARD)
        block = Heading.FORWARD.after(block, sector.size_bytes)
        failures = 0 if outcome.good_bytes == sector.size_bytes else failures + 1


def _behind_bad(territory: Territory, block: Extent, way: Heading) -> BlockStatus | None:
    """Return the status of what lies before the block for a traveller, behind the bad sectors beside it."""
    status = territory.status_before(block, way)
    if status is BlockStatus.BAD_SECTOR:
        edge = way.near_edge(block)
        bad, _ = territory.mapfile.block_at(edge - 1 if way is Heading.FORWARD else edge)
        status = territory.status_before(bad, way)
    return status
