"""Any other zip that stores weight files as they are (a wheel, an upload): a container, its weights are children."""

from __future__ import annotations

from collections.abc import Iterable

from imaging.source import Source
from imaging.window import Window
from signatures._npy import MAGIC as ARRAY_MAGIC
from signatures._torch_starts import EMPTY_PREFIX, STORED_PREFIX
from signatures._zip import ENCRYPTED, STORED, Directory, Entry, read_directory, read_local_header
from signatures._zip_grade import explained, grade_of, judge_records, size_of
from signatures._zip_records import skim_directory
from signatures._zip_starts import tail_at_end, whole_source
from signatures._zip_survey import survey_zip
from signatures.format import Format, Pattern
from signatures.verdict import DataEvidence, Grade, Verdict, rejected

WEIGHT_MAGICS = (b"\x89HDF\r\n\x1a\n", STORED_PREFIX, EMPTY_PREFIX, ARRAY_MAGIC, b"GGUF")
MIN_STORED_BYTES = 64
LOOK_BYTES = 32
MAX_LOOKS = 20_000


def validate(window: Window) -> Verdict:
    """Judge a window that starts where a zip is supposed to start; only one that stores weights is taken.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    directory = skim_directory(window)
    if directory is None or directory.tail is None:
        return rejected("no-directory", at_bytes=0)
    code = _refusal(window, directory)
    if code is not None:
        return rejected(code, at_bytes=0)
    survey = survey_zip(window, root="")
    judge_records(window, survey)
    grade = grade_of(window, survey)
    return Verdict(
        grade=grade,
        size_bytes=size_of(window, survey),
        findings=tuple(survey.findings),
        facts={"weights": _weights(window, directory)[:1000], "members": len(directory.entries)},
        data_evidence=DataEvidence.CHECKSUM if grade is Grade.INTACT else DataEvidence.NONE,
        explained=explained(window, survey),
    )


def _refusal(window: Window, directory: Directory) -> str | None:
    """Return why this zip is not taken, None when it is."""
    names = {entry.name for entry in directory.entries}
    if any(name.endswith("/data.pkl") for name in names) and any("/data/" in name for name in names):
        return "own-format"
    if {"metadata.json", "config.json"} <= names or all(name.endswith(".npy") for name in names):
        return "own-format"
    return None if _weights(window, directory) else "no-stored-weights"


def _weights(window: Window, directory: Directory) -> list[str]:
    """Return the names of the stored members that begin as a weight file does."""
    stored = [
        entry
        for entry in directory.entries
        if entry.method == STORED and entry.size_bytes >= MIN_STORED_BYTES and not entry.flags & ENCRYPTED
    ]
    return [entry.name for entry in stored[:MAX_LOOKS] if _is_weights(window, entry)]


def _is_weights(window: Window, entry: Entry) -> bool:
    header = read_local_header(window, entry.offset_bytes)
    if header is None:
        return False
    head = window.read_at(header.data_offset_bytes, LOOK_BYTES)
    if head.startswith(WEIGHT_MAGICS):
        return True
    if entry.name.endswith(".onnx"):
        return head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x3a")
    header_bytes = int.from_bytes(head[:8], "little")
    return head[8:10] == b'{"' and header_bytes <= entry.size_bytes - 8


def archive_starts(source: Source, hit_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the start of a zip by its end record, when its directory names weights stored as they are."""
    window = whole_source(source)
    tail = tail_at_end(window, hit_bytes)
    if tail is None:
        return ()
    inside = window.part(tail.start_bytes, tail.end_bytes - tail.start_bytes)
    directory = read_directory(inside, tail.directory_offset_bytes)
    return (tail.start_bytes,) if _refusal(inside, directory) is None else ()


FORMAT = Format(
    name="zip_archive",
    suffix=".zip",
    title="Zip archive with weight files stored inside (wheels and the like)",
    patterns=(Pattern(bytes=b"PK\x05\x06\x00\x00\x00\x00", name="tail"),),
    validate=validate,
    proves="every member is under a CRC-32 that was computed",
    starts=archive_starts,
    container=True,
)
