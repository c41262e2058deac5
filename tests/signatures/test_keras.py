"""Keras 3 files."""

from __future__ import annotations

import io
import random
import warnings
import zipfile

import pytest

from fixtures.formats.keras import build, samples
from signatures.keras import FORMAT
from signatures.verdict import Grade
from tests.signatures.test_zip import zipped
from tests.signatures.zip_window import codes, ids, judge, patched, starts_in

SAMPLES = list(samples(9))
METADATA = b'{"keras_version": "3.0.0"}'


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_kind_is_judged_exactly_and_found(sample):
    image = bytes(1024) + sample.content + bytes(512)
    verdict = judge(FORMAT, image[1024:])
    assert verdict.grade == sample.grade
    assert verdict.size_bytes == len(sample.content)
    assert 1024 in starts_in(FORMAT, image)
    assert {start - 1024 for start in starts_in(FORMAT, image)} <= set(verdict.explained)


def test_facts_come_from_the_two_json_files():
    facts = judge(FORMAT, build(9)).facts
    assert facts["keras_version"] == "3.15.1"
    assert (facts["name"], facts["name_source"]) == ("net_9", "config name")
    assert facts["weights"] == ["model.weights.h5"]


def test_the_inner_weights_file_is_not_explained_away():
    content = build(9)
    assert content.index(b"\x89HDF") not in judge(FORMAT, content).explained


def test_a_changed_weight_damages_the_file():
    content = build(9)
    verdict = judge(FORMAT, patched(content, content.index(b"\x89HDF") + 2100, b"\x01\x02\x03"))
    assert verdict.grade is Grade.DAMAGED
    assert "crc-mismatch" in codes(verdict)


def test_of_two_members_with_one_name_the_last_counts_and_nothing_is_damaged():
    held = io.BytesIO(build(9))
    with zipfile.ZipFile(held, "a") as made, warnings.catch_warnings(action="ignore"):
        made.writestr("metadata.json", METADATA)
    verdict = judge(FORMAT, held.getvalue())
    assert (verdict.grade, codes(verdict)) == (Grade.INTACT, {"duplicate-name"})
    assert verdict.facts["keras_version"] == "3.0.0"


def test_a_cut_file_is_truncated():
    assert judge(FORMAT, build(9)[:-40]).grade is Grade.TRUNCATED


def test_another_zip_is_not_keras():
    assert codes(judge(FORMAT, zipped({"other.json": b"{}"}))) == {"not-keras"}
    assert codes(judge(FORMAT, zipped({"metadata.json": b"{}", "b": b"1"}))) == {"not-keras"}


def test_a_member_in_the_middle_starts_earlier():
    content = zipped({"z": b"1", "metadata.json": METADATA, "config.json": b"{}"})
    assert codes(judge(FORMAT, content[content.index(b"PK\x03\x04", 4) :])) == {"starts-earlier"}


def test_bad_json_and_missing_weights_are_told():
    verdict = judge(FORMAT, zipped({"metadata.json": METADATA, "config.json": b"{" * 5000}))
    assert {"bad-json", "no-weights"} <= codes(verdict)


def test_json_nested_without_end_is_bad_json():
    verdict = judge(FORMAT, zipped({"metadata.json": METADATA, "config.json": b"[" * 1_000_000}))
    assert "bad-json" in codes(verdict)


def test_a_longer_name_is_no_start():
    assert starts_in(FORMAT, zipped({"pkg/metadata.json": METADATA, "config.json": b"{}"})) == set()


def test_hostile_bytes_never_raise():
    rng = random.Random(3)
    for _ in range(300):
        content = bytearray(build(9))
        for _ in range(rng.randrange(1, 12)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        judge(FORMAT, bytes(content))
