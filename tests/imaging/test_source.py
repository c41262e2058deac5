"""Sources: a raw image is read by position, never written, and every refusal says what to do."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from imaging.errors import InputError, ReadFault
from imaging.extent import ExtentSet, span
from imaging.source import DEFAULT_SECTOR_BYTES, RawImage, Source, open_read_only

CONTENT = bytes(range(256)) * 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "drive.img"
    made.write_bytes(CONTENT)
    return made


@pytest.mark.parametrize(
    ("offset_bytes", "size_bytes"),
    [(0, 16), (100, 1000), (0, 4096), (2040, 100), (2048, 10), (9999, 1), (5, 0), (5, -1)],
)
def test_image_returns_the_bytes_there_and_fewer_only_at_its_end(
    path: Path, offset_bytes: int, size_bytes: int
) -> None:
    with RawImage(path) as image:
        assert image.read_at(offset_bytes, size_bytes) == CONTENT[offset_bytes : max(0, offset_bytes + size_bytes)]


def test_image_is_a_source_and_tells_what_it_was_told(path: Path) -> None:
    unread = ExtentSet([span(0, 512)])
    with RawImage(str(path), unread=unread, sector_bytes=4096) as image:
        assert isinstance(image, Source)
        assert (image.locator, image.size_bytes, image.sector_bytes) == (str(path), len(CONTENT), 4096)
        assert image.unread == unread
    with RawImage(path) as image:
        assert image.unread is None
        assert image.sector_bytes == DEFAULT_SECTOR_BYTES


def test_image_is_opened_for_reading_only_and_not_inherited(path: Path) -> None:
    with RawImage(path) as image:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(image.fileno(), b"x")
        assert not os.get_inheritable(image.fileno())
    assert path.read_bytes() == CONTENT


def test_image_cut_short_under_us_gives_what_is_left(path: Path) -> None:
    with RawImage(path) as image:
        os.truncate(path, 100)
        assert image.read_at(50, 500) == CONTENT[50:100]
        assert image.read_at(200, 10) == b""


def test_short_reads_are_put_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_read = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, at: whole_read(descriptor, min(size, 100), at))
    with RawImage(path) as image:
        assert image.read_at(7, 999) == CONTENT[7 : 7 + 999]


def test_bad_sector_is_a_read_fault_with_its_place_and_number(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bad_sector(descriptor: int, size_bytes: int, offset_bytes: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", bad_sector)
    with RawImage(path) as image, pytest.raises(ReadFault, match="cannot read 64 bytes at 0x200: Input/output") as told:
        image.read_at(512, 64)
    assert (told.value.offset_bytes, told.value.size_bytes, told.value.errno) == (512, 64, errno.EIO)


def test_closed_twice_is_closed_once(path: Path) -> None:
    image = RawImage(path)
    descriptor = image.fileno()
    image.close()
    reused = os.open(path, os.O_RDONLY)
    assert reused == descriptor
    image.close()
    assert os.fstat(reused).st_size == len(CONTENT), "the second close left another's descriptor alone"
    os.close(reused)


def test_missing_image_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.img does not exist; there is no such name in /"):
        RawImage(tmp_path / "none.img")
    with pytest.raises(InputError, match=r"nor does its folder .*/gone; is the drive mounted"):
        RawImage(tmp_path / "gone" / "none.img")
    with pytest.raises(InputError, match="does not exist; `lsblk`"):
        RawImage("/dev/no-such-drive")


def test_folder_is_refused_and_its_descriptor_given_back(tmp_path: Path) -> None:
    before = os.open(tmp_path, os.O_RDONLY)
    os.close(before)
    with pytest.raises(InputError, match="is a directory; give a raw image"):
        open_read_only(tmp_path)
    after = os.open(tmp_path, os.O_RDONLY)
    os.close(after)
    assert before == after


def test_character_device_is_refused() -> None:
    with pytest.raises(InputError, match="neither a file nor a block device"):
        open_read_only(Path("/dev/null"))


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "run the same command with sudo"),
        (errno.EPERM, "run the same command with sudo"),
        (errno.ENXIO, "the drive behind it is gone"),
        (errno.ELOOP, "cannot open"),
    ],
)
def test_every_refusal_to_open_says_what_to_do(
    path: Path, number: int, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: Path, flags: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match=re.escape(advice)):
        open_read_only(path)
