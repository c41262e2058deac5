"""Training steps: how far a checkpoint says that training was. By the keys of a pickle, and by tensors that count.

Source of the names: torch.optim (`state.0.step`), Lightning (`global_step`), fairseq (`optimizer_history`), mmengine
(`meta.iter`), DeepSpeed (`global_steps`), Megatron (`iteration`), nanoGPT (`iter_num`), Keras
(`optimizer/vars/0`, `…/iterations:0`), TensorFlow (`global_step`, `save_counter`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from imaging.window import Window
from signatures._pickle import Node, each_pair
from signatures.tensors import Tensor
from signatures.verdict import Grade

MAX_COUNT = 1 << 53
MAX_PAIRS = 1000  # of one dict that are looked at
COUNTERS: Final = (  # the finest first
    *("global_step", "global_steps", "step", "current_step", "train_step", "num_steps", "iteration", "iterations"),
    *("iter", "n_iter", "iter_num", "num_updates", "save_counter", "epoch"),
)
NESTED: Final = ("meta", "extra_state", "train_state", "training_state", "trainer_state", "state", "progress")
OPTIMIZERS: Final = (
    *("optimizer", "optimizer_state_dict", "optimizer_states", "optimizers", "optim", "optim_state_dict", "opt"),
    *("last_optimizer_state", "base_optimizer_state"),
)
COUNTING_DTYPES: Final = {"int32": "<i4", "int64": "<i8", "uint64": "<u8", "float32": "<f4", "float64": "<f8"}
OF_TENSORFLOW: Final = "/.ATTRIBUTES/VARIABLE_VALUE"
COUNTING: Final = re.compile(  # tensors of one element
    r"(?:.*[./])?state[./][0-9]+[./]step|(?:.*[./])?(?:global_step|save_counter|optimizer[./](?:iter|_iterations|vars/0))"
    r"|optimizer_weights/(?:.*/)?(?:iter|iteration|iterations)|step|iteration|epoch"
)


def pickled_counters(value: object) -> dict[str, int]:
    """Return the steps and epochs that a pickled checkpoint tells as whole numbers, by their paths, finest first."""
    found = dict(_below(value, ""))
    for name, inner in _pairs(value):
        if name in NESTED:
            found |= dict(_below(inner, f"{name}."))
        elif name == "optimizer_history" and isinstance(inner, Node) and inner.items:
            found |= dict(_below(inner.items[-1], f"{name}."))
        elif name in OPTIMIZERS:
            found |= _of_optimizer(inner, f"{name}.")
    return in_order(found | _of_optimizer(value, ""))


def in_order(counters: Mapping[str, int]) -> dict[str, int]:
    """Return counters with the finest first: what comes first tells the step."""
    return dict(sorted(counters.items(), key=lambda pair: _rank(pair[0])))


def _rank(path: str) -> tuple[bool, int, int]:
    """An optimizer counts its own steps, which begin anew where it does: before epochs, behind all other steps."""
    last = re.split(r"[./]", path)[-1]
    place = COUNTERS.index(last) if last in COUNTERS else 0
    return last in ("save_counter", "epoch"), path.count(".") + path.count("/"), place


def _below(value: object, prefix: str) -> Iterator[tuple[str, int]]:
    for name, count in _pairs(value):
        if name in COUNTERS and type(count) is int and 0 <= count < MAX_COUNT:
            yield prefix + name, count


def _pairs(value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Node):
        for number, (name, inner) in enumerate(each_pair(value)):
            if number >= MAX_PAIRS:
                return
            if isinstance(name, str):
                yield name, inner


def _of_optimizer(value: object, prefix: str) -> dict[str, int]:
    """Return the step of the first parameter that an optimizer has, where it is a plain number (torch before 1.12)."""
    if isinstance(value, Node) and value.kind == "list" and value.items:
        value, prefix = (
            value.items[0],
            f"{prefix}0.",
        )  # Lightning has several; only one level: lists can hold themselves
    state = dict(_pairs(value)).get("state")
    if isinstance(state, Node):
        for number, (index, one) in enumerate(each_pair(state)):
            told = dict(_pairs(one)).get("step")
            if type(told) is int and 0 <= told < MAX_COUNT:
                return {f"{prefix}state.{index}.step": told}
            if number >= MAX_PAIRS:
                break
    return {}


def tensor_counters(window: Window, tensors: Iterable[Tensor], *, big_endian: bool = False) -> dict[str, int]:
    """Return the steps and epochs that tensors of one element tell, the finest first; of an optimizer's only one.

    Args:
        window: the file.
        tensors: with their places in it.
        big_endian: how its numbers are stored.

    Raises:
        ReadFault: from the window.
    """
    found: dict[str, int] = {}
    for tensor in tensors:
        if math.prod(tensor.shape) != 1 or tensor.dtype not in COUNTING_DTYPES:
            continue
        name = tensor.name.removesuffix(OF_TENSORFLOW).removesuffix(":0")
        kind = re.sub(r"[0-9]+", "", name)
        if COUNTING.fullmatch(name) is None or any(re.sub(r"[0-9]+", "", other) == kind for other in found):
            continue
        told = _count(window, tensor, big_endian=big_endian)
        if told is not None:
            found[name] = told
    return in_order(found)


def _count(window: Window, tensor: Tensor, *, big_endian: bool) -> int | None:
    dtype = np.dtype(COUNTING_DTYPES[tensor.dtype]).newbyteorder(">" if big_endian else "<")
    if len(tensor.layout) != 1 or tensor.size_bytes != dtype.itemsize:
        return None
    if tensor.grade not in (Grade.INTACT.value, Grade.CONSISTENT.value):
        return None
    at_bytes = tensor.layout[0].offset_bytes
    raw = window.read_at(at_bytes, dtype.itemsize)
    if len(raw) < dtype.itemsize or window.unread_within(at_bytes, dtype.itemsize):
        return None
    told = float(np.frombuffer(raw, dtype)[0])
    return int(told) if 0 <= told < MAX_COUNT and told.is_integer() else None
