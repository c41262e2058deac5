"""TensorFlow checkpoint indexes."""

from __future__ import annotations

import random

import pytest

from fixtures.formats import tf_checkpoint_index as builder
from fixtures.formats._protobuf_bytes import field
from fixtures.formats.tf_checkpoint_index import crc32c, entries_of, entry, header, masked, samples, table
from signatures import _table
from signatures._snappy import SnappyError, beginning, decompress
from signatures._table import masked_crc32c
from signatures.tf_checkpoint_index import FORMAT
from signatures.verdict import Grade
from tests.signatures.zip_window import codes, ids, judge, patched, starts_in, truth, window_on

SAMPLES = list(samples(6))
ONE, MANY = SAMPLES[0].content, SAMPLES[1].content
ROWS = [header(1), (b"a", entry(1, (2,), 0, 0, 8, 1)), (b"b", entry(1, (2,), 0, 8, 8, 2))]


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_every_kind_of_index_is_judged_exactly(sample):
    verdict = judge(FORMAT, sample.content + bytes(300))
    assert (verdict.grade, verdict.findings) == (Grade.CONSISTENT, ())
    assert verdict.size_bytes == len(sample.content)
    assert truth(verdict) == sorted(sample.tensors)


def test_facts_list_the_entries_with_their_crc_and_the_lengths_of_the_data_files():
    facts = judge(FORMAT, table([ROWS])).facts
    assert facts["entries"][1] == {
        "name": "b",
        "dtype": "float32",
        "shape": [2],
        "shard": 0,
        "offset_bytes": 8,
        "size_bytes": 8,
        "masked_crc32c": 2,
    }
    assert facts["data_files"] == {"data-00000-of-00001": 16}
    assert judge(FORMAT, MANY).facts["shards"] == 3


def test_the_crc_is_castagnoli_and_masked():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    for raw in (b"", b"\0" * 32, random.Random(1).randbytes(999)):
        assert masked_crc32c(raw) == masked(raw)


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_the_footer_alone_tells_the_start(sample):
    noise = random.Random(1).randbytes(700)
    content = noise + sample.content + noise
    found = starts_in(FORMAT, content)
    assert min(found) == 700
    assert {judge(FORMAT, content[start:]).grade for start in found - {700}} <= {Grade.REJECTED}  # in compressed text


def test_a_table_that_is_no_bundle_is_no_start():
    other = table([[(b"key-00000001", b"value"), (b"key-00000002", b"value")]])
    assert starts_in(FORMAT, bytes(512) + other) == set()
    assert codes(judge(FORMAT, other)) == {"head"}


def test_every_byte_of_every_block_is_proven():
    rng = random.Random(5)
    for at in rng.sample(range(20, len(ONE) - 48), 60):
        verdict = judge(FORMAT, patched(ONE, at, bytes((ONE[at] ^ 1 << rng.randrange(8),))))
        assert verdict.grade is Grade.DAMAGED
        assert "crc-mismatch" in codes(verdict)


def test_a_damaged_block_costs_its_own_entries_only():
    verdict = judge(FORMAT, patched(MANY, 600, b"\xff\xff"))
    assert verdict.grade is Grade.DAMAGED
    assert codes(verdict) == {"crc-mismatch"}
    assert 0 < len(verdict.tensors) < 41


@pytest.mark.parametrize(
    ("code", "blocks"),
    [
        ("key-order", [[ROWS[0], ROWS[2], ROWS[1]]]),
        ("tensor-size", [[ROWS[0], (b"a", entry(1, (3,), 0, 0, 8, 1))]]),
        ("bad-entry", [[ROWS[0], (b"a", b"\x0f")]]),
        ("bad-entry", [[ROWS[0], (b"a", entry(1, (1 << 60,), 0, 0, 8, 1))]]),
        ("varint", [[ROWS[0], (b"a", b"\x08\xff")]]),
        ("bundle-header", [[ROWS[0]], [(b"", b"\x08\x00")]]),
    ],
)
def test_entries_that_cannot_be_are_told_although_their_crc_agrees(code, blocks):
    verdict = judge(FORMAT, table(blocks))
    assert verdict.grade is Grade.DAMAGED
    assert code in codes(verdict)


def test_blocks_of_a_compression_not_known_leave_the_index_undecided():
    verdict = judge(FORMAT, table([ROWS], kind=2))
    assert verdict.grade is Grade.UNDECIDED
    assert codes(verdict) == {"compressed"}


def test_blocks_that_only_claim_to_be_compressed_are_told():
    verdict = judge(FORMAT, table([ROWS], kind=1))
    assert verdict.grade is Grade.DAMAGED
    assert codes(verdict) == {"block-grammar"}


@pytest.mark.parametrize(
    "text", [b"", b"a" * 1000, b"abcd" * 99, bytes(range(256)) * 300, random.Random(1).randbytes(70000) * 2]
)
def test_what_snappy_compressed_is_as_it_was(text):
    packed = builder.snappy(text)
    assert decompress(packed, limit_bytes=len(text)) == text
    assert beginning(packed[:64], limit_bytes=64) == text[: len(beginning(packed[:64], limit_bytes=64))]
    if text:
        with pytest.raises(SnappyError):
            decompress(packed, limit_bytes=len(text) - 1)
        for broken in (packed[:-1], packed + b"\0", b"\xff" * 9, b"\x08\x01\x05" + packed):
            with pytest.raises(SnappyError):
                decompress(broken, limit_bytes=1 << 20)


def test_hostile_snappy_ends_with_its_own_error_or_within_its_length():
    rng = random.Random(7)
    for _ in range(3000):
        raw = bytearray(builder.snappy(b"abcd" * 20 + rng.randbytes(40)))
        for _ in range(3):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        assert len(beginning(bytes(raw), limit_bytes=64)) <= 64
        try:
            assert len(decompress(bytes(raw), limit_bytes=4096)) <= 4096
        except SnappyError:
            continue


def resealed(content, at, new):
    """Return a table of one data block with bytes of its index changed and the CRC made right again."""
    changed = bytearray(patched(content, at, new))
    start = content.rindex(b"\xff")  # inside the index block's one key
    while not changed[start:].startswith(b"\0"):
        start -= 1
    end = len(content) - 48 - 4
    changed[end : end + 4] = masked(bytes(changed[start:end])).to_bytes(4, "little")
    return bytes(changed)


def test_blocks_that_do_not_tile_the_file_are_told():
    content = table([ROWS])
    at = content.rindex(b"\xff") + 1  # the data block's handle: offset 0, size
    assert judge(FORMAT, resealed(content, at, b"\x00")).grade is Grade.CONSISTENT
    assert "block-gap" in codes(judge(FORMAT, resealed(content, at, b"\x01")))
    assert "block-gap" in codes(judge(FORMAT, resealed(content, at + 1, bytes((content[at + 1] - 1,)))))


def test_a_block_without_grammar_is_told(monkeypatch):
    plain = builder.block
    monkeypatch.setattr(builder, "block", lambda entries: plain(entries)[:-4] + b"\xff\xff\xff\x00")
    assert "block-grammar" in codes(judge(FORMAT, table([ROWS])))


def test_a_block_of_more_entries_than_are_read_is_told(monkeypatch):
    monkeypatch.setattr(_table, "MAX_BLOCK_ENTRIES", 2)
    assert codes(judge(FORMAT, table([ROWS]))) == {"entry-count"}


def test_blocks_that_cannot_be_there_are_refused():
    with pytest.raises(_table.TableError, match="block-cut"):
        _table.read_block(window_on(ONE), _table.Handle(offset_bytes=0, size_bytes=len(ONE)))
    with pytest.raises(_table.TableError, match="handle"):
        _table.read_handle(b"\x00\xff\xff\xff\xff\x7f")


def test_an_index_without_its_footer_keeps_its_entries_as_unproven():
    verdict = judge(FORMAT, ONE[:-60])
    assert verdict.grade is Grade.TRUNCATED
    assert codes(verdict) == {"cut-short"}
    assert len(verdict.tensors) == 3
    assert codes(judge(FORMAT, ONE[:12])) == {"no-footer"}


def test_a_big_endian_bundle_is_told():
    rows = [header(1, big_endian=True), ROWS[1]]
    assert judge(FORMAT, table([rows])).facts["big_endian"] is True


def test_hostile_bytes_never_raise():
    rng = random.Random(3)
    for _ in range(500):
        content = bytearray(rng.choice(SAMPLES).content)
        for _ in range(rng.randrange(1, 9)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        assert judge(FORMAT, bytes(content)).grade


def test_hostile_blocks_with_good_checksums_never_raise():
    rng = random.Random(4)
    rows = entries_of(4, [("a", 1, (3,)), ("b", 9, (2, 2)), ("c", 7, ())], 2)
    for _ in range(400):
        made = [(key, bytes(rng.randrange(256) if rng.random() < 0.1 else b for b in raw)) for key, raw in rows[1:]]
        made.append((b"d", field(2, rng.randbytes(9)) + rng.randbytes(3)))
        assert judge(FORMAT, table([[rows[0], *made]])).grade
