"""report.json, schema_version 1: a strict check of all that the schema says, and of the case folder it speaks of."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

TOP = {
    "schema_version", "tool", "run", "case", "source", "summary", "files", "side_files", "models", "missing",
    "elsewhere", "rejected",
}  # fmt: skip
FILE = {
    "path", "format", "grade", "layout_basis", "data_evidence", "size_bytes", "sha256", "layout", "parent",
    "name_source", "findings", "tensors", "facts",
}  # fmt: skip
TENSOR = {"name", "dtype", "shape", "offset_bytes", "size_bytes", "grade"}
GRADES = {"INTACT", "CONSISTENT", "DAMAGED", "TRUNCATED", "UNDECIDED"}
GOOD = {"INTACT", "CONSISTENT"}
BASES = {"proven", "mapped", "contiguous", "probable"}
EVIDENCE = {"hash", "checksum", "plausible", "none"}
MODEL = {
    "name", "name_source", "family", "family_source", "parameters", "uncounted", "dtypes", "layers", "hidden_size",
    "vocabulary", "step", "step_source", "files", "grade", "shards", "shard_basis", "missing_shards",
    "weights_missing", "same_content", "versions", "companions", "configured", "configured_why",
}  # fmt: skip
MISSING = {"name", "size_bytes", "sha256", "learnt_from", "same_size", "looked_for"}
UNREAD_STATUS = set("?*/-")


def load_checked(case: Path) -> dict[str, Any]:
    """Return a case's report.json, after holding it against the schema and against the files that lie there."""
    text = (case / "report.json").read_bytes()
    assert text.isascii()
    report: dict[str, Any] = json.loads(text, parse_constant=lambda name: _fail(f"{name} is no JSON"))
    check(report)
    for file in report["files"] + report["side_files"]:
        content = (case / file["path"]).read_bytes()
        assert len(content) == file["size_bytes"]
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
    rooms = {path.relative_to(case).as_posix() for path in case.glob("*/**/*") if path.is_file()}
    links = {path for path in rooms if path.startswith("models/")}
    rooms -= links
    links -= {path for path in links if path.endswith("/INCOMPLETE.txt")}
    inodes = {(case / path).stat().st_ino for path in rooms}
    data = [file for file in report["files"] if file["format"] == "onnx_external_data"]
    small = {(case / file["path"]).read_bytes() for file in report["side_files"] + data}
    assert all((case / path).stat().st_ino in inodes or (case / path).read_bytes() in small for path in links)
    assert rooms == {file["path"] for file in report["files"] + report["side_files"]}
    return report


def check(report: dict[str, Any]) -> None:
    assert set(report) == TOP
    assert report["schema_version"] == 1
    assert report["tool"]["name"] == "carver"
    assert isinstance(report["tool"]["version"], str)
    for key in ("started", "ended"):
        assert datetime.fromisoformat(report["run"][key]).utcoffset().total_seconds() == 0
    _check_source(report["source"])
    paths = [file["path"] for file in report["files"] + report["side_files"]]
    assert len(paths) == len(set(paths))
    for file in report["files"] + report["side_files"]:
        _check_file(file, set(paths), report["source"]["size_bytes"])
    _check_alike(report["files"])
    for file in report["side_files"]:
        assert file["parent"] is None and file["tensors"] == [] and file["grade"] in GOOD
    for model in report["models"]:
        assert set(model) == MODEL
        assert model["files"] and model["parameters"] >= 0 and model["grade"] in GRADES
        named = {*model["files"], *model["same_content"], *model["versions"], *(c["path"] for c in model["companions"])}
        assert named <= set(paths)
        assert bool(model["family"]) == bool(model["family_source"])
        assert bool(model["configured"]) == bool(model["configured_why"])
    for file in report["missing"]:
        assert set(file) == MISSING
        assert file["name"] or file["sha256"]
        assert file["learnt_from"] and set(file["learnt_from"]) | set(file["same_size"]) <= set(paths)
    for lost in report["elsewhere"]:
        assert set(lost) == {"path", "hit", "copies", "found", "sources", "nowhere"}
        assert {lost["path"], *(copy["path"] for copy in lost["copies"]), *(p for _, p in lost["sources"])} <= set(
            paths
        )
        assert lost["found"] + (len(lost["nowhere"]) if len(lost["nowhere"]) < 100 else 0) <= lost["hit"]
    starts = [file["layout"][0][0] for file in report["files"] if file["layout"]]
    assert starts == sorted(starts)
    for code, count in report["rejected"].items():
        assert re.fullmatch(r"[a-z0-9_]+:[a-z0-9-]+", code), code
        assert type(count) is int and count > 0


def _check_source(source: dict[str, Any]) -> None:
    assert set(source) == {"locator", "size_bytes", "identity", "unread"}
    assert isinstance(source["identity"], dict)
    assert source["identity"]["size_bytes"] == source["size_bytes"] > 0
    last_end = 0
    for offset, size, status in source["unread"] or ():
        assert offset >= last_end and size > 0
        assert status in UNREAD_STATUS
        last_end = offset + size
    assert last_end <= source["size_bytes"]


def _check_alike(files: list[dict[str, Any]]) -> None:
    by_path = {file["path"]: file for file in files}
    for file in files:
        if "copy_of" in file:
            assert by_path[file["copy_of"]]["sha256"] == file["sha256"] and file["copy_of"] != file["path"]
        if "shares_bytes_with" in file:
            other = by_path[file["shares_bytes_with"]]
            assert any(a < c + d and c < a + b for a, b in file["layout"] for c, d in other["layout"])


def _check_file(file: dict[str, Any], paths: set[str], image_bytes: int) -> None:
    assert set(file) - {"md5", "copy_of", "shares_bytes_with"} == FILE
    path = Path(file["path"])
    assert not path.is_absolute() and ".." not in path.parts and file["path"] == path.as_posix()
    assert file["grade"] in GRADES
    assert path.parts[0] == ("files" if file["grade"] in GOOD else file["grade"].lower())
    assert file["layout_basis"] in BASES
    assert file["data_evidence"] in EVIDENCE
    assert re.fullmatch(r"[0-9a-f]{64}", file["sha256"])
    assert sum(size for _, size in file["layout"]) == file["size_bytes"]
    for offset, size in file["layout"]:
        assert offset >= 0 and size >= 0 and offset + size <= image_bytes
    assert file["parent"] is None or (file["parent"] in paths and file["parent"] != file["path"])
    assert isinstance(file["name_source"], str) and file["name_source"]
    for finding in file["findings"]:
        assert set(finding) == {"code", "offset_bytes", "detail"}
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", finding["code"]), finding
        assert finding["offset_bytes"] is None or type(finding["offset_bytes"]) is int
        assert isinstance(finding["detail"], str)
    for tensor in file["tensors"]:
        assert set(tensor) - {"layout"} == TENSOR
        assert all(type(length) is int and length >= 0 for length in tensor["shape"])
        for key in ("name", "dtype", "grade"):
            assert isinstance(tensor[key], str)


def without_run(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report but for what may differ from run to run."""
    return {key: value for key, value in report.items() if key != "run"}


def _fail(message: str) -> None:
    raise AssertionError(message)
