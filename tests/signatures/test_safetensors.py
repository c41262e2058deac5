"""safetensors: every byte accounted for by the header, every defect with its code, zero tails told apart."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.formats import safetensors as built
from fixtures.formats.safetensors import LAYER, assemble, compact, entries, payload
from imaging.extent import Extent
from imaging.window import Window
from signatures import _safetensors_header, safetensors
from signatures.verdict import Grade

SAMPLES = {sample.name: sample for sample in built.samples(20261122)}
RNG = np.random.default_rng(3)
HEADER = entries(LAYER)
DATA = payload(RNG, LAYER)
PLAIN = assemble(compact(HEADER), DATA)
ONE = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}


class Memory:
    locator, sector_bytes, unread = "memory", 512, None

    def __init__(self, content):
        self.content, self.size_bytes, self.reads = bytes(content), len(content), 0

    def read_at(self, offset_bytes, size_bytes):
        self.reads += 1
        return self.content[offset_bytes : offset_bytes + size_bytes]


def judge(content):
    return safetensors.validate(Window(Memory(content), (Extent(offset_bytes=0, size_bytes=len(content)),)))


def codes(verdict):
    return [finding.code for finding in verdict.findings]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[-0,4]}}', "header-number"),
        (b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":NaN}}', "header-number"),
        (b'{"a":{"dtype":"U8","shape":[9223372036854775807,9,0],"data_offsets":[0,0]}}', "entry-form"),
        (b'{"__metadata__":{},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"__metadata__":{}}', "entry-form"),
    ],
)
def test_what_pythons_json_takes_and_the_reference_reader_does_not_is_refused(text, code):
    reader = pytest.importorskip("safetensors")
    content = with_text(text)
    assert codes(judge(content)) == [code]
    with pytest.raises(reader.SafetensorError):
        reader.deserialize(content)


@pytest.mark.parametrize("follower", [b"", bytes(5000), np.random.default_rng(1).bytes(5000), PLAIN])
@pytest.mark.parametrize("name", SAMPLES)
def test_the_length_is_exact_whatever_follows(name, follower):
    sample = SAMPLES[name]
    verdict = judge(sample.content + follower)
    assert (verdict.grade, verdict.size_bytes) == (sample.grade, len(sample.content)), verdict.findings
    assert sorted((t.name, t.dtype, t.shape) for t in verdict.tensors) == sorted(sample.tensors)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_the_reference_reader_finds_the_same_tensors_and_bytes(name):
    reader = pytest.importorskip("safetensors")
    content = SAMPLES[name].content
    found = {tensor.name: tensor for tensor in judge(content).tensors}
    read = dict(reader.deserialize(content))
    assert found.keys() == read.keys()
    for key, stored in read.items():
        assert found[key].shape[:-1] == tuple(stored["shape"])[:-1]
        held = b"".join(content[e.offset_bytes : e.end_bytes] for e in found[key].layout)
        assert held == bytes(stored["data"])


def with_text(text, data=b"\1\2\3\4"):
    return assemble(text if isinstance(text, bytes) else json.dumps(text).encode(), data)


REFUSED = {
    "header-length": struct.pack("<Q", 1 << 40) + b'{"' + bytes(90),
    "header-past-end": struct.pack("<Q", 5000) + b'{"a": 1}',
    "header-start": with_text(b'["a", "b"]'),
    "header-bytes": with_text(b'{"a":\x01{}}'),
    "header-end": with_text(b'{"a":{}} x'),
    "header-encoding": with_text(b'{"\xff":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'),
    "header-json": with_text(b'{"a":{"dtype":}}'),
    "header-brackets": with_text(b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}"),
    "header-number": with_text(b'{"a":{"dtype":"U8","shape":[' + b"9" * 30 + b'],"data_offsets":[0,4]}}'),
    "metadata-type": with_text({"__metadata__": {"a": 1}, "t": ONE}),
    "entry-form": with_text({"t": {**ONE, "shape": [4.0]}}),
    "tensor-size": with_text({"t": {**ONE, "data_offsets": [0, 3]}}),
    "hole": with_text({"t": {**ONE, "data_offsets": [4, 8]}}, bytes(8)),
    "overlap": with_text({"t": ONE, "u": {**ONE, "data_offsets": [2, 6]}}, bytes(6)),
    "empty": with_text(b"{}      "),
}


@pytest.mark.parametrize("code", REFUSED)
def test_what_is_no_file_is_rejected_with_the_code(code):
    verdict = judge(REFUSED[code] + bytes(100 if code not in ("header-past-end",) else 0))
    assert (verdict.grade, codes(verdict)) == (Grade.REJECTED, [code])


def test_more_keys_than_any_header_has_are_rejected_before_they_take_memory(monkeypatch):
    monkeypatch.setattr(_safetensors_header, "MAX_KEYS", 3)
    assert codes(judge(with_text({"t": ONE}))) == ["header-keys"]


@pytest.mark.parametrize(
    "entry",
    [
        7,
        {"dtype": "U8", "shape": [4]},
        {"dtype": 8, "shape": [4], "data_offsets": [0, 4]},
        {"dtype": "U8", "shape": [True, 4], "data_offsets": [0, 4]},
        {"dtype": "U8", "shape": [-4], "data_offsets": [0, 4]},
        {"dtype": "U8", "shape": [4], "data_offsets": [0, 4, 8]},
        {"dtype": "U8", "shape": [4], "data_offsets": [0, 1e9]},
    ],
)
def test_an_entry_of_another_form_is_rejected(entry):
    assert codes(judge(with_text({"t": entry}))) == ["entry-form"]


def test_a_lone_surrogate_is_no_name():
    text = b'{"\\ud800":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'
    assert codes(judge(with_text(text))) == ["header-encoding"]


def test_a_repeated_tensor_counts_last_and_is_told():
    verdict = judge(SAMPLES["duplicate-key"].content)
    assert (verdict.grade, codes(verdict)) == (Grade.CONSISTENT, ["duplicate-key"])
    assert [(t.name, t.dtype) for t in verdict.tensors] == [("alpha", "float64")]


@pytest.mark.parametrize(
    "text",
    [
        b'{"t":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
        b'{"t":{"dtype":"Q8","shape":[4],"data_offsets":[0,4]},"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
        b'{"t":{"dtype":"U8"},"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
    ],
)
def test_a_repetition_that_the_reference_reader_refuses_is_rejected(text):
    assert codes(judge(with_text(text))) == ["entry-form"]


def test_an_unknown_dtype_is_undecided_with_its_bits_inferred():
    verdict = judge(with_text({"a": ONE, "b": {"dtype": "Q12", "shape": [2, 2], "data_offsets": [4, 10]}}, bytes(10)))
    assert (verdict.grade, codes(verdict)) == (Grade.UNDECIDED, ["unknown-dtype"])
    assert "12 bits" in verdict.findings[0].detail
    assert [(t.dtype, t.grade) for t in verdict.tensors] == [("uint8", "CONSISTENT"), ("Q12", "UNDECIDED")]


def test_a_cut_file_is_truncated_with_the_tensors_inside_left_consistent():
    verdict = judge(PLAIN[:-3000])
    assert (verdict.grade, verdict.size_bytes, codes(verdict)) == (Grade.TRUNCATED, len(PLAIN), ["cut-short"])
    whole = {t.name for t in verdict.tensors if t.grade == Grade.CONSISTENT}
    assert "model.embed.weight" in whole
    assert {t.grade for t in verdict.tensors if t.name not in whole} == {Grade.TRUNCATED}


@pytest.mark.parametrize(
    ("code", "damage"),
    [
        ("header-json", lambda text: text.replace(b'"dtype":"F16"', b'"dtype";"F16"')),
        ("hole", lambda text: text.replace(b'"dtype":"F16"', b'"dtype":"F16","x":0').replace(b"attn", b"attn", 1)),
        ("header-encoding", lambda text: text.replace(b"attn.weight", b"attn\xffweight")),
        ("tensor-size", lambda text: text.replace(b'"F16","shape":[48,48]', b'"F16","shape":[48,49]')),
        ("header-json", lambda text: text.replace(b'"F16","shape":', bytes(14))),
    ],
)
def test_a_broken_entry_damages_the_file_and_leaves_the_other_tensors(code, damage):
    text = damage(compact(HEADER))
    if code == "hole":
        text = compact({name: entry for name, entry in HEADER.items() if "attn" not in name})
    verdict = judge(assemble(text, DATA))
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, [code])
    assert {t.name for t in verdict.tensors} == {name for name, _, _ in LAYER if "attn" not in name}
    assert verdict.size_bytes == len(text) + 8 + len(DATA)


def test_a_header_cut_by_the_end_of_the_source_gives_the_entries_before_the_cut():
    header = compact(HEADER)
    verdict = judge(assemble(header, b"")[: len(header) - 40])
    assert verdict.grade == Grade.TRUNCATED
    assert codes(verdict) == ["header-past-end", "cut-short"]
    assert {t.grade for t in verdict.tensors} == {Grade.TRUNCATED}


def test_an_escaped_name_survives_in_a_broken_header():
    header = {f'x "{n}" \\': {**ONE, "data_offsets": [4 * n, 4 * n + 4]} for n in range(5)}
    text = compact(header).replace(b'"U8"', b'"U8', 1)
    verdict = judge(assemble(text, bytes(range(20))))
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, ["header-json"])
    assert {t.name for t in verdict.tensors} == set(header) - {'x "0" \\'}


def test_offsets_that_lost_their_brace_are_no_entry_of_the_tensor_before():
    text = b'{"a":{"dtype":"U8","shape":[4]},"b":"U8","data_offsets":{"x":[0,4]}'
    assert _safetensors_header.salvage_entries(text) == []
    assert judge(with_text(text)).grade == Grade.REJECTED


@pytest.mark.parametrize(
    "piece", [b'"b":{"data_offsets":},', b'"data_offsets"', b'"\\"b":{"data_offsets":[' + b"[" * 500]
)
def test_text_full_of_broken_entries_is_given_up(piece):
    verdict = judge(with_text(b'{"a":' + piece * 3000 + b"}"))
    assert verdict.grade == Grade.REJECTED


def test_a_header_whose_end_is_damaged_leaves_no_tensor_trusted():
    text = compact(HEADER)
    verdict = judge(assemble(text[:-12] + b"\x80" * 12, DATA))
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, ["header-end"])
    assert {t.grade for t in verdict.tensors} == {Grade.DAMAGED}


BIG = (("a.weight", "F32", (300, 300)), ("b.weight", "F32", (200, 200)), ("c.bias", "F32", (200,)))


def zeroed_from(specs, start):
    content = assemble(compact(entries(specs)), payload(RNG, specs))
    return content[:start] + bytes(len(content) - start)


def grades(verdict):
    return {tensor.name: str(tensor.grade) for tensor in verdict.tensors}


def test_zeros_from_a_sector_edge_inside_a_tensor_are_an_interrupted_save():
    verdict = judge(zeroed_from(BIG, 4096 * 20))
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, ["zero-tail"])
    assert set(grades(verdict).values()) == {"DAMAGED"}
    later = judge(zeroed_from(BIG, 4096 * 95))
    assert grades(later) == {"a.weight": "CONSISTENT", "b.weight": "DAMAGED", "c.bias": "DAMAGED"}


def test_whole_zero_tensors_with_a_matrix_among_them_are_an_interrupted_save():
    start = judge(zeroed_from(BIG, 1000)).tensors[1].layout[0].offset_bytes
    verdict = judge(zeroed_from(BIG, start))
    assert grades(verdict) == {"a.weight": "CONSISTENT", "b.weight": "DAMAGED", "c.bias": "DAMAGED"}


@pytest.mark.parametrize(
    "specs", [(("a", "F32", (300, 300)), ("lora_B", "F32", (300, 300))), (("all.zero", "F32", (300, 300)),)]
)
def test_one_zero_initialised_tensor_at_the_end_is_not_punished(specs):
    start = judge(zeroed_from(specs, 1000)).tensors[-1].layout[0].offset_bytes
    verdict = judge(zeroed_from(specs, start))
    assert (verdict.grade, codes(verdict)) == (Grade.CONSISTENT, [])


def test_zero_biases_at_the_end_are_told_but_not_punished():
    specs = (("a", "F32", (99, 99)), ("b.bias", "F32", (20000,)), ("c.bias", "F32", (20000,)))
    start = judge(zeroed_from(specs, 1000)).tensors[1].layout[0].offset_bytes
    verdict = judge(zeroed_from(specs, start))
    assert (verdict.grade, codes(verdict)) == (Grade.CONSISTENT, ["zero-tail"])


def test_the_name_comes_from_the_metadata():
    named, titled = judge(SAMPLES["metadata"].content).facts, judge(SAMPLES["metadata-last"].content).facts
    assert (named["name"], named["name_source"]) == ("my-style", "ss_output_name")
    assert titled["name"] == "Ein schöner Stil"
    assert len(titled["metadata"]["ss_long"]) < 3000
    assert named["dtypes"] == {"F16": 1, "F32": 4, "I64": 1}
    assert named["parameters"] == 64 * 48 + 48 * 48 + 48 + 1 + 32


def found_starts(content):
    source = Memory(content)
    found = set()
    for pattern in safetensors.FORMAT.patterns:
        at = content.find(pattern.bytes)
        while at >= 0:
            found |= set(safetensors.starts(source, at, pattern))
            at = content.find(pattern.bytes, at + 1)
    return found


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_found_anywhere(name):
    assert 1000 in found_starts(b"\x55" * 1000 + SAMPLES[name].content)


def test_thousands_of_hits_in_one_header_cost_one_read_each_and_give_one_start():
    specs = tuple((f"tensor.{n}", "U8", (1,)) for n in range(3000))
    content = compact(entries(specs))
    source = Memory(assemble(content, bytes(3000)))
    pattern = next(pattern for pattern in safetensors.FORMAT.patterns if pattern.name == "data-offsets")
    hits = [at for at in range(len(source.content)) if source.content.startswith(pattern.bytes, at)]
    assert [start for at in hits for start in safetensors.starts(source, at, pattern)] == [0]
    assert source.reads <= len(hits) + 1


def test_a_length_that_no_header_has_drops_the_hit():
    pattern = safetensors.FORMAT.patterns[0]
    content = b"\xff\xff\xff\xff" + b'\0\0\0\0{"' + bytes(90)
    assert list(safetensors.starts(Memory(content), 4, pattern)) == []
    assert list(safetensors.starts(Memory(content), 2, pattern)) == []


@given(st.data())
def test_mutated_files_never_raise_and_what_passes_the_reference_reader_takes(data):
    reader = pytest.importorskip("safetensors")
    content = bytearray(
        SAMPLES[data.draw(st.sampled_from(("metadata", "scalar", "every-dtype", "duplicate-key")))].content
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(content) - 1, 600)))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=6))
    verdict = judge(content)
    if verdict.grade == Grade.CONSISTENT:
        reader.deserialize(bytes(content[: verdict.size_bytes]))
