"""`carver image`: a failing drive copied to an image and a mapfile."""

from __future__ import annotations

import dataclasses
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path

from carver import preflight
from carver.cli import image_modes, imaging_options, imaging_words, screen
from carver.cli.imaging_words import Road
from carver.cli.live import Showing
from carver.cli.opening import check_path
from carver.cli.preview import Preview
from carver.cli.run_logs import RunLogs
from carver.output import make_folder
from imaging.binding import comment_of, refuse_another
from imaging.damaged import DamagedSource
from imaging.device import describe, identity
from imaging.errors import Interrupted, LimitReached
from imaging.reads import Drive, open_device, open_source
from imaging.rescue.comeback import WaitForReturn
from imaging.rescue.engine import rescue
from imaging.rescue.forecast import Forecaster
from imaging.rescue.options import RescueOptions
from imaging.rescue.progress import Progress, RescueSummary
from imaging.source import Source


def run(options: Namespace, stop: Callable[[], bool]) -> int:
    """Image a drive, or go on with it."""
    check_path(options.source)
    imaging_options.check(options)
    map_path = options.map or options.image.with_name(options.image.name + ".map")
    if options.fill_mode is not None or options.generate_mode:
        return image_modes.run(options, map_path, stop)
    source = open_drive(options, stop)
    road = Road(image=options.image, map=map_path, options=imaging_options.rescue_options(options))
    check(options, source, road, folder=None)
    bound = identity(source, describe(options.source))
    refuse_another(map_path, bound)
    make_folder(options.image.absolute().parent)
    summary = image_drive(source, road, bound, options, stop)
    if options.json:
        screen.put_json(summary_json(summary, road))
    return ended_as(summary)


def open_drive(options: Namespace, stop: Callable[[], bool]) -> Source:
    """Open what is to be imaged: a device directly, or a file that stands for a failing drive (--test-mode)."""
    source = open_source(options.source, read_timeout_seconds=options.read_timeout, watcher=lambda waiting: not stop())
    return (
        source
        if options.test_mode is None
        else DamagedSource(source, imaging_options.load_map(options, options.test_mode))
    )


def check(options: Namespace, source: Source, road: Road, *, folder: Path | None) -> None:
    """Run the preflight checks for imaging, and ask where that is wished.

    Raises:
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
        allow_mounted=options.allow_mounted_source,
    )
    screen.tell_notices(notices, quiet=options.quiet)
    preflight.refuse(notices)
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
    source: Source, road: Road, bound: Mapping[str, object], options: Namespace, stop: Callable[[], bool]
) -> RescueSummary:
    """Run the rescue, show it, and tell how it ended; `bound` is the drive's identity, kept with the map.

    Raises:
        Interrupted: stopped by the user; image and map are saved.
    """
    preview = Preview(options.data_preview)
    forecaster = Forecaster(
        sector_bytes=_sector_bytes(source, options), trims=not options.no_trim, scrapes=not options.no_scrape
    )
    with (
        RunLogs(
            events=options.log_events,
            rates=options.log_rates,
            reads=options.log_reads,
            options=road.options,
            source=options.source,
        ) as logs,
        Showing(road, forecaster, quiet=options.quiet, preview=preview.lines) as showing,
    ):

        def note(progress: Progress) -> None:
            showing.show(progress)
            logs.note(progress)

        summary = rescue(
            source,
            road.image,
            road.map,
            road.options,
            on_progress=note,
            stop=stop,
            on_gone=_wait_for_return(source, options),
            on_read=logs.on_read,
            subscribers=(preview,) if options.data_preview else (),
            comments=(f"Command line: {options.command_line}", comment_of(bound)),
        )
        logs.end(summary)
    for sentence in imaging_words.ending(summary, road):
        if not options.quiet or sentence.startswith("warning: "):
            screen.say(sentence)
    if not summary.finished and summary.limit is None:
        raise Interrupted(f"stopped; {road.image} and its map are saved, and the same command goes on from here")
    return summary


def _sector_bytes(source: Source, options: Namespace) -> int:
    """Return what is read at a time where the drive is bad."""
    physical_bytes = source.physical_sector_bytes if isinstance(source, Drive) else source.sector_bytes
    return int(options.sector_size or max(physical_bytes, source.sector_bytes))


def _wait_for_return(source: Source, options: Namespace) -> WaitForReturn | None:
    """Return what waits for a drive that vanishes, where that was asked for."""
    if options.wait_for_return is None:
        return None
    return WaitForReturn(
        source,
        wait_seconds=options.wait_for_return,
        reopen=lambda path, watcher: open_device(path, read_timeout_seconds=options.read_timeout, watcher=watcher),
    )


def ended_as(summary: RescueSummary) -> int:
    """Return the exit code of a run that was not interrupted."""
    return LimitReached.exit_code if summary.limit is not None else 0


def summary_json(summary: RescueSummary, road: Road) -> dict[str, object]:
    """Return what a script wants to know of a rescue: all of the summary, the map's totals beside the rest."""
    counted = dataclasses.asdict(summary)
    totals = counted.pop("totals")
    return {
        "image": str(road.image),
        "map": str(road.map),
        **totals,
        **counted,
        "rescued_bytes": totals["rescued_bytes"],
        "rescued_in_this_run_bytes": summary.rescued_bytes,
        "hung": [[extent.offset_bytes, extent.size_bytes] for extent in summary.hung],
    }
