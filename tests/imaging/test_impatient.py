"""A look at a drive that hangs is soon over."""

from pathlib import Path

import pytest

from imaging import impatient
from imaging.device import describe, identity
from imaging.errors import Interrupted, ReadTimeout
from imaging.extent import ExtentSet, span
from imaging.impatient import Impatient
from imaging.reads import Waiting
from imaging.sampling import sample
from imaging.source import RawImage
from tests.imaging.hanging import HangingDrive

MIB = 1 << 20
SIZE = 2 * MIB


@pytest.mark.parametrize("serial", [False, True])
def test_after_one_read_that_hangs_nothing_is_looked_at_any_more(tmp_path: Path, serial: bool) -> None:
    drive = HangingDrive(tmp_path, SIZE, hang=[[MIB, 512]], serial=serial)
    with drive.open(read_timeout_seconds=60.0) as source:
        watcher = source.watcher
        look = Impatient(source, seconds=0.3, first_seconds=0.3)
        assert look.read_at(0, 512) == drive.contents[:512]
        for _ in range(2):
            with pytest.raises(ReadTimeout):
                look.read_at(MIB, 512)
        with pytest.raises(ReadTimeout):
            look.read_at(0, 512)
        assert drive.asked() == [(0, 512), (MIB, 512)]
        assert source.watcher is watcher
        drive.release()
        assert source.read_at(4096, 512) == drive.contents[4096:4608], "the drive itself is read on"


def test_a_drive_that_hangs_is_sampled_and_identified_as_far_as_it_answers(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE, hang=[[MIB // 2, SIZE]])
    with drive.open(read_timeout_seconds=60.0) as source:
        samples = identity(Impatient(source, seconds=0.3, first_seconds=0.3), describe(drive.path))["samples"]
        assert isinstance(samples, list)
        digests = [digest for _, digest in samples]
        assert digests[0] is not None
        assert digests[-1] is None
        assert len([place for place in drive.asked() if place[0] + place[1] > MIB // 2]) == 1
        drive.release()
        assert sample(Impatient(source)).read > 0


def test_what_is_spared_is_not_looked_at(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE, hang=[[MIB, SIZE]])
    spare = ExtentSet([span(MIB - 4096, SIZE)])
    with drive.open(read_timeout_seconds=60.0) as source:
        look = Impatient(source, spare=spare)
        assert look.unread == spare
        samples = identity(look, describe(drive.path))["samples"]
        assert isinstance(samples, list)
        assert [digest is None for _, digest in samples] == [at + 4096 > MIB - 4096 for at, _ in samples]
        assert all(at + size <= MIB for at, size in drive.asked())


def test_the_user_may_end_a_look(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE, hang=[[0, 512]])
    told: list[Waiting] = []

    def stop(waiting: Waiting) -> bool:
        told.append(waiting)
        return False

    with drive.open(read_timeout_seconds=60.0, watcher=lambda waiting: True) as source:
        source.watcher = stop
        with pytest.raises(Interrupted):
            Impatient(source).read_at(0, 512)
        assert told


def test_the_user_may_end_a_look_between_reads_that_are_answered_at_once(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, SIZE)
    with drive.open(read_timeout_seconds=60.0) as source:
        look = Impatient(source)
        assert look.read_at(0, 512) == drive.contents[:512]
        source.watcher = lambda waiting: False
        for looks in (lambda: sample(look), lambda: identity(look, describe(drive.path))):
            with pytest.raises(Interrupted):
                looks()
        assert drive.asked() == [(0, 512)]


def test_reads_that_take_long_together_end_a_look_but_not_the_first_in_which_a_drive_may_wake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(4096))
    clock = iter([0.0, 9.0, 12.0, 13.0, 16.0, 17.0, 17.0])  # the first look has no end here: it does not count
    monkeypatch.setattr(impatient, "monotonic", lambda: next(clock))
    with RawImage(path) as image:
        look = Impatient(image)
        for _ in range(3):
            assert look.read_at(0, 512) == bytes(512)
        with pytest.raises(ReadTimeout):
            look.read_at(0, 512)


def test_a_file_is_looked_at_as_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(range(256)) * 4)
    with RawImage(path, unread=ExtentSet([span(0, 16)])) as image:
        look = Impatient(image, spare=ExtentSet([span(16, 32)]))
        assert look.read_at(10, 4) == bytes(range(10, 14))
        assert (look.locator, look.size_bytes, look.sector_bytes) == (str(path), 1024, 512)
        assert look.unread == ExtentSet([span(0, 32)])
        assert Impatient(RawImage(path)).unread is None
