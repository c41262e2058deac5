"""Hints: a hash that a pointer names proves a file, and nothing else does."""

from __future__ import annotations

import hashlib

from carver.identify.hints import Hints, Told, gather, named_shard, proven
from carver.identify.missing import missing_files
from fixtures.formats.git_lfs_pointer import pointer
from fixtures.formats.model_json import LLAMA, written
from fixtures.formats.weights_index import index
from imaging.extent import span
from signatures.tensors import Tensor, names_digest
from signatures.verdict import DataEvidence, Finding, Grade, Verdict
from tests.carver.laid_out import carve, lay_out, weights
from tests.carver.made_models import a_file
from tests.command import good

DIGEST = hashlib.sha256(b"a").hexdigest()
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def a_verdict() -> Verdict:
    tensor = Tensor(name="w", dtype="float32", shape=(1,), layout=(span(0, 4),), grade="DAMAGED")
    findings = (Finding(code="foreign-file-inside"), Finding(code="zero-tail"))
    return Verdict(grade=Grade.DAMAGED, size_bytes=1, tensors=(tensor,), findings=findings)


def told_pointer(sha256: str, size_bytes: int, start_bytes: int = 512) -> Told:
    facts = {"names_sha256": sha256, "names_size_bytes": size_bytes}
    return Told(format="git_lfs_pointer", start_bytes=start_bytes, facts=facts)


def test_equal_hash_and_length_prove_a_file_whatever_was_thought_of_it():
    verdict = proven(a_verdict(), DIGEST, 1, gather([told_pointer(DIGEST, 1), told_pointer(DIGEST, 1, 1024)]))
    assert (verdict.grade, verdict.data_evidence) == (Grade.INTACT, DataEvidence.HASH)
    assert {tensor.grade for tensor in verdict.tensors} == {"INTACT"}
    assert [finding.code for finding in verdict.findings] == ["hash-known", "zero-tail"]
    assert "0x200" in verdict.findings[0].detail


def test_a_pointer_of_another_length_or_hash_proves_nothing():
    other = hashlib.sha256(b"b").hexdigest()
    hints = gather([told_pointer(DIGEST, 2), told_pointer(other, 1)])
    assert proven(a_verdict(), DIGEST, 1, hints) == a_verdict()
    assert proven(a_verdict(), DIGEST, 1, Hints()) == a_verdict()


def test_a_shard_gets_the_one_name_that_indices_give_its_tensors():
    tensors = [Tensor(name=name, dtype="float32", shape=(), layout=()) for name in ("b", "a")]

    def told(*names: str) -> Hints:
        shards = [{"name": name, "tensors": 2, "names_sha256": names_digest(["a", "b"])} for name in names]
        return gather(Told(format="weights_index", start_bytes=0, facts={"shards": [shard]}) for shard in shards)

    assert named_shard(tensors, told("m-1.tar.bin", "m-1.tar.bin")) == ("m-1.tar", ".bin")
    assert named_shard(tensors, told("m-1.bin", "n-1.bin")) is None
    assert named_shard(tensors[:1], told("m-1.bin")) is None
    assert named_shard(tensors, Hints()) is None


def test_on_an_image_a_pointer_proves_its_file_and_tells_of_the_one_that_is_lost(tmp_path):
    kept, changed, lost = weights(["a"]), weights(["b"]), b"lost" * 99
    twin = weights(["b"], fill=8)
    side = [pointer(kept), pointer(lost), pointer(twin), written(LLAMA)]
    report = carve(tmp_path, [kept, *side, changed, pointer(kept)])
    assert [(file["grade"], file["data_evidence"]) for file in report["files"]] == [
        ("INTACT", "hash"),
        ("CONSISTENT", "none"),
    ]
    assert report["files"][0]["layout_basis"] == "proven"
    assert [f["code"] for f in report["files"][0]["findings"]] == ["hash-known"]
    assert report["summary"]["files"] == 2
    assert [file["format"] for file in report["side_files"]] == [
        *3 * ["git_lfs_pointer"],
        "model_json",
        "git_lfs_pointer",
    ]
    assert report["side_files"][3]["path"] == "files/config.json"
    assert [(file["sha256"], file["size_bytes"], file["same_size"]) for file in report["missing"]] == [
        (hashlib.sha256(lost).hexdigest(), len(lost), []),
        (hashlib.sha256(twin).hexdigest(), len(twin), [report["files"][1]["path"]]),
    ]


def test_on_an_image_an_index_names_the_shards_and_tells_of_those_that_are_lost(tmp_path):
    tensors = {FIRST: ["a", "b"], SECOND: ["c"]}
    report = carve(tmp_path, [weights(tensors[FIRST]), index(tensors, total_bytes=99), weights(["else"])])
    assert report["files"][0]["path"] == f"files/{FIRST}"
    assert [file["name_source"] for file in report["files"]] == ["index file", "offset"]
    assert [(file["name"], file["sha256"]) for file in report["missing"]] == [(SECOND, None)]
    assert report["missing"][0]["learnt_from"] == ["files/model.safetensors.index.json"]


def test_a_small_file_inside_a_tensor_on_the_sector_grid_is_told_as_damage(tmp_path):
    outer = weights(["a"], shape=(64, 64))
    inner = written(LLAMA)
    report = carve(tmp_path, [outer[:2048] + inner + outer[2048 + len(inner) :]])
    assert [file["grade"] for file in report["files"]] == ["DAMAGED"]
    assert [f["code"] for f in report["files"][0]["findings"]][-1] == "foreign-file-inside"
    assert len(report["side_files"]) == 1


def test_a_hash_outweighs_a_small_file_inside_and_off_the_grid_there_is_none(tmp_path):
    outer = weights(["a"], shape=(64, 64))
    inner = written(LLAMA)
    held = outer[:2048] + inner + outer[2048 + len(inner) :]
    off_grid = outer[:2060] + pointer(b"x") + outer[2060 + len(pointer(b"x")) :]
    report = carve(tmp_path, [held, pointer(held), off_grid[:2059] + b"\0" + off_grid[2060:]])
    assert [file["grade"] for file in report["files"]] == ["INTACT", "CONSISTENT"]
    assert [file["format"] for file in report["side_files"]] == ["model_json", "git_lfs_pointer"]


def test_the_data_file_of_an_onnx_model_is_named_and_missing():
    model = a_file("files/a.onnx", form="onnx", facts={"external_files": {"../w/model.onnx.data": 4096, "": 5}})
    (missing,) = missing_files([model], [])
    assert (missing.name, missing.size_bytes, missing.learnt_from) == ("../w/model.onnx.data", 4096, ("files/a.onnx",))


def test_the_scans_list_is_of_models_unless_small_files_are_asked_for(tmp_path):
    lay_out(tmp_path / "disk.img", [written(LLAMA), weights(["a"])])
    assert len(good("scan", tmp_path / "disk.img", "--json").out.splitlines()) == 1
    assert len(good("scan", tmp_path / "disk.img", "--json", "--formats", "model_json").out.splitlines()) == 1
