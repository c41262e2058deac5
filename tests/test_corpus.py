"""Real model files of others, if any are at hand, laid on an image among decoys: all must come back, nothing else.

`CARVER_CORPUS=FOLDER` names a folder of files, `CARVER_CATALOG=FILE` a table of them (tab-separated, with the columns
format, sha256 and path). Run with `-m long`.
"""

import csv
import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from fixtures.images import build_plain, write_truth
from tests.command import good

FORMATS = {
    "hdf5": "hdf5",
    "onnx": "onnx",
    "safetensors": "safetensors",
    "torch-zip": "pytorch_zip",
    "torch-legacy": "pytorch_legacy",
}
SIGNATURE = b"\x89HDF\r\n\x1a\n"

pytestmark = pytest.mark.long


def format_of(row: Mapping[str, str]) -> str:
    """Return our name of a catalogue's format, which may be that name itself."""
    return FORMATS.get(row["format"], row["format"])


def end_of_file_address(content: bytes) -> int:
    """Where an HDF5 file of superblock 0 to 3 with addresses of 8 bytes says that it ends, user block included."""
    at = content.index(SIGNATURE)
    version = content[at + 8]
    return int(struct.unpack_from("<Q", content, at + {0: 40, 1: 44}.get(version, 28))[0])


@pytest.mark.parametrize("sector_bytes", [512, 4096])
@pytest.mark.parametrize("decoys", [True, False])
def test_every_file_of_the_corpus_comes_back_and_nothing_false(decoys, sector_bytes, tmp_path):
    folder, catalog = os.environ.get("CARVER_CORPUS"), os.environ.get("CARVER_CATALOG")
    if not folder or not catalog:
        pytest.skip("no corpus: CARVER_CORPUS and CARVER_CATALOG are not set")
    placed = []
    with Path(catalog).open(newline="") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            content = (Path(folder) / row["path"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == row["sha256"]
            placed.append((row["path"], format_of(row), content))
    truth = build_plain(tmp_path / "disk.img", placed, seed=1, sector_bytes=sector_bytes, decoys=decoys)
    for file, (_, kind, content) in zip(truth["files"], placed, strict=True):
        end = end_of_file_address(content) if kind == "hdf5" else len(content)
        if end < len(content):  # some writers add bytes behind it, which no format's length covers
            file["size_bytes"], file["layout"] = end, [[file["layout"][0][0], end]]
            file["sha256"] = hashlib.sha256(content[:end]).hexdigest()
    write_truth(tmp_path / "truth.json", truth)
    good("carve", tmp_path / "disk.img", "--out", tmp_path / "CASE")
    bars = ("--min-recall", 1, "--min-precision", 1)
    score = json.loads(good("score", tmp_path / "CASE", "--truth", tmp_path / "truth.json", "--json", *bars).out)
    assert (score["missed"], score["false"]) == ([], [])
    report = json.loads((tmp_path / "CASE" / "report.json").read_text())
    told = {file["sha256"] for file in report["files"] if "bytes-after-end" in {f["code"] for f in file["findings"]}}
    cut = {
        file["sha256"]
        for file, (_, _, content) in zip(truth["files"], placed, strict=True)
        if file["size_bytes"] < len(content)
    }
    assert cut <= told
