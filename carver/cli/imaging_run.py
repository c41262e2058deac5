"""Imaging run: one drive imaged, with everything around it; what `carver image` and `carver rescue` share."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from carver import __version__, preflight
from carver.cli import imaging_options, imaging_words, screen
from carver.cli.imaging_words import Road
from carver.cli.live import Showing
from carver.cli.preview import Preview
from carver.cli.run_logs import RunLogs
from imaging import acquisition
from imaging.acquisition import AcquisitionSession, Tool
from imaging.acquisition_record import add_verification
from imaging.binding import comment_of
from imaging.damaged import DamagedSource
from imaging.device import describe
from imaging.errors import Interrupted
from imaging.hashes import Hashing
from imaging.health import describe_health
from imaging.pump import Subscriber
from imaging.read_back import Verification, verify
from imaging.reads import SILENT_SECONDS, Drive, Waiting, Watcher, open_device, open_source
from imaging.rescue.comeback import WaitForReturn
from imaging.rescue.engine import rescue
from imaging.rescue.forecast import Forecaster
from imaging.rescue.options import COPYING_PASSES, RescueOptions, settle_geometry
from imaging.rescue.progress import Progress, RescueSummary
from imaging.source import Source

LOOKING_SECONDS = 1.0  # a look that takes longer is told
TROUBLE_WAIT_SECONDS = 300.0  # for a drive that --on-trouble may bring back


@dataclass(frozen=True, slots=True, kw_only=True)
class Imaged:
    """What became of a run.

    Attributes:
        summary: how the rescue ended.
        record_path: the acquisition record.
        hashing: what became of the hashes; None where there are none.
        digests: of the whole image, by algorithm; empty where it is not hashed.
        verification: what re-reading the image showed (--verify); None where it was not read again.
    """

    summary: RescueSummary
    record_path: Path
    hashing: Hashing | None = None
    digests: Mapping[str, str]
    verification: Verification | None = None


def open_drive(options: Namespace, stop: Callable[[], bool]) -> Source:
    """Open what is to be imaged: a device directly, or a file that stands for a failing drive (--test-mode)."""
    watcher = _patient(options.source, stop)
    source = open_source(options.source, read_timeout_seconds=options.read_timeout, watcher=watcher)
    return (
        source
        if options.test_mode is None
        else DamagedSource(source, imaging_options.load_map(options, options.test_mode))
    )


def _patient(path: Path, stop: Callable[[], bool]) -> Watcher:
    """Return what is told while the drive is looked at, or waited for, before there is a screen; it says so once."""
    told = looking = False
    since = monotonic()

    def watch(waiting: Waiting) -> bool:
        nonlocal told, looking
        if waiting.seconds >= SILENT_SECONDS and not told:
            told = looking = True
            screen.say(f"{path} does not answer; waiting for it (Ctrl-C is safe)")
        if monotonic() - since >= LOOKING_SECONDS and not looking:
            looking = True
            screen.say(f"looking at {path} before it is imaged (a few seconds; Ctrl-C is safe)")
        return not stop()

    return watch


def check(options: Namespace, source: Source, road: Road, *, folder: Path | None) -> None:
    """Run the preflight checks for imaging, and ask where that is wished.

    Raises:
        UsageError: options that do not fit the source.
        InputError: the source is in use, or is not raw bytes.
        OutputError: the destination cannot take the image.
    """
    notices = preflight.examine(
        options.source,
        source=source,
        info=describe(options.source),
        image=road.image,
        map_path=road.map,
        folder=folder,
        image_bytes=_asked_bytes(road.options, source.size_bytes),
        sparse=road.options.sparse,
        allow_mounted=options.allow_mounted_source,
    )
    screen.tell_notices(notices, quiet=options.quiet)
    preflight.refuse(notices)
    settle_geometry(
        road.options,
        drive_bytes=source.size_bytes,
        sector_bytes=source.sector_bytes,
        physical_bytes=_physical_bytes(source),
    )
    if options.ask:
        ask(options.source, source.size_bytes, road.image)


def _asked_bytes(options: RescueOptions, drive_bytes: int) -> int:
    """Return how much is read at most."""
    size_bytes = drive_bytes - options.input_offset_bytes
    if options.size_bytes is not None:
        size_bytes = min(size_bytes, options.size_bytes)
    return size_bytes if options.domain is None else min(size_bytes, options.domain.total_bytes)


def ask(source: Path, size_bytes: int, image: Path) -> None:
    """Show what would be read and written, and wait for a yes (--ask).

    Raises:
        Interrupted: the answer is another one.
    """
    screen.say(f"from: {source} {_title(source)}({screen.human(size_bytes)})")
    screen.say(f"to:   {image} {_title(image)}")
    screen.say("Start? (y/n)")
    if not sys.stdin.readline().strip().lower().startswith("y"):
        raise Interrupted("not started, as was answered")


def _title(path: Path) -> str:
    """Return model and serial of a device, with a space behind; nothing of a file."""
    info = describe(path)
    return f"[{info.model or '?'}::{info.serial or '?'}] " if info.kind == "device" else ""


def image_drive(
    source: Source,
    road: Road,
    bound: Mapping[str, object],
    case: Mapping[str, str],
    options: Namespace,
    stop: Callable[[], bool],
    *,
    subscribers: tuple[Subscriber, ...] = (),
) -> Imaged:
    """Run the rescue, show it, keep its record, and tell how it ended.

    Args:
        source: the drive.
        road: where it goes, and how.
        bound: the drive's identity, kept with the map.
        case: what a lab writes at the head of the record.
        options: what was typed.
        stop: whether the user wants an end.
        subscribers: get every piece that was read, after the image.

    Raises:
        Interrupted: stopped by the user; image and map are saved.
    """
    tool = Tool(name="carver", version=__version__, command=tuple(shlex.split(options.command_line)))
    wishes = imaging_options.wishes(options, case)
    with acquisition.session(
        source, road.image, road.map, road.options, wishes, tool, stop=stop, tell=screen.say
    ) as session:
        if session.health_before is not None and session.health_before.available and not options.quiet:
            for line in describe_health(session.health_before):
                screen.say(line)
        summary = _rescue(source, road, bound, session, options, subscribers)
        for sentence in imaging_words.ending(summary, road):
            screen.say(sentence)
        hashing = _finish_hashes(session, summary, options)
    if not summary.finished and summary.limit is None:
        raise Interrupted(f"stopped; {road.image} and its map are saved, and the same command goes on from here")
    if hashing is not None and not hashing.finished and not hashing.fault and stop():
        raise Interrupted(f"stopped while {road.image} was hashed; all is read, and the same command goes on with that")
    imaged = Imaged(
        summary=summary,
        record_path=session.record_path,
        hashing=hashing,
        digests={} if hashing is None or hashing.image is None else dict(hashing.image.digests),
    )
    for algorithm, digest in imaged.digests.items():
        screen.say(f"{algorithm.upper()} of {road.image}: {digest}")
    return replace(imaged, verification=_verify(session, road, stop, options)) if options.verify else imaged


def _rescue(
    source: Source,
    road: Road,
    bound: Mapping[str, object],
    session: AcquisitionSession,
    options: Namespace,
    subscribers: tuple[Subscriber, ...],
) -> RescueSummary:
    preview = Preview(options.data_preview)
    forecaster = Forecaster(
        sector_bytes=_sector_bytes(source, options),
        sweeps=COPYING_PASSES in road.options.copying_passes,
        trims=not options.no_trim,
        scrapes=not options.no_scrape,
    )
    with ExitStack() as stack:
        logs = stack.enter_context(_logs(road, options))
        showing = stack.enter_context(Showing(road, forecaster, quiet=options.quiet, preview=preview.lines))

        def note(progress: Progress) -> None:
            showing.show(progress)
            logs.note(progress)

        summary = rescue(
            source,
            road.image,
            road.map,
            road.options,
            on_progress=session.watching(note),
            stop=session.stop,
            on_gone=session.before(_wait_for_return(source, options)),
            on_read=logs.on_read,
            subscribers=(*((preview,) if options.data_preview else ()), *session.subscribers, *subscribers),
            comments=(f"Command line: {options.command_line}", comment_of(bound)),
        )
        if session.guard is not None and session.guard.ended is not None:
            summary = replace(summary, limit=session.guard.ended)
        logs.end(summary)
    return summary


def _logs(road: Road, options: Namespace) -> RunLogs:
    return RunLogs(
        events=options.log_events,
        rates=options.log_rates,
        reads=options.log_reads,
        options=road.options,
        source=options.source,
    )


def _finish_hashes(session: AcquisitionSession, summary: RescueSummary, options: Namespace) -> Hashing | None:
    with screen.Bars(quiet=options.quiet) as bars:
        hashing = session.finish(
            summary, on_progress=lambda done, whole: bars.show("hashing what came in another order", done, whole)
        )
    if hashing is not None and hashing.fault:
        screen.say(f"warning: the image is not hashed: {hashing.fault}")
    if hashing is not None and hashing.differing:
        first = hashing.differing[0]
        screen.say(
            f"warning: the image differs from what was read at {len(hashing.differing)} places, the first at "
            f"{first.offset_bytes:#x}: something else writes to it, or its disk fails; make it anew on another disk"
        )
    return hashing


def _verify(
    session: AcquisitionSession, road: Road, stop: Callable[[], bool], options: Namespace
) -> Verification | None:
    """Read the image again, compare it with its hashes, and put that on record.

    Raises:
        Interrupted: stopped by the user.
    """
    with screen.Bars(quiet=options.quiet) as bars:
        found = verify(
            road.image,
            session.log_path,
            stop=stop,
            on_progress=lambda done, whole: bars.show("reading the image again", done, whole),
        )
    add_verification(session.record_path, found)
    if not found.finished:
        raise Interrupted("stopped while the image was read again; the same command goes on with that")
    if found.clean:
        screen.say(f"Read again: {road.image} is as it was hashed while it was read.")
    else:
        screen.say(f"warning: read again, {road.image} is not as it was hashed: {_unlike(found)}")
    return found


def _unlike(found: Verification) -> str:
    if found.differing:
        first = found.differing[0]
        return f"{len(found.differing)} pieces differ, the first at {first.offset_bytes:#x}+{first.size_bytes:#x}"
    if found.image_agrees is False:
        return "the hash of the whole differs"
    return f"{screen.human(found.unhashed_bytes)} of it were never hashed"


def _sector_bytes(source: Source, options: Namespace) -> int:
    """Return what is read at a time where the drive is bad."""
    return int(options.sector_size or max(_physical_bytes(source), source.sector_bytes))


def _physical_bytes(source: Source) -> int:
    return source.physical_sector_bytes if isinstance(source, Drive) else source.sector_bytes


def _wait_for_return(source: Source, options: Namespace) -> WaitForReturn | None:
    """Return what waits for a drive that vanishes, where that was asked for, or a command may bring it back."""
    wait_seconds = options.wait_for_return
    if wait_seconds is None and options.on_trouble:
        wait_seconds = TROUBLE_WAIT_SECONDS
    if wait_seconds is None:
        return None
    return WaitForReturn(
        source,
        wait_seconds=wait_seconds,
        reopen=lambda path, watcher: open_device(path, read_timeout_seconds=options.read_timeout, watcher=watcher),
    )
