"""`carver image`: a failing drive copied to an image and a mapfile."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Callable

from carver.cli import image_modes, imaging_options, screen
from carver.cli.carve import metadata_options
from carver.cli.imaging_run import Imaged, check, image_drive, open_drive
from carver.cli.imaging_words import Road
from carver.cli.opening import check_path
from carver.output import make_folder
from imaging.binding import identify, refuse_another
from imaging.device import describe
from imaging.errors import LimitReached, StrictShortfall


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
    bound = identify(source, describe(options.source), map_path)
    refuse_another(map_path, bound)
    make_folder(options.image.absolute().parent)
    make_folder(map_path.absolute().parent)
    case = {key: value for key, value in metadata_options(options).items() if value is not None}
    imaged = image_drive(source, road, bound, case, options, stop)
    if options.json:
        screen.put_json(summary_json(imaged, road))
    return ended_as(imaged)


def ended_as(imaged: Imaged) -> int:
    """Return the exit code of a run that was not interrupted."""
    if imaged.verification is not None and not imaged.verification.clean:
        return StrictShortfall.exit_code
    return LimitReached.exit_code if imaged.summary.limit is not None else 0


def summary_json(imaged: Imaged, road: Road) -> dict[str, object]:
    """Return what a script wants to know of a rescue: all of the summary, the map's totals beside the rest."""
    summary = imaged.summary
    counted = dataclasses.asdict(summary)
    totals = counted.pop("totals")
    return {
        "image": str(road.image),
        "map": str(road.map),
        "acquisition": str(imaged.record_path),
        **totals,
        **counted,
        "rescued_bytes": totals["rescued_bytes"],
        "rescued_in_this_run_bytes": summary.rescued_bytes,
        "hung": [[extent.offset_bytes, extent.size_bytes] for extent in summary.hung],
        "digests": dict(imaged.digests),
        "verified": None if imaged.verification is None else imaged.verification.clean,
    }
