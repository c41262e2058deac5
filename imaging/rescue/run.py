"""Run: the loop that does the I/O. It asks a plan what to read, reads it, hands it out, and keeps the map's promise."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from imaging.errors import (
    CarverError,
    DestinationFullError,
    Interrupted,
    OutputError,
    ReadTimeout,
)
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus
from imaging.mapstore import MapStore
from imaging.pump import Piece, Pump, Reading
from imaging.reads import Waiting
from imaging.rescue.comeback import OnGone
from imaging.rescue.contact import Contact, Word
from imaging.rescue.governor import Governor
from imaging.rescue.options import Geometry, RescueOptions
from imaging.rescue.order import plan_rescue
from imaging.rescue.plan import (
    SLOW_PASSES,
    Mark,
    Outcome,
    Phase,
    Planner,
    Read,
    Resume,
    Territory,
    reset_marks,
    settle,
)
from imaging.rescue.progress import Progress, RescueSummary, Stopwatch, outside_of, progress_of, totals_of
from imaging.rescue.put_off import SUSPECT_SECONDS, PutOff, recalled
from imaging.rescue.slowness import SlowJudge
from imaging.rescue.storm import Storm
from imaging.rescue.writer import ImageWriter, Reserve
from imaging.source import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a run is told by, tells, and lives in; see `rescue`."""

    on_progress: Callable[[Progress], None]
    stop: Callable[[], bool]
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    on_gone: OnGone | None


class Run:
    """One run of a rescue: the state that its loop carries from read to read."""

    def __init__(
        self,
        source: Source,
        pump: Pump,
        store: MapStore,
        writer: ImageWriter,
        domain: ExtentSet,
        geometry: Geometry,
        options: RescueOptions,
        around: Surroundings,
    ) -> None:
        self._pump = pump
        self._store = store
        self._writer = writer
        self._territory = Territory(store.mapfile, domain)
        self._outside = outside_of(store.mapfile, domain)
        self._geometry = geometry
        self._options = options
        self._around = around
        self._stopwatch = Stopwatch(around.clock)
        self._governor = Governor(
            options.limits,
            store.mapfile,
            now_seconds=self._stopwatch.now_seconds,
            clock=around.clock,
            sleep=around.sleep,
            meanwhile=self._pause,
        )
        self._storm = Storm(options.recheck_errors)
        self._slowness = SlowJudge(options.slow_reads, adaptive=not options.compatible)
        self._put_off = PutOff(recalled(store.remarks), domain=domain)
        self._reading: Read | None = None
        self._plan_is_void = False
        self._contact = Contact(
            source,
            pump,
            store,
            storm=self._storm,
            read_back=writer.read_back,
            save=self._save,
            watch=self._watch,
            on_gone=around.on_gone,
            tell_gone=self._tell_gone,
        )

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
        finally:
            self._contact.let_go()
        reserve.release()
        if finished:
            self._store.mapfile.current_status = Phase.FINISHED.value
        self._save()
        self._around.on_progress(self._progress())
        return RescueSummary(
            finished=finished,
            limit=None if finished else self._governor.reached,
            totals=totals_of(self._store.mapfile),
            asked=totals_of(self._store.mapfile) - self._outside if self._outside.size_bytes else None,
            rescued_bytes=self._stopwatch.rescued_bytes,
            reads=self._pump.reads,
            read_errors=self._pump.read_errors,
            seconds=self._stopwatch.seconds,
            last_error_bytes=self._stopwatch.last_error_bytes,
            source_end_bytes=self._contact.source_end_bytes,
            hung=tuple(self._put_off.hung),
            returned_as=tuple(self._contact.returned_as),
        )

    def _loop(self) -> bool:
        """Return whether the plan came to its end."""
        for mark in reset_marks(self._territory, self._options):
            self._enter(mark)
        self._put_off.leave_out_of(self._territory)
        plan = self._plan()
        step = next(plan, None)
        at: tuple[Phase, int] | None = None
        while step is not None or self._turn_to_put_off():
            outcome = Outcome()
            if isinstance(step, Mark):
                self._enter(step)
            elif step is not None:
                self._stand_at(step)
                if self._around.stop() or self._governor.reached:
                    return False
                if at != (step.phase, step.pass_number) or self._stopwatch.report_is_due():
                    at = step.phase, step.pass_number
                    self._around.on_progress(self._progress())
                try:
                    outcome = self._read(step)
                except Interrupted:  # while the drive did not answer, or in a pause
                    return False
                if self._store.due(self._stopwatch.now_seconds):
                    self._store.commit(self._writer.sync)
            if self._plan_is_void or step is None:
                self._plan_is_void = False
                plan = self._plan()
                step = next(plan, None)
                continue
            try:
                step = plan.send(outcome)
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

    def _read(self, read: Read) -> Outcome:
        """Read, hand out what came, and tell the plan what that was."""
        self._governor.before_read(read)
        self._reading = read
        reading = self._contact.read(read)
        self._reading = None
        self._put_off.acquit()
        good_bytes = len(reading.data)
        word = self._contact.judge(read, reading)
        if word is Word.OF_NOTHING:
            self._plan_is_void = True
            return Outcome()
        if word is Word.OF_THE_END:
            self._cut_at_the_end()
        elif good_bytes < read.extent.size_bytes:
            self._stopwatch.last_error_bytes = read.extent.offset_bytes
        before = self._store.mapfile.block_at(read.extent.offset_bytes)[1]
        for mark in self._settle(read, reading):
            if mark.status is BlockStatus.FINISHED:
                self._pump.publish(Piece(extent=mark.extent, status=mark.status, data=reading.data))
            elif mark.extent.offset_bytes != self._contact.source_end_bytes:  # behind the end nothing can fail
                self._enter(mark)
        self._stopwatch.tick(good_bytes)
        self._weigh(read, reading, before)
        self._take_late()
        slow = self._is_slow(read, reading)
        self._govern(read, reading, slow=slow)
        return Outcome(good_bytes=good_bytes, slow=slow)

    def _weigh(self, read: Read, reading: Reading, before: BlockStatus) -> None:
        """See what a read means for those to come; `before` is the status that a failure has changed."""
        if reading.data:
            self._storm.calm()
        if isinstance(reading.fault, ReadTimeout):
            if self._put_off.add(read, len(reading.data), self._territory):
                self._plan_is_void = True
            self._checkpoint()
        elif reading.fault is not None and not reading.data and self._storm.fail(read.extent, before):
            self._plan_is_void |= self._contact.recheck(read, reading.fault) is Word.OF_NOTHING

    def _is_slow(self, read: Read, reading: Reading) -> bool:
        """Judge a read that gave all of its bytes, where slow ones are jumped over."""
        if read.phase is not Phase.COPYING or read.pass_number not in SLOW_PASSES:
            return False
        if len(reading.data) < read.extent.size_bytes:
            return False
        watch = self._stopwatch
        return self._slowness.judge(
            read.extent.size_bytes,
            reading.seconds,
            run_seconds=watch.seconds,
            average_rate_bytes=watch.rescued_bytes / watch.seconds if watch.seconds > 0 else 0.0,
        )

    def _govern(self, read: Read, reading: Reading, *, slow: bool) -> None:
        failed = reading.fault is not None
        # the pauses after slow reads are for those who said what is slow
        told_slow = slow and self._options.slow_reads.min_read_rate_bytes is not None
        self._governor.after_read(
            read,
            len(reading.data),
            self._stopwatch.now_seconds,
            failed=failed,
            slow=told_slow,
            limit=self._slowness.limit,
        )
        if (failed or told_slow) and self._options.limits.reopen_on_error and read.phase is Phase.COPYING:
            self._contact.reopen()

    def _settle(self, read: Read, reading: Reading) -> Iterator[Mark]:
        """Yield what a read makes of its bytes; one that hung tells nothing of its sectors, which are left for last."""
        waits = isinstance(reading.fault, ReadTimeout) and self._put_off.may_wait(read)
        for mark in settle(read, len(reading.data), self._geometry):
            if not waits or mark.status is BlockStatus.FINISHED:
                yield mark
        if waits:
            rest = span(read.extent.offset_bytes + len(reading.data), read.extent.end_bytes)
            yield Mark(extent=rest, status=BlockStatus.NON_SCRAPED)

    def _cut_at_the_end(self) -> None:
        """Plan nothing behind the place where the source ended."""
        end_bytes = self._contact.source_end_bytes or 0
        if self._territory.domain.touches(span(end_bytes, self._store.mapfile.end_bytes)):
            self._territory = self._territory.cut_at(end_bytes)
            self._plan_is_void = True
        self._put_off.cut_at(end_bytes)

    def _turn_to_put_off(self) -> bool:
        """Take up what was left for last; return whether there is any."""
        waiting = self._put_off.take()
        if waiting:
            self._territory = Territory(self._store.mapfile, waiting)
        return bool(waiting)

    def _take_late(self) -> None:
        """Hand out what came after its deadline, where nobody has read it since."""
        for offset_bytes, data in self._contact.take_late():
            extent = Extent(offset_bytes=offset_bytes, size_bytes=len(data))
            for new in self._store.mapfile.extents(*(set(BlockStatus) - {BlockStatus.FINISHED})).within(extent):
                late = data[new.offset_bytes - offset_bytes : new.end_bytes - offset_bytes]
                self._pump.publish(Piece(extent=new, status=BlockStatus.FINISHED, data=late))
                self._stopwatch.tick(new.size_bytes)
                self._storm.calm()
                self._plan_is_void = True

    def _pause(self) -> bool:
        """While nothing is read: save what is due, and ask whether to go on."""
        self._stopwatch.tick(0)
        if self._store.due(self._stopwatch.now_seconds):
            self._store.commit(self._writer.sync)
        return not self._around.stop()

    def _watch(self, waiting: Waiting) -> bool:
        """While a read hangs: save, show, and ask whether to go on."""
        late = waiting.seconds >= SUSPECT_SECONDS and not waiting.hung
        if late and self._reading is not None and self._put_off.suspect(self._reading):
            self._checkpoint()
        going_on = self._pause()
        if self._stopwatch.report_is_due():
            self._around.on_progress(replace(self._progress(), waiting_seconds=waiting.seconds, hung=waiting.hung))
        return going_on and not self._governor.look(self._stopwatch.now_seconds)

    def _tell_gone(self, seconds: float) -> None:
        self._stopwatch.tick(0)
        if self._stopwatch.report_is_due():
            self._around.on_progress(replace(self._progress(), waiting_seconds=seconds, gone=True))
        if self._around.stop():
            raise Interrupted("stopped while the drive was gone")

    def _save(self) -> None:
        """Save what is read: the little journal, for which there is room longer, before the whole map."""
        self._store.commit(self._writer.sync)
        self._checkpoint()

    def _checkpoint(self) -> None:
        self._store.remarks = self._put_off.remarks(self._store.mapfile)
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
        return progress_of(
            self._store.mapfile,
            self._stopwatch,
            reads=self._pump.reads,
            read_errors=self._pump.read_errors,
            hangs=len(self._put_off.hung),
            slow_reads=self._slowness.slow_reads,
            outside=self._outside,
        )
