"""TFLite models."""

from __future__ import annotations

import random
import struct

import pytest

from fixtures.formats._flatbuffer_bytes import Node, Num
from fixtures.formats.tflite import FLOAT32, appended, buffer_of, compiled, dispatch_options, model, samples, tensor
from imaging.errors import BudgetExceeded
from signatures import _flatbuffer
from signatures._flatbuffer import FlatBuffer
from signatures._flexbuffer import map_integers
from signatures._tflite_schema import SCHEMA
from signatures.tflite import FORMAT
from signatures.verdict import Grade
from tests.signatures.zip_window import codes, ids, judge, patched, starts_in, truth, window_on

SAMPLES = list(samples(6))
PLAIN = SAMPLES[0].content


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_kind_of_model_is_judged_exactly(sample):
    verdict = judge(FORMAT, sample.content + bytes(300))
    assert (verdict.grade, verdict.findings) == (Grade.CONSISTENT, ())
    assert verdict.size_bytes == len(sample.content)
    assert truth(verdict) == sorted(sample.tensors)


def one_tensor(shape=(4,), *, data=bytes(16), kind=FLOAT32, buffer=1, version=3):
    tensors = [tensor("x", FLOAT32, (1,), 0), tensor("w", kind, shape, buffer)]
    return model([tensors], [buffer_of(b""), buffer_of(data)], version=version)


def test_facts_tell_signatures_metadata_and_custom_operators():
    facts = judge(FORMAT, SAMPLES[1].content).facts
    assert facts["custom_operators"] == ["MyOp"]
    assert facts["signatures"] == ["serving_default"]
    assert facts["metadata"] == ["min_runtime_version"]
    assert (facts["subgraphs"], facts["operators"]) == (2, 2)


def test_a_tensor_of_another_size_than_its_shape_asks_for_is_the_damaged_one():
    verdict = judge(FORMAT, one_tensor((5,)))
    assert verdict.grade is Grade.DAMAGED
    assert codes(verdict) == {"tensor-size"}
    assert [one.grade for one in verdict.tensors] == ["DAMAGED"]


def test_a_tensor_in_a_buffer_that_is_not_there_is_told():
    assert codes(judge(FORMAT, one_tensor(buffer=9))) == {"buffer-index"}


def test_a_tensor_of_an_unknown_type_leaves_the_model_undecided():
    verdict = judge(FORMAT, one_tensor(kind=99))
    assert verdict.grade is Grade.UNDECIDED
    assert codes(verdict) == {"unknown-dtype"}


def test_a_buffer_said_to_lie_after_the_tables_but_inside_them_is_told():
    inside = Node((None, Num("Q", 64), Num("Q", 16)))
    tensors = [tensor("x", FLOAT32, (1,), 0), tensor("w", FLOAT32, (4,), 1)]
    assert codes(judge(FORMAT, model([tensors], [buffer_of(b""), inside]))) == {"buffer-offset"}


def test_an_accelerators_program_said_to_lie_inside_the_tables_is_told():
    assert codes(judge(FORMAT, compiled(bytes(100), behind_bytes=-400))) == {"buffer-offset"}


def test_an_accelerators_program_that_is_cut_is_told():
    verdict = judge(FORMAT, compiled(bytes(100))[:-1])
    assert (verdict.grade, codes(verdict)) == (Grade.TRUNCATED, {"cut-short"})


@pytest.mark.parametrize("form", ["", "brackets"])
def test_an_accelerators_program_that_a_metadata_places_belongs_to_the_model(form):
    content = appended(bytes(100), form=form)
    verdict = judge(FORMAT, content + bytes(300))
    assert (verdict.grade, verdict.findings, verdict.size_bytes) == (Grade.CONSISTENT, (), len(content))
    assert codes(judge(FORMAT, content[:-1])) == {"cut-short"}
    assert codes(judge(FORMAT, appended(bytes(100), form=form, behind_bytes=-400))) == {"buffer-offset"}


def test_a_metadata_whose_text_places_nothing_yet_tells_of_no_program():
    content = appended(bytes(100))
    told = content.index(b"<npu_byte_code>") + len(b"<npu_byte_code>")
    assert judge(FORMAT, patched(content, told, b"*" * 22)).size_bytes == len(content) - 100


def test_options_that_are_no_map_tell_nothing():
    options = dispatch_options(4096, 77)
    assert map_integers(options) == {"bytecode_offset": 4096, "bytecode_size": 77}
    for broken in (b"", b"\x05\x04\x01", options[:-1], options[-40:], options[:-3] + b"\xff\x27\x01"):
        assert map_integers(broken) == {}
    rng = random.Random(8)
    for _ in range(2000):
        hostile = bytearray(options)
        for _ in range(3):
            hostile[rng.randrange(len(hostile))] = rng.randrange(256)
        assert len(map_integers(bytes(hostile))) <= 64


def test_a_model_without_subgraphs_is_told():
    assert codes(judge(FORMAT, model([], [buffer_of(b""), buffer_of(b"1234")]))) == {"no-subgraph"}


def test_a_vector_that_runs_over_other_objects_is_told():
    at = PLAIN.index(struct.pack("<2i", 1, 8)) - 4  # the shape of the first tensor
    verdict = judge(FORMAT, patched(PLAIN, at, struct.pack("<I", 40)))
    assert verdict.grade is Grade.DAMAGED
    assert "overlap" in codes(verdict)


@pytest.mark.parametrize(
    ("code", "find", "shift", "new"),
    [
        ("text-end", b"conv/kernel\0", 11, b"!"),
        ("text-length", b"conv/kernel\0", -4, b"\xff\xff\xff\x10"),
        ("vector", struct.pack("<2i", 1, 8), -4, b"\xff\xff\xff\x7f"),
    ],
)
def test_a_broken_string_or_vector_leaves_the_other_tensors(code, find, shift, new):
    verdict = judge(FORMAT, patched(PLAIN, PLAIN.index(find) + shift, new) + bytes(1 << 16))
    assert verdict.grade is Grade.DAMAGED
    assert code in codes(verdict)
    assert len(verdict.tensors) >= 2


def test_broken_offsets_and_tables_are_told():
    seen = set()
    for at in range(0, len(PLAIN) // 2, 4):
        for new in (b"\0\0\0\0", b"\x05\x00\x00\x00", b"\x03\0\xff\xff"):
            seen |= codes(judge(FORMAT, patched(PLAIN, at, new)))
    assert {"offset", "alignment", "vtable"} <= seen


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("magic", bytes(4) + b"TFL2" + bytes(64)),
        ("root-table", bytes(4) + b"TFL3" + bytes(64)),
        ("root-table", one_tensor(version=4)),
        ("few-tables", PLAIN[:120]),
    ],
)
def test_what_is_no_model_is_rejected_with_its_reason(code, content):
    verdict = judge(FORMAT, content)
    assert verdict.grade is Grade.REJECTED
    assert codes(verdict) == {code}


def test_the_magic_alone_is_no_start():
    noise = random.Random(1).randbytes(4096)
    assert starts_in(FORMAT, noise + b"TFL3" + noise) == set()
    assert starts_in(FORMAT, noise + PLAIN) == {4096}


def test_a_cut_model_is_truncated_and_keeps_the_tensors_before_the_cut():
    grades = {judge(FORMAT, PLAIN[:cut]).grade for cut in range(len(PLAIN) // 2, len(PLAIN))}
    assert grades == {Grade.TRUNCATED}
    verdict = judge(FORMAT, PLAIN[:-8])
    assert "cut-short" in codes(verdict)
    assert len(verdict.tensors) == 3


@pytest.mark.parametrize("limit", ["MAX_TABLES", "MAX_OFFSETS"])
def test_more_tables_or_offsets_than_any_model_has_end_the_walk(monkeypatch, limit):
    monkeypatch.setattr(_flatbuffer, limit, 10)
    with pytest.raises(BudgetExceeded):
        judge(FORMAT, PLAIN)


def test_hostile_bytes_never_raise():
    rng = random.Random(3)
    for _ in range(400):
        content = bytearray(rng.choice(SAMPLES).content)
        for _ in range(rng.randrange(1, 12)):
            at = rng.randrange(len(content) - 4)
            content[at : at + 4] = struct.pack(
                "<I", rng.choice([0, 1, 4, 8, 255, 1 << 16, 1 << 31, rng.getrandbits(32)])
            )
        assert judge(FORMAT, bytes(content)).grade


def test_tables_that_share_a_vtable_may_be_a_little_shorter_than_it_tells():
    content = bytearray(SAMPLES[0].content)
    flat = FlatBuffer(window_on(bytes(content)), SCHEMA)
    flat.root("Model")
    for at in flat._vtables:
        size = int.from_bytes(content[at + 2 : at + 4], "little")
        content[at + 2 : at + 4] = (size + 10).to_bytes(2, "little")
    verdict = judge(FORMAT, bytes(content) + bytes(64))
    assert "overlap" not in codes(verdict)
    assert verdict.grade is Grade.CONSISTENT
