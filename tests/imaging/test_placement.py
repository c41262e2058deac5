"""An image whose bytes lie elsewhere than on the drive, or on a larger device: what its readers make of it."""

from pathlib import Path

import pytest

from fixtures.failing_drive import damage_of, write_contents
from imaging.damaged import DamagedSource
from imaging.errors import InputError, MapfileError
from imaging.extent import ExtentSet, span
from imaging.image import open_image
from imaging.mapfile import BlockStatus, Mapfile
from imaging.placement import HEAD_BYTES, Placement, head_of, recorded_shift, refuse_other_shift
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions
from imaging.source import RawImage
from tests.imaging.test_destination import loop_device
from tests.imaging.test_failing_drive import gnu, need_program

MIB = 1 << 20
SIZE = 4 * MIB
BAD = (MIB + 4096, 8192)


class Bench:
    """A drive with a bad zone, and the image of a part of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.contents_path, self.damage_path = folder / "contents", folder / "damage"
        self.image_path, self.map_path = folder / "drive.img", folder / "drive.img.map"
        write_contents(self.contents_path, 3, SIZE)
        self.damage_path.write_text(damage_of(SIZE, [BAD]).mapfile_text())

    def rescue(self, options: RescueOptions, image_path: Path | None = None) -> None:
        with RawImage(self.contents_path) as contents:
            source = DamagedSource(contents, Mapfile.load(self.damage_path))
            assert rescue(source, image_path or self.image_path, self.map_path, options).finished


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(("start", "size", "to"), [(MIB, MIB, 0), (MIB, None, 0), (512, 3 * MIB, 4096), (0, MIB, MIB)])
def test_the_map_of_a_shifted_image_is_moved_when_it_is_read(
    start: int, size: int | None, to: int, bench: Bench
) -> None:
    bench.rescue(RescueOptions(input_offset_bytes=start, size_bytes=size, output_offset_bytes=to))
    image = open_image(bench.image_path)
    end = start + (size or SIZE - start)
    assert image.source.size_bytes == end - start + to
    unread = ExtentSet([span(BAD[0] + to - start, sum(BAD) + to - start)])
    before = ExtentSet([span(0, to)])  # a hole: nothing of the drive
    inside = span(0, end - start + to)
    assert image.source.unread == before | unread.within(inside) if BAD[0] < end else image.source.unread == before
    drive = bench.contents_path.read_bytes()
    good = ExtentSet([inside]) - image.source.unread
    assert good.total_bytes == end - start - (BAD[1] if BAD[0] < end else 0)
    for extent in good:
        there = drive[extent.offset_bytes + start - to : extent.end_bytes + start - to]
        assert image.source.read_at(extent.offset_bytes, extent.size_bytes) == there
    blocks = image.unread_blocks()
    assert blocks is not None
    gap = ExtentSet([span(0, max(to - start, 0))])  # no bytes of the drive, so it cannot have lost them
    assert ExtentSet(span(at, at + length) for at, length, _ in blocks) == image.source.unread - gap


def test_an_image_that_ddrescue_shifted_asks_for_its_map_to_be_moved(bench: Bench) -> None:
    need_program("ddrescue")
    for arguments, kind in ((("-i1Mi", "-o0"), InputError), (("-i0", "-o1Mi"), MapfileError)):
        image_path = bench.folder / f"{arguments[1]}.img"
        gnu(*arguments, "-H", bench.damage_path, bench.contents_path, image_path, f"{image_path}.map")
        with pytest.raises(kind, match="carver map --shift"):
            open_image(image_path)


def test_the_head_tells_the_shift_and_a_head_of_ours_without_it_tells_none(tmp_path: Path) -> None:
    path = tmp_path / "map"
    assert recorded_shift(path) is None
    for text, shift in (
        ("# Mapfile. Created by GNU ddrescue version 1.27\n0x0 ? 1\n", None),
        (f"# Mapfile\n# Generation: ab\n# {Placement(shift_bytes=-0x1000, image_bytes=1).comments()[0]}\n", -0x1000),
        (f"# {Placement(shift_bytes=5, image_bytes=1).comments()[0]}\n0x0 ? 1\n", 5),
        ("# Mapfile\n# Generation: ab\n0x0 ? 1\n", 0),
        ("# Image offset: nonsense\n0x0 ? 1\n", None),
        (f"0x0 ? 1\n# Image offset: +0x{'f' * 17}\n", None),
    ):
        path.write_text(text)
        assert recorded_shift(path) == shift
    refuse_other_shift(path, 77)  # nothing is known
    path.write_text("# Generation: ab\n")
    refuse_other_shift(path, 0)
    with pytest.raises(InputError, match="keep the difference"):
        refuse_other_shift(path, 77)
    assert Placement(image_bytes=1).comments() == ()


def test_no_more_of_a_map_than_its_head_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text("#" * HEAD_BYTES + "\n# Image offset: +0x5 \n")
    assert recorded_shift(path) is None
    assert len(head_of(path)) == 1


@pytest.mark.root
def test_an_image_on_a_larger_device_ends_where_its_map_ends(bench: Bench) -> None:
    with loop_device(bench.folder / "disk", SIZE + MIB) as device:
        bench.rescue(RescueOptions(force=True), device)
        image = open_image(device, bench.map_path)
        assert image.source.size_bytes == SIZE
        assert image.source.unread == ExtentSet([span(BAD[0], sum(BAD))])
        assert image.source.read_at(SIZE - 10, 100) == bench.contents_path.read_bytes()[-10:]
        image.source.close()
        assert image.mapfile is not None
        assert image.mapfile.count_bytes(BlockStatus.BAD_SECTOR) == BAD[1]
