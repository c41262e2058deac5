"""PyTorch mobile modules: read as torch writes them, and what cannot be is told."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys

import pytest

from fixtures.formats._flatbuffer_bytes import Bare, Node, ints, write_flatbuffer
from fixtures.formats.pytorch_mobile import FLOAT32, function, module, object_of, of_weights, samples, tensor, value
from signatures.pytorch_mobile import FORMAT
from signatures.verdict import Grade
from tests.signatures.zip_window import codes, ids, judge, patched, starts_in, truth

SAMPLES = list(samples(6))
PLAIN = of_weights(6, [("scale", FLOAT32, (5, 8)), ("fc.weight", FLOAT32, (5,))])
TORCH = """
import hashlib, json, sys, warnings
warnings.simplefilter("ignore")
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.ReLU(), torch.nn.Conv2d(3, 4, 3))
        self.register_buffer("steps", torch.tensor(3))
        self.turned = torch.nn.Parameter(torch.randn(3, 5).half().t())
        self.tied = self.layers[0].weight
        self.register_buffer("packed", torch.quantize_per_tensor(torch.randn(4, 6), 0.1, 3, torch.quint8))

    def forward(self, x):
        return self.layers[0](x) * 2.5 + torch.ones(5)

class Bare(torch.nn.Module):
    def forward(self, x):
        return x.abs()

torch.manual_seed(1)
made = torch.jit.script(Net() if sys.argv[2] == "weights" else Bare())
torch.jit.save_jit_module_to_flatbuffer(made, sys.argv[1], _extra_files={"a.txt": "hello"})
told = []
for name, held in made.state_dict().items():
    at, shape = held.storage_offset() * held.itemsize, list(held.shape)
    raw = held.int_repr().numpy().tobytes() if held.is_quantized else bytes(held.untyped_storage())[at:][:held.nbytes]
    told.append([name, str(held.dtype).removeprefix("torch."), shape, hashlib.sha256(raw).hexdigest()])
print(json.dumps(told))
"""


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_kind_of_module_is_judged_exactly(sample):
    verdict = judge(FORMAT, sample.content + bytes(300))
    assert (verdict.grade, verdict.findings) == (Grade.CONSISTENT, ())
    assert verdict.size_bytes == len(sample.content)
    assert truth(verdict) == sorted(sample.tensors)


@pytest.mark.parametrize("kind", ["weights", "none"])
def test_what_torch_writes_is_read_tensor_by_tensor(tmp_path, kind):
    pytest.importorskip("torch")
    path, script = tmp_path / "net.ptl", tmp_path / "write.py"  # torch reads the source of what it compiles
    script.write_text(TORCH)
    ran = subprocess.run([sys.executable, script, path, kind], check=False, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    raw = path.read_bytes()
    verdict = judge(FORMAT, raw + bytes(64))
    assert (verdict.grade, verdict.size_bytes, verdict.findings) == (Grade.CONSISTENT, len(raw), ())
    assert verdict.facts["extra_files"] == ["a.txt"]
    assert starts_in(FORMAT, bytes(512) + raw) == {512}
    assert sorted(_told(raw, one) for one in verdict.tensors) == sorted(json.loads(ran.stdout))


def _told(raw: bytes, one: object) -> list[object]:
    (place,) = one.layout  # type: ignore[attr-defined]
    held = raw[place.offset_bytes : place.end_bytes]
    return [one.name, one.dtype, list(one.shape), hashlib.sha256(held).hexdigest()]  # type: ignore[attr-defined]


def test_facts_tell_the_class_and_its_methods():
    facts = judge(FORMAT, PLAIN).facts
    assert (facts["class"], facts["methods"]) == ("__torch__.Net", ["__torch__.Net.forward"])
    assert (facts["bytecode_version"], facts["operators"], facts["extra_files"]) == (9, 1, ["notes.txt"])


def with_tensor(*, storage=0, first=0, shape=(4,), strides=None, kind=FLOAT32, raw=bytes(16), **more):
    held = [value(0, None), function("f"), value(5, tensor(kind, shape, storage, first=first, strides=strides))]
    return module([*held, object_of(0, [2])], [("Net", ["w"])], [raw], state=3, **more)


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("tensor-storage", with_tensor(storage=1)),
        ("tensor-storage", with_tensor(shape=(5,))),
        ("tensor-storage", with_tensor(first=1)),
        ("tensor-storage", with_tensor(shape=(2, 2), strides=(3, 1))),
        ("tensor-storage", with_tensor(shape=(2, 2), strides=(2,))),
        ("tensor-storage", with_tensor(shape=(-4,))),
        ("storage-count", with_tensor(count=2)),
        ("value-index", module([value(0, None)] * 2 + [object_of(0, [])], [("Net", [])], [], state=2)),
        ("attributes", module([value(0, None), function("f"), object_of(0, [0])], [("Net", ["a", "b"])], [], state=2)),
    ],
)
def test_what_does_not_fit_is_told(code, content):
    verdict = judge(FORMAT, content)
    assert verdict.grade is Grade.DAMAGED
    assert code in codes(verdict)


def test_a_tensor_with_gaps_and_an_empty_one_are_where_they_are():
    verdict = judge(FORMAT, with_tensor(shape=(2, 2), strides=(2, 1)))
    assert (verdict.grade, verdict.tensors[0].size_bytes) == (Grade.CONSISTENT, 16)
    verdict = judge(FORMAT, with_tensor(shape=(0, 9)))
    assert (verdict.grade, verdict.tensors[0].layout) == (Grade.CONSISTENT, ())


def test_types_and_values_that_are_not_known_leave_it_undecided():
    verdict = judge(FORMAT, with_tensor(kind=99))
    assert (verdict.grade, codes(verdict)) == (Grade.UNDECIDED, {"unknown-dtype"})
    later = [value(0, None), function("f"), value(99, Node(("x",))), object_of(0, [])]
    verdict = judge(FORMAT, module(later, [("Net", [])], [], state=3))
    assert (verdict.grade, codes(verdict)) == (Grade.UNDECIDED, {"unknown-value"})


def test_an_object_that_holds_itself_ends_the_walk():
    held = [value(0, None), function("f"), value(5, tensor(FLOAT32, (4,), 0)), object_of(0, [3, 2])]
    verdict = judge(FORMAT, module(held, [("Net", ["me", "w"])], [bytes(16)], state=3))
    assert (verdict.grade, [one.name for one in verdict.tensors]) == (Grade.CONSISTENT, ["w"])


def test_lists_are_numbered_and_what_no_attribute_holds_is_called_by_its_place():
    one = value(5, tensor(FLOAT32, (2,), 0))
    held = [value(0, None), function("f"), one, one, value(7, Node((ints((2,), "I"), "Tensor"))), object_of(0, [4])]
    verdict = judge(FORMAT, module(held, [("Net", ["parts"])], [bytes(8)], state=5))
    assert [one.name for one in verdict.tensors] == ["parts.0", "value_3"]


def test_a_module_that_is_cut_is_truncated_and_longer_than_what_is_there():
    for kept in (*range(len(PLAIN) // 2, len(PLAIN) - 16, 40), len(PLAIN) - 1):
        verdict = judge(FORMAT, PLAIN[:kept])
        assert (verdict.grade, "cut-short" in codes(verdict)) == (Grade.TRUNCATED, True)
        assert verdict.size_bytes > kept


def test_the_letters_alone_are_no_start():
    assert starts_in(FORMAT, bytes(512) + PLAIN) == {512}
    assert starts_in(FORMAT, b"\x34\0\0\0PTMF" + bytes(500)) == set()
    other = write_flatbuffer(Node((None, None, None, None, [value(2, Bare(b"\1"))])), b"PTMF")
    assert starts_in(FORMAT, other) == set()
    assert judge(FORMAT, other).findings[0].code == "root-table"
    assert judge(FORMAT, b"\x34\0\0\0TFL3" + bytes(500)).findings[0].code == "magic"
    few = module([value(2, Bare(b"\1"))], [], [], state=0)
    assert judge(FORMAT, patched(few, few.index(b"\1", 100), b"\1")).grade in (Grade.REJECTED, Grade.DAMAGED)


def test_changed_bytes_break_nothing_and_random_ones_are_no_module():
    rng = random.Random(5)
    for _ in range(300):
        made = bytearray(PLAIN)
        for _ in range(4):
            made[rng.randrange(len(made))] = rng.randrange(256)
        verdict = judge(FORMAT, bytes(made))
        assert all(place.end_bytes <= len(made) + (1 << 31) for one in verdict.tensors for place in one.layout)
    assert judge(FORMAT, PLAIN[:64] + rng.randbytes(2000)).grade in (Grade.REJECTED, Grade.TRUNCATED, Grade.DAMAGED)
