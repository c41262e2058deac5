"""Any other zip that stores weight files as they are (a wheel, an upload): a container, its weights are children.

So is a zip that stores such a zip, or one of a weight format's own (Keras, NumPy): the innermost owns the weights.
"""

from __future__ import annotations

from collections.abc import Iterable

from imaging.source import Source
from imaging.window import Window
from signatures._npy import MAGIC as ARRAY_MAGIC
from signatures._torch_starts import EMPTY_PREFIX, STORED_PREFIX
from signatures._zip import (
    ENCRYPTED,
    END,
    END_BYTES,
    LOCAL,
    MAX_ENTRIES_AT_A_HIT,
    STORED,
    Directory,
    Entry,
    read_directory,
    read_local_header,
)
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
MAX_INNER_LEVELS = 2
MAX_INNER_ZIPS = 64  # opened in all
MAX_INNER_ENTRIES = 100_000  # of all of them
MAX_INNER_DIRECTORY_BYTES = 1 << 20
MAX_END_BYTES = END_BYTES + 0xFFFF  # with the longest comment


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
        facts={"weights": _weights(window, directory)[:1000], "members": len(directory.entries)} | _suffix(directory),
        data_evidence=DataEvidence.CHECKSUM if grade is Grade.INTACT else DataEvidence.NONE,
        explained=explained(window, survey),
    )


def _suffix(directory: Directory) -> dict[str, object]:
    """Return what an exported program of torch 2.1 to 2.6 is called, whose weights are a torch zip inside."""
    exported = any(entry.name == "serialized_exported_program.json" for entry in directory.entries)
    return {"suffix": ".pt2"} if exported else {}


def _refusal(window: Window, directory: Directory) -> str | None:
    """Return why this zip is not taken, None when it is."""
    if _is_own_format(directory):
        return "own-format"
    return None if _weights(window, directory) or _holds_weight_zip(window, directory) else "no-stored-weights"


def _is_own_format(directory: Directory) -> bool:
    """Tell whether it is a PyTorch, Keras or NumPy file by the names of its members."""
    names = {entry.name for entry in directory.entries}
    if any(name.endswith("/data.pkl") for name in names) and any("/data/" in name for name in names):
        return True
    return {"metadata.json", "config.json"} <= names or all(name.endswith(".npy") for name in names)


def _weights(window: Window, directory: Directory) -> list[str]:
    """Return the names of the stored members that begin as a weight file does."""
    return [entry.name for entry in _stored(directory)[:MAX_LOOKS] if _is_weights(window, entry)]


def _stored(directory: Directory) -> list[Entry]:
    """Return the members whose contents lie in the file as they are."""
    return [
        entry
        for entry in directory.entries
        if entry.method == STORED and entry.size_bytes >= MIN_STORED_BYTES and not entry.flags & ENCRYPTED
    ]


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


def _holds_weight_zip(window: Window, directory: Directory) -> bool:
    """Tell whether a stored member is a zip that stores weights or is of a weight format, or holds such a zip."""
    waiting, opened, listed_entries = [(window, directory, 1)], 0, 0
    for outer, listed, level in waiting:  # grows as it is walked
        for entry in _stored(listed)[:MAX_LOOKS]:
            inner = _inner_zip(outer, entry)
            if inner is None:
                continue
            opened += 1
            listed_entries += len(inner[1].entries)
            if opened > MAX_INNER_ZIPS or listed_entries > MAX_INNER_ENTRIES:
                return False
            if _is_own_format(inner[1]) or _weights(*inner):
                return True
            if level < MAX_INNER_LEVELS:
                waiting.append((*inner, level + 1))
    return False


def _inner_zip(window: Window, entry: Entry) -> tuple[Window, Directory] | None:
    """Return a stored member as a zip of its own, and its directory; None when it is none."""
    header = read_local_header(window, entry.offset_bytes)
    if header is None or window.read_at(header.data_offset_bytes, len(LOCAL)) != LOCAL:
        return None
    inner = window.part(header.data_offset_bytes, entry.size_bytes)
    last_bytes = max(0, inner.size_bytes - MAX_END_BYTES)
    at = inner.read_at(last_bytes, MAX_END_BYTES).rfind(END)  # a comment may follow it
    tail = tail_at_end(inner, last_bytes + at) if at >= 0 else None
    if tail is None or tail.start_bytes or tail.directory_bytes > MAX_INNER_DIRECTORY_BYTES:
        return None
    directory = read_directory(inner, tail.directory_offset_bytes)
    return (inner, directory) if directory.entries else None


def archive_starts(source: Source, hit_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the start of a zip by its end record, when its directory names weights stored as they are."""
    window = whole_source(source)
    tail = tail_at_end(window, hit_bytes)
    if tail is None:
        return ()
    inside = window.part(tail.start_bytes, tail.end_bytes - tail.start_bytes)
    directory = read_directory(inside, tail.directory_offset_bytes, max_entries=MAX_ENTRIES_AT_A_HIT)
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
