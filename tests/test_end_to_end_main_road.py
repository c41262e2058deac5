"""The main road: `carver rescue` from a failing drive, or an image file, to a case with its reports."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fixtures import demo
from imaging.mapfile import BlockStatus, Mapfile
from tests.command import carver, good, need_program
from tests.report_schema import GOOD, load_checked, without_run

SESSIONS = {"image.raw.acquisition.json", "image.raw.hashes"}  # each run is on record there
REWRITTEN = {"report.json", "report.html", "case.json"} | SESSIONS  # they tell of the run


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every file in a folder but those that tell of the run."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    digests = {str(path.relative_to(folder)): hashlib.sha256(_content(path)).hexdigest() for path in files}
    return {name: digest for name, digest in digests.items() if name not in REWRITTEN}


def _content(path: Path) -> bytes:
    """Return a file's bytes; a map's without what it tells of the run that wrote it."""
    content = path.read_bytes()
    return (
        re.sub(rb"# (?:Generation|Command line|Image file): .*\n", b"", content) if path.suffix == ".map" else content
    )


def test_the_report_of_the_demo_drive_obeys_its_schema_and_tells_the_truth(demo_drive, demo_case):
    report = load_checked(demo_case)
    truth = json.loads((demo_drive / "truth.json").read_text())["files"]
    found = {tuple(file["layout"][0]): file for file in report["files"]}
    assert set(found) == {tuple(file["layout"][0]) for file in truth}
    for true in truth:
        file = found[tuple(true["layout"][0])]
        assert file["format"] == true["format"]
        assert (file["grade"] in GOOD) == (not true["unreadable"])
        assert (file["sha256"] == true["sha256"]) == (not true["unreadable"])


def test_the_report_names_the_tensors_that_the_bad_sectors_hit_and_no_others(demo_drive, demo_case):
    report = load_checked(demo_case)
    (true,) = (f for f in json.loads((demo_drive / "truth.json").read_text())["files"] if f["unreadable"])
    (file,) = (f for f in report["files"] if f["grade"] == "DAMAGED")
    start = true["layout"][0][0]
    assert true["path"] == demo.DAMAGED_FILE
    for tensor in file["tensors"]:
        low, high = start + tensor["offset_bytes"], start + tensor["offset_bytes"] + tensor["size_bytes"]
        hit = any(offset < high and low < offset + size for offset, size in true["unreadable"])
        assert (tensor["grade"] in GOOD) == (not hit), tensor["name"]


def test_the_unread_ranges_of_the_report_are_those_of_the_damage(demo_drive, demo_case):
    told = [(offset, size) for offset, size, _ in load_checked(demo_case)["source"]["unread"]]
    lines = [line.split() for line in (demo_drive / "damage.map").read_text().splitlines() if line.endswith("-")]
    assert told == [(int(line[0], 16), int(line[1], 16)) for line in lines]


def test_the_score_says_what_the_truth_says(demo_drive, demo_case):
    score = json.loads(good("score", demo_case, "--truth", demo_drive / "truth.json", "--json").out)
    everything = score["formats"][-1]
    assert (everything["truth"], everything["exact"], everything["located"]) == (19, 18, 19)
    assert everything["precision"] == 1.0
    assert score["missed"] == [demo.DAMAGED_FILE]


def test_report_html_stands_alone(demo_case):
    text = (demo_case / "report.html").read_text()
    assert demo.DAMAGED_FILE.split(".")[1] in text
    assert not re.findall(r"""(?:src|href|action|data)\s*=\s*["']?(?!#|data:)[^"'\s>]+""", text, re.IGNORECASE)
    assert not re.findall(r"url\((?!\s*[\"']?(?:#|data:))|@import|<script[^>]+src|<iframe|<link", text, re.IGNORECASE)


def test_ddrescuelog_reads_the_map_of_the_case(demo_case):
    need_program("ddrescuelog")
    shown = subprocess.run(
        ["ddrescuelog", "-t", demo_case / "image.raw.map"], check=True, capture_output=True, text=True
    )
    assert "rescued" in shown.stdout
    assert "bad-sector" in shown.stdout.replace(" ", "-") or "bad" in shown.stdout


def test_the_same_command_again_changes_nothing_and_reads_nothing_again(demo_drive, demo_case, tmp_path):
    case = tmp_path / "CASE"
    shutil.copytree(demo_case, case)
    before, report = contents(case), load_checked(case)
    written = {name: (case / name).stat().st_mtime_ns for name in before}
    again = good("rescue", "--test-mode", demo_drive / "damage.map", demo_drive / "drive.img", case)
    assert contents(case) == before
    assert without_run(load_checked(case)) == without_run(report)
    anew = (".lock", "missing.map", "files.csv")  # a report is written each time
    kept = [name for name in before if not name.startswith("image.raw.map") and name not in anew]
    assert {name: (case / name).stat().st_mtime_ns for name in kept} == {name: written[name] for name in kept}
    assert "19 model files" in again.err


def test_a_drive_that_has_got_better_is_tried_again_just_where_a_file_misses_bytes(demo_drive, demo_case, tmp_path):
    case = tmp_path / "CASE"
    shutil.copytree(demo_case, case)
    domain = Mapfile.load(case / "missing.map").extents(BlockStatus.FINISHED)
    before = Mapfile.load(case / "image.raw.map").extents(BlockStatus.FINISHED)
    assert domain and not domain & before
    healthy = tmp_path / "healthy.map"
    healthy.write_text(f"0x0 + 1\n0x0 {(demo_drive / 'drive.img').stat().st_size:#x} +\n")
    drive = ("--test-mode", healthy, demo_drive / "drive.img")
    again = good("rescue", *drive, case, "-m", case / "missing.map", "-r", "3")
    after = Mapfile.load(case / "image.raw.map").extents(BlockStatus.FINISHED)
    assert after == before | domain
    assert not Mapfile.load(case / "missing.map").extents(BlockStatus.FINISHED)
    assert "missing.map" not in again.err.splitlines()[-1]
    report = json.loads((case / "report.json").read_text())
    assert all(file["grade"] in GOOD for file in report["files"])


def test_what_the_files_miss_is_told_with_the_options_that_try_it_again(demo_drive, tmp_path):
    drive = ("--test-mode", demo_drive / "damage.map", demo_drive / "drive.img")
    told = good("rescue", *drive, tmp_path / "CASE").err
    assert f"-m {tmp_path / 'CASE' / 'missing.map'} -r 3" in told


def test_strict_ends_with_ten_when_sectors_or_files_are_damaged(demo_drive, demo_case, tmp_path):
    case = tmp_path / "CASE"
    shutil.copytree(demo_case, case)
    strict = carver("rescue", "--strict", "--test-mode", demo_drive / "damage.map", demo_drive / "drive.img", case)
    assert strict.code == 10
    assert strict.complaint == "carver: --strict: 1 file is not good, and 4 ranges were never read"


def test_a_plain_image_is_read_in_place(demo_drive, tmp_path):
    outcome = good("rescue", "--json", demo_drive / "drive.img", tmp_path / "CASE")
    report = load_checked(tmp_path / "CASE")
    assert report["source"]["unread"] is None
    (first,) = [line for line in outcome.err.splitlines() if "Unread sectors unknown" in line]
    assert first.startswith("warning: "), "told before the work"
    assert f"`carver carve {demo_drive / 'drive.img'} MAPFILE --out" in first
    assert "unread sectors unknown" in (tmp_path / "CASE" / "report.html").read_text().lower()
    assert all(file["grade"] in GOOD for file in report["files"])
    assert sum(path.stat().st_size for path in (tmp_path / "CASE").rglob("*")) < demo.IMAGE_BYTES
    assert json.loads(outcome.out)["unread_bytes"] is None
    score = good(
        "score", tmp_path / "CASE", "--truth", demo_drive / "truth.json", "--min-recall", 1, "--min-precision", 1
    )
    assert "100.00% (19/19)" in score.out


@pytest.mark.parametrize("suffix", [".map", ".mapfile", ".log"])
def test_a_mapfile_beside_the_image_is_found_by_itself(suffix, demo_drive, tmp_path):
    (tmp_path / "drive.img").hardlink_to(demo_drive / "drive.img")
    shutil.copy(demo_drive / "damage.map", tmp_path / f"drive.img{suffix}")
    lines = good("carve", "--dry-run", "--json", tmp_path / "drive.img", "--out", tmp_path / "CASE").out.splitlines()
    assert [json.loads(line)["grade"] for line in lines].count("DAMAGED") == 1
