"""Core ML models."""

from __future__ import annotations

import random

import pytest

from fixtures.formats._protobuf_bytes import field
from fixtures.formats.coreml_model import FLOAT32, constant, description, layer, model, program, samples
from fixtures.formats.tflite import samples as others
from signatures.coreml_model import FORMAT
from signatures.verdict import Grade
from tests.signatures.zip_window import codes, ids, judge, truth

SAMPLES = list(samples(6))
NETWORK, PROGRAM = SAMPLES[0].content, SAMPLES[1].content


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_kind_is_judged_exactly(sample):
    verdict = judge(FORMAT, sample.content + bytes(300))
    assert verdict.grade is Grade.CONSISTENT
    assert codes(verdict) <= {"external-data"}
    assert verdict.size_bytes == len(sample.content)
    assert truth(verdict) == sorted(sample.tensors)


def test_a_program_tells_which_of_its_tensors_lie_in_which_file():
    verdict = judge(FORMAT, PROGRAM)
    assert codes(verdict) == {"external-data"}
    assert verdict.facts["blobs"][1] == {"name": "b0", "file": "@model_path/weights/weight.bin", "offset_bytes": 192}
    assert verdict.facts["blob_files"] == {"@model_path/weights/weight.bin": 320}
    assert all(tensor.layout == () for tensor in verdict.tensors)


def test_facts_tell_features_metadata_and_kind():
    facts = judge(FORMAT, NETWORK).facts
    assert (facts["kind"], facts["specification_version"]) == ("neuralNetworkClassifier", 4)
    assert (facts["inputs"], facts["outputs"], facts["author"]) == (["x"], ["y", "z"], "Ann")
    assert facts["metadata"] == {"com.github.apple.coremltools.version": "7.0"}


def network(body):
    return model(4, 500, field(1, layer("fc", 140, body)))


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("wire-type", network(b"\x0f")),
        ("length", network(b"\x0a\x7f")),
        ("tensor-size", network(field(20, field(1, b"12345")))),
        ("text-encoding", model(4, 500, field(1, field(1, b"\xff\xff")))),
        ("blob-offset", model(7, 502, program([("w", FLOAT32, (3,), 1 << 50)]))),
        ("shape", model(7, 502, program([("w", FLOAT32, (1 << 40, 1 << 40), 64)]))),
    ],
)
def test_what_breaks_the_grammar_inside_is_told(code, content):
    verdict = judge(FORMAT, content + bytes(64))
    assert verdict.grade is Grade.DAMAGED
    assert codes(verdict) - {"external-data"} == {code}
    assert verdict.size_bytes == len(content)


def test_blocks_nested_too_deep_are_told():
    operation = constant("w", FLOAT32, (3,), 64)
    for _ in range(40):
        operation = field(1, "cond") + field(4, field(3, operation))
    function = field(2, "CoreML6") + field(3, field(1, "CoreML6") + field(2, field(3, operation)))
    verdict = judge(FORMAT, model(7, 502, field(2, field(1, "main") + field(2, function))))
    assert codes(verdict) == {"nesting"}


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("field-order", field(2, description(("x",), ())) + field(1, 4)),
        ("field", field(1, 4) + field(2, description(("x",), ())) + field(77, b"")),
        ("field", field(1, 99) + field(2, description(("x",), ()))),
        ("field", field(1, 4) + field(500, b"")),
        ("feature", field(1, 4) + field(2, field(1, field(4, b"x"))) + field(500, b"")),
        ("metadata", field(1, 4) + field(2, field(100, field(1, 7))) + field(500, b"")),
        ("cut-short", field(1, 4) + field(2, description(("x",), ()))),
        ("length", field(1, 4) + field(2, description(("x",), ())) + b"\xa2\x1f\xff\xff\xff\xff\x7f"),
    ],
)
def test_what_is_no_model_is_rejected_with_its_reason(code, content):
    verdict = judge(FORMAT, content)
    assert verdict.grade is Grade.REJECTED
    assert codes(verdict) == {code}


def test_a_cut_model_is_truncated_and_tells_its_whole_length():
    verdict = judge(FORMAT, NETWORK[:-7])
    assert verdict.grade is Grade.TRUNCATED
    assert verdict.size_bytes == len(NETWORK)
    assert codes(verdict) == {"cut-short"}
    assert len(verdict.tensors) >= 4


def test_other_formats_are_no_models():
    assert judge(FORMAT, next(iter(others(1))).content).grade is Grade.REJECTED


def test_hostile_bytes_never_raise():
    rng = random.Random(3)
    for _ in range(1000):
        content = bytearray(rng.choice(SAMPLES).content)
        for _ in range(rng.randrange(1, 9)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        assert judge(FORMAT, bytes(content)).grade
