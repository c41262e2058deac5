"""Elsewhere: which recovered files hold what a damaged one has lost, and what nobody has."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from carver.identify import elsewhere as module
from carver.identify.elsewhere import elsewhere
from carver.recovery import CarvedFile, Elsewhere, OtherCopy
from carver.report import copy_words
from fixtures.formats import safetensors
from imaging.errors import Interrupted
from imaging.extent import span
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade
from tests.carver.laid_out import carve
from tests.carver.made_models import a_file

SIZE = 64
COUNT = 10


def held(lost: tuple[int, ...] = (), *, count: int = COUNT, dtype: str = "float32") -> tuple[Tensor, ...]:
    return tuple(
        Tensor(
            name=f"t{number}",
            dtype=dtype,
            shape=(16,),
            layout=(span(SIZE * number, SIZE * (number + 1)),),
            grade="DAMAGED" if number in lost else "CONSISTENT",
        )
        for number in range(count)
    )


def content(fill: int, *changed: int) -> bytes:
    return b"".join(bytes((fill + number + (100 if number in changed else 0),)) * SIZE for number in range(COUNT))


def put(folder: Path, name: str, raw: bytes, **more: object) -> CarvedFile:
    (folder / name).write_bytes(raw)
    values = {"held": held(), "at_bytes": 1 << 20 | random.Random(name).randrange(1 << 40) << 21}
    findings = more.pop("findings", ())
    return dataclasses.replace(a_file(name, **{**values, **more}), findings=findings)


def hurt(folder: Path, *lost: int, raw: bytes | None = None, **more: object) -> CarvedFile:
    raw = content(1, *lost) if raw is None else raw
    return put(folder, "hurt", raw, held=held(lost), **{"grade": Grade.DAMAGED, **more})


def test_a_copy_is_told_from_a_version_by_the_tensors_that_are_whole_in_both(tmp_path):
    files = [
        hurt(tmp_path, 3, 4),
        put(tmp_path, "version", content(50)),
        put(tmp_path, "copy", content(1)),
        put(tmp_path, "tuned", content(1, 8)),
    ]
    (told,) = elsewhere(files, tmp_path)
    assert [(one.path, one.offers, one.compared, one.identical) for one in told.copies] == [
        ("copy", 2, 8, 8),
        ("tuned", 2, 8, 7),
        ("version", 2, 8, 0),
    ]
    assert [one.differing for one in told.copies] == [(), ("t8",), ()]
    assert (told.path, told.hit, told.found, told.nowhere) == ("hurt", 2, 2, ())
    assert told.sources == (("t3", "copy"), ("t4", "copy"))


def test_what_no_other_file_has_whole_is_said_to_be_nowhere(tmp_path):
    other = put(tmp_path, "other", content(1), held=held((4,)), grade=Grade.DAMAGED)
    told = {one.path: one for one in elsewhere([hurt(tmp_path, 3, 4), other], tmp_path)}
    assert (told["hurt"].sources, told["hurt"].nowhere) == ((("t3", "other"),), ("t4",))
    assert told["other"].copies == ()


@pytest.mark.parametrize(
    "other",
    [
        {"held": held(dtype="float16")},
        {"held": held(count=4)},
        {"held": tuple(Tensor(name=f"t{n}", dtype="float32", shape=(16,), layout=()) for n in range(COUNT))},
        {"at_bytes": 4096},
    ],
    ids=["another type", "too few tensors", "nothing stored", "the same bytes of the source"],
)
def test_what_only_looks_like_a_copy_is_none(tmp_path, other):
    files = [hurt(tmp_path, 3, at_bytes=4096), put(tmp_path, "other", content(1), **other)]
    (told,) = elsewhere(files, tmp_path)
    assert (told.copies, told.nowhere) == ((), ("t3",))


def test_odd_bytes_in_a_tensor_of_a_consistent_file_count_as_hit(tmp_path):
    odd = put(tmp_path, "hurt", content(1))
    assert elsewhere([odd, put(tmp_path, "copy", content(1))], tmp_path) == ()
    finding = Finding(code="tensor-uniform-block", offset_bytes=2 * SIZE + 5)
    odd = put(tmp_path, "hurt", content(1), findings=(finding,))
    (told,) = elsewhere([odd, put(tmp_path, "copy", content(1))], tmp_path)
    assert told.sources == (("t2", "copy"),)


def test_a_finding_hits_all_tensors_of_the_range_it_tells_and_no_name_can_widen_it(tmp_path):
    finding = Finding(
        code="tensor-text", offset_bytes=2 * SIZE, detail=f"0x0+0xffff to t3: {2 * SIZE:#x}+{SIZE + 1:#x} reads as text"
    )
    odd = put(tmp_path, "hurt", content(1), grade=Grade.CONSISTENT, findings=(finding,))
    (told,) = elsewhere([odd, put(tmp_path, "copy", content(1))], tmp_path)
    assert told.sources == (("t2", "copy"), ("t3", "copy"))


def test_a_file_that_is_shorter_than_told_is_like_no_other(tmp_path):
    short = hurt(tmp_path, 9, raw=content(1)[: 5 * SIZE])
    (told,) = elsewhere([short, put(tmp_path, "copy", content(1)[: 5 * SIZE])], tmp_path)
    assert (told.copies[0].compared, told.copies[0].identical) == (9, 5)


def test_comparing_ends_at_its_limit_and_when_told(tmp_path, monkeypatch):
    files = [hurt(tmp_path, 3), put(tmp_path, "copy", content(1))]
    with pytest.raises(Interrupted):
        elsewhere(files, tmp_path, lambda: True)
    monkeypatch.setattr(module, "MAX_COMPARED_BYTES", 4 * SIZE)
    (told,) = elsewhere(files, tmp_path)
    assert (told.copies[0].compared, told.copies[0].offers) == (2, 1)


def test_of_many_versions_the_likest_are_named(tmp_path):
    versions = [put(tmp_path, f"v{number}", content(50)) for number in range(30)]
    (told,) = elsewhere([hurt(tmp_path, 3), *versions], tmp_path)
    assert len(told.copies) == module.MAX_COPIES


def copy_of(**changes: object) -> OtherCopy:
    return OtherCopy(**{"path": "p", "grade": Grade.CONSISTENT, "offers": 2, "compared": 8, "identical": 8, **changes})


@pytest.mark.parametrize(
    ("copy", "words"),
    [
        (copy_of(), "a copy, as far as can be told: 8 tensors that are whole in both are byte for byte the same"),
        (copy_of(identical=7, differing=("t8",)), "the other 1 (t8) were changed on purpose, or are damaged"),
        (copy_of(identical=3), "another version, older or newer: 3 of 8 tensors"),
        (copy_of(identical=0), "another version, older or newer: the same tensors"),
        (copy_of(compared=0, identical=0), "whether it is a copy or another version cannot be told"),
    ],
)
def test_each_relation_has_its_words(copy, words):
    said = copy_words.lines(Elsewhere(path="h", hit=3, copies=(copy,), found=2, nowhere=("t9",)))
    assert words in said[0]
    assert "2 of the 3 tensors hit here are whole there" in said[0]
    assert "1 tensor that is hit is whole in no recovered file (t9)" in said[1]
    assert "does not come back" in said[1]
    assert "Nothing was put together" in said[-1]


def test_without_any_copy_the_report_says_that_it_does_not_come_back():
    (line,) = copy_words.lines(Elsewhere(path="h", hit=3, nowhere=("t9",)))
    assert "does not come back" in line
    assert copy_words.lines(None) == []
    assert copy_words.sources(None) == {}


def weights(seed: int) -> bytes:
    specs = tuple((f"layer{number}.weight", "F32", (256, 256)) for number in range(COUNT))
    values = np.random.default_rng(seed).normal(scale=0.02, size=COUNT * 256 * 256).astype("<f4")
    return safetensors.assemble(safetensors.compact(safetensors.entries(specs)), values.tobytes())


def test_ransomware_leaves_an_older_version_and_a_copy_and_both_are_told(tmp_path):
    whole, older = weights(1), weights(2)
    size = 5 << 18
    at = len(whole) - (8 << 18)  # where the third of ten tensors begins
    encrypted = whole[:at] + np.random.default_rng(3).bytes(size) + whole[at + size :]
    report = carve(tmp_path, [encrypted, older, whole])
    (lost,) = report["elsewhere"]
    copy, version = lost["copies"]
    assert lost["hit"] == 5
    assert (copy["identical"], copy["compared"]) == (COUNT - lost["hit"], COUNT - lost["hit"])
    assert (version["identical"], lost["found"], lost["nowhere"]) == (0, lost["hit"], [])
    page = (tmp_path / "case/report.html").read_text()
    assert "a copy, as far as can be told" in page
    assert "another version, older or newer" in page
    assert f"whole in <bdi>{copy['path']}</bdi>" in page
