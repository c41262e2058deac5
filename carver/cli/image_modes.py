"""`carver image -F` and `-G`: blocks of an image filled, and a map generated from an image that lost its own."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from carver.cli import imaging_options, screen
from imaging.errors import Interrupted
from imaging.reads import open_source
from imaging.rescue.fill import fill, filling_of
from imaging.rescue.generate import generate
from imaging.rescue.sweep import SweepProgress


def run(options: Namespace, map_path: Path, stop: Callable[[], bool]) -> int:
    """Fill, or generate, whichever was asked for."""
    comments = (f"Command line: {options.command_line}",)
    asked = imaging_options.rescue_options(options)
    stage = "making the map" if options.generate_mode else "filling"
    with screen.Bars(quiet=options.quiet) as bars:

        def show(progress: SweepProgress) -> None:
            bars.show(stage, progress.done_bytes, progress.total_bytes)

        if options.generate_mode:
            source = open_source(options.source, read_timeout_seconds=options.read_timeout)
            done = generate(source, options.image, map_path, asked, on_progress=show, stop=stop, comments=comments)
        else:
            filling = filling_of(options.fill_mode)
            done = fill(
                options.source, options.image, map_path, filling, asked, on_progress=show, stop=stop, comments=comments
            )
    if not done.finished:
        raise Interrupted(f"stopped; how far it came is kept in {map_path}, and the same command goes on from there")
    screen.say(_told(options, map_path, done))
    if options.json:
        screen.put_json({"image": str(options.image), "map": str(map_path), "done_bytes": done.done_bytes})
    return 0


def _told(options: Namespace, map_path: Path, done: SweepProgress) -> str:
    if options.generate_mode:
        return (
            f"{map_path} is made: {screen.human(done.done_bytes)} of {options.image} were looked at (holes were not), "
            "and its zeros count as not read. The same command without -G reads those from the drive."
        )
    return (
        f"{screen.human(done.done_bytes)} of {options.image} were filled; its map is as it was, and imaging can go on."
    )
