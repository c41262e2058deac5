"""A data file of a distributed checkpoint with damage inside comes back as one file, and says what of it is hit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.formats.torch_distributed import write_object, write_tensor
from fixtures.formats.torch_distributed_metadata import describe
from tests.carver.laid_out import carve

NAME = "__0_0.distcp"
RNG = np.random.default_rng(8)
OBJECTS = [write_object(b"\x80\x02K\x07."), *(write_tensor(RNG.standard_normal(n)) for n in (400, 3000, 50, 2600, 900))]
STARTS = [sum(map(len, OBJECTS[:number])) for number in range(len(OBJECTS) + 1)]
NAMES = ["lr", *(f"model.{letter}" for letter in "abcde")]
METADATA = describe({NAME: list(zip(NAMES, map(len, OBJECTS), strict=True))})


def damaged(low: int, high: int) -> bytes:
    content = b"".join(OBJECTS)
    return content[:low] + bytes(high - low) + content[high:]


def grades(file: dict[str, Any]) -> dict[str, str]:
    return {tensor["name"]: tensor["grade"] for tensor in file["tensors"]}


def sector(at_bytes: int) -> tuple[int, int]:
    low = at_bytes // 512 * 512
    return low, low + 512


@pytest.mark.parametrize(
    ("lost", "hit"),
    [
        (sector(STARTS[2] + 4000), ["model.b"]),
        ((STARTS[2], STARTS[2] + 300), ["model.b"]),
        (sector(STARTS[4] - 40), ["model.d"]),
        ((STARTS[2] + 3000, STARTS[4] + 4000), ["model.b", "model.c", "model.d"]),
        ((STARTS[1] + 800, STARTS[4] + 4000), ["model.a", "model.b", "model.c", "model.d"]),
    ],
    ids=["sector-in-a-tensor", "head", "sector-between-two", "three-objects", "two-lost-together"],
)
def test_it_is_one_file_whose_other_tensors_are_told_as_intact(tmp_path: Path, lost: tuple[int, int], hit: list[str]):
    report = carve(tmp_path, [damaged(*lost), METADATA])
    (file,) = report["files"]
    assert (file["path"], file["grade"]) == (f"damaged/{NAME}", "DAMAGED")
    assert (file["format"], file["size_bytes"]) == ("torch_distributed", STARTS[-1])
    assert grades(file) == {name: "DAMAGED" if name in hit else "INTACT" for name in NAMES[1:]}
    assert (tmp_path / "case" / file["path"]).read_bytes() == damaged(*lost)
    assert report["missing"] == []
    said = " ".join(finding["detail"] for finding in file["findings"])
    assert all(name in said for name in (hit[0], hit[-1]))


def test_without_its_metadata_the_objects_are_told_by_their_numbers(tmp_path: Path):
    (file,) = carve(tmp_path, [damaged(*sector(STARTS[2] + 4000))])["files"]
    assert grades(file) == {str(number): "DAMAGED" if number == 2 else "INTACT" for number in range(1, 6)}
    assert [finding["detail"].split(":")[0] for finding in file["findings"]] == ["object 2"]
