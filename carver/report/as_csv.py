"""files.csv: every file on a line, for a spreadsheet; report.html names its SHA-256, so a signature covers it, too."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from carver.recovery import CarvedFile, Recovery
from carver.report import Report
from carver.report.alike import Alike
from carver.report.summary import summarise
from carver.visible import visible
from imaging.extent import layout_bytes
from signatures.verdict import Grade

FILE_NAME = "files.csv"
COLUMNS = (
    *("number", "path", "grade", "format", "size_bytes", "sha256", "md5", "offset_bytes", "extents", "present_bytes"),
    *("parent", "layout_basis", "data_evidence", "name_source", "tensors", "tensors_hit", "findings"),
    *("lost_objects", "copy_of", "shares_bytes_with"),
)
GOOD = tuple(grade for grade in Grade if grade.good)
FORMULA = ("=", "+", "-", "@")  # what a spreadsheet would compute


class _Line:
    """What `csv` writes to: the writer gives back what this does."""

    def write(self, text: str) -> str:
        return text


def render(recovery: Recovery) -> Iterator[str]:
    """Yield the list line by line: the files by their numbers in report.html, then the small ones, without numbers."""
    lines = csv.writer(_Line(), lineterminator="\n")
    yield lines.writerow(COLUMNS)
    alike = Alike(recovery, summarise(recovery))
    for number, file in enumerate(recovery.files):
        copy_of, shares_with = alike.copy_of(number, file.sha256), alike.shares_with(number)
        yield lines.writerow(_cells(str(number + 1), file, copy_of or "", shares_with or ""))
    for file in recovery.side_files:
        yield lines.writerow(_cells("", file))


def _cells(number: str, file: CarvedFile, copy_of: str = "", shares_with: str = "") -> list[object]:
    values = (
        *(number, file.path, file.grade.value, file.format, file.size_bytes, file.sha256, file.md5 or ""),
        *(file.layout[0].offset_bytes if file.layout else "", len(file.layout), layout_bytes(file.layout)),
        *(file.parent or "", file.layout_basis.value, file.data_evidence.value, file.name_source, len(file.tensors)),
        sum(tensor.grade not in GOOD for tensor in file.tensors),
        " ".join(dict.fromkeys(finding.code for finding in file.findings)),
        *(_count(file.facts.get("lost_objects")), copy_of, shares_with),
    )
    return [_text(value) if isinstance(value, str) else value for value in values]


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _text(value: str) -> str:
    return f"'{visible(value)}" if value.startswith(FORMULA) else visible(value)


REPORT = Report(file_name=FILE_NAME, render=render)
