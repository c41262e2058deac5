"""`carver image`: a failing drive copied to an image and a mapfile."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path

from carver import preflight
from carver.cli import imaging_options, screen
from carver.cli.opening import check_path
from carver.output import make_folder
from imaging.binding import comment_of, refuse_another
from imaging.damaged import DamagedSource
from imaging.device import describe, identity
from imaging.errors import Interrupted
from imaging.reads import open_device, open_source
from imaging.rescue.comeback import WaitForReturn
from imaging.rescue.engine import rescue
from imaging.rescue.progress import Progress, RescueSummary
from imaging.source import Source

WAIT_TOLD_SECONDS = 2.0
PHASES = {
    "copying": "copying what reads well",
    "trimming": "finding the edges of bad areas",
    "scraping": "trying bad areas sector by sector",
    "retrying": "trying bad sectors again",
    "finished": "finished",
}


def run(options: Namespace, stop: Callable[[], bool]) -> int:
    """Image a drive, or go on with it."""
    map_path = options.map or options.image.with_name(options.image.name + ".map")
    source = open_drive(options, stop)
    check(options, source, image=options.image, map_path=map_path, folder=None)
    bound = identity(source, describe(options.source))
    refuse_another(map_path, bound)
    make_folder(options.image.absolute().parent)
    summary = image_drive(source, options.image, map_path, bound, options, stop)
    screen.say(f"Next: `carver carve {options.image} --out DIR` brings back the model files in it.")
    if options.json:
        screen.put_json(summary_json(summary, options.image, map_path))
    return 0


def open_drive(options: Namespace, stop: Callable[[], bool]) -> Source:
    """Open what is to be imaged: a device directly, or a file that stands for a failing drive (--test-mode).

    Raises:
        UsageError: options that do not go together.
    """
    check_path(options.source)
    imaging_options.check(options)
    source = open_source(options.source, read_timeout_seconds=options.read_timeout, watcher=lambda waiting: not stop())
    return (
        source
        if options.test_mode is None
        else DamagedSource(source, imaging_options.load_map(options, options.test_mode))
    )


def check(options: Namespace, source: Source, *, image: Path, map_path: Path, folder: Path | None) -> None:
    """Run the preflight checks for imaging.

    Raises:
        InputError: the source is in use, or is not raw bytes.
        OutputError: the destination cannot take the image.
    """
    notices = preflight.examine(
        options.source,
        source=source,
        info=describe(options.source),
        image=image,
        map_path=map_path,
        folder=folder,
        allow_mounted=options.allow_mounted_source,
    )
    screen.tell_notices(notices)
    preflight.refuse(notices)


def image_drive(
    source: Source,
    image_path: Path,
    map_path: Path,
    bound: Mapping[str, object],
    options: Namespace,
    stop: Callable[[], bool],
) -> RescueSummary:
    """Run the rescue, show it, and tell how it ended; `bound` is the drive's identity, kept with the map.

    Raises:
        Interrupted: stopped by the user; image and map are saved.
    """
    with screen.Bars(quiet=options.quiet) as bars:
        summary = rescue(
            source,
            image_path,
            map_path,
            imaging_options.rescue_options(options),
            on_progress=lambda progress: _show(bars, progress),
            stop=stop,
            on_gone=_wait_for_return(source, options),
            comments=(f"Command line: {shlex.join(['carver', *sys.argv[1:]])}", comment_of(bound)),
        )
    _tell(summary, image_path)
    if not summary.finished:
        raise Interrupted(f"stopped; {image_path} and its map are saved, and the same command goes on from here")
    return summary


def _wait_for_return(source: Source, options: Namespace) -> WaitForReturn | None:
    """Return what waits for a drive that vanishes, where that was asked for."""
    if options.wait_for_return is None:
        return None
    return WaitForReturn(
        source,
        wait_seconds=options.wait_for_return,
        reopen=lambda path, watcher: open_device(path, read_timeout_seconds=options.read_timeout, watcher=watcher),
    )


def _show(bars: screen.Bars, progress: Progress) -> None:
    bars.show("reading the drive", progress.totals.rescued_bytes, progress.totals.size_bytes)
    note = f"{PHASES[progress.phase.word]}, pass {progress.pass_number}"
    if progress.gone:
        note = f"the drive has vanished: waiting for it to come back, {progress.waiting_seconds:.0f} s"
    elif progress.waiting_seconds >= WAIT_TOLD_SECONDS:
        note = f"the drive has not answered for {progress.waiting_seconds:.0f} s (Ctrl-C is safe)"
    elif progress.read_errors:
        note += f", {progress.read_errors} read errors, {screen.human(progress.totals.bad_bytes)} bad"
    bars.note(note)


def _tell(summary: RescueSummary, image_path: Path) -> None:
    totals = summary.totals
    if summary.hung:
        screen.say(f"The drive hung at {len(summary.hung)} places; they were left for last.")
    if summary.returned_as:
        screen.say(f"The drive vanished and came back as {', '.join(summary.returned_as)}.")
    if summary.blank_alarm:
        screen.say(
            f"warning: {screen.human(summary.blank_after_errors_bytes)} after errors read as one repeated sector: a "
            "USB bridge may have answered without data; try another cable or adapter, with a new image"
        )
    missing_bytes = totals.size_bytes - totals.rescued_bytes
    if missing_bytes == 0:
        screen.say(f"All {screen.human(totals.size_bytes)} were read into {image_path}.")
        return
    share = min(100 * totals.rescued_bytes / totals.size_bytes, 99.99)  # never call it whole when it is not
    rescued, whole, missing, bad = map(
        screen.human, (totals.rescued_bytes, totals.size_bytes, missing_bytes, totals.bad_bytes)
    )
    if not summary.finished:
        screen.say(f"{rescued} of {whole} ({share:.2f} %) are read so far.")
        return
    failed = "all in sectors that failed" if missing_bytes == totals.bad_bytes else f"{bad} of them in failed sectors"
    screen.say(f"{rescued} of {whole} ({share:.2f} %) were read into {image_path}. Not read: {missing}, {failed}.")


def summary_json(summary: RescueSummary, image_path: Path, map_path: Path) -> dict[str, object]:
    """Return what a script wants to know of a rescue."""
    return {
        "image": str(image_path),
        "map": str(map_path),
        **dataclasses.asdict(summary.totals),
        "reads": summary.reads,
        "read_errors": summary.read_errors,
        "finished": summary.finished,
        "hung": [[extent.offset_bytes, extent.size_bytes] for extent in summary.hung],
        "returned_as": list(summary.returned_as),
        "blank_after_errors_bytes": summary.blank_after_errors_bytes,
    }
