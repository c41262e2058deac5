"""Recover: from an image to a case with its files and reports, by the stages in order."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata as packages
from pathlib import Path
from typing import Any

from carver import __version__, metadata
from carver.acquired import acquisition_of, simulation_map
from carver.case import METADATA, Case
from carver.identify.elsewhere import elsewhere
from carver.identify.missing import missing_files
from carver.identify.models import assemble
from carver.recovery import CaseMetadata, Recovery, SourceRecord
from carver.report import write_reports
from carver.stagelog import StageLog
from carver.stages import Choices, Hooks
from carver.stages.claiming import Planned, plan_files
from carver.stages.cut_short import note_if_cut_short
from carver.stages.extracting import extract_files
from carver.stages.gathering import gather_models
from carver.stages.judging import judge_hits, rejected_counts
from carver.stages.scanning import never_read, scan_image
from carver.stages.seeking import sought_data
from carver.verdict_json import carved_files, elsewhere_from_json, kept_models
from carver.whereabouts import looked_up, whereabouts
from imaging.errors import InputError
from imaging.image import MappedImage
from signatures.format import Format

FILES = "files.jsonl"
STANDS_ON = ("numpy", "numba", "pyahocorasick", "construct")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What carving an image comes to before a file is written.

    Attributes:
        files: what would be written, in order.
        verdicts: the log of all verdicts.
    """

    files: list[Planned]
    verdicts: StageLog


def plan_recovery(
    case: Case, image: MappedImage, formats: Mapping[str, Format], choices: Choices, hooks: Hooks
) -> Plan:
    """Scan, judge and settle: everything but writing. What is done is kept, so that carving goes on from here."""
    with closing(scan_image(case, image, formats, choices, hooks)) as store:
        verdicts = judge_hits(case, image, store, formats, choices, hooks)
    return Plan(files=plan_files(image, verdicts, formats, choices), verdicts=verdicts)


def recover(
    case: Case,
    image: MappedImage,
    formats: Mapping[str, Format],
    choices: Choices,
    hooks: Hooks,
    *,
    command: str,
) -> Recovery:
    """Run every stage, write the reports, and return the record.

    Raises:
        Interrupted: stopped; what is done is kept.
        OutputError: the case folder cannot be written.
    """
    started = _now()
    plan = plan_recovery(case, image, formats, choices, hooks)
    with closing(plan.verdicts):
        extract_files(case, image, plan.verdicts, plan.files, formats, choices, hooks).close()
        rejected, sought = rejected_counts(plan.verdicts), sought_data(plan.verdicts)
    del plan  # a million claims and layouts
    note_if_cut_short(case, image)
    unread = never_read(image, case.folder)
    lost = elsewhere(carved_files(case.folder / FILES)[0], case.folder, hooks.stop)
    case.note(
        run={
            "command": command,
            "started": started,
            "ended": _now(),
            "host": platform.node(),
            "system": platform.platform(),
            "acquisition": acquisition_of(image),
            "whereabouts": whereabouts(image, case.folder),
            "chosen": _chosen(choices, formats),
        },
        carved={
            "source": {
                "size_bytes": image.source.size_bytes,
                "unread": None if unread is None else [list(block) for block in unread],
            },
            "rejected": rejected,
            "sought": sought,
            "elsewhere": [asdict(one) for one in lost],
        },
    )
    recovery = load_recovery(case)
    gather_models(recovery, case.folder)
    write_reports(recovery, case.folder)
    return recovery


def load_recovery(case: Case) -> Recovery:
    """Return the record of a case whose files were written.

    Raises:
        InputError: the case has not come so far.
    """
    carved = case.binding.get("carved")
    path = case.folder / FILES
    if carved is None or not path.is_file():
        raise InputError(f"nothing was carved in {case.folder} yet; run `carver rescue` or `carver carve` on it first")
    files, side_files = carved_files(path)
    source = case.binding["source"]
    unread = carved["source"]["unread"]
    return Recovery(
        tool=_tool(),
        run=_run_of(case, carved["source"]["size_bytes"]),
        case=case_metadata(case),
        source=SourceRecord(
            locator=source["locator"],
            size_bytes=carved["source"]["size_bytes"],
            identity=source["identity"],
            unread=None if unread is None else tuple((o, s, status) for o, s, status in unread),
        ),
        files=files,
        rejected=carved["rejected"],
        side_files=side_files,
        missing=missing_files(files, side_files, carved.get("sought", ())),
        models=assemble(files, side_files, partial(kept_models, case.folder)),
        elsewhere=elsewhere_from_json(carved.get("elsewhere", ())),
    )


def _chosen(choices: Choices, formats: Mapping[str, Format]) -> dict[str, Any]:
    """Return what was left out by choice: what is not there is no finding about the source."""
    told: dict[str, Any] = {}
    if set(choices.formats) != set(formats):
        told["formats"] = list(choices.formats)
    if choices.domain is not None:
        told["range"] = [choices.domain.offset_bytes, choices.domain.end_bytes]
    if choices.min_size_bytes:
        told["min_size_bytes"] = choices.min_size_bytes
    return told


def _run_of(case: Case, size_bytes: int) -> dict[str, Any]:
    """Return what is on record of the run, with what only now can be told of it."""
    run = dict(case.binding["run"])
    if "whereabouts" in run:  # not in cases of earlier versions
        run["whereabouts"] = looked_up(run["whereabouts"], case.folder, size_bytes)
    test_map = simulation_map(run.get("acquisition"))
    return run if test_map is None else {**run, "test_mode": test_map}


def case_metadata(case: Case) -> CaseMetadata:
    """Return what the lab wrote: case.toml, with what was given as options in its place."""
    path = case.folder / METADATA
    written = metadata.load(path) if path.is_file() else CaseMetadata()
    return metadata.merge(written, **case.binding.get("metadata", {}))


def keep_metadata(case: Case, options: Mapping[str, str | None]) -> None:
    """Begin case.toml with the options, or remember them where the file is there already."""
    given = {key: value for key, value in options.items() if value is not None}
    if not metadata.write_template(case.folder / METADATA, replace(CaseMetadata(), **given)) and given:
        case.note(metadata={**case.binding.get("metadata", {}), **given})


def _tool() -> dict[str, object]:
    return {
        "name": "carver",
        "version": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "libraries": {name: packages.version(name) for name in STANDS_ON},
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def image_paths(folder: Path) -> tuple[Path, Path]:
    """Return where a case keeps the image of a drive and its map."""
    return folder / "image.raw", folder / "image.raw.map"
