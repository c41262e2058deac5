"""Summary: the counts that stand in front of every report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from carver.recovery import CarvedFile, Recovery
from imaging.extent import ExtentSet, span
from signatures.verdict import Grade


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeTally:
    """How many files have a grade, and their bytes in all."""

    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
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
    """

    files: int
    children: int
    grades: Mapping[Grade, GradeTally]
    children_grades: Mapping[Grade, GradeTally]
    recovered_bytes: int
    unread_bytes: int | None
    unread_by_status: Mapping[str, int]
    rejected: int


def summarise(recovery: Recovery) -> Summary:
    """Count a Recovery."""
    own = standing(recovery)
    alone = {file.path for file in own}
    inner = [file for file in recovery.files if file.path not in alone]
    source = span(0, recovery.source.size_bytes)
    by_status: Counter[str] = Counter()
    for _, size_bytes, status in recovery.source.unread or ():
        by_status[status] += size_bytes
    return Summary(
        files=len(own),
        children=len(inner),
        grades=_tally(own),
        children_grades=_tally(inner),
        recovered_bytes=ExtentSet(extent for file in own for extent in file.layout).within(source).total_bytes,
        unread_bytes=None if recovery.source.unread is None else by_status.total(),
        unread_by_status=dict(sorted(by_status.items())),
        rejected=sum(recovery.rejected.values()),
    )


def standing(recovery: Recovery) -> list[CarvedFile]:
    """Return the files that stand by themselves: those whose container, if they have one, is not in the record."""
    paths = {file.path for file in recovery.files}
    return [file for file in recovery.files if file.parent not in paths]


def _tally(files: Iterable[CarvedFile]) -> dict[Grade, GradeTally]:
    sizes: dict[Grade, list[int]] = {}
    for file in files:
        sizes.setdefault(file.grade, []).append(file.size_bytes)
    return {
        grade: GradeTally(files=len(sizes[grade]), size_bytes=sum(sizes[grade])) for grade in Grade if grade in sizes
    }
