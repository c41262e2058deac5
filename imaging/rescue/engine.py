"""Engine: what a rescue needs, checked, opened and put together; `run` does the work."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from imaging.belonging import image_comments
from imaging.errors import InputError, UsageError
from imaging.extent import ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore, lock_exclusively
from imaging.placement import Placement
from imaging.pump import OnRead, Pump, Subscriber
from imaging.reads import Drive
from imaging.rescue.comeback import OnGone
from imaging.rescue.destination import check_destination, device_comments
from imaging.rescue.options import RescueOptions, settle_geometry, settle_placement
from imaging.rescue.progress import Progress, RescueSummary
from imaging.rescue.run import Run, Surroundings
from imaging.rescue.writer import ImageWriter
from imaging.source import Source
from imaging.zero_alarm import ZeroAlarm

log = logging.getLogger(__name__)


def rescue(
    source: Source,
    image_path: Path,
    map_path: Path,
    options: RescueOptions,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    subscribers: tuple[Subscriber, ...] = (),
    comments: Sequence[str] = (),
    on_gone: OnGone | None = None,
    on_read: OnRead | None = None,
) -> RescueSummary:
    """Read a failing source into an image, the good parts first, from where its map says.

    Args:
        source: what to read; a `Drive` is also asked for its physical sector and whether it is still there.
        image_path: the image; a file is made as long as the source, unread bytes read as zeros; a device needs `force`.
        map_path: its mapfile.
        options: how to go about it.
        on_progress: is told where the rescue is, a few times a second and at the start of each pass.
        stop: is asked before each read, and several times a second while one hangs; True saves everything and returns.
        clock: seconds, monotonic.
        sleep: lets seconds pass on that clock.
        comments: lines for the head of the map.
        subscribers: get every piece after the image's writer and before the map.
        on_gone: what to do when the drive has vanished (see `comeback.WaitForReturn`); None: the rescue ends.
        on_read: is told of each read, right after it.

    Raises:
        UsageError: options that do not fit the source.
        InputError: the drive is gone or answers other bytes than before, the source cannot be read as it is, or image
            and map do not belong together.
        MapfileError: the map breaks its grammar or is for another size.
        DestinationFullError: no room is left; everything read is saved.
        OutputError: the image is not ours to write, or the destination fails.
    """
    if source.size_bytes <= 0:
        raise InputError(f"{source.locator} is empty (0 bytes): no medium, or a drive that does not answer")
    physical_bytes = source.physical_sector_bytes if isinstance(source, Drive) else source.sector_bytes
    geometry = settle_geometry(
        options, drive_bytes=source.size_bytes, sector_bytes=source.sector_bytes, physical_bytes=physical_bytes
    )
    domain = _domain(source, options)
    placement = settle_placement(options, domain, drive_bytes=source.size_bytes)
    check_destination(image_path, map_path, Path(source.locator), placement=placement, force=options.force)
    comments = (*comments, *placement.comments(), *device_comments(image_path), *image_comments(image_path))
    with (
        MapStore.open(map_path, source.size_bytes, comments=comments) as store,
        _open_writer(image_path, placement, store.mapfile, options) as writer,
        lock_exclusively(image_path),
    ):
        store.add_comments(*image_comments(image_path))  # which may be there only now
        if options.preallocate:
            writer.take_room(domain)
        alarm = ZeroAlarm()
        pump = Pump(
            source,
            (writer, alarm, *subscribers, lambda piece: store.record(piece.extent, piece.status)),
            on_read=on_read,
            clock=clock,
        )
        around = Surroundings(
            on_progress=on_progress or (lambda progress: None), stop=stop, clock=clock, sleep=sleep, on_gone=on_gone
        )
        summary = Run(source, pump, store, writer, domain, geometry, options, around).work()
    if alarm.ringing:
        log.warning(
            "%s answered %d bytes of nothing but repeated sectors right after errors; a bridge may answer so "
            "without having read them",
            source.locator,
            alarm.blank_bytes,
        )
    return replace(summary, blank_after_errors_bytes=alarm.blank_bytes, blank_alarm=alarm.ringing)


def _domain(source: Source, options: RescueOptions) -> ExtentSet:
    start_bytes = options.input_offset_bytes
    if start_bytes >= source.size_bytes:
        raise UsageError(f"the range to rescue starts at {start_bytes}, but the source ends at {source.size_bytes}")
    size_bytes = source.size_bytes if options.size_bytes is None else options.size_bytes
    asked = span(start_bytes, min(start_bytes + size_bytes, source.size_bytes))
    return ExtentSet([asked]) if options.domain is None else options.domain.within(asked)


def _open_writer(image_path: Path, placement: Placement, mapfile: Mapfile, options: RescueOptions) -> ImageWriter:
    return ImageWriter(
        image_path,
        placement.image_bytes,
        finished=mapfile.extents(BlockStatus.FINISHED),
        shift_bytes=placement.shift_bytes,
        synchronous=options.synchronous,
        sparse=options.sparse,
        compare_before_write=options.compare_before_write,
    )
