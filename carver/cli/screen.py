"""Screen: progress bars and plain sentences on stderr, results on stdout."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from carver.amounts import human_size
from carver.notices import Notice
from carver.recovery import Recovery
from carver.report.as_domain import FILE_NAME as DOMAIN_NAME
from carver.report.as_domain import missing
from carver.report.model_words import described, families_sentence, is_known, notes, telling
from carver.report.summary import summarise
from carver.report.wording import (
    copies,
    image_place,
    left_by_choice,
    nothing_came_back,
    plural,
    shared,
    simulation,
)
from carver.visible import shortened, visible
from carver.whereabouts import State
from imaging.closing import Closing
from imaging.encodings import Caution
from signatures.verdict import Grade

MEANING = {
    Grade.INTACT: "proven intact",
    Grade.CONSISTENT: "structure complete, contents unproven",
    Grade.DAMAGED: "damaged",
    Grade.TRUNCATED: "cut off at the end",
    Grade.UNDECIDED: "could not be decided",
}
UNITS = {"judging": " hits", "seeking": " models"}  # of stages that do not count bytes
LEFT = {"?": "not tried", "*": "not trimmed", "/": "not scraped"}
MODELS_TOLD = 12
UNTOLD_SIZE = {"ncols": 80, "nrows": 24}  # of a terminal that does not say how large it is
STAGES = {
    "scanning": "scanning for files",
    "judging": "checking what was found",
    "seeking": "looking for ONNX data around its models",
    "writing": "writing files",
}


def say(text: str) -> None:
    """Tell the user something; a terminal that is gone is no reason to fail."""
    with suppress(OSError), tqdm.external_write_mode(file=sys.stderr):  # above the bars that are drawn
        print(visible(text), file=sys.stderr, flush=True)


def put_json(value: Mapping[str, object]) -> None:
    """Give a machine one JSON line."""
    print(json.dumps(value, separators=(",", ":")), flush=True)


def put(text: str) -> None:
    """Give a result line."""
    print(text, flush=True)


def human(size_bytes: int) -> str:
    """Return a size for people as the reports have it, "1.5 GiB", but for bytes in full."""
    return human_size(size_bytes) if size_bytes >= 1024 else plural(size_bytes, "byte", "bytes")


def terminal_size() -> tuple[int, int] | None:
    """Return columns and rows of the terminal on stderr; None where it has none to tell (serial lines, containers)."""
    try:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return None
    return (columns, rows) if columns and rows else None


def tell_notices(notices: Iterable[Notice], *, quiet: bool = False) -> None:
    """Tell what was seen before the start (warnings only, when quiet is wished); refusals are raised elsewhere."""
    for notice in notices:
        if notice.level is not Caution.REFUSE and not (quiet and notice.level is Caution.INFO):
            mark = "warning: " if notice.level is Caution.WARN else "note: "
            say(mark + notice.line)


class Bars(Closing):
    """One progress bar for each stage, made when the stage first reports."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._stage = ""
        self._bar: tqdm[object] | None = None

    def show(self, stage: str, done: int, total: int) -> None:
        """Move the bar of `stage` to `done` of `total`: bytes, or what `UNITS` says."""
        with suppress(OSError):  # the terminal is gone: the work goes on
            self._show(stage, done, total)

    def _show(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage or self._bar is None:
            self.close()
            self._stage = stage
            in_bytes = stage not in UNITS
            self._bar = tqdm(
                total=total,
                desc=STAGES.get(stage, stage),
                unit=UNITS.get(stage, "B"),
                unit_scale=True,
                unit_divisor=1024 if in_bytes else 1000,
                **({"dynamic_ncols": True} if terminal_size() else UNTOLD_SIZE),
                file=sys.stderr,
                disable=True if self._quiet else None,  # None: where stderr is no terminal
            )
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def note(self, text: str) -> None:
        """Put a few words behind the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def close(self) -> None:
        """End the bar that is shown."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()
            self._bar = None


def tell_recovery(recovery: Recovery, folder: Path) -> None:
    """Tell what came back, what it means, and what to do next; `unread_unknown` has been told before the work.

    Args:
        recovery: what came back.
        folder: the case.
    """
    summary = summarise(recovery)
    if told := simulation(recovery):
        say(told)
    if summary.files == 0:
        say(f"No model files were found. {nothing_came_back(recovery)}")
    else:
        tallies = [f"{tally.files} {MEANING[grade]}" for grade, tally in summary.grades.items()]
        said = f"{plural(summary.files, 'model file', 'model files')}: {'; '.join(tallies)}."
        say(f"{said}{copies(summary)}{shared(summary)}")
    if summary.children:
        verb = "lies inside these and was" if summary.children == 1 else "lie inside these and were"
        say(f"{summary.children:,} more {verb} written too.")
    _tell_models(recovery)
    if summary.unread_bytes:
        say(f"{human(summary.unread_bytes)} of the source were never read.")
    say(_next_step(recovery, summary.unread_by_status, folder))


def tell_image(recovery: Recovery, folder: Path) -> None:
    """Tell of an image that was carved earlier: that it had no map, and where it is now, if not where it was."""
    if recovery.source.unread is None:
        say(unread_unknown(_image_of(recovery), f"--out {shlex.quote(str(folder))}"))
    if _state(recovery) in (State.GONE, State.CHANGED, State.HIDDEN, State.MOVED):
        say(f"The image: {image_place(recovery)}.")


def _image_of(recovery: Recovery) -> Path:
    """Return the image as a command of today names it."""
    if _state(recovery) in (State.THERE, State.MOVED):
        return Path(_whereabouts(recovery)["image_now"])
    return Path("IMAGE" if _state(recovery) in (State.GONE, State.CHANGED) else recovery.source.locator)


def _state(recovery: Recovery) -> State | None:
    where = _whereabouts(recovery)
    return State(where["state"]) if where else None


def _whereabouts(recovery: Recovery) -> Mapping[str, Any]:
    where = recovery.run.get("whereabouts")
    return where if isinstance(where, Mapping) else {}


def _tell_models(recovery: Recovery) -> None:
    """Tell what the files are, the largest first, and what is named and not there."""
    if recovery.models:
        say(families_sentence(recovery.models))
    for model in filter(is_known, telling(recovery.models, MODELS_TOLD)):
        say("; ".join([f"  {shortened(model.name)}: {described(model)}", *notes(model)]))
    known = sum(map(is_known, recovery.models))
    if known > MODELS_TOLD:
        say(f"  … and {known - MODELS_TOLD:,} more in the report")
    if recovery.side_files:
        verb = "file that tells of models was" if len(recovery.side_files) == 1 else "files that tell of models were"
        say(f"{len(recovery.side_files):,} small {verb} written, too.")
    if recovery.missing:
        verb = "file is" if len(recovery.missing) == 1 else "files are"
        say(f"{len(recovery.missing)} more {verb} named on the source and not found: the report lists them.")


def unread_unknown(image: Path, ending: str, command: str = "carve") -> str:
    """Return that no map tells what was never read of an image, and the command that names one."""
    words = shlex.join(["carver", command, str(image), "MAPFILE"])
    return (
        f"Unread sectors unknown: there is no mapfile beside the image. If there is one, name it: "
        f"`{f'{words} {ending}'.strip()}`."
    )


def _next_step(recovery: Recovery, unread_by_status: Mapping[str, int], folder: Path) -> str:
    report = f"Everything is in {folder}; open {folder / 'report.html'}."
    left = [f"{human(unread_by_status[kind])} {what}" for kind, what in LEFT.items() if unread_by_status.get(kind)]
    if left and left_by_choice(recovery):
        return (
            f"{report} A part of the drive was left out ({', '.join(left)}): the imaging command without the options "
            "that left it out goes on there."
        )
    if left:
        return f"{report} Imaging is not finished ({', '.join(left)}): run the imaging command again, then carve again."
    missing_bytes = missing(recovery).total_bytes
    if not missing_bytes:
        return report
    options = shlex.join(["-m", str(folder / DOMAIN_NAME), "-r", "3"])
    return (
        f"{report} {human(missing_bytes)} of these files were never read: the imaging command with `{options}` added "
        "tries the drive again just there."
    )


def summary_json(recovery: Recovery, folder: Path) -> dict[str, object]:
    """Return what a script wants to know of a run."""
    summary = summarise(recovery)
    return {
        "case": str(folder),
        "report": str(folder / "report.json"),
        "files": summary.files,
        "children": summary.children,
        "grades": {grade.value: tally.files for grade, tally in summary.grades.items()},
        "models": len(recovery.models),
        "side_files": len(recovery.side_files),
        "missing": len(recovery.missing),
        "unread_bytes": summary.unread_bytes,
    }
