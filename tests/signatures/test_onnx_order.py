"""ONNX models whose fields come in any order: where they start, and where they end."""

import random

import numpy as np
import pytest

from fixtures.formats import onnx as built
from fixtures.formats._onnx_shuffled import DECLARED, fields, number_of, ordered, shuffled, split
from fixtures.formats.onnx import block, entry, graph, number, opset
from imaging.extent import Extent
from imaging.window import Window
from signatures import onnx
from signatures._onnx_end import leading_number
from signatures._onnx_probes import FIRST_BYTES
from signatures._protobuf import Wire
from signatures.verdict import Grade
from tests.carver.scanning import asked, found
from tests.signatures.test_onnx import Memory, codes, judge

WEIGHTS = built.weights(np.random.default_rng(5))
VERSION, GRAPH, OPSETS = number(1, 9), graph(WEIGHTS), opset(17)
PLAIN = VERSION + GRAPH + OPSETS
NEXT = number(1, 8) + block(2, "tf2onnx") + GRAPH + opset(13)
SEEDS = range(25)
ORDERS = {
    "ascending": tuple(sorted(DECLARED)),
    "of onnx.proto": DECLARED,
    "the head last": (1, 7, 8, 2, 3, 4, 5, 6, 14, 20, 25, 26),
    "the head last, backwards": (1, 7, 8, 14, 20, 25, 26, 6, 5, 4, 3, 2),
    "backwards": tuple(sorted(DECLARED, reverse=True)),
    "the graph first": (7, 8, 1, 2, 3, 4, 5, 6, 14, 20, 25, 26),
}


def whole(verdict, size_bytes):
    return verdict.grade == Grade.CONSISTENT and verdict.size_bytes == size_bytes


def written_alike(seed, order):
    return ordered(fields(seed + 1000), order)


@pytest.mark.parametrize("order", ORDERS)
def test_models_in_one_order_end_where_they_end_alone_before_zeros_and_before_the_next(order):
    pytest.importorskip("onnx")
    for seed in SEEDS:
        content = ordered(fields(seed), ORDERS[order])
        behind = [b"", bytes(4096), b"".join(fields(seed + 1000))]
        if order != "backwards":  # which begins with a field that may be missing in the next one, or be repeated
            behind.append(written_alike(seed, ORDERS[order]))
        for follower in behind:
            assert whole(judge(content + follower), len(content)), (seed, split(content)[0])


def test_models_in_any_order_end_where_they_end_alone_and_before_zeros():
    pytest.importorskip("onnx")
    for seed in SEEDS:
        content = shuffled(seed)
        assert (judge(content).size_bytes, codes(judge(content))) == (len(content), []), seed
        assert whole(judge(content + bytes(4096)), len(content)), seed


def test_random_bytes_behind_a_model_in_any_order_are_never_taken():
    pytest.importorskip("onnx")
    for seed in SEEDS:
        content = shuffled(seed)
        verdict = judge(content + random.Random(seed).randbytes(2000))
        assert verdict.grade == Grade.CONSISTENT
        if verdict.size_bytes != len(content):  # a small number at the end could be theirs
            assert verdict.size_bytes < len(content)
            assert number_of(split(content)[-1]) == 5
            assert codes(verdict) == ["ambiguous-end"]
            assert verdict.findings[0].offset_bytes == len(content)


@pytest.mark.parametrize("order", ["ascending", "of onnx.proto"])
def test_text_and_random_bytes_behind_a_model_as_writers_write_it_are_never_taken(order):
    pytest.importorskip("onnx")
    text = b'2 (see "1") B; r: 2024-11-22 (b) "a quoted word", and (17) "more" of it.\n' * 20
    for seed in SEEDS:
        content = ordered(fields(seed), ORDERS[order])
        for follower in (text[seed:], random.Random(seed).randbytes(2000)):
            assert whole(judge(content + follower), len(content)), seed


def test_facts_are_the_same_in_any_order():
    pytest.importorskip("onnx")
    for seed in SEEDS:
        told = judge(b"".join(fields(seed))).facts
        other = judge(shuffled(seed) + bytes(512)).facts
        assert {key: other[key] for key in ("ir_version", "producer", "domain", "opsets", "parameters")} == {
            key: told[key] for key in ("ir_version", "producer", "domain", "opsets", "parameters")
        }
        assert other.get("metadata") == told.get("metadata")


TAILS = {  # what may still come behind a complete model -> whether it counts before random bytes, before zeros
    "a producer": (block(2, "somebody"), True, True),
    "a version of three letters": (block(3, "1.0"), True, True),
    "a version of one letter": (block(3, "7"), False, True),
    "an empty text": (block(6, ""), False, True),
    "a model's version": (number(5, 7), False, True),
    "a model's version before a producer": (number(5, 7) + block(2, "somebody"), True, True),
    "metadata": (entry(14, "author", "nobody"), True, True),
}


@pytest.mark.parametrize("tail", TAILS)
def test_what_is_too_small_to_be_sure_counts_only_where_something_ends_behind_it(tail):
    content, before_random, before_zeros = TAILS[tail]
    content = PLAIN + content
    random_bytes = b"\xf7" + random.Random(3).randbytes(500)
    assert judge(content).size_bytes == len(content)
    assert judge(content + NEXT).size_bytes == len(content)
    assert (judge(content + random_bytes).size_bytes == len(content)) == before_random
    assert (judge(content + bytes(500)).size_bytes == len(content)) == before_zeros


def test_a_small_number_before_zeros_is_taken_and_told_as_open():
    verdict = judge(PLAIN + number(5, 7) + bytes(500))
    assert (verdict.size_bytes, codes(verdict)) == (len(PLAIN) + 2, ["ambiguous-end"])
    assert verdict.findings[0].offset_bytes == len(PLAIN)


def test_a_small_number_before_random_bytes_is_not_taken_and_told_as_open():
    for content in (PLAIN + number(5, 7), PLAIN + number(5, 1 << 40)):
        verdict = judge(content + b"\xf7" * 500)
        assert (len(content) % 512 != 0, verdict.size_bytes, codes(verdict)) == (True, len(PLAIN), ["ambiguous-end"])
        assert verdict.findings[0].offset_bytes == len(content)


@pytest.mark.parametrize(("short_by", "taken"), [(2, True), (1, False), (0, False)])
def test_a_small_number_that_ends_with_a_sector_is_the_files_own(short_by, taken):
    bare = len(VERSION + block(6, bytes(300)) + GRAPH + OPSETS)
    filler = block(6, "d" * (300 + (-bare - short_by) % 512))
    plain = VERSION + filler + GRAPH + OPSETS
    assert -len(plain) % 512 == short_by
    verdict = judge(plain + number(5, 7) + b"\xf7" * 500)
    assert (verdict.size_bytes, codes(verdict)) == (len(plain) + (2 if taken else 0), ["ambiguous-end"])
    assert verdict.findings[0].offset_bytes == len(plain) + (0 if taken else 2)


def test_what_was_read_behind_the_end_is_not_told():
    verdict = judge(GRAPH + OPSETS + VERSION + block(2, "somebody") + number(5, 7) + b"\xf7" * 500)
    assert (verdict.facts["producer"], codes(verdict)) == ("somebody", ["ambiguous-end"])
    assert judge(PLAIN + block(3, "7") + b"\xf7" * 500).facts["producer_version"] == ""
    touching = judge(entry(14, "a", "b") + PLAIN + entry(14, "c", "d") + PLAIN + bytes(9))
    assert touching.facts["metadata"] == {"a": "b"}


def test_a_quoted_word_in_text_behind_a_model_is_no_domain_and_no_doc_string():
    for quoted in (b'" ' + b"a" * 32 + b"bcd", b"2 " + b"a" * 32 + b"bcd"):
        assert judge(PLAIN + quoted).size_bytes == len(PLAIN)
    assert judge(PLAIN + block(6, "a" * 32) + b"\xf7" * 99).size_bytes == len(PLAIN) + 34


def test_where_two_models_touch_the_second_is_taken_to_begin_as_the_first():
    first = entry(14, "author", "somebody") + OPSETS + VERSION + GRAPH
    assert judge(first * 2).size_bytes == len(first)
    other = entry(14, "license", "none") + OPSETS + VERSION + GRAPH
    assert judge(first + other).size_bytes == len(first)


def test_where_two_models_touch_a_thing_said_twice_belongs_to_the_second():
    verdict = judge(PLAIN + OPSETS + GRAPH + VERSION)
    assert (verdict.size_bytes, codes(verdict)) == (len(PLAIN), ["ambiguous-end"])


def test_where_a_model_in_another_order_follows_the_end_is_open():
    verdict = judge(PLAIN + entry(14, "a", "b") + GRAPH + OPSETS + VERSION)
    assert (verdict.size_bytes, codes(verdict)) == (len(PLAIN) + len(entry(14, "a", "b")), ["ambiguous-end"])
    assert verdict.findings[0].offset_bytes == len(PLAIN)
    strange = judge(PLAIN + block(2, "somebody") + GRAPH + OPSETS + VERSION)
    assert (strange.size_bytes, codes(strange)) == (len(PLAIN), ["ambiguous-end"])


def test_a_text_cut_by_the_end_of_the_source_is_told_and_garbage_is_not():
    cut = judge(PLAIN + block(6, "a doc string that goes on")[:-4])
    assert (cut.size_bytes, codes(cut)) == (len(PLAIN), ["ambiguous-end"])
    assert codes(judge(PLAIN + b"\x32\x7f\xff\xfe\x00\x01")) == []


def leads(content):
    return leading_number(Wire(Window(Memory(content), (Extent(offset_bytes=0, size_bytes=len(content)),))), 0)


def test_a_model_is_known_by_its_first_fields():
    assert (leads(PLAIN), leads(OPSETS + PLAIN), leads(GRAPH)) == (1, 8, 7)
    for nothing in (b"", bytes(9), VERSION, number(1, 99) + PLAIN, block(8) + PLAIN, VERSION + block(7, "xyz")):
        assert leads(nothing) == 0


def probes_of(content):
    hold = {
        name: len(content) >= len(allowed) and all(content[i] in values for i, values in enumerate(allowed))
        for name, allowed in FIRST_BYTES.items()
    }
    return [name for name in hold if hold[name]]


LONG = "a" * 200
FIRST = {
    "ir-version": PLAIN,
    "graph-first-1": block(7, block(1, block(1, "x"), block(2, "y"), block(4, "Relu"))),
    "graph-first-2": graph(WEIGHTS[:0]) + OPSETS,
    "graph-first-3": block(7, block(1, LONG * 99)),
    "graph-first-4": block(7, block(1, LONG * 20000)),
    "producer-first": block(2, "pytorch"),
    "producer-version-first": block(3, "2.13.0"),
    "short-text-first": block(3, "7") + PLAIN,
    "empty-text-first": block(4, "") + PLAIN,
    "domain-first": block(4, "com.microsoft"),
    "domain-first-ai": block(4, "ai.onnx.ml"),
    "model-version-ir-version": number(5, 7) + PLAIN,
    "model-version-2-ir-version": number(5, 300) + PLAIN,
    "model-version-text": number(5, 7) + block(2, "pytorch"),
    "model-version-long-text": number(5, 7) + block(4, "ai.onnx"),
    "model-version-2": number(5, 300) + block(2, "pytorch"),
    "model-version-graph": number(5, 7) + GRAPH,
    "model-version-message": number(5, 7) + OPSETS,
    "model-version-other-message": number(5, 7) + block(25, block(1, "Twice")),
    "doc-first": block(6, "a model"),
    "doc-first-2": block(6, LONG),
    "opset-first": OPSETS + PLAIN,
    "opset-first-domain": opset(1, "com.microsoft"),
    "metadata-first": entry(14, "author", "nobody"),
    "metadata-first-2": entry(14, "author", LONG),
    "message-first": block(25, block(1, "Twice")) + PLAIN,
    "message-first-2": block(25, block(1, "f"), block(8, LONG)),
    "message-first-3": block(25, block(1, "f"), block(8, LONG * 99)),
}


@pytest.mark.parametrize("name", FIRST_BYTES)
def test_each_probe_holds_for_the_first_field_it_is_named_after(name):
    assert name in probes_of(FIRST[name] + bytes(64))


@pytest.mark.parametrize(
    "text", ['"a quoted word"', "(b) or (r)", "2 doc", "Before", '"\n  "a": 1', "r,\n  row", ":*", '("x"', "B\n\nabc"]
)
def test_no_probe_holds_for_text(text):
    assert probes_of((text + " and more of it, and more").encode()) == []


def test_probes_together_let_through_one_random_sector_in_ten_thousand():
    chances = [np.prod([len(set(values)) / 256 for values in allowed]) for allowed in FIRST_BYTES.values()]
    assert max(chances) < 1 / 40_000
    assert sum(chances) < 1 / 10_000


def starts_in(image):
    """All starts that probes and patterns lead to."""
    starts = {at for at in range(0, len(image), 512) if probes_of(image[at : at + 64])}
    for pattern in onnx.FORMAT.patterns:
        for at in found(image, pattern.bytes):
            if asked(image, at, pattern):
                starts |= set(onnx.FORMAT.starts(Memory(image), at, pattern))
    return starts


def good_starts(image):
    whole_image = Memory(image)
    windows = {at: Extent(offset_bytes=at, size_bytes=len(image) - at) for at in starts_in(image)}
    return {at for at, extent in windows.items() if onnx.validate(Window(whole_image, (extent,))).grade.good}


def unsure(content):
    return number_of(content) == 5 and content[1] >= 0x80  # a large number: not probed


def test_a_model_in_any_order_on_a_sector_is_found_there_and_nowhere_else():
    pytest.importorskip("onnx")
    for seed in SEEDS:
        content = shuffled(seed)
        for before in (bytes(1024), random.Random(seed).randbytes(1024), b"some text; " * 93 + b"\n"):
            if not unsure(content):
                assert good_starts(before + content + bytes(600)) == {1024}, seed


@pytest.mark.parametrize("order", ["ascending", "of onnx.proto"])
@pytest.mark.parametrize("before", ["zeros", "random", "another model"])
def test_a_model_off_the_grid_is_found_where_it_starts(order, before):
    head = (number(5, 2), block(4, "ai.onnx"), block(2, "tf2onnx"), VERSION, OPSETS, GRAPH, entry(14, "k", "v" * 40))
    content = ordered(list(head), ORDERS[order])
    front = {"zeros": bytes(777), "random": random.Random(1).randbytes(777), "another model": content}[before]
    first = {0} if before == "another model" else set()
    assert good_starts(front + content + bytes(600)) == first | {len(front)}


def test_texts_before_the_ir_version_belong_to_the_model_and_anothers_metadata_does_not():
    front = random.Random(2).randbytes(777)
    content = block(3, "2.13.0") + block(2, "pytorch") + VERSION + GRAPH + OPSETS
    assert good_starts(front + content + bytes(600)) == {777}
    assert good_starts(PLAIN + entry(14, "author", "nobody") + NEXT) == {
        0,
        len(PLAIN) + len(entry(14, "author", "nobody")),
    }


def test_a_known_producer_behind_which_no_model_goes_on_is_no_start():
    name = block(2, "pytorch")
    pattern = next(pattern for pattern in onnx.FORMAT.patterns if pattern.name == "pytorch")
    image = b"\xf7" * 777 + name + OPSETS + bytes(99)
    assert asked(image, 777, pattern)
    assert list(onnx.FORMAT.starts(Memory(image), 777, pattern)) == []
    image = b"\xf7" * 700 + bytes(77) + name + OPSETS + bytes(99)
    assert list(onnx.FORMAT.starts(Memory(image), 777, pattern)) == [777]
