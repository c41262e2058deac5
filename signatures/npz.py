"""NumPy .npz: a zip of .npy arrays, as numpy.savez and savez_compressed of any age, or a zip program, write it.

Recent numpy is known by its local headers. Older ones (Python 2, sizes before the data, the day's date, no zip64
field) look like any other zip's: they are found from the end record, when the directory names nothing but arrays.
"""

from __future__ import annotations

from collections.abc import Iterable

from imaging.extent import Extent, Layout
from imaging.source import Source
from imaging.window import Window
from signatures._npy import MAX_HEADER_BYTES, ArrayHeader, read_array_header
from signatures._pickle import read_pickle
from signatures._zip import (
    DESCRIPTOR,
    END,
    LOCAL,
    MAX_ENTRIES_AT_A_HIT,
    NARROW_DESCRIPTOR_BYTES,
    STORED,
    WIDE_DESCRIPTOR_BYTES,
    read_directory,
    read_entry,
    read_local_header,
)
from signatures._zip_grade import explained, grade_of, judge_records, record_grade, size_of
from signatures._zip_records import Record, contents, record_contents
from signatures._zip_starts import tail_at_end, whole_source
from signatures._zip_survey import Survey, survey_zip
from signatures.format import Format, Pattern
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Grade, Verdict, rejected

LOOK_BACK_BYTES = 1 << 16
SECTOR_BYTES = 512
MAX_PICKLE_BYTES = 16 << 20
MAX_UNSAFE = 16
TAIL_NAME = "tail"
_DATE = b"\x00\x00\x21\x00"  # numpy leaves the date at 1980-01-01
SUFFIX = ".npy"

PATTERNS = (
    Pattern(bytes=LOCAL + b"\x2d\x00\x00\x00\x00\x00" + _DATE, name="stored"),
    Pattern(bytes=LOCAL + b"\x2d\x00\x00\x00\x08\x00" + _DATE, name="deflated"),
    Pattern(bytes=LOCAL + b"\x2d\x00\x08\x00\x00\x00" + _DATE, name="streamed"),
    Pattern(bytes=LOCAL + b"\x2d\x00\x08\x00\x08\x00" + _DATE, name="streamed deflated"),
    Pattern(bytes=LOCAL + b"\x14\x00\x00\x00\x00\x00" + _DATE, name="stored, version 2.0"),
    Pattern(bytes=LOCAL + b"\x14\x00\x00\x00\x08\x00" + _DATE, name="deflated, version 2.0"),
    Pattern(bytes=END + bytes(4), name=TAIL_NAME),
)


def validate(window: Window) -> Verdict:
    """Judge a window that starts where an .npz is supposed to start.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    first = read_local_header(window, 0)
    if first is not None and not first.name.endswith(SUFFIX):
        return rejected("not-npz", at_bytes=0, detail="the first member is no .npy")
    survey = survey_zip(window, root="")
    if first is None and not _has_directory(survey):
        return rejected("not-npz", at_bytes=0, detail="no member, and no directory that tells of one")
    if survey.missing_head_bytes:
        return rejected("starts-earlier", at_bytes=0, detail="an inner member of a longer zip")
    if not all(record.name.endswith(SUFFIX) for record in survey.records):
        return rejected("not-npz", detail="members that are no arrays")
    judge_records(window, survey)
    last = {record.name: record for record in survey.records}  # what numpy reads of several with one name
    arrays = [(one, _head(window, one)) for one in survey.records if last[one.name] is one]
    tensors = tuple(_array(window, survey, one, head) for one, head in arrays)
    grade = grade_of(window, survey)
    if grade.good and "array-size-mismatch" in survey.codes:
        grade = Grade.DAMAGED
    inside = [one.data_offset_bytes for one, head in arrays if head is not None] if grade.good else []
    return Verdict(
        grade=grade,
        size_bytes=size_of(window, survey),
        findings=tuple(survey.findings),
        tensors=tensors,
        facts={"arrays": len(tensors), "compressed": any(record.method for record in survey.records)},
        data_evidence=DataEvidence.CHECKSUM if grade is Grade.INTACT else DataEvidence.NONE,
        explained=(*explained(window, survey), *inside),  # a good archive's arrays are tensors, no files
    )


def _has_directory(survey: Survey) -> bool:
    """Tell whether a directory was found whose file begins where the window does."""
    return bool(survey.records) and survey.directory is not None and survey.directory.tail is not None


def _array(window: Window, survey: Survey, record: Record, head: ArrayHeader | None) -> Tensor:
    """Describe one member as a tensor; a member without an array header is told, and bytes as numpy loads it.

    Of what is damaged or unchecked neither type nor shape is known: as bytes, one parameter was counted as four.
    """
    grade = record_grade(window, record)
    if head is None and not record.lost:  # of such it is told already
        survey.note("array-header", record.data_offset_bytes, f"{record.name} has no NumPy array header")
    if head is not None and head.dtype == "object":
        survey.note("object-array", record.data_offset_bytes, f"{record.name} is a pickle; it is never loaded")
        _tell_unsafe(window, survey, record, head)
    if head is not None and head.size_bytes not in (None, record.size_bytes):
        what = f"{record.name} has {record.size_bytes} bytes, its header wants {head.size_bytes}"
        survey.note("array-size-mismatch", record.data_offset_bytes, what)
        grade = Grade.DAMAGED
    dtype, shape = ("uint8", (record.size_bytes,)) if grade is Grade.INTACT else ("unknown", ())
    return Tensor(
        name=record.name.removesuffix(SUFFIX),
        dtype=head.dtype if head else dtype,
        shape=head.shape if head else shape,
        layout=_layout(record, head),
        grade=grade.value,
    )


def _tell_unsafe(window: Window, survey: Survey, record: Record, head: ArrayHeader) -> None:
    raw = record_contents(window, record, limit_bytes=MAX_PICKLE_BYTES) or b""
    for name in read_pickle(raw[head.data_offset_bytes :]).unsafe[:MAX_UNSAFE]:
        survey.note("unsafe-global", record.data_offset_bytes, f"loading {record.name} would import {name}")


def _head(window: Window, record: Record) -> ArrayHeader | None:
    raw = b""
    wanted_bytes = min(record.size_bytes, MAX_HEADER_BYTES + 12)
    if record.method == STORED:
        raw = window.read_at(record.data_offset_bytes, wanted_bytes)
    else:
        for piece in contents(window, record.method, record.data_offset_bytes, record.packed_bytes, record.size_bytes):
            raw += piece
            if len(raw) >= wanted_bytes:
                break
    return read_array_header(raw)


def _layout(record: Record, head: ArrayHeader | None) -> Layout:
    if record.method != STORED:
        return (Extent(offset_bytes=record.data_offset_bytes, size_bytes=record.packed_bytes),)
    skip_bytes = min(head.data_offset_bytes if head else 0, record.packed_bytes)
    size_bytes = record.packed_bytes - skip_bytes
    return (Extent(offset_bytes=record.data_offset_bytes + skip_bytes, size_bytes=size_bytes),) if size_bytes else ()


def npz_starts(source: Source, hit_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the hit when its member is an .npy and no other member is seen to end right before it.

    For an end record: where its directory says that the file starts, when it names arrays only.
    """
    window = whole_source(source)
    if pattern.name == TAIL_NAME:
        return _from_end(window, hit_bytes)
    header = read_local_header(window, hit_bytes)
    if header is None or not header.name.endswith(SUFFIX):
        return ()
    if hit_bytes % SECTOR_BYTES and _ends_here(window, hit_bytes):
        return ()
    return (hit_bytes,)


def _from_end(window: Window, hit_bytes: int) -> Iterable[int]:
    tail = tail_at_end(window, hit_bytes)
    if tail is None:
        return ()
    inside = window.part(tail.start_bytes, tail.end_bytes - tail.start_bytes)
    first = read_entry(inside, tail.directory_offset_bytes)  # most zips are told apart by this look
    if first is None or not first[0].name.endswith(SUFFIX):
        return ()
    entries = read_directory(inside, tail.directory_offset_bytes, max_entries=MAX_ENTRIES_AT_A_HIT).entries
    return (tail.start_bytes,) if all(entry.name.endswith(SUFFIX) for entry in entries) else ()


def _ends_here(window: Window, hit_bytes: int) -> bool:
    back_bytes = min(hit_bytes, LOOK_BACK_BYTES)
    before = window.read_at(hit_bytes - back_bytes, back_bytes)
    if DESCRIPTOR in (before[-WIDE_DESCRIPTOR_BYTES:][:4], before[-NARROW_DESCRIPTOR_BYTES:][:4]):
        return True
    at = before.rfind(LOCAL)
    header = read_local_header(window, hit_bytes - back_bytes + at) if at >= 0 else None
    return header is not None and header.data_offset_bytes + header.packed_bytes == hit_bytes


FORMAT = Format(
    name="npz",
    suffix=".npz",
    title="NumPy archive of arrays (.npz)",
    patterns=PATTERNS,
    validate=validate,
    proves="every array, header and data, is under a CRC-32 that was computed",
    starts=npz_starts,
    container=True,
)
