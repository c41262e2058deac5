"""report.json: the record for other programs (schema_version 1). Same input, same bytes, but for the `run` block."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from carver.recovery import SCHEMA_VERSION, CarvedFile, Recovery
from carver.report import Report
from carver.report.alike import Alike
from carver.report.summary import GradeTally, summarise
from carver.verdict_json import model_to_json
from imaging.extent import Layout
from signatures.tensors import Tensor
from signatures.verdict import Grade

INDENT = "  "
LINE_COLUMNS = 160
LINE_LEAVES = 24  # a tensor of ten dimensions has fewer

encode = json.JSONEncoder(allow_nan=False).encode  # ASCII


def render(recovery: Recovery) -> Iterator[str]:
    """Yield report.json: ASCII only, so that no name in it can turn or hide text on a terminal."""
    return pieces(document(recovery))


def document(recovery: Recovery) -> dict[str, Any]:
    """Return report.json as plain values; what there may be a million of as iterables, to be gone through once."""
    source = recovery.source
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": plain(recovery.tool),
        "run": plain(recovery.run),
        "case": dataclasses.asdict(recovery.case),
        "source": {
            "locator": source.locator,
            "size_bytes": source.size_bytes,
            "identity": plain(source.identity),
            "unread": None if source.unread is None else [list(block) for block in source.unread],
        },
        "summary": _summary(recovery),
        "files": _files(recovery),
        "side_files": map(file_record, recovery.side_files),
        "models": (plain(model_to_json(model)) for model in recovery.models),
        "missing": (dataclasses.asdict(file) for file in recovery.missing),
        "elsewhere": (plain(dataclasses.asdict(one)) for one in recovery.elsewhere),
        "rejected": dict(sorted(recovery.rejected.items())),
    }


def pieces(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield a document as JSON that people can read; of an iterator an item a piece."""
    separator = "{"
    for key, value in document.items():
        yield f"{separator}\n{INDENT}{encode(key)}: "
        if isinstance(value, Iterator):
            yield from _items(value)
        else:
            yield _lines(value, INDENT)
        separator = ","
    yield "\n}\n"


def condensed(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the same values in little: a line for each key, and for each item of an iterator."""
    for key, value in document.items():
        yield f"{encode(key)}\n"
        for item in value if isinstance(value, Iterator) else (value,):
            yield f"{encode(item)}\n"


def _items(values: Iterable[object]) -> Iterator[str]:
    separator, end = "[", "[]"
    for value in values:
        yield f"{separator}\n{2 * INDENT}{_lines(value, 2 * INDENT)}"
        separator, end = ",", f"\n{INDENT}]"
    yield end


def plain(value: object) -> Any:  # noqa: ANN401 - a JSON value
    """Return `value` as JSON can hold it; what it cannot is written as text (bytes as hex, NaN as "nan")."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(inner) for inner in value), key=repr)
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int):
        return value
    return str(value)


def _summary(recovery: Recovery) -> dict[str, Any]:
    summary = summarise(recovery)
    return {
        "files": summary.files,
        "children": summary.children,
        "grades": _grades(summary.grades),
        "children_grades": _grades(summary.children_grades),
        "copies": summary.copies,
        "sharing_bytes": len(summary.sharing),
        "recovered_bytes": summary.recovered_bytes,
        "unread_bytes": summary.unread_bytes,
        "unread_by_status": dict(summary.unread_by_status),
        "rejected": summary.rejected,
    }


def _grades(tallies: Mapping[Grade, GradeTally]) -> dict[str, Any]:
    return {grade.value: dataclasses.asdict(tally) for grade, tally in tallies.items()}


def _files(recovery: Recovery) -> Iterator[dict[str, Any]]:
    """Yield the files, with what each is a copy of and shares bytes with, where there is such a file."""
    alike = Alike(recovery, summarise(recovery))
    for number, file in enumerate(recovery.files):
        told = {"copy_of": alike.copy_of(number, file.sha256), "shares_bytes_with": alike.shares_with(number)}
        yield file_record(file) | {key: path for key, path in told.items() if path is not None}


def file_record(file: CarvedFile) -> dict[str, Any]:
    """Return one file as it stands in report.json, but for what other files are like it."""
    record: dict[str, Any] = {
        "path": file.path,
        "format": file.format,
        "grade": file.grade.value,
        "layout_basis": file.layout_basis.value,
        "data_evidence": file.data_evidence.value,
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
        "layout": _pairs(file.layout),
        "parent": file.parent,
        "name_source": file.name_source,
        "findings": [{"code": f.code, "offset_bytes": f.offset_bytes, "detail": f.detail} for f in file.findings],
        "tensors": [_tensor(tensor) for tensor in file.tensors],
        "facts": plain(file.facts),
    }
    if file.md5 is not None:
        record["md5"] = file.md5
    return record


def _tensor(tensor: Tensor) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "offset_bytes": tensor.offset_bytes,
        "size_bytes": tensor.size_bytes,
        "grade": str(tensor.grade),
    }
    if len(tensor.layout) > 1:
        record["layout"] = _pairs(tensor.layout)
    return record


def _pairs(layout: Layout) -> list[list[int]]:
    return [[extent.offset_bytes, extent.size_bytes] for extent in layout]


def _lines(value: Any, indent: str = "") -> str:  # noqa: ANN401 - a JSON value
    """Write JSON so that people can read it: what fits on a line stays on one."""
    if _leaves(value, LINE_LEAVES) < LINE_LEAVES:
        compact = encode(value)
        if not isinstance(value, dict | list) or len(indent) + len(compact) <= LINE_COLUMNS:
            return compact
    inner = indent + INDENT
    if isinstance(value, list):
        rows = [inner + _lines(entry, inner) for entry in value]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    rows = [f"{inner}{encode(key)}: {_lines(entry, inner)}" for key, entry in value.items()]
    return "{\n" + ",\n".join(rows) + f"\n{indent}}}"


def _leaves(value: Any, limit: int) -> int:  # noqa: ANN401 - a JSON value
    """Count the plain values inside, up to `limit`: what has many is not worth trying on one line."""
    if not isinstance(value, dict | list):
        return 1
    count = 0
    for entry in value.values() if isinstance(value, dict) else value:
        count += _leaves(entry, limit - count)
        if count >= limit:
            break
    return count


REPORT = Report(file_name="report.json", render=render)
