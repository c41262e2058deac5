"""Wording: what the report's words mean, said once, for people who did not write the tool."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carver.amounts import human_size
from carver.recovery import Recovery
from carver.report.code_words import FAILED, GROUPS
from carver.report.summary import Summary
from carver.whereabouts import State
from imaging.extent import span
from signatures.verdict import DataEvidence, Grade, LayoutBasis

NOTHING_CAME_BACK = (
    "If there should be model files: was it the right drive, and the whole of it? Files deleted from an SSD are mostly "
    "gone within minutes (TRIM); encrypted or compressed volumes must be opened first."
)
UNREAD_UNKNOWN = "unread sectors unknown: no mapfile was found"


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeWords:
    """A grade, for people.

    Attributes:
        label: two or three words.
        one: in a sentence, after a number.
        proves: what may be concluded.
        does_not: what may not.
    """

    label: str
    one: str
    proves: str
    does_not: str


GRADES: Mapping[Grade, GradeWords] = {
    Grade.INTACT: GradeWords(
        label="Proven intact",
        one="proven intact",
        proves="The structure is complete, and every tensor byte is under a checksum in the file that was computed "
        "again and agrees (or the whole file has a known hash).",
        does_not="That the model was any good, that it is the newest version, or that nobody changed it before it was "
        "stored: a checksum guards against accidents, not against intent.",
    ),
    Grade.CONSISTENT: GradeWords(
        label="Structure complete, contents unproven",
        one="structure complete but contents unproven",
        proves="Every header, offset and length fits together, the file has its exact length, and nothing that was "
        "looked at speaks against the contents.",
        does_not="That the weights are right. The format keeps no checksum over them, so a changed byte inside a "
        "tensor would not be seen. Compare the SHA-256 with the publisher's to prove it.",
    ),
    Grade.DAMAGED: GradeWords(
        label="Damaged",
        one="damaged",
        proves="This was such a file, and something in it is wrong, was never read or cannot be reached: the tensors "
        "listed as hit, or parts of its structure, as its findings tell.",
        does_not="That the tensors not listed are right, unless they are proven by a checksum of their own; nor that "
        "the list of tensors is whole, where structure is broken.",
    ),
    Grade.TRUNCATED: GradeWords(
        label="End missing",
        one="with the end missing",
        proves="The file begins here, and its own headers ask for more bytes than are there.",
        does_not="Where the rest is, or that it still exists.",
    ),
    Grade.UNDECIDED: GradeWords(
        label="Undecided",
        one="undecided",
        proves="Something that looks like such a file was found, and is kept.",
        does_not="Anything about it: the examination failed or ran out of its limits.",
    ),
}

LAYOUTS: Mapping[LayoutBasis, str] = {
    LayoutBasis.PROVEN: "a checksum over the data, or a known hash, fits only these bytes in this order",
    LayoutBasis.MAPPED: "the extents come from the file system's own metadata",
    LayoutBasis.CONTIGUOUS: "taken as one run from its first byte; the structure fits, but for data without a checksum "
    "the format cannot show that no foreign piece lies between",
    LayoutBasis.PROBABLE: "pieces put together by statistics; treat the contents as a lead",
}

EVIDENCE: Mapping[DataEvidence, str] = {
    DataEvidence.HASH: "the whole file has a known hash",
    DataEvidence.CHECKSUM: "every tensor byte is under a checksum that agrees",
    DataEvidence.PLAUSIBLE: "the numbers look like weights of their type; this is no proof",
    DataEvidence.NONE: "nothing speaks for the contents but the structure around them",
}

STATUSES: Mapping[str, str] = {
    "-": "bad sector",
    "/": "not scraped",
    "*": "not trimmed",
    "?": "not tried",
}

STATUS_MEANS: Mapping[str, str] = {
    "-": "the drive answered with an error",
    "/": "inside a bad area, not yet read sector by sector",
    "*": "at the edge of a bad area, not yet trimmed",
    "?": "no read was tried yet",
}


def plural(count: int, one: str, many: str) -> str:
    """Return "1 file" or "1,204 files"."""
    return f"{count:,} {one if count == 1 else many}"


def headline(recovery: Recovery, summary: Summary) -> list[str]:
    """Return what was found, in a few plain sentences."""
    left_out = [said] if (said := chosen(recovery)) else []
    return [_came_back(summary), *left_out, *_children(summary), _never_read(recovery, summary)]


def chosen(recovery: Recovery) -> str:
    """Return which files alone were looked for, as a sentence; "" where all were."""
    choice = recovery.run.get("chosen")
    choice = choice if isinstance(choice, Mapping) else {}
    words = []
    if "formats" in choice:
        words.append(f"of the chosen formats ({', '.join(choice['formats'])})")
    if "range" in choice:
        start, end = choice["range"]
        words.append(
            f"that begin in the chosen range ({span(start, max(start, min(end, recovery.source.size_bytes)))})"
        )
    if "min_size_bytes" in choice:
        words.append(f"of at least {human_size(choice['min_size_bytes'])}")
    return f"Only files {' and '.join(words)} were looked for." if words else ""


def nothing_came_back(recovery: Recovery) -> str:
    """Return what to look at when no file came back."""
    if not (said := chosen(recovery)):
        if left_by_choice(recovery):
            return "Only a part of the drive was read, as the options of the imaging command asked."
        return NOTHING_CAME_BACK
    return f"{said} The same command without that choice looks for all."


def _came_back(summary: Summary) -> str:
    if not summary.files:
        return "No file came back."
    parts = [f"{tally.files:,} {GRADES[grade].one}" for grade, tally in summary.grades.items()]
    return f"{plural(summary.files, 'file', 'files')} came back: {', '.join(parts)}.{copies(summary)}{shared(summary)}"


def shared(summary: Summary) -> str:
    """Return how many of the files share bytes of the source, as a sentence behind another; "" for none."""
    if not summary.sharing:
        return ""
    return (
        f" {len(summary.sharing):,} of them share bytes with another one of them: a file that lies in pieces or was "
        "overwritten and what lies there now, or two readings of one that is damaged."
    )


def copies(summary: Summary) -> str:
    """Return how many of the files are in front of the reader twice, as a sentence behind another; "" for none."""
    if not summary.copies:
        return ""
    them = "is a copy, byte for byte, of another" if summary.copies == 1 else "are copies, byte for byte, of others"
    return f" {summary.copies:,} of them {them}."


def _children(summary: Summary) -> list[str]:
    if not summary.children:
        return []
    verb = "lies" if summary.children == 1 else "lie"
    return [f"{plural(summary.children, 'further file', 'further files')} {verb} inside them."]


def _never_read(recovery: Recovery, summary: Summary) -> str:
    if summary.unread_bytes is None:
        return f"{UNREAD_UNKNOWN[0].upper()}{UNREAD_UNKNOWN[1:]}."
    if not summary.unread_bytes:
        return "Every byte of the source was read."
    share = summary.unread_bytes / max(recovery.source.size_bytes, 1)
    shown = f"{share:.1%}" if share >= 0.001 else "less than 0.1%"
    return f"{human_size(summary.unread_bytes)} of the source ({shown}) was never read."


def hit(hits: int, tensors: int) -> str:
    """Return how many tensors of a damaged file are hit."""
    if not tensors:
        return "No list of tensors could be read."
    if not hits:
        return f"None of the {plural(tensors, 'tensor', 'tensors')} that can be reached is hit."
    return f"{hits:,} of {plural(tensors, 'tensor', 'tensors')} {'is' if hits == 1 else 'are'} hit."


def lost(facts: Mapping[str, object]) -> str:
    """Return what of a file cannot be reached, and so is in no list of tensors; "" where nothing tells of any."""
    objects, groups = facts.get("lost_objects", 0), facts.get("groups_with_lost_names", 0)
    said = []
    if isinstance(objects, int) and objects:
        said.append(
            f"At least {plural(objects, 'object (group or dataset) cannot', 'objects (groups or datasets) cannot')} be "
            "reached, since the head of each is broken. A group takes all below it along."
        )
    if isinstance(groups, int) and groups:
        said.append(
            f"In {plural(groups, 'group', 'groups')} names are broken: what they led to cannot be reached, and its "
            "number is not known."
        )
    return " ".join(
        [*said, "What lies there is not in the list of tensors, and neither whole nor hit."] if said else []
    )


def simulation(recovery: Recovery) -> str:
    """Return that the damage was not a drive's; "" where a drive was read."""
    test_map = recovery.run.get("test_mode")
    if not test_map:
        return ""
    return (
        f"TEST MODE: no drive failed. The image was made of {recovery.source.locator}, and what could not be read of "
        f"that is what the map {test_map} says. This report shows what carver does; it is no finding about a drive."
    )


def image_place(recovery: Recovery) -> str:
    """Return where the image is, or was; "" where that is not on record."""
    where = recovery.run.get("whereabouts")
    if not isinstance(where, Mapping):
        return ""
    was, now = where["image"], where["image_now"]
    said = {
        State.THERE: f"{was}; still there when this report was written",
        State.MOVED: f"{now}; when it was carved it was {was}",
        State.CHANGED: f"{was} when it was carved; what is there now is not it: another length, or no file",
        State.GONE: f"{was} when it was carved; not there any more when this report was written",
        State.HIDDEN: f"{was} when it was carved; whether it is still there could not be seen by who wrote this report",
        State.DEVICE: f"none was made: {was} was read directly, as the drive was named then",
    }
    return said[State(where["state"])]


def _moved(recovery: Recovery) -> str:
    """Return that the case folder has another name now than in the commands on record."""
    where = recovery.run.get("whereabouts")
    if not isinstance(where, Mapping) or where["case_folder"] == where["case_folder_now"]:
        return ""
    return f" The case folder was {where['case_folder']} then and is {where['case_folder_now']} now: name that."


def left_by_choice(recovery: Recovery) -> bool:
    """Tell whether what was not tried was left out by the options of the imaging command, which came to its end."""
    last = _last_session(recovery)
    left = any(status in "?*/" for _, _, status in recovery.source.unread or ())
    return left and last.get("outcome") == "finished" and bool(last.get("options"))


def _last_session(recovery: Recovery) -> Mapping[str, Any]:
    acquisition = recovery.run.get("acquisition")
    sessions = acquisition.get("sessions") if isinstance(acquisition, Mapping) else None
    return sessions[-1] if sessions else {}


def _going_on(recovery: Recovery) -> str:
    """Return how the rescue goes on: by the command that made the image, as far as that is on record."""
    command = _last_session(recovery).get("command")
    if left_by_choice(recovery):
        named = f" (`{shlex.join(command)}`)" if command else ""
        return (
            f"Some of the drive was left out by options of the imaging command{named}: without them it goes on there."
        )
    run = str(recovery.run.get("command", ""))
    if run.startswith("carver rescue "):
        return f"Run the same command again (`{run}`): it goes on where it stopped.{_moved(recovery)}"
    imaged = f"`{shlex.join(command)}`" if command else "The command that made the image and its mapfile"
    return f"{imaged}, run again, goes on where it stopped; then carve again."


def next_steps(recovery: Recovery, summary: Summary) -> list[str]:
    """Return what to do next, most urgent first."""
    grades = set(summary.grades_of_all)
    status = summary.unread_by_status
    steps = [] if summary.files else [nothing_came_back(recovery)]
    if summary.unread_bytes is None:
        steps.append(
            "If the image came from a failing drive, put its mapfile beside it (IMAGE.map) and carve again: without "
            "it, a range that was never read cannot be told from zeros."
        )
    if any(status.get(kind) for kind in "?*/"):
        unfinished = "" if left_by_choice(recovery) else "The rescue is not finished. "
        steps.append(
            f"{unfinished}{_going_on(recovery)} A failing drive should not be powered for anything else first."
        )
    elif status.get("-"):
        steps.append(
            "Every reachable sector was tried. Further retry passes may still win some of the bad ones; if the "
            "damaged files matter, weigh that against the wear, or ask a clean-room service before it gets worse."
        )
    steps += _steps_by_code(summary)
    if grades & {Grade.DAMAGED, Grade.TRUNCATED}:
        steps.append(
            "For the damaged files, see which tensors are hit, and which recovered files have them whole: a checkpoint "
            "can often be repaired from a copy or an older one, and layers that are not hit can be used with care."
        )
    if Grade.CONSISTENT in grades:
        steps.append(
            "To prove a file whose contents are unproven, compare its SHA-256 with the publisher's or a backup's, or "
            "run the model on inputs with known outputs."
        )
    if any(model.missing_shards for model in recovery.models):
        steps.append(
            "Some models lack files (see Models). Look for just those in backups: a library that fills the gaps with "
            "random numbers makes a model that loads and is wrong."
        )
    if any(file.sha256 for file in recovery.missing):
        steps.append(
            "Files that are named by their SHA-256 and were not found can be fetched again where they came from; the "
            "hash finds exactly the right one (git lfs fetch, or the publisher's list)."
        )
    if Grade.UNDECIDED in grades and GROUPS.index(FAILED) not in summary.code_groups:
        steps.append("Look at the undecided files by hand; they are kept as they were found.")
    if any("pytorch" in name for name in summary.formats):
        steps.append(
            "Do not unpickle a recovered PyTorch file from a source you do not trust: use torch.load(…, "
            "weights_only=True). Carver itself executes nothing that it recovers."
        )
    steps.append("Work on copies. Keep the image, its mapfile and this case folder together.")
    return steps


def _steps_by_code(summary: Summary) -> list[str]:
    """Return what the findings call for."""
    said = []
    for number, group in enumerate(GROUPS):
        if group.step and number in summary.code_groups:
            files = plural(summary.code_groups[number], "file", "files")
            said.append(group.step.format(files=files))
    return said
