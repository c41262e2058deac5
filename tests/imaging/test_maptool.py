"""Map operations: on random maps each gives what ddrescuelog gives."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imaging import maptool
from imaging.errors import MapfileError, UsageError
from imaging.extent import Extent, ExtentSet, span
from imaging.map_lines import MAX_OFFSET_BYTES
from imaging.mapfile import BlockStatus, Mapfile, parse_loose

against_ddrescuelog = pytest.mark.skipif(
    shutil.which("ddrescuelog") is None, reason="ddrescuelog is not installed (apt-get install gddrescue)"
)
quickly = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
statuses = st.sampled_from(list(BlockStatus))
types = st.text("?*/-+", min_size=1, max_size=5)


@st.composite
def mapfiles(draw: st.DrawFn) -> Mapfile:
    """Maps of a few blocks, some of which begin after 0."""
    at = draw(st.sampled_from([0, 0, 0, 700]))
    blocks = []
    for size_bytes in draw(st.lists(st.integers(1, 900), min_size=1, max_size=8)):
        blocks.append((span(at, at + size_bytes), draw(statuses)))
        at += size_bytes
    made = Mapfile(blocks)
    made.position_bytes, made.current_pass = draw(st.integers(0, at)), draw(st.integers(1, 9))
    return made


def ask(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[bytes]:
    """Run ddrescuelog on the maps in a folder."""
    return subprocess.run(
        ["ddrescuelog", *arguments], cwd=folder, input=stdin.encode(), capture_output=True, check=False
    )


def ask_for_map(folder: Path, *arguments: str) -> Mapfile:
    answer = ask(folder, *arguments, "first")
    assert answer.returncode == 0, answer.stderr
    return Mapfile.parse(answer.stdout.decode())


def put(folder: Path, first: Mapfile, second: Mapfile | None = None) -> None:
    (folder / "first").write_text(first.to_text())
    if second is not None:
        (folder / "second").write_text(second.to_text())


@against_ddrescuelog
@quickly
@given(first=mapfiles(), old=types, new=types)
def test_types_change_as_by_ddrescuelog(first: Mapfile, old: str, new: str, tmp_path: Path) -> None:
    put(tmp_path, first)
    assert maptool.change_types(first, old, new) == ask_for_map(tmp_path, "-a", f"{old},{new}")


@against_ddrescuelog
@quickly
@given(first=mapfiles(), at=st.integers(0, 3000), size_bytes=st.integers(1, 3000))
def test_inversion_in_a_domain_is_that_of_ddrescuelog(first: Mapfile, at: int, size_bytes: int, tmp_path: Path) -> None:
    put(tmp_path, first)
    answer = ask(tmp_path, "-n", "-i", str(at), "-s", str(size_bytes), "first")
    domain = ExtentSet([Extent(offset_bytes=at, size_bytes=size_bytes)])
    if b"domain is empty" in answer.stderr:
        assert maptool.invert(first, domain=domain) == first
    else:
        assert maptool.invert(first, domain=domain) == Mapfile.parse(answer.stdout.decode())
    assert maptool.invert(first) == ask_for_map(tmp_path, "-n")


@against_ddrescuelog
@quickly
@given(first=mapfiles(), second=mapfiles())
def test_and_or_xor_of_finished_blocks_are_those_of_ddrescuelog(
    first: Mapfile, second: Mapfile, tmp_path: Path
) -> None:
    put(tmp_path, first, second)
    operations = {"-y": maptool.and_finished, "-z": maptool.or_finished, "-x": maptool.xor_finished}
    for option, operation in operations.items():
        answer = ask(tmp_path, option, "second", "first")
        if b"domain is empty" in answer.stderr:  # the maps have no byte in common
            assert operation(first, second) == first
        else:
            assert operation(first, second) == Mapfile.parse(answer.stdout.decode())


@against_ddrescuelog
@quickly
@given(first=mapfiles(), second=mapfiles(), same_finished=st.booleans())
def test_comparisons_are_those_of_ddrescuelog(
    first: Mapfile, second: Mapfile, same_finished: bool, tmp_path: Path
) -> None:
    if same_finished:
        second = maptool.change_types(first, "?*/", "-")
    put(tmp_path, first, second)
    assert maptool.same_blocks(first, second) == (ask(tmp_path, "-p", "second", "first").returncode == 0)
    assert maptool.same_finished(first, second) == (ask(tmp_path, "-P", "second", "first").returncode == 0)
    assert maptool.same_blocks(first, first)


@against_ddrescuelog
@quickly
@given(first=mapfiles(), by_bytes=st.integers(-3000, 3000))
def test_shift_is_that_of_ddrescuelog(first: Mapfile, by_bytes: int, tmp_path: Path) -> None:
    moved = maptool.shifted(first, by_bytes)
    if by_bytes > 0 and first.start_bytes > 0:  # there ddrescuelog leaves a gap
        assert maptool.same_blocks(
            maptool.shifted(moved, -by_bytes), parse_loose(first.to_text(), BlockStatus.NON_TRIED)
        )
        return
    put(tmp_path, first)
    answer = ask(tmp_path, "--shift", "-i", str(max(0, -by_bytes)), "-o", str(max(0, by_bytes)), "first")
    if b"domain is empty" in answer.stderr:
        assert moved.size_bytes == 0
    else:
        assert moved == Mapfile.parse(answer.stdout.decode())


@against_ddrescuelog
@quickly
@given(first=mapfiles(), chosen=types, block_bytes=st.sampled_from([1, 7, 100, 512, 4096]))
def test_block_list_and_bitmaps_are_those_of_ddrescuelog(
    first: Mapfile, chosen: str, block_bytes: int, tmp_path: Path
) -> None:
    put(tmp_path, first)
    wanted = {BlockStatus(character) for character in chosen}
    size = ["-b", str(block_bytes)]
    listed = ask(tmp_path, "-l", chosen, *size, "first").stdout
    assert list(maptool.listed_blocks(first, wanted, block_bytes=block_bytes)) == [int(n) for n in listed.split()]
    for big_endian in (False, True):
        name = "bitmap-be" if big_endian else "bitmap-le"
        expected = ask(tmp_path, "-l", chosen, "-F", name, *size, "first").stdout
        ours = maptool.bitmap(first, wanted, block_bytes=block_bytes, big_endian=big_endian)
        assert ours == expected
        assert maptool.bitmap_blocks(ours, big_endian=big_endian) == [int(n) for n in listed.split()]


@against_ddrescuelog
@quickly
@given(
    numbers=st.lists(st.integers(0, 30), max_size=12),
    size_bytes=st.integers(1, 9000),
    block_bytes=st.sampled_from([100, 512]),
    listed=statuses,
    others=statuses,
)
def test_map_from_a_block_list_is_that_of_ddrescuelog(
    numbers: list[int],
    size_bytes: int,
    block_bytes: int,
    listed: BlockStatus,
    others: BlockStatus,
    tmp_path: Path,
) -> None:
    text = "".join(f"{number}\n" for number in numbers)
    arguments = [f"-c{listed}{others}", "-f", "-s", str(size_bytes), "-b", str(block_bytes), "made"]
    answer = ask(tmp_path, *arguments, stdin=text)
    assert (answer.returncode == 0) == (listed is not others), answer.stderr
    if listed is others:
        with pytest.raises(UsageError, match="would both be"):
            maptool.from_block_list([], size_bytes=size_bytes, block_bytes=block_bytes, listed=listed, others=others)
        return
    made = maptool.from_block_list(
        numbers, size_bytes=size_bytes, block_bytes=block_bytes, listed=listed, others=others
    )
    assert made == Mapfile.load(tmp_path / "made")


@against_ddrescuelog
@quickly
@given(
    blocks=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 300), statuses), min_size=1, max_size=6),
    fill=statuses,
)
def test_completed_map_is_that_of_ddrescuelog(
    blocks: list[tuple[int, int, BlockStatus]], fill: BlockStatus, tmp_path: Path
) -> None:
    text = "7 / 2\n" + "".join(f"{at} {size_bytes} {status}\n" for at, size_bytes, status in blocks)
    (tmp_path / "first").write_text(text)
    answer = ask(tmp_path, f"-C{fill}", "first")
    if answer.returncode == 2:
        with pytest.raises(MapfileError, match="overlap"):
            parse_loose(text, fill)
        return
    ours, theirs = parse_loose(text, fill), Mapfile.parse(answer.stdout.decode())
    end_bytes = max(at + size_bytes for at, size_bytes, _ in blocks)
    everything = ExtentSet([span(0, end_bytes)])
    assert ours.end_bytes == end_bytes
    assert maptool.same_blocks(ours, theirs, domain=everything)
    assert (ours.position_bytes, ours.current_status, ours.current_pass) == (7, "/", 2)
    if ours.block_at(end_bytes - 1)[1] is not fill:
        assert ours == theirs


def test_operations_leave_their_maps_alone() -> None:
    first = Mapfile([(span(0, 10), BlockStatus.FINISHED), (span(10, 20), BlockStatus.NON_TRIED)])
    kept = first.copy()
    maptool.invert(first)
    maptool.shifted(first, 5)
    maptool.xor_finished(first, kept)
    assert first == kept


@pytest.mark.parametrize(("old", "new"), [("", "+"), ("+", ""), ("x", "+"), ("+", "F")])
def test_types_that_are_none_are_a_usage_error(old: str, new: str) -> None:
    with pytest.raises(UsageError, match="give statuses out of"):
        maptool.change_types(Mapfile.covering(10), old, new)


@pytest.mark.parametrize("block_bytes", [0, -512])
def test_block_size_that_is_not_positive_is_a_usage_error(block_bytes: int) -> None:
    mapfile = Mapfile.covering(10)
    with pytest.raises(UsageError):
        list(maptool.listed_blocks(mapfile, [BlockStatus.NON_TRIED], block_bytes=block_bytes))
    with pytest.raises(UsageError):
        maptool.bitmap(mapfile, [BlockStatus.NON_TRIED], block_bytes=block_bytes)
    with pytest.raises(UsageError):
        maptool.from_block_list([1], size_bytes=10, block_bytes=block_bytes)


def test_move_that_is_not_by_whole_blocks_is_a_usage_error() -> None:
    mapfile = Mapfile.covering(10)
    with pytest.raises(UsageError, match="not by whole blocks of 4"):
        list(maptool.listed_blocks(mapfile, [BlockStatus.NON_TRIED], block_bytes=4, by_bytes=6))
    with pytest.raises(UsageError, match="not by whole blocks of 4"):
        maptool.bitmap(mapfile, [BlockStatus.NON_TRIED], block_bytes=4, by_bytes=-6)
    with pytest.raises(UsageError, match="not by whole blocks of 4"):
        maptool.from_block_list([1], size_bytes=10, block_bytes=4, by_bytes=6)


@pytest.mark.parametrize("by_bytes", [-1, MAX_OFFSET_BYTES])
def test_move_out_of_the_positions_there_are_is_a_usage_error(by_bytes: int) -> None:
    with pytest.raises(UsageError, match="leaves the positions"):
        list(maptool.listed_blocks(Mapfile.covering(10), [BlockStatus.NON_TRIED], block_bytes=1, by_bytes=by_bytes))


def test_bitmap_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="make no bitmap"):
        maptool.bitmap(Mapfile.covering(MAX_OFFSET_BYTES), [BlockStatus.NON_TRIED], block_bytes=1)


def test_negative_block_number_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="-3 is no block number"):
        maptool.from_block_list([4, -3], size_bytes=10, block_bytes=1)


def test_shift_beyond_the_largest_offset_is_refused() -> None:
    with pytest.raises(MapfileError, match="would end beyond"):
        maptool.shifted(Mapfile.covering(MAX_OFFSET_BYTES), 1)


def test_overlapping_extents_of_two_statuses_make_no_map() -> None:
    with pytest.raises(MapfileError, match="gap or overlap"):
        Mapfile.from_extents(
            {BlockStatus.FINISHED: ExtentSet([span(0, 10)]), BlockStatus.BAD_SECTOR: ExtentSet([span(5, 20)])}
        )
