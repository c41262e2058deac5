"""Direct reads by this process; those of a real device are in test_failing_drive."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from imaging import direct
from imaging.direct import DirectDevice
from imaging.errors import InputError, ReadFault
from imaging.reads import Drive, open_device, open_source
from imaging.source import RawImage, Source

SIZE = 40_960


class FileAsDevice:
    """Lets a plain file pass for a device, so that the arithmetic of direct reads is tested anywhere."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, *, sector_bytes: int = 512) -> None:
        self.path = path
        self.contents = os.urandom(SIZE)
        self.asked: list[tuple[int, int]] = []
        self.fail_at_bytes: int | None = None
        self.most_bytes = 1 << 30
        path.write_bytes(self.contents)
        monkeypatch.setattr(direct, "is_device", lambda path: True)
        monkeypatch.setattr(direct, "_open_direct", lambda path: os.open(path, os.O_RDONLY))
        monkeypatch.setattr(direct, "_sectors", lambda descriptor, path: (sector_bytes, sector_bytes))
        monkeypatch.setattr(direct, "BUFFER_BYTES", 16_384)
        monkeypatch.setattr(os, "preadv", self.answer)

    def answer(self, descriptor: int, buffers: list[memoryview], offset_bytes: int) -> int:
        size_bytes = len(buffers[0])
        self.asked.append((offset_bytes, size_bytes))
        if self.fail_at_bytes is not None and offset_bytes + size_bytes > self.fail_at_bytes:
            if offset_bytes >= self.fail_at_bytes:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            size_bytes = self.fail_at_bytes - offset_bytes  # the kernel hands over what it has
        data = self.contents[offset_bytes : offset_bytes + min(size_bytes, self.most_bytes)]
        buffers[0][: len(data)] = data
        return len(data)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileAsDevice:
    return FileAsDevice(tmp_path / "device", monkeypatch)


@pytest.mark.parametrize("sector_bytes", [512, 4096])
@pytest.mark.parametrize(
    ("offset_bytes", "size_bytes"),
    [
        (0, 512),
        (1, 1),
        (511, 2),
        (4096, 8192),
        (4095, 20_000),
        (0, SIZE),
        (SIZE - 1, 100),
        (SIZE, 1),
        (SIZE + 9, 1),
        (7, 0),
    ],
)
def test_any_bytes_come_from_whole_aligned_sectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sector_bytes: int, offset_bytes: int, size_bytes: int
) -> None:
    drive = FileAsDevice(tmp_path / "device", monkeypatch, sector_bytes=sector_bytes)
    with DirectDevice(drive.path) as device:
        assert device.read_at(offset_bytes, size_bytes) == drive.contents[offset_bytes : offset_bytes + size_bytes]
    assert all(offset % sector_bytes == size % sector_bytes == 0 for offset, size in drive.asked)


def test_short_answers_are_put_together(device: FileAsDevice) -> None:
    device.most_bytes = 1024
    with DirectDevice(device.path) as opened:
        assert opened.read_at(100, 9000) == device.contents[100:9100]


def test_an_answer_that_is_no_whole_sector_is_asked_for_again_from_the_sector(device: FileAsDevice) -> None:
    device.most_bytes = 1300
    with DirectDevice(device.path) as opened:
        assert opened.read_at(0, 2048) == device.contents[:2048]
    assert [offset for offset, _ in device.asked] == [0, 1024]


def test_a_fault_carries_what_came_before_it(device: FileAsDevice) -> None:
    device.fail_at_bytes = 20_480
    with DirectDevice(device.path) as opened, pytest.raises(ReadFault) as caught:
        opened.read_at(100, 40_000)
    assert caught.value.errno == errno.EIO
    assert (caught.value.offset_bytes, caught.value.size_bytes) == (100, 40_000)
    assert caught.value.prefix == device.contents[100:20_480]


def test_a_device_is_a_source_and_a_drive(device: FileAsDevice) -> None:
    with DirectDevice(device.path) as opened:
        assert isinstance(opened, Source)
        assert isinstance(opened, Drive)
        assert (opened.size_bytes, opened.sector_bytes, opened.physical_sector_bytes) == (SIZE, 512, 512)
        assert opened.unread is None
        assert opened.locator == str(device.path)


def test_a_device_whose_node_is_gone_has_no_bytes_any_more(device: FileAsDevice) -> None:
    with DirectDevice(device.path) as opened:
        assert opened.present_bytes() == SIZE
        device.path.unlink()
        assert opened.present_bytes() == 0


def test_a_closed_device_is_closed_once(device: FileAsDevice) -> None:
    opened = DirectDevice(device.path)
    opened.close()
    opened.close()
    assert opened.present_bytes() == 0


def test_a_file_is_opened_as_an_image_and_never_as_a_device(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(1024))
    with open_source(path) as source:
        assert isinstance(source, RawImage)
    with pytest.raises(InputError, match="not a block device"):
        open_device(path)


@pytest.mark.parametrize("opener", [open_device, open_source])
def test_what_does_not_exist_is_said_to_be_missing(tmp_path: Path, opener: type) -> None:
    with pytest.raises(InputError, match="does not exist"):
        opener(tmp_path / "nothing")


@pytest.mark.parametrize("answer", [0, 513, 1 << 20])
def test_a_sector_size_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, answer: int) -> None:
    monkeypatch.setattr(direct, "_ask_integer", lambda descriptor, request: answer)
    with pytest.raises(InputError, match="cannot be"):
        direct._sectors(0, Path("/dev/x"))


def answering(logical_bytes: int, physical_bytes: int, alignment_bytes: int = 0) -> Callable[[int, int], int]:
    answers = {
        direct.BLKSSZGET: logical_bytes,
        direct.BLKPBSZGET: physical_bytes,
        direct.BLKALIGNOFF: alignment_bytes & 0xFFFFFFFF,
    }
    return lambda descriptor, request: answers[request]


@pytest.mark.parametrize(
    ("answers", "sectors"),
    [((512, 512), (512, 512)), ((512, 4096), (512, 4096)), ((4096, 4096), (4096, 4096)), ((4096, 512), (4096, 4096))],
    ids=["512n", "512e", "4Kn", "a bridge that says nonsense"],
)
def test_a_physical_sector_is_never_smaller_than_the_logical_one(
    answers: tuple[int, int], sectors: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "_ask_integer", answering(*answers))
    assert direct._sectors(0, Path("/dev/x")) == sectors


@pytest.mark.parametrize("alignment_bytes", [512, 3584, -1])
def test_a_partition_that_begins_inside_a_physical_sector_is_read_by_the_logical_one(
    alignment_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "_ask_integer", answering(512, 4096, alignment_bytes))
    assert direct._sectors(0, Path("/dev/x")) == (512, 512)
