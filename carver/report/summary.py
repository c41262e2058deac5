"""Summary: the counts that stand in front of every report, and where the files lie, in one pass over them."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from carver.recovery import CarvedFile, Recovery
from carver.report.code_words import groups_of
from imaging.extent import ExtentSet, Offsets, span
from signatures.verdict import Grade

GRADES = tuple(Grade)
HASH_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeTally:
    """How many files have a grade, and their bytes in all."""

    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Places:
    """Where files lie in the source: arrays of one length, an entry for each extent, in the order of the files.

    Attributes:
        numbers: of the file in the record, from 0; int64.
        starts: its first byte; int64.
        ends: the first byte after it; int64.
        grades: of the file, by its place in `GRADES`; uint8.
    """

    numbers: Offsets
    starts: Offsets
    ends: Offsets
    grades: npt.NDArray[np.uint8]

    def extents(self, grades: Iterable[Grade]) -> ExtentSet:
        """Return the bytes of the files of some grades."""
        chosen = np.isin(self.grades, [GRADES.index(grade) for grade in grades])
        return ExtentSet.from_arrays(self.starts[chosen], self.ends[chosen])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Summary:
    """What a run comes to.

    Attributes:
        files: files that stand by themselves.
        children: files inside those; counted apart, since their bytes are their containers'.
        grades: the tally of the files that stand by themselves, best grade first, empty ones left out.
        children_grades: likewise of the children.
        recovered_bytes: bytes of the source that lie in a file, each once.
        unread_bytes: bytes never read from the drive; None when no mapfile tells.
        unread_by_status: the same by mapfile status.
        rejected: candidates that were no such file.
        formats: names of the formats that were found.
        with_md5: whether any file has an MD5.
        codes: how many files, small ones and children among them, have a finding of each code.
        code_groups: likewise of each group of `code_words.GROUPS`, by its number.
        copy_of: of files that stand by themselves and have the very bytes of one before them, by number, the number of
            the first such; of the hash 64 bits were compared.
        sharing: of files that stand by themselves and share bytes with another, by number, the number of one such.
        standing: where the files that stand by themselves lie.
        inside: where the children lie.
    """

    files: int
    children: int
    grades: Mapping[Grade, GradeTally]
    children_grades: Mapping[Grade, GradeTally]
    recovered_bytes: int
    unread_bytes: int | None
    unread_by_status: Mapping[str, int]
    rejected: int
    formats: frozenset[str]
    with_md5: bool
    codes: Mapping[str, int]
    code_groups: Mapping[int, int]
    copy_of: Mapping[int, int]
    sharing: Mapping[int, int]
    standing: Places
    inside: Places

    @property
    def copies(self) -> int:
        """How many of the files that stand by themselves have the very bytes of another."""
        return len(self.copy_of)

    @property
    def grades_of_all(self) -> Mapping[Grade, int]:
        """How many files, children among them, have each grade."""
        total: Counter[Grade] = Counter()
        for grade, tally in (*self.grades.items(), *self.children_grades.items()):
            total[grade] += tally.files
        return total


@lru_cache(maxsize=1)  # every report asks for it
def summarise(recovery: Recovery) -> Summary:
    """Count a Recovery."""
    own, inner = _Counting(), _Counting()
    found = _Codes()
    formats, with_md5 = set(), False
    for number, (file, inside) in enumerate(_placed(recovery.files)):
        (inner if inside else own).add(number, file)
        found.add(file)
        formats.add(file.format)
        with_md5 |= file.md5 is not None
    for file in recovery.side_files:
        found.add(file)
    standing = own.places()
    by_status: Counter[str] = Counter()
    for _, size_bytes, status in recovery.source.unread or ():
        by_status[status] += size_bytes
    return Summary(
        files=own.files.total(),
        children=inner.files.total(),
        grades=own.tallies(),
        children_grades=inner.tallies(),
        recovered_bytes=standing.extents(GRADES).within(span(0, recovery.source.size_bytes)).total_bytes,
        unread_bytes=None if recovery.source.unread is None else by_status.total(),
        unread_by_status=dict(sorted(by_status.items())),
        rejected=sum(recovery.rejected.values()),
        formats=frozenset(formats),
        with_md5=with_md5,
        codes=dict(sorted(found.files.items())),
        code_groups=found.groups,
        copy_of=own.copy_of(),
        sharing=sharing(standing),
        standing=standing,
        inside=inner.places(),
    )


def sharing(places: Places) -> dict[int, int]:
    """Return, of the files that share bytes with another, by their numbers, the number of one they share them with."""
    order = np.argsort(places.starts, kind="stable")
    numbers, starts, ends = places.numbers[order], places.starts[order], places.ends[order]
    if not len(order):
        return {}
    furthest = np.maximum.accumulate(ends)
    holders = np.maximum.accumulate(np.where(ends == furthest, np.arange(len(ends)), 0))  # which reaches so far
    found: dict[int, int] = {}
    for at in (np.flatnonzero(starts[1:] < furthest[:-1]) + 1).tolist():
        one, other = int(numbers[at]), int(numbers[holders[at - 1]])
        if one != other:
            found.setdefault(one, other)
            found.setdefault(other, one)
    return found


def _placed(files: Iterable[CarvedFile]) -> Iterator[tuple[CarvedFile, bool]]:
    """Yield each file, and whether it lies in a container that is in the record; those come first."""
    paths = set()
    for file in files:
        yield file, file.parent in paths
        paths.add(file.path)


class _Codes:
    """Findings counted by code, and by what they call for: of each file once."""

    def __init__(self) -> None:
        self.files: Counter[str] = Counter()
        self.groups: Counter[int] = Counter()

    def add(self, file: CarvedFile) -> None:
        codes = {finding.code for finding in file.findings}
        self.files.update(codes)
        self.groups.update(groups_of(codes))


class _Counting:
    """Files counted by grade, and where they lie."""

    def __init__(self) -> None:
        self.files: Counter[Grade] = Counter()
        self._size_bytes: Counter[Grade] = Counter()
        self._numbers, self._hashes = array("q"), array("Q")
        self._places = (array("q"), array("q"), array("q"), array("B"))

    def add(self, number: int, file: CarvedFile) -> None:
        self.files[file.grade] += 1
        self._size_bytes[file.grade] += file.size_bytes
        self._numbers.append(number)
        self._hashes.append(hash(file.sha256) & HASH_MASK)
        for extent in file.layout:
            row = (number, extent.offset_bytes, extent.end_bytes, GRADES.index(file.grade))
            for column, value in zip(self._places, row, strict=True):
                column.append(value)

    def tallies(self) -> dict[Grade, GradeTally]:
        return {
            grade: GradeTally(files=self.files[grade], size_bytes=self._size_bytes[grade])
            for grade in GRADES
            if self.files[grade]
        }

    def copy_of(self) -> dict[int, int]:
        """Return the first file with its hash of each that is not the first; of the hash 64 bits are kept."""
        hashes, numbers = np.array(self._hashes, dtype=np.uint64), np.array(self._numbers, dtype=np.int64)
        _, firsts, places = np.unique(hashes, return_index=True, return_inverse=True)
        first = firsts[places]
        later = np.flatnonzero(first != np.arange(len(first)))
        return dict(zip(numbers[later].tolist(), numbers[first[later]].tolist(), strict=True))

    def places(self) -> Places:
        numbers, starts, ends = (np.array(column, dtype=np.int64) for column in self._places[:3])
        return Places(numbers=numbers, starts=starts, ends=ends, grades=np.array(self._places[3], dtype=np.uint8))
