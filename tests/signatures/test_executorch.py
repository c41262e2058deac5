"""ExecuTorch programs."""

from __future__ import annotations

import random
import struct

import pytest

from fixtures.formats._flatbuffer_bytes import Node, Num, ints
from fixtures.formats.executorch import FLOAT32, in_segment, plan, program, samples, tensor
from signatures._executorch_schema import SCHEMA
from signatures._flatbuffer import FlatBuffer
from signatures.executorch import FORMAT
from signatures.verdict import Grade
from tests.signatures.zip_window import codes, ids, judge, patched, starts_in, truth, window_on

SAMPLES = list(samples(6))
PLAIN = in_segment(6, [("w", FLOAT32, (5, 8)), ("b", FLOAT32, (5,))])


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_kind_of_program_is_judged_exactly(sample):
    verdict = judge(FORMAT, sample.content + bytes(300))
    assert (verdict.grade, verdict.findings) == (Grade.CONSISTENT, ())
    assert verdict.size_bytes == len(sample.content)
    assert truth(verdict) == sorted(sample.tensors)


def test_facts_tell_methods_backends_and_named_data():
    facts = judge(FORMAT, PLAIN).facts
    assert (facts["methods"], facts["backends"], facts["operators"]) == (
        ["forward"],
        ["XnnpackBackend"],
        ["aten::addmm"],
    )
    assert facts["named_data"] == [{"key": "weights.blob", "offset_bytes": len(PLAIN) - 50, "size_bytes": 50}]


def test_tables_that_share_a_vtable_may_be_a_little_longer_than_it_tells():
    content = bytearray(PLAIN)
    flat = FlatBuffer(window_on(PLAIN), SCHEMA)
    flat.root("Program")
    for at, (_, places) in flat._vtables.items():
        content[at + 2 : at + 4] = max(4, *(place + 1 for place in places)).to_bytes(2, "little")
    verdict = judge(FORMAT, bytes(content))
    assert (verdict.grade, verdict.findings) == (Grade.CONSISTENT, ())
    assert verdict.tensors == judge(FORMAT, PLAIN).tensors


def with_constants(*, shape=(4,), kind=FLOAT32, index=1, offsets=(0, 0), segment=0, size=16, external=False):
    root = (None, [plan([tensor("w", kind, shape, index, external=external)])], None, None)
    table = [Node((None, Num("Q", size)))]
    return program(Node((*root, table, Node((Num("I", segment), ints(offsets, "Q"))))), bytes(16))


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("tensor-size", with_constants(shape=(5,))),
        ("tensor-size", with_constants(shape=(-4,))),
        ("tensor-size", with_constants(index=7)),
        ("segment-index", with_constants(segment=3)),
        ("constant-offset", with_constants(offsets=(0, 99))),
        ("segment-range", with_constants(size=17)),
    ],
)
def test_constants_that_do_not_fit_are_told(code, content):
    verdict = judge(FORMAT, content)
    assert verdict.grade is Grade.DAMAGED
    assert code in codes(verdict)


def test_a_tensor_kept_in_another_file_is_not_one_of_this_file():
    verdict = judge(FORMAT, with_constants(external=True))
    assert (verdict.grade, verdict.tensors) == (Grade.CONSISTENT, ())


def test_an_unknown_type_leaves_the_program_undecided():
    verdict = judge(FORMAT, with_constants(kind=77))
    assert verdict.grade is Grade.UNDECIDED
    assert codes(verdict) == {"unknown-dtype"}


def test_a_program_longer_than_its_header_tells_is_told():
    assert "program-size" in codes(judge(FORMAT, patched(PLAIN, 16, struct.pack("<Q", 64))))


def test_a_vector_that_runs_over_other_objects_is_told():
    at = PLAIN.index(struct.pack("<3i", 2, 5, 8))
    assert "overlap" in codes(judge(FORMAT, patched(PLAIN, at, struct.pack("<I", 40))))


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("header", b"\x30\0\0\0ETxxeh00" + PLAIN[12:]),
        ("header", patched(PLAIN, 12, b"\x04")),
        ("header", patched(PLAIN, 24, b"\x10\0\0\0")),
        ("root-table", patched(PLAIN, 0, b"\x04")),
        ("few-tables", program(Node((None, [])), b"")),
    ],
)
def test_what_is_no_program_is_rejected_with_its_reason(code, content):
    verdict = judge(FORMAT, content)
    assert verdict.grade is Grade.REJECTED
    assert codes(verdict) == {code}


def test_the_magic_alone_is_no_start():
    noise = random.Random(1).randbytes(4096)
    assert starts_in(FORMAT, noise + b"ET12eh00" + noise) == set()
    assert starts_in(FORMAT, noise + PLAIN) == {4096}
    assert starts_in(FORMAT, noise + SAMPLES[2].content) == {4096}


def test_a_cut_program_without_header_is_truncated():
    content = SAMPLES[2].content
    for cut in range(len(content) // 2, len(content), 3):
        assert judge(FORMAT, content[:cut]).grade is Grade.TRUNCATED


def test_a_cut_program_is_truncated_and_tells_its_whole_length():
    for cut in range(len(PLAIN) // 2, len(PLAIN), 5):
        verdict = judge(FORMAT, PLAIN[:cut])
        assert verdict.grade is Grade.TRUNCATED
        assert verdict.size_bytes == len(PLAIN)
        assert "cut-short" in codes(verdict)


def test_hostile_bytes_never_raise():
    rng = random.Random(3)
    for _ in range(500):
        content = bytearray(rng.choice(SAMPLES).content)
        for _ in range(rng.randrange(1, 12)):
            at = rng.randrange(min(1200, len(content) - 4))
            content[at : at + 4] = struct.pack("<I", rng.choice([0, 1, 4, 8, 255, 1 << 31, rng.getrandbits(32)]))
        assert judge(FORMAT, bytes(content)).grade
