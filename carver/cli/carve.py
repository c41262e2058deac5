"""`carver carve`: find, validate and write the files of an image."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import signatures
from carver import preflight
from carver.case import Case
from carver.cli import screen
from carver.cli.arguments import check_threads
from carver.cli.opening import check_path
from carver.recover import case_metadata, keep_metadata, plan_recovery, recover
from carver.recovery import Recovery
from carver.report.summary import summarise
from carver.report.wording import plural
from carver.stages import Choices, Hooks
from carver.stages.claiming import Planned
from carver.stages.seeking import DATA, MODEL
from imaging.device import describe, identity
from imaging.errors import InputError, StrictShortfall, UsageError
from imaging.extent import layout_bytes, span
from imaging.image import MappedImage, open_image
from signatures.verdict import Grade

ONE_SMALL, SMALL = "small one that tells of models", "small ones that tell of models"
METADATA_OPTIONS = ("evidence", "examiner", "organisation", "notes")


def run(options: Namespace, stop: Callable[[], bool]) -> int:
    """Carve, or list what would be carved."""
    check_path(options.image)
    choices(options)  # a wrong choice is told before anything is read or made
    if options.out is not None:
        return _run(options, stop)
    if not options.dry_run:
        raise UsageError("`carver carve` needs `--out DIR`, the folder that gets the files; --dry-run only lists them")
    with TemporaryDirectory(prefix="carver-") as folder:  # not on the source: `check_path` has looked
        options.out, options.passing = Path(folder), True
        return _run(options, stop)


def _run(options: Namespace, stop: Callable[[], bool]) -> int:
    image = open_checked(options, folder=options.out)
    with Case.create(
        options.out, locator=str(options.image), identity=identity(image.source, describe(options.image))
    ) as case:
        keep_head(case, options)
        if options.dry_run:
            _dry_run(case, image, options, stop)
            check_length(image)
            return 0
        recovery = carve_into(case, image, options, stop)
    return finish(recovery, image, options.out, options)


def open_checked(options: Namespace, folder: Path | None) -> MappedImage:
    """Open the image a command names, after the preflight checks; that it has no map is told before the work begins.

    Raises:
        InputError: the image is none, or cannot be read.
        OutputError: the folder cannot take the files.
    """
    image = open_image(options.image, options.map)
    _check_range(options, image)
    notices = preflight.examine(
        options.image,
        source=image.source,
        info=describe(options.image),
        folder=folder,
        allow_mounted=options.allow_mounted_source,
    )
    screen.tell_notices(notices)
    preflight.refuse(notices)
    if image.mapfile is None:
        scans = options.command == "scan"
        out = "DIR" if getattr(options, "passing", False) else shlex.quote(str(folder))
        ending = "" if scans else f"--out {out}"
        screen.say(f"warning: {screen.unread_unknown(options.image, ending, 'scan' if scans else 'carve')}")
    return image


def _check_range(options: Namespace, image: MappedImage) -> None:
    size_bytes = image.source.size_bytes
    if options.range is not None and options.range[0] >= size_bytes > 0:
        raise UsageError(
            f"--range begins at {options.range[0]:#x}, behind the end of {options.image} ({size_bytes:#x}, "
            f"{screen.human(size_bytes)})"
        )


def carve_into(case: Case, image: MappedImage, options: Namespace, stop: Callable[[], bool]) -> Recovery:
    """Run every carving stage in a case."""
    with screen.Bars(quiet=options.quiet) as bars:
        return recover(
            case,
            image,
            signatures.formats(),
            choices(options),
            Hooks(on_progress=bars.show, stop=stop),
            command=shlex.join(["carver", *sys.argv[1:]]),
        )


def finish(recovery: Recovery, image: MappedImage, folder: Path, options: Namespace) -> int:
    """Tell how it ended.

    Raises:
        InputError: the image was cut short meanwhile.
        StrictShortfall: with --strict, when something is damaged or was never read.
    """
    screen.tell_recovery(recovery, folder)
    if options.json:
        screen.put_json(screen.summary_json(recovery, folder))
    check_length(image)
    if options.strict:
        unread = recovery.source.unread
        damaged = sum(count for grade, count in summarise(recovery).grades_of_all.items() if not grade.good)
        if damaged or unread:
            ranges = len(unread or ())
            raise StrictShortfall(
                f"--strict: {damaged} {'file is' if damaged == 1 else 'files are'} not good, and {ranges} "
                f"{'range was' if ranges == 1 else 'ranges were'} never read"
            )
    return 0


def check_length(image: MappedImage) -> None:
    """Complain of an image that is shorter now than it was when it was opened.

    Raises:
        InputError: it is.
    """
    present_bytes, size_bytes = image.source.present_bytes(), image.source.size_bytes
    if present_bytes < size_bytes:
        raise InputError(
            f"{image.source.locator} was cut short while it was read: {screen.human(present_bytes)} of "
            f"{screen.human(size_bytes)} are left, and files behind that were not looked at, or not whole; put "
            "the whole image back and run the same command again: all of it is looked at anew"
        )


def choices(options: Namespace) -> Choices:
    """Return what the options choose.

    Raises:
        UsageError: a format that is not known, or that another one leads to which is not chosen.
    """
    known = tuple(signatures.formats())
    names = known if options.formats is None else tuple(name for name in options.formats.split(",") if name)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(f"no format {', '.join(unknown) or 'was named'}; there are {', '.join(known)}")
    if DATA in names and MODEL not in names:
        raise UsageError(f"{DATA} is found by way of its model alone: choose {MODEL},{DATA}")
    return Choices(
        formats=tuple(sorted(set(names))),
        domain=None if options.range is None else span(*options.range),
        min_size_bytes=getattr(options, "min_size", 0),
        with_md5=getattr(options, "md5", False),
        threads=check_threads(options.threads),
    )


def keep_head(case: Case, options: Namespace) -> None:
    """Keep what was given for the head of the report, beside what case.toml says.

    Raises:
        InputError: case.toml is broken: told now, not when the report is written.
    """
    keep_metadata(case, metadata_options(options))
    case_metadata(case)


def metadata_options(options: Namespace) -> dict[str, str | None]:
    """Return what was given for the head of the report."""
    return {"case": options.case_number, **{name: getattr(options, name) for name in METADATA_OPTIONS}}


def _dry_run(case: Case, image: MappedImage, options: Namespace, stop: Callable[[], bool]) -> None:
    with screen.Bars(quiet=options.quiet) as bars:
        hooks = Hooks(on_progress=bars.show, stop=stop)
        plan = plan_recovery(case, image, signatures.formats(), choices(options), hooks)
    for planned in plan.files:
        _put_planned(planned, as_json=options.json)
    needed_bytes = sum(layout_bytes(planned.layout) for planned in plan.files)
    claims = [planned.owned.claim for planned in plan.files]
    models = [claim for claim in claims if not signatures.formats()[claim.format].side]
    small = len(claims) - len(models)
    screen.say(
        f"{plural(len(models), 'file', 'files')} ({sum(claim.grade.good for claim in models)} good) "
        f"{f'and {plural(small, ONE_SMALL, SMALL)} ' if small else ''}"
        f"would take {screen.human(needed_bytes)}; none was written. Tensors' numbers are looked at only as files "
        f"are written: one that is CONSISTENT here may then be DAMAGED. {_written_by(options)}"
    )
    plan.verdicts.close()


def _written_by(options: Namespace) -> str:
    if getattr(options, "passing", False):
        return "The same command with `--out DIR` in place of --dry-run writes them."
    return "The same command without --dry-run writes them; scanning and checking are not done again."


def _put_planned(planned: Planned, *, as_json: bool) -> None:
    claim = planned.owned.claim
    grade = Grade.DAMAGED if planned.owned.contested_at_bytes is not None and claim.grade.good else claim.grade
    size_bytes = layout_bytes(planned.layout)
    if as_json:
        line = {
            "offset_bytes": claim.start_bytes,
            "format": claim.format,
            "size_bytes": size_bytes,
            "grade": grade.value,
        }
        screen.put_json(line)
    else:
        screen.put(f"{claim.start_bytes:#014x}  {size_bytes:>15}  {grade.value:<10}  {claim.format}")
