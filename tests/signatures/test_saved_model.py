"""TensorFlow saved_model.pb."""

from __future__ import annotations

import random

import pytest

from fixtures.formats._protobuf_bytes import field
from fixtures.formats.coreml_model import samples as others
from fixtures.formats.saved_model import FLOAT, constant, meta_graph, node, samples, saved_model
from signatures.saved_model import FORMAT
from signatures.verdict import Grade
from tests.signatures.zip_window import codes, ids, judge, truth

SAMPLES = list(samples(6))
PLAIN = SAMPLES[0].content
GRAPH = meta_graph([node("x", "Placeholder")])


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_kind_is_judged_exactly(sample):
    verdict = judge(FORMAT, sample.content + bytes(300))
    assert (verdict.grade, verdict.findings) == (Grade.CONSISTENT, ())
    assert verdict.size_bytes == len(sample.content)
    assert truth(verdict) == sorted(sample.tensors)


def test_facts_tell_tags_versions_and_signatures():
    facts = judge(FORMAT, SAMPLES[1].content).facts
    assert (facts["meta_graphs"], facts["tags"]) == (2, ["serve", "train"])
    assert (facts["tensorflow_versions"], facts["signatures"]) == (["2.4.1"], ["serving_default"] * 2)
    assert (facts["nodes"], facts["functions"]) == (4, 1)


def test_a_constant_of_another_size_than_its_shape_asks_for_is_the_damaged_one():
    verdict = judge(FORMAT, saved_model(meta_graph([constant("w", FLOAT, (3,), bytes(16))])))
    assert verdict.grade is Grade.DAMAGED
    assert codes(verdict) == {"tensor-size"}
    assert [one.grade for one in verdict.tensors] == ["DAMAGED"]


def with_graph(body):
    return saved_model(field(2, field(1, node("x", "NoOp")) + body))


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("node", with_graph(field(1, field(1, "lonely")))),
        ("node", with_graph(field(1, field(9, "x")))),
        ("graph", with_graph(field(77, b""))),
        ("meta-graph", saved_model(GRAPH + field(9, b""))),
        ("meta-info", saved_model(GRAPH + field(1, field(9, b"")))),
        ("tensor", with_graph(field(1, node("c", "Const", field(1, "value") + field(2, field(8, b"\x1d\0\0\0\0")))))),
        ("text-encoding", with_graph(field(1, field(1, b"\xff\xfe")))),
    ],
)
def test_what_breaks_the_grammar_inside_is_told(code, content):
    verdict = judge(FORMAT, content + bytes(64))
    assert verdict.grade is Grade.DAMAGED
    assert codes(verdict) == {code}
    assert verdict.size_bytes == len(content)


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("version", field(1, 2) + field(2, GRAPH)),
        ("version", field(2, GRAPH)),
        ("meta-graph", field(1, 1) + field(3, b"")),
        ("no-graph", saved_model(field(4, b""))),
        ("wire-type", field(1, 1) + b"\x0f" * 9),
    ],
)
def test_what_is_no_saved_model_is_rejected_with_its_reason(code, content):
    verdict = judge(FORMAT, content)
    assert verdict.grade is Grade.REJECTED
    assert codes(verdict) == {code}


def test_other_protobufs_are_no_saved_models():
    for sample in others(1):
        assert judge(FORMAT, sample.content).grade is Grade.REJECTED


def test_bytes_that_only_look_like_another_graph_do_not_belong_to_it():
    verdict = judge(FORMAT, PLAIN + b"\x12\x7f" + bytes(100))
    assert (verdict.grade, verdict.size_bytes) == (Grade.CONSISTENT, len(PLAIN))


def test_a_cut_model_is_truncated_and_tells_its_whole_length():
    verdict = judge(FORMAT, PLAIN[:-5])
    assert verdict.grade is Grade.TRUNCATED
    assert verdict.size_bytes == len(PLAIN)
    assert codes(verdict) == {"cut-short"}
    assert len(verdict.tensors) == 2


def test_hostile_bytes_never_raise():
    rng = random.Random(3)
    for _ in range(1000):
        content = bytearray(rng.choice(SAMPLES).content)
        for _ in range(rng.randrange(1, 9)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        assert judge(FORMAT, bytes(content)).grade
