"""Sweep: a walk over parts of an image that is no rescue (filling, generating); saved as it goes, and resumable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from imaging.errors import CarverError, UsageError
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import COMMIT_SECONDS, MapStore
from imaging.rescue.options import RescueOptions
from imaging.rescue.progress import REPORT_SECONDS
from imaging.rescue.writer import Reserve

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepProgress:
    """Where a sweep is.

    Attributes:
        position_bytes: what is worked on, a position on the drive.
        done_bytes: how much this run has done.
        total_bytes: how much it had to do.
        finished: it is through.
        seconds: since it began.
    """

    position_bytes: int
    done_bytes: int
    total_bytes: int
    finished: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a sweep is told by, and tells.

    Attributes:
        on_progress: is told where it is, a few times a second and at the end.
        stop: is asked before each part; True saves and returns.
        clock: seconds, monotonic.
    """

    on_progress: Callable[[SweepProgress], None]
    stop: Callable[[], bool]
    clock: Callable[[], float]


def domain_of(options: RescueOptions, end_bytes: int) -> ExtentSet:
    """Return the part of a drive that ends at `end_bytes` which the options ask for.

    Raises:
        UsageError: it would begin behind the end.
    """
    start_bytes = options.input_offset_bytes
    if not 0 <= start_bytes < end_bytes:
        raise UsageError(f"the range starts at {start_bytes}, but the drive ends at {end_bytes}")
    if options.size_bytes is not None:
        end_bytes = min(end_bytes, start_bytes + options.size_bytes)
    asked = span(start_bytes, end_bytes)
    return ExtentSet([asked]) if options.domain is None else options.domain.within(asked)


def sector_of(options: RescueOptions, default_bytes: int) -> int:
    """Return the sector to work by.

    Raises:
        UsageError: there is no such sector, or clusters are not made of it.
    """
    sector_bytes = options.sector_bytes or default_bytes
    if sector_bytes <= 0 or options.cluster_bytes <= 0 or options.cluster_bytes % sector_bytes:
        raise UsageError(f"a cluster of {options.cluster_bytes} bytes is not a multiple of {sector_bytes}, the sector")
    return sector_bytes


def resume_bytes(mapfile: Mapfile, domain: ExtentSet, current_status: str) -> int:
    """Return where an interrupted sweep goes on; 0, from the start, where the map stands at other work or elsewhere."""
    position_bytes = mapfile.position_bytes
    is_there = mapfile.current_status == current_status and domain.touches(span(position_bytes, position_bytes + 1))
    return position_bytes if is_there else 0


def sweep(
    store: MapStore,
    parts: Iterable[Extent],
    work: Callable[[Extent], None],
    *,
    current_status: str,
    total_bytes: int,
    sync: Callable[[], None],
    around: Surroundings,
) -> SweepProgress:
    """Work through the parts in order; the map's status line always tells which one is next.

    Args:
        store: the map.
        parts: what to work on, as positions on the drive.
        work: is given each of them.
        current_status: what the map says meanwhile, F or G; at the end it says finished.
        total_bytes: how much the parts are together.
        sync: returns when all that was written is on the image's disk.
        around: see there.

    Returns:
        Where it ended; what `work` raises is raised, after the map was saved.
    """
    mapfile = store.mapfile
    mapfile.current_status, mapfile.current_pass = current_status, 1
    since = saved = told = around.clock()
    done_bytes, finished = 0, True

    def progress() -> SweepProgress:
        return SweepProgress(
            position_bytes=mapfile.position_bytes,
            done_bytes=done_bytes,
            total_bytes=total_bytes,
            finished=finished and mapfile.current_status == BlockStatus.FINISHED,
            seconds=around.clock() - since,
        )

    reserve = Reserve(Path(store.path).parent)
    try:
        store.checkpoint(sync)  # whatever happens next, the map says what is being done
        for part in parts:
            mapfile.position_bytes = part.offset_bytes
            if around.stop():
                finished = False
                break
            work(part)
            done_bytes += part.size_bytes
            now = around.clock()
            if now - saved >= COMMIT_SECONDS:
                store.commit(sync)
                saved = around.clock()
            if now - told >= REPORT_SECONDS:
                around.on_progress(progress())
                told = now
        if finished:
            sync()  # before the map says that it is done
            mapfile.current_status = BlockStatus.FINISHED.value
    except BaseException:
        reserve.release()
        _save_in_trouble(store, sync)
        raise
    reserve.release()
    store.checkpoint(sync)
    around.on_progress(progress())
    return progress()


def _save_in_trouble(store: MapStore, sync: Callable[[], None]) -> None:
    """Save what can be; what ends the sweep is told, not that this failed too."""
    try:
        store.commit(sync)
        store.checkpoint(sync)
    except CarverError as fault:
        log.error("where the work stood could not be saved: %s", fault)
