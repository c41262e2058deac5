"""The fixtures' images say the truth about themselves: every file lies where the truth says it does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from fixtures import decoys, ext4, images

FILES = [("one.bin", "other", b"first" * 1000), ("two.bin", "other", b"second" * 301), ("three.bin", "other", b"x")]


def _bytes_at(path, layout):
    raw = path.read_bytes()
    return b"".join(raw[offset : offset + size] for offset, size in layout)


def _is_true(path, truth):
    assert truth["schema_version"] == 1
    for file in truth["files"]:
        content = _bytes_at(path, file["layout"])
        assert len(content) == file["size_bytes"] == sum(size for _, size in file["layout"])
        assert hashlib.sha256(content).hexdigest() == file["sha256"]


@pytest.mark.parametrize("sector_bytes", [512, 4096])
@pytest.mark.parametrize("with_decoys", [True, False])
def test_every_file_of_a_plain_image_lies_where_its_truth_says(tmp_path, sector_bytes, with_decoys):
    path = tmp_path / "drive.img"
    truth = images.build_plain(path, FILES, seed=3, sector_bytes=sector_bytes, decoys=with_decoys)
    _is_true(path, truth)
    assert [file["path"] for file in truth["files"]] == ["one.bin", "two.bin", "three.bin"]
    assert all(file["layout"][0][0] % sector_bytes == 0 for file in truth["files"])
    assert path.stat().st_size % sector_bytes == 0
    assert (truth["files"][0]["layout"][0][0] == 0) is not with_decoys


def test_a_plain_image_is_the_same_for_the_same_seed_only(tmp_path):
    made = []
    for index, seed in enumerate([1, 1, 2]):
        images.build_plain(tmp_path / str(index), FILES, seed=seed)
        made.append((tmp_path / str(index)).read_bytes())
    assert made[0] == made[1] != made[2]


def test_files_given_as_paths_are_laid_out_like_bytes(tmp_path):
    (tmp_path / "source").write_bytes(FILES[0][2])
    by_path = images.build_plain(tmp_path / "a", [("one.bin", "other", tmp_path / "source")], seed=1)
    by_bytes = images.build_plain(tmp_path / "b", FILES[:1], seed=1)
    assert by_path == by_bytes
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_image_of_a_given_size_is_sparse_behind_its_files_and_never_too_small(tmp_path):
    path = tmp_path / "drive.img"
    _is_true(path, images.build_plain(path, FILES, seed=1, size_bytes=1 << 30))
    assert path.stat().st_size == 1 << 30
    assert path.stat().st_blocks * 512 < 1 << 26
    with pytest.raises(ValueError, match="more than 4096"):
        images.build_plain(path, FILES, seed=1, size_bytes=4096)


def test_the_command_lays_out_files_and_writes_their_truth(tmp_path):
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    image, truth = tmp_path / "drive.img", tmp_path / "truth.json"
    command = [sys.executable, "-m", "fixtures.images", "--out", image, "--truth", truth, model]
    subprocess.run(command, check=True, timeout=60)
    told = json.loads(truth.read_text())
    _is_true(image, told)
    assert [(file["path"], file["format"]) for file in told["files"]] == [("model.safetensors", "safetensors")]


@pytest.mark.parametrize("kind", decoys.KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_decoy_is_bounded_and_seeded(kind):
    one, again = (kind(np.random.default_rng(5)) for _ in range(2))
    assert one == again
    assert 0 < len(one) <= decoys.MAX_DECOY_BYTES


@pytest.mark.root
def test_deleted_files_of_a_real_ext4_still_lie_where_its_truth_says(tmp_path):
    if reason := ext4.missing():
        if os.environ.get("CARVER_REQUIRE_TOOLS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    path = tmp_path / "ext4.img"
    files = [("models/big.bin", "other", os.urandom(3 << 20)), *FILES]
    truth = ext4.build_ext4(path, files, seed=1, size_bytes=64 << 20, keep=["two.bin"])
    _is_true(path, truth)
    assert [file["deleted"] for file in truth["files"]] == [True, True, False, True]
    with ext4.mounted(path) as root:
        assert {entry.name for entry in root.iterdir()} == {"lost+found", "models", "two.bin"}


@pytest.mark.root
def test_files_written_by_turns_lie_in_pieces_on_ext4(tmp_path):
    if reason := ext4.missing():
        if os.environ.get("CARVER_REQUIRE_TOOLS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    path = tmp_path / "ext4.img"
    files = [(f"{index}.bin", "other", os.urandom(1 << 20)) for index in range(3)]
    truth = ext4.build_ext4(path, files, seed=1, size_bytes=64 << 20, interleave_bytes=64 << 10)
    _is_true(path, truth)
    assert max(len(file["layout"]) for file in truth["files"]) > 1
