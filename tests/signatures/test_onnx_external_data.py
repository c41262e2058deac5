"""ONNX external data: found by the traces that its model tells of, proven by its SHA-1, and never made of nothing."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carver.stages.patched import Patched
from fixtures.formats.onnx_external_data import build, model, network
from imaging.errors import Interrupted
from imaging.extent import ExtentSet, span
from imaging.window import Window
from signatures import _onnx_data_search, onnx
from signatures._onnx_data_plan import data_files, least_sizes, starts_of, strung
from signatures._onnx_data_search import Found, Search
from signatures.onnx_external_data import FORMAT
from signatures.verdict import DataEvidence, Grade, LayoutBasis
from tests.signatures.test_conformance import Memory
from tests.signatures.zip_window import codes, judge

BLOCK = 4096
TOLD = network()
NOISE = np.random.default_rng(1).bytes(1 << 16)
WEIGHTS = np.random.default_rng(2).normal(scale=0.02, size=1 << 16).astype("<f4").tobytes()
PADDED, MODEL = build(3, TOLD, align_bytes=256)
TRANSFORMER = [
    (f"l{layer}.{name}", 1, shape)
    for layer in range(6)
    for name, shape in (("weight", (256, 256)), ("bias", (256,)), ("scale", (256,)), ("up.weight", (256, 512)))
]


def told_by(content: bytes):
    return data_files(onnx.validate(Window(Memory(content), (span(0, len(content)),))).facts["external_data"])


def looked_for(content: bytes, parts: list[bytes], *, known: tuple[int, ...] = ()) -> tuple[Found, list[int]]:
    """Return what a search comes to on an image of these parts, and where each begins; `known` are other good files."""
    starts, held = [], bytearray(BLOCK)
    for part in parts:
        starts.append(len(held))
        held += part + bytes(-len(part) % BLOCK)
    extents = [span(start, start + len(part)) for start, part in zip(starts, parts, strict=True)]
    at = parts.index(content)
    (file,) = told_by(content)
    claimed = ExtentSet(extents[number] for number in (at, *known))
    return Search(source=Memory(bytes(held)), file=file, model=extents[at], claimed=claimed).find(), starts


@pytest.mark.parametrize("align_bytes", [1, 256, 4096])
@pytest.mark.parametrize(
    ("order", "data_at"), [("MD", 1), ("DM", 0), ("NMND", 3), ("WDNM", 1)], ids=["behind", "before", "far", "weights"]
)
def test_the_data_is_found_wherever_it_lies_around_the_model(align_bytes, order, data_at):
    data, content = build(3, TOLD, align_bytes=align_bytes)
    parts = [{"M": content, "D": data, "N": NOISE, "W": WEIGHTS}[letter] for letter in order]
    found, starts = looked_for(content, parts)
    assert found.taken is not None
    assert found.taken.start_bytes == starts[data_at]
    assert found.proven_bytes == 0


def test_packed_floats_are_found_by_the_steps_at_their_borders_between_other_weights():
    data, content = build(3, TRANSFORMER)
    found, starts = looked_for(content, [WEIGHTS, data, content])
    assert found.taken is not None
    assert (found.taken.start_bytes, found.taken.steps >= 8) == (starts[1], True)


def test_floats_of_one_kind_are_found_by_their_exact_length_alone():
    data, content = build(3, [(f"w{number}.weight", 1, (64, 64)) for number in range(4)])
    found, starts = looked_for(content, [NOISE, content, data, NOISE])
    assert found.taken is not None
    assert (found.taken.start_bytes, found.taken.exact, found.taken.traces) == (starts[2], True, 0)


@pytest.mark.parametrize(("shape", "taken"), [((64, 64), True), ((64, 60), False), ((63, 61), True)])
def test_a_length_of_a_few_whole_sectors_is_no_evidence(shape, taken):
    data, content = build(3, [(f"w{number}.weight", 1, shape) for number in range(4)])
    assert (len(data) % 512 == 0, len(data) < 1 << 16) == (shape != (63, 61), shape != (64, 64))
    found, _ = looked_for(content, [NOISE, content, data, NOISE])
    assert (found.taken is not None) == taken


@pytest.mark.parametrize(
    "instead",
    [
        NOISE,
        bytes(1 << 17),
        WEIGHTS,
        b"all work and no play makes Jack a dull boy\n" * 2000,
        np.random.default_rng(9).bytes(len(PADDED)),
        build(4, [("w.weight", 1, (131, 131)), ("s", 7, (5,))])[0],
    ],
    ids=["random", "zeros", "weights", "text", "random of its length", "another model's"],
)
@pytest.mark.parametrize("told", [TOLD, TRANSFORMER], ids=["padded", "packed"])
def test_what_is_no_data_of_the_model_is_not_taken_for_it(instead, told):
    _, content = build(3, told, align_bytes=256 if told is TOLD else 1)
    found, _ = looked_for(content, [content, instead, NOISE])
    assert found.taken is None


@pytest.mark.parametrize("told", [TOLD, TRANSFORMER], ids=["padded", "packed"])
def test_of_two_places_that_fit_none_is_taken_and_both_are_told(told):
    first, content = build(3, told)
    second, _ = build(4, told)
    found, starts = looked_for(content, [first, NOISE, content, second])
    assert found.taken is None
    assert {starts[0], starts[3]} <= {place.start_bytes for place in found.places}


def test_what_other_files_hold_is_not_looked_at():
    found, _ = looked_for(MODEL, [MODEL, PADDED, NOISE], known=(1,))
    assert found.taken is None


def test_data_that_is_overwritten_in_part_is_told_as_a_place_that_may_hold_a_part():
    half = PADDED[: len(PADDED) // 2] + NOISE[: len(PADDED) - len(PADDED) // 2]
    found, starts = looked_for(MODEL, [MODEL, half, NOISE])
    assert (found.taken, found.in_part) == (None, True)
    assert [place.start_bytes for place in found.places] == [starts[1]]


def test_the_sha_1_that_the_model_tells_outweighs_all_traces():
    data, content = build(3, TOLD, with_sha1=True)
    version, _ = build(4, TOLD)
    found, starts = looked_for(content, [content, version, NOISE, data])
    assert found.taken is not None
    assert (found.taken.start_bytes, found.proven_bytes) == (starts[3], len(data))
    found, starts = looked_for(content, [content, version, NOISE])
    assert (found.taken, found.unlike_sum, found.places[0].start_bytes) == (None, True, starts[1])


def test_a_sha_1_over_padding_behind_the_last_tensor_agrees_too():
    data, _ = build(3, TOLD)
    whole = data + bytes(-len(data) % 4096)
    (file,) = told_by(build(3, TOLD)[1])
    told = [("net.onnx.data", str(piece.offset_bytes), str(piece.size_bytes)) for piece in file.pieces]
    content = model(TOLD, told, hashlib.sha1(whole, usedforsecurity=False).hexdigest())
    found, _ = looked_for(content, [content, whole])
    assert found.proven_bytes == len(whole)


def test_too_many_places_are_told_as_such(monkeypatch):
    monkeypatch.setattr(_onnx_data_search, "MAX_WEIGHED", 1)
    data, content = build(3, TOLD)
    found, _ = looked_for(content, [data, content, data])
    assert (found.crowded, found.taken) == (True, None)


def test_the_search_goes_no_farther_than_it_may_and_ends_when_told(monkeypatch):
    (file,) = told_by(MODEL)
    image = Memory(MODEL + bytes(-len(MODEL) % BLOCK + (1 << 20)) + PADDED + bytes(-len(PADDED) % BLOCK))
    search = Search(source=image, file=file, model=span(0, len(MODEL)), claimed=ExtentSet((span(0, len(MODEL)),)))
    assert search.find(1 << 19).taken is None
    assert search.find(1 << 21).taken is not None
    search.stop = lambda: True
    with pytest.raises(Interrupted):
        search.find()


def _model_with(*places: tuple[str, str, str]) -> bytes:
    return model([(f"t{number}", 1, (4, 4)) for number in range(len(places))], places)


@pytest.mark.parametrize(
    ("places", "why"),
    [
        ((("a", "0", "64"), ("a", "32", "64")), "overlap"),
        ((("a", "-4", "64"),), "no number"),
        ((("a", "0", "1e3"),), "no number"),
        ((("a", "0", "63"),), "not that of its type"),
        ((("a", "9999999999999999999", "64"),), "beyond the end"),
        ((("a", "7" * 40, "64"),), "no number"),
    ],
)
def test_what_contradicts_itself_is_not_looked_for(places, why):
    (file,) = told_by(_model_with(*places))
    assert why in file.refused


def test_offset_and_length_may_be_left_out_and_tied_weights_share_bytes():
    (file,) = told_by(_model_with(("a", "", ""), ("a", "0", "64")))
    assert (file.refused, file.size_bytes, len(file.pieces)) == ("", 64, 2)
    assert least_sizes([{"location": "a", "dtype": "string", "shape": [3]}]) == {"a": 0}


def test_files_written_one_after_the_other_are_strung_at_blocks():
    files = told_by(_model_with(("a", "0", "64"), ("b", "0", "64")))
    run = strung(files, 4096)
    assert [piece.offset_bytes for piece in run.pieces] == [0, 4096]
    assert list(starts_of(files, 4096)) == [0, 4096]


def test_a_verdict_without_a_sum_is_probable_and_says_by_which_traces():
    verdict = judge(FORMAT, PADDED + MODEL)
    assert (verdict.grade, verdict.layout_basis, codes(verdict)) == (
        Grade.CONSISTENT,
        LayoutBasis.PROBABLE,
        {"found-by-traces"},
    )
    assert verdict.data_evidence is DataEvidence.PLAUSIBLE
    assert "3 paddings" in verdict.findings[0].detail
    assert (verdict.facts["name"], verdict.facts["suffix"]) == ("net.onnx", ".data")


def test_a_verdict_with_a_sum_is_intact():
    data, content = build(3, TOLD, with_sha1=True)
    verdict = judge(FORMAT, data + content)
    assert (verdict.grade, verdict.layout_basis, verdict.data_evidence, verdict.findings) == (
        Grade.INTACT,
        None,
        DataEvidence.HASH,
        (),
    )


def test_data_that_ends_in_zeros_is_damaged_from_there_on():
    half = PADDED[: len(PADDED) // 2] + bytes(len(PADDED) - len(PADDED) // 2)
    verdict = judge(FORMAT, half + MODEL)
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"zero-tail", "found-by-traces"})
    lost = [tensor.name for tensor in verdict.tensors if tensor.grade == "DAMAGED"]
    assert "l3.weight" in lost
    assert "l0.weight" not in lost


def test_data_whose_model_follows_too_early_is_cut_short():
    verdict = judge(FORMAT, PADDED[:-4096] + MODEL)
    assert (verdict.grade, codes(verdict), verdict.size_bytes) == (Grade.TRUNCATED, {"cut-short"}, len(PADDED))


def test_no_model_and_no_data_are_rejected():
    assert codes(judge(FORMAT, PADDED)) == {"no-model"}
    assert codes(judge(FORMAT, np.random.default_rng(9).bytes(len(PADDED)) + MODEL)) == {"no-data-fits"}


def test_constants_in_nodes_are_external_too():
    from fixtures.formats.onnx import attribute, block, entry, node, number, opset, tensor, value_info

    outside = b"".join(entry(13, key, value) for key, value in (("location", "c.data"), ("length", "64")))
    constant = attribute("value", 4, block(5, tensor("", 1, (16,), outside, number(14, 1))))
    ends = value_info(11, "x", 1) + value_info(12, "y", 1)
    body = node("Constant", (), ("c",), constant) + node("Add", ("x", "c"), ("y",))
    (file,) = told_by(number(1, 9) + block(7, body, block(2, "g"), ends) + opset(17))
    assert (file.location, file.size_bytes) == ("c.data", 64)


@given(
    st.lists(
        st.tuples(
            st.integers(-9, 1 << 14).map(str) | st.integers(0, 1 << 64).map(str) | st.text(max_size=4),
            st.just("64") | st.integers(-9, 99).map(str),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 3),
)
def test_whatever_a_model_tells_the_search_ends_and_takes_nothing_from_noise(places, seed):
    files = told_by(_model_with(*(("a", offset, length) for offset, length in places)))
    image = Memory(np.random.default_rng(seed).bytes(1 << 16))
    for file in files:
        if not file.refused:
            assert Search(source=image, file=file, model=span(0, 512), claimed=ExtentSet()).find().taken is None


def padded_once(seed: int) -> tuple[bytes, bytes, int, int]:
    """Return data with one padding, up to the next 64 KiB, before its last tensor; its model; where the padding is."""
    small, large = [("a.weight", 1, (16, 300)), ("b.weight", 1, (64, 240))], ("c.weight", 1, (256, 300))
    (front, _), (last, _) = build(seed, small), build(seed + 1, [large])
    first, end = len(front), -(-len(front) // (1 << 16)) * (1 << 16)
    places = [(0, 19200), (19200, 61440), (end, len(last))]
    content = model([*small, large], [("net.onnx.data", str(offset), str(size)) for offset, size in places])
    return front + bytes(end - first) + last, content, first, end


@pytest.mark.parametrize(("order", "data_at"), [("WMDW", 2), ("WDMW", 1)], ids=["its start", "its end"])
def test_a_wide_padding_and_one_border_of_the_file_tell_it_between_other_weights(order, data_at):
    data, content, _, _ = padded_once(3)
    found, starts = looked_for(content, [{"M": content, "D": data, "W": WEIGHTS}[letter] for letter in order])
    assert found.taken is not None
    assert (found.taken.start_bytes, found.taken.gaps, found.taken.exact) == (starts[data_at], 1, True)
    assert (found.taken.at_edge, found.taken.ends) == (data_at == 2, data_at == 1)


def test_a_padding_of_another_length_or_at_another_place_or_between_what_no_weights_are_tells_nothing():
    data, content, first, end = padded_once(3)
    weights = data[:first] + data[end:]
    shorter = data[:first] + bytes(end - first - 512) + data[end:]
    earlier = data[: first - 4] + bytes(end - first) + data[end - 4 : end] + data[end:]
    begun = data[: end - 4] + data[:4] + data[end:]
    text = (b"all work and no play " * 4000)[: len(data) - end]
    for instead in (weights, shorter, earlier, begun, data[:first] + bytes(end - first) + text):
        found, _ = looked_for(content, [WEIGHTS, content, instead, WEIGHTS])
        assert found.taken is None


def test_a_range_of_zeros_with_a_few_numbers_in_it_is_not_taken_for_weights():
    _, content = build(3, [(f"w{number}.weight", 1, (64, 64)) for number in range(4)])
    (file,) = told_by(content)
    numbers = np.zeros(file.size_bytes // 4, dtype="<f4")
    numbers[::16] = 0.02
    numbers[-1] = 0.02
    found, _ = looked_for(content, [NOISE, content, numbers.tobytes(), NOISE])
    assert (found.taken, found.places) == (None, ())


def test_what_was_never_read_is_neither_a_padding_nor_a_border_nor_against_it():
    data, content = build(3, TOLD, align_bytes=4096)
    parts = [NOISE, content, data, NOISE]
    starts = [sum(len(part) + -len(part) % BLOCK for part in parts[:number]) for number in range(4)]
    image = bytearray(b"".join(part + bytes(-len(part) % BLOCK) for part in parts))
    (file,) = told_by(content)
    claimed = ExtentSet((span(starts[1], starts[1] + len(content)),))

    def sought(unread: ExtentSet) -> Found:
        for extent in unread:
            image[extent.offset_bytes : extent.end_bytes] = bytes(extent.size_bytes)
        model_at = span(starts[1], starts[1] + len(content))
        source = Patched(Memory(bytes(image)), unread)
        return Search(source=source, file=file, model=model_at, claimed=claimed, was_read=source.was_read).find()

    hole = starts[2] + file.pieces[4].offset_bytes - 512  # over a padding, and the floats behind it
    whole, found = sought(ExtentSet()), sought(ExtentSet((span(hole, hole + 1024),)))
    assert whole.taken is not None and found.taken is not None
    assert (found.taken.start_bytes, found.taken.gaps) == (starts[2], whole.taken.gaps - 1)
    assert sought(ExtentSet((span(starts[2], starts[2] + len(data)),))).taken is None
