"""The demo drive: it says the truth about itself, and its models are real."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
import pytest

from fixtures import demo
from imaging.mapfile import Mapfile


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    demo.build(folder, seed=4)
    return folder


def _files(folder):
    return json.loads((folder / "truth.json").read_text())["files"]


def _content(folder, name):
    (file,) = (file for file in _files(folder) if file["path"] == name)
    ((offset, size),) = file["layout"]
    return (folder / "drive.img").read_bytes()[offset : offset + size]


def test_the_demo_drive_is_small_and_its_truth_is_true(drive):
    raw = (drive / "drive.img").read_bytes()
    assert len(raw) <= 64 << 20
    for file in _files(drive):
        ((offset, size),) = file["layout"]
        assert offset % 512 == 0
        assert hashlib.sha256(raw[offset : offset + size]).hexdigest() == file["sha256"]


def test_the_demo_drive_is_the_same_for_the_same_seed(drive, tmp_path):
    demo.build(tmp_path, seed=4)
    for name in ("drive.img", "damage.map", "truth.json"):
        assert (tmp_path / name).read_bytes() == (drive / name).read_bytes()


def test_the_demo_drive_holds_models_of_every_format_and_damage_in_one_of_them_only(drive):
    files = _files(drive)
    assert {file["format"] for file in files} == set(demo.SUFFIXES)
    assert [file["path"] for file in files if file["unreadable"]] == [demo.DAMAGED_FILE]
    names = [file["path"] for file in files]
    assert len(names) == len(set(names))


def test_the_damage_is_a_mapfile_that_covers_the_drive_and_says_the_same_as_the_truth(drive):
    damage = Mapfile.load(drive / "damage.map")
    told = {(e.offset_bytes, e.size_bytes) for e in damage.unread}
    assert (damage.start_bytes, damage.end_bytes) == (0, demo.IMAGE_BYTES)
    inside = {tuple(run) for file in _files(drive) for run in file["unreadable"]}
    assert inside < told
    assert len(told - inside) == 1


def test_the_torch_file_of_the_demo_loads_in_torch(drive):
    torch = pytest.importorskip("torch")
    loaded = torch.load(io.BytesIO(_content(drive, "vision.pt")), weights_only=True)
    assert tuple(loaded["embed.weight"].shape) == (768, 192)
    assert float(loaded["layers.1.norm.weight"].sum()) == 192.0


def test_the_safetensors_file_of_the_demo_loads_in_its_library(drive):
    loaded = pytest.importorskip("safetensors.numpy").load(_content(drive, "language.safetensors"))
    assert loaded["layers.0.up.weight"].shape == (1024, 256)
    assert np.isfinite(loaded["embed.weight"]).all()
