"""Acquisition: all that is kept and watched around a rescue, in one block.

    with acquisition.session(source, image, map, options, wishes, Tool(name="carver", version=…, command=argv),
                             stop=stop, tell=say) as session:
        summary = rescue(source, image, map, options,
                         subscribers=session.subscribers, stop=session.stop,
                         on_progress=session.watching(on_progress), on_gone=session.before(on_gone), …)
        hashing = session.finish(summary, on_progress=lambda done_bytes, of_bytes: …)

Around the rescue: settings of the kernel that were wished for, put back afterwards; SMART before and after; a stop at a
temperature; a hook for power cycling; hashes while reading; and the record of it, begun before the first read and
completed at the end, however that comes. `Wishes()` alone asks for the record, SMART, and SHA-256.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path

from imaging.acquisition_facts import Tool, begun, hashes_told, in_test_mode, outcome_of, sha256_of
from imaging.acquisition_record import (
    MAX_RANGES,
    AcquisitionRecord,
    Result,
    Session,
    load,
    record_path,
    save,
    utc_now,
)
from imaging.belonging import refuse_foreign_map
from imaging.device import describe
from imaging.direct import is_device
from imaging.disk import failures_named
from imaging.errors import CarverError
from imaging.extent import ExtentSet, span
from imaging.hash_log import log_path, note_change
from imaging.hashes import DEFAULT_ALGORITHMS, Hasher, Hashing
from imaging.health import Health, read_health
from imaging.hidden_areas import hidden_areas
from imaging.hooks import Hook
from imaging.kernel_settings import WantedSettings, changed, note_path
from imaging.mapfile import BlockStatus
from imaging.mapstore import MapStore, journal_path, lock_exclusively
from imaging.placement import Placement
from imaging.pump import Subscriber
from imaging.read_back import OnProgress
from imaging.rescue.comeback import Gone, OnGone, Tell
from imaging.rescue.destination import check_destination
from imaging.rescue.options import RescueOptions, settle_placement
from imaging.rescue.progress import Progress, RescueSummary
from imaging.source import Source
from imaging.temperature import TemperatureGuard

__all__ = ["AcquisitionSession", "Tool", "Wishes", "session"]

log = logging.getLogger(__name__)

IN_FILE = "zeros: what was never written to the image file reads as zeros"
ON_DEVICE = "none: what the destination device held there before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is to be kept and watched around a rescue.

    Attributes:
        case: what a lab writes at the head: case, evidence, examiner, organisation, notes.
        algorithms: what the image is hashed with, "sha256" and "md5"; none: it is not hashed.
        whole_image: whether the image is hashed as one too, which may mean to read it back at the end.
        smart: whether the drive is asked for its health.
        settings: of the kernel and the drive, changed for the time of the rescue.
        max_celsius: the drive is not read above this temperature; None: it is not watched.
        hook: run when the drive hangs or is gone; None: nothing is.
        hook_seconds: how long the hook may take.
        test_map: the map that says what fails of a source that only stands for a drive; None: a real one is read.
    """

    case: Mapping[str, str] = field(default_factory=dict)
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    whole_image: bool = True
    smart: bool = True
    settings: WantedSettings = field(default_factory=WantedSettings)
    max_celsius: int | None = None
    hook: str | None = None
    hook_seconds: float = 60.0
    test_map: Path | None = None


class AcquisitionSession:
    """What goes into a rescue, and what came of it; made by `session`.

    Attributes:
        record: as it is kept by now.
        record_path: where.
        log_path: where the hashes are.
        health_before: what SMART told; None where it was not asked.
        health_after: likewise, at the end.
        hashing: what became of the hashes; None before `finish`, and where none were wished for.
    """

    def __init__(
        self,
        image_path: Path,
        map_path: Path,
        placement: Placement,
        record: AcquisitionRecord,
        stop: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        """Use `session`."""
        self.image_path, self.map_path, self._placement = image_path, map_path, placement
        self._stop, self._tell = stop, tell
        self._summary: RescueSummary | None = None
        self.hasher: Hasher | None = None
        self.hook: Hook | None = None
        self.guard: TemperatureGuard | None = None
        self.events: list[str] = []
        self.record = record
        self.record_path = record_path(image_path, map_path)
        self.log_path = log_path(image_path, map_path)
        self.health_before: Health | None = None
        self.health_after: Health | None = None
        self.hashing: Hashing | None = None

    @property
    def subscribers(self) -> tuple[Subscriber, ...]:
        """For the rescue: the hasher and the guard of the temperature, as far as they were wished for."""
        return tuple(each for each in (self.hasher, self.guard) if each is not None)

    def tell(self, line: str) -> None:
        """Tell the user, and keep it for the record."""
        self.events.append(line)
        self._tell(line)

    def stop(self) -> bool:
        """Tell whether the rescue is to end: the user wants it, or the drive does not cool."""
        return self.guard.stop() if self.guard is not None else self._stop()

    def watching(self, on_progress: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """Return an `on_progress` for the rescue that also runs the hook."""
        return on_progress if self.hook is None else self.hook.watching(on_progress)

    def before(self, on_gone: OnGone | None) -> OnGone | None:
        """Return an `on_gone` for the rescue that runs the hook first, and follows the drive to its new name."""
        waits = on_gone if self.hook is None else self.hook.before(on_gone)
        if waits is None:
            return None

        def wait(gone: Gone, tell: Tell) -> Source | None:
            found = waits(gone, tell)
            if found is not None:
                self._follow(found)
            return found

        return wait

    def _follow(self, found: Source) -> None:
        """Turn to the drive under the name that it came back with."""
        if self.guard is not None:
            self.guard.device = found.locator
        if self.record.sessions and self.record.sessions[-1].kernel_changes:
            self.tell(f"{found.locator} has the system's own settings again, those of this run were lost on the way")

    def finish(
        self, summary: RescueSummary, *, on_progress: OnProgress = lambda done_bytes, of_bytes: None
    ) -> Hashing | None:
        """Note how the rescue ended; where it finished, hash what is not hashed yet by reading the image back.

        Returns:
            What became of the hashes; None where there are none, or the rescue is not finished.
        """
        self._summary = summary
        if self.hasher is not None and summary.finished:
            mapfile = MapStore.read_snapshot(self.map_path)
            self.hashing = self.hasher.complete(self.image_path, mapfile, stop=self._stop, on_progress=on_progress)
        return self.hashing

    def latest_name(self, device: Path) -> Path:
        """Return the name that the drive has now."""
        returned = self._summary.returned_as if self._summary is not None else ()
        return Path(returned[-1]) if returned else device

    def begin(self, current: Session) -> None:
        """Write the record, with a session that has begun."""
        self.record = replace(self.record, sessions=(*self.record.sessions, current))
        save(self.record_path, self.record)

    def end(self, error: BaseException | None) -> None:
        """Write the record, with the session's end.

        Raises:
            CarverError: it cannot be written, and nothing worse is on its way up.
        """
        try:
            if self.hasher is not None:
                self.hasher.close()
            if self.hook is not None:
                self.hook.settle()
            self.record = replace(
                self.record,
                sessions=(*self.record.sessions[:-1], self._ended(self.record.sessions[-1], error)),
                result=self._result() or self.record.result,
            )
            save(self.record_path, self.record)
        except CarverError as fault:
            if error is None:
                raise
            log.error("the acquisition record could not be completed: %s", fault)

    def _ended(self, current: Session, error: BaseException | None) -> Session:
        summary = self._summary
        ended = replace(
            current,
            ended=utc_now(),
            outcome=outcome_of(summary, error, None if self.guard is None else self.guard.ended),
            events=(*current.events, *self.events),
            health_after=None if self.health_after is None else asdict(self.health_after),
            highest_celsius=None if self.guard is None else self.guard.highest_celsius,
        )
        if summary is None:
            return ended
        returned = tuple(f"the drive vanished and came back as {name}" for name in summary.returned_as)
        return replace(
            ended,
            events=(*ended.events, *returned),
            reads=summary.reads,
            read_errors=summary.read_errors,
            rescued_bytes=summary.rescued_bytes,
            seconds=round(summary.seconds, 1),
            hung=tuple((extent.offset_bytes, extent.size_bytes) for extent in summary.hung[:MAX_RANGES]),
            blank_after_errors_bytes=summary.blank_after_errors_bytes,
        )

    def _result(self) -> Result | None:
        """Return what the image is now; None where there is none, or no map of it."""
        if not (self.map_path.is_file() and self.image_path.exists()):
            return None
        mapfile = MapStore.read_snapshot(self.map_path)
        unread = [(extent, status) for extent, status in mapfile.blocks() if status is not BlockStatus.FINISHED]
        whole = self.hasher.log.hashes.image if self.hasher is not None else None
        on_device = is_device(self.image_path)
        return Result(
            at=utc_now(),
            finished=self._summary is not None and self._summary.finished,
            image_bytes=self._placement.image_bytes if on_device else self.image_path.stat().st_size,
            rescued_bytes=mapfile.count_bytes(BlockStatus.FINISHED),
            unread_bytes=sum(extent.size_bytes for extent, _ in unread),
            unread_ranges=tuple((at.offset_bytes, at.size_bytes, kind.value) for at, kind in unread[:MAX_RANGES]),
            unread_range_count=len(unread),
            fill="; ".join((ON_DEVICE if on_device else IN_FILE, *self.record.fillings)),
            map_sha256=sha256_of(self.map_path),
            digests={} if whole is None else dict(whole.digests),
            hashes={} if self.hashing is None else hashes_told(self.hashing, self.log_path),
        )


@contextmanager
def session(
    source: Source,
    image_path: Path,
    map_path: Path,
    options: RescueOptions,
    wishes: Wishes,
    tool: Tool,
    *,
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = log.warning,
) -> Iterator[AcquisitionSession]:
    """Begin a session of the acquisition, and end it whatever becomes of the rescue inside.

    Args:
        source: what is read.
        image_path: the image.
        map_path: its map; record and hashes lie beside it.
        options: of the rescue.
        wishes: what is to be kept and watched.
        tool: who images.
        stop: whether the user wants an end.
        tell: gets lines for the user.

    Raises:
        UsageError: wishes that cannot be.
        InputError: another carver writes this image, the map is of another image, its record or hashes are not ours,
            or the drive tells no temperature though it was to be watched.
        OutputError: the image is not ours to write, or the record cannot be written.
    """
    device = Path(source.locator)
    placement = settle_placement(options, ExtentSet([span(0, source.size_bytes)]), drive_bytes=source.size_bytes)
    check_destination(image_path, map_path, device, placement=placement, force=options.force)
    _refuse_second(map_path)
    refuse_foreign_map(source, image_path, map_path, placement)
    record, aside = _record_of(image_path, map_path)
    made = AcquisitionSession(image_path, map_path, placement, record, stop, tell)
    if aside is not None:
        made.tell(f"the record of an image that is not there any more was set aside as {aside}")
    with ExitStack() as stack:
        changes = stack.enter_context(changed(device, wishes.settings, note=note_path(map_path), tell=made.tell))
        _equip(made, stack, device, wishes, stop)
        made.record = _headed(made.record, device, source, wishes, made, placement)
        current = begun(device, options, tool, tuple(map(str, changes)), made.health_before)
        made.begin(current if wishes.test_map is None else in_test_mode(current, wishes.test_map))
        if wishes.algorithms:
            mapfile = MapStore.read_snapshot(map_path) if map_path.is_file() else None
            made.hasher = Hasher(
                made.log_path,
                image_bytes=placement.image_bytes,
                mapfile=mapfile,
                algorithms=wishes.algorithms,
                whole_image=wishes.whole_image,
                shift_bytes=placement.shift_bytes,
            )
        else:
            note_change(made.log_path)
        try:
            yield made
        except BaseException as error:
            made.end(error)
            raise
        if wishes.smart and is_device(device) and not stop():
            made.health_after = read_health(made.latest_name(device), stop=stop)
        made.end(None)


def _equip(
    made: AcquisitionSession,
    stack: ExitStack,
    device: Path,
    wishes: Wishes,
    stop: Callable[[], bool],
) -> None:
    if wishes.smart and is_device(device):
        made.health_before = read_health(device, stop=stop)
    if wishes.max_celsius is not None:
        guard = TemperatureGuard(device, max_celsius=wishes.max_celsius, stop=stop, tell=made.tell)
        made.guard = stack.enter_context(guard)
    if wishes.hook is not None:
        made.hook = Hook(
            wishes.hook,
            device=str(device),
            serial=describe(device).serial,
            timeout_seconds=wishes.hook_seconds,
            tell=made.tell,
        )


def _headed(
    record: AcquisitionRecord,
    device: Path,
    source: Source,
    wishes: Wishes,
    made: AcquisitionSession,
    placement: Placement,
) -> AcquisitionRecord:
    """Return the record with what is known now of case, drive and image."""
    drive = {**asdict(describe(device)), "size_bytes": source.size_bytes, "hidden_areas": asdict(hidden_areas(device))}
    if made.health_before is not None:  # behind a USB bridge smartctl knows the drive's own names
        told = made.health_before
        drive |= {"smart_model": told.model, "smart_serial": told.serial, "smart_firmware": told.firmware}
    image = {
        "path": str(made.image_path),
        "map": str(made.map_path),
        "format": "raw",
        "segments": 1,
        "image_bytes": placement.image_bytes,
        "shift_bytes": placement.shift_bytes,
    }
    case = {**record.case, **{key: value for key, value in wishes.case.items() if value}}
    return replace(record, case=case, drive=drive, image=image)


def _record_of(image_path: Path, map_path: Path) -> tuple[AcquisitionRecord, Path | None]:
    """Return the record to go on with, and where that of an earlier image of this name was set aside.

    Raises:
        InputError: there is one that is not ours.
        OutputError: it cannot be renamed.
    """
    path = record_path(image_path, map_path)
    found = load(path)
    if found is None:
        return AcquisitionRecord(), None
    if map_path.exists() or found.result is None:
        return found, None
    aside = next(each for number in count(1) if not (each := path.with_suffix(f".{number}.json")).exists())
    with failures_named(aside):
        path.rename(aside)
    return AcquisitionRecord(), aside


def _refuse_second(map_path: Path) -> None:
    """Refuse while another carver writes this image: the record is that one's."""
    if journal_path(map_path).exists():
        lock_exclusively(journal_path(map_path)).close()
