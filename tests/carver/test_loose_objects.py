"""Objects of a distributed checkpoint's file that is cut: each is a file of its own, with a name that tells of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carver.identify.checkpoints import Files
from carver.identify.loose_objects import Zip, loose_objects, with_place
from fixtures.formats.torch_distributed import write_object, write_tensor
from fixtures.formats.torch_distributed_metadata import describe
from signatures.verdict import Grade, Verdict
from tests.carver.laid_out import carve

NAME = "__0_0.distcp"
RNG = np.random.default_rng(6)
OBJECTS = [write_object(b"\x80\x02K\x07."), *(write_tensor(RNG.standard_normal(n)) for n in (400, 3000, 2600, 900))]
NAMES = ["lr", *(f"model.{letter}" for letter in "abcd")]
CUT = b"".join(OBJECTS)[: sum(map(len, OBJECTS[:3])) + 5000]
METADATA = describe({NAME: list(zip(NAMES, map(len, OBJECTS), strict=True))})


def told_of(report: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    files = sorted(report["files"], key=lambda file: file["layout"])
    return [(file["path"], file["name_source"], [tensor["name"] for tensor in file["tensors"]]) for file in files]


def known(**files: list[tuple[str, int]]) -> Files:
    made = Files()
    told = [
        {"name": f"{name}.distcp", "holds": [n for n, _ in held], "object_bytes": [size for _, size in held]}
        for name, held in files.items()
    ]
    made.add({"files": told}, 4096)
    return made


def zips(start_bytes: int, *lengths: int) -> list[Zip]:
    made = []
    for size_bytes in lengths:
        made.append(Zip(start_bytes=start_bytes, size_bytes=size_bytes))
        start_bytes += size_bytes
    return made


def test_of_a_cut_file_the_metadata_names_each_object(tmp_path: Path):
    source = "checkpoint metadata"
    assert told_of(carve(tmp_path, [CUT, METADATA])) == [
        ("files/__0_0-lr.pth", source, []),
        ("files/__0_0-model.a.pth", source, ["model.a"]),
        ("files/__0_0-model.b.pth", source, ["model.b"]),
        ("truncated/__0_0-model.c.pth", source, ["model.c"]),
    ]


def test_without_metadata_the_place_of_the_file_and_the_number_name_it(tmp_path: Path):
    source = "place among the objects"
    assert told_of(carve(tmp_path, [CUT])) == [
        ("files/torch_distributed-0x200-object-0.pth", source, []),
        ("files/torch_distributed-0x200-object-1.pth", source, ["1"]),
        ("files/torch_distributed-0x200-object-2.pth", source, ["2"]),
        ("truncated/torch_distributed-0x200-object-3.pth", source, ["3"]),
    ]


def test_the_rest_of_a_file_is_counted_from_its_own_place_in_it():
    files = known(a=[("w", 10), ("v", 70), ("u", 30), ("t", 50), ("s", 90)])
    named = loose_objects(zips(1000, 70, 30, 50), files)
    assert [(one.number, one.stem, one.tensor) for one in named.values()] == [
        (1, "a-v", "v"),
        (2, "a-u", "u"),
        (3, "a-t", "t"),
    ]


def test_a_last_object_of_an_unknown_length_is_named_by_the_others():
    files = known(a=[("w", 10), ("v", 70), ("u", 30), ("t", 50)])
    assert [one.tensor for one in loose_objects(zips(512, 10, 70, 30, 7), files).values()] == ["w", "v", "u", "t"]


def test_objects_of_files_that_look_alike_get_the_names_of_their_tensors_alone():
    held = [("w", 10), ("v", 70)]
    alike = loose_objects(zips(512, 10, 70), known(a=held, b=held))
    assert [(one.stem, one.tensor) for one in alike.values()] == [("w", "w"), ("v", "v")]
    other = loose_objects(zips(512, 10, 70), known(a=held, b=[("x", 10), ("y", 70)]))
    assert [one.stem for one in other.values()] == [f"torch_distributed-0x200-object-{n}" for n in (0, 1)]


def test_a_zip_alone_and_one_on_a_sectors_edge_are_no_objects_of_another():
    assert loose_objects([*zips(512, 100), *zips(2048, 100)], Files()) == {}
    named = loose_objects(zips(512, 100, 412, 512, 100, 300), Files())
    assert [(start, one.stem) for start, one in named.items()] == [
        (512, "torch_distributed-0x200-object-0"),
        (612, "torch_distributed-0x200-object-1"),
        (1536, "torch_distributed-0x600-object-0"),
        (1636, "torch_distributed-0x600-object-1"),
    ]


@pytest.mark.parametrize("name", ["mine", None])
def test_a_zip_that_tells_its_own_name_keeps_it(name):
    (loose, _) = loose_objects(zips(512, 100, 50), Files()).values()
    verdict = Verdict(grade=Grade.INTACT, size_bytes=100, facts={"name": name} if name else {})
    assert with_place(verdict, loose).facts["name"] == (name or loose.stem)
    assert with_place(verdict, None) is verdict
