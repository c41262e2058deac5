"""Other zips that store weights: taken for what is inside, refused cheaply otherwise."""

from __future__ import annotations

import random
import struct
import zipfile

import pytest

from fixtures.formats.keras import build as build_keras
from fixtures.formats.npz import samples as npz_samples
from fixtures.formats.pytorch_zip import build as build_torch
from fixtures.formats.zip_archive import pack, safetensors_like, samples
from signatures import zip_archive
from signatures.verdict import Grade
from signatures.zip_archive import FORMAT
from tests.signatures.test_zip import zipped
from tests.signatures.zip_window import MemorySource, codes, ids, judge, patched, starts_in

SAMPLES = list(samples(2))
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_archives_with_weights_are_found_from_their_end_and_judged(sample):
    image = b"\x77" * 700 + sample.content + bytes(200)
    assert 700 in starts_in(FORMAT, image)
    verdict = judge(FORMAT, image[700:])
    assert verdict.grade == sample.grade
    assert verdict.size_bytes == len(sample.content)


def test_the_torch_file_inside_a_wheel_is_not_explained_away():
    content = SAMPLES[0].content
    inner = content.index(b"PK\x03\x04\x00\x00\x08\x08")
    verdict = judge(FORMAT, content)
    assert inner not in verdict.explained
    assert verdict.facts["weights"] == ["pkg/assets/tiny.pth"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("w.h5", b"\x89HDF\r\n\x1a\n" + bytes(99)),
        ("w.gguf", b"GGUF\x03\0\0\0" + bytes(99)),
        ("w.npy", b"\x93NUMPY\x01\0" + bytes(99)),
        ("w.safetensors", safetensors_like(1)),
        ("w.onnx", b"\x08\x08\x12\x07pytorch" + bytes(99)),
        ("w.onnx", b"\x08\x08\x3a\x10" + bytes(99)),
    ],
)
def test_each_stored_kind_of_weights_is_known(name, data):
    content = pack({"readme.txt": (b"hello", DEFLATED), name: (data, STORED)})
    assert judge(FORMAT, content).facts["weights"] == [name]


def test_a_zip_without_stored_weights_is_refused_and_no_start():
    content = pack({"a.txt": (b"words" * 50, DEFLATED), "w.h5": (b"\x89HDF\r\n\x1a\n" + bytes(500), DEFLATED)})
    assert codes(judge(FORMAT, content)) == {"no-stored-weights"}
    assert starts_in(FORMAT, content) == set()


def nested(levels, innermost, *, comment=b"", method=STORED):
    content = innermost
    for level in range(levels):
        members = {"readme.txt": (b"hello", DEFLATED), f"inner{level}.zip": (content, method)}
        content = pack(members, comment=comment)
    return content


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("comment", [b"", b"some words" * 6000])
def test_a_zip_that_stores_a_zip_with_weights_is_taken_as_a_whole(levels, comment):
    content = nested(levels, pack({"w.safetensors": (safetensors_like(1), STORED)}), comment=comment)
    verdict = judge(FORMAT, content)
    assert (verdict.grade, verdict.size_bytes) == (Grade.INTACT, len(content))
    assert 0 in starts_in(FORMAT, content)
    inner = content.index(b"PK\x03\x04", 1 + content.index(b"inner"))
    assert inner not in verdict.explained


def test_zips_inside_zips_are_followed_two_levels_deep_only():
    content = nested(3, pack({"w.safetensors": (safetensors_like(1), STORED)}))
    assert codes(judge(FORMAT, content)) == {"no-stored-weights"}


def test_a_zip_that_stores_a_keras_file_or_arrays_is_taken():
    for content in (build_keras(1), next(npz_samples(1)).content):
        assert judge(FORMAT, nested(1, content)).grade == Grade.INTACT


@pytest.mark.parametrize(
    "inner",
    [
        pack({"a.txt": (b"words" * 50, DEFLATED)}),
        pack({}) + bytes(99),
        b"PK\x03\x04" + bytes(200),
        b"PK\x03\x04" + bytes(200) + b"PK\x05\x06" + bytes(18),
        pack({"w.safetensors": (safetensors_like(1), STORED)})[:-30],
    ],
    ids=["no weights", "empty", "no end", "no directory", "cut"],
)
def test_a_zip_inside_without_weights_or_directory_is_no_reason_to_take_the_outer_one(inner):
    content = nested(1, inner)
    assert codes(judge(FORMAT, content)) == {"no-stored-weights"}
    assert 0 not in starts_in(FORMAT, content)


def test_a_deflated_zip_inside_is_not_looked_into():
    content = nested(1, pack({"w.safetensors": (safetensors_like(1), STORED)}), method=DEFLATED)
    assert codes(judge(FORMAT, content)) == {"no-stored-weights"}


def test_many_zips_inside_and_long_directories_are_opened_up_to_a_bound(monkeypatch):
    plain, weights = pack({"a.txt": (b"words" * 50, DEFLATED)}), pack({"w.safetensors": (safetensors_like(1), STORED)})
    content = pack({f"{n}.zip": (plain, STORED) for n in range(4)} | {"w.zip": (weights, STORED)})
    assert judge(FORMAT, content).grade == Grade.INTACT
    for bound in ("MAX_INNER_ZIPS", "MAX_INNER_ENTRIES"):  # a file in each
        with monkeypatch.context() as patch:
            patch.setattr(zip_archive, bound, 5)
            assert judge(FORMAT, content).grade == Grade.INTACT
            patch.setattr(zip_archive, bound, 4)
            assert codes(judge(FORMAT, content)) == {"no-stored-weights"}
    monkeypatch.setattr(zip_archive, "MAX_INNER_DIRECTORY_BYTES", 50)
    assert codes(judge(FORMAT, content)) == {"no-stored-weights"}


def test_formats_of_their_own_are_left_to_themselves():
    npz = next(npz_samples(1)).content
    for content in (build_torch(1).content, build_keras(1), npz):
        assert codes(judge(FORMAT, content)) == {"own-format"}
        assert starts_in(FORMAT, content) == set()


def test_bytes_without_directory_are_refused():
    assert codes(judge(FORMAT, b"PK\x05\x06" + bytes(18))) == {"no-directory"}


def test_a_large_archive_is_refused_after_a_few_reads():
    content = zipped({f"file{index}.txt": b"x" * 300 for index in range(2000)})
    source = MemorySource(content)
    at = content.index(b"PK\x05\x06")
    assert list(FORMAT.starts(source, at, FORMAT.patterns[0])) == []
    assert source.reads < 100


def test_a_changed_member_damages_the_archive():
    content = SAMPLES[1].content
    verdict = judge(FORMAT, patched(content, content.index(b'{"w"') + 90, b"\x00\x01"))
    assert verdict.grade is Grade.DAMAGED
    assert "crc-mismatch" in codes(verdict)


def test_an_end_record_that_points_nowhere_is_no_start():
    lie = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 3, 3, 2**31, 2**31, 0)
    assert starts_in(FORMAT, bytes(5000) + lie) == set()


def test_hostile_bytes_never_raise():
    rng = random.Random(3)
    for _ in range(300):
        content = bytearray(rng.choice(SAMPLES).content)
        for _ in range(rng.randrange(1, 12)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        judge(FORMAT, bytes(content))
        starts_in(FORMAT, bytes(content))


def test_an_exported_program_of_older_torch_is_called_pt2():
    inner = build_torch(3, root="archive").content
    content = zipped({"serialized_exported_program.json": b"{}", "serialized_state_dict.pt": inner})
    verdict = judge(FORMAT, content)
    assert verdict.grade is Grade.INTACT
    assert verdict.facts["suffix"] == ".pt2"
