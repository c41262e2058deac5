"""Hints: a hash that a pointer names proves a file, and nothing else does."""

from __future__ import annotations

import hashlib

from carver.identify.hints import WITNESSES, Hints, Told, gather, named, proven
from carver.identify.missing import missing_files
from fixtures.formats.git_lfs_pointer import pointer
from fixtures.formats.huggingface_download import record
from fixtures.formats.model_json import LLAMA, written
from fixtures.formats.sha256_list import sums
from fixtures.formats.weights_index import index
from imaging.extent import span
from signatures import formats
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


def test_a_hash_proves_no_tensor_whose_bytes_lie_in_another_file():
    tensors = (Tensor(name="elsewhere", dtype="float32", shape=(9,), layout=(), grade="CONSISTENT"),)
    tensors += (Tensor(name="empty", dtype="float32", shape=(0,), layout=(), grade="CONSISTENT"),)
    outer = Verdict(grade=Grade.CONSISTENT, size_bytes=1, tensors=tensors)
    verdict = proven(outer, DIGEST, 1, gather([told_pointer(DIGEST, 1)]))
    assert verdict.grade is Grade.INTACT
    assert [tensor.grade for tensor in verdict.tensors] == ["CONSISTENT", "INTACT"]


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

    assert named(tensors, "pytorch_zip", DIGEST, told("m-1.tar.bin", "m-1.tar.bin")) == (
        "m-1.tar",
        ".bin",
        "index file",
    )
    assert named(tensors, "pytorch_zip", DIGEST, told("m-1.bin", "n-1.bin")) is None
    assert named(tensors[:1], "pytorch_zip", DIGEST, told("m-1.bin")) is None
    assert named(tensors, "pytorch_zip", DIGEST, Hints()) is None
    both = told("pytorch_model-1.bin", "model-1.safetensors")
    assert named(tensors, "pytorch_legacy", DIGEST, both) == ("pytorch_model-1", ".bin", "index file")
    assert named(tensors, "safetensors", DIGEST, both) == ("model-1", ".safetensors", "index file")
    assert named(tensors, "safetensors", DIGEST, told("pytorch_model-1.bin")) is None
    assert named(tensors, "onnx", DIGEST, told("m-1.of-its-own")) == ("m-1", ".of-its-own", "index file")


def told_sums(*names: str) -> Told:
    facts = {"sums": [{"sha256": DIGEST, "name": name} for name in names]}
    return Told(format="sha256_list", start_bytes=1024, facts=facts)


def test_a_list_of_sums_proves_and_names_and_a_record_of_a_download_proves():
    hints = gather([told_sums("runs/best.pt", "C:\\\\old\\\\best.pt")])
    assert proven(a_verdict(), DIGEST, 77, hints).data_evidence is DataEvidence.HASH
    assert named([], "pytorch_zip", DIGEST, hints) == ("best", ".pt", "SHA-256 list")
    assert named([], "pytorch_zip", DIGEST, gather([told_sums("a.pt", "b.pt")])) is None
    record = Told(format="huggingface_download", start_bytes=0, facts={"names_sha256": DIGEST})
    assert "download" in proven(a_verdict(), DIGEST, 77, gather([record])).findings[0].detail


def test_every_format_that_names_hashes_is_a_witness_in_words():
    assert set(WITNESSES) <= {name for name, form in formats().items() if form.side}


def test_what_sums_name_and_is_not_there_is_missing_if_it_is_called_like_weights():
    sums = told_sums("a/model.safetensors", "debian.iso")
    side = a_file("files/x.sha256", form=sums.format, facts=dict(sums.facts), side=True)
    (missing,) = missing_files([], [side])
    assert (missing.name, missing.size_bytes, missing.sha256) == ("model.safetensors", None, DIGEST)
    found = a_file("files/a", content="a")
    assert found.sha256 == DIGEST and missing_files([found], [side]) == ()


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


def test_a_dry_run_tells_small_files_apart(tmp_path):
    lay_out(tmp_path / "disk.img", [written(LLAMA), weights(["a"])])
    said = good("carve", tmp_path / "disk.img", "--out", tmp_path / "case", "--dry-run").err
    assert "1 file (1 good) and 1 small one that tells of models would take" in said


def test_the_scans_list_is_of_models_unless_small_files_are_asked_for(tmp_path):
    lay_out(tmp_path / "disk.img", [written(LLAMA), weights(["a"])])
    assert len(good("scan", tmp_path / "disk.img", "--json").out.splitlines()) == 1
    assert len(good("scan", tmp_path / "disk.img", "--json", "--formats", "model_json").out.splitlines()) == 1


def test_on_an_image_a_list_of_sums_names_its_file_and_a_download_proves_another(tmp_path):
    one, other = weights(["a"]), weights(["b"])
    report = carve(tmp_path, [one, sums({"runs/best.safetensors": one, "lost.gguf": b"lost"}), other, record(other)])
    assert [(file["path"], file["grade"], file["name_source"]) for file in report["files"]] == [
        ("files/best.safetensors", "INTACT", "SHA-256 list"),
        (report["files"][1]["path"], "INTACT", "offset"),
    ]
    assert [file["name"] for file in report["missing"]] == ["lost.gguf"]
