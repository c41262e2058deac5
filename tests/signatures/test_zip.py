"""Zip structures: headers, directory, tail, and bounds on what is believed."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import pytest

from imaging.extent import span
from imaging.window import Window
from signatures._zip import (
    decode_name,
    extra_field,
    read_directory,
    read_entry,
    read_local_header,
    read_tail,
    tail_before,
)
from signatures._zip_grade import grade_of, judge_records, record_grade
from signatures._zip_records import contents_crc, match_descriptor, skim_directory
from signatures._zip_survey import survey_zip
from tests.signatures.zip_window import MemorySource, window_on


def zipped(members: dict[str, bytes], *, method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.comment = comment
    return held.getvalue()


PLAIN = zipped({"a/one": b"first" * 20, "a/two": b"second" * 30, "a/none": b""}, comment=b"said")


def test_a_local_header_is_read_field_by_field():
    header = read_local_header(window_on(PLAIN), 0)
    assert header is not None
    assert (header.name, header.size_bytes, header.packed_bytes) == ("a/one", 100, 100)
    assert header.crc == zlib.crc32(b"first" * 20)
    assert PLAIN[header.data_offset_bytes :].startswith(b"firstfirst")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", PLAIN[:33], b"PK\x03\x05" + PLAIN[4:], PLAIN[:26] + bytes(40)])
def test_what_cannot_be_a_local_header_is_none(content):
    assert read_local_header(window_on(content), 0) is None


def test_the_tail_tells_start_end_and_count():
    tail = tail_before(window_on(PLAIN), PLAIN.index(b"PK\x05\x06"))
    assert tail is not None
    assert (tail.start_bytes, tail.end_bytes, tail.entries, tail.whole) == (0, len(PLAIN), 3, True)


def test_a_comment_longer_than_what_is_left_is_not_whole():
    tail = read_tail(window_on(PLAIN[:-1]), PLAIN.index(b"PK\x05\x06"))
    assert tail is not None
    assert not tail.whole


def test_the_directory_of_a_whole_zip_is_whole():
    at = PLAIN.index(b"PK\x01\x02")
    directory = read_directory(window_on(PLAIN), at)
    assert directory.whole
    assert [entry.name for entry in directory.entries] == ["a/one", "a/two", "a/none"]


def test_skimming_finds_the_same_directory():
    found = skim_directory(window_on(PLAIN))
    assert found is not None
    assert found.offset_bytes == PLAIN.index(b"PK\x01\x02")


def test_skimming_what_is_no_zip_finds_no_tail():
    found = skim_directory(window_on(b"no zip at all" * 9))
    assert found is None or found.tail is None


def test_zip64_sizes_replace_full_fields():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive, archive.open("big", "w", force_zip64=True) as member:
        member.write(b"x" * 321)
    header = read_local_header(window_on(held.getvalue()), 0)
    assert header is not None
    assert (header.size_bytes, header.packed_bytes, header.wide) == (321, 321, True)


def test_a_zip64_field_without_its_extra_value_is_refused():
    raw = struct.pack("<4s3H4I2H", b"PK\x03\x04", 45, 0, 0, 0, 0, 2**32 - 1, 2**32 - 1, 1, 12)
    raw += b"a" + struct.pack("<HHQ", 1, 8, 5)
    assert read_local_header(window_on(raw), 0) is None


def test_extra_fields_are_walked_and_a_cut_one_is_no_harm():
    assert extra_field(b"FB\x02\x00ZZ\x01\x00\x08\x00" + bytes(8), 1) == bytes(8)
    assert extra_field(b"FB\xff\x00ZZ", 1) is None
    assert extra_field(b"\x01", 1) is None


def test_names_without_utf8_are_code_page_437():
    assert decode_name("é".encode("cp437"), 0) == "é"
    assert decode_name("é".encode(), 0x0800) == "é"
    assert decode_name(b"\xff\xfe", 0x0800)


def test_a_descriptor_is_known_by_the_distance_alone():
    header = read_local_header(window_on(PLAIN), 0)
    assert header is not None
    narrow = struct.pack("<4s3I", b"PK\x07\x08", 7, 100, 100)
    wide = struct.pack("<4sI2Q", b"PK\x07\x08", 7, 100, 100)
    assert match_descriptor(narrow + bytes(8), 100, header) == (7, 100, 16)
    assert match_descriptor(wide, 100, header) == (7, 100, 24)
    assert match_descriptor(narrow + bytes(8), 101, header) is None


def test_deflated_contents_are_checked_to_their_exact_length():
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = b"weights" * 5000
    packed = packer.compress(data) + packer.flush()
    window = window_on(packed)
    assert contents_crc(window, 8, 0, len(packed), len(data)) == zlib.crc32(data)
    assert contents_crc(window, 8, 0, len(packed), len(data) - 1) is None
    assert contents_crc(window, 8, 0, len(packed), len(data) + 1) is None
    assert contents_crc(window, 8, 0, len(packed) - 3, len(data)) is None
    assert contents_crc(window_on(b"\xff" * 90), 8, 0, 90, 200) is None


def test_more_than_deflate_can_hold_is_not_inflated():
    assert contents_crc(window_on(bytes(100)), 8, 0, 100, 100 * 2000) is None


def test_other_methods_are_not_followed():
    assert contents_crc(window_on(bytes(100)), 14, 0, 100, 100) is None


def test_a_bomb_stops_at_the_declared_size():
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(50_000_000)) + packer.flush()
    assert contents_crc(window_on(packed), 8, 0, len(packed), 1000) is None


def test_an_inflated_entry_count_is_no_longer_whole():
    at = PLAIN.index(b"PK\x05\x06")
    content = PLAIN[: at + 8] + b"\xff\xff\xff\xff" + PLAIN[at + 12 :]
    assert not read_directory(window_on(content), PLAIN.index(b"PK\x01\x02")).whole


def test_a_size_that_leads_past_the_end_is_not_believed():
    content = bytearray(PLAIN)
    struct.pack_into("<II", content, 18, 0x7FFFFFFF, 0x7FFFFFFF)
    survey = survey_zip(window_on(bytes(content)), root="")
    assert survey.directory is not None
    assert survey.directory.whole
    assert "directory-mismatch" in {finding.code for finding in survey.findings}
    assert [record.name for record in survey.records] == ["a/one", "a/two", "a/none"]
    assert all(record.computed_crc == record.declared_crc for record in survey.records)


def test_an_encrypted_member_cannot_be_checked():
    content = bytearray(PLAIN)
    content[6] |= 1
    content[PLAIN.index(b"PK\x01\x02") + 8] |= 1
    window = window_on(bytes(content))
    survey = survey_zip(window, root="")
    judge_records(window, survey)
    assert {finding.code for finding in survey.findings} == {"encrypted"}
    assert grade_of(window, survey) == "CONSISTENT"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_packed_by_another_method_is_unchecked_and_no_damage(method):
    content = zipped({"a/one": b"1" * 500, "a/two": b"2" * 500}, method=method)
    window = window_on(content)
    survey = survey_zip(window, root="")
    judge_records(window, survey)
    assert [finding.code for finding in survey.findings] == ["method-unknown"]
    assert "2 records" in survey.findings[0].detail
    assert grade_of(window, survey) == "CONSISTENT"
    assert {record_grade(window, record) for record in survey.records} == {"CONSISTENT"}


def test_a_method_that_the_directory_does_not_tell_is_damage():
    content = bytearray(PLAIN)
    content[8] = 12
    window = window_on(bytes(content))
    survey = survey_zip(window, root="")
    judge_records(window, survey)
    assert grade_of(window, survey) == "DAMAGED"


def test_a_flood_of_signatures_costs_a_bounded_number_of_reads():
    torch_header = struct.pack("<4s3H4I2H", b"PK\x03\x04", 0, 0x0808, 0, 0, 0, 0, 0, 3, 0) + b"a/0"
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 3, 3, 2**20, 2**20, 0)
    source = MemorySource(torch_header + end * 150_000)
    survey = survey_zip(Window(source, (span(0, source.size_bytes),)))
    assert survey.directory is None
    assert source.reads < 120_000


def test_an_entry_that_is_cut_is_none():
    at = PLAIN.index(b"PK\x01\x02")
    assert read_entry(window_on(PLAIN[: at + 47]), at) is None
