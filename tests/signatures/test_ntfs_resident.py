"""Small files inside NTFS's records: found, put together around the update sequence, and carved as they were."""

from __future__ import annotations

import json
import random
import struct
import subprocess

import pytest

from fixtures.formats.weights_index import index
from fixtures.ntfs_record import record
from imaging.extent import layout_bytes
from imaging.window import Window
from signatures import huggingface_download, model_json, weights_index
from signatures._ntfs_resident import PATTERNS, resident
from signatures.verdict import Grade
from tests.command import good, need_program
from tests.report_schema import load_checked
from tests.signatures.zip_window import MemorySource

AT = 8192


def config(size_bytes: int) -> bytes:
    """Return a configuration of so many bytes."""
    told = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 320, "note": ""}
    told["note"] = "x" * (size_bytes - len(json.dumps(told)))
    return json.dumps(told).encode()


def found(content: bytes, may_begin: object = lambda head: True) -> list[bytes]:
    source = MemorySource(bytes(AT) + content + bytes(4096))
    layouts = list(resident(may_begin)(source, AT, PATTERNS[0]))  # type: ignore[arg-type]
    return [Window(source, layout).read_at(0, layout_bytes(layout)) for layout in layouts]


@pytest.mark.parametrize("record_bytes", [1024, 4096])
@pytest.mark.parametrize("size_bytes", [100, 170, 185, 190, 200, 500, 640])
def test_a_file_of_any_size_that_fits_is_read_as_it_was(size_bytes, record_bytes):
    content = config(size_bytes)
    assert found(record(content, record_bytes=record_bytes)) == [content]


def test_a_file_that_ends_at_every_place_around_the_update_sequence_is_read_as_it_was():
    rng = random.Random(3)
    for size_bytes in range(180, 200):
        content = rng.randbytes(size_bytes)
        assert found(record(content)) == [content]


def test_a_file_in_clusters_of_its_own_is_not_here():
    assert found(record(None)) == []


def test_only_what_may_be_looked_for_is_told():
    assert found(record(b"hello" * 9), lambda head: head.startswith(b"{")) == []


def changed(content: bytes, at: int, form: str, value: int) -> bytes:
    made = bytearray(content)
    struct.pack_into(form, made, at, value)
    return bytes(made)


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [
        *((510, "<H", 0x0999), (1022, "<H", 0x0999), (0x06, "<H", 4), (0x1C, "<I", 512), (0x1C, "<I", 1 << 31)),
        *(
            (0x04, "<H", 0xFFF0),
            (0x14, "<H", 0x20),
            (0x14, "<H", 0xFFF0),
            (0x38 + 4, "<I", 0),
            (0x38 + 4, "<I", 1 << 31),
        ),
    ],
    ids=str,
)
def test_a_record_that_cannot_be_is_none(at, form, value):
    assert found(changed(record(config(300)), at, form, value)) == []


def test_content_longer_than_its_attribute_is_none():
    content = config(300)
    whole = record(content)
    at = next(n for n in range(0x38, 1000, 8) if whole[n : n + 4] == b"\x80\0\0\0")
    assert found(changed(whole, at + 16, "<I", 900)) == []
    assert found(changed(whole, at + 16, "<I", 0)) == []


def test_a_record_cut_off_by_the_end_of_the_source_is_none():
    whole = record(config(300))
    for kept in (4, 40, 600, 1023):
        source = MemorySource(bytes(AT) + whole[:kept])
        assert list(resident(lambda head: True)(source, AT, PATTERNS[0])) == []


def test_random_bytes_behind_a_head_break_nothing():
    rng = random.Random(9)
    for _ in range(500):
        made = bytearray(record(config(300)))
        for _ in range(8):
            made[rng.randrange(4, 1024)] = rng.randrange(256)
        assert all(len(content) <= 1024 for content in found(bytes(made)))


def test_both_formats_look_there():
    source = MemorySource(bytes(AT) + record(config(300)) + bytes(4096))
    (layout,) = model_json.FORMAT.layouts(source, AT, PATTERNS[0])
    assert model_json.FORMAT.validate(Window(source, layout)).grade is Grade.CONSISTENT
    assert len(layout) == 3
    told = b"0123456789abcdef0123456789abcdef01234567\n" + b"a" * 64 + b"\n1700000000.5\n"
    source = MemorySource(bytes(AT) + record(told) + bytes(4096))
    (layout,) = huggingface_download.FORMAT.layouts(source, AT, PATTERNS[0])
    assert huggingface_download.FORMAT.validate(Window(source, layout)).facts["kind"] == "download record"
    assert list(model_json.FORMAT.layouts(source, AT, PATTERNS[0])) == []


def test_an_index_of_shards_in_a_record_is_carved_as_it_was(tmp_path):
    content = index({"m-00001-of-00002.bin": ["a"], "m-00002-of-00002.bin": ["b"]}, total_bytes=8)
    source = MemorySource(bytes(AT) + record(content) + bytes(4096))
    (layout,) = weights_index.FORMAT.layouts(source, AT, PATTERNS[0])
    assert weights_index.FORMAT.validate(Window(source, layout)).grade is Grade.CONSISTENT
    (tmp_path / "drive.img").write_bytes(bytes(AT) + record(content) + bytes(1 << 16))
    good("carve", tmp_path / "drive.img", "--out", tmp_path / "case")
    (side,) = load_checked(tmp_path / "case")["side_files"]
    assert side["format"] == "weights_index"
    assert (tmp_path / "case" / side["path"]).read_bytes() == content


def test_a_configuration_in_a_record_is_carved_as_it_was(tmp_path):
    short, long = config(150), config(600)
    odd = config(160)
    large = record(odd, record_bytes=4096)
    image = bytes(AT) + record(long) + record(short, in_use=True) + large + record(None) + bytes(1 << 16)
    (tmp_path / "drive.img").write_bytes(image)
    good("carve", tmp_path / "drive.img", "--out", tmp_path / "case")
    report = load_checked(tmp_path / "case")
    carved = {(tmp_path / "case" / file["path"]).read_bytes(): file["layout"] for file in report["side_files"]}
    assert set(carved) == {short, long, odd}
    assert len(carved[long]) == 3 and sum(size for _, size in carved[long]) == len(long)
    assert all(AT <= offset < AT + 6144 for layout in carved.values() for offset, _ in layout)


def test_small_files_on_a_real_ntfs_are_carved_as_they_were(tmp_path):
    need_program("mkntfs", "ntfscp")
    image = tmp_path / "drive.img"
    with image.open("wb") as target:
        target.truncate(32 << 20)
    subprocess.run(["mkntfs", "-q", "-F", image], check=True, capture_output=True, timeout=60)
    told = {name: config(size_bytes) for name, size_bytes in (("a.json", 120), ("b.json", 560), ("c.json", 5000))}
    for name, content in told.items():
        (tmp_path / name).write_bytes(content)
        copy = ["ntfscp", "-q", "-f", image, tmp_path / name, name]
        subprocess.run(copy, check=True, capture_output=True, timeout=60)
    good("carve", image, "--out", tmp_path / "case")
    report = load_checked(tmp_path / "case")
    assert {(tmp_path / "case" / file["path"]).read_bytes() for file in report["side_files"]} == set(told.values())
