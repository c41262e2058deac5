"""A data file of a distributed checkpoint with damage inside comes back as one file, and says what of it is hit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carver.identify.checkpoints import Entry, Files, with_names
from carver.identify.lost_objects import unfolded
from fixtures.formats.torch_distributed import write_object, write_tensor
from fixtures.formats.torch_distributed_metadata import describe
from imaging.extent import span
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade, Verdict
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


def judged(own: list[int], lost: list[int], *details: str) -> Verdict:
    tensors = tuple(
        Tensor(name=f"{n}.w" if n == 0 else f"{n}", dtype="float32", shape=(1,), layout=(span(0, 4),))
        for n in range(len(own))
    )
    facts = {"object_bytes": own, "objects": len(own), "lost_objects": lost, "damaged_objects": lost}
    findings = tuple(Finding(code="object-lost", detail=detail) for detail in details)
    return Verdict(grade=Grade.DAMAGED, size_bytes=sum(own), tensors=tensors, facts=facts, findings=findings)


def test_a_lost_stretch_falls_apart_into_the_objects_that_the_metadata_tells():
    details = ["object 1: gone", "object 2: torn", "2: zeros", "2.w: zeros", "64 bytes: what follows", "unread"]
    verdict = unfolded(judged([10, 60, 30], [1], *details), {(10, 40, 20, 30): []})
    assert verdict.facts["object_bytes"] == [10, 40, 20, 30]
    assert verdict.facts["damaged_objects"] == [1, 2]
    assert [tensor.name for tensor in verdict.tensors] == ["0.w", "1", "2", "3"]
    assert [tensor.layout[0] for tensor in verdict.tensors[1:3]] == [span(10, 50), span(50, 70)]
    assert [finding.detail for finding in verdict.findings] == [
        "object 1 to object 2: gone",
        "object 3: torn",
        "3: zeros",
        "3.w: zeros",
        "64 bytes: what follows",
        "unread",
    ]


@pytest.mark.parametrize(
    "known",
    [
        {},
        {(10, 40, 21, 30): []},
        {(10, 40, 20): []},
        {(10, 40, 20, 30, 5): []},
        {(5, 5, 60, 30): []},
        {(10, 40, 20, 30): [], (10, 20, 40, 30): []},
    ],
    ids=["none", "other-lengths", "shorter", "longer", "another-apart", "two-that-fit"],
)
def test_a_lost_stretch_that_no_one_file_explains_stays_as_it_is(known: dict[tuple[int, ...], list[Entry]]):
    verdict = judged([10, 60, 30], [1], "object 1: gone")
    assert unfolded(verdict, known) is verdict


def test_what_is_found_in_a_tensor_is_told_by_its_name():
    files = Files()
    files.add({"files": [{"name": NAME, "holds": ["lr", "w"], "object_bytes": [5, 9]}]}, 0)
    verdict = judged([5, 9], [], "object 1: torn", "1: zeros", "1.bias: zeros", "7: zeros", "2 of 3")
    assert [finding.detail for finding in with_names(verdict, files).findings] == [
        "object 1 (w): torn",
        "w: zeros",
        "w.bias: zeros",
        "7: zeros",
        "2 of 3",
    ]
