"""NumPy archives."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest

from fixtures.formats.npz import arrays, dated, samples
from signatures._npy import read_array_header
from signatures.npz import FORMAT
from signatures.verdict import Grade
from tests.signatures.test_zip import zipped
from tests.signatures.zip_window import codes, ids, judge, patched, starts_in, truth

SAMPLES = list(samples(4))


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_kind_of_archive_is_judged_exactly(sample):
    verdict = judge(FORMAT, sample.content + bytes(300))
    assert verdict.grade == sample.grade
    assert verdict.size_bytes == len(sample.content)
    assert truth(verdict) == sorted(sample.tensors)


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_inner_members_are_no_starts(sample):
    assert starts_in(FORMAT, bytes(512) + sample.content) == {512}


def test_an_old_archive_is_found_from_its_end_alone():
    content = dated(arrays(4), zipfile.ZIP_DEFLATED, when=(2012, 5, 6, 7, 8, 10))
    assert starts_in(FORMAT, bytes(700) + content) == {700}
    assert starts_in(FORMAT, bytes(700) + content[:-30]) == set()


def test_the_end_of_a_zip_with_other_members_is_no_start():
    array = io.BytesIO()
    np.save(array, np.arange(3))
    assert starts_in(FORMAT, zipped({"a.npy": array.getvalue(), "b.txt": b"x"})) == set()
    assert starts_in(FORMAT, zipped({"b.txt": b"x", "a.npy": array.getvalue()})) == set()


def test_of_two_members_with_one_name_the_last_is_the_array_as_numpy_has_it():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as made, warnings.catch_warnings(action="ignore"):
        for values in (np.zeros(3), np.ones((2, 2), dtype=np.float32)):
            with made.open("a.npy", "w") as member:
                np.save(member, values)
    verdict = judge(FORMAT, held.getvalue())
    assert (verdict.grade, codes(verdict)) == (Grade.INTACT, {"duplicate-name"})
    assert np.load(io.BytesIO(held.getvalue()))["a"].shape == (2, 2)
    assert truth(verdict) == [("a", "float32", (2, 2))]


def test_a_member_that_inflates_without_end_is_never_followed():
    bomb = dated({"a": np.zeros(1 << 20)}, zipfile.ZIP_DEFLATED, when=(2012, 5, 6, 7, 8, 10))
    told = bomb.replace(struct.pack("<I", (1 << 23) + 128), struct.pack("<I", 4096))
    assert told != bomb
    verdict = judge(FORMAT, told)
    assert verdict.grade is Grade.DAMAGED
    assert "record-cut" in codes(verdict)


def test_the_byte_range_holds_the_array():
    content = SAMPLES[0].content
    tensor = next(t for t in judge(FORMAT, content).tensors if t.name == "weight")
    extent = tensor.layout[0]
    assert content[extent.offset_bytes : extent.end_bytes] == arrays(4)["weight"].tobytes()


def test_a_changed_array_is_the_damaged_one():
    content = SAMPLES[0].content
    tensor = next(t for t in judge(FORMAT, content).tensors if t.name == "bias")
    verdict = judge(FORMAT, patched(content, tensor.layout[0].offset_bytes, b"\xaa\xbb"))
    assert verdict.grade is Grade.DAMAGED
    assert "crc-mismatch" in codes(verdict)
    assert [t.name for t in verdict.tensors if t.grade == "DAMAGED"] == ["bias"]


def test_a_cut_archive_keeps_its_first_arrays():
    verdict = judge(FORMAT, SAMPLES[0].content[:-600])
    assert verdict.grade is Grade.TRUNCATED
    assert verdict.tensors[0].grade == "INTACT"


def test_an_inner_member_alone_starts_earlier():
    content = SAMPLES[0].content
    second = content.index(b"PK\x03\x04", 4)
    assert codes(judge(FORMAT, content[second:])) == {"starts-earlier"}


def test_a_member_that_is_no_array_is_no_npz():
    assert codes(judge(FORMAT, zipped({"a.txt": b"x"}))) == {"not-npz"}
    array = io.BytesIO()
    np.save(array, np.arange(3))
    assert codes(judge(FORMAT, zipped({"a.npy": array.getvalue(), "b.txt": b"x"}))) == {"not-npz"}


def test_a_header_that_wants_other_bytes_is_told():
    array = io.BytesIO()
    np.save(array, np.arange(3, dtype="<i4"))
    verdict = judge(FORMAT, zipped({"a.npy": array.getvalue()[:-4]}))
    assert "array-size-mismatch" in codes(verdict)
    assert verdict.grade is Grade.DAMAGED


def test_a_member_without_array_header_is_told():
    verdict = judge(FORMAT, zipped({"a.npy": b"plain text"}))
    assert "array-header" in codes(verdict)


def test_an_object_array_is_told_and_not_loaded():
    array = io.BytesIO()
    np.save(array, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    verdict = judge(FORMAT, zipped({"a.npy": array.getvalue()}))
    assert "object-array" in codes(verdict)
    assert verdict.tensors[0].dtype == "object"


def test_array_headers_of_every_version_are_read():
    for version in ((1, 0), (2, 0), (3, 0)):
        held = io.BytesIO()
        np.lib.format.write_array(held, np.zeros((2, 3), dtype="<f8"), version=version)
        header = read_array_header(held.getvalue())
        assert header is not None
        assert (header.dtype, header.shape, header.size_bytes) == ("float64", (2, 3), len(held.getvalue()))


def test_a_header_is_never_evaluated():
    text = b"{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (1,), }\n"
    assert read_array_header(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text) is None


def test_an_absurd_shape_is_no_header():
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999, 9), }\n"
    assert read_array_header(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text) is None


def test_a_record_dtype_is_named_as_such():
    held = io.BytesIO()
    np.save(held, np.zeros(3, dtype=[("a", "<f4"), ("b", "<i8")]))
    header = read_array_header(held.getvalue())
    assert header is not None
    assert (header.dtype, header.item_bytes) == ("record", 12)


def test_hostile_bytes_never_raise():
    rng = random.Random(3)
    for _ in range(300):
        content = bytearray(rng.choice(SAMPLES).content)
        for _ in range(rng.randrange(1, 12)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        if zlib.crc32(bytes(content)) not in {zlib.crc32(sample.content) for sample in SAMPLES}:
            judge(FORMAT, bytes(content))


def gap(content: bytes, low: int, high: int) -> bytes:
    return patched(content, low, bytes(high - low)) + bytes(600)


def grades(verdict) -> dict[str, str]:
    return {tensor.name: tensor.grade for tensor in verdict.tensors}


def heads(content: bytes) -> list[int]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [entry.header_offset for entry in archive.infolist()]


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_behind_a_lost_beginning_the_directory_names_the_arrays_and_proves_them(sample):
    content, names = sample.content, [name for name, _, _ in sample.tensors]
    lost = gap(content, 0, heads(content)[1] + 20)  # the second array loses just its header
    assert 512 in starts_in(FORMAT, bytes(512) + lost)
    verdict = judge(FORMAT, lost)
    assert (verdict.grade, verdict.size_bytes) == (Grade.DAMAGED, len(content))
    assert codes(verdict) == {"record-header-lost"}
    assert grades(verdict) == {name: "DAMAGED" if name == names[0] else "INTACT" for name in names}
    assert [one for one in truth(verdict) if one[0] != names[0]] == sorted(sample.tensors[1:])


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_a_hole_in_the_middle_costs_the_arrays_in_it_and_no_name(sample):
    content, names, at = sample.content, [name for name, _, _ in sample.tensors], heads(sample.content)
    verdict = judge(FORMAT, gap(content, at[1] + 150, at[4] - 30))
    assert grades(verdict) == {name: "DAMAGED" if name in names[1:4] else "INTACT" for name in names}
    verdict = judge(FORMAT, gap(content, at[2], at[2] + 35))
    assert set(grades(verdict).values()) == {"INTACT"}
    assert truth(verdict) == sorted(sample.tensors)
    assert verdict.grade is Grade.DAMAGED
    (told,) = verdict.findings
    assert told.detail == f"the local header of {names[2]}.npy is gone, its contents are whole"


def test_an_array_without_header_whose_numbers_changed_is_damaged():
    content, at = SAMPLES[0].content, heads(SAMPLES[0].content)
    inside = next(t for t in judge(FORMAT, content).tensors if t.name == "turned").layout[0].offset_bytes
    verdict = judge(FORMAT, patched(gap(content, at[2], at[2] + 35), inside, b"\xff\xff"))
    assert {name for name, grade in grades(verdict).items() if grade == "DAMAGED"} == {"turned"}
    assert codes(verdict) == {"record-header-lost"}
    assert "whole" not in verdict.findings[0].detail


def test_a_directory_of_other_members_behind_a_lost_beginning_is_no_npz():
    content = zipped({"a.txt": b"x" * 70, "b.npy": b"y" * 70})
    assert codes(judge(FORMAT, gap(content, 0, 30))) == {"not-npz"}
    assert codes(judge(FORMAT, bytes(5000))) == {"not-npz"}


def test_an_extra_field_longer_than_its_entry_breaks_the_directory_as_zipfile_says():
    held, field = io.BytesIO(), b"\x01\x99\x04\0odd."
    with zipfile.ZipFile(held, "w") as made:
        for name in ("a.npy", "b.npy"):
            array = io.BytesIO()
            np.save(array, np.arange(30))
            member = zipfile.ZipInfo(name)
            member.extra = field
            made.writestr(member, array.getvalue())
    whole = held.getvalue()
    assert judge(FORMAT, whole).grade == Grade.INTACT
    content = patched(whole, whole.rindex(field) + 2, b"\5")
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(content))
    verdict = judge(FORMAT, content)
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"directory-damaged"})
    assert [one.grade for one in verdict.tensors] == [Grade.INTACT, Grade.INTACT]


def test_of_an_array_whose_header_is_damaged_neither_type_nor_shape_is_told():
    held = io.BytesIO()
    np.savez(held, lost=np.arange(900, dtype="<f4"), whole=np.arange(9, dtype="<f4"))
    at = held.getvalue().index(b"\x93NUMPY")
    verdict = judge(FORMAT, patched(held.getvalue(), at, bytes(64)))
    assert codes(verdict) == {"array-header", "crc-mismatch"}
    assert truth(verdict) == [("lost", "unknown", ()), ("whole", "float32", (9,))]
    assert verdict.tensors[0].size_bytes == 900 * 4 + 128


def test_of_an_array_that_cannot_be_unpacked_neither_type_nor_shape_is_told():
    array = io.BytesIO()
    np.save(array, np.arange(900))
    verdict = judge(FORMAT, zipped({"a.npy": array.getvalue()}, method=zipfile.ZIP_LZMA))
    assert verdict.grade is Grade.CONSISTENT
    assert truth(verdict) == [("a", "unknown", ())]


def test_arrays_in_a_good_archive_are_no_files_of_their_own_and_in_a_damaged_one_they_are():
    held = io.BytesIO()
    np.savez(held, a=np.arange(5.0), b=np.arange(6.0))
    content = held.getvalue()
    places = {at for at in range(len(content)) if content.startswith(b"\x93NUMPY", at)}
    assert len(places) == 2
    assert places <= set(judge(FORMAT, content).explained)
    damaged = judge(FORMAT, patched(content, max(places) + 130, b"\xff"))
    assert damaged.grade is Grade.DAMAGED
    assert not places & set(damaged.explained)


def test_what_is_no_tensor_of_a_good_archive_stays_a_file():
    array = io.BytesIO()
    np.save(array, np.arange(5.0))
    held = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(held, "w") as archive:
        warnings.simplefilter("ignore")  # two of one name
        archive.writestr("a.npy", array.getvalue())
        archive.writestr("a.npy", array.getvalue())
        archive.writestr("b.npy", b"GGUF" + bytes(100))
    content = held.getvalue()
    verdict = judge(FORMAT, content)
    first = content.index(b"\x93NUMPY")
    assert verdict.grade is Grade.INTACT
    assert not {first, content.index(b"GGUF")} & set(verdict.explained)
    assert content.index(b"\x93NUMPY", first + 1) in verdict.explained
