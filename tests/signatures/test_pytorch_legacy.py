"""Legacy PyTorch files: exact ends, numbers of elements told twice, nothing ever unpickled."""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
import random
import struct
import subprocess
import sys

import numpy as np
import pytest

from fixtures.formats.pytorch_legacy import Spec, assemble, front, layer, number, samples, state_dict, text, truth
from signatures import _pickle_span
from signatures.pytorch_legacy import FORMAT
from signatures.verdict import Grade
from tests.signatures.zip_window import codes, ids, judge, patched, starts_in
from tests.signatures.zip_window import truth as found

SAMPLES = list(samples(6))
BY_NAME = {sample.name: sample for sample in SAMPLES}
KEYS = sorted({spec.key for spec in layer()})


def whole(specs=None, **options) -> bytes:
    return assemble(np.random.default_rng(4), layer() if specs is None else specs, **options)


def keys_at(content: bytes) -> int:
    return content.index(pickle.dumps(KEYS, protocol=2))


def numel_at(content: bytes, index: int) -> int:
    """Where the number of elements before the storage is."""
    at = keys_at(content) + len(pickle.dumps(KEYS, protocol=2))
    sizes = {"5": 160, "777": 8, "94001": 432, "94200": 48}
    return at + sum(8 + sizes[key] for key in KEYS[:index])


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_kind_of_file_is_judged_exactly(sample):
    verdict = judge(FORMAT, sample.content + random.Random(1).randbytes(300))
    assert (verdict.grade, verdict.size_bytes) == (sample.grade, len(sample.content)), verdict.findings
    assert found(verdict) == sorted(sample.tensors)
    assert not verdict.findings


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_the_patterns_find_the_start_whatever_the_protocol(sample):
    assert starts_in(FORMAT, bytes(100) + sample.content) == {100}


READER = """
import json, sys, torch
def named(thing, path):
    if isinstance(thing, torch.Tensor):
        yield [".".join(path), str(thing.dtype)[6:], list(thing.shape), thing.flatten().numpy().tobytes().hex()]
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield from named(value, (*path, str(key)))
print(json.dumps([list(named(torch.load(path, weights_only=True), ())) for path in sys.argv[1:]]))
"""


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch_sees_the_same_tensors_with_the_same_bytes(tmp_path):
    names = ["state-dict", "python-2", "empty-tensor", "protocol-3", "torch-state-dict", "torch-checkpoint"]
    for name in names:
        (tmp_path / name).write_bytes(BY_NAME[name].content)
    paths = [str(tmp_path / name) for name in names]
    told = subprocess.run([sys.executable, "-c", READER, *paths], capture_output=True, timeout=120, check=True)
    for name, theirs in zip(names, json.loads(told.stdout), strict=True):
        content = BY_NAME[name].content
        ours = []
        for tensor in judge(FORMAT, content).tensors:
            data = b"".join(content[extent.offset_bytes : extent.end_bytes] for extent in tensor.layout)
            ours.append([tensor.name, tensor.dtype, list(tensor.shape), data.hex()])
        assert sorted(ours) == sorted(theirs)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_a_whole_module_names_its_class_and_what_loading_would_import():
    import torch

    held = io.BytesIO()
    torch.save(torch.nn.Linear(4, 3), held, _use_new_zipfile_serialization=False)
    verdict = judge(FORMAT, held.getvalue())
    assert (verdict.grade, verdict.size_bytes) == (Grade.CONSISTENT, len(held.getvalue()))
    assert found(verdict) == [("bias", "float32", (3,)), ("weight", "float32", (3, 4))]
    assert codes(verdict) == {"unsafe-global"}
    assert "torch.nn.modules.linear.Linear" in verdict.facts["unsafe_globals"]
    assert any(name.endswith("linear.py") for name in verdict.facts["source_files"])


def test_facts_tell_the_protocol_and_the_storages():
    facts = judge(FORMAT, BY_NAME["protocol-4"].content).facts
    assert (facts["pickle_protocol"], facts["byteorder"], facts["storages"]) == (4, "little", 4)
    assert facts["object"] == "collections.OrderedDict"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\x80\x02K\x05." + bytes(100), "magic"),
        (b"\x80\x09" + whole()[2:], "magic"),
        (whole()[2:], "magic"),
        (front()[:15] + bytes(100), "protocol-version"),
        (front()[:15] + pickle.dumps(1002, protocol=2) + bytes(100), "protocol-version"),
        (front()[:15] + pickle.dumps(1001, protocol=2) + bytes(100), "sys-info"),
        (front()[:15] + pickle.dumps(1001, protocol=2) + pickle.dumps({"a": 1}, protocol=2), "sys-info"),
        (front()[:40], "sys-info"),
    ],
)
def test_what_no_such_file_has_is_rejected_with_its_reason(content, code):
    verdict = judge(FORMAT, content)
    assert (verdict.grade, codes(verdict)) == (Grade.REJECTED, {code})


def test_a_cut_file_keeps_the_tensors_before_the_cut():
    content = whole()
    verdict = judge(FORMAT, content[: numel_at(content, 2) + 20])
    assert (verdict.grade, verdict.size_bytes, codes(verdict)) == (Grade.TRUNCATED, len(content), {"cut-short"})
    grades = {tensor.name: tensor.grade for tensor in verdict.tensors}
    assert grades == {
        "fc.weight": "TRUNCATED",
        "fc.bias": "TRUNCATED",
        "rnn.first": "CONSISTENT",
        "rnn.second": "CONSISTENT",
        "steps": "CONSISTENT",
    }


def test_a_cut_in_the_objects_pickle_keeps_the_names_that_were_read():
    content = whole()
    verdict = judge(FORMAT, content[: content.index(b"rnn.second")])
    assert (verdict.grade, codes(verdict)) == (Grade.TRUNCATED, {"pickle-cut"})
    assert all(not tensor.layout and tensor.grade == "TRUNCATED" for tensor in verdict.tensors)


def test_an_objects_pickle_that_breaks_is_damaged():
    content = whole()
    for new in (b"\xff" * 8, b"uuuuuuuu"):  # no opcodes; a stack without a mark
        verdict = judge(FORMAT, patched(content, content.index(b"rnn.second") - 5, new))
        assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"pickle-broken"})


def test_a_pickle_that_is_longer_than_is_read_leaves_the_verdict_open(monkeypatch):
    monkeypatch.setattr(_pickle_span, "FIRST_BYTES", 300)
    monkeypatch.setattr(_pickle_span, "MAX_PICKLE_BYTES", 300)
    verdict = judge(FORMAT, whole())
    assert (verdict.grade, codes(verdict)) == (Grade.UNDECIDED, {"pickle-length"})


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_list_of_keys_that_is_lost_is_foretold(protocol):
    content = whole(protocol=protocol)
    at = content.index(pickle.dumps(KEYS, protocol=protocol))
    verdict = judge(FORMAT, patched(content, at + 2, b"\xff\xff"))
    assert (verdict.grade, verdict.size_bytes, codes(verdict)) == (Grade.DAMAGED, len(content), {"keys-broken"})
    assert all(tensor.grade == "CONSISTENT" for tensor in verdict.tensors)
    verdict = judge(FORMAT, content[: at + 10])
    assert (verdict.grade, verdict.size_bytes) == (Grade.TRUNCATED, len(content))


def test_a_key_that_was_changed_is_put_right():
    content = whole()
    verdict = judge(FORMAT, patched(content, content.index(b"94001", keys_at(content)), b"9X"))
    assert (verdict.grade, verdict.size_bytes, codes(verdict)) == (Grade.DAMAGED, len(content), {"keys-mismatch"})


def test_a_number_of_elements_that_disagrees_costs_its_tensors_only():
    content = whole()
    verdict = judge(FORMAT, patched(content, numel_at(content, 0), b"\x41"))
    assert (verdict.grade, verdict.size_bytes, codes(verdict)) == (Grade.DAMAGED, len(content), {"numel-mismatch"})
    assert {tensor.name for tensor in verdict.tensors if tensor.grade == "DAMAGED"} == {"rnn.first", "rnn.second"}


def test_a_storage_of_a_type_that_is_not_known_leaves_the_verdict_open():
    content = whole().replace(b"ctorch\nLongStorage", b"ctorch\nFineStorage")
    verdict = judge(FORMAT, content)
    assert (verdict.grade, codes(verdict)) == (Grade.UNDECIDED, {"storage-unknown"})
    assert next(tensor for tensor in verdict.tensors if tensor.name == "rnn.first").layout


def test_a_key_without_an_object_leaves_the_rest_open():
    content = front() + state_dict(()) + pickle.dumps(["1"], protocol=2) + struct.pack("<q", 1) + bytes(4)
    verdict = judge(FORMAT, content)
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"keys-mismatch", "storage-unknown"})


def test_a_tensor_longer_than_its_storage_is_told():
    specs = (Spec(name="long", key="1", shape=(100,), numel=10), Spec(name="fit", key="2", shape=(3,), numel=3))
    verdict = judge(FORMAT, whole(specs))
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"tensor-past-storage"})
    assert [tensor.grade for tensor in verdict.tensors] == ["DAMAGED", "CONSISTENT"]


def test_a_storage_that_no_tensor_uses_is_counted():
    spec = Spec(name="", key="zz", storage="ShortStorage", numel=6)
    bare = text("bare") + b"(" + text("storage") + b"ctorch\nShortStorage\n" + text("zz") + text("cpu")
    more = bare + number(spec.numel) + b"NtQ"
    content = front() + state_dict((), more=more) + pickle.dumps(["zz"], protocol=2) + struct.pack("<q", 6) + bytes(12)
    verdict = judge(FORMAT, content + b"\1" * 50)
    assert (verdict.grade, verdict.size_bytes) == (Grade.CONSISTENT, len(content))


class Dangerous:
    def __reduce__(self):
        return (exec, ("raise SystemExit('it was loaded')",))


def test_what_loading_would_import_is_told_and_never_imported():
    content = front() + pickle.dumps({"x": Dangerous()}, protocol=2) + pickle.dumps([], protocol=2)
    verdict = judge(FORMAT, content)
    assert (verdict.grade, codes(verdict)) == (Grade.CONSISTENT, {"unsafe-global"})
    assert verdict.facts["unsafe_globals"] == ["__builtin__.exec"]


def test_copies_of_the_magic_inside_software_are_rejected():
    magic = front()[:15]
    for filler in (bytes(300), b"." * 300, random.Random(3).randbytes(300), magic * 10):
        assert judge(FORMAT, magic + filler).grade is Grade.REJECTED


def test_hostile_bytes_raise_nothing():
    rng = random.Random(8)
    for sample in SAMPLES:
        for _ in range(120):
            changed = bytearray(sample.content[: rng.randrange(40, 3000)])
            for _ in range(rng.randrange(1, 6)):
                changed[rng.randrange(15, len(changed))] = rng.choice(b"\xff\0().tRQ\x85\x86\x87q" + rng.randbytes(4))
            assert judge(FORMAT, bytes(changed)).grade in Grade


def test_the_truth_of_the_builder_is_not_read_from_its_bytes():
    assert found(judge(FORMAT, whole())) == sorted(truth(layer()))
