"""`carver rescue`: the whole road, from a failing drive (or an image file) to a case with its reports."""

from __future__ import annotations

import dataclasses
import shlex
from argparse import Namespace
from collections.abc import Callable

import signatures
from carver.case import Case
from carver.cli import carve, imaging_options, screen
from carver.cli.image import ended_as
from carver.cli.imaging_run import check, image_drive, open_drive
from carver.cli.imaging_words import Road
from carver.cli.opening import check_path
from carver.recover import case_metadata, image_paths
from carver.stages.scanning import follow
from imaging.binding import identify
from imaging.device import describe
from imaging.direct import is_device
from imaging.errors import UsageError
from imaging.image import open_image


def run(options: Namespace, stop: Callable[[], bool]) -> int:
    """Image the source unless it is an image already, then carve."""
    if options.extra:
        raise UsageError(_habit(options))
    check_path(options.source)
    imaging_options.check_whole_road(options)
    carve.choices(options)  # a wrong choice is told now, not when the drive has been read
    if is_device(options.source) or options.test_mode is not None:
        imaging_options.check(options)
        return _from_drive(options, stop)
    if ignored := imaging_options.without_effect(options):
        verb = "is" if len(ignored) == 1 else "are"
        screen.say(
            f"warning: {options.source} is a file and read in place: {', '.join(ignored)} {verb} about reading a drive "
            "and without effect here (--range carves a part of it)"
        )
    options.image, options.map, options.out, options.dry_run = options.source, None, options.case, False
    return carve.run(options, stop)


def _from_drive(options: Namespace, stop: Callable[[], bool]) -> int:
    image_path, map_path = image_paths(options.case)
    road = Road(image=image_path, map=map_path, options=imaging_options.rescue_options(options), carves=True)
    source = open_drive(options, stop)
    check(options, source, road, folder=options.case)
    bound = identify(source, describe(options.source), map_path)
    with Case.create(options.case, locator=str(options.source), identity=bound) as case:
        carve.keep_head(case, options)
        head = dataclasses.asdict(case_metadata(case))
        with follow(
            case,
            image_path,
            signatures.formats(),
            carve.choices(options),
            map_path=map_path,
            image_bytes=source.size_bytes,
            stop=stop,
        ) as follower:
            imaged = image_drive(source, road, bound, head, options, stop, subscribers=(follower,))
        image = open_image(image_path, map_path)
        recovery = carve.carve_into(case, image, options, stop)
    return carve.finish(recovery, image, options.case, options) or ended_as(imaged)


def _habit(options: Namespace) -> str:
    """Answer `carver rescue -d -r3 DEV IMG MAP`, typed by ddrescue's habit; the options are the same there."""
    image = shlex.join(["carver", "image", *shlex.split(options.command_line)[2:]])
    return f"`carver rescue` takes SOURCE and CASE; to write an image and a map as ddrescue does: `{image}`"
