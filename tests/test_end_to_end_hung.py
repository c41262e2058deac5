"""`carver image` of a real device that hangs: stopped, killed, run again, while its children hang in the kernel."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtures.failing_drive import HangingDrive, damage_of, hanging_drive, missing_for_failing_drive, write_contents
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore, read_remarks
from imaging.rescue.put_off import recalled
from tests.command import COMMAND, need
from tests.processes import WAIT_SECONDS, readers_of, wait_until_nobody_reads

pytestmark = pytest.mark.root
MIB = 1 << 20
SIZE = 4 * MIB
BAD = ((3 * MIB + 8192, 1024),)
HANG = (2 * MIB + 4096, 512)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A drive that hangs, and its imager."""

    folder: Path
    drive: HangingDrive

    @property
    def image(self) -> Path:
        return self.folder / "drive.img"

    @property
    def map(self) -> Path:
        return self.folder / "drive.img.map"

    @contextmanager
    def imager(self) -> Iterator[subprocess.Popen[bytes]]:
        command = [*COMMAND, "image", "-q", "--read-timeout", "3", str(self.drive.device), str(self.image)]
        with (self.folder / "told.txt").open("ab") as told, subprocess.Popen(command, stderr=told) as process:
            try:
                yield process
            finally:
                process.kill()

    def finished(self) -> ExtentSet:
        return MapStore.read_snapshot(self.map).extents(BlockStatus.FINISHED) if self.map.exists() else ExtentSet()

    def left_for_last(self) -> ExtentSet:
        return recalled(read_remarks(self.map))

    def wait_until(self, process: subprocess.Popen[bytes], so: Callable[[], bool]) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while not so():
            assert process.poll() is None, (self.folder / "told.txt").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)

    def stop(self, process: subprocess.Popen[bytes]) -> float:
        """Press Ctrl-C; return the seconds until it ended."""
        since = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_SECONDS) == 130
        return time.monotonic() - since

    def check_end(self) -> None:
        bad = ExtentSet(Extent(offset_bytes=at, size_bytes=size) for at, size in BAD)
        mapfile = Mapfile.load(self.map)
        assert mapfile.extents(BlockStatus.BAD_SECTOR) == bad
        assert mapfile.extents(BlockStatus.FINISHED) == bad.complement(span(0, SIZE))
        image = bytearray((self.folder / "contents").read_bytes())
        for extent in bad:
            image[extent.offset_bytes : extent.end_bytes] = bytes(extent.size_bytes)
        assert self.image.read_bytes() == image


@pytest.mark.parametrize("parallel", [False, True], ids=["in turn", "in parallel"])
def test_a_hang_costs_neither_ctrl_c_nor_a_kill_nor_the_next_run_anything(parallel, tmp_path, capsys):
    need(missing_for_failing_drive())
    write_contents(tmp_path / "contents", 5, SIZE)
    damage = damage_of(SIZE, BAD)
    hang = Extent(offset_bytes=HANG[0], size_bytes=HANG[1])
    with hanging_drive(tmp_path / "bench", tmp_path / "contents", damage, [HANG], parallel=parallel) as drive:
        bench = Bench(folder=tmp_path, drive=drive)
        with bench.imager() as first:
            bench.wait_until(first, lambda: bench.left_for_last().touches(hang))
            first.kill()
            first.wait(WAIT_SECONDS)
        orphans = readers_of(drive.device)
        assert orphans, "the drive has not let them go"
        assert bench.finished().total_bytes > 0, "the map was saved while the drive hung"

        known, map_file = bench.finished(), bench.map.stat().st_ino
        with bench.imager() as second:
            bench.wait_until(second, lambda: bench.map.stat().st_ino != map_file)
            if parallel:  # the drive answers others
                bench.wait_until(second, lambda: bench.finished().total_bytes >= SIZE * 3 // 4)
                bench.wait_until(second, lambda: len(readers_of(drive.device)) > len(orphans))
            seconds = bench.stop(second)
        assert set(orphans) & set(readers_of(drive.device)), "nothing waited for the drive"
        assert not known - bench.finished()
        assert bench.left_for_last().touches(hang)

        drive.release()
        with bench.imager() as third:
            assert third.wait(WAIT_SECONDS) == 0, (tmp_path / "told.txt").read_text()
        wait_until_nobody_reads(drive.device)
    bench.check_end()
    assert bench.left_for_last() == ExtentSet()
    with capsys.disabled():
        print(f" Ctrl-C answered after {seconds:.2f} s ", end="")


@pytest.mark.parametrize("command", ["image", "rescue"])
def test_a_drive_that_hangs_at_its_first_byte_is_told_of_and_ctrl_c_ends_the_wait(command, tmp_path):
    need(missing_for_failing_drive())
    write_contents(tmp_path / "contents", 5, MIB)
    damage = damage_of(MIB, [])
    with hanging_drive(tmp_path / "bench", tmp_path / "contents", damage, [(0, 512)], parallel=False) as drive:
        words = [*COMMAND, command, str(drive.device), str(tmp_path / "out")]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            try:
                first = process.stderr.readline()
                if "looking at" in first:  # first that it looks, then that there is no answer
                    first = process.stderr.readline()
                assert first == f"{drive.device} does not answer; waiting for it (Ctrl-C is safe)\n"
                process.send_signal(signal.SIGINT)
                told = process.communicate(timeout=WAIT_SECONDS)[1]
            finally:
                process.kill()  # else a failure would wait for it
        assert process.returncode == 130, told
        assert readers_of(drive.device), "the drive was not waited for"
    assert not (tmp_path / "out").exists()
