"""Reads by child processes, of a plain file that hangs where it is told to; real devices are in test_hung_drive."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imaging.child import Child
from imaging.errors import InputError, Interrupted, ReadFault, ReadTimeout
from imaging.extent import span
from imaging.mapstore import lock_exclusively
from imaging.reads import Drive, PatientDrive, Waiting, open_device, open_source
from imaging.source import RawImage, Source
from tests.imaging.hanging import HangingDrive

MIB = 1 << 20
SIZE = 3 * MIB + 512
AMPLE = 60.0


def test_a_child_gives_the_bytes_that_are_there(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE)
    with drive.open(read_timeout_seconds=AMPLE) as device:
        for offset, size in (
            (0, 512),
            (1, 1),
            (511, 2),
            (4095, 70_000),
            (100, 2 * MIB + 9),
            (SIZE - 1, 100),
            (SIZE, 1),
        ):
            assert device.read_at(offset, size) == drive.contents[offset : offset + size]
    assert all(offset % 512 == size % 512 == 0 for offset, size in drive.asked())


def test_it_is_a_source_and_a_patient_drive(tmp_path: Path) -> None:
    with HangingDrive(tmp_path, SIZE).open(read_timeout_seconds=AMPLE) as device:
        assert isinstance(device, Source)
        assert isinstance(device, Drive)
        assert isinstance(device, PatientDrive)
        assert (device.size_bytes, device.sector_bytes, device.physical_sector_bytes) == (SIZE, 512, 512)
        assert device.unread is None
        assert device.present_bytes() == SIZE


def test_an_error_is_a_fault_with_its_number_and_what_came_before(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE, fail=[[MIB, 512]], code=errno.EREMOTEIO)
    with drive.open(read_timeout_seconds=AMPLE) as device:
        with pytest.raises(ReadFault) as caught:
            device.read_at(0, 2 * MIB)
        assert not isinstance(caught.value, ReadTimeout)
        assert caught.value.errno == errno.EREMOTEIO
        assert caught.value.prefix == drive.contents[:MIB]
        assert device.read_at(0, 512) == drive.contents[:512]


def test_the_child_measures_each_read_also_one_that_was_read_ahead(tmp_path: Path) -> None:
    with HangingDrive(tmp_path, SIZE).open(read_timeout_seconds=AMPLE) as device:
        device.expect(span(512, 1024))
        device.read_at(0, 512)
        first = device.read_seconds
        device.read_at(512, 512)
        assert 0.0 < first < device.read_seconds


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells which children there are")
def test_reopening_has_the_next_read_done_by_another_process(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE, fail=[[MIB, 512]])
    with drive.open(read_timeout_seconds=AMPLE) as device:
        device.expect(span(MIB, MIB + 512))
        assert device.read_at(0, 512) == drive.contents[:512]
        with pytest.raises(ReadFault):
            device.read_at(MIB, 512)
        before = _children_of_this_process()
        device.reopen()
        assert device.read_at(512, 512) == drive.contents[512:1024]
        after = _children_of_this_process()
    assert len(before - after) == len(after - before) == 1


def _children_of_this_process() -> set[int]:
    return set(map(int, Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()))


def test_a_read_past_its_deadline_is_a_timeout_and_the_drive_is_read_elsewhere(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE, hang=[[8192, 512]])
    with drive.open() as device:
        device.read_at(0, 512)
        with pytest.raises(ReadTimeout) as caught:
            device.read_at(8192, 4096)
        assert (caught.value.offset_bytes, caught.value.size_bytes) == (8192, 4096)
        assert device.read_at(65_536, 4096) == drive.contents[65_536:69_632]
        assert device.take_late() == []
    assert drive.asked()[-2:] == [(0, 512), (65_536, 4096)], "what was known as good is read before anything else"


def test_what_comes_late_is_kept_once(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE, hang=[[8192, 512]])
    with drive.open() as device:
        device.read_at(0, 512)
        with pytest.raises(ReadTimeout):
            device.read_at(8192, 4096)
        device.read_at(65_536, 512)
        drive.release()
        late: list[tuple[int, bytes]] = []
        while not late:
            late = device.take_late()
        assert (8192, drive.contents[8192:12_288]) in late
        assert device.take_late() == []


def test_a_frozen_drive_has_no_deadline_until_it_answers_again(tmp_path: Path) -> None:
    """Where reads are served in turn, the next one hangs for the sake of the first, and is innocent."""
    drive = HangingDrive(tmp_path, SIZE, hang=[[8192, 512]], serial=True)
    told: list[Waiting] = []

    def watcher(waiting: Waiting) -> bool:
        told.append(waiting)
        if waiting.hung:
            drive.release()
        return True

    with drive.open(watcher=watcher) as device:
        device.read_at(0, 512)
        with pytest.raises(ReadTimeout):
            device.read_at(8192, 4096)
        assert device.read_at(65_536, 4096) == drive.contents[65_536:69_632]
        late = dict(device.take_late())
        assert late[8192] == drive.contents[8192:12_288]
    assert any(waiting.hung and waiting.seconds > 1.0 for waiting in told), "longer than the deadline"
    assert told[0].position_bytes in (0, 8192)


def test_a_watcher_ends_the_wait(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE, hang=[[8192, 512]])
    with drive.open(read_timeout_seconds=AMPLE) as device:
        device.read_at(0, 512)
        device.watcher = lambda waiting: False
        with pytest.raises(Interrupted):
            device.read_at(8192, 512)
        device.watcher = lambda waiting: True
        assert device.read_at(0, 512) == drive.contents[:512]


def test_reading_ahead_changes_neither_the_reads_nor_their_order(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE, fail=[[3 * 4096, 512]])
    with drive.open(read_timeout_seconds=AMPLE) as device:
        for block in range(6):
            device.expect(span((block + 1) * 4096, (block + 2) * 4096) if block < 5 else None)
            if block == 3:
                with pytest.raises(ReadFault):
                    device.read_at(block * 4096, 4096)
            else:
                assert device.read_at(block * 4096, 4096) == drive.contents[block * 4096 : (block + 1) * 4096]
    assert drive.asked() == [(block * 4096, 4096) for block in range(6)]


def test_what_was_read_ahead_in_vain_is_not_taken_for_something_else(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE)
    with drive.open(read_timeout_seconds=AMPLE) as device:
        for at, expected in (
            (0, 4096),
            (8192, 65_536),
            (12_288, 16_384),
            (16_384, 20_480),
            (90_112, None),
            (512, None),
        ):
            device.expect(None if expected is None else span(expected, expected + 4096))
            assert device.read_at(at, 4096) == drive.contents[at : at + 4096]


def test_a_child_that_dies_is_replaced_and_one_that_always_dies_is_told(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE)
    with drive.open(read_timeout_seconds=AMPLE) as device:
        os.kill(device._children[0].process_id, 9)
        assert device.read_at(0, 512) == drive.contents[:512]
        drive.rule(die=[[4096, 512]])
        with pytest.raises(InputError, match="end by themselves"):
            device.read_at(4096, 512)


def test_a_refusal_is_told_in_the_words_of_the_child(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE, refuse="no medium today")
    with pytest.raises(InputError, match="no medium today"):
        drive.open(read_timeout_seconds=AMPLE)


def test_a_drive_that_cannot_be_opened_in_time_is_told(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE, never_opens=True)
    with pytest.raises(InputError, match="does not answer"):
        drive.open(open_timeout_seconds=0.2)


def test_a_drive_that_is_gone_has_no_bytes(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE)
    with drive.open(read_timeout_seconds=AMPLE) as device:
        drive.rule(gone=True)
        with pytest.raises(ReadFault):
            device.read_at(0, 512)
        assert device.present_bytes() == 0
        drive.path.unlink()
        assert device.present_bytes() == 0


def test_a_child_holds_no_lock_no_pipe_and_no_folder_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = HangingDrive(tmp_path, SIZE)
    monkeypatch.chdir(tmp_path)
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    with lock_exclusively(tmp_path / "lock"), drive.open(read_timeout_seconds=AMPLE) as device:
        process = Path(f"/proc/{device._children[0].process_id}")
        if not process.exists():
            pytest.skip("no /proc here")
        held = {str(link.readlink()) for link in (process / "fd").iterdir()}
        assert str(tmp_path / "lock") not in held
        assert str(Path(f"/proc/self/fd/{writer}").readlink()) not in held
        assert (process / "cwd").readlink() == Path("/")
        assert os.getsid(device._children[0].process_id) == device._children[0].process_id
    os.close(reader)
    os.close(writer)


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE)
    with drive.open(read_timeout_seconds=AMPLE) as device:
        child = device._children[0]
        child._ask.close()  # as the end of the parent does
        assert child._process.wait(30) == 0


def test_the_real_reader_refuses_what_is_no_device(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(1024))
    with pytest.raises(InputError, match="not a block device"):
        open_device(path)
    with open_source(path) as source:
        assert isinstance(source, RawImage)


@pytest.mark.parametrize("opener", [open_device, open_source])
def test_what_does_not_exist_is_said_to_be_missing(tmp_path: Path, opener: type) -> None:
    with pytest.raises(InputError, match="does not exist"):
        opener(tmp_path / "nothing")


def test_a_child_that_cannot_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imaging.child.BOOT", "raise SystemExit(3)")
    with pytest.raises(InputError, match="could not be started"):
        open_device(tmp_path)


def test_ending_a_child_that_hangs_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        raise AssertionError("waited")

    drive = HangingDrive(tmp_path, SIZE, hang=[[0, 512]])
    device = drive.open()
    with pytest.raises(ReadTimeout):
        device.read_at(0, 512)
    child: Child = device._children[0]
    with monkeypatch.context() as patch:
        patch.setattr(subprocess.Popen, "wait", refuse)
        device.close()
    while child._process.poll() is None:
        time.sleep(0.01)
