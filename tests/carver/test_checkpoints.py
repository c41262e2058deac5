"""Distributed checkpoints: their metadata name files and tensors, and tell which files are missing."""

from __future__ import annotations

import numpy as np
import pytest

from carver.identify.checkpoints import Files, fill, object_lengths, slots, with_names
from carver.identify.missing import missing_files
from carver.identify.models import assemble
from carver.recovery import CarvedFile
from fixtures.formats.torch_distributed import write_object, write_tensor
from fixtures.formats.torch_distributed_metadata import describe
from imaging.extent import span
from signatures.tensors import Tensor
from signatures.verdict import Grade, Verdict
from tests.carver.laid_out import carve
from tests.carver.made_models import a_file

FIRST, SECOND, THIRD = (f"__{rank}_0.distcp" for rank in range(3))
AT = 4096


def file(name: str, holds: list[str], lengths: list[int]) -> dict[str, object]:
    return {"name": name, "size_bytes": sum(lengths), "holds": holds, "object_bytes": lengths}


def known(*files: dict[str, object], start_bytes: int = AT) -> Files:
    made = Files()
    made.add({"files": list(files)}, start_bytes)
    return made


def judged(lengths: list[int], *, names: list[str] | None = None) -> Verdict:
    made = [Tensor(name=n, dtype="float32", shape=(1,), layout=()) for n in names or map(str, range(len(lengths)))]
    facts = {"object_bytes": lengths, "objects": len(lengths)}
    return Verdict(grade=Grade.INTACT, size_bytes=sum(lengths), tensors=tuple(made), facts=facts)


def names_of(verdict: Verdict) -> list[str]:
    return [tensor.name for tensor in verdict.tensors]


def test_a_file_of_the_very_lengths_gets_its_name_and_its_tensors_names():
    verdict = with_names(judged([7, 9, 9], names=["1", "2.bias"]), known(file(FIRST, ["lr", "a", "b"], [7, 9, 9])))
    assert names_of(verdict) == ["a", "b.bias"]
    assert (verdict.facts["name"], verdict.facts["name_source"]) == ("__0_0", "checkpoint metadata")
    assert verdict.facts["checkpoint_files"] == [FIRST]
    assert verdict.findings == ()


@pytest.mark.parametrize("lengths", [[7, 9, 8], [7, 9], [9, 9], [5], []], ids=str)
def test_a_file_of_other_lengths_or_too_short_a_piece_stays_as_it_is(lengths):
    verdict = judged(lengths)
    assert with_names(verdict, known(file(FIRST, ["lr", "a", "b"], [7, 9, 9]))) is verdict


def test_ranks_whose_files_look_alike_tell_the_tensors_and_not_which_file_it_is():
    held = [file(name, ["a", "b"], [9, 9]) for name in (FIRST, SECOND)]
    verdict = with_names(judged([9, 9]), known(*held))
    assert names_of(verdict) == ["a", "b"]
    assert "name" not in verdict.facts
    assert verdict.facts["checkpoint_files"] == [FIRST, SECOND]
    other = with_names(judged([9, 9]), known(held[0], file(SECOND, ["a", "c"], [9, 9])))
    assert names_of(other) == ["0", "1"]


@pytest.mark.parametrize(("at", "count"), [(0, 3), (1, 3), (2, 4)])
def test_a_piece_that_fits_one_place_is_told_with_its_finding_and_no_better_grade(at, count):
    lengths = [7, 9, 8, 9, 9, 5]
    holds = list("abcdef")
    verdict = with_names(judged(lengths[at : at + count]), known(file(FIRST, holds, lengths)))
    assert names_of(verdict) == holds[at : at + count]
    assert [finding.code for finding in verdict.findings] == ["part-of-checkpoint-file"]
    assert f"number {at} to {at + count - 1}" in verdict.findings[0].detail
    assert verdict.grade is Grade.INTACT
    assert ("name" in verdict.facts) is (at == 0)


def test_a_piece_that_fits_several_places_is_not_named():
    verdict = judged([9, 9, 9])
    assert with_names(verdict, known(file(FIRST, list("abcd"), [9, 9, 9, 9]))) is verdict
    assert with_names(
        verdict, known(*(file(n, list("abcd"), [9, 9, 9, k]) for k, n in enumerate((FIRST, SECOND))))
    ) is (verdict)


def test_a_lone_tensor_is_a_file_of_one_object_and_a_named_model_is_none():
    (tensor,) = judged([5], names=["tensor"]).tensors
    assert object_lengths([tensor], 900, {}) == (900,)
    assert object_lengths([tensor], 900, {"name": "mine"}) == ()
    lone = Verdict(grade=Grade.INTACT, size_bytes=900, tensors=(tensor,))
    named = with_names(lone, known(file(FIRST, ["w"], [900])))
    assert names_of(named) == ["w"]
    assert named.facts["suffix"] == ".distcp"


def of_checkpoint(path: str, names: list[str], *starts: int, first: int = 0) -> CarvedFile:
    facts = {"checkpoint_files": names, "checkpoint_metadata_starts": list(starts), "first_object": first}
    specs = [("model.layers.0.w", 8), ("model.layers.1.w", 8)]
    held = [Tensor(name=n, dtype="float32", shape=(s, s), layout=(span(0, s),)) for n, s in specs]
    return a_file(path, held, form="torch_distributed", facts=facts)


def metadata(*files: dict[str, object], at_bytes: int = AT, name: str = "step-500") -> CarvedFile:
    facts = {"kind": "distributed checkpoint metadata", "files": list(files), "name": name}
    path = f"files/{at_bytes}.metadata"
    return a_file(path, form="torch_distributed_metadata", facts=facts, side=True, at_bytes=at_bytes)


def test_the_files_of_a_checkpoint_are_one_model_and_those_missing_are_told():
    told = metadata(file(FIRST, ["a"], [5]), file(SECOND, ["b"], [6]), file(THIRD, ["c"], [7]))
    found = [of_checkpoint("files/1", [THIRD], AT), of_checkpoint("files/0", [FIRST], AT)]
    (model,) = assemble(found, [told])
    assert (model.name, model.shards, model.shard_basis, model.step) == ("step-500", 3, "checkpoint metadata", 500)
    assert model.files == ("files/1", "files/0")
    assert model.missing_shards == (SECOND,)
    assert [(one.path, one.why) for one in model.companions] == [(told.path, "names")]
    assert [(one.name, one.size_bytes, one.learnt_from) for one in missing_files(found, [told])] == [
        (SECOND, 6, (told.path,))
    ]


def test_of_files_that_look_alike_is_told_how_many_are_missing():
    told = metadata(*(file(name, ["a", "b"], [5, 5]) for name in (FIRST, SECOND, THIRD)))
    one = of_checkpoint("files/0", [FIRST, SECOND, THIRD], AT)
    (model,) = assemble([one], [told])
    said = f"2 of {FIRST}, {SECOND}, {THIRD} (which cannot be told)"
    assert model.missing_shards == (said,)
    assert [missing.name for missing in missing_files([one], [told])] == [said]


def test_files_that_fit_the_metadata_of_two_steps_are_put_in_neither():
    steps = [metadata(file(FIRST, ["a"], [5]), at_bytes=at) for at in (AT, 2 * AT)]
    found = [of_checkpoint(f"files/{n}", [FIRST], AT, 2 * AT) for n in range(2)]
    assert [model.shard_basis for model in assemble(found, steps)] == ["", ""]
    assert missing_files(found, steps) == ()
    told = slots(steps[0].facts)
    fill(told, AT, [(one.path, one.facts) for one in found])
    assert list(told[0].missing()) == [f"{FIRST} (which of 2 files cannot be told)"]


def test_the_rest_of_a_file_that_lost_its_start_takes_no_place_of_a_whole_one():
    told = metadata(file(FIRST, ["a"], [5]))
    rest = of_checkpoint("files/0", [FIRST], AT, first=3)
    assert [model.shard_basis for model in assemble([rest], [told])] == [""]
    assert [missing.name for missing in missing_files([rest], [told])] == [FIRST]


def test_ranks_without_their_metadata_are_no_versions_of_one_another():
    specs = [Tensor(name=str(n), dtype="float32", shape=(4,), layout=(span(16 * n, 16 * n + 16),)) for n in range(9)]
    ranks = [a_file(f"files/{n}", specs, form="torch_distributed") for n in range(2)]
    assert [model.versions for model in assemble(ranks, [])] == [(), ()]


def test_of_a_file_that_is_cut_the_objects_are_told_that_are_there(tmp_path):
    rng = np.random.default_rng(5)
    objects = [write_tensor(rng.standard_normal(size)) for size in (40, 300, 900, 70)]
    files = {FIRST: [(f"w{number}", len(one)) for number, one in enumerate(objects)], SECOND: [("x", 9), ("y", 9)]}
    cut = b"".join(objects)[: -len(objects[-1]) // 2]
    report = carve(tmp_path, [cut + bytes(4096), describe(files)])
    pieces = {one["name"]: one["looked_for"] for one in report["missing"]}
    first = report["files"][0]["path"]
    assert pieces[FIRST] == f"its objects 0 to 2 are there as files of their own, the first {first}"
    assert pieces[SECOND] == ""


def test_on_an_image_the_metadata_names_what_is_there_and_tells_what_is_not(tmp_path):
    rng = np.random.default_rng(4)
    lr = write_object(b"\x80\x02K\x07.")
    weights = [write_tensor(rng.standard_normal(size)) for size in (40, 300, 900)]
    whole, lost = [lr, *weights[:2]], [weights[2], lr]
    files = {
        FIRST: list(zip(["lr", "model.a", "model.b"], map(len, whole), strict=True)),
        SECOND: list(zip(["model.c", "step"], map(len, lost), strict=True)),
    }
    report = carve(tmp_path, [b"".join(whole), describe(files, folder="/runs/ckpt-20")])
    (carved,) = report["files"]
    assert (carved["path"], carved["name_source"]) == (f"files/{FIRST}", "checkpoint metadata")
    assert [tensor["name"] for tensor in carved["tensors"]] == ["model.a", "model.b"]
    assert [(one["name"], one["size_bytes"]) for one in report["missing"]] == [(SECOND, sum(map(len, lost)))]
    assert report["models"][0]["missing_shards"] == [SECOND]
    assert report["models"][0]["name"] == "ckpt-20"
    assert report["side_files"][0]["path"] == "files/ckpt-20.metadata"
