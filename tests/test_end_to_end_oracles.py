"""What came back with a good grade opens in the library it was made for; containers own what lies in them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures import demo
from fixtures.formats import keras, zip_archive
from fixtures.formats.sample import Sample
from fixtures.images import PlacedFile, build_plain, write_truth
from tests.command import good, need
from tests.report_schema import GOOD, load_checked

LIBRARIES = {"hdf5": "h5py", "safetensors": "safetensors", "onnx": "onnx", "pytorch_zip": "torch"}
SECONDS = 120
NO_TORCH_SAVE = ("pytorch_zip-torchscript", "pytorch_zip-torch-jit", "pytorch_zip-pt2")  # torch.load refuses these


def samples_of(name: str) -> list[Sample]:
    return list(importlib.import_module(f"fixtures.formats.{name}").samples(9))


def placed() -> Iterator[PlacedFile]:
    for name in LIBRARIES:
        for sample in samples_of(name):
            if sample.grade in GOOD:
                yield f"{name}-{sample.name}{demo.SUFFIXES[name]}", name, sample.content


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the case of an image that holds every good sample of the four formats."""
    folder = tmp_path_factory.mktemp("everything")
    write_truth(folder / "truth.json", build_plain(folder / "drive.img", placed(), seed=9))
    good("rescue", folder / "drive.img", folder / "CASE")
    return folder


def opened(name: str, paths: list[Path]) -> list[int]:
    need(None if importlib.util.find_spec(LIBRARIES[name]) else f"{LIBRARIES[name]} is not installed")
    command = [sys.executable, "-m", "tests.oracle", name, *map(str, paths)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=root)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def good_files(case: Path, name: str) -> list[dict]:
    files = [file for file in load_checked(case)["files"] if file["format"] == name and file["grade"] in GOOD]
    assert files
    return files


def test_every_sample_of_the_four_formats_comes_back_byte_for_byte_and_nothing_false(everything):
    bars = ("--min-recall", 1, "--min-precision", 1)
    good("score", everything / "CASE", "--truth", everything / "truth.json", *bars)
    load_checked(everything / "CASE")


@pytest.mark.parametrize("name", LIBRARIES)
def test_good_files_of_the_demo_open_in_their_library(name, demo_case):
    files = good_files(demo_case, name)
    counts = opened(name, [demo_case / file["path"] for file in files])
    assert len(counts) == len(files)


@pytest.mark.parametrize("name", LIBRARIES)
def test_good_files_of_every_sample_open_in_their_library(name, everything):
    files = {file["sha256"]: file for file in good_files(everything / "CASE", name)}
    truth = json.loads((everything / "truth.json").read_text())["files"]
    wanted = [true["sha256"] for true in truth if true["format"] == name and not true["path"].startswith(NO_TORCH_SAVE)]
    counts = opened(name, [everything / "CASE" / files[sha256]["path"] for sha256 in wanted])
    assert len(counts) == len(wanted)


def nested(name: str, content: bytes, folder: Path) -> list[dict]:
    """Return what is reported of one container on an image; its first file is the container itself."""
    truth = build_plain(folder / "drive.img", [(name, "zip_archive", content)], seed=3)
    good("carve", folder / "drive.img", "--out", folder / "CASE")
    files = load_checked(folder / "CASE")["files"]
    assert files[0]["layout"] == truth["files"][0]["layout"]
    assert (folder / "CASE" / files[0]["path"]).read_bytes() == content
    assert files[0]["parent"] is None
    return files


def test_a_torch_file_in_a_wheel_is_a_child_and_comes_back_byte_for_byte(tmp_path):
    (wheel,) = (sample for sample in zip_archive.samples(2) if sample.name == "wheel")
    container, *inside = nested("pkg-1.0-py3-none-any.whl", wheel.content, tmp_path)
    (torch_file,) = inside
    assert (torch_file["format"], torch_file["parent"]) == ("pytorch_zip", container["path"])
    member = zip_archive.build_torch(2, root="inner", dtypes=("float32", "int64")).content
    assert (tmp_path / "CASE" / torch_file["path"]).read_bytes() == member
    assert torch_file["grade"] in GOOD


def test_the_weights_in_a_keras_file_are_its_child(tmp_path):
    need(None if importlib.util.find_spec("h5py") else "h5py is not installed")
    container, *inside = nested("model.keras", keras.build(4), tmp_path)
    (weights,) = inside
    assert container["format"] == "keras"
    assert (weights["format"], weights["parent"]) == ("hdf5", container["path"])
    assert (tmp_path / "CASE" / weights["path"]).read_bytes() == keras.weights_file(4)
