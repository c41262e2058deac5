"""Plausibility: what the bytes of tensors look like, and which oddities change a grade."""

import json
import random
import struct

import numpy as np
import pytest

from imaging.extent import ExtentSet, span
from imaging.window import Window
from signatures._plausible_stretches import BLOCK_BYTES
from signatures.kernels import surveys
from signatures.kernels.surveys import (
    CLEAR,
    CLEAR_SWAPPED,
    ONE_BYTE,
    TEXT,
    UNCLEAR,
    UNIFORM,
    WILD_UNCLEAR,
    find_runs,
    survey_blocks,
)
from signatures.plausibility import Plausibility, examine
from signatures.tensors import Tensor
from tests.signatures.test_conformance import Memory

LANES = {"float16": (2, -1), "bfloat16": (2, 0x80), "float32": (4, 0x80), "float64": (8, 0xF0)}
SHAPE = (600, 300)  # rows of 1200 bytes in float32, which no sector's edge falls on often


def weights(dtype, shape=SHAPE, seed=1, scale=0.02):
    values = np.random.default_rng(seed).normal(scale=scale, size=shape).astype("f8" if dtype == "float64" else "f4")
    if dtype == "bfloat16":
        return (values.view("<u4") >> 16).astype("<u2").tobytes()
    return values.astype(dtype).tobytes()


def classes_of(data, item, low, phase=0):
    data = np.frombuffer(data, dtype=np.uint8)
    classes = np.empty(len(data) // 4096, dtype=np.uint8)
    tallies = np.zeros((2, 256), dtype=np.int64)
    nans = survey_blocks(data[: 4096 * len(classes)], phase, item, low, classes, tallies)
    return set(classes.tolist()), nans


def random_bytes(size, seed=5):
    return random.Random(seed).randbytes(size)


def file_of(dtype="float32", count=3, shape=SHAPE, lead=1000):
    """Return a file of `count` tensors behind `lead` other bytes, and the tensors."""
    content, tensors = bytearray(b"h" * lead), []
    for number in range(count):
        raw = weights(dtype, shape, seed=number)
        where = span(len(content), len(content) + len(raw))
        tensors.append(Tensor(name=f"t{number}", dtype=dtype, shape=shape, layout=(where,)))
        content += raw
    return content, tuple(tensors)


def seen(content, tensors, start_bytes=0):
    return examine(Window(Memory(bytes(content)), (span(0, len(content)),)), tensors, start_bytes=start_bytes)


def codes(evidence):
    return {finding.code for finding in evidence.findings}


@pytest.mark.parametrize(("dtype", "lane"), LANES.items())
def test_blocks_of_weights_are_clear_and_of_random_bytes_uniform(dtype, lane):
    assert classes_of(weights(dtype), *lane) == ({CLEAR}, 0)
    assert classes_of(random_bytes(1 << 18), *lane)[0] == {UNIFORM}
    assert classes_of(bytes(8192), *lane)[0] == {ONE_BYTE}
    assert classes_of(b"The quick brown fox jumps. \n" * 600, *lane)[0] == {TEXT}


@pytest.mark.parametrize(("dtype", "item", "low"), [("float32", 4, 0x80), ("float16", 2, -1), ("float64", 8, 0xF0)])
def test_big_endian_weights_are_clear_too(dtype, item, low):
    raw = np.frombuffer(weights(dtype), dtype=dtype).astype(np.dtype(dtype).newbyteorder(">")).tobytes()
    assert classes_of(raw, item, low)[0] == {CLEAR_SWAPPED}


def test_items_that_begin_off_the_blocks_edge_are_read_at_their_phase():
    raw = weights("float32")
    for phase in range(4):
        assert classes_of(bytes(phase) + raw, 4, 0x80, phase)[0] == {CLEAR}


def test_bytes_packed_by_a_quantiser_are_not_called_uniform():
    odds = np.array([3, 5, 6, 6, 7, 7, 7, 8, 8, 7, 7, 7, 6, 6, 5, 5], dtype="f8")
    nibbles = np.random.default_rng(2).choice(16, size=(1 << 18, 2), p=odds / odds.sum()).astype("u1")
    found, _ = classes_of((nibbles[:, 0] << 4 | nibbles[:, 1]).tobytes(), 2, 0x80)
    assert found <= {UNCLEAR, WILD_UNCLEAR, UNIFORM}
    assert found != {UNIFORM}  # so that no edge between the two is ever torn


@pytest.mark.parametrize(("dtype", "lane"), LANES.items())
def test_not_a_number_is_counted_and_infinity_is_not(dtype, lane):
    values = np.frombuffer(
        weights("float32" if dtype == "bfloat16" else dtype), dtype="f4" if dtype == "bfloat16" else dtype
    )
    values = values.copy()
    values[[5, 700, 5000]], values[[9, 800]] = np.nan, np.inf
    raw = (values.view("<u4") >> 16).astype("<u2").tobytes() if dtype == "bfloat16" else values.tobytes()
    for phase in (0, 1):
        assert classes_of(bytes(phase) + raw, *lane, phase) == ({CLEAR}, 3)


def runs_twin(data, least):
    runs, at = [], 0
    while at < len(data):
        end = at
        while end < len(data) and data[end] == data[at]:
            end += 1
        if end - at >= least:
            runs.append((at, end, data[at]))
        at = end
    return runs


def test_runs_are_found_to_the_byte_wherever_they_begin():
    chance = random.Random(3)
    for _ in range(60):
        data = b"".join(
            chance.randbytes(chance.randrange(1, 900))
            + bytes([chance.choice((0, 255, 7))]) * chance.randrange(511, 1500)
            for _ in range(4)
        ) + chance.randbytes(64)
        found = np.zeros((64, 3), dtype=np.int64)
        count = find_runs(np.frombuffer(data, dtype=np.uint8), -1, found)
        assert [tuple(one) for one in found[: count - 1].tolist()] == runs_twin(data, 511)
        assert found[count - 1, 1] == len(data)  # the last byte's own


def test_a_run_over_the_border_of_two_pieces_is_one():
    content, tensors = file_of(count=1)
    content[100_000:120_000] = bytes(20_000)
    for cut in (99_990, 100_000, 100_003, 110_000, 119_900, 120_000):
        both = Plausibility(tensors)
        both.take(0, bytes(content[:cut]))
        both.take(cut, bytes(content[cut:]))
        (run,) = both._runs[:1]
        assert (run.start, run.end) == (100_000, 120_000), cut


def test_healthy_weights_are_plausible_and_nothing_is_told():
    for dtype in LANES:
        evidence = seen(*file_of(dtype))
        assert (evidence.findings, evidence.plausible, bool(evidence.lost)) == ((), True, False)


@pytest.mark.parametrize("dtype", LANES)
def test_a_stripe_of_random_bytes_in_weights_is_told_with_its_share_and_lost(dtype):
    content, tensors = file_of(dtype)
    low = 8192 * (len(content) // 16384)
    content[low : low + 16384] = random_bytes(16384)
    evidence = seen(content, tensors)
    assert codes(evidence) == {"tensor-uniform-block", "random-weights"}
    assert evidence.lost.total_bytes == 16384
    assert not evidence.plausible
    (share,) = (finding for finding in evidence.findings if finding.code == "random-weights")
    assert "% of its numbers" in share.detail


def test_random_bytes_that_begin_in_the_middle_of_a_block_are_found_as_well():
    content, tensors = file_of()
    content[200_192 : 200_192 + 30_000] = random_bytes(30_000)
    assert seen(content, tensors).lost.total_bytes >= 20_000


def test_random_bytes_in_a_whole_file_of_a_megabyte_are_lost_and_in_a_small_tensor_only_told():
    large, tensors = file_of(shape=(1200, 300))
    large[1000:] = random_bytes(len(large) - 1000)
    evidence = seen(large, tensors)
    assert evidence.lost
    assert "100% of its numbers" in evidence.findings[-1].detail
    small, tensors = file_of(count=1, shape=(90, 300))
    small[1000:] = random_bytes(len(small) - 1000)
    evidence = seen(small, tensors)
    assert codes(evidence) == {"tensor-uniform-block", "random-weights"}
    assert not evidence.lost


def test_zeros_between_two_sectors_in_the_middle_of_rows_are_lost():
    content, tensors = file_of()
    content[102_400:131_072] = bytes(131_072 - 102_400)
    evidence = seen(content, tensors)
    assert codes(evidence) == {"tensor-zero-run"}
    assert [(one.offset_bytes, one.end_bytes) for one in evidence.lost] == [(102_400, 131_072)]


def test_zeros_over_a_small_tensor_between_two_are_one_run_and_lost():
    content, tensors = file_of(count=2)
    border, norm = tensors[1].layout[0].offset_bytes, np.ones(256, dtype="<f4").tobytes()
    content[border:border] = norm
    small = Tensor(name="norm", dtype="float32", shape=(256,), layout=(span(border, border + len(norm)),))
    moved = span(border + len(norm), len(content))
    tensors = (tensors[0], small, Tensor(name="t1", dtype="float32", shape=SHAPE, layout=(moved,)))
    content[614_400:819_200] = bytes(819_200 - 614_400)
    evidence = seen(content, tensors)
    assert codes(evidence) == {"tensor-zero-run"}
    assert [(one.offset_bytes, one.end_bytes) for one in evidence.lost] == [(614_400, 819_200)]


def test_sectors_are_counted_from_the_image_not_from_the_file():
    content, tensors = file_of()
    content[102_400 + 100 : 131_072 + 100] = bytes(131_072 - 102_400)
    assert not seen(content, tensors).findings
    assert seen(content, tensors, start_bytes=4096 - 100).lost


def test_zeros_from_the_middle_of_a_tensor_to_the_end_are_lost_from_a_page_on():
    content, tensors = file_of()
    content[819_200:] = bytes(len(content) - 819_200)
    assert seen(content, tensors).lost.total_bytes == len(content) - 819_200


def test_zeros_with_one_end_on_a_sector_are_told_and_not_lost():
    content, tensors = file_of()
    content[102_400:131_077] = bytes(131_077 - 102_400)
    evidence = seen(content, tensors)
    assert codes(evidence) == {"tensor-zero-run"}
    assert not evidence.lost


def test_zeros_that_design_explains_are_not_even_told():
    whole, tensors = file_of()
    whole[tensors[1].layout[0].offset_bytes : tensors[1].layout[0].end_bytes] = bytes(tensors[1].size_bytes)
    rows, _ = file_of()
    first = tensors[0].layout[0].offset_bytes
    rows[first + 40 * 1200 : first + 90 * 1200] = bytes(50 * 1200)
    assert not seen(whole, tensors).findings
    assert not seen(rows, tensors).findings


def test_rows_that_fall_on_sectors_may_be_zero():
    content, tensors = file_of(shape=(400, 1024), lead=4096)
    content[4096 + 50 * 4096 : 4096 + 70 * 4096] = bytes(20 * 4096)
    assert not seen(content, tensors).lost


def test_a_sparse_tensor_is_left_alone():
    content, tensors = file_of(count=1)
    for first in range(2000, len(content) - 9000, 20_000):
        content[first : first + 6000] = bytes(6000)
    content[102_400:131_072] = bytes(131_072 - 102_400)
    assert not seen(content, tensors).lost


def test_erased_flash_inside_floats_is_lost():
    content, tensors = file_of()
    content[102_400:131_072] = b"\xff" * (131_072 - 102_400)
    evidence = seen(content, tensors)
    assert "tensor-byte-run" in codes(evidence)
    assert evidence.lost


def test_text_inside_floats_is_lost():
    content, tensors = file_of()
    text = (json.dumps({"name": "value", "of": [1, 2, 3]}) + "\n").encode() * 400
    content[204_800 : 204_800 + len(text)] = text
    evidence = seen(content, tensors)
    assert "tensor-text" in codes(evidence)
    assert evidence.lost


@pytest.mark.parametrize(
    ("dtype", "wider", "lead"),
    [
        ("bfloat16", "float32", 1000),
        ("bfloat16", "float32", 1002),
        ("float16", "float32", 1000),
        ("float16", "float32", 1002),
        ("float32", "float64", 1000),
    ],
)
def test_floats_of_twice_the_width_amid_others_are_lost(dtype, wider, lead):
    content, tensors = file_of(dtype, shape=(900, 300), lead=lead)
    content[102_400:143_360] = weights(wider, (40_960 // (LANES[wider][0]), 1), seed=7)
    evidence = seen(content, tensors)
    assert "tensor-other-type" in codes(evidence)
    assert evidence.lost.within(span(102_400, 143_360)).total_bytes > 30_000


def test_a_tensor_that_holds_wider_floats_throughout_is_left_alone():
    raw = weights("float32", (600, 300))
    tensor = Tensor(name="t", dtype="bfloat16", shape=(600, 600), layout=(span(0, len(raw)),))
    assert not seen(raw, (tensor,)).lost


def test_a_foreign_head_on_a_sectors_edge_is_told_and_elsewhere_not():
    content, tensors = file_of()
    content[102_400:102_404], content[200_001:200_005] = b"\x89PNG", b"\x89PNG"
    evidence = seen(content, tensors)
    assert [(f.code, f.offset_bytes) for f in evidence.findings] == [("tensor-foreign-signature", 102_400)]
    assert "PNG" in evidence.findings[0].detail
    assert list(evidence.lost) == [span(102_400, tensors[0].layout[0].end_bytes)]


def test_what_is_no_number_behind_a_foreign_head_is_lost_with_it():
    """As on ext4: a bfloat16 file whose second half is another's float32."""
    content, tensors = file_of("bfloat16")
    at = 102_400
    foreign = b"PK\3\4" + weights("float32", (len(content), 1), seed=9)
    content[at:] = foreign[: len(content) - at]
    first_bytes = tensors[0].layout[0].offset_bytes
    assert list(seen(content, tensors).lost) == [span(first_bytes, len(content))]  # the first is hit, too


def test_no_number_without_a_foreign_head_is_no_loss():
    content, tensors = file_of("bfloat16")
    content[102_400:102_402] = b"\xff\x7f"
    assert codes(seen(content, tensors)) == {"tensor-nan"}
    assert not seen(content, tensors).lost


def test_a_foreign_head_inside_packed_numbers_is_only_told():
    content = bytearray(random_bytes(1 << 18))
    content[102_400:102_404] = b"PK\3\4"
    where = span(0, len(content))
    evidence = seen(content, (Tensor(name="t", dtype="q4_0", shape=(1 << 18,), layout=(where,)),))
    assert codes(evidence) == {"tensor-foreign-signature"}
    assert not evidence.lost


def test_not_a_number_is_told_by_tensor():
    content, tensors = file_of()
    at = tensors[1].layout[0].offset_bytes + 40_000
    content[at : at + 4] = struct.pack("<f", float("nan"))
    evidence = seen(content, tensors)
    assert [f.code for f in evidence.findings] == ["tensor-nan"]
    assert evidence.findings[0].detail.startswith("t1: 1 ")
    assert not evidence.lost


def test_integers_masks_packed_and_proven_tensors_are_not_judged():
    content = random_bytes(300_000)
    where = (span(0, 200_000),)
    for tensor in (
        Tensor(name="ids", dtype="int64", shape=(25_000,), layout=where),
        Tensor(name="mask", dtype="bool", shape=(200_000,), layout=where),
        Tensor(name="deflated", dtype="float32", shape=(90_000,), layout=where),
        Tensor(name="proven", dtype="float32", shape=(50_000,), layout=where, grade="INTACT"),
    ):
        assert not Plausibility((tensor,)).wanted
        assert seen(content, (tensor,)).findings == ()


def test_quantised_blocks_as_even_as_random_bytes_throughout_are_judged_by_their_runs_only():
    content = bytearray(random_bytes(1 << 18))
    tensor = Tensor(name="q", dtype="q4_k", shape=(455, 1024), layout=(span(0, 455 * 576),))
    assert not seen(content, (tensor,)).findings
    content[102_400:131_072] = bytes(131_072 - 102_400)
    assert seen(content, (tensor,)).lost


def test_tied_weights_are_looked_at_once():
    content, tensors = file_of(count=1)
    twice = (*tensors, Tensor(name="tied", dtype="float32", shape=SHAPE, layout=tensors[0].layout))
    assert seen(content, twice).facts == seen(content, tensors).facts


def test_zeros_inside_a_vector_are_lost_only_where_they_are_long_and_between_pages():
    for first, end, lost in ((102_400, 131_072, False), (102_912, 204_800, False), (102_400, 204_800, True)):
        content, tensors = file_of(count=1, shape=(180_000,))
        content[first:end] = bytes(end - first)
        evidence = seen(content, tensors)
        assert codes(evidence) == {"tensor-zero-run"}
        assert bool(evidence.lost) is lost, (first, end)


def test_zeros_that_were_never_read_are_told_by_others():
    content, tensors = file_of()
    content[102_400:131_072] = bytes(131_072 - 102_400)
    looked = Plausibility(tensors, unread=ExtentSet([span(102_400, 131_072)]))
    looked.take(0, bytes(content))
    assert looked.conclude().findings == ()


def test_blocks_are_as_long_where_they_are_surveyed_as_where_they_are_told_of():
    assert surveys.BLOCK_BYTES == BLOCK_BYTES
