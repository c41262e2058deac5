"""The rescue of a drive that hangs, vanishes or lies: a plain file behind a child that does so, and real devices."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fixtures.failing_drive import HangingDrive as BlockDrive
from fixtures.failing_drive import damage_of, hanging_drive, missing_for_failing_drive, write_contents
from imaging.errors import InputError
from imaging.extent import ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore
from imaging.pump import Piece
from imaging.reads import open_device
from imaging.rescue.comeback import Gone, WaitForReturn, samples_of
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions
from imaging.rescue.progress import Progress, RescueSummary
from imaging.source import RawImage, Source
from tests.imaging.hanging import HangingDrive

KIB = 1 << 10
MIB = 1 << 20
SIZE = 2 * MIB


class Rescue:
    """A rescue of a drive that hangs, and what it told."""

    def __init__(self, folder: Path, **rules: Any) -> None:
        self.drive = HangingDrive(folder, SIZE, **rules)
        self.image_path, self.map_path = folder / "drive.img", folder / "drive.map"
        self.told: list[Progress] = []
        self.on_told: Callable[[Progress], None] = lambda progress: None
        self.on_piece: Callable[[Piece], None] = lambda piece: None

    def run(
        self, options: RescueOptions | None = None, *, timeout_seconds: float = 1.0, **kwargs: Any
    ) -> RescueSummary:
        with self.drive.open(read_timeout_seconds=timeout_seconds) as source:
            return rescue(
                source,
                self.image_path,
                self.map_path,
                options or RescueOptions(compatible=True),
                on_progress=self._tell,
                subscribers=(lambda piece: self.on_piece(piece),),
                **kwargs,
            )

    def _tell(self, progress: Progress) -> None:
        self.told.append(progress)
        self.on_told(progress)

    @property
    def finished(self) -> ExtentSet:
        return MapStore.read_snapshot(self.map_path).extents(BlockStatus.FINISHED)

    def check(self, bad: ExtentSet | None = None) -> None:
        """All but the bad ranges is finished, and the image holds it; those are bad, and read as zeros."""
        bad = bad or ExtentSet()
        mapfile = Mapfile.load(self.map_path)
        assert mapfile.extents(BlockStatus.BAD_SECTOR) == bad
        assert mapfile.extents(BlockStatus.FINISHED) == bad.complement(span(0, SIZE))
        image = bytearray(self.drive.contents)
        for extent in bad:
            image[extent.offset_bytes : extent.end_bytes] = bytes(extent.size_bytes)
        assert self.image_path.read_bytes() == bytes(image)


def test_what_hangs_for_ever_is_left_for_last_and_everything_else_is_rescued(tmp_path: Path) -> None:
    bench = Rescue(tmp_path, hang=[[MIB, 1024]])
    summary = bench.run()
    bench.check(ExtentSet([span(MIB, MIB + 1024)]))
    assert summary.finished
    assert summary.hung[0] == span(MIB, MIB + 64 * KIB)
    asked = bench.drive.asked()
    first_return = next(n for n, (at, size) in enumerate(asked) if size == 512 and MIB <= at < MIB + 64 * KIB)
    before = ExtentSet(span(at, at + size) for at, size in asked[:first_return])
    assert before.covers(span(0, SIZE)), "first everything else"
    assert max(progress.hangs for progress in bench.told) == len(summary.hung) == 3


def test_the_map_is_saved_and_the_wait_is_told_while_a_read_hangs(tmp_path: Path) -> None:
    bench = Rescue(tmp_path, hang=[[MIB, 512]], serial=True)
    known: list[int] = []

    def look(progress: Progress) -> None:
        if progress.hung:
            known.append(self_rescued := bench.finished.total_bytes)
            assert self_rescued == progress.totals.rescued_bytes
            if progress.waiting_seconds > 1:
                bench.drive.release()

    bench.on_told = look
    assert bench.run().finished
    assert known
    assert min(known) == MIB
    assert any(progress.waiting_seconds > 0 and not progress.hung for progress in bench.told)
    bench.check()


def test_a_stop_is_answered_within_a_second_while_the_drive_hangs(tmp_path: Path) -> None:
    for number, rules in enumerate(({}, {"serial": True})):
        folder = tmp_path / str(number)
        folder.mkdir()
        bench = Rescue(folder, hang=[[MIB, 512]], **rules)
        asked: list[float] = []

        def stop(bench: Rescue = bench, asked: list[float] = asked) -> bool:
            waits = bool(bench.told) and bench.told[-1].waiting_seconds > 0.3
            asked.extend([time.monotonic()] if waits else [])
            return waits

        summary = bench.run(stop=stop, timeout_seconds=60.0)
        assert summary.stopped
        assert len(asked) == 1, "asked once, and then nothing was waited for"
        assert bench.finished.total_bytes == MIB
        bench.drive.rule()
        assert bench.run(timeout_seconds=60.0).finished
        bench.check()


def test_a_drive_that_answers_late_loses_nothing_and_is_not_asked_again(tmp_path: Path) -> None:
    bench = Rescue(tmp_path, hang=[[MIB, 512]])

    def look(progress: Progress) -> None:
        if progress.hangs:
            bench.drive.release()

    bench.on_told = look
    summary = bench.run()
    assert summary.finished
    assert summary.hung == (span(MIB, MIB + 64 * KIB),)
    bench.check()


@pytest.mark.parametrize("serial", [False, True])
def test_hangs_and_bad_sectors_together_end_in_the_truth(tmp_path: Path, serial: bool) -> None:
    bad = [[100 * KIB, 2048], [MIB + 512, 1024], [SIZE - 512, 512]]
    bench = Rescue(tmp_path, hang=[[MIB, 512], [MIB + 200 * KIB, 4096]], fail=bad, serial=serial)

    def look(progress: Progress) -> None:
        if progress.hangs and (progress.hung or progress.phase.word == "scraping"):
            bench.drive.release()

    bench.on_told = look
    summary = bench.run()
    assert summary.finished
    assert summary.hung
    bench.check(ExtentSet(span(at, at + size) for at, size in bad))


def test_a_zone_that_hangs_costs_few_deadlines_before_the_rest_is_read(tmp_path: Path) -> None:
    bench = Rescue(tmp_path, hang=[[MIB, 512 * KIB]])
    hangs: list[int] = []

    def look(progress: Progress) -> None:
        rest_bytes = progress.totals.size_bytes - progress.totals.rescued_bytes
        if rest_bytes == 512 * KIB:
            hangs.append(progress.hangs)
            bench.drive.release()

    bench.on_told = look
    assert bench.run().finished
    assert hangs[0] <= 6
    bench.check()


def test_a_drive_that_vanishes_ends_the_rescue_and_the_storm_before_is_taken_back(tmp_path: Path) -> None:
    bench = Rescue(tmp_path, fail=[[MIB, SIZE]])
    bad: list[Piece] = []

    def vanish(piece: Piece) -> None:
        bad.extend([piece] if piece.status is BlockStatus.BAD_SECTOR else [])
        if len(bad) == 10:
            bench.drive.rule(fail=[[0, SIZE]])

    bench.on_piece = vanish
    with pytest.raises(InputError, match="not even what it has read before"):
        bench.run(options=RescueOptions(recheck_errors=40))
    mapfile = Mapfile.load(bench.map_path)
    assert mapfile.count_bytes(BlockStatus.FINISHED) == MIB
    assert mapfile.count_bytes(BlockStatus.BAD_SECTOR) <= 10 * 512, "its silence says nothing of the sectors"


def test_a_drive_whose_known_good_sectors_stay_good_may_fail_as_long_as_it_likes(tmp_path: Path) -> None:
    bench = Rescue(tmp_path, fail=[[MIB, 100 * KIB]])
    assert bench.run(options=RescueOptions(recheck_errors=8), timeout_seconds=60.0).finished
    bench.check(ExtentSet([span(MIB, MIB + 100 * KIB)]))
    again = [(at, size) for at, size in bench.drive.asked() if bench.drive.asked().count((at, size)) > 1]
    assert again
    assert all(not MIB <= at < MIB + 100 * KIB for at, _ in again)


def test_a_drive_that_lies_is_stopped(tmp_path: Path) -> None:
    bench = Rescue(tmp_path, fail=[[MIB, SIZE]])

    def lie(piece: Piece) -> None:
        if piece.status is BlockStatus.BAD_SECTOR:
            bench.drive.rule(fail=[[MIB, SIZE]], zeros=True)

    bench.on_piece = lie
    with pytest.raises(InputError, match="answers other bytes"):
        bench.run(options=RescueOptions(compatible=True, recheck_errors=16), timeout_seconds=60.0)


def test_zeros_after_errors_are_a_fact_of_the_summary(tmp_path: Path) -> None:
    bench = Rescue(tmp_path, fail=[[64 * KIB, 512]])

    def lie(piece: Piece) -> None:
        if piece.status is not BlockStatus.FINISHED:
            bench.drive.rule(fail=[[64 * KIB, 512]], zeros=True)

    bench.on_piece = lie
    summary = bench.run(timeout_seconds=60.0)
    assert summary.blank_alarm
    assert summary.blank_after_errors_bytes > MIB


@pytest.mark.parametrize("code", [errno.ENODEV, errno.ENXIO, errno.EIO])
def test_a_drive_that_comes_back_is_read_on_where_it_was_lost(tmp_path: Path, code: int) -> None:
    bench = Rescue(tmp_path, fail=[[300 * KIB, 1024]])
    seen: list[Gone] = []

    def vanish(piece: Piece) -> None:
        if piece.extent.offset_bytes == MIB and not seen:
            bench.drive.rule(gone=True, code=code)

    def find(gone: Gone, tell: Callable[[float], None]) -> Source:
        seen.append(gone)
        tell(1.0)
        bench.drive.rule(fail=[[300 * KIB, 1024]])
        other = bench.drive.path.with_name("other")
        other.write_bytes(bench.drive.contents)
        return bench.drive.open(path=other, read_timeout_seconds=60.0)

    bench.on_piece = vanish
    summary = bench.run(on_gone=find, timeout_seconds=60.0)
    assert summary.finished
    assert summary.returned_as == (str(bench.drive.path.with_name("other")),)
    bench.check(ExtentSet([span(300 * KIB, 301 * KIB)]))
    for at, data in seen[0].samples:
        assert bench.drive.contents[at : at + len(data)] == data
    assert seen[0].samples


def test_the_user_need_not_wait_for_a_drive_that_is_gone(tmp_path: Path) -> None:
    bench = Rescue(tmp_path)

    def vanish(piece: Piece) -> None:
        if piece.extent.offset_bytes == MIB:
            bench.drive.rule(gone=True)

    def wait(gone: Gone, tell: Callable[[float], None]) -> Source | None:
        while True:
            tell(1.0)

    bench.on_piece = vanish
    summary = bench.run(on_gone=wait, timeout_seconds=60.0, stop=lambda: any(progress.gone for progress in bench.told))
    assert summary.stopped
    bench.drive.rule()
    bench.on_piece = lambda piece: None
    assert bench.run(timeout_seconds=60.0).finished
    bench.check()


class Machine:
    """A /sys with drives in it, each a plain file."""

    def __init__(self, folder: Path) -> None:
        self.sys_root = folder / "sys"
        self.files: dict[str, Path] = {}
        self.folder = folder
        (self.sys_root / "dev" / "block").mkdir(parents=True)

    def add(self, name: str, number: str, contents: bytes) -> None:
        place = self.sys_root / "block" / name
        place.mkdir(parents=True)
        (place / "size").write_text(f"{len(contents) // 512}\n")
        (place / "dev").write_text(f"{number}\n")
        (self.sys_root / "dev" / "block" / number).symlink_to(place)
        self.files[f"/dev/{name}"] = self.folder / name
        self.files[f"/dev/{name}"].write_bytes(contents)

    def open(self, path: Path, watcher: Any) -> RawImage:
        return RawImage(self.files[str(path)])


@pytest.fixture
def lost(tmp_path: Path) -> Gone:
    path = tmp_path / "lost"
    path.write_bytes(os.urandom(SIZE))
    source = RawImage(path)
    mapfile = Mapfile.covering(SIZE)
    mapfile.mark(span(4096, MIB), BlockStatus.FINISHED)
    mapfile.mark(span(MIB + 512, MIB + 1024), BlockStatus.FINISHED)
    return Gone(
        source=source,
        samples=samples_of(mapfile, lambda extent: source.read_at(extent.offset_bytes, extent.size_bytes)),
    )


def wait_for(machine: Machine, gone: Gone, seconds: float = 0.0001) -> Source | None:
    waiting = WaitForReturn(gone.source, wait_seconds=seconds, reopen=machine.open, sys_root=machine.sys_root)
    return waiting(gone, lambda seconds: None)


def contents_of(gone: Gone) -> bytes:
    return gone.source.read_at(0, SIZE)


def test_the_drive_is_known_by_its_contents_under_another_name(tmp_path: Path, lost: Gone) -> None:
    machine = Machine(tmp_path)
    machine.add("sdx", "8:16", os.urandom(SIZE))
    machine.add("sdy", "8:32", contents_of(lost))
    machine.add("sdz", "8:48", contents_of(lost)[: SIZE // 2])
    found = wait_for(machine, lost)
    assert found is not None
    assert found.locator.endswith("sdy")


def test_two_drives_that_could_be_it_are_none(tmp_path: Path, lost: Gone) -> None:
    machine = Machine(tmp_path)
    machine.add("sdx", "8:16", contents_of(lost))
    machine.add("sdy", "8:32", contents_of(lost))
    assert wait_for(machine, lost) is None


def test_a_drive_of_only_zeros_is_not_known_by_its_contents(tmp_path: Path) -> None:
    path = tmp_path / "lost"
    path.write_bytes(bytes(SIZE))
    gone = Gone(source=RawImage(path), samples=((0, bytes(4096)), (MIB, bytes(4096))))
    machine = Machine(tmp_path)
    machine.add("sdx", "8:16", bytes(SIZE))
    assert wait_for(machine, gone) is None


def test_a_drive_that_does_not_come_back_is_given_up(tmp_path: Path, lost: Gone) -> None:
    assert wait_for(Machine(tmp_path), lost, 0.5) is None


def test_samples_are_of_what_was_read_alone(lost: Gone) -> None:
    assert len(lost.samples) == 16
    for at, data in lost.samples:
        assert 4096 <= at <= MIB - 4096
        assert data == contents_of(lost)[at : at + 4096]


BAD = ((100 * KIB, 2048), (MIB + 200 * KIB, 1024), (SIZE - 512, 512))
HANGS = ((MIB, 512), (MIB + 300 * KIB, 4096))
ONE_RUN = """
import os, sys, time
from pathlib import Path
from imaging.reads import open_device
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions

device, image, map_path = sys.argv[1:]
source = open_device(device, read_timeout_seconds=1.5)
told = []
summary = rescue(
    source, Path(image), Path(map_path), RescueOptions(compatible=True),
    on_progress=told.append, stop=lambda: bool(told) and told[-1].hung,
)
print(summary.stopped, *(child.process_id for child in source._children if child.questions))
"""


@contextmanager
def block_bench(folder: Path, *, parallel: bool) -> Iterator[BlockDrive]:
    if reason := missing_for_failing_drive():
        if os.environ.get("CARVER_REQUIRE_TOOLS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    write_contents(folder / "contents", 7, SIZE)
    with hanging_drive(folder / "bench", folder / "contents", damage_of(SIZE, BAD), HANGS, parallel=parallel) as drive:
        yield drive


def check_block_bench(folder: Path) -> None:
    bad = ExtentSet(span(at, at + size) for at, size in BAD)
    mapfile = Mapfile.load(folder / "drive.map")
    assert mapfile.extents(BlockStatus.BAD_SECTOR) == bad
    assert mapfile.extents(BlockStatus.FINISHED) == bad.complement(span(0, SIZE))
    image = bytearray((folder / "contents").read_bytes())
    for extent in bad:
        image[extent.offset_bytes : extent.end_bytes] = bytes(extent.size_bytes)
    assert (folder / "drive.img").read_bytes() == bytes(image)


@pytest.mark.root
@pytest.mark.parametrize("parallel", [False, True])
def test_a_block_device_that_hangs_is_rescued_whole(tmp_path: Path, parallel: bool) -> None:
    known: list[int] = []
    with (
        block_bench(tmp_path, parallel=parallel) as drive,
        open_device(drive.device, read_timeout_seconds=1.5) as source,
    ):

        def look(progress: Progress) -> None:
            if progress.hung or (progress.hangs and progress.phase.word == "scraping"):
                snapshot = MapStore.read_snapshot(tmp_path / "drive.map")
                known.append(snapshot.count_bytes(BlockStatus.FINISHED))
                drive.release()

        image_path, map_path = tmp_path / "drive.img", tmp_path / "drive.map"
        summary = rescue(source, image_path, map_path, RescueOptions(compatible=True), on_progress=look)
    assert summary.finished
    assert summary.hung
    assert known[0] >= MIB - 128 * KIB, "the map is saved while the drive hangs"
    if parallel:
        assert known[0] > MIB, "what lies behind is read meanwhile"
    check_block_bench(tmp_path)


@pytest.mark.root
@pytest.mark.parametrize("parallel", [False, True])
def test_a_rescue_ends_though_its_child_hangs_in_the_kernel_and_another_begins(tmp_path: Path, parallel: bool) -> None:
    image_path, map_path = tmp_path / "drive.img", tmp_path / "drive.map"
    with block_bench(tmp_path, parallel=parallel) as drive:
        command = [sys.executable, "-c", ONE_RUN, str(drive.device), str(image_path), str(map_path)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        # its pipes are read to their end: a child that kept them open would hang us here
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert ended.returncode == 0, ended.stderr
        stopped, *orphans = ended.stdout.split()
        assert stopped == "True"
        assert orphans
        assert all(Path(f"/proc/{orphan}").exists() for orphan in orphans), "the drive has not let them go"
        os.kill(int(orphans[0]), signal.SIGKILL)
        assert Path(f"/proc/{orphans[0]}").exists()
        before = Mapfile.load(map_path).count_bytes(BlockStatus.FINISHED)
        assert before >= MIB - 128 * KIB
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert ended.stdout.startswith("True"), ended.stderr
        after = Mapfile.load(map_path).count_bytes(BlockStatus.FINISHED)
        assert after >= before
        drive.release()
        with open_device(drive.device) as source:
            assert rescue(source, image_path, map_path, RescueOptions()).finished
    check_block_bench(tmp_path)


@contextmanager
def loop_device(path: Path) -> Iterator[Path]:
    if (reason := missing_for_failing_drive()) and os.environ.get("CARVER_REQUIRE_TOOLS") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    shown = subprocess.run(["losetup", "-f", "-r", "--show", path], check=True, capture_output=True, text=True)
    try:
        yield Path(shown.stdout.strip())
    finally:
        if shown.stdout.strip() in subprocess.run(["losetup", "-j", path], capture_output=True, text=True).stdout:
            subprocess.run(["losetup", "-d", shown.stdout.strip()], check=True)


@pytest.mark.root
def test_a_block_device_is_found_again_under_another_name(tmp_path: Path) -> None:
    contents_path, again_path = tmp_path / "contents", tmp_path / "again"
    write_contents(contents_path, 7, SIZE)
    write_contents(again_path, 7, SIZE)
    contents = contents_path.read_bytes()
    write_contents(tmp_path / "other", 8, SIZE)
    node = tmp_path / "node"
    with loop_device(tmp_path / "other") as other, loop_device(contents_path) as first:
        node.symlink_to(first)
        source = open_device(node)
        assert source.present_bytes() == SIZE
        policy = WaitForReturn(source, wait_seconds=30.0)
        node.unlink()
        assert source.present_bytes() == 0, "its node is gone"
        node.symlink_to(other)
        assert source.present_bytes() == 0, "another drive has its name"
        subprocess.run(["losetup", "-d", first], check=True)  # done when the child lets go of it
        with loop_device(again_path) as second:
            found = policy(Gone(source=source, samples=((MIB, contents[MIB : MIB + 4096]),)), lambda seconds: None)
            assert found is not None
            assert found.locator == str(second)
            assert second != first
            assert found.read_at(0, SIZE) == contents
            found.close()  # type: ignore[attr-defined]
