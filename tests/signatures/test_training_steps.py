"""Training steps: what pickles and tensors tell of them, and nothing else that looks alike."""

from __future__ import annotations

import io
import struct

import pytest

from fixtures.formats.tf_checkpoint_data import MODEL, build
from imaging.extent import ExtentSet, span
from signatures import hdf5, pytorch_legacy, pytorch_zip, tf_checkpoint_data
from signatures._pickle import Node
from signatures._training_steps import in_order, pickled_counters, tensor_counters
from signatures.tensors import Tensor
from tests.signatures.zip_window import judge, window_on


def a_dict(**pairs: object) -> Node:
    return Node("dict", pairs=list(pairs.items()))


@pytest.mark.parametrize(
    ("value", "counted"),
    [
        (a_dict(epoch=3, global_step=640), {"global_step": 640, "epoch": 3}),
        (a_dict(step=True, iter="5", epoch=-1, other=7), {}),
        (a_dict(step=1 << 60), {}),
        (a_dict(iter_num=4000, best_val_loss=2), {"iter_num": 4000}),
        (Node("dict", pairs=[(("step",), 5)]), {}),
        (a_dict(meta=a_dict(epoch=2, iter=900)), {"meta.iter": 900, "meta.epoch": 2}),
        (
            a_dict(optimizer_history=Node("list", items=[a_dict(num_updates=1), a_dict(num_updates=50)])),
            {"optimizer_history.num_updates": 50},
        ),
        (
            a_dict(epoch=1, optimizer=a_dict(state=Node("dict", pairs=[(0, a_dict(step=77)), (1, a_dict(step=77))]))),
            {"optimizer.state.0.step": 77, "epoch": 1},
        ),
        (
            a_dict(optimizer_states=Node("list", items=[a_dict(state=Node("dict", pairs=[(4, a_dict(step=9))]))])),
            {"optimizer_states.0.state.4.step": 9},
        ),
        (a_dict(state=Node("dict", pairs=[(0, a_dict(step=5))]), param_groups=Node("list")), {"state.0.step": 5}),
        (a_dict(optimizer=5, meta=[], optimizer_history=Node("list")), {}),
        (5, {}),
    ],
)
def test_a_pickled_checkpoint_tells_how_far_training_was(value, counted):
    told = pickled_counters(value)
    assert (told, list(told)) == (counted, list(counted))


def test_a_list_that_holds_itself_ends():
    itself = Node("list")
    itself.items.append(itself)
    assert pickled_counters(a_dict(optimizer_states=itself)) == {}
    other = Node("list", items=[itself])
    itself.items[0] = other
    assert pickled_counters(a_dict(optimizer_states=itself, optimizer=other)) == {}


def test_steps_come_before_an_optimizers_own_and_epochs_come_last():
    told = {"epoch": 1, "optimizer.state.0.step": 2, "save_counter": 3, "global_step": 4}
    assert list(in_order(told)) == ["global_step", "optimizer.state.0.step", "save_counter", "epoch"]


def one(name: str, dtype: str, raw: bytes, shape: tuple[int, ...] = (), grade: str = "CONSISTENT") -> Tensor:
    return Tensor(name=name, dtype=dtype, shape=shape, layout=(span(8, 8 + len(raw)),), grade=grade)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *(("state.0.step", "state.0.step"), ("optimizer.state.3.step", "optimizer.state.3.step")),
        *(("optimizer/vars/0", "optimizer/vars/0"), ("global_step", "global_step")),
        ("optimizer_weights/training/Adam/iter:0", "optimizer_weights/training/Adam/iter"),
        ("optimizer/iter/.ATTRIBUTES/VARIABLE_VALUE", "optimizer/iter"),
        ("save_counter/.ATTRIBUTES/VARIABLE_VALUE", "save_counter"),
        *(("layers.0.step", None), ("vars/0", None), ("step.weight", None), ("logit_scale", None)),
    ],
)
def test_a_tensor_of_one_element_tells_a_step_by_its_name(name, told):
    raw = struct.pack("<q", 1234)
    found = tensor_counters(window_on(bytes(8) + raw), [one(name, "int64", raw)])
    assert found == ({told: 1234} if told else {})


@pytest.mark.parametrize(
    ("tensor", "raw"),
    [
        (one("step", "int64", bytes(8), shape=(2,)), struct.pack("<q", 5)),
        (one("step", "int8", bytes(1)), b"\5"),
        (one("step", "float32", bytes(4)), struct.pack("<f", 0.5)),
        (one("step", "float32", bytes(4)), struct.pack("<f", float("nan"))),
        (one("step", "int64", bytes(8)), struct.pack("<q", -5)),
        (one("step", "int64", bytes(8)), struct.pack("<q", 1 << 60)),
        (one("step", "int64", bytes(8), grade="DAMAGED"), struct.pack("<q", 5)),
        (one("step", "int64", bytes(4)), struct.pack("<q", 5)),
        (one("step", "int64", bytes(8)), b"\5"),
    ],
)
def test_what_is_no_whole_number_of_steps_is_none(tensor, raw):
    assert tensor_counters(window_on(bytes(8) + raw), [tensor]) == {}


def test_a_step_that_was_never_read_is_none():
    raw = struct.pack("<q", 5)
    window = window_on(bytes(8) + raw, unread=ExtentSet((span(0, 512),)))
    assert tensor_counters(window, [one("step", "int64", raw)]) == {}


def test_of_an_optimizers_thousand_equal_steps_one_is_read():
    raw = struct.pack(">f", 640)
    tensors = [one(f"state.{n}.step", "float32", raw) for n in range(1000)]
    assert tensor_counters(window_on(bytes(8) + raw), tensors, big_endian=True) == {"state.0.step": 640}


@pytest.mark.parametrize("zipped", [True, False])
def test_an_optimizer_that_torch_saved_tells_its_step(zipped):
    torch = pytest.importorskip("torch")
    weights = torch.nn.Linear(4, 3)
    optimizer = torch.optim.Adam(weights.parameters())
    for _ in range(3):
        weights(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    held = io.BytesIO()
    state = {"model": weights.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, held, _use_new_zipfile_serialization=zipped)
    verdict = judge(pytorch_zip.FORMAT if zipped else pytorch_legacy.FORMAT, held.getvalue())
    assert verdict.facts["counters"] == {"optimizer.state.0.step": 3}


def test_a_tensorflow_checkpoint_tells_its_global_step():
    told = {"global_step": struct.pack("<q", 640), MODEL[-1][0]: struct.pack("<q", 7)}
    (data,), index = build(3, [*MODEL, ("global_step", 9, ())], contents=told)
    facts = judge(tf_checkpoint_data.FORMAT, data + index).facts
    assert facts["counters"] == {"global_step": 640, "save_counter": 7}


@pytest.mark.parametrize("name", ["optimizer/vars/0", "optimizer_weights/Adam/iter:0"])
def test_the_weights_that_keras_saved_with_their_optimizer_tell_its_step(name):
    h5py = pytest.importorskip("h5py")
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        file.create_dataset("layers/dense/vars/0", data=[[1.0, 2.0]])
        file.create_dataset(name, data=4200, dtype="<i8")
    assert judge(hdf5.FORMAT, held.getvalue()).facts["counters"] == {name.removesuffix(":0"): 4200}
