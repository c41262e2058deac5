"""Survey of a zip: its records by hopping from the head, its directory, and what both together say.

The directory is the truth where it is found; hopping finds it, and stands in for it where it is lost.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

from imaging.errors import BudgetExceeded
from imaging.window import Window
from signatures._zip import (
    CENTRAL,
    DESCRIPTOR,
    END,
    LOCAL,
    MAX_DIRECTORY_BYTES,
    MAX_RECORDS,
    STORED,
    WIDE_DESCRIPTOR_BYTES,
    ZIP64_END,
    Directory,
    LocalHeader,
    Tail,
    read_directory,
    read_entry,
    read_local_header,
    read_own_tail,
    read_tail,
)
from signatures._zip_compare import checked_record
from signatures._zip_records import Record, follow, marks, match_descriptor, sized_record
from signatures.verdict import Finding

MAX_SEARCH_BYTES = 8 << 30  # without a sign of the same file
MAX_OVERHEAD_BYTES = 4096  # headers, names, padding and directory entry of one record
SLACK_BYTES = 16 << 20
MAX_TAILS_SOUGHT = 16
MAX_MARKS = 100_000  # a zip of 30,000 members inside a record has that many
MAX_FINDINGS = 200
TELLING_BYTES = 64


SizesTold: TypeAlias = Callable[[Window, Record], Mapping[str, int]]


@dataclass(slots=True)
class Survey:
    """What a zip holds.

    Attributes:
        root: the folder that all records share.
        sizes_told: asked of each whole record: which sizes of later records does it tell.
        sizes: what it told, by record name.
        told_at_bytes: the record that told them.
        search_bytes: how far a lost structure is looked for.
        records: in file order.
        tails_sought: how many directories had no tail at once; each costs a search.
        marks_seen: how many zip signatures inside records or gaps were looked at.
        names: of the records seen so far.
        foreign_bytes: where another file of the same root seems to begin, or None.
        missing_head_bytes: how much of the file lies before the window.
        stopped_bytes: where hopping ended.
        displaced_bytes: how much further on than it should the directory lies, of a file in pieces.
        findings: the first ones.
        codes: of all of them.
    """

    root: str | None
    sizes_told: SizesTold | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    search_bytes: int = MAX_SEARCH_BYTES
    records: list[Record] = field(default_factory=list)
    directory: Directory | None = None
    told_at_bytes: int = 0
    tails_sought: int = 0
    marks_seen: int = 0
    names: set[str] = field(default_factory=set)
    foreign_bytes: int | None = None
    missing_head_bytes: int = 0
    stopped_bytes: int = 0
    displaced_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    codes: set[str] = field(default_factory=set)

    def foreign_from(self, offset_bytes: int) -> None:
        """Note that another file begins there."""
        if self.foreign_bytes is None or offset_bytes < self.foreign_bytes:
            self.foreign_bytes = offset_bytes

    def note(self, code: str, offset_bytes: int | None, detail: str) -> None:
        """Add a finding; past `MAX_FINDINGS` only its code is kept."""
        self.codes.add(code)
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

    Raises:
        BudgetExceeded: there are more records than are kept.
        ReadFault: from the window.
    """
    survey = Survey(root=root, sizes_told=sizes_told)
    _hop(window, survey)
    if survey.directory is None or survey.directory.tail is None:
        _drop_foreign(survey)
    if survey.directory is not None and survey.directory.tail is not None:
        if survey.root is None and survey.directory.entries:  # not one record has its header
            survey.root = root_of(survey.directory.entries[0].name)
        _check_by_directory(window, survey)
    elif survey.directory is not None:
        survey.note("directory-cut", survey.directory.end_bytes, "the central directory ends before its end record")
    elif not survey.displaced_bytes:
        survey.note("no-directory", survey.stopped_bytes, "the central directory was not found")
    return survey


def _drop_foreign(survey: Survey) -> None:
    """Without a directory to tell them apart, nothing from where another file seems to begin is this file's."""
    if survey.foreign_bytes is None:
        return
    survey.records = [record for record in survey.records if record.offset_bytes < survey.foreign_bytes]
    if survey.told_at_bytes >= survey.foreign_bytes:
        survey.sizes.clear()
    if survey.directory is not None and survey.directory.offset_bytes >= survey.foreign_bytes:
        survey.directory = None


def _hop(window: Window, survey: Survey) -> None:
    position_bytes = 0
    while True:
        survey.stopped_bytes = position_bytes
        header = read_local_header(window, position_bytes)
        if header is not None and _belongs(survey, header.name):
            if survey.root is None:
                survey.root = root_of(header.name)
            if len(survey.records) == MAX_RECORDS:
                raise BudgetExceeded(f"the zip has more than {MAX_RECORDS:,} members")
            record = _record(window, survey, header)
            survey.records.append(record)
            survey.names.add(record.name)
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
        survey.told_at_bytes = record.offset_bytes
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
    told_bytes = survey.sizes.get(header.name)
    if told_bytes is not None and header.method == STORED:
        raw = window.read_at(header.data_offset_bytes + told_bytes, WIDE_DESCRIPTOR_BYTES)
        met = match_descriptor(raw, told_bytes, header) if raw.startswith(DESCRIPTOR) else None
        if met is not None:
            sizes = {"packed_bytes": told_bytes, "size_bytes": told_bytes}
            return sized_record(window, header, **sizes, crc=met[0], wide=met[2] == WIDE_DESCRIPTOR_BYTES)
    end_bytes = header.data_offset_bytes + (survey.search_bytes if told_bytes is None else told_bytes)
    if told_bytes is not None:
        end_bytes += WIDE_DESCRIPTOR_BYTES
    return follow(window, header, end_bytes=end_bytes, is_ours=lambda at, mark: _is_ours(window, survey, at, mark))


def _is_ours(window: Window, survey: Survey, offset_bytes: int, signature: bytes) -> bool:
    """Tell whether a signature met inside a record is a later structure of this very file."""
    survey.marks_seen += 1
    if survey.marks_seen > MAX_MARKS:
        return False
    if signature == LOCAL:
        header = read_local_header(window, offset_bytes)
        if header is None or not survey.root or not _belongs(survey, header.name):
            return False
        if header.name in survey.names:  # a second file with this root, or a zip inside this one
            survey.foreign_from(offset_bytes)
            return False
        return True
    if signature == CENTRAL:
        found = read_entry(window, offset_bytes)
        return found is not None and found[0].offset_bytes == 0 and _belongs(survey, found[0].name)
    return read_own_tail(window, offset_bytes) is not None


def _is_directory(window: Window, survey: Survey, position_bytes: int) -> bool:
    """Read the directory, from its first entry or from its tail; False when there is none of this file here."""
    signature = window.read_at(position_bytes, 4)
    if signature in (ZIP64_END, END):
        tail = read_own_tail(window, position_bytes)
        if tail is None:
            return False
        survey.directory = read_directory(window, tail.directory_offset_bytes, tail=tail)
        return True
    found = read_entry(window, position_bytes) if signature == CENTRAL else None
    if found is None or not _belongs(survey, found[0].name):
        return False
    directory = read_directory(window, position_bytes)
    if directory.tail is None:
        return _is_broken_directory(window, survey, directory)
    survey.directory = directory
    return True


def _is_broken_directory(window: Window, survey: Survey, directory: Directory) -> bool:
    """Deal with entries that no tail of this file follows at once; False when they belong to another zip."""
    survey.tails_sought += 1
    tail = _tail_ahead(window, directory.end_bytes) if survey.tails_sought <= MAX_TAILS_SOUGHT else None
    if tail is not None:
        survey.directory = read_directory(window, tail.directory_offset_bytes, tail=tail)
        return True
    other = read_tail(window, directory.end_bytes)
    if other is not None and not other.whole and other.directory_bytes != directory.end_bytes - directory.offset_bytes:
        other = None  # what is left of it tells nothing
    if other is not None and other.start_bytes > 0:  # a zip inside this one, or this one's own end after a gap
        if not _note_displaced(window, survey, directory, other.start_bytes):
            survey.foreign_from(other.start_bytes)
        return False
    survey.directory = directory
    survey.missing_head_bytes = -other.start_bytes if other is not None else 0
    return True


def _note_displaced(window: Window, survey: Survey, directory: Directory, by_bytes: int) -> bool:
    """Note a directory that names the records seen so far but lies too far away: the file lies in pieces.

    Where the first record stands that far away, too, it is the directory of a copy.
    """
    first = directory.entries[0] if directory.entries else None
    header = read_local_header(window, by_bytes + first.offset_bytes) if first is not None else None
    if header is not None and first is not None and header.name == first.name:
        return False
    seen = {
        (record.offset_bytes, record.name, record.declared_crc)
        for record in survey.records
        if record.whole and record.size_bytes >= TELLING_BYTES and not record.name.endswith(".pkl")
    }  # other records are the same in many files
    found = any((entry.offset_bytes, entry.name, entry.crc) in seen for entry in directory.entries)
    if found:
        survey.displaced_bytes = by_bytes
        what = f"the directory lies {by_bytes} bytes further on than it says: the file is in pieces"
        survey.note("directory-displaced", directory.offset_bytes, what)
    return found


def _tail_ahead(window: Window, offset_bytes: int) -> Tail | None:
    """Return this file's tail within a directory's length of a break in the directory.

    Another zip's whole tail ends the search: nothing of another stands between a directory and its own tail.
    """
    end_bytes = min(offset_bytes + MAX_DIRECTORY_BYTES, window.size_bytes)
    ends = (at for at, signature in marks(window, offset_bytes, end_bytes) if signature in (ZIP64_END, END))
    for at_bytes in islice(ends, MAX_MARKS):
        tail = read_tail(window, at_bytes)
        if tail is not None and (tail.whole or tail.start_bytes == 0):
            return read_own_tail(window, at_bytes)
    return None


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
    entries = sorted(directory.entries, key=lambda e: e.offset_bytes)
    ends = [*(entry.offset_bytes for entry in entries[1:]), directory.tail.directory_offset_bytes]
    for entry, next_bytes in zip(entries, ends, strict=False):
        if entry.offset_bytes < reach_bytes:
            survey.note("overlapping-records", entry.offset_bytes, f"{entry.name} lies inside the record before it")
            continue
        record = checked_record(window, entry, hopped.get(entry.offset_bytes), next_bytes=next_bytes, note=survey.note)
        checked.append(record)
        reach_bytes = record.data_offset_bytes + record.packed_bytes
    _note_duplicate(survey, checked)
    _note_headless(survey, [record for record in checked if record.headless])
    if not directory.whole:
        survey.note("directory-damaged", directory.offset_bytes, "the central directory disagrees with its end record")
    listed = {record.offset_bytes for record in checked}
    lost = [record for offset, record in sorted(hopped.items()) if offset not in listed]
    lost = [record for record in lost if record.whole and not _is_inside(record, checked)]
    if directory.whole and lost:
        survey.note("unlisted-record", lost[0].offset_bytes, f"{lost[0].name} is not in the central directory")
    survey.records = sorted([*checked, *(lost if not directory.whole else [])], key=lambda r: r.offset_bytes)


def _note_duplicate(survey: Survey, records: list[Record]) -> None:
    """Note the first name that two records have: no damage, since Python's zipfile writes such files with a warning."""
    seen = set[str]()
    for record in records:
        if record.name in seen:
            what = f"{record.name} is there twice: PyTorch reads the first, Python's zipfile (Keras, NumPy) the last"
            survey.note("duplicate-name", record.offset_bytes, what)
            return
        seen.add(record.name)


def _note_headless(survey: Survey, records: list[Record]) -> None:
    """Note the members whose local headers are gone, together: of a file in pieces they are many."""
    if records:
        proven = sum(1 for record in records if not record.lost)
        what = f"the local header of {records[0].name} is gone" + (", its contents are whole" if proven else "")
        if len(records) > 1:
            what = f"the local headers of {len(records)} members are gone, {records[0].name} to {records[-1].name}"
            what += f"; the contents of {proven} are whole" if proven else ""
        survey.note("record-header-lost", records[0].offset_bytes, what)


def _is_inside(record: Record, others: list[Record]) -> bool:
    """Tell whether a record lies in the data of one of `others`, which are in file order (a zip within the zip)."""
    index = bisect_right(others, record.offset_bytes, key=lambda other: other.offset_bytes) - 1
    return index >= 0 and record.offset_bytes < others[index].data_offset_bytes + others[index].packed_bytes
