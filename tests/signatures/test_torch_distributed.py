"""Distributed checkpoints: several torch zips are one file; its metadata tells of the files, and hides nothing."""

from __future__ import annotations

import io

import pytest

from fixtures.formats import torch_distributed as distcp
from fixtures.formats import torch_distributed_metadata as sidecar
from fixtures.formats.pytorch_zip import Member, write_archive
from signatures import pytorch_zip, torch_distributed, torch_distributed_metadata
from signatures.verdict import Grade
from tests.signatures.zip_window import codes, judge, patched, starts_in

FORMAT, METADATA = torch_distributed.FORMAT, torch_distributed_metadata.FORMAT
PICKLED = Member(name="data.pkl", data=b"\x80\x02K\x07.")
SAMPLES = list(distcp.samples(9))


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.name for sample in SAMPLES])
def test_only_the_first_object_is_a_start_and_the_others_are_explained(sample):
    image = bytes(512) + sample.content + bytes(700)
    assert starts_in(FORMAT, image) == {512}
    verdict = judge(FORMAT, image[512:])
    inner = {at for at in range(len(sample.content)) if sample.content.startswith(b"PK\x03\x04", at)}
    assert inner <= set(verdict.explained)


def test_a_changed_weight_damages_its_own_object():
    content = SAMPLES[1].content
    last = judge(FORMAT, content).tensors[-1].layout[0].offset_bytes
    verdict = judge(FORMAT, patched(content, last, b"\xff\xff\xff"))
    assert verdict.grade is Grade.DAMAGED
    assert [tensor.grade for tensor in verdict.tensors] == ["INTACT", "INTACT", "DAMAGED"]
    assert next(f for f in verdict.findings if f.code == "crc-mismatch").detail.startswith("object 2: ")


@pytest.mark.parametrize("left_bytes", [1, 20, 60])
def test_a_file_cut_in_an_objects_header_is_truncated(left_bytes):
    content = SAMPLES[1].content
    ends = [at + 22 for at in range(len(content)) if content.startswith(b"PK\x05\x06", at)]
    verdict = judge(FORMAT, content[: ends[1] + left_bytes])
    assert verdict.grade is Grade.TRUNCATED
    assert verdict.facts["object_bytes"] == [ends[0], ends[1] - ends[0]]
    assert "cut-short" in codes(verdict)


def test_two_files_that_follow_each_other_at_a_sector_stay_two():
    first = distcp.write_object(b"\x80\x02X\x04\0\0\0" + b"adam.")
    grown = next(
        whole
        for count in range(1, 600)
        if len(whole := write_archive("archive", [PICKLED, Member(name="x", data=b"1" * count)])) % 512 == 0
    )
    assert judge(FORMAT, grown + first).findings[0].code == "single-zip"
    assert judge(FORMAT, first + grown).grade is Grade.INTACT


def test_one_zip_alone_is_no_distributed_checkpoint():
    alone = distcp.write_object(b"\x80\x02K\x07.")
    assert starts_in(FORMAT, alone + bytes(512)) == set()
    assert judge(FORMAT, alone).findings[0].code == "single-zip"


def test_the_metadata_tells_of_each_file_how_long_it_is():
    verdict = judge(METADATA, sidecar.write(5, protocol=4) + b"rest")
    names = [f"model.layers.{number}.weight" for number in range(5)]
    assert verdict.facts["files"] == [
        {"name": "__0_0.distcp", "size_bytes": 3000, "holds": names[::2], "object_bytes": [1000] * 3},
        {"name": "__1_0.distcp", "size_bytes": 2000, "holds": names[1::2], "object_bytes": [1000] * 2},
    ]
    assert verdict.facts["objects"] == 5


def test_the_metadata_tells_the_folder_and_the_pieces_of_one_tensor_by_their_numbers():
    told = judge(METADATA, sidecar.describe({"a.distcp": [("w", 5), ("b", 1), ("w", 7)]}, folder="/runs/step-500"))
    assert (told.facts["name"], told.facts["name_source"]) == ("step-500", "checkpoint's folder")
    assert told.facts["files"][0]["holds"] == ["w[0]", "b", "w[1]"]


def test_objects_that_do_not_lie_one_behind_the_other_are_not_told():
    raw = sidecar.describe({"a.distcp": [("w", 5), ("b", 7)]}, protocol=3)
    apart = raw.replace(b"K\x05", b"K\x04", 1)  # the first ends a byte before the second begins
    assert judge(METADATA, apart).facts["files"] == [{"name": "a.distcp", "size_bytes": 12}]


def test_a_name_that_hides_in_the_metadatas_module_is_told():
    module = torch_distributed_metadata.MODULE.encode()
    raw = sidecar.write(2, protocol=3)
    evil = raw[:2] + b"c" + module + b"\nos.system\n0" + raw[2:]
    verdict = judge(METADATA, evil)
    assert verdict.facts["unsafe_globals"] == [f"{module.decode()}.os.system"]
    assert "unsafe-global" in codes(verdict)


def test_metadata_that_is_cut_is_truncated_and_other_pickles_are_none():
    raw = sidecar.write(9, protocol=3)
    assert judge(METADATA, raw[:-40]).grade is Grade.TRUNCATED
    assert codes(judge(METADATA, raw[:-40])) == {"pickle-cut"}
    assert judge(METADATA, b"\x80\x02K\x01.").findings[0].code == "not-metadata"
    broken = raw[:-40] + b"\xff" * 40
    assert judge(METADATA, broken).grade is Grade.DAMAGED


def test_what_torch_writes_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    from torch.distributed import checkpoint

    weights = {"w": torch.randn(40, 50), "b": torch.zeros(3)}
    checkpoint.save({"model": weights, "lr": 0.1, "raw": io.BytesIO(b"x")}, checkpoint_id=str(tmp_path / "dcp"))
    metadata = judge(METADATA, (tmp_path / "dcp" / ".metadata").read_bytes())
    assert metadata.grade is Grade.CONSISTENT
    assert metadata.findings == ()
    (told,) = metadata.facts["files"]
    content = (tmp_path / "dcp" / told["name"]).read_bytes()
    verdict = judge(FORMAT, content + bytes(300))
    assert (verdict.grade, verdict.size_bytes) == (Grade.INTACT, told["size_bytes"])
    assert sorted((tensor.dtype, tensor.shape) for tensor in verdict.tensors) == [
        ("float32", (3,)),
        ("float32", (40, 50)),
    ]
    assert starts_in(FORMAT, content) == {0}
    assert verdict.facts["object_bytes"] == told["object_bytes"]
    assert sorted(told["holds"]) == ["lr", "model.b", "model.w", "raw"]
    assert metadata.facts["name"] == "dcp"


def test_an_object_that_stands_alone_tells_of_the_next():
    content = SAMPLES[1].content
    assert "one-of-several" in codes(judge(pytorch_zip.FORMAT, content))
    assert "one-of-several" not in codes(judge(pytorch_zip.FORMAT, distcp.write_object(b"\x80\x02K\x07.")))
    assert "one-of-several" not in codes(judge(FORMAT, content))
