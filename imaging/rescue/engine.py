"""Engine: the one loop that does I/O. It asks a plan what to read, reads it, writes it, and keeps the map's promise."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from imaging.errors import (
    CarverError,
    DestinationFullError,
    InputError,
    Interrupted,
    OutputError,
    ReadFault,
    ReadTimeout,
    UsageError,
)
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore, lock_exclusively
from imaging.pump import Piece, Pump, Reading, Subscriber
from imaging.reads import Drive, PatientDrive, Waiting
from imaging.rescue.comeback import Gone, OnGone, samples_of
from imaging.rescue.options import Geometry, RescueOptions, settle_geometry
from imaging.rescue.plan import (
    SWEEPING_PASS,
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
from imaging.rescue.storm import Storm, known_good
from imaging.rescue.writer import ImageWriter, Reserve, check_destination
from imaging.source import Source
from imaging.zero_alarm import ZeroAlarm

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
    comments: Sequence[str] = (),
    on_gone: OnGone | None = None,
) -> RescueSummary:
    """Read a failing source into an image, the good parts first, from where its map says.

    Args:
        source: what to read; a `Drive` is also asked for its physical sector and whether it is still there.
        image_path: the image; made as long as the source, unread bytes read as zeros.
        map_path: its mapfile.
        options: how to go about it.
        on_progress: is told where the rescue is, a few times a second and at the start of each pass.
        stop: is asked before each read, and several times a second while one hangs; True saves everything and returns.
        clock: seconds, monotonic.
        comments: lines for the head of the map.
        subscribers: get every piece after the image's writer and before the map.
        on_gone: what to do when the drive has vanished (see `comeback.WaitForReturn`); None: the rescue ends.

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
    check_destination(image_path, map_path, Path(source.locator))
    with (
        MapStore.open(map_path, source.size_bytes, comments=comments) as store,
        _open_writer(image_path, source, store.mapfile, options) as writer,
        lock_exclusively(image_path),
    ):
        alarm = ZeroAlarm()
        pump = Pump(source, (writer, alarm, *subscribers, lambda piece: store.record(piece.extent, piece.status)))
        territory = Territory(store.mapfile, domain)
        run = _Run(source, pump, store, writer, territory, geometry, options, Stopwatch(clock))
        run.alarm, run.on_gone, run.stop = alarm, on_gone, stop
        run.on_progress = on_progress or run.on_progress
        try:
            return run.work()
        finally:
            run.let_go()


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
        self._pump = pump
        self._store = store
        self._writer = writer
        self._territory = territory
        self._geometry = geometry
        self._options = options
        self._stopwatch = stopwatch
        self._source_end_bytes: int | None = None
        self._storm = Storm(options.recheck_errors)
        self._plan_is_void = False
        self._put_off = ExtentSet()  # what hung, and what lies behind it: read last
        self._last_round = False
        self._hung: list[Extent] = []
        self._returned_as: list[str] = []
        self.alarm = ZeroAlarm()
        self.on_gone: OnGone | None = None
        self.on_progress: Callable[[Progress], None] = lambda progress: None
        self.stop: Callable[[], bool] = lambda: False
        self._turn_to(source)

    def let_go(self) -> None:
        """Watch the source no longer: who reads from it later has nothing to save."""
        if self._patient is not None:
            self._patient.watcher = lambda waiting: True

    def _turn_to(self, source: Source) -> None:
        self._source = source
        self._drive = source if isinstance(source, Drive) else None
        self._patient = source if isinstance(source, PatientDrive) else None
        if self._patient is not None:
            self._patient.watcher = self._watch
            for sector in known_good(self._store.mapfile, source.size_bytes, source.sector_bytes)[:1]:
                self._patient.know_good(sector)
        self._pump.turn_to(source)

    def work(self) -> RescueSummary:
        """Run to the end of the plan, or until told to stop; whatever happens, save."""
        reserve = Reserve(self._store.path.parent)
        try:
            finished = self._loop()
            self._take_late()
        except BaseException as error:
            reserve.release()
            self._save_in_trouble(error)
            raise
        reserve.release()
        if finished:
            self._store.mapfile.current_status = Phase.FINISHED.value
        self._save()
        self.on_progress(self._progress())
        return self._summary(finished)

    def _loop(self) -> bool:
        """Return whether the plan came to its end."""
        for mark in reset_marks(self._territory, self._options):
            self._enter(mark)
        plan = self._plan()
        step = next(plan, None)
        at: tuple[Phase, int] | None = None
        while step is not None or self._turn_to_put_off():
            good_bytes = 0
            if isinstance(step, Mark):
                self._enter(step)
            elif step is not None:
                self._stand_at(step)
                if self.stop():
                    return False
                if at != (step.phase, step.pass_number) or self._stopwatch.report_is_due():
                    at = step.phase, step.pass_number
                    self.on_progress(self._progress())
                try:
                    good_bytes = self._read(step)
                except Interrupted:  # while the drive did not answer
                    return False
                if self._store.due(self._stopwatch.now_seconds):
                    self._store.commit(self._writer.sync)
            if self._plan_is_void or step is None:
                self._plan_is_void = False
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
        if self._patient is not None:
            self._patient.expect(read.next_extent)
        reading = self._pump.read(read.extent)
        good_bytes = len(reading.data)
        if good_bytes < read.extent.size_bytes and not self._look_into(read, reading):
            return 0  # the drive was gone and is back: that says nothing of the sectors
        before = self._store.mapfile.block_at(read.extent.offset_bytes)[1]
        for mark in self._settle(read, reading):
            if mark.status is BlockStatus.FINISHED:
                self._pump.publish(Piece(extent=mark.extent, status=mark.status, data=reading.data))
            elif mark.extent.offset_bytes != self._source_end_bytes:  # behind the end there is nothing to fail
                self._enter(mark)
        self._stopwatch.tick(good_bytes)
        if good_bytes > 0:
            self._storm.calm()
        if isinstance(reading.fault, ReadTimeout):
            self._put_off_from(read, good_bytes)
        elif reading.fault is not None and good_bytes == 0 and self._storm.fail(read.extent, before):
            self._recheck(read, reading.fault)
        self._take_late()
        return good_bytes

    def _settle(self, read: Read, reading: Reading) -> Iterator[Mark]:
        """Yield what a read makes of its bytes; one that hung tells nothing of its sectors, which are left for last."""
        hung = isinstance(reading.fault, ReadTimeout)
        for mark in settle(read, len(reading.data), self._geometry):
            if hung and mark.status is not BlockStatus.FINISHED and self._may_put_off(read):
                yield Mark(extent=mark.extent, status=BlockStatus.NON_SCRAPED)
            else:
                yield mark

    def _look_into(self, read: Read, reading: Reading) -> bool:
        """Tell a bad sector from a drive that is gone, a source that ended, and a fault of our own.

        Returns:
            Whether the read counts; not where the drive was gone, and has come back.

        Raises:
            InputError: nothing more can be read.
        """
        end_bytes = read.extent.offset_bytes + len(reading.data)
        present_bytes = None if self._drive is None else self._drive.present_bytes()
        code = reading.fault.errno if reading.fault else None
        if present_bytes == 0 or code in GONE:
            self._lose(f"the drive is gone: {self._source.locator} stopped answering at {end_bytes:#x}", reading.fault)
            return False
        if reading.fault is not None and code in OURS:
            raise reading.fault
        if reading.fault is None and (present_bytes is None or present_bytes <= end_bytes):
            self._source_end_bytes, claimed_bytes = end_bytes, self._source.size_bytes
            log.warning(
                "%s ends at %#x, before the %d bytes it claimed", self._source.locator, end_bytes, claimed_bytes
            )
            if self._territory.domain.touches(span(end_bytes, claimed_bytes)):
                self._territory = self._territory.cut_at(end_bytes)
                self._plan_is_void = True
            self._put_off = self._put_off.within(span(0, end_bytes))
            return True
        self._stopwatch.last_error_bytes = read.extent.offset_bytes
        return True

    def _recheck(self, read: Read, fault: ReadFault) -> None:
        """After a storm of errors, read what was read before: is the drive still there, and is it this drive?

        Raises:
            InputError: it answers other bytes than before, or it is gone.
        """
        if self._patient is None:
            return  # a file that stands for a drive
        sectors = known_good(self._store.mapfile, read.position_bytes, self._source.sector_bytes)
        for sector in sectors:
            data = self._pump.read(sector).data
            if len(data) < sector.size_bytes:
                continue
            if data != self._writer.read_back(sector):
                raise InputError(
                    f"{self._source.locator} answers other bytes at {sector.offset_bytes:#x} than it did before: it or "
                    "its bridge gives wrong data, or something writes to it. What was read is saved; connect it "
                    "another way (without the USB bridge, say) before you run the same command again"
                )
            self._storm.endure()
            return
        if sectors:
            at_bytes = read.extent.offset_bytes
            self._lose(
                f"{self._source.locator} reads nothing since {at_bytes:#x}, not even what it has "
                "read before: the drive is gone, or has failed as a whole",
                fault,
            )

    def _lose(self, reason: str, fault: ReadFault | None) -> None:
        """The drive is gone: save, and wait for it where that is wished.

        Args:
            reason: the first sentence for the user.
            fault: what was raised last.

        Raises:
            InputError: it is not waited for, or does not come back.
            Interrupted: the user does not wait any longer.
        """
        for extent, status in self._storm.take_back():
            self._enter(Mark(extent=extent, status=status))
        self._save()
        found = None
        if self.on_gone is not None:
            samples = samples_of(self._store.mapfile, self._writer.read_back)
            found = self.on_gone(Gone(source=self._source, samples=samples), self._tell_gone)
        if found is None:
            raise InputError(
                f"{reason}. What was read is saved. Check its cable and power, look with `lsblk` under which name it "
                "comes back, and run the same command again"
            ) from fault
        log.warning("%s is back as %s", self._source.locator, found.locator)
        self._returned_as.append(found.locator)
        self._turn_to(found)
        self._plan_is_void = True

    def _may_put_off(self, read: Read) -> bool:
        return not self._last_round and read.phase is not Phase.RETRYING

    def _put_off_from(self, read: Read, good_bytes: int) -> None:
        """Leave what hung for last; where its pass would go on right behind it, also the rest of the block."""
        self._hung.append(span(read.extent.offset_bytes + good_bytes, read.extent.end_bytes))
        if self._may_put_off(read):
            late = [read.extent]
            status = {Phase.COPYING: BlockStatus.NON_TRIED, Phase.SCRAPING: BlockStatus.NON_SCRAPED}.get(read.phase)
            sweeps = read.phase is Phase.SCRAPING or read.pass_number == SWEEPING_PASS
            edge = read.heading.far_edge(read.extent)
            behind = self._territory.ahead(edge, status, read.heading) if status and sweeps else None
            if behind is not None and read.heading.near_edge(behind) == edge:
                late.append(behind)
                self._plan_is_void = True
            self._put_off |= ExtentSet(late)
            self._territory.leave_out(self._put_off)
        self._store.checkpoint(self._writer.sync)

    def _turn_to_put_off(self) -> bool:
        """Take up what was left for last; return whether there is any."""
        if not self._put_off:
            return False
        self._territory = Territory(self._store.mapfile, self._put_off)
        self._put_off = ExtentSet()
        self._last_round = True
        return True

    def _take_late(self) -> None:
        """Hand out what came after its deadline, where nobody has read it since."""
        if self._patient is None:
            return
        for offset_bytes, data in self._patient.take_late():
            extent = span(offset_bytes, min(offset_bytes + len(data), self._source.size_bytes))
            for new in self._store.mapfile.extents(*(set(BlockStatus) - {BlockStatus.FINISHED})).within(extent):
                late = data[new.offset_bytes - offset_bytes : new.end_bytes - offset_bytes]
                self._pump.publish(Piece(extent=new, status=BlockStatus.FINISHED, data=late))
                self._stopwatch.tick(new.size_bytes)
                self._storm.calm()
                self._plan_is_void = True

    def _watch(self, waiting: Waiting) -> bool:
        """While a read hangs: save, show, and ask whether to go on."""
        self._stopwatch.tick(0)
        if self._store.due(self._stopwatch.now_seconds):
            self._store.commit(self._writer.sync)
        if self._stopwatch.report_is_due():
            self.on_progress(replace(self._progress(), waiting_seconds=waiting.seconds, hung=waiting.hung))
        return not self.stop()

    def _tell_gone(self, seconds: float) -> None:
        self._stopwatch.tick(0)
        if self._stopwatch.report_is_due():
            self.on_progress(replace(self._progress(), waiting_seconds=seconds, gone=True))
        if self.stop():
            raise Interrupted("stopped while the drive was gone")

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
            hangs=len(self._hung),
        )

    def _summary(self, finished: bool) -> RescueSummary:
        if self.alarm.ringing:
            log.warning(
                "%s answered %d bytes of nothing but repeated sectors right after errors; a bridge may answer so "
                "without having read them",
                self._source.locator,
                self.alarm.blank_bytes,
            )
        return RescueSummary(
            finished=finished,
            totals=totals_of(self._store.mapfile),
            rescued_bytes=self._stopwatch.rescued_bytes,
            reads=self._pump.reads,
            read_errors=self._pump.read_errors,
            seconds=self._stopwatch.seconds,
            last_error_bytes=self._stopwatch.last_error_bytes,
            source_end_bytes=self._source_end_bytes,
            hung=tuple(self._hung),
            returned_as=tuple(self._returned_as),
            blank_after_errors_bytes=self.alarm.blank_bytes,
            blank_alarm=self.alarm.ringing,
        )
