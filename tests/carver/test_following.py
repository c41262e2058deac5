"""Following: whatever the order of reads and the damage, the hits are those of a scan afterwards."""

import errno
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from carver import chunks, following
from carver import hits as hits_room
from carver.automaton import build
from carver.following import Follower, Grid, KnownHits, Readings, follow_key
from carver.scan import scan
from fixtures.failing_drive import bad_zones, damage_of, scattered_sectors
from imaging.damaged import DamagedSource
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.pump import Piece
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions
from imaging.source import RawImage
from signatures.format import SectorProbe
from tests.carver.scanning import MAGICS, FaultyImage, a_format, planted

FORMATS = [
    a_format("toy", MAGICS),
    a_format("other", [b"PK\x03\x04"], probes=(SectorProbe(allowed=(b"\x08", b"\x03")),)),
]
AUTOMATON = build(FORMATS)
CELL = 8192
SECTOR = 512


def a_drive(size: int, seed: int = 3) -> bytes:
    """Magics over the borders of sectors and cells."""
    return planted(size, (at - at // SECTOR % 30 for at in range(SECTOR, size - 40, 3 * SECTOR)), seed=seed)


class Imaging:
    """A rescue's end: pieces are written to the image, then handed on."""

    def __init__(self, folder: Path, drive: bytes) -> None:
        self.folder, self.drive = folder, bytearray(drive)
        self.path = folder / "image.raw"
        self.status = np.zeros(len(drive), bool)
        if not self.path.exists():
            self.path.write_bytes(bytes(len(drive)))

    @property
    def finished(self) -> ExtentSet:
        edges = np.flatnonzero(np.diff(self.status, prepend=False, append=False))
        return ExtentSet.from_arrays(edges[::2], edges[1::2])

    def follower(self, **options: object) -> Follower:
        return Follower(
            self.folder,
            self.path,
            FORMATS,
            image_bytes=len(self.drive),
            finished=self.finished,
            cell_bytes=CELL,
            **options,
        )  # type: ignore[arg-type]

    def read(self, extent: Extent, follower: Follower) -> None:
        data = bytes(self.drive[extent.offset_bytes : extent.end_bytes])
        with self.path.open("r+b") as file:
            file.seek(extent.offset_bytes)
            file.write(data)
        self.status[extent.offset_bytes : extent.end_bytes] = True
        follower(Piece(extent=extent, status=BlockStatus.FINISHED, data=data))

    def fail(self, extent: Extent, follower: Follower) -> None:
        self.status[extent.offset_bytes : extent.end_bytes] = False
        follower(Piece(extent=extent, status=BlockStatus.NON_TRIMMED))

    def known(self) -> KnownHits:
        grid = Grid(image_bytes=len(self.drive), cell_bytes=CELL, reach_bytes=AUTOMATON.reach_bytes)
        unread = self.finished.complement(span(0, len(self.drive)))
        return KnownHits(self.folder, follow_key(AUTOMATON, grid, None), grid, unread)

    def hits(self, *, known: KnownHits | None = None, threads: int = 1) -> list[tuple[int, int]]:
        unread = self.finished.complement(span(0, len(self.drive)))
        with RawImage(self.path, unread=unread) as image:
            told = scan(image, FORMATS, chunk_bytes=CELL, known=known, threads=threads)
            return [hit for part in told for hit in part.hits.tolist()]

    def cells_known(self) -> list[int]:
        return np.flatnonzero(self.known()._lines >= 0).tolist()


def sectors(size: int) -> list[Extent]:
    return [span(at, min(at + SECTOR, size)) for at in range(0, size, SECTOR)]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([5 * CELL, 4 * CELL + 700, 3 * CELL - 1]), st.integers(1, 3))
def test_hits_are_those_of_a_scan_afterwards_whatever_is_read_in_whatever_order(tmp_path_factory, draw, size, threads):
    imaging = Imaging(tmp_path_factory.mktemp("follow"), a_drive(size))
    source = random.Random(draw.draw(st.integers(0, 1 << 30)))
    with imaging.follower() as follower:
        for _ in range(draw.draw(st.integers(1, 25))):
            start = source.randrange(0, size, SECTOR)
            stretch = [e for e in sectors(size) if start <= e.offset_bytes < start + source.randrange(1, 3 * CELL)]
            act = imaging.fail if source.random() < 0.2 else imaging.read
            for extent in stretch[:: source.choice([1, 1, -1])]:
                act(extent, follower)
    assert imaging.hits(known=imaging.known(), threads=threads) == imaging.hits()


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("piece", [SECTOR, 4096, 3 * CELL])
def test_a_healthy_drive_is_scanned_when_its_imaging_ends(tmp_path, monkeypatch, piece, backwards):
    monkeypatch.setattr(chunks, "_mapped", None)  # an image that is being written is never mapped
    size = 5 * CELL + 100
    imaging = Imaging(tmp_path, a_drive(size))
    pieces = [span(at, min(at + piece, size)) for at in range(0, size, piece)]
    with imaging.follower() as follower:
        for extent in pieces[:: -1 if backwards else 1]:
            imaging.read(extent, follower)
    assert imaging.cells_known() == list(range(6))
    monkeypatch.undo()
    expected = imaging.hits()
    monkeypatch.setattr(following, "Scanner", None)
    monkeypatch.setattr("carver.scan.Scanner", None)
    assert imaging.hits(known=imaging.known()) == expected != []


def test_a_cell_with_a_gap_is_scanned_when_the_gap_fills(tmp_path):
    imaging = Imaging(tmp_path, a_drive(3 * CELL))
    gap = span(CELL - SECTOR, CELL + SECTOR)
    with imaging.follower() as follower:
        imaging.read(span(0, gap.offset_bytes), follower)
        imaging.fail(gap, follower)
        imaging.read(span(gap.end_bytes, 3 * CELL), follower)
    assert imaging.cells_known() == [2]
    with imaging.follower() as follower:
        imaging.read(gap, follower)
    assert imaging.cells_known() == [0, 1, 2]
    assert imaging.hits(known=imaging.known()) == imaging.hits()


def test_what_is_read_once_more_is_scanned_once_more(tmp_path):
    imaging = Imaging(tmp_path, a_drive(3 * CELL))
    with imaging.follower() as follower:
        imaging.read(span(0, 3 * CELL), follower)
        imaging.drive[CELL + 1000 : CELL + 1004] = b"PK\x03\x04"
        imaging.read(span(CELL, CELL + SECTOR * 4), follower)
    hits = imaging.hits(known=imaging.known())
    assert hits == imaging.hits()
    assert CELL + 1000 in {at for at, _ in hits}


def test_what_counts_as_unread_again_is_known_no_more(tmp_path):
    imaging = Imaging(tmp_path, a_drive(3 * CELL))
    with imaging.follower() as follower:
        imaging.read(span(0, 3 * CELL), follower)
        imaging.fail(span(CELL + 5 * SECTOR, CELL + 6 * SECTOR), follower)
    assert imaging.cells_known() == [0, 2]
    with imaging.follower():
        pass
    imaging.status[0:SECTOR] = False  # by `carver map`, between two runs
    with imaging.follower():
        pass
    assert imaging.cells_known() == [2]
    assert imaging.hits(known=imaging.known()) == imaging.hits()


def test_a_killed_run_is_gone_on_with(tmp_path):
    imaging = Imaging(tmp_path, a_drive(4 * CELL))
    with imaging.follower() as follower:
        imaging.read(span(0, 2 * CELL), follower)
    assert imaging.cells_known() == [0]  # hits of the second run on into the third
    with (tmp_path / following.LOG).open("ab") as torn:
        torn.write(b'{"offset_bytes":8192,"end_b')
    with (tmp_path / following.DATA).open("ab") as torn:
        torn.write(b"hits without a line")
    with imaging.follower() as follower:
        imaging.read(span(2 * CELL, 4 * CELL), follower)
    assert imaging.cells_known() == [0, 1, 2, 3]
    assert imaging.hits(known=imaging.known()) == imaging.hits()


def test_of_an_image_begun_anew_nothing_is_known(tmp_path):
    imaging = Imaging(tmp_path, a_drive(2 * CELL))
    with imaging.follower() as follower:
        imaging.read(span(0, 2 * CELL), follower)
    imaging.status[:] = False
    with imaging.follower():
        pass
    assert imaging.cells_known() == []


def test_hits_of_a_cell_in_parts_come_back_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("carver.scan.PIECE_BYTES", 1024)
    monkeypatch.setattr("carver.scan.PART_HITS", 100)
    imaging = Imaging(tmp_path, b"PK\x03\x04" * (3 * CELL // 4))
    with imaging.follower() as follower:
        imaging.read(span(0, 3 * CELL), follower)
    assert imaging.cells_known() == [0, 1, 2]
    assert imaging.hits(known=imaging.known()) == imaging.hits()


def test_another_choice_of_patterns_or_another_domain_knows_nothing(tmp_path):
    imaging = Imaging(tmp_path, a_drive(2 * CELL))
    with imaging.follower(domain=ExtentSet([span(100, CELL + 100)])) as follower:
        imaging.read(span(0, 2 * CELL), follower)
    assert imaging.cells_known() == []


@pytest.mark.parametrize("fault", ["full", "unreadable", "short", "gone"])
def test_trouble_of_the_follower_is_none_of_the_imaging(tmp_path, monkeypatch, fault, caplog):
    imaging = Imaging(tmp_path, a_drive(4 * CELL))
    follower = imaging.follower()
    if fault == "full":
        monkeypatch.setattr(hits_room, "COMMIT_SECONDS", 0.0)
        monkeypatch.setattr(hits_room.os, "fsync", full)
    elif fault in ("short", "gone"):
        follower._image_path = tmp_path / fault
        (tmp_path / "short").write_bytes(b"PK\x03\x04")
    else:
        FaultyImage.use(monkeypatch)
        monkeypatch.setattr(FaultyImage, "bad", staticmethod(lambda at, size: at <= 5000 < at + size))
        monkeypatch.setattr(following, "RawImage", FaultyImage)
    for extent in sectors(4 * CELL):
        imaging.read(extent, follower)
    follower.close()
    monkeypatch.undo()
    assert imaging.cells_known() == ([1, 2, 3] if fault == "unreadable" else [])
    assert "scanned afterwards" in caplog.text or fault == "unreadable"
    assert imaging.hits(known=imaging.known()) == imaging.hits()


def full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "full")


def test_what_cannot_be_followed_is_left_for_the_scan_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(following, "MAX_WAITING", 0)
    imaging = Imaging(tmp_path, a_drive(4 * CELL))
    with imaging.follower() as follower:
        imaging.read(span(0, 4 * CELL), follower)
    assert imaging.cells_known() == []
    assert imaging.hits(known=imaging.known()) == imaging.hits()


def test_a_run_that_is_told_to_stop_leaves_what_waits(tmp_path):
    imaging = Imaging(tmp_path, a_drive(4 * CELL))
    with imaging.follower(stop=lambda: True) as follower:
        imaging.read(span(0, 4 * CELL), follower)
    assert imaging.cells_known() == []


@pytest.mark.parametrize("damage", ["none", "scattered", "zones"])
def test_a_rescue_that_is_followed_and_stopped_and_gone_on_with_gives_the_hits_of_a_scan_afterwards(
    tmp_path, monkeypatch, damage
):
    monkeypatch.setattr(following, "MAX_WAITING", 1000)  # however long the kernels take to load
    drive, size = tmp_path / "drive", 64 * CELL
    drive.write_bytes(a_drive(size))
    bad = {
        "none": damage_of(size, ()),
        "scattered": scattered_sectors(5, size, 20),
        "zones": bad_zones(5, size, 3, zone_bytes=3 * SECTOR),
    }[damage]
    imaging = Imaging(tmp_path, drive.read_bytes())
    imaging.path.unlink()
    map_path = tmp_path / "map"
    for enough in (40, 200, 1 << 30):
        source = DamagedSource(RawImage(drive), Mapfile.parse(bad.mapfile_text()))
        with imaging.follower() as follower:
            rescue(
                source,
                imaging.path,
                map_path,
                RescueOptions(cluster_bytes=2048),
                stop=lambda source=source, enough=enough: source.reads >= enough,
                subscribers=(follower,),
            )
        imaging.status[:] = False
        for extent in Mapfile.load(map_path).extents(BlockStatus.FINISHED):
            imaging.status[extent.offset_bytes : extent.end_bytes] = True
        grid = Grid(image_bytes=size, cell_bytes=CELL, reach_bytes=AUTOMATON.reach_bytes)
        assert imaging.cells_known() == [n for n in range(64) if imaging.finished.covers(grid.needed(n))]
        assert imaging.hits(known=imaging.known()) == imaging.hits() != []


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 39), st.integers(1, 40), st.booleans()), max_size=30), st.sets(st.integers(0, 39))
)
@example([(0, 1, False), (1, 10, True)], {0})
def test_cells_are_whole_when_every_byte_they_need_was_read(acts, before):
    grid = Grid(image_bytes=40, cell_bytes=8, reach_bytes=3)
    read = set(before)
    readings = Readings(grid, ExtentSet(span(at, at + 1) for at in before))
    told: set[int] = set()
    for start, size, good in acts:
        extent = span(start, min(start + size, 40))
        here = set(range(extent.offset_bytes, extent.end_bytes))
        read = read | here if good else read - here
        told |= set(readings.add(extent) if good else readings.lose(extent))
    told |= set(readings.settle())
    whole = {n for n in range(5) if set(range(8 * n, min(8 * n + 11, 40))) <= read}
    assert {n for n in range(5) if readings.is_whole(n)} == whole
    new = {n for n in whole if not set(range(8 * n, min(8 * n + 11, 40))) <= before}
    assert new <= told
