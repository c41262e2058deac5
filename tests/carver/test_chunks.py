"""Chunks: the grid, what is left out, and bytes that come in one way or another."""

import mmap
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from carver import chunks
from carver.chunks import PAGE_BYTES, cut, load
from imaging.extent import Extent, ExtentSet, span
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


def test_load_gives_the_bytes_at_any_place(tmp_path):
    data = planted(5 * PAGE_BYTES + 77, ())
    with RawImage(write(tmp_path / "i", data)) as image:
        for start, end in [(0, 1), (1, 5000), (PAGE_BYTES, 2 * PAGE_BYTES), (PAGE_BYTES - 1, len(data))]:
            loaded, unread = load(image, span(start, end))
            assert loaded.tobytes() == data[start:end]
            assert not unread


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc/self/maps")
def test_a_mapping_leaves_with_its_array(tmp_path):
    with RawImage(write(tmp_path / "mapped-image", planted(1 << 20, ()))) as image:
        loaded, _ = load(image, span(0, 1 << 20))
        assert "mapped-image" in maps()
        del loaded
        assert "mapped-image" not in maps()


def maps():
    return Path("/proc/self/maps").read_text()


def test_what_was_cut_off_before_mapping_is_zero_and_unread(tmp_path):
    data = planted(4 * PAGE_BYTES, ())
    with RawImage(write(tmp_path / "i", data)) as image:
        os.truncate(tmp_path / "i", PAGE_BYTES + 100)
        loaded, unread = load(image, span(10, len(data)))
        assert loaded.tobytes() == data[10 : PAGE_BYTES + 100] + bytes(len(data) - PAGE_BYTES - 100)
        assert unread == ExtentSet([span(PAGE_BYTES + 100, len(data))])


def test_what_was_cut_off_after_mapping_does_not_kill(tmp_path, monkeypatch):
    data = planted(4 * PAGE_BYTES, ())
    real = mmap.mmap

    def cut_after_mapping(*arguments, **options):
        mapping = real(*arguments, **options)
        os.truncate(tmp_path / "i", PAGE_BYTES)
        return mapping

    monkeypatch.setattr(chunks.mmap, "mmap", cut_after_mapping)
    with RawImage(write(tmp_path / "i", data)) as image:
        loaded, unread = load(image, span(0, len(data)))
    assert loaded.tobytes() == data[:PAGE_BYTES] + bytes(3 * PAGE_BYTES)
    assert unread == ExtentSet([span(PAGE_BYTES, len(data))])


def test_a_file_that_shrinks_between_the_look_and_the_mapping_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "_size_now", lambda image: image.size_bytes)
    with RawImage(write(tmp_path / "i", planted(4 * PAGE_BYTES, ()))) as image:
        os.truncate(tmp_path / "i", PAGE_BYTES)
        assert load(image, span(0, 4 * PAGE_BYTES))[1] == ExtentSet([span(PAGE_BYTES, 4 * PAGE_BYTES)])


def test_a_bad_sector_costs_its_page_and_not_its_neighbours(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "_mapped", lambda image, needed: None)
    data = planted(3 << 20, ())
    with FaultyImage(write(tmp_path / "i", data)) as image:
        bad_bytes = (1 << 20) + 5 * PAGE_BYTES + 700
        image.bad = lambda offset_bytes, size_bytes: offset_bytes <= bad_bytes < offset_bytes + size_bytes
        loaded, unread = load(image, span(500, 3 << 20))
    lost = Extent(offset_bytes=(1 << 20) + 5 * PAGE_BYTES, size_bytes=PAGE_BYTES)
    assert unread == ExtentSet([lost])
    expected = np.frombuffer(data, np.uint8).copy()
    expected[lost.offset_bytes : lost.end_bytes] = 0
    assert np.array_equal(loaded, expected[500:])
