"""The domain report: a mapfile of what the files still miss, so that the drive is tried again just there.

Finished in it is every range that lies in a file which is not whole, and that was never read. `carver image -m` and GNU
`ddrescue -m` take it as the domain of a further rescue: the retries go where they can bring a file back.
"""

from __future__ import annotations

from collections.abc import Iterator

from carver.recovery import Recovery
from carver.report import Report
from carver.report.summary import summarise
from imaging.extent import ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from signatures.verdict import Grade

FILE_NAME = "missing.map"
NOT_GOOD = tuple(grade for grade in Grade if not grade.good)
HEADING = ("What the files still miss: the domain (-m) of a further rescue. Created by carver",)


def render(recovery: Recovery) -> Iterator[str]:
    """Yield the domain as a mapfile; a record without files that miss anything has an empty one."""
    wanted = missing(recovery)
    others = wanted.complement(span(0, recovery.source.size_bytes))
    mapfile = Mapfile.from_extents({BlockStatus.FINISHED: wanted, BlockStatus.NON_TRIED: others})
    yield mapfile.to_text(HEADING)


def missing(recovery: Recovery) -> ExtentSet:
    """Return what was never read inside the files that are not whole."""
    unread = ExtentSet(span(at, at + size) for at, size, _ in recovery.source.unread or ())
    summary = summarise(recovery)
    return (summary.standing.extents(NOT_GOOD) | summary.inside.extents(NOT_GOOD)) & unread


REPORT = Report(file_name=FILE_NAME, render=render)
