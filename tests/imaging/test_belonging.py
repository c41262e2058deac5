"""A map of another image of the same drive is not believed, and its own image costs the drive nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from imaging.belonging import MARK, MAX_DATA_SECTORS, MAX_ZERO_SECTORS, refuse_foreign_map, sampled_sectors
from imaging.errors import InputError, ReadFault
from imaging.extent import ExtentSet, span
from imaging.placement import Placement
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions
from imaging.source import RawImage

SIZE = 1 << 20


class Counting(RawImage):
    """A drive that counts its reads, and may fail them all."""

    reads = 0
    fails = False

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        self.reads += 1
        if self.fails:
            raise ReadFault("bad", offset_bytes=offset_bytes, size_bytes=size_bytes, errno=5)
        return super().read_at(offset_bytes, size_bytes)


@pytest.fixture
def drive(tmp_path: Path) -> Counting:
    path = tmp_path / "drive"
    path.write_bytes(random.Random(8).randbytes(SIZE))
    return Counting(path)


def imaged(drive: Counting, image: Path, options: RescueOptions | None = None) -> Path:
    map_path = image.with_name(image.name + ".map")
    rescue(drive, image, map_path, options or RescueOptions())
    drive.reads = 0
    return map_path


def look(drive: Counting, image: Path, map_path: Path, shift_bytes: int = 0) -> None:
    refuse_foreign_map(drive, image, map_path, Placement(shift_bytes=shift_bytes, image_bytes=SIZE))


def test_the_image_that_was_written_with_its_map_is_not_compared(drive: Counting, tmp_path: Path) -> None:
    map_path = imaged(drive, tmp_path / "one.img")
    assert MARK in map_path.read_text()
    look(drive, tmp_path / "one.img", map_path)
    look(drive, tmp_path / "none.img", map_path)
    look(drive, tmp_path / "one.img", tmp_path / "none.map")
    assert drive.reads == 0


def test_a_map_of_another_image_of_the_same_drive_is_refused(drive: Counting, tmp_path: Path) -> None:
    imaged(drive, tmp_path / "one.img", RescueOptions(size_bytes=SIZE // 8))
    other = imaged(drive, tmp_path / "other.img")
    before = (tmp_path / "one.img").read_bytes(), other.read_bytes()
    with pytest.raises(InputError, match="does not hold what"):
        look(drive, tmp_path / "one.img", other)
    assert drive.reads == 1
    assert before == ((tmp_path / "one.img").read_bytes(), other.read_bytes())


def test_a_copied_image_is_compared_by_a_few_reads(drive: Counting, tmp_path: Path) -> None:
    map_path = imaged(drive, tmp_path / "one.img")
    copy = tmp_path / "copy.img"
    copy.write_bytes((tmp_path / "one.img").read_bytes())
    look(drive, copy, map_path)
    assert drive.reads == MAX_DATA_SECTORS


def test_zeros_that_the_drive_has_as_well_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "drive").write_bytes(bytes(SIZE))
    drive = Counting(tmp_path / "drive")
    map_path = imaged(drive, tmp_path / "one.img")
    (tmp_path / "one.img").rename(tmp_path / "moved.img")
    look(drive, tmp_path / "moved.img", map_path)
    assert drive.reads == MAX_ZERO_SECTORS


def test_reads_that_fail_tell_nothing(drive: Counting, tmp_path: Path) -> None:
    map_path = imaged(drive, tmp_path / "one.img")
    (tmp_path / "empty.img").write_bytes(bytes(SIZE))
    drive.fails = True
    look(drive, tmp_path / "empty.img", map_path)
    assert drive.reads == MAX_ZERO_SECTORS


def test_a_shifted_image_is_compared_where_its_bytes_are(drive: Counting, tmp_path: Path) -> None:
    map_path = imaged(drive, tmp_path / "one.img", RescueOptions(output_offset_bytes=4096))
    (tmp_path / "one.img").rename(tmp_path / "moved.img")
    look(drive, tmp_path / "moved.img", map_path, shift_bytes=4096)
    with pytest.raises(InputError, match="does not hold what"):
        look(drive, tmp_path / "moved.img", map_path)


def test_sectors_are_spread_whole_and_always_the_same() -> None:
    finished = ExtentSet([span(100, 300), span(1024, 4096), span(1 << 20, 1 << 21)])
    sectors = sampled_sectors(finished, 512)
    assert sectors == sampled_sectors(finished, 512)
    assert 8 < len(sectors) <= 64
    assert all(finished.covers(sector) and sector.offset_bytes % 512 == 0 for sector in sectors)
    assert sampled_sectors(ExtentSet(), 512) == []
