"""GGUF: what a writer writes is judged exactly, what contradicts itself is told, nothing is believed unbounded."""

from __future__ import annotations

import importlib.util
import json
import random
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fixtures.formats.gguf import KEYS, LAYER, TYPES, Style, assemble, header, samples, stored_bytes, text
from signatures import _gguf_header
from signatures._gguf_types import GGML_TYPES
from signatures.gguf import FORMAT
from signatures.verdict import Grade
from tests.signatures.zip_window import codes, ids, judge, patched, truth

SAMPLES = list(samples(7))
BY_NAME = {sample.name: sample for sample in SAMPLES}
ARCHITECTURE = (("general.architecture", 8, "llama"),)


def whole(keys=KEYS, specs=LAYER, style=None) -> bytes:
    return assemble(np.random.default_rng(3), keys, specs, style or Style())


def head(tensors: int, keys: int, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + rest


def key(name: str, kind: int, rest: bytes = b"") -> bytes:
    return text(name, "<") + struct.pack("<I", kind) + rest


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_kind_of_file_is_judged_exactly(sample):
    verdict = judge(FORMAT, sample.content + random.Random(1).randbytes(300))
    assert (verdict.grade, verdict.size_bytes) == (sample.grade, len(sample.content)), verdict.findings
    assert truth(verdict) == sorted(sample.tensors)
    assert not verdict.findings


def test_the_two_tables_of_types_were_written_apart_and_agree():
    assert GGML_TYPES == TYPES


def test_a_file_without_its_last_padding_ends_with_its_last_tensor():
    content = whole(specs=(*LAYER, ("last", 24, (33,))), style=Style(last_padding=False))
    for tail, extra in ((b"", 0), (b"\1" * 100, 0), (bytes(100), 31)):
        verdict = judge(FORMAT, content + tail)
        assert (verdict.grade, verdict.size_bytes) == (Grade.CONSISTENT, len(content) + extra)


def test_facts_name_the_model_its_quantisation_and_its_part():
    facts = judge(FORMAT, BY_NAME["split"].content).facts
    assert facts["name"] == "Tiny-Test-7B-Q4_K_M-00002-of-00003"
    assert facts["name_source"] == "general.name"
    assert (facts["architecture"], facts["quantisation"], facts["vocabulary"]) == ("llama", "Q4_K_M", 300)
    assert (facts["split_number"], facts["split_count"], facts["split_tensors"]) == (2, 3, 12)
    assert judge(FORMAT, BY_NAME["big-endian"].content).facts["byte_order"] == "big"


def test_without_a_file_type_the_most_frequent_type_names_the_quantisation():
    facts = judge(FORMAT, whole(keys=ARCHITECTURE, specs=LAYER[:2])).facts
    assert facts["quantisation"] == "Q8_0"
    assert "name" not in facts
    assert judge(FORMAT, whole(keys=(("general.file_type", 4, 1024 + 7),))).facts["quantisation"] == "Q8_0"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"GGUX" + bytes(40), "magic"),
        (b"GGUF" + struct.pack("<IQQ", 4, 1, 1), "version"),
        (head(1 << 40, 1), "counts"),
        (head(1, 1 << 40), "counts"),
        (head(0, 0) + bytes(64), "empty"),
        (head(0, 1, struct.pack("<Q", 70_000)), "key-length"),
        (head(0, 1, key("sch\0n", 4)), "key-text"),
        (head(0, 1, key("", 4)), "key-text"),
        (head(0, 1, key("a.b", 13)), "value-type"),
        (head(0, 1, key("a.b", 9, struct.pack("<IQ", 13, 1))), "value-type"),
        (head(0, 1, key("a.b", 8, struct.pack("<Q", 1 << 30))), "string-length"),
        (head(0, 1, key("a.b", 9, struct.pack("<IQQ", 8, 1, 1 << 30))), "string-length"),
        (head(0, 1, key("a.b", 9, struct.pack("<IQ", 8, 1 << 40))), "array-length"),
        (head(0, 1, key("a.b", 9, struct.pack("<IQ", 4, 1 << 40))), "array-length"),
        (head(0, 1, key("a.b", 9, struct.pack("<IQ", 9, 1) * 5)), "array-depth"),
        (head(0, 1, key("a.b", 9, struct.pack("<IQ", 12, 1 << 27))), "header-length"),
        (head(0, 1, key("a.b", 4)), "header-past-end"),
        (head(1, 0, struct.pack("<Q", 5000)), "tensor-name"),
        (head(1, 0, text("a\nb", "<")), "tensor-name"),
        (head(1, 0, struct.pack("<Q", 2) + b"\xff\xfe"), "tensor-name"),
        (head(1, 0, text("w", "<") + struct.pack("<I", 5)), "tensor-rank"),
        (head(1, 0, text("w", "<") + struct.pack("<I2QIQ", 2, 1 << 40, 1 << 40, 0, 0)), "tensor-shape"),
        (head(1, 0, text("w", "<") + struct.pack("<IQIQ", 1, 32, 5000, 0)), "tensor-type"),
        (head(1, 0, text("w", "<") + struct.pack("<IQIQ", 1, 32, 77, 0)), "unknown-type"),
        (head(1, 0, text("w", "<") + struct.pack("<IQIQ", 1, 33, 8, 0)), "block-size"),
        (head(1, 0, text("w", "<") + struct.pack("<IQIQ", 1, 32, 0, 64)), "tensor-offset"),
        (whole(keys=(("general.alignment", 4, 48),)), "alignment"),
        (whole(keys=(("general.alignment", 10, 32),)), "alignment"),
    ],
)
def test_what_no_gguf_has_is_rejected_with_its_reason(content, code):
    verdict = judge(FORMAT, content)
    assert (verdict.grade, codes(verdict)) == (Grade.REJECTED, {code})


def test_a_header_that_is_cut_names_what_it_still_knows():
    content = whole()
    made = header(KEYS, LAYER, Style())
    verdict = judge(FORMAT, content[: len(made) - 10])
    assert (verdict.grade, codes(verdict)) == (Grade.TRUNCATED, {"header-past-end"})
    assert [tensor.name for tensor in verdict.tensors] == [spec[0] for spec in LAYER[:-1]]
    assert all(not tensor.layout for tensor in verdict.tensors)
    assert verdict.facts["architecture"] == "llama"


def test_a_cut_file_keeps_the_tensors_before_the_cut():
    content = whole()
    verdict = judge(FORMAT, content[:-200])
    assert (verdict.grade, verdict.size_bytes, codes(verdict)) == (Grade.TRUNCATED, len(content), {"cut-short"})
    assert [tensor.grade for tensor in verdict.tensors] == ["CONSISTENT"] * 4 + ["TRUNCATED"]


@pytest.mark.parametrize("code", ["tensor-offset", "unknown-type", "block-size"])
def test_one_record_that_contradicts_its_neighbours_costs_that_tensor_only(code):
    specs = tuple((f"blk.{n}.weight", 0, (8, 64)) for n in range(6))
    content = whole(specs=specs)
    record = content.index(b"blk.2.weight") + len("blk.2.weight")
    change = {"tensor-offset": (4 + 8, 4), "unknown-type": (4 + 16, 99), "block-size": (4 + 16, 12)}[code]
    verdict = judge(FORMAT, patched(content, record + change[0], bytes([change[1]])))
    assert codes(verdict) == {code}
    grade = "UNDECIDED" if code == "unknown-type" else "DAMAGED"
    assert verdict.grade == grade
    assert verdict.size_bytes == len(content)
    assert [tensor.name for tensor in verdict.tensors if tensor.grade == grade] == ["blk.2.weight"]


def test_tensors_that_are_stored_in_another_order_are_still_found():
    spaced = tuple(spec for spec in LAYER if stored_bytes(spec) % 32 == 0)
    sizes = [stored_bytes(spec) for spec in spaced]
    made = header(KEYS, spaced, Style(), [sum(sizes[index + 1 :]) for index in range(len(spaced))])
    verdict = judge(FORMAT, made + bytes(-len(made) % 32) + b"\1" * sum(sizes))
    assert (verdict.grade, codes(verdict)) == (Grade.CONSISTENT, {"unsorted-offsets"})


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_broken_key_does_not_lose_the_tensors_after_it(order):
    content = whole(style=Style(order=order))
    at = content.index(b"<77>") - 8
    verdict = judge(FORMAT, patched(content, at, b"\xff" * 8) + b"\1" * 99)
    assert (verdict.grade, verdict.size_bytes, codes(verdict)) == (Grade.DAMAGED, len(content), {"string-length"})
    assert truth(verdict) == sorted(BY_NAME["version-2"].tensors)
    assert all(tensor.grade == "CONSISTENT" for tensor in verdict.tensors)


def test_an_array_whose_length_runs_past_everything_does_not_lose_the_tensors():
    content = whole()
    at = content.index(b"tokenizer.ggml.scores") + len("tokenizer.ggml.scores") + 4 + 4
    for count, code in ((1 << 24, "header-past-end"), (1 << 40, "array-length")):
        verdict = judge(FORMAT, patched(content, at, struct.pack("<Q", count)))
        assert (verdict.grade, verdict.size_bytes, codes(verdict)) == (Grade.DAMAGED, len(content), {code})
        assert truth(verdict) == sorted(BY_NAME["version-2"].tensors)


def test_a_broken_record_becomes_the_bytes_that_must_be_its():
    specs = tuple((f"blk.{n}.weight", 0, (8, 64)) for n in range(8))
    content = whole(specs=specs)
    at = content.index(b"blk.2.weight") - 8
    verdict = judge(FORMAT, patched(content, at, b"\xff" * 8))
    assert (verdict.grade, verdict.size_bytes, codes(verdict)) == (Grade.DAMAGED, len(content), {"tensor-name"})
    whole_tensors = judge(FORMAT, content).tensors
    assert verdict.tensors[2].layout == whole_tensors[2].layout
    assert [tensor.name for tensor in verdict.tensors if tensor.grade == "DAMAGED"] == ["record-2"]
    assert verdict.tensors[:2] + verdict.tensors[3:] == whole_tensors[:2] + whole_tensors[3:]


def test_a_header_whose_records_are_broken_too_tells_its_keys():
    made = header(KEYS, LAYER, Style())
    cut = patched(made, made.index(b"<77>") - 8, b"\xff" * 8)[: made.index(b"token_embd") + 4]
    verdict = judge(FORMAT, cut + b"\xee" * 4000)
    assert (verdict.grade, codes(verdict), verdict.tensors) == (Grade.DAMAGED, {"string-length"}, ())
    assert verdict.facts["architecture"] == "llama"


def test_a_count_of_tensors_that_is_too_small_is_seen():
    content = whole()
    verdict = judge(FORMAT, patched(content, 8, b"\2"))
    assert (verdict.grade, verdict.size_bytes, codes(verdict)) == (Grade.DAMAGED, len(content), {"tensor-count"})
    assert truth(verdict) == sorted(BY_NAME["version-2"].tensors)


def test_keys_and_names_that_come_twice_are_told():
    assert codes(judge(FORMAT, whole(keys=(*KEYS, KEYS[0])))) == {"duplicate-key"}
    verdict = judge(FORMAT, whole(specs=(*LAYER, LAYER[0])))
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"duplicate-name"})


def test_padding_that_is_not_zero_is_told():
    specs = (("a", 24, (33,)), ("b", 24, (32,)))
    content = whole(specs=specs)
    verdict = judge(FORMAT, patched(content, len(content) - 40, b"\1"))
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"padding"})


def test_zeros_from_a_sector_on_speak_of_a_save_that_was_interrupted():
    specs = tuple((f"blk.{n}.weight", 0, (64, 512)) for n in range(4))
    content = whole(specs=specs)
    middle = len(content) // 2 // 512 * 512
    verdict = judge(FORMAT, content[:middle] + bytes(len(content) - middle))
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"zero-tail"})
    assert (verdict.tensors[0].grade, verdict.tensors[-1].grade) == ("CONSISTENT", "DAMAGED")


def test_a_vocabulary_larger_than_a_page_is_read(monkeypatch):
    monkeypatch.setattr(_gguf_header, "PAGE_BYTES", 64)
    for sample in SAMPLES:
        assert judge(FORMAT, sample.content).size_bytes == len(sample.content)


def test_hostile_bytes_raise_nothing():
    rng = random.Random(8)
    for sample in SAMPLES:
        for _ in range(150):
            changed = bytearray(sample.content[: rng.randrange(24, 2600)])
            for _ in range(rng.randrange(1, 6)):
                at = rng.randrange(8, len(changed))
                changed[at : at + 1] = rng.choice([b"\xff", b"\0", rng.randbytes(1), b"\xff" * 8])
            assert judge(FORMAT, bytes(changed)).grade in Grade


READER = """
import json, sys
from gguf import GGUFReader
reader = GGUFReader(sys.argv[1])
print(json.dumps([[t.name, t.tensor_type.name, t.shape.tolist(), int(t.data_offset), int(t.n_bytes)]
                  for t in reader.tensors]))
"""


def reference_tensors(content: bytes, tmp_path: Path) -> list[list[object]]:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    told = subprocess.run([sys.executable, "-c", READER, str(path)], capture_output=True, timeout=60, check=True)
    words = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
    words |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}
    return [[name, words.get(word, word.lower()), *rest] for name, word, *rest in json.loads(told.stdout)]


def our_tensors(content: bytes) -> list[list[object]]:
    tensors = judge(FORMAT, content).tensors
    return [[t.name, t.dtype, list(t.shape[::-1]), t.offset_bytes, t.size_bytes] for t in tensors]


needs_gguf = pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the gguf package is not installed")


@needs_gguf
@pytest.mark.parametrize("name", ["version-2", "big-endian", "aligned-256", "every-value", "split"])
def test_the_reference_reader_sees_the_same_tensors_at_the_same_places(name, tmp_path):
    content = BY_NAME[name].content
    assert our_tensors(content) == reference_tensors(content, tmp_path)


@needs_gguf
def test_the_reference_reader_agrees_on_every_type_it_knows(tmp_path):
    from gguf.constants import GGML_QUANT_SIZES

    known = {int(number) for number in GGML_QUANT_SIZES} - {9}  # its Q8_1 is the old layout, of 40 bytes
    content = whole(specs=tuple((f"t{number}", number, (3, 256)) for number in sorted(known & set(TYPES))))
    assert our_tensors(content) == reference_tensors(content, tmp_path)
    assert len(known & set(TYPES)) >= 30


@needs_gguf
@pytest.mark.parametrize("big", [False, True])
def test_what_the_reference_writer_writes_is_judged_exactly(big, tmp_path):
    from gguf import GGMLQuantizationType, GGUFEndian, GGUFWriter

    path = tmp_path / "written.gguf"
    writer = GGUFWriter(path, "llama", endianess=GGUFEndian.BIG if big else GGUFEndian.LITTLE)
    writer.add_name("Written")
    writer.add_token_list(["a", "b"])
    writer.add_tensor("a", np.arange(35, dtype=np.float32).reshape(5, 7))
    writer.add_tensor("q", np.ones((4, 34 * 2), np.uint8), raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    content = path.read_bytes()
    verdict = judge(FORMAT, content + b"\1" * 64)
    assert (verdict.grade, verdict.size_bytes) == (Grade.CONSISTENT, len(content))
    assert truth(verdict) == [("a", "float32", (5, 7)), ("q", "q8_0", (4, 64))]
    assert our_tensors(content) == reference_tensors(content, tmp_path)


@needs_gguf
@pytest.mark.parametrize("split", [False, True])
def test_without_tensors_a_vocabulary_ends_with_its_keys_and_a_first_part_with_its_padding(split, tmp_path):
    from gguf import GGUFWriter

    path = tmp_path / "written.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_token_list(["a", "b"])
    if split:
        writer.add_uint16("split.no", 0)
        writer.add_uint16("split.count", 3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    content = path.read_bytes()
    verdict = judge(FORMAT, content + bytes(512))
    assert verdict.grade is Grade.CONSISTENT
    assert verdict.size_bytes == (-(-len(content) // 32) * 32 if split else len(content))
