"""Healthy tensors tell nothing: what design, training and pruning leave looks odd, and is not called lost.

Each is put behind others at several places of a file and of a drive, in every type of float.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from imaging.extent import span
from signatures.plausibility import examine
from signatures.tensors import Tensor
from tests.signatures.zip_window import window_on

Chance = np.random.Generator
WIDE = 512


def dense(chance: Chance, *shape: int) -> np.ndarray:
    return chance.standard_normal(shape).astype("f4") * np.float32(0.02)


def without(values: np.ndarray, gone: np.ndarray) -> np.ndarray:
    values[gone] = 0
    return values


def blocks(chance: Chance, rows: int, columns: int) -> np.ndarray:
    """A matrix of 512 x 1024, seven blocks of ten zero."""
    kept = chance.random((512 // rows, 1024 // columns)) > 0.7
    return dense(chance, 512, 1024) * np.kron(kept, np.ones((rows, columns), dtype="f4"))


def angles() -> np.ndarray:
    return np.arange(2048, dtype="f4")[:, None] * np.exp(np.arange(0, 256, 2, dtype="f4") * np.float32(-0.036))


def diagonal(chance: Chance) -> np.ndarray:
    whole = np.zeros((1024, 1024), dtype="f4")
    for at in range(0, 1024, 128):
        whole[at : at + 128, at : at + 128] = dense(chance, 128, 128)
    return whole


HEALTHY: dict[str, Callable[[Chance], np.ndarray]] = {
    "embeddings, half of them unused": lambda c: without(dense(c, 3003, 384), c.random(3003) < 0.5),
    "embeddings, the last ones unused": lambda c: without(dense(c, 3003, 384), np.arange(3003) > 2000),
    "embeddings padded to a round number": lambda c: np.pad(dense(c, 1000, WIDE), ((0, 24), (0, 0))),
    "a layer norm of ones": lambda c: np.ones(40_000, dtype="f4"),
    "zeros": lambda c: np.zeros((300, 768), dtype="f4"),
    "one value": lambda c: np.full((300, 768), 0.1, dtype="f4"),
    "a causal mask of infinities": lambda c: np.triu(np.full((1024, 1024), -np.inf, dtype="f4"), 1),
    "a causal mask of ones": lambda c: np.tril(np.ones((1000, 1000), dtype="f4")),
    "an identity": lambda c: np.eye(1024, dtype="f4"),
    "sines and cosines of positions": lambda c: np.concatenate([np.sin(angles()), np.cos(angles())]),
    "numbers that count up": lambda c: np.arange(60_000, dtype="f4"),
    "pruned by half": lambda c: without(dense(c, WIDE, WIDE), c.random((WIDE, WIDE)) < 0.5),
    "pruned to a hundredth": lambda c: without(dense(c, WIDE, WIDE), c.random((WIDE, WIDE)) < 0.99),
    "pruned to a thousandth": lambda c: without(dense(c, WIDE, WIDE), c.random((WIDE, WIDE)) < 0.999),
    "pruned by rows": lambda c: without(dense(c, WIDE, 1024), c.random(WIDE) < 0.4),
    "pruned by filters": lambda c: without(dense(c, 256, 64, 3, 3), c.random(256) < 0.3),
    "pruned by channels": lambda c: dense(c, 128, 256, 3, 3) * (c.random(256) > 0.3)[None, :, None, None],
    "pruned by blocks of 64": lambda c: blocks(c, 64, 64),
    "pruned by blocks of 32 by 128": lambda c: blocks(c, 32, 128),
    "blocks on a diagonal": diagonal,
    "second moments of an optimiser": lambda c: (dense(c, WIDE, WIDE) * c.random((WIDE, 1)) ** 4) ** 2,
    "a low rank part that was not trained": lambda c: np.zeros((4096, 16), dtype="f4"),
    "signs": lambda c: c.choice([-1, 1], (WIDE, WIDE)).astype("f4"),
    "three values": lambda c: c.choice([-1, 0, 1], (WIDE, WIDE)).astype("f4"),
    "rounded to 8 bits": lambda c: (c.integers(-127, 128, (WIDE, WIDE)) * 0.01).astype("f4"),
    "an image": lambda c: c.integers(0, 256, (3, 256, 256)).astype("f4"),
    "one of a thousand": lambda c: np.eye(1000, dtype="f4")[c.integers(0, 1000, 500)],
    "a cache filled by a quarter": lambda c: np.pad(dense(c, 8, 500, 64), ((0, 0), (0, 1500), (0, 0))),
    "numbers of every size": lambda c: np.exp(c.standard_normal((WIDE, WIDE)) * 6).astype("f4"),
}


def stored(values: np.ndarray, dtype: str) -> bytes:
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype == "bfloat16":
            return (values.view("<u4") >> 16).astype("<u2").tobytes()
        return values.astype(dtype).tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "complex64"])
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_tensor_tells_nothing(name, dtype):
    values = HEALTHY[name](np.random.default_rng(7))
    raw = stored(values, dtype)
    for lead, start_bytes in ((0, 0), (64, 512), (3000, 3072)):
        before = stored(dense(np.random.default_rng(8), 1000), "float32")[:lead]
        behind = stored(dense(np.random.default_rng(9), 64, 64), "float32")
        ends = lead + len(raw)
        tensors = (
            Tensor(name=name, dtype=dtype, shape=values.shape, layout=(span(lead, ends),)),
            Tensor(name="behind", dtype="float32", shape=(64, 64), layout=(span(ends, ends + len(behind)),)),
        )
        evidence = examine(window_on(before + raw + behind), tensors, start_bytes=start_bytes)
        assert not evidence.findings
        assert not evidence.lost


def test_eight_bit_floats_have_rows_too():
    cache = np.pad(np.random.default_rng(1).integers(1, 255, (8, 512, 128), dtype="u1"), ((0, 0), (0, 1536), (0, 0)))
    tensor = Tensor(name="cache", dtype="float8_e4m3fn", shape=cache.shape, layout=(span(0, cache.size),))
    assert not examine(window_on(cache.tobytes()), [tensor]).findings


def test_lost_sectors_are_seen_though_many_lie_at_the_same_columns():
    """A drive that loses 4 KiB here and there in rows of 8 KiB hits the same columns often, but not row after row."""
    values = dense(np.random.default_rng(2), 512, 2048)
    raw = bytearray(values.tobytes())
    for row in range(3, 500, 20):
        raw[row * 8192 + 2048 : row * 8192 + 2048 + 4096] = bytes(4096)
    tensor = Tensor(name="w", dtype="float32", shape=values.shape, layout=(span(0, len(raw)),))
    assert len(list(examine(window_on(bytes(raw)), [tensor]).lost)) == 25
