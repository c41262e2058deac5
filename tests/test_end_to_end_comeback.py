"""A drive that drops out of `carver image` and comes back under another name, while it is waited for and while not."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fixtures.failing_drive import FailingDrive, damage_of, failing_drive, missing_for_failing_drive, write_contents
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore
from tests.command import COMMAND, carver, good, need

pytestmark = pytest.mark.root
MIB = 1 << 20
SIZE = 8 * MIB
DAMAGE = damage_of(SIZE, [(MIB, 4096), (6 * MIB, 8192)])
BAD = ExtentSet(Extent(offset_bytes=at, size_bytes=size) for at, size in DAMAGE.bad)
WAIT_SECONDS = 120


@contextmanager
def plugged_in(folder: Path, name: str, *, seed: int = 1) -> Iterator[FailingDrive]:
    """The same drive each time, for the same seed, under the name that is free."""
    need(missing_for_failing_drive())
    contents = folder / f"contents-{seed}"
    write_contents(contents, seed, SIZE)
    with failing_drive(folder / name, contents, DAMAGE, read_milliseconds=10) as drive:
        yield drive


def wait_until_read(map_path: Path, size_bytes: int, imager: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not map_path.exists() or finished_of(map_path).total_bytes < size_bytes:
        assert imager.poll() is None and time.monotonic() < until
        time.sleep(0.02)


def finished_of(map_path: Path) -> ExtentSet:
    return MapStore.read_snapshot(map_path).extents(BlockStatus.FINISHED)


def check_end(folder: Path) -> None:
    mapfile = Mapfile.load(folder / "drive.img.map")
    assert mapfile.extents(BlockStatus.BAD_SECTOR) == BAD, "its silence says nothing of its sectors"
    assert mapfile.extents(BlockStatus.FINISHED) == BAD.complement(span(0, SIZE))
    image, contents = (folder / "drive.img").read_bytes(), (folder / "contents-1").read_bytes()
    assert all(
        image[e.offset_bytes : e.end_bytes] == contents[e.offset_bytes : e.end_bytes]
        for e in BAD.complement(span(0, SIZE))
    )


def reads_again(drive: FailingDrive, finished: ExtentSet) -> int:
    """Return how much of what was read before was read again, beyond the looks that tell whether it is the drive."""
    extents = [Extent(offset_bytes=read.offset_bytes, size_bytes=read.size_bytes) for read in drive.reads()]
    return sum(extent.size_bytes for extent in extents if extent.size_bytes > 4096 and finished.covers(extent))


def test_a_drive_that_is_waited_for_is_read_on_under_another_name(tmp_path):
    image, map_path = tmp_path / "drive.img", tmp_path / "drive.img.map"
    told = tmp_path / "told.txt"
    with plugged_in(tmp_path, "first") as first, told.open("wb") as messages:
        command = [*COMMAND, "image", "--wait-for-return", str(WAIT_SECONDS), str(first.device), str(image)]
        with subprocess.Popen(command, stderr=messages) as imager:
            wait_until_read(map_path, 2 * MIB, imager)
            first.vanish()
            known = finished_of(map_path)
            with plugged_in(tmp_path, "other", seed=2), plugged_in(tmp_path, "second") as second:
                assert imager.wait(WAIT_SECONDS) == 0, told.read_text()
                assert reads_again(second, known) == 0
    check_end(tmp_path)
    assert str(second.device) in told.read_text()


def test_a_drive_that_was_not_waited_for_is_read_on_under_another_name_by_the_next_run(tmp_path):
    image, map_path = tmp_path / "drive.img", tmp_path / "drive.img.map"
    with plugged_in(tmp_path, "first") as first:
        with subprocess.Popen(
            [*COMMAND, "image", "-q", str(first.device), str(image)], stderr=subprocess.PIPE
        ) as imager:
            wait_until_read(map_path, 2 * MIB, imager)
            first.vanish()
            complaint = imager.communicate(timeout=WAIT_SECONDS)[1].decode()
        assert imager.returncode == 3
        assert "run the same command again" in complaint
        known = finished_of(map_path)
        assert known.total_bytes >= 2 * MIB
        with plugged_in(tmp_path, "other", seed=2) as other, plugged_in(tmp_path, "second") as second:
            outcome = carver("image", other.device, image)
            assert outcome.code == 3
            assert "begun for another drive" in outcome.complaint
            assert finished_of(map_path) == known
            good("image", "-q", second.device, image)
            assert reads_again(second, known) == 0
    check_end(tmp_path)
