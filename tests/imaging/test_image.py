from pathlib import Path

import pytest

from imaging.errors import InputError, MapfileError
from imaging.extent import ExtentSet, span
from imaging.image import MAP_SUFFIXES, find_map, open_image

UNKNOWN_END = 2**63 - 1


def an_image(folder: Path, size_bytes: int = 4096, name: str = "disk.img") -> Path:
    path = folder / name
    path.write_bytes(bytes(size_bytes))
    return path


def map_text(*blocks: tuple[int, int, str], status: str = "+") -> str:
    lines = [f"0x0     {status}               1", *(f"0x{at:x}  0x{size:x}  {mark}" for at, size, mark in blocks)]
    return "# Mapfile. Created by GNU ddrescue version 1.27\n" + "\n".join(lines) + "\n"


def with_map(folder: Path, *blocks: tuple[int, int, str], size_bytes: int = 4096) -> Path:
    (folder / "disk.img.map").write_text(map_text(*blocks))
    return an_image(folder, size_bytes)


@pytest.mark.parametrize("name", [f"disk.img{suffix}" for suffix in MAP_SUFFIXES] + [f"disk{s}" for s in MAP_SUFFIXES])
def test_a_map_beside_the_image_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(map_text((0, 4096, "+")))
    opened = open_image(an_image(tmp_path))
    assert opened.map_path == tmp_path / name
    assert opened.source.unread == ExtentSet()


def test_the_map_named_after_the_whole_image_goes_first(tmp_path: Path) -> None:
    for name in ("disk.map", "disk.img.mapfile", "disk.img.map"):
        (tmp_path / name).write_text(map_text((0, 4096, "+")))
    assert find_map(tmp_path / "disk.img") == tmp_path / "disk.img.map"


@pytest.mark.parametrize("text", ["Nov 22 copying started\n", "", "# only a comment\n", "0x0 and many words more\n"])
def test_a_log_of_another_program_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "disk.log").write_text(text)
    opened = open_image(an_image(tmp_path))
    assert opened.map_path is None
    assert opened.source.unread is None
    assert opened.unread_blocks() is None


def test_a_binary_log_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "disk.log").write_bytes(b"\xff\xfe\x00" * 5000)
    assert find_map(tmp_path / "disk.img") is None


def test_a_folder_of_the_maps_name_and_the_image_itself_are_no_maps(tmp_path: Path) -> None:
    (tmp_path / "disk.map.mapfile").mkdir()
    assert find_map(an_image(tmp_path, name="disk.map")) is None


def test_a_map_that_is_named_goes_before_the_one_beside(tmp_path: Path) -> None:
    image = with_map(tmp_path, (0, 4096, "+"))
    other = tmp_path / "elsewhere.txt"
    other.write_text(map_text((0, 512, "-"), (512, 3584, "+")))
    assert open_image(image, other).source.unread == ExtentSet((span(0, 512),))


def test_what_is_not_finished_is_unread_with_its_status(tmp_path: Path) -> None:
    blocks = ((0, 512, "+"), (512, 512, "-"), (1024, 512, "/"), (1536, 512, "*"), (2048, 2048, "?"))
    opened = open_image(with_map(tmp_path, *blocks))
    assert opened.unread_blocks() == ((512, 512, "-"), (1024, 512, "/"), (1536, 512, "*"), (2048, 2048, "?"))
    assert opened.source.unread == ExtentSet((span(512, 4096),))


@pytest.mark.parametrize("end_bytes", [8192, UNKNOWN_END])
def test_a_map_may_go_on_behind_the_image_where_nothing_was_read(tmp_path: Path, end_bytes: int) -> None:
    opened = open_image(with_map(tmp_path, (0, 1024, "+"), (1024, end_bytes - 1024, "?")))
    assert opened.unread_blocks() == ((1024, 3072, "?"),)
    assert opened.source.unread == ExtentSet((span(1024, 4096),))


def test_blocks_that_lie_wholly_behind_the_image_are_left_out(tmp_path: Path) -> None:
    opened = open_image(with_map(tmp_path, (0, 4096, "+"), (4096, 512, "-"), (4608, 512, "?")))
    assert opened.unread_blocks() == ()
    assert opened.source.unread == ExtentSet()


def test_what_a_map_does_not_cover_at_its_start_is_unread(tmp_path: Path) -> None:
    opened = open_image(with_map(tmp_path, (1024, 3072, "+")))
    assert opened.source.unread == ExtentSet((span(0, 1024),))
    assert opened.unread_blocks() == ((0, 1024, "?"),)


def test_an_image_cut_short_under_its_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cut short: its map .* has data up to 0x1000, the image ends at 0xfff"):
        open_image(with_map(tmp_path, (0, 4096, "+"), size_bytes=4095))


def test_a_map_for_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MapfileError, match=r"another size: it covers 2048 bytes, .* has 4096; name the map"):
        open_image(with_map(tmp_path, (0, 2048, "+")))


def test_a_broken_map_is_told_with_its_line(tmp_path: Path) -> None:
    image = with_map(tmp_path, (0, 1024, "+"), (2048, 2048, "+"))
    with pytest.raises(MapfileError, match=r"disk\.img\.map.*4|line 4"):
        open_image(image)


@pytest.mark.parametrize("size_bytes", [0])
def test_an_empty_image_is_refused(tmp_path: Path, size_bytes: int) -> None:
    with pytest.raises(InputError, match="is empty"):
        open_image(an_image(tmp_path, size_bytes))


def test_a_missing_image_is_told_even_where_its_map_is_broken(tmp_path: Path) -> None:
    (tmp_path / "disk.img.map").write_text("garbage")
    with pytest.raises(InputError, match=r"disk\.img does not exist"):
        open_image(tmp_path / "disk.img")


def test_a_missing_map_that_was_named_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.map"):
        open_image(an_image(tmp_path), tmp_path / "gone.map")


@pytest.mark.parametrize("path", [".", "/"])
def test_a_folder_without_a_name_has_no_map_beside_it_and_is_refused(path):
    assert find_map(Path(path)) is None
    with pytest.raises(InputError, match="is a directory"):
        open_image(Path(path))
