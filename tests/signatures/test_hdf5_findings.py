"""Every finding and every reason for rejection of HDF5, each brought about by a small operation on a good file."""

import functools
import io
import struct

import numpy as np
import pytest

from imaging.extent import Extent
from imaging.source import RawImage
from imaging.window import Window
from signatures import hdf5
from signatures._hdf5 import datatype, walk
from signatures._hdf5 import space as hdf5_space
from signatures.kernels.checksums import lookup3
from signatures.verdict import Grade
from tests.signatures.test_hdf5 import SAMPLES, codes, judge

V0 = SAMPLES["v0"].content
ROOT = struct.unpack_from("<Q", V0, 64)[0]


def sample(name):
    if name not in SAMPLES:
        pytest.skip("h5py is not installed")
    return SAMPLES[name].content


def patch(content, at, new):
    assert content[at : at + len(new)] != new
    return content[:at] + new + content[at + len(new) :]


def patch_after(content, needle, skip, new, *, nth=0):
    at = -1
    for _ in range(nth + 1):
        at = content.index(needle, at + 1)
    return patch(content, at + skip, new)


def tensor(name, content=V0):
    return next(t for t in judge(content).tensors if t.name == name)


BIG = tensor("big_endian")
LAYOUT = V0.index(b"\x03\x01" + struct.pack("<QQ", BIG.offset_bytes, BIG.size_bytes))
HEADER = V0.rindex(struct.pack("<BxHI", 1, 4, 1), 0, LAYOUT)  # prefix 16, message head 8, dataspace


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("signature", bytes(4096)),
        ("superblock-cut", V0[:20]),
        ("superblock-cut", V0[:40]),
        ("superblock-version", patch(V0, 8, b"\x07")),
        ("superblock-version", patch(V0, 9, b"\x01")),
        ("superblock-sizes", patch(V0, 13, b"\x03")),
        ("superblock-reserved", patch(V0, 11, b"\x01")),
        ("superblock-address", patch(V0, 40, bytes(8))),
        ("superblock-base", bytes(512) + V0),
        ("root-group", patch(V0, ROOT, bytes(16))),
    ],
)
def test_what_is_no_hdf5_file_is_rejected_with_its_reason(code, content):
    verdict = judge(content)
    assert (verdict.grade, codes(verdict)) == (Grade.REJECTED, {code})


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("signature-missing", patch_after(V0, b"SNOD", 0, b"XXXX")),
        ("tree", patch_after(V0, b"TREE", 5, b"\x60")),
        ("tree", patch_after(V0, b"TREE", 9, b"\x01")),
        ("tree", patch_after(V0, b"TREE", 17, b"\x01")),
        ("heap", patch_after(V0, b"HEAP", 24, b"\xff" * 8)),
        ("structure-size", patch_after(V0, b"HEAP", 8, struct.pack("<Q", 1 << 40))),
        ("link", patch_after(V0, b"SNOD", 8, struct.pack("<Q", 1 << 30))),
        ("address-beyond-end", patch_after(V0, b"SNOD", 16, struct.pack("<Q", 1 << 40))),
        ("object-header", patch(V0, HEADER, b"\x07")),
        ("object-header", patch(V0, HEADER + 16, b"\xff\xff")),
        ("dataspace", patch(V0, HEADER + 24, b"\x09")),
        ("data-size", patch(V0, HEADER + 32, b"\x0c")),
        ("datatype", patch_after(V0, b"\x11\x21\x3f", 0, b"\x1e")),
        ("dataset-message-missing", patch_after(V0, b"\x11\x21\x3f", -8, b"\x00")),
        ("layout", patch(V0, LAYOUT, b"\x09")),
        ("data-beyond-end", patch(V0, LAYOUT + 2, struct.pack("<Q", len(V0) - 8))),
        ("data-overlap", patch(V0, LAYOUT + 2, struct.pack("<Q", tensor("dense/kernel:0").offset_bytes))),
        ("superblock-field", patch(V0, 20, b"\x40")),
        ("superblock-field", patch(V0, 32, bytes(8))),
        ("superblock-field", patch(V0, 72, b"\x02")),
        ("link", patch(V0, 80, struct.pack("<Q", 96))),
        ("link-order", patch_after(V0, b"big_endian", 0, b"z")),
        ("heap", patch_after(V0, b"HEAP", 16, b"\x08")),
        ("fill-value", patch_after(V0, b"\x02\x02\x02\0", 0, b"\x09")),
        ("datatype", patch_after(V0, b"\x11\x21\x3f", 12, b"\xff")),
        ("object-header", patch(V0, LAYOUT - 8, b"\x00")),
        ("object-header", patch(V0, HEADER + 2, b"\x05")),
        ("object-header", patch(V0, HEADER + 20, b"\x06")),
        ("attribute", patch_after(V0, b"layer_names", 3, b"\0")),
        ("attribute", patch_after(V0, b"layer_names", -8, b"\x09")),
        ("structure-short", patch_after(V0, b"layer_names", -6, b"\xff\x7f")),
    ],
)
def test_damage_inside_an_old_file_is_told_and_the_file_is_kept(code, content):
    verdict = judge(content)
    assert verdict.grade is Grade.DAMAGED
    assert code in codes(verdict)
    assert verdict.size_bytes == len(V0)


@pytest.mark.parametrize(
    ("code", "name", "needle", "skip", "new"),
    [
        ("metadata-checksum", "sb3-many", b"FHDB", 60, b"\x7f\x7f"),
        ("metadata-checksum", "sb3-many", b"BTLF", 9, b"\x7f\x7f"),
        ("metadata-checksum", "sb3-many", b"OHDR", 9, b"\x7f\x7f"),
        ("metadata-checksum", "sb3-fixed-array-plain", b"FADB", 20, b"\x7f"),
        ("chunk-index", "sb3-fixed-array-plain", b"FAHD", 5, b"\x01"),
        ("chunk-index", "sb3-extensible-array-plain", b"EAHD", 9, b"\x03"),
        ("tree", "sb3-btree-2-plain", b"BTHD", 5, b"\x05"),
        ("heap", "sb3-many", b"FRHP", 110, b"\x03"),
        ("superblock-checksum", "sb3-many", b"\x89HDF", 44, b"\x12\x34"),
        ("chunk-place", "sb0-extensible-array-plain", b"TREE\x01", 32, b"\x01"),
        ("chunk-size", "sb0-extensible-array-plain", b"TREE\x01", 24, b"\x01"),
        ("chunk-checksum", "sb3-single-checked", b"\x78\x5e", 30, b"\x00\x01\x02"),
        ("filters", "sb0-single-checked", b"deflate", -16, b"\x09"),
        ("external-list", "sb0-elsewhere", b"\x07\0\x28\0\x01", 8, b"\x09"),
        ("shared-message", "sb0-named-type", b"\x03\0\x10\0\x03\0\0\0", 8, b"\x09"),
    ],
)
def test_damage_inside_a_file_of_h5py_is_told(code, name, needle, skip, new):
    content = sample(name)
    if code == "filters":
        needle, skip = b"\x01\x03\0\0\0\0\0\0", 0
    verdict = judge(patch_after(content, needle, skip, new))
    assert verdict.grade is Grade.DAMAGED
    assert code in codes(verdict)


def test_chunks_that_do_not_fit_the_datatype_are_damage():
    content = sample("sb0-extensible-array-plain")
    at = content.index(b"\x03\x02\x03")  # layout version 3, chunked, two dimensions and the element
    assert "chunk-shape" in codes(judge(patch(content, at + 19, b"\x08")))


@pytest.mark.parametrize(("rows_bit", "grade"), [(60, Grade.DAMAGED), (20, Grade.CONSISTENT)])
def test_a_dataset_that_may_grow_is_damaged_where_no_library_could_address_it(rows_bit, grade):
    content = sample("sb0-extensible-array-plain")
    (weights,) = judge(content).tensors
    rows = struct.pack("<QQ", *weights.shape)
    assert weights.shape[0] < 1 << rows_bit and content.count(rows) == 1
    verdict = judge(content.replace(rows, struct.pack("<QQ", weights.shape[0] | 1 << rows_bit, weights.shape[1])))
    assert verdict.grade is grade
    assert ("data-size" in codes(verdict)) == (grade is Grade.DAMAGED)


def test_a_changed_byte_of_a_checked_chunk_is_damage_wherever_it_lies():
    for name in ("sb0-single-checked", "sb3-single-fletcher32", "sb3-btree-2-checked"):
        content = sample(name)
        (weights,) = judge(content).tensors
        for extent in weights.layout:
            for at in range(extent.offset_bytes, extent.end_bytes, 131):
                changed = judge(patch(content, at, bytes([content[at] ^ 0x10])))
                assert changed.grade is Grade.DAMAGED, (name, at)
                assert changed.tensors[0].grade == "DAMAGED"


def test_a_chunk_wiped_together_with_its_checksum_is_not_intact():
    content = sample("sb3-single-fletcher32")
    (extent,) = judge(content).tensors[0].layout
    verdict = judge(patch(content, extent.offset_bytes, bytes(extent.size_bytes)))
    assert verdict.grade is Grade.CONSISTENT
    assert "zero-checksum" in codes(verdict)


def test_filters_without_a_checksum_are_named_and_prove_nothing():
    verdict = judge(sample("sb3-lzf"))
    assert verdict.grade is Grade.CONSISTENT
    assert [f.detail for f in verdict.findings] == ["weights: data under lzf cannot be checked"]


def test_data_elsewhere_is_named():
    sample("sb3-elsewhere")
    assert {"external-data", "virtual-dataset"} <= codes(judge(sample("sb3-elsewhere")))
    assert "external-link" in codes(judge(sample("sb0-kinds")))


def test_a_cut_file_is_truncated_and_what_is_whole_in_it_stays_good():
    verdict = judge(V0[:-40])
    assert (verdict.grade, verdict.size_bytes) == (Grade.TRUNCATED, len(V0))
    assert codes(verdict) == {"end-missing"}
    assert {t.grade for t in verdict.tensors} == {"CONSISTENT"}
    assert "structure-cut" in codes(judge(V0[: BIG.offset_bytes + 4]))


def test_a_tensor_that_runs_past_the_cut_is_truncated_and_the_others_are_not():
    content = sample("sb0-keras-2")
    cut = max(judge(content).tensors, key=lambda t: t.offset_bytes)
    verdict = judge(content[: cut.offset_bytes + 1])
    assert verdict.grade is Grade.TRUNCATED
    assert {t.name for t in verdict.tensors if t.grade == "TRUNCATED"} == {cut.name}
    assert {t.grade for t in verdict.tensors if t.name != cut.name} == {"CONSISTENT"}
    assert len(verdict.tensors) == 4


def test_bytes_behind_the_end_are_told_and_do_not_lower_the_grade():
    verdict = judge(V0 + b"\n\n" + bytes(600))
    assert (verdict.grade, verdict.size_bytes) == (Grade.CONSISTENT, len(V0))
    assert codes(verdict) == {"bytes-after-end"}
    assert "a tail some writers add, slack, or another file" in verdict.findings[0].detail


@pytest.mark.parametrize(
    "follower",
    [
        V0,
        b"PK\x01\x02" + bytes(50),
        b"PK\x07\x08" + bytes(20),
        b"PK\x03\x04" + bytes(40),
        b"GGUF\x03",
        b"\x93NUMPY\x01",
        struct.pack("<Q", 60) + b'{"w":{',
        b"\x08\x08\x12\x04spox",
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46",
        bytes(511),
        b"",
    ],
)
def test_another_file_or_the_records_of_a_zip_right_behind_the_end_are_no_tail(follower):
    verdict = judge(V0 + follower)
    assert (verdict.size_bytes, codes(verdict)) == (len(V0), set())


@pytest.mark.parametrize("follower", [b"\x08", b"\x08\x08", b"\x08\x40\x12", b"PK", b"{" * 9])
def test_bytes_that_only_resemble_another_head_are_told(follower):
    assert codes(judge(V0 + follower)) == {"bytes-after-end"}


def reseal(content):
    return content[:44] + struct.pack("<I", lookup3(np.frombuffer(content[:44], dtype=np.uint8))) + content[48:]


def test_a_file_that_was_never_closed_says_so():
    content = sample("sb3-many")
    verdict = judge(reseal(patch(content, 11, b"\x01")))
    assert (verdict.grade, verdict.size_bytes) == (Grade.CONSISTENT, len(content))
    assert codes(verdict) == {"unclosed"}


def test_an_unclosed_file_reaches_as_far_as_its_objects():
    content = sample("sb3-many")
    small = reseal(patch(patch(content, 11, b"\x05"), 28, struct.pack("<Q", 2048)))
    verdict = judge(small + bytes(4096))
    assert verdict.grade is Grade.DAMAGED
    assert "unclosed" in codes(verdict)
    assert 2048 < verdict.size_bytes <= len(content)
    assert len(verdict.tensors) == 300


def test_an_old_file_whose_end_address_is_too_small_is_called_unclosed():
    verdict = judge(patch(V0, 40, struct.pack("<Q", len(V0) - 1)))
    assert verdict.grade is Grade.DAMAGED
    assert "unclosed" in codes(verdict)


@pytest.mark.parametrize(("driver", "code"), [("family", "family-file"), ("split", "split-file")])
def test_a_file_spread_over_several_is_named(tmp_path, driver, code):
    h5py = pytest.importorskip("h5py")
    name, first = ("part%d.h5", "part0.h5") if driver == "family" else ("whole", "whole-m.h5")
    settings = {"memb_size": 4096} if driver == "family" else {}
    with h5py.File(tmp_path / name, "w", driver=driver, **settings) as file:
        file["weights"] = np.arange(5000, dtype="f4")
    with RawImage(tmp_path / first) as source:
        verdict = hdf5.validate(Window(source, (Extent(offset_bytes=0, size_bytes=source.size_bytes),)))
    assert verdict.grade is Grade.TRUNCATED
    assert code in codes(verdict)


def test_inflating_stops_at_its_limit_and_says_so(monkeypatch):
    content = sample("sb0-extensible-array-checked")
    monkeypatch.setattr(hdf5, "Space", functools.partial(hdf5_space.Space, inflate_left_bytes=100))
    verdict = judge(content)
    assert verdict.grade is Grade.CONSISTENT
    assert "inflate-limit" in codes(verdict)


def test_the_walk_stops_at_its_limits_and_says_so(monkeypatch):
    monkeypatch.setattr(walk, "MAX_LINKS", 3)
    verdict = judge(SAMPLES["v0-many"].content)
    assert verdict.grade is Grade.DAMAGED
    assert codes(verdict) == {"too-many-objects"}


def test_not_more_findings_are_kept_than_anyone_reads():
    content = bytearray(sample("sb0-btree-2-deep-checked"))
    for extent in judge(content).tensors[0].layout:
        for at in range(extent.offset_bytes, extent.end_bytes, 7):
            content[at] ^= 0x55
    verdict = judge(content)
    assert verdict.findings[-1].code == "findings-left-out"
    assert len(verdict.findings) == hdf5_space.MAX_FINDINGS + 1


def test_a_datatype_nested_without_end_is_damage():
    space = hdf5_space.Space(window=None, base_bytes=0, end_bytes=0, address_bytes=8, length_bytes=8)
    nested = (b"\x19" + bytes(3) + struct.pack("<I", 16)) * 40
    with pytest.raises(hdf5_space.Damage) as caught:
        datatype.read_datatype(hdf5_space.Fields(space, nested, 0))
    assert caught.value.finding.code == "datatype-nesting"


def test_a_changed_byte_under_a_checksum_is_never_intact():
    content = sample("sb3-extensible-array-checked")
    whole = judge(content)
    assert whole.grade is Grade.INTACT
    chunks = [e for t in whole.tensors for e in t.layout]
    for at in range(8, len(content), 37):
        verdict = judge(patch(content, at, bytes([content[at] ^ 0x40])))
        in_chunk = any(e.offset_bytes <= at < e.end_bytes for e in chunks)
        if at < 48 or in_chunk:  # the superblock, or a chunk; the rest is metadata between unused room
            assert not verdict.grade.good, at


def test_what_cannot_be_reached_is_counted_since_it_is_in_no_list_of_tensors():
    whole = judge(V0)
    assert "lost_objects" not in whole.facts and "groups_with_lost_names" not in whole.facts
    lost_head = judge(patch(V0, HEADER, b"\x07"))
    assert len(lost_head.tensors) == len(whole.tensors) - 1
    assert lost_head.facts["lost_objects"] == 1 and "groups_with_lost_names" not in lost_head.facts
    lost_names = judge(patch_after(V0, b"SNOD", 0, b"XXXX"))
    assert lost_names.facts["groups_with_lost_names"] == 1
    assert len(lost_names.tensors) < len(whole.tensors)


def test_a_cut_old_group_whose_header_goes_on_behind_the_cut_is_read_by_what_its_parent_tells():
    h5py = pytest.importorskip("h5py")
    held = io.BytesIO()
    with h5py.File(held, "w", libver=("earliest", "v108")) as file:
        for name in ("a", "group/b"):
            file[name] = np.arange(200, dtype="f4")
        file["late"] = np.arange(900, dtype="f4")
        for owner in (file["group"], file):  # attributes that come last move what their header held behind the data
            owner.attrs["note"] = "x" * 4000
            owner.attrs["more"] = "x" * 4000
    whole = held.getvalue()
    cut = whole[: whole.index(np.arange(900, dtype="f4").tobytes()) + 100]
    verdict = judge(cut)
    assert verdict.grade is Grade.TRUNCATED
    assert {tensor.name: tensor.grade for tensor in verdict.tensors} == {
        "a": Grade.CONSISTENT,
        "group/b": Grade.CONSISTENT,
        "late": Grade.TRUNCATED,
    }
    gone = judge(patch(cut, struct.unpack_from("<Q", cut, 80)[0], b"tree"))
    assert (gone.grade, codes(gone)) == (Grade.REJECTED, {"root-group"})
