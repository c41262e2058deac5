import errno
from pathlib import Path

import pytest

from imaging.damaged import DamagedSource
from imaging.errors import ReadFault
from imaging.extent import Extent, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.reads import Drive
from imaging.source import RawImage, Source

SIZE = 8192


@pytest.fixture
def contents(tmp_path: Path) -> RawImage:
    path = tmp_path / "contents"
    path.write_bytes(bytes(index // 32 % 256 for index in range(SIZE)))
    return RawImage(path)


def damage_with(*statuses: tuple[int, int, BlockStatus]) -> Mapfile:
    damage = Mapfile([(span(0, SIZE), BlockStatus.FINISHED)])
    for start, end, status in statuses:
        damage.mark(span(start, end), status)
    return damage


def test_good_ranges_read_as_they_are(contents: RawImage) -> None:
    source = DamagedSource(contents, damage_with((1024, 1536, BlockStatus.BAD_SECTOR)))
    assert source.read_at(0, 1024) == contents.read_at(0, 1024)
    assert source.read_at(1536, SIZE) == contents.read_at(1536, SIZE)
    assert source.read_at(SIZE, 512) == b""


@pytest.mark.parametrize("status", [status for status in BlockStatus if status is not BlockStatus.FINISHED])
def test_a_read_that_touches_one_byte_not_finished_fails_whole(contents: RawImage, status: BlockStatus) -> None:
    source = DamagedSource(contents, damage_with((1024, 1025, status)))
    with pytest.raises(ReadFault) as caught:
        source.read_at(0, 2048)
    assert (caught.value.errno, caught.value.prefix) == (errno.EIO, b"")
    assert (caught.value.offset_bytes, caught.value.size_bytes) == (0, 2048)


def test_what_lies_outside_the_damage_map_cannot_be_read(contents: RawImage) -> None:
    source = DamagedSource(contents, Mapfile([(span(0, 4096), BlockStatus.FINISHED)]))
    with pytest.raises(ReadFault):
        source.read_at(4096, 512)


def test_it_counts_its_reads_and_tells_of_each_before_it_answers(contents: RawImage) -> None:
    asked: list[Extent] = []
    source = DamagedSource(contents, damage_with((0, 512, BlockStatus.BAD_SECTOR)), on_read=asked.append)
    with pytest.raises(ReadFault):
        source.read_at(0, 512)
    source.read_at(512, 512)
    assert (source.reads, source.read_errors) == (2, 1)
    assert asked == [span(0, 512), span(512, 1024)]


def test_it_is_a_drive_with_a_physical_sector(contents: RawImage) -> None:
    source = DamagedSource(contents, damage_with(), physical_sector_bytes=4096)
    assert isinstance(source, Source)
    assert isinstance(source, Drive)
    assert (source.sector_bytes, source.physical_sector_bytes, source.present_bytes()) == (512, 4096, SIZE)
    assert source.unread is None
