"""Mapfiles: GNU's grammar against ddrescuelog itself, and marks against a map kept byte by byte."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imaging.errors import InputError, MapfileError
from imaging.extent import Extent, ExtentSet, span
from imaging.map_lines import BLOCK_STATUSES, CURRENT_STATUSES, MAX_OFFSET_BYTES
from imaging.mapfile import BlockStatus, Mapfile

needs_ddrescuelog = pytest.mark.skipif(
    shutil.which("ddrescuelog") is None, reason="ddrescuelog is not installed (apt-get install gddrescue)"
)
HEAD = "0 ? 1\n"
AREA_LABELS = {  # how `ddrescuelog -t` calls the statuses
    "non-tried": BlockStatus.NON_TRIED,
    "rescued": BlockStatus.FINISHED,
    "non-trimmed": BlockStatus.NON_TRIMMED,
    "non-scraped": BlockStatus.NON_SCRAPED,
    "bad-sector": BlockStatus.BAD_SECTOR,
}
statuses = st.sampled_from(list(BlockStatus))


# --- grammar, by hand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("", []),
        ("# only a comment\n\n  # and another\n", []),
        ("0 F\n0 16 +\n", [(0, 16, "+")]),
        (HEAD + "0 010 +\n8 0x10 -", [(0, 8, "+"), (8, 16, "-")]),
        ("0 ? 1\r\n0 5 +\r\n", [(0, 5, "+")]),
        (HEAD + "7 5 +\n12 1 -\n", [(7, 5, "+"), (12, 1, "-")]),
        (HEAD + "0 5 +\n5 5 +\n10 1 -\n", [(0, 10, "+"), (10, 1, "-")]),
        (HEAD + "0 5+ # a comment\n5 5 - trailing words\n", [(0, 5, "+"), (5, 5, "-")]),
        (HEAD + "0 0 +\n0 5 -\n", [(0, 5, "-")]),
        (HEAD + "100 0x7FFFFFFFFFFFFFFF +\n", [(100, MAX_OFFSET_BYTES - 100, "+")]),
        (HEAD + "0 " + "9" * 5000 + " +\n", [(0, MAX_OFFSET_BYTES, "+")]),
        (HEAD + "\v0\f5\t+\n", [(0, 5, "+")]),
        (HEAD + "08+\n", [(0, 8, "+")]),  # scanf reads the octal 0, then 8
    ],
)
def test_text_that_gnu_tolerates_is_read(text: str, blocks: list[tuple[int, int, str]]) -> None:
    read = Mapfile.parse(text)
    assert [(e.offset_bytes, e.size_bytes, s.value) for e, s in read.blocks()] == blocks


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("0\n", 1, "expected `position status"),
        ("\n0 X 1\n", 2, "'X' is no current status"),
        ("0 ? 0\n", 1, "pass 0 is not"),
        ("0 ? -1\n", 1, "pass -1 is not"),
        ("-1 ? 1\n", 1, "negative"),
        (HEAD + "0 5\n", 2, "expected `position size status`"),
        (HEAD + "0 5 F\n", 2, "'F' is no block status"),
        (HEAD + "0 5 +\n6 5 +\n", 3, "a gap"),
        (HEAD + "0 5 +\n# c\n4 5 +\n", 4, "an overlap"),
        (HEAD + "5 0 +\n", 2, "size 0"),
        (HEAD + "0 -5 +\n", 2, "negative"),
        (HEAD + "-5 5 +\n", 2, "negative"),
        (HEAD + "0 5k +\n", 2, "no block status"),
        (HEAD + "05+\n", 2, "expected"),
        (HEAD + "0 5\0 +\n", 2, "expected"),
        ("\0\n" + HEAD, 1, "expected"),
    ],
)
def test_text_that_gnu_refuses_is_refused_with_its_line_and_reason(text: str, line: int, reason: str) -> None:
    with pytest.raises(MapfileError, match=rf"^some\.map, line {line}: .*{re.escape(reason)}"):
        Mapfile.parse(text, name="some.map")


@pytest.mark.parametrize("text", ["îI}mò\x84÷M[ß", "\0" * 512, HEAD + "\x1b[31mred"])
def test_bytes_that_are_no_text_are_called_no_mapfile_and_not_shown(text: str) -> None:
    with pytest.raises(MapfileError, match=r"found bytes that are no text: it is no mapfile$"):
        Mapfile.parse(text, name="disk.img")


def test_status_line_gives_position_status_and_pass() -> None:
    read = Mapfile.parse("0x123456789A - 0007\n0 5 +\n")
    assert (read.position_bytes, read.current_status, read.current_pass) == (0x123456789A, "-", 7)


def test_pass_is_one_when_the_status_line_has_two_fields() -> None:
    assert Mapfile.parse("0x10 /\n").current_pass == 1


def test_text_is_written_as_gnu_writes_it() -> None:
    written = Mapfile([(span(0, 10), BlockStatus.FINISHED), (span(10, 0x123456793), BlockStatus.BAD_SECTOR)])
    written.position_bytes, written.current_status, written.current_pass = 0x123456789A, "F", 12
    assert written.to_text(["one\ntwo"]) == (
        "# one\n# two\n"
        "# current_pos  current_status  current_pass\n"
        "0x123456789A     F               12\n"
        "#      pos        size  status\n"
        "0x00000000  0x0000000A  +\n"
        "0x0000000A  0x123456789  -\n"
    )


def test_missing_mapfile_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the mapfile"):
        Mapfile.load(tmp_path / "none.map")


def test_mapfile_with_bytes_that_are_no_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / "odd.map"
    path.write_bytes(b"# \xff\xfe name\n0 ?\n0 5 +\n")
    assert Mapfile.load(path).count_bytes(BlockStatus.FINISHED) == 5


def test_blocks_with_a_gap_between_them_make_no_map() -> None:
    with pytest.raises(MapfileError, match="gap or overlap"):
        Mapfile([(span(0, 5), BlockStatus.FINISHED), (span(6, 7), BlockStatus.FINISHED)])


# --- grammar, against ddrescuelog -------------------------------------------------------------------------------------


def ddrescuelog_verdict(text: str, folder: Path) -> tuple[bool, dict[BlockStatus, int] | None]:
    """Return whether ddrescuelog accepts the text, and its totals in bytes (None: it rounded them)."""
    path = folder / "asked.map"
    path.write_bytes(text.encode("latin-1"))
    answer = subprocess.run(["ddrescuelog", "-t", path], capture_output=True, check=False, text=True)
    assert answer.returncode in (0, 2), answer.stderr
    if answer.returncode == 2:
        return False, None
    if "domain is empty" in answer.stderr:
        return True, dict.fromkeys(BlockStatus, 0)
    return True, totals_of(answer.stdout)


def totals_of(summary: str) -> dict[BlockStatus, int] | None:
    """Read the byte counts, which ddrescuelog rounds from 100,000 on; None when one was rounded."""
    found: dict[BlockStatus, int] = {}
    for label, status in AREA_LABELS.items():
        matched = re.search(rf"^\s*{label}:\s+(\d+) B,", summary, re.MULTILINE)
        if not matched:
            return None
        found[status] = int(matched[1])
    return found


@st.composite
def map_texts(draw: st.DrawFn) -> str:
    """Texts that are mostly maps: any notation, line end and comment."""
    number = st.sampled_from(["{}", "0x{:X}", "0X{:x}", "0{:o}", "+{}"])
    space = st.sampled_from([" ", "  ", "\t", " \v"])
    line_end = draw(st.sampled_from(["\n", "\r\n"]))
    position = draw(number).format(draw(st.integers(0, 99)))
    lines = [
        f"{position}{draw(space)}{draw(st.sampled_from(CURRENT_STATUSES))}{draw(st.sampled_from(['', ' 1', ' 2']))}"
    ]
    offset_bytes = draw(st.sampled_from([0, 0, 7]))
    for _ in range(draw(st.integers(0, 6))):
        size_bytes = draw(st.integers(1, 99))
        fields = [draw(number).format(offset_bytes), draw(number).format(size_bytes), draw(statuses).value]
        lines.append(draw(space).join(fields) + draw(st.sampled_from(["", "", " # why", "\t#"])))
        offset_bytes += size_bytes
    if draw(st.booleans()):
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(["", "# note", "   # note", "  "])))
    return line_end.join(lines) + draw(st.sampled_from(["", line_end]))


@st.composite
def mutated_map_texts(draw: st.DrawFn) -> str:
    """Maps with a few characters replaced, put in or taken out."""
    text = draw(map_texts())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 2))
        text = text[:at] + draw(st.text("0189xX+-?*/FG# \t\r\n\0\fb\xa0k", max_size=3)) + text[at + cut :]
    return text


@needs_ddrescuelog
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(map_texts(), mutated_map_texts()))
@example(text="0 ? 4294967297\n0 5 +")
@example(text="0 ? -4294967295\n0 5 +")
@example(text="0 ? 99999999999999999999999\n0 5 +")
@example(text=HEAD + "0x 5 +")
@example(text=HEAD + "0 0 +\n0 0 +\n0 5 -")
@example(text=HEAD + "0x7FFFFFFFFFFFFFFF 5 +\n0x7FFFFFFFFFFFFFFF 5 -\n")
@example(text="  \0\n0 ? 1\n")
@example(text="0 ? 1#\n0 5 +")
@example(text="0 ? #1\n0 5 +")
@example(text="0 # ? 1\n0 5 +")
@example(text="\xef\xbb\xbf0 ? 1\n0 5 +\n")
def test_same_texts_are_accepted_and_refused_as_by_ddrescuelog(text: str, tmp_path: Path) -> None:
    accepted, totals = ddrescuelog_verdict(text, tmp_path)
    try:
        read = Mapfile.parse(text)
    except MapfileError:
        assert not accepted
        return
    assert accepted
    if totals is not None:
        assert {status: read.count_bytes(status) for status in BlockStatus} == totals


@needs_ddrescuelog
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=map_texts())
def test_what_is_written_comes_out_of_ddrescuelog_unchanged(text: str, tmp_path: Path) -> None:
    read = Mapfile.parse(text)
    path = tmp_path / "twice.map"
    path.write_text(read.to_text(["ours"]))
    swapped = subprocess.run(["ddrescuelog", "-a", "?,?", path], capture_output=True, check=True, text=True).stdout
    if len(read):
        assert data_lines(swapped) == data_lines(path.read_text())


def data_lines(text: str) -> list[str]:
    """Every line but the heading comments, that is from the column names on."""
    return text[text.index("# current_pos  current_status") :].splitlines()


# --- marks and look-ups, against a map kept byte by byte --------------------------------------------------------------

SIZE_BYTES = 60
marks = st.lists(st.tuples(st.integers(0, SIZE_BYTES), st.integers(0, SIZE_BYTES), statuses), max_size=25)


def marked(changes: list[tuple[int, int, BlockStatus]], start_bytes: int = 0) -> tuple[Mapfile, list[BlockStatus]]:
    """Return a map after these marks, and the status of each of its bytes."""
    mapfile = Mapfile([(span(start_bytes, start_bytes + SIZE_BYTES), BlockStatus.NON_TRIED)])
    truth = [BlockStatus.NON_TRIED] * SIZE_BYTES
    for first, second, status in changes:
        low, high = min(first, second), max(first, second)
        mapfile.mark(span(start_bytes + low, start_bytes + high), status)
        truth[low:high] = [status] * (high - low)
    return mapfile, truth


@given(changes=marks, start_bytes=st.sampled_from([0, 1000]))
def test_marks_agree_with_a_map_kept_byte_by_byte(
    changes: list[tuple[int, int, BlockStatus]], start_bytes: int
) -> None:
    mapfile, truth = marked(changes, start_bytes)
    blocks = list(mapfile.blocks())
    spread = [status for extent, status in blocks for _ in range(extent.size_bytes)]
    assert spread == truth
    assert [e.offset_bytes for e, _ in blocks[1:]] == [e.end_bytes for e, _ in blocks[:-1]]
    assert all(before[1] is not after[1] for before, after in pairwise(blocks))
    assert {s: mapfile.count_bytes(s) for s in BlockStatus} == {s: truth.count(s) for s in BlockStatus}
    assert sum(mapfile.count_blocks(s) for s in BlockStatus) == len(mapfile) == len(blocks)
    assert (mapfile.start_bytes, mapfile.size_bytes) == (start_bytes, SIZE_BYTES)


@given(changes=marks)
def test_a_marked_map_survives_its_own_text(changes: list[tuple[int, int, BlockStatus]]) -> None:
    mapfile, _ = marked(changes, 1000)
    assert Mapfile.parse(mapfile.to_text()) == mapfile


@given(changes=marks, at=st.integers(0, 400), put=st.sampled_from(["", "0", "1", "8", "F", "+", "?", " ", "\n"]))
def test_quick_reading_of_written_maps_agrees_with_reading_line_by_line(
    changes: list[tuple[int, int, BlockStatus]], at: int, put: str
) -> None:
    text = marked(changes, 1000)[0].to_text(["head"])
    text = text[:at] + put + text[at + 1 :]
    try:
        line_by_line = Mapfile.parse(" \n" + text)  # not the form that is written
    except MapfileError:
        with pytest.raises(MapfileError):
            Mapfile.parse(text)
        return
    assert Mapfile.parse(text) == line_by_line
    assert [Mapfile.parse(text).count_bytes(s) for s in BlockStatus] == [
        line_by_line.count_bytes(s) for s in BlockStatus
    ]


@given(changes=marks, chosen=st.sets(statuses))
def test_extents_hold_exactly_the_bytes_of_the_chosen_statuses(
    changes: list[tuple[int, int, BlockStatus]], chosen: set[BlockStatus]
) -> None:
    mapfile, truth = marked(changes)
    expected = ExtentSet(span(at, at + 1) for at, status in enumerate(truth) if status in chosen)
    assert mapfile.extents(*chosen) == expected
    unread = ExtentSet(span(at, at + 1) for at, status in enumerate(truth) if status is not BlockStatus.FINISHED)
    assert mapfile.unread == unread


@given(changes=marks, offset_bytes=st.integers(-3, SIZE_BYTES + 3), status=statuses)
def test_next_and_previous_blocks_are_what_a_walk_would_find(
    changes: list[tuple[int, int, BlockStatus]], offset_bytes: int, status: BlockStatus
) -> None:
    mapfile, _ = marked(changes)
    same = [extent for extent, found in mapfile.blocks() if found is status]
    after = [span(max(e.offset_bytes, offset_bytes), e.end_bytes) for e in same if e.end_bytes > offset_bytes]
    before = [span(e.offset_bytes, min(e.end_bytes, offset_bytes)) for e in same if e.offset_bytes < offset_bytes]
    assert mapfile.next_block(offset_bytes, status) == (after[0] if after else None)
    assert mapfile.previous_block(offset_bytes, status) == (before[-1] if before else None)


@given(changes=marks, offset_bytes=st.integers(0, SIZE_BYTES - 1))
def test_block_at_an_offset_holds_it(changes: list[tuple[int, int, BlockStatus]], offset_bytes: int) -> None:
    mapfile, truth = marked(changes)
    extent, status = mapfile.block_at(offset_bytes)
    assert extent.offset_bytes <= offset_bytes < extent.end_bytes
    assert status is truth[offset_bytes]
    assert (extent, status) in list(mapfile.blocks())


@pytest.mark.parametrize("offset_bytes", [999, 1000 + SIZE_BYTES])
def test_offset_outside_the_map_has_no_block(offset_bytes: int) -> None:
    mapfile, _ = marked([], 1000)
    with pytest.raises(ValueError, match="is outside"):
        mapfile.block_at(offset_bytes)


@pytest.mark.parametrize("extent", [span(999, 1001), span(1000, 1001 + SIZE_BYTES), span(0, 10)])
def test_mark_outside_the_map_is_refused_and_changes_nothing(extent: Extent) -> None:
    mapfile, _ = marked([], 1000)
    with pytest.raises(ValueError, match="is not inside"):
        mapfile.mark(extent, BlockStatus.FINISHED)
    assert mapfile == marked([], 1000)[0]


def test_empty_map_has_no_blocks_and_no_bytes() -> None:
    mapfile = Mapfile.covering(0)
    assert (list(mapfile.blocks()), mapfile.size_bytes, bool(mapfile.unread)) == ([], 0, False)
    assert mapfile.next_block(0, BlockStatus.NON_TRIED) is None
    assert mapfile.previous_block(9, BlockStatus.NON_TRIED) is None


def test_copy_is_independent() -> None:
    mapfile, _ = marked([(3, 9, BlockStatus.FINISHED)])
    mapfile.current_pass = 4
    copied = mapfile.copy()
    assert copied == mapfile
    copied.mark(span(0, 60), BlockStatus.BAD_SECTOR)
    assert mapfile.count_bytes(BlockStatus.FINISHED) == 6
    assert copied != mapfile


def test_the_grammar_of_lines_and_the_map_know_the_same_statuses():
    assert set(BLOCK_STATUSES) == set(BlockStatus)
