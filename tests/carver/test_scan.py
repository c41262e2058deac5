"""Scan: the same hits whatever the chunks and threads, and none that was not read."""

import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carver import scan as scan_room
from carver.automaton import build
from carver.chunks import PAGE_BYTES
from carver.scan import HIT_DTYPE, scan
from fixtures.failing_drive import damage_of, failing_drive, missing_for_failing_drive
from imaging.extent import ExtentSet, span
from imaging.source import RawImage
from signatures.format import ANY, Pattern, SectorProbe
from tests.carver.scanning import MAGICS, FaultyImage, a_format, oracle, planted, write
from tests.command import need

AROUND = Pattern(
    bytes=b"PK\x03\x04", name="around", before=(ANY, bytes(range(128))), after=(bytes(range(60, 256)), ANY)
)
FORMATS = (
    a_format("toy", MAGICS, patterns=(AROUND,)),
    a_format("other", [b"PK\x03\x04"], probes=(SectorProbe(allowed=(b"\x08", b"\x03")),)),
)
TABLE = build(FORMATS).table
BORDERS = 4096


def hits_of(found):
    return [tuple(hit) for chunk in found for hit in chunk.hits.tolist()]


def an_image(size=100_000):
    """Magics over every border of 4,096 bytes, each at another distance from it."""
    data = bytearray(planted(size, (at - at // BORDERS % 30 for at in range(BORDERS, size - 40, BORDERS))))
    data[512 * 9 : 512 * 9 + 2] = b"\x08\x03"
    return bytes(data)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("chunk_bytes", [37, 512, 4096, 4097, 65536, 1 << 26])
def test_hits_are_those_of_plain_search_for_every_chunk_size_and_thread_count(tmp_path, chunk_bytes, threads):
    data = an_image(100_000 if chunk_bytes > 500 else 9000)
    with RawImage(write(tmp_path / "i", data)) as image:
        found = list(scan(image, FORMATS, chunk_bytes=chunk_bytes, threads=threads))
    assert hits_of(found) == oracle(data, TABLE) != []
    plain, around = (
        sum(TABLE[number][1] == entry for _, number in hits_of(found)) for entry in (FORMATS[1].patterns[0], AROUND)
    )
    assert chunk_bytes < 512 or plain > around > 0, "some are told, some are not"
    assert all(chunk.hits.dtype == HIT_DTYPE and not chunk.unread for chunk in found)
    assert all(
        chunk.chunk.offset_bytes <= at < chunk.chunk.end_bytes for chunk in found for at, _ in chunk.hits.tolist()
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=30), st.integers(100, 6000), st.integers(0, 5000))
def test_a_restart_gives_the_rest(tmp_path_factory, offsets, chunk_bytes, resume_at_bytes):
    data = planted(5000, offsets)
    with RawImage(write(tmp_path_factory.mktemp("scan") / "i", data)) as image:
        found = hits_of(scan(image, FORMATS, chunk_bytes=chunk_bytes, resume_at_bytes=resume_at_bytes))
    assert found == [hit for hit in oracle(data, TABLE) if hit[0] >= resume_at_bytes]


def test_a_scan_goes_on_at_the_end_of_the_last_chunk_taken(tmp_path):
    data = an_image()
    with RawImage(write(tmp_path / "i", data)) as image:
        whole = list(scan(image, FORMATS, chunk_bytes=10_000))
        first = whole[:4]
        rest = list(scan(image, FORMATS, chunk_bytes=10_000, resume_at_bytes=first[-1].chunk.end_bytes))
    assert hits_of(first) + hits_of(rest) == hits_of(whole)
    assert [c.chunk for c in first + rest] == [c.chunk for c in whole]


def test_the_domain_says_where_hits_start_not_where_they_end(tmp_path):
    data = planted(3000, [100, 500, 1000])
    domain = ExtentSet([span(100, 101), span(501, 1000)])
    with RawImage(write(tmp_path / "i", data)) as image:
        assert {at for at, _ in hits_of(scan(image, [a_format(magics=MAGICS)], domain=domain))} == {100}


def test_a_domain_of_many_small_pieces_gives_the_hits_inside_it(tmp_path):
    data = an_image()
    domain = ExtentSet(span(at, at + 1500) for at in range(700, 90_000, 3100))
    with RawImage(write(tmp_path / "i", data)) as image:
        found = hits_of(scan(image, FORMATS, domain=domain, chunk_bytes=8192))
    assert found == [hit for hit in oracle(data, TABLE) if domain.touches(span(hit[0], hit[0] + 1))] != []


@pytest.mark.parametrize("chunk_bytes", [512, 4096, 1 << 20])
def test_hits_that_touch_unread_bytes_are_dropped(tmp_path, chunk_bytes):
    data = planted(20_000, range(10, 19_000, 77))
    unread = ExtentSet([span(1024, 2048), span(5000, 5001), span(9000, 9600), span(9601, 19_000)])
    with RawImage(write(tmp_path / "i", data), unread=unread) as image:
        found = hits_of(scan(image, FORMATS, chunk_bytes=chunk_bytes, threads=2))
    assert found == oracle(data, TABLE, unread) != oracle(data, TABLE)


def test_an_image_that_is_all_unread_has_no_chunks(tmp_path):
    with RawImage(write(tmp_path / "i", b"PK\x03\x04"), unread=ExtentSet([span(0, 4)])) as image:
        assert list(scan(image, FORMATS)) == []


@pytest.mark.parametrize("magics", [MAGICS, (*MAGICS, bytes(5))])
def test_a_sparse_image_gives_the_hits_of_the_same_bytes_stored(tmp_path, magics):
    path, size = tmp_path / "i", 64 * PAGE_BYTES
    with path.open("wb") as made:
        made.truncate(size)
        # a hit that starts in a hole, one inside a page, one that ends in a hole
        for at, piece in [
            (8 * PAGE_BYTES, b'{"'),
            (20 * PAGE_BYTES + 9, b"PK\x03\x04"),
            (40 * PAGE_BYTES, b"PK\x03\x04"),
        ]:
            made.seek(at)
            made.write(piece)
    formats = [a_format(magics=magics)]
    with RawImage(path) as image:
        found = hits_of(scan(image, formats, chunk_bytes=4 * PAGE_BYTES))
    assert found == oracle(path.read_bytes(), build(formats).table)


def test_an_image_cut_short_while_scanning_gives_the_rest_as_unread(tmp_path):
    data = an_image()
    with RawImage(write(tmp_path / "i", data)) as image:
        found = scan(image, FORMATS, chunk_bytes=10_000)
        seen = [next(found), next(found)]
        os.truncate(tmp_path / "i", 25_000)
        seen += found
    unread = ExtentSet(extent for chunk in seen for extent in chunk.unread)
    assert unread == ExtentSet([span(25_000, len(data))])
    assert hits_of(seen) == oracle(data, TABLE, unread)


@pytest.mark.parametrize("threads", [1, 3])
def test_what_cannot_be_read_is_unread_and_the_scan_goes_on(tmp_path, monkeypatch, threads):
    FaultyImage.use(monkeypatch)
    data = an_image()
    bad_bytes = 7 * PAGE_BYTES + 5
    with FaultyImage(write(tmp_path / "i", data)) as image:
        image.bad = lambda offset_bytes, size_bytes: offset_bytes <= bad_bytes < offset_bytes + size_bytes
        found = list(scan(image, FORMATS, chunk_bytes=20_000, threads=threads))
    lost = ExtentSet([span(7 * PAGE_BYTES, 8 * PAGE_BYTES)])
    assert ExtentSet(extent for chunk in found for extent in chunk.unread) == lost
    assert hits_of(found) == oracle(data, TABLE, lost)


@pytest.mark.parametrize("piece", [b"PK\x03\x04", bytes(4), b'\0\0\0\0{"', b"\x08\x03" + bytes(510)])
def test_hostile_images_give_every_hit(tmp_path, piece):
    data = piece * (600_000 // len(piece))
    with RawImage(write(tmp_path / "i", data)) as image:
        assert hits_of(scan(image, FORMATS, chunk_bytes=300_001, threads=2)) == oracle(data, TABLE)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_chunk_full_of_hits_comes_in_parts_that_can_be_resumed(tmp_path, monkeypatch, threads):
    monkeypatch.setattr(scan_room, "PIECE_BYTES", 4096)
    monkeypatch.setattr(scan_room, "PART_HITS", 1000)
    data = b"PK\x03\x04" * 10_000 + an_image() + b"PK\x03\x04" * 10_000
    with RawImage(write(tmp_path / "i", data)) as image:
        parts = list(scan(image, FORMATS, chunk_bytes=50_000, threads=threads))
        assert hits_of(parts) == oracle(data, TABLE)
        assert all(len(part.hits) <= 1000 + 2 * 4096 for part in parts)
        assert [p.chunk.end_bytes for p in parts[:-1]] == [p.chunk.offset_bytes for p in parts[1:]]
        assert len(parts) > 10
        taken = parts[:3]
        rest = scan(image, FORMATS, chunk_bytes=50_000, resume_at_bytes=taken[-1].chunk.end_bytes)
        assert hits_of(taken) + hits_of(rest) == hits_of(parts)


def test_a_hostile_image_is_scanned_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(scan_room, "PIECE_BYTES", 1 << 18)
    monkeypatch.setattr(scan_room, "PART_HITS", 1 << 16)
    piece = b'\0\0\0\0{"'
    with RawImage(write(tmp_path / "i", piece * (2 << 20))) as image:
        list(scan(image, FORMATS, domain=ExtentSet([span(0, 1)])))  # what is kept for good is made here
        tracemalloc.start()
        count = sum(len(part.hits) for part in scan(image, FORMATS))
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 2 << 20
    assert peak_bytes < 8 << 20  # all hits together take 20 MiB, and more while they are sorted


def test_an_image_of_terabytes_costs_what_is_stored_of_it(tmp_path):
    path = tmp_path / "i"
    with path.open("wb") as made:
        made.truncate(4 << 40)
        for at in (5 << 30, (3 << 40) + 12345):
            made.seek(at)
            made.write(b"PK\x03\x04")
    with RawImage(path) as image:
        if os.lseek(image.fileno(), 0, os.SEEK_DATA) == 0:
            pytest.skip("this file system keeps no holes")
        found = list(scan(image, FORMATS))
    assert hits_of(found) == [(5 << 30, 0), (5 << 30, 3), ((3 << 40) + 12345, 0), ((3 << 40) + 12345, 3)]
    assert sum(part.chunk.size_bytes for part in found) < 1 << 20


def test_pieces_are_joined_without_a_seam(tmp_path, monkeypatch):
    monkeypatch.setattr(scan_room, "PIECE_BYTES", 4096)
    data = an_image()
    unread = ExtentSet([span(8000, 8200), span(20_000, 90_000)])
    with RawImage(write(tmp_path / "i", data), unread=unread) as image:
        assert hits_of(scan(image, FORMATS)) == oracle(data, TABLE, unread) != []


def test_progress_comes_with_each_chunk_and_ends_at_the_end(tmp_path):
    steps = []
    with RawImage(write(tmp_path / "i", an_image())) as image:
        list(scan(image, FORMATS, chunk_bytes=40_000, on_progress=lambda done, of: steps.append((done, of))))
    assert steps == [(40_000, 100_000), (80_000, 100_000), (100_000, 100_000), (100_000, 100_000)]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_scan_stops_between_chunks(tmp_path, threads):
    taken = []
    with RawImage(write(tmp_path / "i", an_image())) as image:
        taken.extend(scan(image, FORMATS, chunk_bytes=10_000, threads=threads, stop=lambda: len(taken) == 3))
    assert len(taken) == 3


def test_a_scan_given_up_half_way_leaves_no_threads_behind(tmp_path):
    import threading

    with RawImage(write(tmp_path / "i", an_image())) as image:
        found = scan(image, FORMATS, chunk_bytes=1000, threads=3)
        next(found)
        found.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scan")]


def test_hits_are_the_documented_records():
    assert HIT_DTYPE.itemsize == 10
    assert np.zeros(1, HIT_DTYPE)["pattern"].dtype == np.uint16


@pytest.mark.root
@pytest.mark.parametrize("kind", ["a file on a failing disk", "a failing device"])
def test_an_image_on_a_failing_disk_gives_its_bad_pages_as_unread(tmp_path, kind):
    need(missing_for_failing_drive())
    size = 8 << 20
    bad = [(5 * PAGE_BYTES, 512), ((1 << 20) - 512, 1024), (6 << 20, 70_144)]
    data = planted(size, range(1000, size - 100, 9973))
    contents = write(tmp_path / "contents", data)
    with (
        failing_drive(tmp_path / "drive", contents, damage_of(size, bad)) as drive,
        RawImage(drive.device if kind == "a failing device" else tmp_path / "drive" / "mnt" / "disk") as image,
    ):
        found = list(scan(image, FORMATS, chunk_bytes=4 << 20, threads=2))
    pages = ExtentSet(
        span(at // PAGE_BYTES * PAGE_BYTES, -(-(at + length) // PAGE_BYTES) * PAGE_BYTES) for at, length in bad
    )
    unread = ExtentSet(extent for chunk in found for extent in chunk.unread)
    assert unread == pages
    assert hits_of(found) == oracle(data, TABLE, pages)
