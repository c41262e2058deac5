"""Chunks: the grid, what is left out, and bytes that come in one way or another."""

import os
import sys
from contextlib import closing

import numpy as np
import pytest

from carver import chunks
from carver.chunks import PAGE_BYTES, Feed, cut, new_buffer, read_into
from imaging.extent import Extent, ExtentSet, span
from imaging.mapstore import is_locked, lock_exclusively
from imaging.source import RawImage
from tests.carver.scanning import FaultyImage, planted, write


def spans(found):
    return [(chunk.extent.offset_bytes, chunk.extent.end_bytes) for chunk in found]


def sparse(path, size, stored):
    """A file of `size` with one page of data at each of the offsets `stored`."""
    with path.open("wb") as made:
        made.truncate(size)
        for at in stored:
            made.seek(at)
            made.write(b"\xaa" * PAGE_BYTES)
    with path.open("rb") as made:
        if os.lseek(made.fileno(), 0, os.SEEK_HOLE) >= size and size > PAGE_BYTES:
            pytest.skip("this file system keeps no holes")
    return path


def test_chunks_tile_the_image_on_a_grid(tmp_path):
    with RawImage(write(tmp_path / "i", planted(1000, ()))) as image:
        assert spans(cut(image, chunk_bytes=400, reach_bytes=9)) == [(0, 400), (400, 800), (800, 1000)]
        assert spans(cut(image, chunk_bytes=4000, reach_bytes=9)) == [(0, 1000)]


def test_a_restart_cuts_in_the_same_places(tmp_path):
    with RawImage(write(tmp_path / "i", planted(1000, ()))) as image:
        again = cut(image, chunk_bytes=400, reach_bytes=9, resume_at_bytes=400)
        assert spans(again) == [(400, 800), (800, 1000)]
        assert spans(cut(image, chunk_bytes=400, reach_bytes=9, resume_at_bytes=500)) == [(500, 800), (800, 1000)]
        assert spans(cut(image, chunk_bytes=400, reach_bytes=9, resume_at_bytes=1000)) == []
        assert spans(cut(image, chunk_bytes=400, reach_bytes=9, resume_at_bytes=5000)) == []


def test_an_empty_image_has_no_chunks(tmp_path):
    with RawImage(write(tmp_path / "i", b"")) as image:
        assert spans(cut(image, chunk_bytes=400, reach_bytes=9)) == []


def test_unread_ranges_and_what_is_outside_the_domain_are_left_out(tmp_path):
    unread = ExtentSet([span(100, 200), span(400, 820)])
    domain = ExtentSet([span(50, 900), span(950, 9999)])
    with RawImage(write(tmp_path / "i", planted(1000, ())), unread=unread) as image:
        found = list(cut(image, chunk_bytes=400, reach_bytes=9, domain=domain))
        assert spans(found) == [(50, 400), (820, 1000)]
        assert [chunk.starts for chunk in found] == [
            ExtentSet([span(50, 100), span(200, 400)]),
            ExtentSet([span(820, 900), span(950, 1000)]),
        ]


def test_holes_are_left_out_but_for_what_reaches_into_data(tmp_path):
    path = sparse(tmp_path / "i", 1 << 30, [10 * PAGE_BYTES, 1 << 29])
    with RawImage(path) as image:
        found = list(cut(image, chunk_bytes=1 << 20, reach_bytes=9))
        # a file system may store more than was written, never less
        starts = ExtentSet(extent for chunk in found for extent in chunk.starts)
        assert starts.covers(span(10 * PAGE_BYTES - 9, 11 * PAGE_BYTES))
        assert starts.covers(span((1 << 29) - 9, (1 << 29) + PAGE_BYTES))
        assert starts.total_bytes < 1 << 20
        assert len(found) <= 4
        assert len(list(cut(image, chunk_bytes=1 << 20, reach_bytes=9, skip_holes=False))) == 1024


def test_a_chunk_that_starts_in_a_hole_keeps_the_reach_before_the_next_cells_data(tmp_path):
    path = sparse(tmp_path / "i", 16 * PAGE_BYTES, [8 * PAGE_BYTES])
    with RawImage(path) as image:
        starts = [c.starts for c in cut(image, chunk_bytes=8 * PAGE_BYTES, reach_bytes=5)]
        assert starts[0] == ExtentSet([span(8 * PAGE_BYTES - 5, 8 * PAGE_BYTES)])


def test_a_file_of_nothing_but_a_hole_has_no_chunks(tmp_path):
    with RawImage(sparse(tmp_path / "i", 1 << 40, [])) as image:
        assert spans(cut(image, chunk_bytes=1 << 20, reach_bytes=9)) == []


def loaded(image, needed):
    """What `read_into` leaves in a buffer full of something else, and what it says is missing."""
    buffer = np.full(needed.size_bytes + 10, 0xEE, np.uint8)
    unread = read_into(buffer, image, needed)
    assert (buffer[needed.size_bytes :] == 0xEE).all()
    return buffer[: needed.size_bytes].tobytes(), unread


def test_the_bytes_at_any_place_come_into_the_buffer(tmp_path):
    data = planted(5 * PAGE_BYTES + 77, ())
    with RawImage(write(tmp_path / "i", data)) as image:
        for start, end in [(0, 1), (1, 5000), (PAGE_BYTES, 2 * PAGE_BYTES), (PAGE_BYTES - 1, len(data))]:
            assert loaded(image, span(start, end)) == (data[start:end], ExtentSet())


def given(feed, needed, run_end_bytes=0):
    there, unread = feed.get(needed, run_end_bytes)
    return there.tobytes(), unread


@pytest.mark.skipif(sys.platform != "linux", reason="files are mapped on Linux only")
def test_a_file_is_mapped_and_what_lies_behind_its_end_is_not_touched(tmp_path, monkeypatch):
    data = planted(5 * PAGE_BYTES + 77, ())
    with RawImage(write(tmp_path / "i", data)) as image:
        with monkeypatch.context() as patched:
            patched.setattr(chunks, "read_into", None)  # not read: mapped
            for start, end in [(0, 1), (1, 5000), (PAGE_BYTES - 1, len(data))]:
                with closing(Feed(image, len(data))) as feed:
                    assert given(feed, span(start, end)) == (data[start:end], ExtentSet())
        os.truncate(tmp_path / "i", PAGE_BYTES)
        expected = data[:PAGE_BYTES] + bytes(len(data) - PAGE_BYTES), ExtentSet([span(PAGE_BYTES, len(data))])
        with closing(Feed(image, len(data))) as feed:
            assert given(feed, span(0, len(data))) == expected


def test_an_image_that_a_rescue_writes_is_read_and_never_mapped(tmp_path, monkeypatch):
    data = planted(5 * PAGE_BYTES + 77, ())
    path = write(tmp_path / "i", data)
    with RawImage(path) as image, lock_exclusively(path), closing(Feed(image, len(data))) as feed:
        monkeypatch.setattr(chunks.mmap, "mmap", lambda *arguments, **options: pytest.fail("mapped"))
        if sys.platform == "linux":
            assert is_locked(image.fileno())
        assert given(feed, span(3, len(data))) == (data[3:], ExtentSet())


@pytest.mark.skipif(sys.platform != "linux", reason="files are mapped on Linux only")
def test_pieces_come_from_one_window_as_far_as_it_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "WINDOW_BYTES", 4 * PAGE_BYTES)
    mapped, made = chunks._mapped, []
    monkeypatch.setattr(chunks, "_mapped", lambda image, extent: made.append(extent) or mapped(image, extent))
    data = planted(9 * PAGE_BYTES, ())
    with RawImage(write(tmp_path / "i", data)) as image:
        feed = Feed(image, 2 * PAGE_BYTES)
        for at in range(0, len(data), PAGE_BYTES):
            needed = span(at, min(at + PAGE_BYTES + 9, len(data)))
            assert given(feed, needed, len(data)) == (data[at : needed.end_bytes], ExtentSet())
        feed.close()
    assert made == [span(0, 5 * PAGE_BYTES), span(4 * PAGE_BYTES, 9 * PAGE_BYTES)]


@pytest.mark.parametrize("step", ["mmap", "_populate"])
def test_what_cannot_be_mapped_or_populated_is_read_and_not_tried_again(tmp_path, monkeypatch, step):
    data, tries = planted(5 * PAGE_BYTES + 77, ()), []

    def refuses(*arguments, **options):
        tries.append(arguments)
        raise OSError(19, "cannot be mapped")

    if step == "mmap":
        monkeypatch.setattr(chunks.mmap, "mmap", refuses)
    else:
        monkeypatch.setattr(chunks, "_populate", lambda *arguments: bool(tries.append(arguments)))
    with RawImage(write(tmp_path / "i", data)) as image:
        feed = Feed(image, len(data))
        for start, end in [(3, 5000), (5000, len(data))]:
            assert given(feed, span(start, end), len(data)) == (data[start:end], ExtentSet())
    assert len(tries) == 1


@pytest.mark.parametrize("size", [1, 100, PAGE_BYTES, 3 * PAGE_BYTES + 7])
def test_a_buffer_begins_with_a_page(size):
    buffer = new_buffer(size)
    assert len(buffer) == size
    assert buffer.ctypes.data % PAGE_BYTES == 0


def test_a_read_that_ends_early_goes_on_where_it_ended(tmp_path, monkeypatch):
    real = chunks._read_at
    monkeypatch.setattr(chunks, "_read_at", lambda image, place, at: real(image, place[:1000], at))
    data = planted(5 * PAGE_BYTES + 77, ())
    with RawImage(write(tmp_path / "i", data)) as image:
        assert loaded(image, span(5, len(data))) == (data[5:], ExtentSet())


def test_what_was_cut_off_is_zero_and_unread(tmp_path):
    data = planted(4 * PAGE_BYTES, ())
    with RawImage(write(tmp_path / "i", data)) as image:
        os.truncate(tmp_path / "i", PAGE_BYTES + 100)
        there, unread = loaded(image, span(10, len(data)))
        assert there == data[10 : PAGE_BYTES + 100] + bytes(len(data) - PAGE_BYTES - 100)
        assert unread == ExtentSet([span(PAGE_BYTES + 100, len(data))])
        assert loaded(image, span(PAGE_BYTES + 200, len(data)))[1] == ExtentSet([span(PAGE_BYTES + 200, len(data))])


def test_a_file_cut_short_while_it_is_read_does_not_kill(tmp_path, monkeypatch):
    real = chunks._read_at
    data = planted(4 * PAGE_BYTES, ())

    def cut_after_reading(image, place, at):
        got_bytes = real(image, place[:PAGE_BYTES], at)
        os.truncate(tmp_path / "i", PAGE_BYTES)
        return got_bytes

    monkeypatch.setattr(chunks, "_read_at", cut_after_reading)
    with RawImage(write(tmp_path / "i", data)) as image:
        there, unread = loaded(image, span(0, len(data)))
    assert there == data[:PAGE_BYTES] + bytes(3 * PAGE_BYTES)
    assert unread == ExtentSet([span(PAGE_BYTES, len(data))])


def test_a_bad_sector_costs_its_page_and_not_its_neighbours(tmp_path, monkeypatch):
    FaultyImage.use(monkeypatch)
    data = planted(3 << 20, ())
    with FaultyImage(write(tmp_path / "i", data)) as image:
        bad_bytes = (1 << 20) + 5 * PAGE_BYTES + 700
        image.bad = lambda offset_bytes, size_bytes: offset_bytes <= bad_bytes < offset_bytes + size_bytes
        there, unread = loaded(image, span(500, 3 << 20))
    lost = Extent(offset_bytes=(1 << 20) + 5 * PAGE_BYTES, size_bytes=PAGE_BYTES)
    assert unread == ExtentSet([lost])
    expected = bytearray(data)
    expected[lost.offset_bytes : lost.end_bytes] = bytes(PAGE_BYTES)
    assert there == expected[500:]
