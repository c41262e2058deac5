"""NumPy arrays: exact lengths of every dtype, order and version; objects by their opcodes; nothing evaluated."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import numpy as np
import pytest

from fixtures.formats.numpy_array import by_hand, samples, saved
from signatures import _pickle_span
from signatures._literal import read_literal
from signatures.numpy_array import FORMAT
from signatures.verdict import Grade
from tests.signatures.zip_window import codes, ids, judge, patched, truth

SAMPLES = list(samples(5))
BY_NAME = {sample.name: sample for sample in SAMPLES}
WORDS = "{'descr': %s, 'fortran_order': False, 'shape': %s, }"


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_kind_of_array_is_judged_exactly(sample):
    verdict = judge(FORMAT, sample.content + bytes([7]) * 200)
    assert (verdict.grade, verdict.size_bytes) == (sample.grade, len(sample.content)), verdict.findings
    assert truth(verdict) == sorted(sample.tensors)
    assert codes(verdict) == ({"object-array"} if "object" in sample.name else set())


READER = """
import json, sys
import numpy as np
told = []
for path in sys.argv[1:]:
    array = np.load(path, allow_pickle=False)
    dtype = "record" if array.dtype.names else array.dtype.name
    told.append([dtype, list(array.shape), array.tobytes("F" if array.flags.f_contiguous else "C").hex()])
print(json.dumps(told))
"""


def test_numpy_sees_the_same_dtypes_shapes_and_bytes(tmp_path):
    plain = [sample for sample in SAMPLES if "object" not in sample.name]
    paths = [tmp_path / f"{sample.name}.npy" for sample in plain]
    for path, sample in zip(paths, plain, strict=True):
        path.write_bytes(sample.content)
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READER, *map(str, paths)], capture_output=True, timeout=60, check=True
    )
    ours = []
    for sample in plain:
        tensor = judge(FORMAT, sample.content).tensors[0]
        data = b"".join(sample.content[e.offset_bytes : e.end_bytes] for e in tensor.layout)
        ours.append([tensor.dtype, list(tensor.shape), data.hex()])
    assert ours == json.loads(told.stdout)


def test_facts_tell_the_order_and_the_version():
    facts = judge(FORMAT, BY_NAME["fortran"].content).facts
    assert (facts["fortran_order"], facts["version"]) == (True, 1)
    assert judge(FORMAT, BY_NAME["version-3"].content).facts["version"] == 3


def test_a_cut_array_is_truncated_at_the_length_it_had():
    content = BY_NAME["large"].content
    verdict = judge(FORMAT, content[:5000])
    assert (verdict.grade, verdict.size_bytes, codes(verdict)) == (Grade.TRUNCATED, len(content), {"cut-short"})


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\x93NUMPX\x01\x00" + bytes(200), "magic"),
        (b"\x93NUMPY\x01\x00v\x00" + b"\x00" * 200, "header"),
        (b"\x93NUMPY\x04\x00v\x00" + BY_NAME["float32"].content[10:], "header"),
        (BY_NAME["float32"].content[:100], "header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(20000), "header"),
        (by_hand(WORDS % ("'<f4'", "(-3,)"), bytes(100)), "header"),
        (by_hand(WORDS % ("'<f4'", "(3)"), bytes(100)), "header"),
        (by_hand(WORDS % ("'<f4'", "(True,)"), bytes(100)), "header"),
        (by_hand(WORDS % ("'<f4'", "3"), bytes(100)), "header"),
        (by_hand(WORDS % ("'" + "f" * 80 + "'", "(3,)"), bytes(100)), "header"),
        (by_hand(WORDS % ("None", "(3,)"), bytes(100)), "header"),
        (patched(BY_NAME["unicode-records"].content, 26, b"\xff"), "header"),  # no UTF-8
        (by_hand("{'descr': '<f4', 'shape': (3,)}", bytes(100)), "header"),
        (by_hand("{'descr': '<f4', 'fortran_order': 0, 'shape': (3,)}", bytes(100)), "header"),
        (by_hand("{'descr': open('x'), 'fortran_order': False, 'shape': (3,)}", bytes(100)), "header"),
        (by_hand(WORDS % ("'V999999999'", "(1000000000, 1000000000)"), bytes(100)), "size"),
        (by_hand(WORDS % ("'<y999999'", "(1000000000, 1000000000)"), bytes(100)), "size"),
    ],
)
def test_what_no_array_has_is_rejected_with_its_reason(content, code):
    verdict = judge(FORMAT, content)
    assert (verdict.grade, codes(verdict)) == (Grade.REJECTED, {code})


@pytest.mark.parametrize(
    ("descr", "size_bytes"),
    [
        ("'<y9'", 27),
        ("'?!'", 0),
        ("[('a', '<y9')]", 0),
        ("[('a',)]", 0),
        ("[('a', '<f4'), ('a', '<f4')]", 0),
        ("[(3, '<f4')]", 0),
        ("[3]", 0),
        ("[('a', None)]", 0),
    ],
)
def test_an_unknown_dtype_leaves_the_verdict_open(descr, size_bytes):
    content = by_hand(WORDS % (descr, "(3,)"), bytes(100))
    verdict = judge(FORMAT, content)
    assert (verdict.grade, codes(verdict)) == (Grade.UNDECIDED, {"unknown-dtype"})
    assert verdict.size_bytes == len(content) - 100 + size_bytes


def test_an_array_of_objects_that_is_cut_is_truncated():
    content = BY_NAME["objects"].content
    verdict = judge(FORMAT, content[:-20])
    assert (verdict.grade, codes(verdict)) == (Grade.TRUNCATED, {"object-array", "pickle-cut"})


def test_an_array_of_objects_that_breaks_is_damaged():
    content = BY_NAME["objects"].content
    start = judge(FORMAT, content).tensors[0].offset_bytes
    for new in (b"\xff\xff\xff\xff", b"\x80\x02000."):  # no opcode; an empty stack
        verdict = judge(FORMAT, patched(content, start, new))
        assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"object-array", "pickle-broken"})


def test_a_pickle_that_is_longer_than_is_read_leaves_the_verdict_open(monkeypatch):
    monkeypatch.setattr(_pickle_span, "FIRST_BYTES", 64)
    assert judge(FORMAT, BY_NAME["objects"].content).grade is Grade.CONSISTENT
    monkeypatch.setattr(_pickle_span, "MAX_PICKLE_BYTES", 64)
    verdict = judge(FORMAT, BY_NAME["objects"].content)
    assert (verdict.grade, codes(verdict)) == (Grade.UNDECIDED, {"object-array", "pickle-length"})


class Dangerous:
    def __reduce__(self):
        return (exec, ("raise SystemExit('it was loaded')",))


def test_what_loading_would_import_is_told_and_never_imported():
    content = saved(np.array([Dangerous()], dtype=object))
    verdict = judge(FORMAT, content)
    assert codes(verdict) == {"object-array", "unsafe-global"}
    assert verdict.facts["unsafe_globals"] == ["builtins.exec"]


def test_copies_of_the_magic_inside_software_are_rejected():
    rng = random.Random(2)
    for filler in (bytes(300), b" " * 300, b"\n" * 300, b"(" * 300, rng.randbytes(300)):
        for major in (1, 2, 3):
            assert judge(FORMAT, b"\x93NUMPY" + bytes([major, 0]) + filler).grade is Grade.REJECTED


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'a': (1, 2L), \"b\": [u'x', None], 'c': {}}", {"a": (1, 2), "b": ["x", None], "c": {}}),
        ("()", ()),
        ("(3,)", (3,)),
        ("(3)", 3),
        ("[(('t', 'n'), '<f4', (2,))]", [(("t", "n"), "<f4", (2,))]),
        (" 'it\\'s' \n", "it\\'s"),
        ("-5", -5),
    ],
)
def test_a_literal_is_read_without_evaluation(text, value):
    assert read_literal(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "08",
        "1x",
        "1\xa0",
        "\u2003()",
        "",
        "(",
        "[1 2]",
        "{1: 2}",
        "{'a'}",
        "f()",
        "1 1",
        "(1,,)",
        ")",
        "'a",
        "[" * 99,
        "9" * 30,
        " " * (2 << 20),
    ],
)
def test_what_is_no_literal_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        read_literal(text)


def test_hostile_bytes_raise_nothing():
    rng = random.Random(8)
    for sample in SAMPLES:
        for _ in range(120):
            changed = bytearray(sample.content[: rng.randrange(20, 1500)])
            for _ in range(rng.randrange(1, 6)):
                changed[rng.randrange(6, len(changed))] = rng.choice(b"\xff\0()[]{}',09<f" + rng.randbytes(4))
            assert judge(FORMAT, bytes(changed)).grade in Grade
