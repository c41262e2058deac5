"""The wire-format reader: protobuf's grammar, and bounds on all that it believes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.formats.onnx import block, number, varint
from imaging.errors import BudgetExceeded
from imaging.extent import Extent
from imaging.window import Window
from signatures import _protobuf
from signatures._protobuf import FIXED32, FIXED64, VARINT, CutShortError, MalformedError, Wire


class Memory:
    locator, sector_bytes, unread = "memory", 512, None

    def __init__(self, content):
        self.content, self.size_bytes = bytes(content), len(content)

    def read_at(self, offset_bytes, size_bytes):
        return self.content[offset_bytes : offset_bytes + size_bytes]


def wire(content):
    return Wire(Window(Memory(content), (Extent(offset_bytes=0, size_bytes=len(content)),)))


def test_fields_come_with_number_type_value_and_body():
    content = (
        number(1, 300) + block(2, "abc") + varint(3 << 3 | FIXED32) + bytes(4) + varint(17 << 3 | FIXED64) + bytes(8)
    )
    found = list(wire(content).fields(0, len(content)))
    assert found == [(1, 0, 300, 3, 3), (2, 2, 0, 5, 8), (3, 5, 0, 9, 13), (17, 1, 0, 15, 23)]


def test_a_payload_is_jumped_over_and_the_next_field_found():
    content = block(9, bytes(1 << 20)) + number(1, 7)
    assert [field[:3] for field in wire(content).fields(0, len(content))] == [(9, 2, 0), (1, 0, 7)]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\x00\x01", "tag"),
        (varint(1 << 32) + b"\x01", "tag"),
        (b"\x0b", "wire-type"),
        (b"\x0f", "wire-type"),
        (b"\x08" + b"\xff" * 11, "varint"),
        (b"\x0a\x05abc", "length"),
        (b"\x0d\x00\x00", "length"),
    ],
)
def test_a_broken_field_has_its_code(content, code):
    with pytest.raises(MalformedError) as fault:
        list(wire(content + bytes(64)).fields(0, len(content)))
    assert fault.value.code == code


def test_a_field_that_runs_past_the_window_is_yielded_before_the_error():
    content = block(2, bytes(100))[:20]
    seen = []
    with pytest.raises(CutShortError) as fault:
        seen.extend(wire(content).fields(0, 1000))
    assert seen == [(2, 2, 0, 2, 102)]
    assert (fault.value.code, fault.value.at_bytes) == ("cut-short", 20)


def test_a_head_cut_in_two_is_cut_short():
    with pytest.raises(CutShortError):
        list(wire(b"\x0a\x80").fields(0, 100))


@pytest.mark.parametrize(
    ("read", "code"),
    [
        (lambda made: made.text(0, 4, limit_bytes=3), "text-length"),
        (lambda made: made.text(0, 2, limit_bytes=3), "text-encoding"),
        (lambda made: made.text(2, 99, limit_bytes=999), "cut-short"),
        (lambda made: made.varints(0, 4, limit_bytes=3), "packed-length"),
        (lambda made: made.varints(0, 2, limit_bytes=3), "cut-short"),
        (lambda made: made.count_varints(0, 2), "varint"),
        (lambda made: made.count_varints(0, 99), "cut-short"),
        (lambda made: made.bytes_at(0, 99), "cut-short"),
    ],
)
def test_bounded_reads_refuse_with_a_code(read, code):
    with pytest.raises(MalformedError) as fault:
        read(wire(b"\xff\xfe\x01\x01"))
    assert fault.value.code == code


@given(st.lists(st.integers(0, 2**64 - 1), max_size=40))
def test_packed_varints_are_read_and_counted(values):
    content = b"".join(map(varint, values))
    assert wire(content).varints(0, len(content), limit_bytes=1000) == values
    assert wire(content).count_varints(0, len(content)) == len(values)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.binary(max_size=8))
def test_a_run_of_varint_fields_ends_where_plain_reading_ends_it(values, rest):
    run = b"".join(number(8, value) for value in values)
    content = run + block(1, rest)
    assert wire(content).run_end(8 << 3 | VARINT, VARINT, 0, len(content)) == len(run)


@pytest.mark.parametrize(("kind", "layout"), [(FIXED32, "<Bf"), (FIXED64, "<Bd")])
def test_a_run_of_fixed_fields_ends_where_another_tag_comes(kind, layout):
    run = b"".join(struct.pack(layout, 7 << 3 | kind, value / 7) for value in range(100_000))
    content = run + number(1, 5)
    assert wire(content).run_end(7 << 3 | kind, kind, 0, len(content)) == len(run)


def test_more_fields_than_any_file_has_exceed_the_budget(monkeypatch):
    monkeypatch.setattr(_protobuf, "MAX_FIELDS", 10)
    with pytest.raises(BudgetExceeded):
        list(wire(number(1, 1) * 20).fields(0, 40))
