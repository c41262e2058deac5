"""Random torch files: whatever nests of dicts, lists and tensors of every kind people save, told by a seed.

`python -m tests.random_torch FOLDER FIRST LAST` writes one file a seed, in a process of its own.
"""

from __future__ import annotations

import io
import random
import sys
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

PLAIN = [
    "float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64",
    "complex128",
]  # fmt: skip
NEW = [
    "complex32", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
    "float8_e8m0fnu", "float4_e2m1fn_x2",
]  # fmt: skip
KEYS: list[Callable[[int], Any]] = [
    "layer.{}".format, "слой{}".format, lambda i: i, lambda i: i + 0.5, lambda _: "", lambda _: True,
    lambda i: (1, i), lambda _: None,
]  # fmt: skip
VALUES: list[Any] = [
    3, 2.5, "text", None, True, 10**40, -1, b"raw", np.float32(1.5), np.int64(3), torch.Size([2, 3]), torch.float16,
    torch.device("cpu"), {1, 2}, frozenset([1]), complex(1, 2), Counter("aab"), slice(1, 2), bytearray(b"xy"),
    torch.strided, torch.uint4, torch.per_channel_affine,
]  # fmt: skip


def stored(chance: random.Random, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of random bits."""
    shape = [chance.choice((0, 1, 1, 2, 3, 4, 5, 7, 8, 16)) for _ in range(chance.randrange(5))]
    count = int(np.prod(shape, dtype=np.int64)) * torch.empty((), dtype=dtype).element_size()
    raw = torch.from_numpy(np.frombuffer(chance.randbytes(count), dtype=np.uint8).copy())
    raw = raw & 1 if dtype is torch.bool else raw
    return raw.view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)


def per_channel(chance: random.Random) -> torch.Tensor:
    kind = chance.choice([torch.qint8, torch.quint8])
    return torch.quantize_per_channel(torch.randn(3, 4), torch.rand(3).double() + 0.1, torch.zeros(3).long(), 0, kind)


def per_tensor(chance: random.Random) -> torch.Tensor:
    return torch.quantize_per_tensor(
        torch.randn(3, 4), 0.1, 3, chance.choice([torch.qint8, torch.quint8, torch.qint32])
    )


def noted(chance: random.Random) -> torch.Tensor:
    """A tensor with attributes, one of them a tensor."""
    tensor = stored(chance, torch.float32)
    tensor.note = "x"
    return tensor


def nested(chance: random.Random) -> torch.Tensor:
    layout = chance.choice([torch.strided, torch.jagged])
    return torch.nested.nested_tensor([torch.randn(2, 3), torch.randn(4, 3)], layout=layout)


def sparse(chance: random.Random) -> torch.Tensor:
    dense = torch.rand(4, 6) * (torch.rand(4, 6) > 0.7)
    ways = [dense.to_sparse, dense.to_sparse_csr, dense.to_sparse_csc]
    ways += [lambda: dense.to_sparse_bsr((2, 3)), lambda: dense.to_sparse_bsc((2, 3))]
    return chance.choice(ways)()


MADE: list[Callable[[random.Random], torch.Tensor]] = [
    per_tensor, noted, sparse,
    lambda _: torch.randn(3, dtype=torch.complex64).conj(),
    lambda _: torch._neg_view(torch.randn(3)),
    lambda _: torch.empty(3, 4, device="meta"),
    per_channel, nested,
]  # fmt: skip
MADE_OF_OLD = MADE[:-2]  # torch does not read the others from its old files: their sizes are in storages that follow
VIEWS: list[Callable[[torch.Tensor, random.Random], torch.Tensor]] = [
    lambda t, _: t.transpose(0, -1) if t.dim() > 1 else t,
    lambda t, _: t.unsqueeze(0).expand(3, *t.shape),
    lambda t, _: t[::2] if t.dim() else t,
    lambda t, chance: t.flatten()[chance.randrange(1 + t.numel()) :],
    lambda t, _: torch.nn.Parameter(t, requires_grad=t.is_floating_point()),
    lambda t, _: torch.nn.Buffer(t),
    lambda t, _: t,
    lambda t, _: t,
]


def tensor(chance: random.Random, pool: list[torch.Tensor], names: list[str]) -> torch.Tensor:
    """A new tensor, or one of the pool again, or a view of one."""
    if chance.random() < 0.25:
        return chance.choice(MADE_OF_OLD if names is PLAIN else MADE)(chance)
    if pool and chance.random() < 0.3:
        base = chance.choice(pool)
    else:
        base = stored(chance, getattr(torch, chance.choice(names)))
    pool.append(base)
    return chance.choice(VIEWS)(base, chance)


def value(chance: random.Random, depth: int, pool: list[torch.Tensor], names: list[str]) -> Any:
    """A tensor, a container of further values, or one of the small things that people put between."""
    kind, count = chance.random(), chance.randrange(5)
    if depth > 4 or kind < 0.5:
        return tensor(chance, pool, names)
    if kind < 0.8:
        below = [value(chance, depth + 1, pool, names) for _ in range(count)]
        pairs = [(chance.choice(KEYS)(number), part) for number, part in enumerate(below)]
        return chance.choice([dict(pairs), OrderedDict(pairs), below, tuple(below)])
    return chance.choice(VALUES)


def checkpoint(chance: random.Random) -> dict[str, Any]:
    """What Lightning saves: state of a net, of its optimiser, and how far it was."""
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Embedding(5, 2))
    make = chance.choice([torch.optim.AdamW, torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop])
    optimizer = make(net.parameters(), lr=0.1)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    return {
        "epoch": 3, "global_step": 7, "pytorch-lightning_version": "2.4", "state_dict": net.state_dict(),
        "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [scheduler.state_dict()],
        "callbacks": {"best{'mode': 'min'}": {"score": torch.tensor(0.3)}}, "hyper_parameters": {"lr": 0.1},
    }  # fmt: skip


def write(seed: int, folder: Path) -> Path:
    """Write the file of a seed: `.zip.pt` or `.legacy.pt`."""
    from torch.utils.serialization import config

    chance = random.Random(seed)
    torch.manual_seed(seed)
    legacy = chance.random() < 0.2
    names = PLAIN if legacy else PLAIN + NEW  # nor are new types read from them
    pool: list[torch.Tensor] = []
    whole: Any = {chance.choice(KEYS)(n): value(chance, 0, pool, names) for n in range(chance.randrange(1, 8))}
    if chance.random() < 0.1:
        whole = checkpoint(chance)
    elif chance.random() < 0.05:
        whole = tensor(chance, pool, names)
    config.save.storage_alignment = chance.choice([64, 64, 64, 128, 4096])
    torch.serialization.set_crc32_options(chance.random() < 0.9)
    protocol = chance.choice([2] * 8 + [3, 4, 5])
    path = folder / f"random-{seed}.{'legacy' if legacy else 'zip'}.pt"
    held: Any = io.BytesIO() if chance.random() < 0.5 else path
    torch.save(whole, held, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    if held is not path:
        path.write_bytes(held.getvalue())
    return path


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        write(number, Path(sys.argv[1]))
