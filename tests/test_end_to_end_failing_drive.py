"""A real block device that answers EIO: `carver rescue /dev/loopN CASE`, and nothing is ever written to a source."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fixtures import demo
from fixtures.failing_drive import damage_of, failing_drive, missing_for_failing_drive
from imaging.mapfile import BlockStatus, Mapfile
from tests.command import COMMAND, good, need, need_program
from tests.report_schema import GOOD, load_checked
from tests.test_end_to_end_destination import loop_device

pytestmark = pytest.mark.root
OPENED = re.compile(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]+)", ([A-Z_|0-9]+)')
WRITING = ("O_WRONLY", "O_RDWR", "O_TRUNC", "O_CREAT")


def test_a_failing_drive_becomes_a_case_with_reports(demo_drive, demo_case, tmp_path):
    need(missing_for_failing_drive())
    damage = damage_of(demo.IMAGE_BYTES, [(offset, size) for offset, size in _bad(demo_drive)])
    with failing_drive(tmp_path / "bench", demo_drive / "drive.img", damage) as drive:
        good("rescue", drive.device, tmp_path / "CASE")
        reached = len(drive.reads())
        again = good("rescue", drive.device, tmp_path / "CASE")
        more = drive.reads()[reached:]
    report = load_checked(tmp_path / "CASE")
    assert report["files"] == load_checked(demo_case)["files"]
    assert [file["grade"] in GOOD for file in report["files"]].count(False) == 1
    finished = Mapfile.load(tmp_path / "CASE" / "image.raw.map").extents(BlockStatus.FINISHED)
    assert finished.total_bytes == demo.IMAGE_BYTES - damage.bad_bytes
    assert sum(read.size_bytes for read in more) < 4 << 20, "the second run looks at samples, it does not read again"
    assert "19 model files" in again.err
    truth = json.loads(good("score", tmp_path / "CASE", "--truth", demo_drive / "truth.json", "--json").out)
    assert truth["missed"] == [demo.DAMAGED_FILE]


def _bad(drive: Path) -> list[tuple[int, int]]:
    lines = [line.split() for line in (drive / "damage.map").read_text().splitlines() if line.endswith("-")]
    return [(int(line[0], 16), int(line[1], 16)) for line in lines]


def test_a_source_is_only_ever_opened_for_reading_and_stays_as_it_was(demo_drive, tmp_path):
    need_program("strace")
    contents = tmp_path / "contents"
    shutil.copy(demo_drive / "drive.img", contents)
    before = hashlib.sha256(contents.read_bytes()).hexdigest()
    with loop_device(contents) as device:  # writable: nothing but our own care protects it
        trace = tmp_path / "trace"
        strace = ["strace", "-f", "-qq", "-e", "trace=open,openat,creat", "-o", str(trace)]
        subprocess.run([*strace, *COMMAND, "rescue", str(device), str(tmp_path / "CASE")], check=True, timeout=200)
        good("scan", device)
        opened = [match for match in OPENED.findall(trace.read_text()) if match[0] in (str(device), str(contents))]
    assert opened, "the trace shows how the source was opened"
    assert not [flags for _, flags in opened if any(word in flags for word in WRITING)], opened
    assert hashlib.sha256(contents.read_bytes()).hexdigest() == before
    assert load_checked(tmp_path / "CASE")["source"]["unread"] == []
