"""`carver image -F` and `-G`, as GNU ddrescue does them; and the image on a device."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from imaging.mapfile import BlockStatus, Mapfile
from tests.command import carver, good, need_program, need_root
from tests.test_end_to_end_destination import loop_device


@pytest.fixture
def imaged(demo_drive, tmp_path):
    good("image", "--no-hash", "-H", demo_drive / "damage.map", demo_drive / "drive.img", tmp_path / "o.img")
    return tmp_path / "o.img"


def test_bad_sectors_are_filled_as_by_ddrescue(imaged, tmp_path):
    need_program("ddrescue")
    (tmp_path / "pattern").write_bytes(b"BAD SECTOR ")
    for name in ("o.img", "o.img.map"):
        shutil.copy(tmp_path / name, tmp_path / f"their-{name}")
    theirs = [
        "ddrescue",
        "-q",
        "-F",
        "-l",
        tmp_path / "pattern",
        tmp_path / "their-o.img",
        tmp_path / "their-o.img.map",
    ]
    subprocess.run(list(map(str, theirs)), check=True)
    told = json.loads(good("image", "--json", "-F", "-l", tmp_path / "pattern", imaged).out)
    assert imaged.read_bytes() == (tmp_path / "their-o.img").read_bytes()
    mapfile = Mapfile.load(tmp_path / "o.img.map")
    assert told["done_bytes"] == mapfile.extents(BlockStatus.BAD_SECTOR).total_bytes > 0


def test_what_was_read_is_not_filled_without_force(imaged, tmp_path):
    before = imaged.read_bytes()
    (tmp_path / "pattern").write_bytes(b"x")
    refused = carver("image", "-F", "+", tmp_path / "pattern", imaged)
    assert refused.code == 2 and "--force" in refused.complaint
    assert imaged.read_bytes() == before


def test_a_map_is_generated_from_an_image_and_imaging_goes_on_with_it(small_image, tmp_path):
    image = tmp_path / "o.img"
    content = bytearray(small_image.read_bytes())
    content[65536:131072] = bytes(65536)
    image.write_bytes(content)
    refused = carver("image", small_image, image)
    assert refused.code == 4, "an image without its map is not gone on with"
    done = good("image", "-G", small_image, image)
    assert "is made" in done.err
    told = json.loads(good("image", "--json", small_image, image).out)
    assert image.read_bytes() == small_image.read_bytes()
    assert 65536 <= told["rescued_in_this_run_bytes"] < len(content)


@pytest.mark.root
def test_a_device_is_written_over_only_when_that_is_said(small_image, tmp_path):
    need_root()
    (tmp_path / "disk").write_bytes(b"\xaa" * (small_image.stat().st_size + 8192))
    with loop_device(tmp_path / "disk") as device:
        refused = carver("image", small_image, device, tmp_path / "map")
        assert refused.code == 4 and "--force" in refused.complaint
        assert (tmp_path / "disk").read_bytes() == b"\xaa" * (small_image.stat().st_size + 8192)
        good("image", "-f", small_image, device, tmp_path / "map")
    content = small_image.read_bytes()
    assert (tmp_path / "disk").read_bytes()[: len(content)] == content


def test_a_case_takes_none_of_these(small_image, tmp_path):
    for words in (["-f"], ["-o", "512"], ["-F", "-"], ["-G"]):
        refused = carver("rescue", *words, small_image, tmp_path / "CASE")
        assert refused.code == 2 and "belongs to `carver image`" in refused.complaint
    assert list(tmp_path.iterdir()) == []


def test_the_map_of_another_image_of_the_same_drive_is_refused_before_anything_is_written(small_image, tmp_path):
    good("image", "--no-hash", "-s", "64Ki", small_image, tmp_path / "one.img")
    good("image", "--no-hash", small_image, tmp_path / "other.img")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    refused = carver("image", "--no-hash", small_image, tmp_path / "one.img", tmp_path / "other.img.map")
    assert refused.code == 3, refused.err
    assert "does not hold what" in refused.complaint and "name the map that belongs to this image" in refused.complaint
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_the_folders_of_the_image_and_of_its_map_are_made(small_image, tmp_path):
    good(
        "image",
        "--no-hash",
        "-s",
        "64Ki",
        small_image,
        tmp_path / "images" / "o.img",
        tmp_path / "maps" / "a" / "o.map",
    )
    assert (tmp_path / "images" / "o.img").is_file() and (tmp_path / "maps" / "a" / "o.map").is_file()
