"""ONNX Runtime models."""

from __future__ import annotations

import random
import struct

import pytest

from fixtures.formats._flatbuffer_bytes import Node, write_flatbuffer
from fixtures.formats.ort import FLOAT32, INT64, STRING, graph, node, of_bytes, plain, samples, session, tensor
from signatures._flat_model import MAX_FINDINGS
from signatures.ort import FORMAT
from signatures.verdict import Grade
from tests.signatures.zip_window import codes, ids, judge, patched, starts_in, truth

SAMPLES = list(samples(6))
PLAIN = plain(6, [("w", FLOAT32, (5, 8)), ("b", FLOAT32, (5,))])


def with_tensor(one):
    return session(graph([one], [node("Identity", ["w"], ["y"])]))


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_kind_of_model_is_judged_exactly(sample):
    verdict = judge(FORMAT, sample.content + bytes(300))
    assert (verdict.grade, verdict.findings) == (Grade.CONSISTENT, ())
    assert verdict.size_bytes == len(sample.content)
    assert truth(verdict) == sorted(sample.tensors)


def test_each_initializer_lies_where_its_bytes_are():
    raw = random.Random(1).randbytes(24)
    content = of_bytes([("w", FLOAT32, (2, 3), raw)])
    (extent,) = judge(FORMAT, content).tensors[0].layout
    assert content[extent.offset_bytes : extent.end_bytes] == raw


def test_strings_and_what_another_file_holds_have_no_place_here():
    tensors = {one.name: one for one in judge(FORMAT, SAMPLES[2].content).tensors}
    assert tensors["words"].layout == tensors["away"].layout == tensors["empty"].layout == ()
    assert tensors["thin"].size_bytes == 12


def test_facts_tell_the_version_the_operators_and_the_ends_of_the_graph():
    facts = judge(FORMAT, PLAIN).facts
    assert (facts["ort_version"], facts["ir_version"], facts["producer"]) == ("6", 8, "builder 1.0")
    assert (facts["nodes"], facts["operators"]) == (1, {"Gemm": 1})
    assert (facts["inputs"], facts["outputs"]) == (["x"], ["y"])
    assert (facts["opsets"], facts["metadata"]) == ({"": 13, "com.microsoft": 1}, ["origin"])


@pytest.mark.parametrize(
    "one",
    [
        tensor("w", FLOAT32, (5,), bytes(16)),
        tensor("w", FLOAT32, (-1, -4), bytes(16)),
        tensor("w", FLOAT32, (4,), None),
        tensor("w", STRING, (3,), None, words=["a", "b"]),
        tensor("w", INT64, (), bytes(4)),
    ],
)
def test_an_initializer_of_another_size_than_its_dimensions_ask_for_is_the_damaged_one(one):
    verdict = judge(FORMAT, with_tensor(one))
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"tensor-size"})
    assert [one.grade for one in verdict.tensors] == ["DAMAGED"]


def test_an_initializer_of_an_unknown_type_leaves_the_model_undecided():
    verdict = judge(FORMAT, with_tensor(tensor("w", 99, (4,), bytes(16))))
    assert (verdict.grade, codes(verdict)) == (Grade.UNDECIDED, {"unknown-dtype"})


def test_a_wrong_initializer_counts_behind_more_unknown_ones_than_are_told():
    unknown = [tensor(f"u{number}", 99, (1,), bytes(4)) for number in range(MAX_FINDINGS)]
    verdict = judge(FORMAT, session(graph([*unknown, tensor("w", FLOAT32, (5,), bytes(16))], [])))
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"unknown-dtype"})
    assert verdict.tensors[-1].grade == "DAMAGED"


def test_a_model_without_a_graph_is_told():
    assert codes(judge(FORMAT, session(None))) == {"no-graph"}


def test_a_model_that_is_cut_goes_on_past_the_cut():
    verdict = judge(FORMAT, PLAIN[:-9])
    assert (verdict.grade, codes(verdict)) == (Grade.TRUNCATED, {"cut-short"})
    assert verdict.size_bytes >= len(PLAIN) - 8


def test_a_broken_table_is_told_beside_those_that_are_whole():
    at = PLAIN.index(b"\4\0\0\0Gemm")
    verdict = judge(FORMAT, patched(PLAIN, at, struct.pack("<I", 1 << 30)))
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"text-length"})
    assert truth(verdict) == [("b", "float32", (5,)), ("w", "float32", (5, 8))]


def test_objects_that_lie_inside_each_other_are_told():
    content = with_tensor(tensor("w", FLOAT32, (4,), struct.pack("<4I", 2, 2, 2, 2)))  # which can be read as texts
    (extent,) = judge(FORMAT, content).tensors[0].layout
    version = len(content) - 8
    (place,) = (at for at in range(8, 64, 4) if at + struct.unpack_from("<I", content, at)[0] == version)
    moved = patched(content, place, struct.pack("<I", extent.offset_bytes - place))
    verdict = judge(FORMAT, moved)
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"overlap"})


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("magic", PLAIN.replace(b"ORTM", b"ORTN", 1)),
        ("root-table", write_flatbuffer(Node(("6",)), b"ORTM")),
        ("few-tables", write_flatbuffer(Node(("6", Node())), b"ORTM")),
    ],
)
def test_what_is_no_model_is_rejected(code, content):
    verdict = judge(FORMAT, content)
    assert (verdict.grade, codes(verdict)) == (Grade.REJECTED, {code})


def test_the_letters_alone_are_no_start():
    rng = random.Random(2)
    noise = b"".join(rng.randbytes(60) + b"ORTM" for _ in range(200))
    assert starts_in(FORMAT, noise) == set()
    assert starts_in(FORMAT, bytes(512) + PLAIN) == {512}
