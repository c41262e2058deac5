"""Strangers: programs, pictures and other models' numbers amid a tensor's weights are told, and prove nothing."""

import random
import zlib

import numpy as np
import pytest

from imaging.extent import span
from signatures.plausibility import examine
from signatures.tensors import Tensor
from tests.signatures.zip_window import window_on

WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}
START, END = 1 << 18, (1 << 18) + (1 << 17)  # of the stranger
SIZE = 1 << 20


def weights(dtype, size_bytes, seed=1, scale=0.02):
    values = np.random.default_rng(seed).normal(scale=scale, size=size_bytes // WIDTHS[dtype])
    if dtype == "bfloat16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return values.astype(dtype).tobytes()


def program(size_bytes, seed=3):
    """Instructions as x86-64 has them: few common opcodes, zeros in addresses, all else now and then."""
    chance = np.random.default_rng(seed)
    common = np.frombuffer(
        b"\0\0\0\0\0\xff\xff\x48\x48\x8b\x89\xe8\x0f\x24\x41\x4c\x85\xc0\x74\x01\xc7\x44", dtype="u1"
    )
    likely = chance.choice(common, size_bytes)
    return np.where(chance.random(size_bytes) < 0.6, likely, chance.integers(0, 256, size_bytes)).astype("u1").tobytes()


def eight_bits(size_bytes, seed=4):
    return np.random.default_rng(seed).normal(scale=32, size=size_bytes).clip(-127, 127).astype("i1").tobytes()


def picture(size_bytes, seed=5):
    steps = np.random.default_rng(seed).normal(scale=4, size=size_bytes)
    return (np.abs((np.cumsum(steps) + 100) % 510 - 255) * 0.7).astype("u1").tobytes()


def sound(size_bytes, seed=6):
    return np.random.default_rng(seed).normal(scale=3000, size=size_bytes // 2).astype("<i2").tobytes()


CONTENTS = {"a program": program, "8-bit weights": eight_bits, "a picture": picture, "sound": sound}


def with_stranger(dtype, stranger, start=START):
    own = weights(dtype, SIZE)
    content = own[:start] + stranger + own[start + len(stranger) :]
    return content, tensors_of(content, dtype)


def tensors_of(content, dtype, count=1):
    """Return `count` vectors that share the content."""
    size = len(content) // count
    return [
        Tensor(
            name=f"t{number}",
            dtype=dtype,
            shape=(size // WIDTHS[dtype],),
            layout=(span(number * size, (number + 1) * size),),
        )
        for number in range(count)
    ]


def told(content, tensors):
    evidence = examine(window_on(content), tensors)
    return {finding.code: finding for finding in evidence.findings}, evidence


@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize("name", CONTENTS)
def test_bytes_that_are_no_weights_are_told_with_their_place_and_not_called_lost(name, dtype):
    found, evidence = told(*with_stranger(dtype, CONTENTS[name](END - START)))
    assert found.keys() - {"tensor-nan"} == {"tensor-other-contents"}
    finding = found["tensor-other-contents"]
    assert finding.offset_bytes == START
    assert f"{START:#x}+{END - START:#x}" in finding.detail
    assert not evidence.lost
    assert not evidence.plausible


@pytest.mark.parametrize(
    ("dtype", "other"),
    [
        ("float32", "float16"),
        ("float32", "bfloat16"),
        ("float64", "float32"),
        ("float64", "float16"),
        ("float64", "bfloat16"),
        ("float16", "bfloat16"),
        ("bfloat16", "float16"),
    ],
)
@pytest.mark.parametrize("scale", [0.3, 0.02, 0.004])
def test_narrower_floats_and_the_other_16_bits_are_told_with_their_place(dtype, other, scale):
    found, evidence = told(*with_stranger(dtype, weights(other, END - START, seed=7, scale=scale)))
    assert found.keys() == {"tensor-other-type"}
    assert f"{START:#x}+{END - START:#x}" in found["tensor-other-type"].detail
    assert not evidence.lost
    assert not evidence.plausible


@pytest.mark.parametrize("dtype", WIDTHS)
def test_half_a_file_of_several_tensors_is_one_stretch(dtype):
    begun = 3 * SIZE // 8  # amid the second tensor
    content = weights(dtype, SIZE)[:begun] + program(SIZE - begun)
    found, _ = told(content, tensors_of(content, dtype, count=4))
    assert f"t1 to t3: {begun:#x}+{SIZE - begun:#x}" in found["tensor-other-contents"].detail


def test_a_stranger_that_begins_at_any_sector_of_a_block_is_told():
    for start in (START + 512, START + 1536, START + 3584):
        found, _ = told(*with_stranger("float32", program(1 << 16), start))
        assert abs(found["tensor-other-contents"].offset_bytes - start) <= 4096


def test_less_than_four_blocks_are_not_told():
    for name, blocks in (("a program", 3), ("8-bit weights", 3)):
        assert not told(*with_stranger("float32", CONTENTS[name](blocks * 4096)))[0].keys() - {"tensor-nan"}
    assert told(*with_stranger("float32", program(4 * 4096)))[0]


@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize("name", CONTENTS)
def test_a_tensor_that_holds_such_bytes_throughout_was_made_so(name, dtype):
    """As packed 4-bit weights are, which trainers keep in tensors of 16-bit floats."""
    packed = CONTENTS[name](1 << 18)
    content = weights(dtype, 1 << 18) + packed + weights(dtype, 1 << 18, seed=2)
    found, evidence = told(content, tensors_of(content, dtype, count=3))
    assert found.keys() <= {"tensor-nan"}
    assert not evidence.lost


def test_text_of_any_alphabet_is_text():
    text = "Die Würde des Menschen ist unantastbar – 人の尊厳は不可侵である。 🙂\n".encode() * 2000
    for dtype in WIDTHS:
        found, evidence = told(*with_stranger(dtype, text[: END - START]))
        assert found.keys() == {"tensor-text"}
        assert evidence.lost


def test_text_with_a_broken_character_or_a_control_is_none():
    line = "größer als zehn Zeichen\n".encode()
    for broken in (b"\xc3 ", b"\x80", b"\0"):
        text = (line * 40 + broken) * 200
        assert "tensor-text" not in told(*with_stranger("float32", text[: END - START]))[0]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_sparse_big_endian_weights_are_told_nothing_of(dtype):
    """Their high bytes are fractions, of all values; half of them are zero, so that they look clear."""
    values = np.random.default_rng(8).normal(size=SIZE // WIDTHS[dtype])
    values[np.random.default_rng(9).random(len(values)) < 0.5] = 0
    dense = np.where(np.arange(len(values)) < len(values) // 2, 0.5, values)  # so that one edge is torn
    content = dense.astype(np.dtype(dtype).newbyteorder(">")).tobytes()
    assert told(content, tensors_of(content, dtype))[0].keys() <= {"tensor-nan"}


def rounded(kind, values):
    if kind == "bfloat16":
        return (values.astype("<f4").view("<u4") & np.uint32(0xFFFF0000)).view("<f4")
    return values.astype(kind)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_weights_that_were_rounded_amid_others_are_not_of_another_type(dtype, kind):
    chance = np.random.default_rng(10)
    values = chance.normal(scale=0.02, size=SIZE // WIDTHS[dtype]).astype(dtype)
    values[20_000:90_000] = rounded(kind, values[20_000:90_000])
    values[25_000:30_000] = 0
    content = values.tobytes()
    assert not told(content, tensors_of(content, dtype))[0]


def huge_masks(chance, count):
    return np.where(chance.random(count) < 0.5, -3e38, np.where(chance.random(count) < 0.5, 1e9, 0.0))


ODD = {
    "values of a mask": huge_masks,
    "second moments that fade": lambda c, n: np.exp(-40 * c.random(n)) * 1e-20,
    "numbers of many sizes": lambda c, n: c.standard_normal(n) * np.exp(c.standard_normal(n) * 4),
    "dead filters": lambda c, n: c.standard_normal(n) * 1e-37,
    "an exploded optimiser": lambda c, n: np.exp(c.random(n) * 30 + 10),
    "whole numbers": lambda c, n: c.integers(-128, 128, n).astype("f8"),
    "a few values": lambda c, n: c.choice(c.standard_normal(15) * 0.02, n),
    "signs": lambda c, n: c.choice([-1.0, 1.0], n),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ODD)
def test_healthy_numbers_of_other_sizes_inside_a_tensor_are_told_nothing_of(name, dtype):
    chance = np.random.default_rng(11)
    values = chance.normal(scale=0.02, size=SIZE // WIDTHS[dtype])
    values[20_000:80_000] = ODD[name](chance, 60_000)
    content = values.astype(dtype).tobytes()
    assert not told(content, tensors_of(content, dtype))[0]


def test_deflated_bytes_stay_what_they_were_as_random_as_encrypted():
    deflated = zlib.compress(random.Random(1).randbytes(4000) * 60, 0)[: END - START]
    found, evidence = told(*with_stranger("float32", deflated))
    assert "tensor-uniform-block" in found
    assert evidence.lost
