"""Scan, carve, report and map while the drive is being imaged: on a snapshot, without a wait, disturbing nobody."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtures import demo
from fixtures.failing_drive import FailingDrive, damage_of, failing_drive, missing_for_failing_drive
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore
from tests.command import COMMAND, carver, good, need, need_program
from tests.report_schema import GOOD, load_checked, without_run

pytestmark = pytest.mark.root
WAIT_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Imaging:
    """A `carver image` that goes on while other commands run."""

    drive: FailingDrive
    image: Path
    process: subprocess.Popen[bytes]

    @property
    def map(self) -> Path:
        return self.image.with_name(self.image.name + ".map")

    def finished(self) -> ExtentSet:
        return MapStore.read_snapshot(self.map).extents(BlockStatus.FINISHED) if self.map.exists() else ExtentSet()

    def wait_until_read(self, size_bytes: int) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while self.finished().total_bytes < size_bytes:
            assert self.process.poll() is None and time.monotonic() < until
            time.sleep(0.1)

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(WAIT_SECONDS)


@contextmanager
def imaging(
    folder: Path, drive_image: Path, bad: list[tuple[int, int]], *, read_milliseconds: int = 30
) -> Iterator[Imaging]:
    """Image a slow drive of 512 clusters, and try its bad sectors without end: it goes on as long as it is needed."""
    need(missing_for_failing_drive())
    damage = damage_of(demo.IMAGE_BYTES, bad)
    with failing_drive(folder / "bench", drive_image, damage, read_milliseconds=read_milliseconds) as drive:
        image = folder / "drive.img"
        command = [*COMMAND, "image", "-q", "-r", "-1", str(drive.device), str(image)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                yield Imaging(drive=drive, image=image, process=process)
            finally:
                process.kill()


@pytest.fixture
def bad(demo_drive: Path) -> list[tuple[int, int]]:
    damage = Mapfile.load(demo_drive / "damage.map")
    return [(extent.offset_bytes, extent.size_bytes) for extent in damage.extents(BlockStatus.BAD_SECTOR)]


def test_a_snapshot_is_carved_while_imaging_goes_on_and_again_when_it_is_complete(demo_drive, bad, tmp_path):
    contents = (demo_drive / "drive.img").read_bytes()
    truth = {file["layout"][0][0]: file for file in json.loads((demo_drive / "truth.json").read_text())["files"]}
    case = tmp_path / "CASE"
    with imaging(tmp_path, demo_drive / "drive.img", bad, read_milliseconds=50) as work:
        work.wait_until_read(6 << 20)
        before = work.finished()
        status = good("map", "-t", work.map).out
        _carve_what_is_there_now(work, case)
        places = [json.loads(line)["offset_bytes"] for line in good("scan", "--json", work.image).out.splitlines()]
        assert work.process.poll() is None, "imaging went on meanwhile, and nobody waited for its end"
        after = work.finished()
        good("report", case)
        report = load_checked(case)
        assert work.end() == 130, "it was not disturbed"
        good("image", "-q", work.drive.device, work.image)
    _check_snapshot(report, before, after)
    assert {start for start, file in truth.items() if before.covers(_extent(file))} <= set(places)
    assert re.search(r"non-tried: +[1-9]", status)
    for file in report["files"]:
        if file["grade"] in GOOD and file["parent"] is None:
            start = file["layout"][0][0]
            assert (case / file["path"]).read_bytes() == contents[start : start + file["size_bytes"]]

    good("carve", work.image, "--out", case)
    good("carve", work.image, "--out", tmp_path / "WHOLE")
    shutil.rmtree(case / "superseded", ignore_errors=True)  # what was damaged while it was not read yet
    again, whole = load_checked(case), load_checked(tmp_path / "WHOLE")
    assert len(_good(whole)) > len(_good(report)) > 0
    assert _result(again) == _result(whole)


def _carve_what_is_there_now(work: Imaging, case: Path) -> None:
    """Hold the imager for the moment in which the carver looks at the map, so that much is missing in any case."""
    work.process.send_signal(signal.SIGSTOP)
    with subprocess.Popen([*COMMAND, "carve", "-q", work.image, "--out", case], stderr=subprocess.DEVNULL) as carving:
        until = time.monotonic() + WAIT_SECONDS
        while not (case / "case.json").exists():
            assert carving.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        work.process.send_signal(signal.SIGCONT)
        assert carving.wait(WAIT_SECONDS) == 0


def _result(report: dict[str, object]) -> dict[str, object]:
    """Return it without what the case was begun with; a damaged file whose name was taken has its usual name here."""
    text = re.sub(r"@0x[0-9a-f]+", "", json.dumps(without_run(report)))
    return {**json.loads(text), "source": report["source"]["unread"]}


def _good(report: dict[str, list[dict[str, str]]]) -> list[str]:
    return [file["path"] for file in report["files"] if file["grade"] in GOOD]


def _extent(file: dict[str, list[list[int]]]) -> Extent:
    offset_bytes, size_bytes = file["layout"][0]
    return Extent(offset_bytes=offset_bytes, size_bytes=size_bytes)


def _check_snapshot(report: dict[str, object], before: ExtentSet, after: ExtentSet) -> None:
    """What the report calls unread was unread at some moment of the run, and what it calls read was read."""
    unread = ExtentSet(span(at, at + size) for at, size, _ in report["source"]["unread"])
    read = unread.complement(span(0, demo.IMAGE_BYTES))
    assert before - read == ExtentSet()
    assert read - after == ExtentSet()
    assert read != after or before == after
    for file in report["files"]:
        extents = ExtentSet(span(at, at + size) for at, size in file["layout"])
        if file["grade"] in GOOD:
            assert not extents & unread, "what was not read is in no good file"


def test_a_second_imager_is_refused_with_the_pid_of_the_first(demo_drive, bad, tmp_path):
    with imaging(tmp_path, demo_drive / "drive.img", bad) as work:
        work.wait_until_read(1)
        shutil.copy(work.image, tmp_path / "other.img")
        pid = f"pid {work.process.pid}"
        for names in ((work.image,), (tmp_path / "other.img", work.map)):
            outcome = carver("image", work.drive.device, *names)
            assert outcome.code == 3
            assert pid in outcome.complaint
        assert work.process.poll() is None
        assert work.end() == 130


def test_an_image_that_is_being_written_is_not_memory_mapped(demo_drive, bad, tmp_path):
    need_program("strace")
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-y", "-qq", "-e", "trace=mmap", "-o", str(trace)]
    with imaging(tmp_path, demo_drive / "drive.img", bad) as work:
        work.wait_until_read(1 << 20)
        subprocess.run(
            [*strace, *COMMAND, "scan", str(work.image)], check=True, capture_output=True, timeout=WAIT_SECONDS
        )
        assert work.process.poll() is None
    mapped = trace.read_text()
    assert "mmap(" in mapped
    assert str(work.image) not in mapped
    subprocess.run([*strace, *COMMAND, "scan", str(work.image)], check=True, capture_output=True, timeout=WAIT_SECONDS)
    assert str(work.image) in trace.read_text(), "and this is how a mapping would show"
