"""ONNX: exact end without a length, every defect with its code, tensors as the onnx library names them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.formats import onnx as built
from fixtures.formats.onnx import attribute, block, entry, graph, node, number, opset, tensor, value_info, varint
from imaging.extent import Extent
from imaging.window import Window
from signatures import onnx
from signatures.verdict import Grade
from tests.carver.scanning import asked

SAMPLES = {sample.name: sample for sample in built.samples(20261122)}
WEIGHTS = built.weights(np.random.default_rng(5))
HEAD = number(1, 9) + block(2, "pytorch") + block(3, "2.1")
PLAIN = HEAD + graph(WEIGHTS) + opset(17)


class Memory:
    locator, sector_bytes, unread = "memory", 512, None

    def __init__(self, content):
        self.content, self.size_bytes = bytes(content), len(content)

    def read_at(self, offset_bytes, size_bytes):
        return self.content[offset_bytes : offset_bytes + size_bytes]


def judge(content):
    return onnx.validate(Window(Memory(content), (Extent(offset_bytes=0, size_bytes=len(content)),)))


def codes(verdict):
    return [finding.code for finding in verdict.findings]


def described(verdict):
    return [(tensor.name, tensor.dtype, tensor.shape) for tensor in verdict.tensors]


FOLLOWERS = {
    "nothing": b"",
    "zeros": bytes(5000),
    "random": np.random.default_rng(1).bytes(5000),
    "another model": PLAIN,
    "text": b"\n* a list\n* of things, and more: text\n" * 40,
    "a safetensors file": varint(66) + bytes(7) + b'{"a":{"dtype":"F32"',
}


@pytest.mark.parametrize("follower", FOLLOWERS)
@pytest.mark.parametrize("name", SAMPLES)
def test_the_end_is_exact_whatever_follows(name, follower):
    sample = SAMPLES[name]
    verdict = judge(sample.content + FOLLOWERS[follower])
    assert (verdict.grade, verdict.size_bytes) == (sample.grade, len(sample.content)), verdict.findings
    assert sorted(described(verdict)) == sorted(sample.tensors)


@pytest.mark.parametrize("name", SAMPLES)
def test_tensors_are_those_of_the_onnx_library(name):
    library = pytest.importorskip("onnx")
    content = SAMPLES[name].content
    initializers = library.load_from_string(content).graph.initializer
    found = {tensor.name: tensor for tensor in judge(content).tensors}
    for stored in initializers:
        dtype = library.helper.tensor_dtype_to_np_dtype(stored.data_type).name.replace("object", "string")
        assert (found[stored.name].dtype, found[stored.name].shape) == (dtype, tuple(stored.dims))
        if stored.HasField("raw_data"):
            (extent,) = found[stored.name].layout
            assert content[extent.offset_bytes : extent.end_bytes] == stored.raw_data


REFUSED = {
    "top-level-tag": b"\x08\x09\x4a\x01x",
    "ir-version": number(1, 0) + graph(WEIGHTS) + opset(17),
    "repeated-field": number(1, 9) + number(1, 9) + graph(WEIGHTS) + opset(17),
    "producer-text": number(1, 9) + block(2, b"\x0a\x03abc") + graph(WEIGHTS),
    "text-length": number(1, 9) + block(2, "x" * 2000) + graph(WEIGHTS),
    "text-encoding": number(1, 9) + block(2, b"\xff\xfe") + graph(WEIGHTS),
    "empty-graph": number(1, 9) + block(7, block(2, "g"), value_info(11, "x", 1)) + opset(17),
    "empty-message": number(1, 9) + b"\x42\x00" + graph(WEIGHTS),
    "opset": number(1, 9) + block(8, number(2, 0)) + graph(WEIGHTS),
    "graph-length": number(1, 9) + b"\x3a" + varint(1 << 40) + bytes(100),
    "tag": number(1, 9) + block(7, b"\x00\x00"),
    "wire-type": number(1, 9) + block(7, b"\x0b\x00"),
    "length": number(1, 9) + block(7, b"\x0a\x7f\x00"),
    "unknown-field": number(1, 9) + block(7, b"\x1a\x01a"),
    "cut-short": number(1, 9) + block(7, node("Relu", "x", "y"), bytes(100))[:10],
    "required-field": number(1, 9) + block(7, block(1, block(1, "x"))),
}


@pytest.mark.parametrize("code", REFUSED)
def test_what_is_no_model_is_rejected_with_the_code(code):
    verdict = judge(REFUSED[code])
    assert (verdict.grade, codes(verdict)) == (Grade.REJECTED, [code])


def test_a_model_without_ir_version_is_rejected():
    assert codes(judge(graph(WEIGHTS) + opset(17) + bytes(9))) == ["ir-version"]


def test_other_protobufs_are_rejected():
    core_ml = number(1, 5) + block(2, block(1, block(1, "input"), block(3, block(5, number(1, 1)))))
    saved_model = number(1, 1) + block(2, block(1, block(5, "2.21.0")), block(2, bytes(300)))
    assert judge(core_ml + bytes(500)).grade == Grade.REJECTED
    assert judge(saved_model).grade == Grade.REJECTED


def deep(levels):
    inner = block(1, "x")
    for _ in range(levels):
        inner = block(1, "t") + block(6, block(1, block(4, "If"), block(5, inner)))
    return block(1, block(4, "If"), block(5, inner))


BROKEN_CHILDREN = {
    "unknown-field": block(1, block(4, "Relu"), b"\x5a\x01a"),
    "operator": block(1, block(4, "Re\x00lu")),
    "required-field": block(1, block(2, "nothing")),
    "wire-type": block(1, number(4, 1)),
    "text-encoding": block(1, block(1, b"\xff"), block(4, "Relu")),
    "name-zeros": block(1, block(1, bytes(8)), block(4, "Relu")),
    "depth": deep(80),
    "tensor-without-name": block(5, tensor("", 1, (1,), block(9, bytes(4)))),
    "tensor-size": block(5, tensor("w", 1, (5,), block(9, bytes(16)))),
    "unknown-dtype": block(5, tensor("w", 99, (5,), block(9, bytes(16)))),
    "dims": block(5, tensor("w", 1, (-1,), block(9, bytes(16)))),
    "packed-length": block(5, block(1, bytes(1000)), number(2, 1), block(8, "w")),
    "external-data-entry": block(5, tensor("w", 1, (1,), block(13, block(3, "x")))),
    "varint": block(5, tensor("w", 7, (1,), block(7, b"\x80"))),
}


@pytest.mark.parametrize("code", BROKEN_CHILDREN)
def test_a_broken_child_of_the_graph_damages_the_file_and_leaves_the_rest(code):
    content = HEAD + graph(BROKEN_CHILDREN[code], WEIGHTS) + opset(17)
    verdict = judge(content + bytes(100))
    assert (verdict.grade, verdict.size_bytes) == (Grade.DAMAGED, len(content))
    assert code in codes(verdict)
    assert [t.grade for t in verdict.tensors if t.name.startswith("conv")] == [Grade.CONSISTENT] * 2


def test_a_constant_whose_size_is_wrong_damages_the_file():
    constant = attribute("value", 4, block(5, tensor("", 1, (16,), block(9, bytes(60)))))
    verdict = judge(HEAD + graph(WEIGHTS, node("Constant", (), ("k",), constant)) + opset(17))
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, ["tensor-size"])


def test_a_chain_of_tags_that_breaks_behind_a_tensor_marks_that_tensor():
    content = bytearray(HEAD + graph(WEIGHTS) + opset(17))
    end = judge(content).tensors[0].layout[0].end_bytes
    content[end] = 0
    verdict = judge(content)
    assert verdict.grade == Grade.DAMAGED
    assert (verdict.findings[0].code, verdict.findings[0].offset_bytes) == ("tag", end)
    assert verdict.tensors[-1].grade == Grade.DAMAGED
    assert verdict.size_bytes == len(content)


def test_behind_a_lost_sector_the_walk_goes_on():
    rng = np.random.default_rng(8)
    many = [block(5, tensor(f"w.{n}", 1, (40,), block(9, rng.bytes(160)))) for n in range(40)]
    content = bytearray(HEAD + graph(WEIGHTS, *many) + opset(17))
    content[3072:3584] = bytes(512)
    verdict = judge(content)
    assert (verdict.grade, verdict.size_bytes) == (Grade.DAMAGED, len(content))
    lost = {f"w.{n}" for n in range(40)} - {t.name for t in verdict.tensors if t.grade == Grade.CONSISTENT}
    assert 2 <= len(lost) <= 5
    held = {t.name: t.layout[0] for t in verdict.tensors}
    assert all(content[held[f"w.{n}"].end_bytes] == 0x2A for n in range(30, 39))


def test_too_many_breaks_end_the_walk_but_not_the_verdict():
    verdict = judge(HEAD + graph(WEIGHTS, *[block(1, block(2, "x"))] * 50) + opset(17))
    assert verdict.grade == Grade.DAMAGED
    assert codes(verdict).count("required-field") < 50


def test_a_flipped_letter_in_a_name_is_found_as_a_dangling_input():
    content = PLAIN.replace(b"conv.bias", b"conv.bjas", 1)
    verdict = judge(content)
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, ["dangling-input"])


def test_a_graph_without_operator_set_is_damaged_or_at_the_end_of_the_source_truncated():
    content = HEAD + graph(WEIGHTS)
    followed, last = judge(content + bytes(100)), judge(content)
    assert (followed.grade, codes(followed)) == (Grade.DAMAGED, ["missing-opset"])
    assert (last.grade, codes(last)) == (Grade.TRUNCATED, ["cut-short"])


def test_a_cut_model_is_truncated_with_the_tensors_before_the_cut():
    first = judge(PLAIN).tensors[0].layout[0]
    verdict = judge(PLAIN[: first.end_bytes - 10])
    assert (verdict.grade, verdict.size_bytes) == (Grade.TRUNCATED, len(PLAIN) - len(opset(17)))
    assert [(t.name, t.grade) for t in verdict.tensors] == [("conv.weight", Grade.TRUNCATED)]
    assert verdict.tensors[0].shape == (8, 3, 3, 3)


def test_a_second_operator_set_of_the_same_domain_makes_the_end_ambiguous():
    verdict = judge(PLAIN + opset(16))
    assert (verdict.grade, codes(verdict)) == (Grade.CONSISTENT, ["ambiguous-end"])
    assert verdict.findings[0].offset_bytes == len(PLAIN)


def test_what_may_be_a_further_field_cut_by_the_end_of_the_source_is_told():
    verdict = judge(PLAIN + entry(14, "author", "somebody")[:-3])
    assert (verdict.size_bytes, codes(verdict)) == (len(PLAIN), ["ambiguous-end"])


def test_a_later_ir_version_may_have_unknown_fields_and_types_and_is_undecided():
    newer = number(1, 20) + graph(WEIGHTS, block(30, "new")) + opset(40)
    typed = number(1, 20) + graph(WEIGHTS, block(5, tensor("n", 77, (2,), block(9, bytes(4))))) + opset(40)
    assert (judge(newer).grade, codes(judge(newer))) == (Grade.UNDECIDED, ["unknown-field"])
    assert (judge(typed).grade, codes(judge(typed))) == (Grade.UNDECIDED, ["unknown-dtype"])
    assert judge(typed).tensors[-1].grade == Grade.UNDECIDED


def test_a_tensor_left_out_on_purpose_is_told_and_not_punished():
    verdict = judge(HEAD + graph(WEIGHTS, block(5, tensor("stripped", 1, (4,)))) + opset(17))
    assert (verdict.grade, codes(verdict)) == (Grade.CONSISTENT, ["tensor-without-data"])


@pytest.mark.parametrize(
    ("place", "grade"), [("4096", Grade.CONSISTENT), ("", Grade.CONSISTENT), ("4\x0296", "DAMAGED")]
)
def test_external_data_at_a_place_that_is_no_number_is_damage(place, grade):
    told = block(13, block(1, "location"), block(2, "w.data")) + block(13, block(1, "offset"), block(2, place))
    verdict = judge(HEAD + graph(WEIGHTS, block(5, tensor("far", 1, (4,), told, number(14, 1)))) + opset(17))
    assert verdict.grade == grade
    assert ("external-data-entry" in codes(verdict)) == (grade == "DAMAGED")


def test_external_data_is_named_sized_and_names_the_model():
    verdict = judge(SAMPLES["external-data"].content)
    assert "external-data" in codes(verdict)
    assert verdict.facts["external_files"] == {"big.onnx.data": 4096 + 4194304}
    assert verdict.facts["external_data"] == [
        {
            "tensor": "big",
            "dtype": "float32",
            "shape": [1024, 1024],
            "location": "big.onnx.data",
            "offset": "4096",
            "length": "4194304",
        }
    ]
    assert (verdict.facts["name"], verdict.facts["name_source"]) == ("big", "external data location")
    assert verdict.tensors[0].layout == ()


def test_facts_tell_producer_operators_and_name():
    facts = judge(SAMPLES["all-head-fields"].content).facts
    assert (facts["ir_version"], facts["producer"], facts["producer_version"]) == (10, "skl2onnx", "1.20")
    assert facts["opsets"] == {"": 17, "com.microsoft": 1}
    assert facts["operators"] == {"Conv": 1, "Relu": 1}
    assert facts["parameters"] == 8 * 27 + 8
    assert facts["metadata"] == {"author": "nobody", "names": "{0: 'cat'}"}
    assert "name" not in facts
    assert judge(SAMPLES["no-producer"].content).facts["name"] == "tiny-classifier"
    assert judge(SAMPLES["subgraphs"].content).facts["nested_tensors"] == 2


def test_a_forest_of_unpacked_numbers_is_walked():
    ids = attribute("nodes_ids", 7, *(number(8, value) for value in range(30_000)))
    values = attribute("nodes_values", 6, *(varint(7 << 3 | 5) + bytes(4) for _ in range(30_000)))
    content = HEAD + graph(WEIGHTS, node("TreeEnsembleRegressor", ("x",), ("r",), ids, values)) + opset(17)
    verdict = judge(content)
    assert (verdict.grade, verdict.size_bytes) == (Grade.CONSISTENT, len(content))


def test_a_producer_hit_is_a_start_only_behind_an_ir_version():
    assert starts_of(bytes(100) + PLAIN, "pytorch") == [100]
    assert starts_of(bytes(100) + b"\x09\x09" + PLAIN[2:], "pytorch") == []
    assert starts_of(PLAIN[1:], "pytorch") == []


def starts_of(content, name):
    """The starts that the first place of a pattern leads to, if the scan tells of it."""
    pattern = next(pattern for pattern in onnx.FORMAT.patterns if pattern.name == name)
    at = content.index(pattern.bytes)
    return list(onnx.FORMAT.starts(Memory(content), at, pattern)) if asked(content, at, pattern) else []


@pytest.mark.parametrize("producer", ["spox", "model"])
def test_a_producer_with_a_short_name_is_a_start(producer):
    content = number(1, 8) + block(2, producer) + graph(WEIGHTS) + opset(16)
    assert starts_of(b"\x5c" * 777 + content, producer) == [777]


def test_a_short_producer_name_in_text_of_another_protobuf_is_no_start():
    assert starts_of(bytes(50) + block(2, "model") + b"\x08\x01", "model") == []
    assert starts_of(b"\x08\x07" + block(2, "model") + b"s are here", "model") == []


CONSTANT = node("Constant", (), ("k",), attribute("value", 4, block(5, tensor("", 1, (4,), block(9, bytes(16))))))
HEADS = {
    "nothing": number(1, 8),
    "an unknown producer": number(1, 8) + block(2, "somebody"),
    "all that may": number(1, 8) + block(2, "x") + block(3, "1") + block(4, "ai") + number(5, 300) + block(6, "a doc"),
}


@pytest.mark.parametrize("head", HEADS)
def test_a_model_without_known_producer_starts_where_the_fields_lead_to_its_first_operator(head):
    content = HEADS[head] + block(7, CONSTANT, WEIGHTS) + opset(16)
    assert starts_of(b"\x08\x07\x3a" * 259 + content, "first-Constant") == [777]


def test_the_operator_of_a_later_node_is_no_start():
    content = number(1, 8) + block(7, node("Relu", ("x",), ("y",)), CONSTANT, WEIGHTS) + opset(16)
    assert starts_of(bytes(777) + content, "first-Constant") == []


NO_WAY_BACK = {
    "ir version": b"\x08\x21" + block(7, CONSTANT),
    "graph too short": b"\x08\x08\x3a\x04" + CONSTANT,
    "node too short": b"\x08\x08\x3a\x40\x0a\x02" + CONSTANT[2:],
    "no node": b"\x08\x08\x3a\x40" + CONSTANT[2:],
    "no graph": b"\x08\x08" + CONSTANT,
    "names of another length": b"\x08\x08" + block(7, CONSTANT).replace(b"\x12\x01k", b"\x12\x02k"),
    "a number without end": b"\x08\x08\x3a" + b"\x80" * 12 + CONSTANT,
    "nothing before": CONSTANT[5:],
}


@pytest.mark.parametrize("defect", NO_WAY_BACK)
def test_where_the_fields_do_not_lead_to_the_operator_there_is_no_start(defect):
    assert starts_of(NO_WAY_BACK[defect], "first-Constant") == []


def test_hostile_bytes_before_an_operator_never_raise_and_name_starts_before_it():
    rng = np.random.default_rng(9)
    for _ in range(2000):
        before = bytes(rng.choice(list(b"\x08\x0a\x12\x3a\x28\x80\xff\x01\x02\x40"), 40).astype(np.uint8))
        assert all(0 <= start < 40 for start in starts_of(before + CONSTANT[5:], "first-Constant"))


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_reached_by_a_probe_or_a_pattern(name):
    content = SAMPLES[name].content
    probed = any(
        all(content[index] in allowed for index, allowed in enumerate(probe.allowed)) for probe in onnx.FORMAT.probes
    )
    assert probed


@given(st.data())
def test_mutated_models_never_raise_and_never_grow_past_the_window(data):
    content = bytearray(SAMPLES[data.draw(st.sampled_from(sorted(SAMPLES)))].content[:3000])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=10))
        if not content:
            return
    verdict = judge(content)
    if verdict.grade == Grade.CONSISTENT:
        assert verdict.size_bytes <= len(content)
