"""What a survey's records say of a file: findings for each, and the grade of the whole."""

from __future__ import annotations

from collections import Counter

from imaging.window import Window
from signatures._zip import CENTRAL_BYTES, ENCRYPTED, END_BYTES, LOCATOR_BYTES, ZIP64_END_BYTES, read_tail
from signatures._zip_records import Record
from signatures._zip_survey import Survey
from signatures.verdict import Grade

DAMAGE_CODES = frozenset(
    (
        "crc-mismatch",
        "record-cut",
        "record-header-lost",
        "directory-mismatch",
        "directory-damaged",
        "overlapping-records",
        "unlisted-record",
        "missing-head",
        "unread",
    )
)
CAPPING_CODES = frozenset(("crc-absent", "encrypted", "method-unknown"))


def judge_records(window: Window, survey: Survey) -> None:
    """Add one finding for each record that is not proven."""
    absent = 0
    methods: Counter[int] = Counter()
    for record in survey.records:
        if record.unproven:
            absent += 1
            if window.unread_within(record.data_offset_bytes, record.packed_bytes):
                survey.note("unread", record.data_offset_bytes, f"parts of {record.name} were never read")
        elif record.whole and record.opaque and not record.flags & ENCRYPTED:
            methods[record.method] += 1
        elif not record.headless:
            _judge_record(survey, record)
    if absent:
        survey.note("crc-absent", None, f"{absent} records were written without a CRC-32")
    for method, count in methods.items():
        what = f"{count} records are packed by method {method}, which is not undone here; their CRC-32 is unchecked"
        survey.note("method-unknown", None, what)
    if survey.missing_head_bytes:
        survey.note("missing-head", 0, f"the first {survey.missing_head_bytes} bytes of the file are not here")


def _judge_record(survey: Survey, record: Record) -> None:
    if record.flags & ENCRYPTED:
        survey.note("encrypted", record.offset_bytes, f"{record.name} is encrypted; its CRC-32 cannot be checked")
    elif record.computed_crc is None:
        survey.note("record-cut", record.offset_bytes, f"{record.name} does not end where it should")
    elif record.computed_crc != record.declared_crc:
        survey.note("crc-mismatch", record.offset_bytes, f"{record.name} does not have the CRC-32 that it tells")
    elif not record.whole:
        survey.note("record-cut", record.end_bytes, f"the descriptor after {record.name} is damaged")


def record_grade(window: Window, record: Record) -> Grade:
    """Return how far one record's contents are proven."""
    if record.unproven or (record.whole and record.opaque):
        unread = window.unread_within(record.data_offset_bytes, record.packed_bytes)
        return Grade.DAMAGED if unread else Grade.CONSISTENT
    return Grade.INTACT if record.computed_crc == record.declared_crc else Grade.DAMAGED


def grade_of(window: Window, survey: Survey) -> Grade:
    """Return the grade of the file by its directory and its findings."""
    directory = survey.directory
    if directory is None or directory.tail is None or directory.tail.end_bytes > window.size_bytes:
        return Grade.DAMAGED if survey.missing_head_bytes else Grade.TRUNCATED
    codes = survey.codes
    if codes & DAMAGE_CODES:
        return Grade.DAMAGED
    return Grade.CONSISTENT if codes & CAPPING_CODES else Grade.INTACT


def size_of(window: Window, survey: Survey, *, tail_bytes: int = END_BYTES) -> int:
    """Return the file's length: by its end record, else as far as what was found tells.

    Args:
        window: the file.
        survey: what was found in it.
        tail_bytes: how long this writer's end records are, for a file cut right after its directory.
    """
    directory = survey.directory
    if directory is not None:
        tail = directory.tail or read_tail(window, directory.end_bytes)
        if tail is not None:
            return tail.end_bytes
        # cut inside the directory: as long as one entry for each record, without extra fields
        entries_bytes = sum(CENTRAL_BYTES + len(record.name.encode()) for record in survey.records)
        return max(directory.end_bytes, directory.offset_bytes + entries_bytes) + tail_bytes
    last = survey.records[-1]
    if last.whole:
        return last.end_bytes
    return last.data_offset_bytes + survey.sizes.get(last.name, 0)  # where an untold record ends, nobody knows


def explained(window: Window, survey: Survey) -> tuple[int, ...]:
    """Return where this file's own headers and end records lie, so that no candidate starts there."""
    offsets = {record.offset_bytes for record in survey.records}
    if survey.displaced_bytes:
        offsets.add(survey.displaced_bytes)  # where this file would begin if its end were right
    if survey.directory is not None:
        offsets.update(entry.position_bytes for entry in survey.directory.entries)
        tail = survey.directory.tail or read_tail(window, survey.directory.end_bytes)
        if tail is not None:
            offsets.add(tail.offset_bytes)
            if tail.zip64:
                offsets.update(
                    (tail.offset_bytes + ZIP64_END_BYTES, tail.offset_bytes + ZIP64_END_BYTES + LOCATOR_BYTES)
                )
    return tuple(sorted(offsets))
