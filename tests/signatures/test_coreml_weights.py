"""Core ML weight.bin."""

from __future__ import annotations

import random
import struct

import pytest

from fixtures.formats.coreml_weights import build, record, samples
from signatures.coreml_weights import FORMAT
from signatures.verdict import Grade
from tests.signatures.zip_window import codes, ids, judge, patched, starts_in, truth

SAMPLES = list(samples(6))
THREE = SAMPLES[1].content
SECOND, THIRD = 960, 1088  # records of THREE


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_type_is_judged_exactly(sample):
    verdict = judge(FORMAT, sample.content + bytes(300))
    assert (verdict.grade, verdict.findings) == (Grade.CONSISTENT, ())
    assert verdict.size_bytes == len(sample.content)
    assert truth(verdict) == sorted(sample.tensors)


def test_the_file_is_found_from_each_of_its_records_and_only_there():
    noise = random.Random(2).randbytes(4096)
    assert starts_in(FORMAT, noise + THREE + noise) == {4096}
    assert starts_in(FORMAT, noise + bytes(4) + b"\xef\xbe\xad\xde" + noise) == set()
    assert starts_in(FORMAT, record(2, 8, 128, 0) + noise) == set()


def test_a_broken_record_is_told_and_those_after_it_are_found():
    verdict = judge(FORMAT, patched(THREE, SECOND, b"\0\0\0\0") + bytes(64))
    assert verdict.grade is Grade.DAMAGED
    assert codes(verdict) == {"record-lost", "record-count"}
    assert [one.name for one in verdict.tensors] == ["blob_64", f"blob_{THIRD}"]


def test_a_broken_header_is_told_and_the_records_are_kept():
    broken = patched(THREE, 4, b"\x09")
    verdict = judge(FORMAT, broken + bytes(64))
    assert verdict.grade is Grade.DAMAGED
    assert codes(verdict) == {"header"}
    assert verdict.size_bytes == len(THREE)
    assert starts_in(FORMAT, bytes(512) + broken) == {512}


def test_a_size_that_is_no_whole_number_of_elements_is_told():
    verdict = judge(FORMAT, patched(THREE, SECOND + 8, b"\x03"))
    assert verdict.grade is Grade.DAMAGED
    assert codes(verdict) == {"blob-size"}


def test_an_unknown_type_leaves_the_file_undecided():
    verdict = judge(FORMAT, patched(THREE, SECOND + 4, b"\x63"))
    assert verdict.grade is Grade.UNDECIDED
    assert codes(verdict) == {"unknown-dtype"}


def test_a_cut_file_is_truncated_at_every_place_after_its_first_record():
    for cut in range(160, len(THREE), 7):
        verdict = judge(FORMAT, THREE[:cut])
        assert verdict.grade is Grade.TRUNCATED
        assert codes(verdict) == {"cut-short"}


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("header", struct.pack("<2I", 0, 2) + bytes(200)),
        ("header", patched(build(1, [("float32", 4)]).content, 4, b"\x01")),
        ("first-record", struct.pack("<2I", 3, 2) + bytes(200)),
    ],
)
def test_what_is_no_such_file_is_rejected_with_its_reason(code, content):
    verdict = judge(FORMAT, content)
    assert verdict.grade is Grade.REJECTED
    assert codes(verdict) == {code}


def test_hostile_bytes_never_raise():
    rng = random.Random(3)
    for _ in range(800):
        content = bytearray(rng.choice(SAMPLES).content)
        for _ in range(rng.randrange(1, 9)):
            at = rng.randrange(len(content) - 8)
            content[at : at + 8] = rng.choice([bytes(8), b"\xff" * 8, rng.randbytes(8), struct.pack("<Q", 1 << 40)])
        assert judge(FORMAT, bytes(content)).grade
