"""Survey of a zip: its records by hopping from the head, its directory, and what both together say.

The directory is the truth where it is found; hopping finds it, and stands in for it where it is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from imaging.window import Window
from signatures._zip import (
    CENTRAL,
    DESCRIPTOR,
    END,
    LOCAL,
    MAX_RECORDS,
    WIDE_DESCRIPTOR_BYTES,
    ZIP64_END,
    Directory,
    Entry,
    LocalHeader,
    Record,
    follow,
    marks,
    read_directory,
    read_entry,
    read_local_header,
    read_tail,
    sized_record,
)
from signatures.verdict import Finding

MAX_SEARCH_BYTES = 8 << 30  # without a sign of the same file
MAX_OVERHEAD_BYTES = 4096  # headers, names, padding and directory entry of one record
SLACK_BYTES = 16 << 20
MAX_FINDINGS = 200


SizesTold: TypeAlias = Callable[[Window, Record], Mapping[str, int]]


@dataclass(slots=True)
class Survey:
    """What a zip holds.

    Attributes:
        root: the folder that all records share.
        sizes_told: asked of each whole record: which sizes of later records does it tell.
        sizes: what it told, by record name.
        search_bytes: how far a lost structure is looked for.
        records: in file order.
        missing_head_bytes: how much of the file lies before the window.
        stopped_bytes: where hopping ended.
    """

    root: str | None
    sizes_told: SizesTold | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    search_bytes: int = MAX_SEARCH_BYTES
    records: list[Record] = field(default_factory=list)
    directory: Directory | None = None
    missing_head_bytes: int = 0
    stopped_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    def note(self, code: str, offset_bytes: int | None, detail: str) -> None:
        """Add a finding; past `MAX_FINDINGS` only the first ones are kept."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(code=code, offset_bytes=offset_bytes, detail=detail))


def root_of(name: str) -> str:
    """Return the first folder of a member's name, or ""."""
    return name.split("/", 1)[0] if "/" in name else ""


def survey_zip(window: Window, *, root: str | None = None, sizes_told: SizesTold | None = None) -> Survey:
    """Hop through the records from offset 0, resuming after broken parts, until the directory; then check each by it.

    Args:
        window: the file.
        root: the folder all records share; None takes it from the first record ("" : records of any name belong).
        sizes_told: see `Survey`.
    """
    survey = Survey(root=root, sizes_told=sizes_told)
    _hop(window, survey)
    if survey.directory is not None and survey.directory.tail is not None:
        _check_by_directory(window, survey)
    elif survey.directory is not None:
        survey.note("directory-cut", survey.directory.end_bytes, "the central directory ends before its end record")
    else:
        survey.note("no-directory", survey.stopped_bytes, "the central directory was not found")
    return survey


def _hop(window: Window, survey: Survey) -> None:
    position_bytes = 0
    while len(survey.records) < MAX_RECORDS:
        survey.stopped_bytes = position_bytes
        header = read_local_header(window, position_bytes)
        if header is not None and _belongs(survey, header.name):
            if survey.root is None:
                survey.root = root_of(header.name)
            record = _record(window, survey, header)
            survey.records.append(record)
            _learn(window, survey, record)
            position_bytes = _after(window, survey, header, record)
            if position_bytes < 0:
                return
            continue
        if _is_directory(window, survey, position_bytes):
            return
        position_bytes = _resume(window, survey, position_bytes)
        if position_bytes < 0:
            return


def _after(window: Window, survey: Survey, header: LocalHeader, record: Record) -> int:
    """Return where to go on after a record, or -1. A size that leads nowhere is not believed."""
    if not record.whole and _searched_out(survey, record):
        return -1
    if window.read_at(record.end_bytes, 4) in (LOCAL, CENTRAL, ZIP64_END, END):
        return record.end_bytes
    if record.whole and header.sizes_follow:
        return _resume(window, survey, record.end_bytes - 1)
    survey.stopped_bytes = record.end_bytes
    return _resume(window, survey, header.data_offset_bytes)


def _learn(window: Window, survey: Survey, record: Record) -> None:
    if survey.sizes_told is None or not record.whole:
        return
    told = survey.sizes_told(window, record)
    if told:
        survey.sizes.update(told)
        total_bytes = sum(told.values()) + MAX_OVERHEAD_BYTES * (len(told) + 64) + SLACK_BYTES
        survey.search_bytes = min(MAX_SEARCH_BYTES, total_bytes)


def _searched_out(survey: Survey, record: Record) -> bool:
    return record.name not in survey.sizes and record.end_bytes - record.data_offset_bytes >= survey.search_bytes


def _belongs(survey: Survey, name: str) -> bool:
    return not survey.root or name.startswith(survey.root + "/")


def _record(window: Window, survey: Survey, header: LocalHeader) -> Record:
    if not header.sizes_follow:
        return sized_record(
            window,
            header,
            packed_bytes=header.packed_bytes,
            size_bytes=header.size_bytes,
            crc=header.crc,
            wide=header.wide,
        )
    end_bytes = header.data_offset_bytes + survey.sizes.get(header.name, survey.search_bytes)
    if header.name in survey.sizes:
        end_bytes += WIDE_DESCRIPTOR_BYTES
    return follow(window, header, end_bytes=end_bytes, is_ours=lambda at, mark: _is_ours(window, survey, at, mark))


def _is_ours(window: Window, survey: Survey, offset_bytes: int, signature: bytes) -> bool:
    """Tell whether a signature met inside a record is a later structure of this very file."""
    if signature == LOCAL:
        header = read_local_header(window, offset_bytes)
        return header is not None and survey.root not in (None, "") and _belongs(survey, header.name)
    if signature == CENTRAL:
        found = read_entry(window, offset_bytes)
        return found is not None and found[0].offset_bytes == 0 and _belongs(survey, found[0].name)
    tail = read_tail(window, offset_bytes)
    return tail is not None and tail.start_bytes == 0 and tail.directory_bytes > 0


def _is_directory(window: Window, survey: Survey, position_bytes: int) -> bool:
    """Read the directory, from its first entry or from its tail; False when there is none of ours here."""
    signature = window.read_at(position_bytes, 4)
    if signature in (ZIP64_END, END):
        tail = read_tail(window, position_bytes)
        if tail is None or tail.start_bytes != 0:
            return False
        survey.directory = read_directory(window, tail.directory_offset_bytes, tail=tail)
        return True
    found = read_entry(window, position_bytes) if signature == CENTRAL else None
    if found is None or not _belongs(survey, found[0].name):
        return False
    directory = read_directory(window, position_bytes)
    if directory.tail is None:
        survey.missing_head_bytes = _missing_head(window, directory)
        survey.directory = directory
        # a break inside the directory: its tail may still be there
        return survey.missing_head_bytes > 0 or not _resumes(window, survey, directory)
    survey.directory = directory
    return True


def _missing_head(window: Window, directory: Directory) -> int:
    """Return how many bytes of the file lie before the window, as its own end records tell; 0 when none."""
    tail = read_tail(window, directory.end_bytes)
    return max(0, -tail.start_bytes) if tail is not None else 0


def _resumes(window: Window, survey: Survey, directory: Directory) -> bool:
    end_bytes = directory.offset_bytes + (64 << 20)
    for offset_bytes, signature in marks(window, directory.end_bytes, min(end_bytes, window.size_bytes)):
        if signature not in (ZIP64_END, END):
            continue
        tail = read_tail(window, offset_bytes)
        if tail is not None and tail.start_bytes == 0:
            survey.directory = read_directory(window, directory.offset_bytes, tail=tail)
            return False
    return False


def _resume(window: Window, survey: Survey, position_bytes: int) -> int:
    """Return where the next structure of this file is after a break, or -1."""
    end_bytes = min(window.size_bytes, position_bytes + survey.search_bytes)
    for offset_bytes, signature in marks(window, position_bytes + 1, end_bytes):
        if signature != DESCRIPTOR and _is_ours(window, survey, offset_bytes, signature):
            return offset_bytes
    return -1


def _check_by_directory(window: Window, survey: Survey) -> None:
    """Make the directory's list the list of records; those already followed are not read again."""
    directory = survey.directory
    if directory is None or directory.tail is None:
        return
    hopped = {record.offset_bytes: record for record in survey.records}
    checked: list[Record] = []
    reach_bytes = 0
    for entry in sorted(directory.entries, key=lambda e: e.offset_bytes):
        if entry.offset_bytes < reach_bytes:
            survey.note("overlapping-records", entry.offset_bytes, f"{entry.name} lies inside the record before it")
            continue
        record = _checked(window, survey, entry, hopped.get(entry.offset_bytes))
        checked.append(record)
        reach_bytes = record.data_offset_bytes + record.packed_bytes
    if len({record.name for record in checked}) < len(checked):
        survey.note("duplicate-name", None, "two records have the same name")
    if not directory.whole:
        survey.note("directory-damaged", directory.offset_bytes, "the central directory disagrees with its end record")
    lost = [record for offset, record in sorted(hopped.items()) if offset not in {e.offset_bytes for e in checked}]
    lost = [record for record in lost if record.whole and not _inside(record, checked)]
    if directory.whole and lost:
        survey.note("unlisted-record", lost[0].offset_bytes, f"{lost[0].name} is not in the central directory")
    survey.records = sorted([*checked, *(lost if not directory.whole else [])], key=lambda r: r.offset_bytes)


def _inside(record: Record, others: list[Record]) -> bool:
    return any(o.data_offset_bytes <= record.offset_bytes < o.data_offset_bytes + o.packed_bytes for o in others)


def _checked(window: Window, survey: Survey, entry: Entry, hopped: Record | None) -> Record:
    if hopped is not None and hopped.whole and hopped.packed_bytes == entry.packed_bytes:
        return _agreed(survey, entry, hopped)
    header = read_local_header(window, entry.offset_bytes)
    if header is None:
        survey.note("record-header-lost", entry.offset_bytes, f"the local header of {entry.name} is gone")
        return _lost_record(entry)
    record = sized_record(
        window,
        header,
        packed_bytes=entry.packed_bytes,
        size_bytes=entry.size_bytes,
        crc=entry.crc,
        wide=header.wide,
    )
    return _agreed(survey, entry, record)


def _agreed(survey: Survey, entry: Entry, record: Record) -> Record:
    """Compare the directory's copy with the record's own; where the CRC-32 differ, the one that fits the data wins."""
    differs = [
        what
        for what, ours, theirs in (
            ("name", entry.name, record.name),
            ("method", entry.method, record.method),
            ("flags", entry.flags, record.flags),
            ("size", entry.size_bytes, record.size_bytes),
            ("CRC-32", entry.crc, record.declared_crc),
        )
        if ours != theirs
    ]
    if differs:
        what = ", ".join(differs)
        survey.note("directory-mismatch", entry.offset_bytes, f"{entry.name}: directory and record differ in {what}")
    crc = entry.crc if record.computed_crc == entry.crc else record.declared_crc
    return replace(record, name=entry.name, declared_crc=crc)


def _lost_record(entry: Entry) -> Record:
    data_offset_bytes = entry.offset_bytes + 30 + len(entry.name.encode())
    return Record(
        name=entry.name,
        flags=entry.flags,
        method=entry.method,
        offset_bytes=entry.offset_bytes,
        data_offset_bytes=data_offset_bytes,
        packed_bytes=entry.packed_bytes,
        size_bytes=entry.size_bytes,
        declared_crc=entry.crc,
        computed_crc=None,
        end_bytes=data_offset_bytes + entry.packed_bytes,
        whole=False,
    )
