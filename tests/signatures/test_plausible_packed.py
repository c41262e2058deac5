"""Quantised weights: what was encrypted in stripes is told; what a quantiser packs evenly, and tables, are not."""

import numpy as np
import pytest

from imaging.extent import span
from signatures.kernels.surveys import PACKED, PACKED_UNCLEAR, PACKED_UNIFORM, survey_packed
from signatures.plausibility import Plausibility
from signatures.tensors import Tensor

COUNT = 1 << 21
STRIPE = 1 << 16


def weights():
    return np.random.default_rng(1).standard_normal(COUNT).astype("f4").reshape(-1, 32)


def int8():
    values = weights().reshape(-1, 1024)
    return np.round(values / np.abs(values).max(axis=1, keepdims=True) * 127).astype("i1").tobytes()


def nibbles():
    values = weights()
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    steps = np.round((values - low) / (high - low) * 15).astype("u1").ravel()
    return (steps[::2] | steps[1::2] << 4).tobytes()


def q8_0():
    values = weights()
    scales = np.abs(values).max(axis=1, keepdims=True) / 127
    steps = np.round(values / scales).astype("i1").view("u1")
    return np.hstack([scales.astype("<f2").view("u1"), steps]).tobytes()


KINDS = {"int8": int8, "uint8": nibbles, "int32": nibbles, "q8_0": q8_0}


def random_bytes(size, seed=3):
    return np.random.default_rng(seed).bytes(size)


def striped(raw, first=STRIPE, every=2 * STRIPE):
    content = bytearray(raw)
    for at in range(first, len(content) - STRIPE, every):
        content[at : at + STRIPE] = random_bytes(STRIPE, at)
    return bytes(content)


def seen(dtype, raw, shape=(64, 4096), lead=100):
    tensor = Tensor(name="t", dtype=dtype, shape=shape, layout=(span(lead, lead + len(raw)),))
    looking = Plausibility([tensor])
    content = bytes(lead) + raw
    for at in range(0, len(content), 1 << 20):
        looking.take(at, content[at : at + (1 << 20)])
    return looking.conclude()


def codes(evidence):
    return {finding.code for finding in evidence.findings}


@pytest.mark.parametrize("dtype", KINDS)
def test_quantised_weights_are_told_nothing_and_stripes_of_random_bytes_in_them_are_lost(dtype):
    raw = KINDS[dtype]()
    assert codes(seen(dtype, raw)) == set()
    told = seen(dtype, striped(raw))
    assert codes(told) == {"tensor-uniform-block", "random-weights"}
    for at in range(STRIPE, len(raw) - STRIPE, 2 * STRIPE):
        stripe = span(100 + at, 100 + at + STRIPE)
        assert told.lost.within(stripe).total_bytes >= STRIPE - 2 * 4096  # the blocks at its edges are half the one
    assert told.lost.total_bytes <= len(raw) // 2


def test_one_stripe_is_too_little_to_be_certain_and_only_told():
    told = seen("q8_0", striped(q8_0(), every=1 << 30))
    assert codes(told) == {"tensor-uniform-block", "random-weights"}
    assert not told.lost


@pytest.mark.parametrize(
    ("dtype", "shape", "raw"),
    [
        ("int8", (64, 4096), random_bytes(COUNT)),  # of an even distribution, throughout
        ("uint8", (COUNT // 2,), striped(nibbles())),  # an array of bytes may hold a file
        ("int32", (64, 4096), np.arange(COUNT // 4, dtype="<i4").tobytes()),
        ("int8", (64, 4096), bytes(COUNT // 2 + 37) + int8()[: COUNT // 2]),  # masks and tables have zeros
        ("int64", (64, 4096), striped(int8())),
    ],
)
def test_what_is_even_by_design_is_told_nothing(dtype, shape, raw):
    told = seen(dtype, raw, shape)
    assert codes(told) == set() and not told.lost


def test_blocks_are_even_uneven_between_or_of_one_byte():
    noise = np.frombuffer(random_bytes(8192), dtype=np.uint8)
    between = noise[:4096].copy()
    between[::90] = 7
    skewed = noise[:4096] & 0x7F
    data = np.concatenate([noise, between, skewed, np.full(4096, 9, dtype=np.uint8)])
    classes, tallies = np.empty(5, dtype=np.uint8), np.zeros((2, 256), dtype=np.int64)
    survey_packed(data, classes, tallies)
    assert classes.tolist() == [PACKED_UNIFORM, PACKED_UNIFORM, PACKED_UNCLEAR, PACKED, PACKED_UNCLEAR]
    assert tallies[1].sum() == 8192
