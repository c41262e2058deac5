"""TensorFlow checkpoint data files: found by way of their index, proven tensor by tensor."""

from __future__ import annotations

import random

import pytest

from carver.automaton import build as automaton
from carver.candidates import candidates
from carver.judge import judge as judge_candidate
from carver.scan import scan
from fixtures.formats.tf_checkpoint_data import MODEL, build, samples
from imaging.extent import span
from imaging.source import RawImage
from imaging.window import Window
from signatures import formats, tf_checkpoint_data
from signatures._tf_data import crc32c_of
from signatures.tf_checkpoint_data import FORMAT
from signatures.verdict import DataEvidence, Grade
from tests.signatures.test_conformance import Memory
from tests.signatures.zip_window import codes, ids, judge, truth

SAMPLES = list(samples(6))
DATA, INDEX = SAMPLES[0].content, SAMPLES[0].behind


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_tensor_is_proven_by_the_index(sample):
    verdict = judge(FORMAT, sample.content + sample.behind)
    assert (verdict.grade, verdict.findings, verdict.data_evidence) == (Grade.INTACT, (), DataEvidence.CHECKSUM)
    assert truth(verdict) == sorted(sample.tensors)
    assert {tensor.grade for tensor in verdict.tensors} == {"INTACT"}


def test_a_changed_byte_costs_its_own_tensor_only():
    verdict = judge(FORMAT, DATA[:-1] + bytes((DATA[-1] ^ 1,)) + INDEX)
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"crc-mismatch"})
    assert [tensor.name for tensor in verdict.tensors if tensor.grade == "DAMAGED"] == [MODEL[-1][0]]


@pytest.mark.parametrize("place", range(8))
def test_every_part_of_the_strings_is_proven(place):
    (names,) = (tensor for tensor in judge(FORMAT, DATA + INDEX).tensors if tensor.name == MODEL[4][0])
    at = names.offset_bytes + place
    verdict = judge(FORMAT, DATA[:at] + bytes((DATA[at] ^ 4,)) + DATA[at + 1 :] + INDEX)
    assert [tensor.name for tensor in verdict.tensors if tensor.grade == "DAMAGED"] == [names.name]


def test_data_that_ends_early_is_truncated_and_tells_which_tensors_are_lost():
    window = Window(Memory(DATA[:-4] + INDEX), (span(0, len(DATA) - 4 + len(INDEX)),))
    verdict = FORMAT.validate(window)
    assert (verdict.grade, verdict.size_bytes, codes(verdict)) == (Grade.TRUNCATED, len(DATA), {"cut-short"})
    assert {tensor.grade for tensor in verdict.tensors} == {"INTACT", "TRUNCATED"}


def test_a_damaged_index_does_not_tell_all():
    index = bytearray(INDEX)
    index[len(index) - 60] ^= 1  # in the last of its blocks
    assert judge(FORMAT, DATA + bytes(index)).grade in (Grade.DAMAGED, Grade.REJECTED)
    rows, index = _two_blocks()
    verdict = judge(FORMAT, rows + index)
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"index-damaged"})


def _two_blocks():
    """Data whose index lost a block in the middle, and that index."""
    from fixtures.formats.tf_checkpoint_index import entry, header, masked, table

    raws = [random.Random(number).randbytes(64) for number in range(6)]
    rows = [
        (f"t{number}".encode(), entry(1, (16,), 0, 64 * number, 64, masked(raw))) for number, raw in enumerate(raws)
    ]
    index = bytearray(table([[header(1), *rows[:2]], rows[2:4], rows[4:]]))
    index[index.index(b"t2") + 8] ^= 0xFF
    return b"".join(raws), bytes(index)


def test_other_bytes_before_an_index_are_no_data_file():
    verdict = judge(FORMAT, random.Random(1).randbytes(len(DATA)) + INDEX)
    assert (verdict.grade, codes(verdict)) == (Grade.REJECTED, {"no-tensor-fits"})
    assert codes(judge(FORMAT, random.Random(1).randbytes(9000))) == {"no-index"}


def found_in(content, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(content)
    table = formats()
    with RawImage(path) as image:
        hits = [chunk.hits for chunk in scan(image, list(table.values()))]
        found = list(candidates(image, hits, automaton(table.values()).table, table))
        return {
            one.start_bytes: judge_candidate(image, one, table) for one in found if one.format == "tf_checkpoint_data"
        }


def padded(raw):
    return raw + bytes(-len(raw) % 512)


@pytest.mark.parametrize("before", [True, False])
def test_data_files_are_found_apart_from_their_index_before_it_or_behind_it(before, tmp_path):
    data, index = build(9, MODEL, shards=2)
    noise = random.Random(2).randbytes(512 * 40)
    parts = [padded(data[1]), noise, padded(data[0])]
    content = noise + (b"".join([*parts, padded(index)]) if before else b"".join([padded(index), *parts]))
    found = found_in(content, tmp_path)
    assert {content.index(raw) for raw in data} == set(found)
    assert {verdict.grade for verdict in found.values()} == {Grade.INTACT}
    assert {verdict.facts["suffix"] for verdict in found.values()} == {".data-00000-of-00002", ".data-00001-of-00002"}


OBJECTS = (MODEL[0],)


@pytest.mark.parametrize("told", [OBJECTS, (*OBJECTS, ("v", 1, ())), (*OBJECTS, ("a", 9, ()), ("b", 9, ()))])
def test_a_file_of_little_more_than_its_object_graph_is_found_and_its_numbers_elsewhere_are_not(told, tmp_path):
    (data,), index = build(9, told)
    numbers = [tensor for tensor in judge(FORMAT, data + index).tensors if tensor.dtype != "string"]
    decoy = bytearray(random.Random(2).randbytes(len(data)))
    for one in numbers:
        decoy[one.offset_bytes : one.offset_bytes + one.size_bytes] = data[one.offset_bytes :][: one.size_bytes]
    content = padded(decoy) + padded(data) + padded(decoy) + padded(index) + padded(decoy)
    found = found_in(content, tmp_path)
    assert {place: verdict.grade for place, verdict in found.items()} == {content.index(data): Grade.INTACT}


@pytest.mark.parametrize("whole", [True, False])
def test_another_version_that_shares_tensors_and_lies_nearer_is_not_taken(whole, tmp_path):
    (data,), index = build(9, MODEL)
    tensors = {tensor.name: tensor for tensor in judge(FORMAT, data + index).tensors}
    shared = tensors[MODEL[0][0]], tensors[MODEL[3][0]]
    other = bytearray(random.Random(2).randbytes(len(data)))
    for one in shared:
        other[one.offset_bytes : one.offset_bytes + one.size_bytes] = data[one.offset_bytes :][: one.size_bytes]
    data = data if whole else data[:-1] + bytes((data[-1] ^ 1,))  # the counter
    found = found_in(padded(data) + padded(other) + padded(index), tmp_path)
    assert {place: verdict.grade for place, verdict in found.items()} == {0: Grade.INTACT if whole else Grade.DAMAGED}


def test_another_index_of_the_first_tensors_alone_does_not_cut_the_file_short(tmp_path):
    tensors = ("a", 1, (6,)), ("b", 1, (9,))
    (data,), index = build(9, tensors)
    part = build(9, tensors[:1])[1]
    found = found_in(padded(data) + padded(part) + padded(index), tmp_path)
    assert {place: verdict.size_bytes for place, verdict in found.items()} == {0: len(data)}


def test_data_and_index_share_the_name_by_which_tensorflow_finds_them(tmp_path):
    index = judge(formats()["tf_checkpoint_index"], INDEX)
    data = judge(FORMAT, DATA + INDEX)
    assert index.facts["name"] == data.facts["name"]
    assert str(index.facts["name"]).startswith("checkpoint-")


def test_the_search_goes_no_farther_than_it_may(tmp_path, monkeypatch):
    monkeypatch.setattr(tf_checkpoint_data, "SEARCH_BYTES", 4096)
    near = padded(DATA) + bytes(2048) + padded(INDEX)
    far = padded(DATA) + bytes(1 << 16) + padded(INDEX)
    assert set(found_in(near, tmp_path)) == {0}
    assert set(found_in(far, tmp_path)) == set()


def test_an_image_full_of_indexes_without_data_is_not_searched_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(tf_checkpoint_data, "MAX_VAIN_BYTES", 1)
    monkeypatch.setattr(tf_checkpoint_data, "NEAR_BYTES", 0)
    data, index = build(9, MODEL)
    lost = build(10, MODEL)[1]
    far = padded(data[0]) + bytes(1 << 16)
    assert set(found_in(far + padded(index), tmp_path)) == {0}
    assert set(found_in(far + padded(lost) + padded(index), tmp_path)) == set()


def test_the_crc_goes_on_from_piece_to_piece():
    raw = random.Random(3).randbytes(5001)
    assert crc32c_of([b"123456789"]) == 0xE3069283
    assert crc32c_of([raw[:77], raw[77:1000], b"", raw[1000:]]) == crc32c_of([raw])
