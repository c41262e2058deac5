"""PyTorch zips: whole, cut, damaged in each part, found from head, tail and middle."""

from __future__ import annotations

import io
import random
import re
import struct
import zipfile
import zlib

import numpy as np
import pytest

from fixtures.formats.pytorch_zip import (
    Member,
    Weight,
    build,
    build_torchscript,
    build_views,
    build_without_crc,
    pickle_of,
    rezipped,
    samples,
    write_archive,
)
from imaging.errors import BudgetExceeded
from imaging.extent import ExtentSet, span
from imaging.window import Budget
from signatures.pytorch_zip import FORMAT, combined_crc
from signatures.verdict import DataEvidence, Grade
from tests.signatures.zip_window import codes, ids, judge, patched, starts_in, truth, window_on

SAMPLES = list(samples(11))
BUILT = build(5)


def record_data(content: bytes, name: str) -> int:
    """Return where a record's data begins, by an independent reader."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        info = archive.getinfo(name)
    name_bytes, extra_bytes = struct.unpack_from("<HH", content, info.header_offset + 26)
    return info.header_offset + 30 + name_bytes + extra_bytes


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_kind_of_file_is_judged_exactly(sample):
    verdict = judge(FORMAT, sample.content + bytes(700))
    assert verdict.grade == sample.grade
    assert verdict.size_bytes == len(sample.content)
    assert truth(verdict) == sorted(sample.tensors)


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_kind_of_file_is_found_and_explains_its_own_headers(sample):
    image = b"\x11" * 4096 + sample.content + bytes(512)
    starts = starts_in(FORMAT, image)
    assert 4096 in starts
    explained = {offset + 4096 for offset in judge(FORMAT, image[4096:]).explained}
    assert starts <= explained


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_byte_range_holds_the_tensor(sample):
    if sample.grade != "INTACT" or "deflated" in sample.name:
        pytest.skip("contents are not stored plainly")
    with zipfile.ZipFile(io.BytesIO(sample.content)) as archive:
        stored = b"\0".join(archive.read(name) for name in archive.namelist())
    for tensor in judge(FORMAT, sample.content).tensors:
        for extent in tensor.layout:
            assert sample.content[extent.offset_bytes : extent.end_bytes] in stored


def test_intact_speaks_of_a_checksum():
    assert judge(FORMAT, BUILT.content).data_evidence is DataEvidence.CHECKSUM


def test_a_view_covers_its_own_bytes_only():
    sample = build_views(3)
    verdict = judge(FORMAT, sample.content)
    start = record_data(sample.content, "archive/data/0")
    ranges = {tensor.name: (tensor.offset_bytes - start, tensor.size_bytes) for tensor in verdict.tensors}
    assert ranges["state_dict.late"] == (720, 80)
    assert ranges["state_dict.scalar"] == (12, 4)
    assert ranges["state_dict.turned"] == (0, 80)
    assert ranges["state_dict.tied"] == ranges["state_dict.a"] == (0, 400)


def test_a_changed_weight_damages_its_tensor_and_no_other():
    at = record_data(BUILT.content, "model/data/2")
    verdict = judge(FORMAT, patched(BUILT.content, at, bytes([BUILT.content[at] ^ 1])))
    assert verdict.grade is Grade.DAMAGED
    mismatch = next(finding for finding in verdict.findings if finding.code == "crc-mismatch")
    assert "model/data/2" in mismatch.detail
    assert mismatch.offset_bytes is not None and mismatch.offset_bytes < at
    assert {tensor.name for tensor in verdict.tensors if tensor.grade == "DAMAGED"} == {"layers.2.weight"}


@pytest.mark.parametrize("sample", SAMPLES[:6], ids=ids(SAMPLES[:6]))
def test_no_flipped_data_byte_stays_intact(sample):
    rng = random.Random(1)
    with zipfile.ZipFile(io.BytesIO(sample.content)) as archive:
        names = [(info.filename, info.compress_size) for info in archive.infolist() if info.compress_size]
    for name, packed_bytes in names:
        at = record_data(sample.content, name) + rng.randrange(packed_bytes)
        changed = patched(sample.content, at, bytes([sample.content[at] ^ (1 << rng.randrange(8))]))
        assert judge(FORMAT, changed).grade is Grade.DAMAGED, name


@pytest.mark.parametrize("cut_bytes", [10, 22, 60, 98, 400])
def test_a_lost_tail_is_truncated_not_rejected(cut_bytes):
    verdict = judge(FORMAT, BUILT.content[:-cut_bytes])
    assert verdict.grade is Grade.TRUNCATED
    assert all(tensor.grade == "INTACT" for tensor in verdict.tensors)
    assert len(verdict.tensors) == len(BUILT.tensors)


def test_a_file_cut_after_its_directory_still_tells_its_length():
    verdict = judge(FORMAT, BUILT.content[:-98])
    assert verdict.size_bytes == len(BUILT.content)
    assert "directory-cut" in codes(verdict)


@pytest.mark.parametrize("left", [bytes(60), b"\xa5" * 60], ids=["zeros", "noise"])
def test_half_an_end_record_does_not_tell_where_its_file_begins(left):
    content = build(5).content
    verdict = judge(FORMAT, content[:-60] + left)
    assert codes(verdict) == {"directory-cut"}
    assert (verdict.grade, verdict.size_bytes) == (Grade.TRUNCATED, len(content))


@pytest.mark.parametrize("cut_bytes", [10, 99, 140, 300, 700])
def test_a_file_cut_inside_its_directory_tells_the_length_that_it_had(cut_bytes):
    verdict = judge(FORMAT, BUILT.content[:-cut_bytes])
    assert verdict.grade is Grade.TRUNCATED
    assert verdict.size_bytes == len(BUILT.content)


def test_a_file_cut_in_its_data_says_that_the_directory_is_gone():
    at = record_data(BUILT.content, "model/data/4")
    verdict = judge(FORMAT, BUILT.content[: at + 8])
    assert verdict.grade is Grade.TRUNCATED
    assert {"no-directory", "record-cut", "record-missing"} <= codes(verdict)
    grades = {tensor.name: tensor.grade for tensor in verdict.tensors}
    assert grades["layers.3.weight"] == "INTACT"
    assert grades["layers.4.weight"] == grades["layers.5.weight"] == "DAMAGED"


def test_a_cut_file_does_not_swallow_the_next_one():
    at = record_data(BUILT.content, "model/data/4")
    other = build(6, root="other").content
    verdict = judge(FORMAT, BUILT.content[: at + 8] + bytes(504) + other)
    assert verdict.grade is Grade.TRUNCATED
    assert verdict.size_bytes <= len(BUILT.content)


def test_a_cut_file_takes_nothing_from_another_of_the_same_root():
    at = record_data(BUILT.content, "model/data/4")
    other = build(6).content
    for tail in (other, other[:-300], build_torchscript(3).content):
        verdict = judge(FORMAT, BUILT.content[: at + 8] + bytes(504) + tail)
        assert verdict.grade is Grade.TRUNCATED
        assert verdict.size_bytes == len(BUILT.content)
        grades = {tensor.name: tensor.grade for tensor in verdict.tensors}
        assert grades["layers.3.weight"] == "INTACT"
        assert grades["layers.5.weight"] == grades["layers.7.weight"] == "DAMAGED"


def test_a_cut_torchscript_file_ends_where_it_is_known():
    sample = build_torchscript(3)
    at = record_data(sample.content, "net/data/1")
    verdict = judge(FORMAT, sample.content[: at + 3] + bytes(1 << 16) + build(6, root="net").content)
    assert verdict.grade is Grade.TRUNCATED
    assert verdict.size_bytes <= at + 3


@pytest.mark.parametrize("era", ["1.4", "1.6", "2.1", "new"])
def test_a_cut_file_of_every_era_tells_the_length_that_it_had(era):
    sample = build(12, era=era, dtypes=("float32",) * 12)
    for key in (1, 4, 9):
        at = record_data(sample.content, f"model/data/{key}")
        verdict = judge(FORMAT, sample.content[: at + 1])
        assert verdict.grade is Grade.TRUNCATED
        assert verdict.size_bytes == len(sample.content)


def test_a_lost_head_is_found_from_the_tail():
    image = bytes(4096) + bytes(800) + BUILT.content[800:]
    assert 4096 in starts_in(FORMAT, image)
    verdict = judge(FORMAT, image[4096:])
    assert verdict.grade is Grade.DAMAGED
    assert verdict.size_bytes == len(BUILT.content)
    assert "record-header-lost" in codes(verdict)


def test_a_file_without_head_and_tail_is_found_from_its_middle():
    with zipfile.ZipFile(io.BytesIO(BUILT.content)) as archive:
        second = archive.infolist()[5].header_offset
    image = b"\x22" * 512 + BUILT.content[second:-300]
    starts = starts_in(FORMAT, image)
    assert starts == {512}
    verdict = judge(FORMAT, image[512:])
    assert verdict.grade is Grade.TRUNCATED
    assert verdict.facts["unreferenced_records"]


def test_what_is_left_of_a_middle_begins_with_the_first_record_that_is_whole():
    content = build(5, dtypes=["float32"] * 6).content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = [entry.header_offset for entry in archive.infolist()]
    lost = records[5] - 20  # inside a storage, whose descriptor is still there
    left = bytes(lost) + content[lost : content.index(b"PK\x01\x02")]
    assert starts_in(FORMAT, left) == {records[5]}
    verdict = judge(FORMAT, left[records[5] :])
    assert verdict.grade is Grade.TRUNCATED
    assert "names-lost" in codes(verdict)
    assert starts_in(FORMAT, content) == {0}


def test_a_deflated_file_without_its_head_is_found_from_its_tail():
    content = rezipped(build(5), 3).content
    second = content.index(b"PK\x03\x04", 4)
    left = bytes(second) + content[second:]
    assert 0 in starts_in(FORMAT, left)
    verdict = judge(FORMAT, left)
    assert verdict.grade is Grade.DAMAGED
    assert verdict.size_bytes == len(content)
    assert "record-header-lost" in codes(verdict)


def test_the_directory_of_a_copy_is_no_displaced_one():
    whole = build(6).content
    at = whole.index(b"PK\x01\x02")
    verdict = judge(FORMAT, whole[: at - 300] + bytes(1000) + whole)
    assert verdict.grade is Grade.TRUNCATED
    assert "directory-displaced" not in codes(verdict)


def test_a_file_whose_head_lies_before_the_image_tells_how_much_is_missing():
    with zipfile.ZipFile(io.BytesIO(BUILT.content)) as archive:
        second = archive.infolist()[5].header_offset
    verdict = judge(FORMAT, BUILT.content[second:])
    assert verdict.grade is Grade.DAMAGED
    assert verdict.facts["missing_head_bytes"] == second
    assert "missing-head" in codes(verdict)


def test_a_zeroed_middle_keeps_the_records_around_it():
    first = record_data(BUILT.content, "model/data/1")
    last = record_data(BUILT.content, "model/data/3")
    verdict = judge(FORMAT, patched(BUILT.content, first, bytes(last - first)))
    assert verdict.grade is Grade.DAMAGED
    assert verdict.size_bytes == len(BUILT.content)
    good = {tensor.name for tensor in verdict.tensors if tensor.grade == "INTACT"}
    assert {"layers.0.weight", "layers.4.weight", "layers.7.weight"} <= good
    assert not good & {"layers.1.weight", "layers.2.weight"}


def test_a_gap_between_the_pieces_is_told():
    at = record_data(BUILT.content, "model/data/4") & ~511
    verdict = judge(FORMAT, BUILT.content[:at] + bytes(4096) + BUILT.content[at:])
    assert verdict.grade is Grade.TRUNCATED
    assert codes(verdict) == {"directory-displaced", "record-cut"}
    assert 4096 in verdict.explained, "where the file would begin by its end, no second one is carved"
    assert {one.name for one in verdict.tensors if one.grade == "INTACT"} >= {"layers.0.weight", "layers.7.weight"}


def test_the_end_of_a_file_whose_front_is_another_ones_tells_shortly_what_it_has():
    at = record_data(BUILT.content, "model/data/1")
    verdict = judge(FORMAT, random.Random(3).randbytes(at) + BUILT.content[at:])
    assert verdict.facts["root"] == "model"
    assert codes(verdict) == {"record-header-lost", "names-lost"}
    assert len(verdict.findings) == 2
    told = next(one for one in verdict.findings if one.code == "record-header-lost")
    assert told.offset_bytes == 0
    assert "members are gone, model/data.pkl to model/data/1" in told.detail
    assert "model/data/4" in verdict.facts["unreferenced_records"]


@pytest.mark.parametrize("lost_name", ["data.pkl", "data/1"])
def test_a_record_that_lost_its_header_alone_is_proven_by_what_the_directory_tells(lost_name):
    content = BUILT.content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (at,) = (one.header_offset for one in archive.infolist() if one.filename.endswith(f"/{lost_name}"))
    verdict = judge(FORMAT, patched(content, at, bytes(30)))
    assert verdict.grade is Grade.DAMAGED
    assert {tensor.grade for tensor in verdict.tensors} == {"INTACT"}
    assert truth(verdict) == sorted(BUILT.tensors)
    (told,) = verdict.findings
    assert (told.code, told.offset_bytes) == ("record-header-lost", at)
    assert told.detail.endswith(f"{lost_name} is gone, its contents are whole")


def test_storages_that_are_not_there_are_told_together():
    verdict = judge(FORMAT, BUILT.content[: record_data(BUILT.content, "model/data/4")])
    (told,) = (one for one in verdict.findings if one.code == "record-missing")
    assert re.fullmatch("[0-9]+ storages are not in the file, model/data/[0-9]+ to model/data/[0-9]+", told.detail)


def test_files_back_to_back_end_each_at_their_own_tail():
    first, second = build(1, root="a"), build(2, root="b")
    image = first.content + second.content
    assert starts_in(FORMAT, image) == {0, len(first.content)}
    assert judge(FORMAT, image).size_bytes == len(first.content)
    assert judge(FORMAT, image[len(first.content) :]).grade is Grade.INTACT


def test_equal_files_back_to_back_are_two():
    image = BUILT.content * 2
    assert starts_in(FORMAT, image) == {0, len(BUILT.content)}
    assert judge(FORMAT, image).size_bytes == len(BUILT.content)


def test_inner_records_of_a_large_file_are_no_candidates():
    members = [Member(name="data.pkl", data=pickle_of([], {}))]
    members += [Member(name=f"data/{key}", data=b"abcd" * (1 + key % 40)) for key in range(3000)]
    members.append(Member(name="version", data=b"3\n"))
    content = write_archive("many", members)
    assert len(starts_in(FORMAT, bytes(512) + content)) <= 8  # the file, and a rare chance of alignment


def test_a_torch_zip_inside_a_record_is_not_explained_away():
    inner = build(8, root="archive").content
    members = [
        Member(name="data.pkl", data=pickle_of([], {})),
        Member(name="data/sample_inputs/model.pt", data=inner),
        Member(name="version", data=b"3\n"),
    ]
    content = write_archive("archive", members)
    verdict = judge(FORMAT, content)
    assert verdict.grade is Grade.INTACT
    assert verdict.size_bytes == len(content)
    inner_start = content.index(inner)
    assert inner_start not in verdict.explained
    assert inner_start in starts_in(FORMAT, content)


def test_a_wrong_directory_crc_damages_the_file_but_not_the_tensor():
    at = BUILT.content.index(b"PK\x01\x02", BUILT.content.index(b"PK\x01\x02") + 4) + 16
    verdict = judge(FORMAT, patched(BUILT.content, at, bytes([BUILT.content[at] ^ 0xFF])))
    assert verdict.grade is Grade.DAMAGED
    assert "directory-mismatch" in codes(verdict)
    assert all(tensor.grade == "INTACT" for tensor in verdict.tensors)


def test_a_broken_directory_entry_leaves_the_others():
    at = BUILT.content.rindex(b"PK\x01\x02model/", 0, -500) if b"PK\x01\x02model/" in BUILT.content else None
    at = at or BUILT.content.index(b"PK\x01\x02", BUILT.content.index(b"PK\x01\x02") + 4)
    verdict = judge(FORMAT, patched(BUILT.content, at, b"XX"))
    assert verdict.grade is Grade.DAMAGED
    assert "directory-damaged" in codes(verdict)
    assert all(tensor.grade == "INTACT" for tensor in verdict.tensors)


@pytest.mark.parametrize("signature", [b"PK\x06\x06", b"PK\x06\x07", b"PK\x05\x06"])
def test_one_damaged_end_record_does_not_lose_the_length(signature):
    verdict = judge(FORMAT, patched(BUILT.content, BUILT.content.index(signature), b"XX"))
    assert verdict.grade is Grade.DAMAGED
    assert verdict.size_bytes == len(BUILT.content)


def test_an_entry_taken_from_the_directory_is_noticed():
    whole = zipfile.ZipFile(io.BytesIO(BUILT.content))
    listed = whole.infolist()
    start = BUILT.content.index(b"PK\x01\x02")
    second = BUILT.content.index(b"PK\x01\x02", start + 4)
    third = BUILT.content.index(b"PK\x01\x02", second + 4)
    size_bytes = BUILT.content.index(b"PK\x06\x06") - start - (third - second)
    count = len(listed) - 1
    tail = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 0x031E, 45, 0, 0, count, count, size_bytes, start)
    tail += struct.pack("<4sIQI", b"PK\x06\x07", 0, start + size_bytes, 1)
    tail += struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, size_bytes, start, 0)
    made = BUILT.content[:second] + BUILT.content[third : BUILT.content.index(b"PK\x06\x06")] + tail
    verdict = judge(FORMAT, made)
    assert "unlisted-record" in codes(verdict)
    assert verdict.grade is Grade.DAMAGED


def test_two_records_of_one_name_are_told_and_no_damage():
    members = [
        Member(name="data.pkl", data=pickle_of([], {})),
        Member(name="data/0", data=b"one."),
        Member(name="data/0", data=b"two."),
    ]
    content = write_archive("twice", members)
    verdict = judge(FORMAT, content)
    (told,) = (finding for finding in verdict.findings if finding.code == "duplicate-name")
    assert content[told.offset_bytes :].startswith(b"PK\x03\x04")
    assert content.index(b"one.") < told.offset_bytes < content.index(b"two.")
    assert verdict.grade is Grade.INTACT


def test_overlapping_records_are_told_and_not_read_twice():
    content = bytearray(BUILT.content)
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 4)
    struct.pack_into("<I", content, second + 42, 8)
    verdict = judge(FORMAT, bytes(content))
    assert "overlapping-records" in codes(verdict)
    assert verdict.grade is Grade.DAMAGED


def test_a_file_without_crc_is_consistent_at_best():
    verdict = judge(FORMAT, build_without_crc(4).content)
    assert verdict.grade is Grade.CONSISTENT
    assert "crc-absent" in codes(verdict)
    assert {tensor.grade for tensor in verdict.tensors} == {"CONSISTENT"}


def test_unread_bytes_without_crc_damage_their_tensor():
    sample = build_without_crc(4)
    at = record_data(sample.content, "quick/data/1")
    verdict = judge(FORMAT, sample.content, unread=ExtentSet([span(at, at + 4)]))
    assert verdict.grade is Grade.DAMAGED
    assert "unread" in codes(verdict)
    assert sorted(tensor.grade for tensor in verdict.tensors) == ["CONSISTENT", "DAMAGED"]


def test_unread_bytes_that_the_crc_proves_are_no_damage():
    at = record_data(BUILT.content, "model/data/1")
    verdict = judge(FORMAT, BUILT.content, unread=ExtentSet([span(at, at + 4)]))
    assert verdict.grade is Grade.INTACT


def test_records_of_another_file_do_not_pass_the_serialization_id():
    mixed = bytearray(BUILT.content)
    with zipfile.ZipFile(io.BytesIO(BUILT.content)) as archive:
        text = archive.read("model/.data/serialization_id")
        info = archive.getinfo("model/.data/serialization_id")
    forged = text[:20] + b"1" * 20
    at = record_data(BUILT.content, "model/.data/serialization_id")
    mixed[at : at + 40] = forged
    struct.pack_into("<I", mixed, at + 40 + 4, zlib.crc32(forged))
    central = BUILT.content.rindex(b"PK\x01\x02")
    assert struct.unpack_from("<I", mixed, central + 42)[0] == info.header_offset
    struct.pack_into("<I", mixed, central + 16, zlib.crc32(forged))
    verdict = judge(FORMAT, bytes(mixed))
    assert codes(verdict) == {"serialization-id-mismatch"}
    assert verdict.grade is Grade.DAMAGED


def test_combined_crc_of_nothing_is_zero_and_of_one_is_shifted_golden_ratio():
    assert combined_crc([]) == 0
    assert combined_crc([5]) == 5 + 0x9E3779B9


@pytest.mark.parametrize("storage_bytes", [12, 20])
def test_a_storage_of_another_length_than_the_pickle_wants_is_told_and_proves_nothing(storage_bytes):
    weights = [Weight(name="w", dtype="float32", shape=(4,), storage=0)]
    members = [
        Member(name="data.pkl", data=pickle_of(weights, {0: 4})),
        Member(name="data/0", data=bytes(storage_bytes)),
        Member(name="version", data=b"3\n"),
    ]
    verdict = judge(FORMAT, write_archive("short", members))
    assert "storage-size-mismatch" in codes(verdict)
    assert verdict.tensors[0].grade == "DAMAGED"


def test_a_storage_that_is_not_there_is_told():
    weights = [Weight(name="w", dtype="float32", shape=(4,), storage=0)]
    members = [Member(name="data.pkl", data=pickle_of(weights, {0: 4})), Member(name="version", data=b"3\n")]
    verdict = judge(FORMAT, write_archive("bare", members))
    assert "record-missing" in codes(verdict)
    assert verdict.grade is Grade.DAMAGED


def test_storages_without_a_tensor_are_facts():
    members = [Member(name="data.pkl", data=pickle_of([], {})), Member(name="data/7", data=b"1234")]
    verdict = judge(FORMAT, write_archive("loose", members))
    assert verdict.facts["unreferenced_records"] == ["loose/data/7"]


def test_a_global_outside_the_list_is_told_but_lowers_no_grade():
    evil = b"cos\nsystem\n(" + b"X\x04\x00\x00\x00true" + b"tR"
    members = [Member(name="data.pkl", data=pickle_of([], {}, extra=evil)), Member(name="data/0", data=b"1234")]
    verdict = judge(FORMAT, write_archive("evil", members))
    assert verdict.grade is Grade.INTACT
    assert verdict.facts["unsafe_globals"] == ["os.system"]
    assert "os.system" in next(f.detail for f in verdict.findings if f.code == "unsafe-global")


def test_a_pickle_that_breaks_off_caps_the_grade():
    weights = [Weight(name="w", dtype="float32", shape=(1,), storage=0)]
    members = [Member(name="data.pkl", data=pickle_of(weights, {0: 1})[:-2]), Member(name="data/0", data=b"1234")]
    verdict = judge(FORMAT, write_archive("half", members))
    assert "pickle-cut" in codes(verdict)
    assert verdict.grade is Grade.CONSISTENT


def test_a_tensor_is_proven_no_further_than_the_pickle_that_tells_its_name_and_place():
    names = [one.name for one in judge(FORMAT, BUILT.content).tensors]
    at = BUILT.content.index(names[0].encode(), record_data(BUILT.content, "model/data.pkl"))
    verdict = judge(FORMAT, patched(BUILT.content, at, b"X"))
    assert verdict.grade is Grade.DAMAGED
    assert [one.name for one in verdict.tensors] == [f"X{names[0][1:]}", *names[1:]]
    assert {one.grade for one in verdict.tensors} == {"CONSISTENT"}


def test_a_damaged_deflated_pickle_is_told():
    sample = rezipped(BUILT, 1)
    at = record_data(sample.content, "model/data.pkl")
    verdict = judge(FORMAT, patched(sample.content, at + 2, b"\xff\xff\xff\xff"))
    assert "pickle-unread" in codes(verdict)
    assert verdict.grade is Grade.DAMAGED


def test_bytes_that_are_no_zip_are_rejected():
    assert codes(judge(FORMAT, b"PK\x03\x04" + bytes(60))) == {"no-records"}


def test_a_zip_without_pickle_and_storages_is_rejected():
    verdict = judge(FORMAT, write_archive("java", [Member(name="Main.class", data=b"\xca\xfe\xba\xbe")]))
    assert verdict.grade is Grade.REJECTED
    assert codes(verdict) == {"not-pytorch"}


@pytest.mark.parametrize(
    ("names", "kind", "suffix"),
    [
        (["constants.pkl", "code/__torch__.py"], "torchscript", ".pt"),
        (["constants.pkl", "bytecode.pkl"], "mobile", ".ptl"),
        (["archive_format", "models/model.json"], "pt2", ".pt2"),
        ([".data/extern_modules"], "torch.package", ".pt"),
        ([], "torch.save", ".pth"),
    ],
)
def test_the_records_tell_the_kind(names, kind, suffix):
    members = [Member(name="data.pkl", data=pickle_of([], {}))] + [Member(name=name, data=b"pt2") for name in names]
    facts = judge(FORMAT, write_archive("kind", members)).facts
    assert (facts["kind"], facts["suffix"]) == (kind, suffix)


def test_a_training_checkpoint_is_known_by_its_keys():
    assert judge(FORMAT, build_views(1).content).facts["suffix"] == ".ckpt"


def test_the_name_is_the_root_unless_it_is_archive():
    assert judge(FORMAT, build(1, root="resnet50").content).facts["name"] == "resnet50"
    assert "name" not in judge(FORMAT, build(1, root="archive").content).facts


@pytest.mark.parametrize(("era", "clue"), [("1.4", "<=1.5"), ("1.6", ">=1.4"), ("2.1", ">=2.1"), ("new", ">=2.7")])
def test_the_records_tell_the_era(era, clue):
    assert judge(FORMAT, build(1, era=era).content).facts["torch_version"] == clue


def test_an_empty_first_record_starts_a_torchscript_file():
    sample = build_torchscript(2)
    assert starts_in(FORMAT, bytes(512) + sample.content) == {512}


def test_running_out_of_budget_is_raised_to_the_judge():
    with pytest.raises(BudgetExceeded):
        FORMAT.validate(window_on(BUILT.content, budget=Budget(steps_left=5)))


def test_hostile_bytes_never_raise_and_never_pass_as_intact_data():
    rng = random.Random(77)
    pool = [sample for sample in SAMPLES if len(sample.content) < 40_000]
    for _ in range(400):
        sample = rng.choice(pool)
        content = bytearray(sample.content)
        for _ in range(rng.randrange(1, 20)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        start, length = rng.randrange(len(content)), rng.randrange(1, 900)
        content[start : start + length] = content[: length // 2]
        verdict = judge(FORMAT, bytes(content))
        assert verdict.grade is not Grade.INTACT


def test_a_declared_size_beyond_reason_costs_little():
    content = bytearray(rezipped(BUILT, 3).content)
    at = content.index(b"PK\x01\x02")
    struct.pack_into("<II", content, at + 20, 0xFFFFFFF0, 0xFFFFFFF0)
    assert judge(FORMAT, bytes(content)).grade is Grade.DAMAGED


@pytest.mark.parametrize(
    "table",
    [
        b"",
        b"[" * 200_000,
        b"[]",
        b'{"config": 3}',
        b'{"config": {"w": {"path_name": "weight_0", "tensor_meta": {"dtype": [7]}}}}',
        b'{"config": {"w": {"path_name": ["weight_0"], "tensor_meta": {"dtype": 7}}}}',
        b'{"config": {"w": {"path_name": "weight_0", "tensor_meta": {"dtype": 7, "sizes": [{"as_int": -1}]}}}}',
        b'{"config": {"w": {"path_name": "weight_0", "use_pickle": true, "tensor_meta": {}}}}',
    ],
)
def test_a_bad_table_of_an_exported_file_names_nothing(table):
    members = [
        Member(name="data/weights/weight_0", data=b"1234"),
        Member(name="data/weights/model_weights_config.json", data=table),
        Member(name="archive_format", data=b"pt2"),
    ]
    verdict = judge(FORMAT, write_archive("bad", members))
    assert verdict.tensors == ()
    assert verdict.facts["unreferenced_records"] == ["bad/data/weights/weight_0"]


def test_tensor_bytes_equal_what_torch_loads():
    torch = pytest.importorskip("torch")
    held = io.BytesIO()
    state = {"a": torch.arange(12, dtype=torch.float32).reshape(3, 4), "b": {"c": torch.ones(5, dtype=torch.int64)}}
    torch.save(state, held)
    content = held.getvalue()
    by_name = {tensor.name: tensor for tensor in judge(FORMAT, content).tensors}
    extent = by_name["a"].layout[0]
    stored = np.frombuffer(content[extent.offset_bytes : extent.end_bytes], dtype="<f4").reshape(by_name["a"].shape)
    assert np.array_equal(stored, state["a"].numpy())
    assert by_name["b.c"].dtype == "int64"


def test_the_epoch_of_a_checkpoint_is_a_fact():
    written = [sample for sample in SAMPLES if sample.name == "torch-ckpt"]
    assert all(judge(FORMAT, sample.content).facts["counters"] == {"epoch": 3} for sample in written)
    assert "counters" not in judge(FORMAT, BUILT.content).facts
