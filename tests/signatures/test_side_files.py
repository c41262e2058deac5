"""Small files that tell of models: pointers, indices, configurations."""

from __future__ import annotations

import hashlib
import json

import pytest

from fixtures.formats import bpe_merges, git_lfs_pointer, huggingface_download, model_json, sha256_list, weights_index
from imaging.extent import span
from imaging.window import Window
from signatures import _json_text
from signatures._json_text import read_object, whole_number
from signatures.bpe_merges import FORMAT as MERGES
from signatures.git_lfs_pointer import FORMAT as POINTER
from signatures.huggingface_download import FORMAT as DOWNLOAD
from signatures.model_json import FORMAT as JSON
from signatures.sha256_list import FORMAT as SUMS
from signatures.tensors import names_digest
from signatures.verdict import Grade
from signatures.weights_index import FORMAT as INDEX
from tests.signatures.zip_window import MemorySource, codes, judge, starts_in

CONTENT = b"weights"
PLAIN = git_lfs_pointer.pointer(CONTENT)


def test_a_pointer_tells_length_and_hash_of_what_it_stands_for():
    facts = judge(POINTER, PLAIN + bytes(400)).facts
    assert facts["names_sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert facts["names_size_bytes"] == len(CONTENT)


@pytest.mark.parametrize(
    "broken",
    [
        PLAIN.replace(b"oid sha256:", b"oid sha256:0"),
        PLAIN.replace(b"size ", b"size -"),
        PLAIN.replace(b"size ", b"size 0"),
        PLAIN.replace(b"size 7", b"size " + b"9" * 20),
        PLAIN.replace(b"\noid", b"\r\noid"),
        PLAIN.replace(b"sha256", b"sha512"),
        PLAIN[:-1],
    ],
    ids=range(7),
)
def test_what_breaks_the_grammar_of_a_pointer_is_none(broken):
    verdict = judge(POINTER, broken)
    assert (verdict.grade, codes(verdict)) == (Grade.REJECTED, {"grammar"})


def test_a_pointer_in_a_manual_is_no_pointer_and_one_in_a_file_systems_record_is():
    assert starts_in(POINTER, b"For example:\n" + PLAIN) == set()
    assert starts_in(POINTER, bytes(512) + PLAIN) == {512}
    assert starts_in(POINTER, b"\x18\0\0\0" + PLAIN) == {4}


def test_an_index_tells_each_shard_by_the_digest_of_its_tensors():
    made = weights_index.index({"m-00001-of-00002.bin": ["b", "a"], "m-00002-of-00002.bin": ["c"]}, total_bytes=99)
    verdict = judge(INDEX, made + bytes(9))
    assert verdict.size_bytes == len(made)
    assert verdict.facts["total_size"] == 99
    assert (verdict.facts["name"], verdict.facts["name_source"]) == ("m.bin", "shard names")
    assert verdict.facts["shards"] == [
        {"name": "m-00001-of-00002.bin", "tensors": 2, "names_sha256": names_digest(["a", "b"])},
        {"name": "m-00002-of-00002.bin", "tensors": 1, "names_sha256": names_digest(["c"])},
    ]


@pytest.mark.parametrize(
    "weight_map", [{}, [], {"a": 1}, {"a": ""}, {"a": "x" * 300 + ".b"}, {"a": "no\nname.bin"}, {"a": "noname"}]
)
def test_a_weight_map_that_is_none_is_rejected(weight_map):
    verdict = judge(INDEX, json.dumps({"weight_map": weight_map}).encode())
    assert (verdict.grade, codes(verdict)) == (Grade.REJECTED, {"weight-map"})


def test_an_index_of_too_many_shards_is_rejected():
    many = weights_index.index({f"m-{n}.bin": [str(n)] for n in range(4097)}, total_bytes=1)
    assert codes(judge(INDEX, many)) == {"weight-map"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"[]", "not-json"),
        (b'{"a": 1}', "no-known-keys"),
        (b'{"model_type": "llama"', "not-json"),
        (b'{"model_type": "llama", "x": \xff}', "not-json"),
        (b'{"model_type": "\xff"}', "not-utf-8"),
        (b'{"model_type": "llama", "x": ' + b"[" * 100_000, "too-deep"),
        (b'{"model_type": "llama", "x": ' + b"9" * 5000 + b"}", "not-json"),
        (b'{"model_type": 7}', "no-known-keys"),
    ],
    ids=["list", "other", "cut", "byte", "utf", "deep", "digits", "type"],
)
def test_what_is_no_whole_json_of_a_known_kind_is_rejected(text, code):
    verdict = judge(JSON, text + bytes(3))
    assert (verdict.grade, codes(verdict)) == (Grade.REJECTED, {code})


def test_json_longer_than_any_of_its_kind_is_rejected(monkeypatch):
    monkeypatch.setattr(_json_text, "READ_BYTES", (1000, 70_000))
    long = b'{"model_type": "llama", "x": "' + b"x" * 80_000 + b'"}'
    assert codes(judge(JSON, long)) == {"too-long"}
    assert judge(JSON, long.replace(b"x" * 40_000, b"")).size_bytes == len(long) - 80_000


def test_what_follows_an_object_is_not_read_with_it():
    source = MemorySource(model_json.written(model_json.LLAMA) + b'{"model_type": 1}\n' * 100_000)
    assert not isinstance(read_object(Window(source, (span(0, source.size_bytes),)), lambda look: True), str)
    assert source.reads < 4


def test_an_error_far_before_the_end_of_what_was_read_ends_the_reading():
    broken = b'{"model_type": "llama", "x": nonsense, "y": "' + b"y" * (2 << 20) + b'"}'
    source = MemorySource(broken)
    assert read_object(Window(source, (span(0, source.size_bytes),)), lambda look: True) == "not-json"
    assert source.reads < 8


@pytest.mark.parametrize("name", model_json.kinds())
def test_each_kind_is_told_by_its_keys(name):
    verdict = judge(JSON, model_json.written(model_json.kinds()[name]))
    assert verdict.facts["kind"] == name
    assert str(verdict.facts["name"]) + ".json" == name


def test_a_configuration_tells_its_sizes_also_those_of_an_inner_text_model():
    outer = {"model_type": "gemma3", "text_config": {"hidden_size": 2560, "num_hidden_layers": 34}, "vocab_size": 5}
    facts = judge(JSON, model_json.written(outer)).facts
    assert (facts["hidden_size"], facts["num_hidden_layers"], facts["vocab_size"]) == (2560, 34, 5)


def test_numbers_that_json_cannot_hold_again_are_no_facts():
    facts = judge(JSON, b'{"global_step": 5, "log_history": [], "epoch": Infinity, "best_metric": NaN}').facts
    assert facts["global_step"] == 5
    assert "epoch" not in facts and "best_metric" not in facts


def test_a_vocabulary_numbers_its_words_from_zero_on_each_once():
    words = {f"word{n}": n for n in range(1200)}
    assert judge(JSON, model_json.written(words, indent=None)).facts["kind"] == "vocab.json"
    twice = words | {"word7": 8}
    assert codes(judge(JSON, model_json.written(twice, indent=None))) == {"no-known-keys"}


@pytest.mark.parametrize(
    ("value", "number"),
    [(5, 5), (5.0, 5), (-1, None), (True, None), ("5", None), (float("inf"), None), (1 << 63, None)],
)
def test_only_whole_sizes_are_sizes(value, number):
    assert whole_number(value) == number


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_one_line_end_belongs_to_the_file(end):
    text = b'{"model_type": "llama"}' + end
    assert judge(JSON, text + bytes(5)).size_bytes == len(text)
    assert judge(JSON, text + b"\n\n").size_bytes == len(text) + (0 if end else 1)


def test_merges_end_with_the_last_line_of_two_tokens():
    whole = bpe_merges.merges(1, 20)
    for tail in (b"", b"\0\0", b"one two three\n", b"\n", b"\xff \xff\n"):
        verdict = judge(MERGES, whole + tail)
        assert (verdict.size_bytes, codes(verdict)) == (len(whole), {"no-end-mark"})
    assert judge(MERGES, whole[:-1] + b"\0").size_bytes == len(whole) - 1
    assert judge(MERGES, whole[:-1]).facts["merges"] == 20


@pytest.mark.parametrize(
    ("text", "code"), [(b"#version: x\na b\n", "first-line"), (b"#version: 0.2\na b\nc d\n", "merges")]
)
def test_what_is_no_list_of_merges_is_rejected(text, code):
    verdict = judge(MERGES, text + bytes(4))
    assert (verdict.grade, codes(verdict)) == (Grade.REJECTED, {code})


def test_added_tokens_are_marks_numbered_on_from_one_another():
    assert judge(JSON, b'{"<a>": 7, "<b>": 8}').facts["kind"] == "added_tokens.json"
    for other in (
        b"{}" + b'"<a>": 7, "model_type"',
        b'{"<a>": 7, "<b>": 9}',
        b'{"<a>": 7, "b": 8}',
        b'{"<a>": 7, "<b>": "8"}',
    ):
        assert codes(judge(JSON, other)) == {"no-known-keys"}


def test_a_list_of_sums_ends_with_the_last_line_that_is_one():
    whole = sha256_list.sums({"a b.bin": b"1", "*x": b"2"})
    for tail in (b"", b"\0", b"\n", b"# more\n", whole[:40]):
        verdict = judge(SUMS, whole + tail)
        assert (verdict.size_bytes, codes(verdict)) == (len(whole), {"no-end-mark"})
    assert [one["name"] for one in verdict.facts["sums"]] == ["a b.bin", "*x"]
    assert judge(SUMS, whole[:-1] + b"\0").size_bytes == len(whole) - 1
    many = sha256_list.sums({f"{n}.bin": b"" for n in range(400)})
    assert judge(SUMS, many).size_bytes == len(many)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"0" * 64 + b"\n", "grammar"),
        (b"0" * 63 + b"  a\n", "grammar"),
        (b"A" * 64 + b"  a\n", "grammar"),
        (b"0" * 64 + b"  \xff\n", "not-utf-8"),
        ((b"0" * 64 + b"  a\n") * 10_001, "too-long"),
    ],
    ids=range(5),
)
def test_what_is_no_list_of_sums_is_rejected(text, code):
    assert codes(judge(SUMS, text)) == {code}


def test_a_record_of_a_download_is_its_three_lines_and_no_more():
    whole = huggingface_download.record(CONTENT)
    facts = judge(DOWNLOAD, whole + b"more").facts
    assert facts["names_sha256"] == hashlib.sha256(CONTENT).hexdigest()
    git_hash = whole.replace(facts["names_sha256"].encode(), b"0" * 40)
    for broken in (git_hash, whole[:-1], whole.replace(b"\n17", b"\n-17"), whole.upper()):
        assert codes(judge(DOWNLOAD, broken)) == {"grammar"}
