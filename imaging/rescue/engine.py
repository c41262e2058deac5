"""Engine: the one loop that does I/O. It asks a plan what to read, reads it, writes it, and keeps the map's promise."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from pathlib import Path

from imaging.errors import CarverError, DestinationFullError, InputError, OutputError, UsageError
from imaging.extent import ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore, lock_exclusively
from imaging.pump import Piece, Pump, Reading, Subscriber
from imaging.reads import Drive
from imaging.rescue.options import Geometry, RescueOptions, settle_geometry
from imaging.rescue.plan import (
    Mark,
    Phase,
    Planner,
    Read,
    Resume,
    Territory,
    plan_rescue,
    reset_marks,
    settle,
)
from imaging.rescue.progress import Progress, RescueSummary, Stopwatch, totals_of
from imaging.rescue.writer import ImageWriter, Reserve, check_destination
from imaging.source import Source

log = logging.getLogger(__name__)

GONE = (errno.ENXIO, errno.ENODEV, errno.ENOENT, errno.ENOMEDIUM, errno.ENOTCONN, errno.ESTALE)
OURS = (errno.EINVAL, errno.EBADF, errno.EFAULT, errno.EPERM, errno.EACCES, errno.ENOMEM)  # says nothing of a sector


def rescue(
    source: Source,
    image_path: Path,
    map_path: Path,
    options: RescueOptions,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    subscribers: tuple[Subscriber, ...] = (),
) -> RescueSummary:
    """Read a failing source into an image, the good parts first, from where its map says.

    Args:
        source: what to read; a `Drive` is also asked for its physical sector and whether it is still there.
        image_path: the image; made as long as the source, unread bytes read as zeros.
        map_path: its mapfile.
        options: how to go about it.
        on_progress: is told where the rescue is, a few times a second and at the start of each pass.
        stop: is asked before each read; True saves everything and returns.
        clock: seconds, monotonic.
        subscribers: get every piece after the image's writer and before the map.

    Raises:
        UsageError: options that do not fit the source.
        InputError: the drive is gone, the source cannot be read as it is, or image and map do not belong together.
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
    check_destination(image_path, map_path, Path(source.locator))
    with (
        MapStore.open(map_path, source.size_bytes) as store,
        _open_writer(image_path, source, store.mapfile, options) as writer,
        lock_exclusively(image_path),
    ):
        pump = Pump(source, (writer, *subscribers, lambda piece: store.record(piece.extent, piece.status)))
        territory = Territory(store.mapfile, domain)
        run = _Run(source, pump, store, writer, territory, geometry, options, Stopwatch(clock))
        return run.work(on_progress or (lambda progress: None), stop)


def _domain(source: Source, options: RescueOptions) -> ExtentSet:
    start_bytes = options.input_offset_bytes
    if start_bytes >= source.size_bytes:
        raise UsageError(f"the range to rescue starts at {start_bytes}, but the source ends at {source.size_bytes}")
    size_bytes = source.size_bytes if options.size_bytes is None else options.size_bytes
    return ExtentSet([span(start_bytes, min(start_bytes + size_bytes, source.size_bytes))])


def _open_writer(image_path: Path, source: Source, mapfile: Mapfile, options: RescueOptions) -> ImageWriter:
    finished = mapfile.extents(BlockStatus.FINISHED)
    finished_bytes = int(finished.ends[-1]) if finished else 0
    return ImageWriter(image_path, source.size_bytes, finished_bytes=finished_bytes, synchronous=options.synchronous)


class _Run:
    """One run of a rescue: the state that its loop carries from read to read."""

    def __init__(
        self,
        source: Source,
        pump: Pump,
        store: MapStore,
        writer: ImageWriter,
        territory: Territory,
        geometry: Geometry,
        options: RescueOptions,
        stopwatch: Stopwatch,
    ) -> None:
        self._source = source
        self._drive = source if isinstance(source, Drive) else None
        self._pump = pump
        self._store = store
        self._writer = writer
        self._territory = territory
        self._geometry = geometry
        self._options = options
        self._stopwatch = stopwatch
        self._source_end_bytes: int | None = None

    def work(self, on_progress: Callable[[Progress], None], stop: Callable[[], bool]) -> RescueSummary:
        """Run to the end of the plan, or until told to stop; whatever happens, save."""
        reserve = Reserve(self._store.path.parent)
        try:
            finished = self._loop(on_progress, stop)
        except BaseException as error:
            reserve.release()
            self._save_in_trouble(error)
            raise
        reserve.release()
        if finished:
            self._store.mapfile.current_status = Phase.FINISHED.value
        self._save()
        on_progress(self._progress())
        return RescueSummary(
            finished=finished,
            totals=totals_of(self._store.mapfile),
            rescued_bytes=self._stopwatch.rescued_bytes,
            reads=self._pump.reads,
            read_errors=self._pump.read_errors,
            seconds=self._stopwatch.seconds,
            last_error_bytes=self._stopwatch.last_error_bytes,
            source_end_bytes=self._source_end_bytes,
        )

    def _loop(self, on_progress: Callable[[Progress], None], stop: Callable[[], bool]) -> bool:
        """Return whether the plan came to its end."""
        for mark in reset_marks(self._territory, self._options):
            self._enter(mark)
        plan = self._plan()
        step = next(plan, None)
        at: tuple[Phase, int] | None = None
        while step is not None:
            good_bytes = 0
            if isinstance(step, Mark):
                self._enter(step)
            else:
                self._stand_at(step)
                if stop():
                    return False
                if at != (step.phase, step.pass_number) or self._stopwatch.report_is_due():
                    at = step.phase, step.pass_number
                    on_progress(self._progress())
                good_bytes = self._read(step)
                if self._store.due(self._stopwatch.now_seconds):
                    self._store.commit(self._writer.sync)
                if self._territory_shrank():
                    plan = self._plan()
                    step = next(plan, None)
                    continue
            try:
                step = plan.send(good_bytes)
            except StopIteration:
                step = None
        return True

    def _plan(self) -> Planner:
        """Plan from where the map stands."""
        mapfile = self._store.mapfile
        resume = Resume(
            phase=mapfile.current_status, pass_number=mapfile.current_pass, position_bytes=mapfile.position_bytes
        )
        if self._options.try_again or self._options.retrim:
            resume = Resume()  # what was done counts for nothing, so the passes begin anew
        return plan_rescue(self._territory, self._geometry, self._options, resume)

    def _stand_at(self, read: Read) -> None:
        mapfile = self._store.mapfile
        mapfile.position_bytes = read.position_bytes
        mapfile.current_status, mapfile.current_pass = read.phase.value, read.pass_number

    def _enter(self, mark: Mark) -> None:
        self._pump.publish(Piece(extent=mark.extent, status=mark.status))

    def _read(self, read: Read) -> int:
        """Read, hand out what came, and return how many bytes that was."""
        reading = self._pump.read(read.extent)
        good_bytes = len(reading.data)
        if good_bytes < read.extent.size_bytes:
            self._look_into(read, reading)
        for mark in settle(read, good_bytes, self._geometry):
            if mark.status is BlockStatus.FINISHED:
                self._pump.publish(Piece(extent=mark.extent, status=mark.status, data=reading.data))
            elif mark.extent.offset_bytes != self._source_end_bytes:  # behind the end there is nothing to fail
                self._enter(mark)
        self._stopwatch.tick(good_bytes)
        return good_bytes

    def _look_into(self, read: Read, reading: Reading) -> None:
        """Tell a bad sector from a drive that is gone, a source that ended, and a fault of our own.

        Raises:
            InputError: nothing more can be read.
        """
        end_bytes = read.extent.offset_bytes + len(reading.data)
        present_bytes = None if self._drive is None else self._drive.present_bytes()
        code = reading.fault.errno if reading.fault else None
        if present_bytes == 0 or code in GONE:
            raise InputError(
                f"the drive is gone: {self._source.locator} stopped answering at {end_bytes:#x}. What was read is "
                "saved. Check its cable and power, look with `lsblk` under which name it comes back, and run the same "
                "command again"
            ) from reading.fault
        if reading.fault is not None and code in OURS:
            raise reading.fault
        if reading.fault is None and (present_bytes is None or present_bytes <= end_bytes):
            self._source_end_bytes, claimed_bytes = end_bytes, self._source.size_bytes
            log.warning(
                "%s ends at %#x, before the %d bytes it claimed", self._source.locator, end_bytes, claimed_bytes
            )
            return
        self._stopwatch.last_error_bytes = read.extent.offset_bytes

    def _territory_shrank(self) -> bool:
        """Cut off what lies behind the end of the source; return whether that was anything."""
        if self._source_end_bytes is None:
            return False
        before_bytes = self._territory.domain.total_bytes
        self._territory = self._territory.cut_at(self._source_end_bytes)
        return self._territory.domain.total_bytes < before_bytes

    def _save(self) -> None:
        """Save what is read: the little journal, for which there is room longer, before the whole map."""
        self._store.commit(self._writer.sync)
        self._store.checkpoint(self._writer.sync)

    def _save_in_trouble(self, error: BaseException) -> None:
        """Save what is read before `error` ends the run.

        Raises:
            OutputError: that failed too; the message tells both.
        """
        try:
            self._save()
        except CarverError as fault:
            if not isinstance(error, CarverError):  # the user's interrupt, or a fault of ours: it must not change
                log.error("the last seconds' reads could not be saved: %s", fault)
                return
            kind = DestinationFullError if isinstance(error, DestinationFullError) else OutputError
            raise kind(f"{error}; but the reads of the last seconds could not be saved: {fault}") from error

    def _progress(self) -> Progress:
        mapfile, watch = self._store.mapfile, self._stopwatch
        return Progress(
            phase=Phase(mapfile.current_status),
            pass_number=mapfile.current_pass,
            position_bytes=mapfile.position_bytes,
            totals=totals_of(mapfile),
            reads=self._pump.reads,
            read_errors=self._pump.read_errors,
            rate_bytes=watch.rate_bytes,
            average_rate_bytes=watch.rescued_bytes / watch.seconds if watch.seconds > 0 else 0.0,
            seconds=watch.seconds,
            since_success_seconds=watch.since_success_seconds,
            last_error_bytes=watch.last_error_bytes,
        )
