"""Hashes of an image while it is read: in any order, with any end, and never believed once the bytes have changed."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging import hash_lane, hashes, read_back
from imaging.damaged import DamagedSource
from imaging.errors import InputError, OutputError
from imaging.extent import Extent, span
from imaging.hash_log import Hashed, HashLog, log_path, note_change, piece_bytes_for, read_hashes
from imaging.hashes import Hasher
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore
from imaging.pump import Piece
from imaging.read_back import verify
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions
from imaging.source import RawImage

PIECE = 4096
SIZE = 5 * PIECE + 512


class Bench:
    """An image, its map and its hashes, written to by hand."""

    def __init__(self, folder: Path, size_bytes: int = SIZE) -> None:
        self.image, self.map, self.log = folder / "d.img", folder / "d.img.map", folder / "d.img.hashes"
        self.drive = random.Random(7).randbytes(size_bytes)
        self.image.write_bytes(bytes(size_bytes))
        self.mapfile = Mapfile.covering(size_bytes)
        self.begun = False

    def hasher(self, **options) -> Hasher:
        options = {"image_bytes": len(self.drive), "piece_bytes": PIECE, **options}
        made = Hasher(self.log, mapfile=self.mapfile if self.begun else None, **options)
        self.begun = True
        return made

    def write(self, extent: Extent) -> bytes:
        """What the writer does before a subscriber is told."""
        data = self.drive[extent.offset_bytes : extent.end_bytes]
        with self.image.open("r+b") as file:
            file.seek(extent.offset_bytes)
            file.write(data)
        return data

    def read(self, hasher: Hasher, start: int, end: int) -> None:
        extent = span(start, end)
        hasher(Piece(extent=extent, status=BlockStatus.FINISHED, data=self.write(extent)))
        self.mapfile.mark(extent, BlockStatus.FINISHED)

    def complete(self, hasher: Hasher, **options):
        return hasher.complete(self.image, self.mapfile, **options)

    def digest(self, start: int = 0, end: int | None = None, name: str = "sha256") -> str:
        return hashlib.new(name, self.image.read_bytes()[start:end]).hexdigest()

    def believed(self) -> dict[int, Hashed]:
        return read_hashes(self.log).pieces

    def wrong(self) -> list[int]:
        """Pieces that the log vouches for though the image has other bytes."""
        return [
            index
            for index, piece in self.believed().items()
            if piece.digests["sha256"] != self.digest(piece.extent.offset_bytes, piece.extent.end_bytes)
        ]


def abandon(hasher: Hasher) -> None:
    """What a kill leaves: no session's end."""
    hasher._end_lanes()
    hasher.log.close()


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_what_is_read_in_order_is_hashed_as_it_comes_and_never_read_back(bench):
    with bench.hasher(algorithms=("sha256", "md5")) as hasher:
        for start in range(0, SIZE, 1024):
            bench.read(hasher, start, min(start + 1024, SIZE))
        done = bench.complete(hasher)
    assert (done.finished, done.pieces, done.from_drive, done.read_back_bytes) == (True, 6, 6, 0)
    assert done.image.digests == {"sha256": bench.digest(), "md5": bench.digest(name="md5")}
    assert (done.image.basis, done.image.unread_bytes) == ("drive", 0)
    assert bench.wrong() == []
    assert {piece.basis for piece in bench.believed().values()} == {"drive"}


def test_a_read_longer_than_pieces_is_cut_at_their_borders(bench):
    with bench.hasher() as hasher:
        bench.read(hasher, 0, SIZE)
        assert bench.complete(hasher).from_drive == 6
    assert bench.wrong() == []


def test_what_came_out_of_order_is_read_back_at_the_end(bench):
    with bench.hasher(whole_image=False) as hasher:
        bench.read(hasher, PIECE, 2 * PIECE)  # a whole piece, but not from 0 on
        bench.read(hasher, 3 * PIECE, 3 * PIECE + 1024)  # the start of one
        bench.read(hasher, 4 * PIECE + 512, 5 * PIECE)  # the end of another
        bench.read(hasher, 0, PIECE)
        done = bench.complete(hasher)
    assert (done.pieces, done.from_drive) == (6, 2)
    assert done.read_back_bytes == SIZE - 2 * PIECE - 1024
    assert done.image is None
    assert bench.wrong() == []


def test_a_piece_says_how_much_of_it_was_never_read(bench):
    with bench.hasher() as hasher:
        bench.read(hasher, 0, PIECE)
        bench.read(hasher, PIECE + 512, 3 * PIECE)
        done = bench.complete(hasher)
    assert [bench.believed()[index].unread_bytes for index in range(6)] == [0, 512, 0, PIECE, PIECE, 512]
    assert done.image.unread_bytes == 512 + 2 * PIECE + 512


def test_the_whole_image_is_hashed_on_from_where_reading_was_in_order(bench):
    with bench.hasher() as hasher:
        bench.read(hasher, 0, 3 * PIECE)
        bench.read(hasher, 4 * PIECE, SIZE)
        done = bench.complete(hasher)
    assert done.read_back_bytes == SIZE - 3 * PIECE
    assert done.image.digests["sha256"] == bench.digest()
    assert done.image.basis == "image"


def test_bytes_that_are_read_anew_void_what_was_hashed_of_them(bench):
    with bench.hasher() as hasher:
        bench.read(hasher, 0, SIZE)
        bench.complete(hasher)
    with bench.hasher() as hasher:
        bench.drive = bytes(reversed(bench.drive))
        bench.read(hasher, PIECE + 1024, PIECE + 2048)
    assert sorted(bench.believed()) == [0, 2, 3, 4, 5]
    assert read_hashes(bench.log).image is None
    assert bench.wrong() == []


def test_bytes_of_a_piece_that_are_read_anew_while_it_is_open_start_it_again(bench):
    with bench.hasher() as hasher:
        bench.read(hasher, 0, 2048)
        bench.drive = bytes(reversed(bench.drive))
        bench.read(hasher, 0, PIECE)
        assert bench.complete(hasher).image.digests["sha256"] == bench.digest()
    assert bench.wrong() == []


def test_a_run_that_wrote_and_was_killed_before_it_could_say_so_is_not_believed(bench):
    with bench.hasher() as hasher:
        bench.read(hasher, 0, PIECE)
        bench.complete(hasher)  # the others are hashed as zeros
    abandon(hasher := bench.hasher())
    bench.write(span(2 * PIECE, 3 * PIECE))
    with bench.hasher() as hasher:
        assert list(bench.believed()) == [0]
        assert read_hashes(bench.log).image is None
        assert bench.complete(hasher).image.digests["sha256"] == bench.digest()
    assert bench.wrong() == []


def test_pieces_that_the_map_does_not_bear_out_are_not_believed(bench):
    with bench.hasher() as hasher:
        bench.read(hasher, 0, SIZE)
        bench.complete(hasher)
    bench.mapfile.mark(span(PIECE, PIECE + 512), BlockStatus.NON_TRIED)  # a crash took the map's last seconds
    with bench.hasher():
        assert sorted(bench.believed()) == [0, 2, 3, 4, 5]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_in_any_order_and_with_any_kill_the_log_never_vouches_for_other_bytes(data):
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        places = st.integers(0, SIZE // 512 - 1)
        for _ in range(data.draw(st.integers(1, 4), "sessions")):
            hasher = bench.hasher()
            assert bench.wrong() == []
            for _ in range(data.draw(st.integers(0, 8), "reads")):
                start = data.draw(places) * 512
                for extent in bench.mapfile.unread.within(span(start, min(start + 6 * 1024, SIZE))):
                    bench.read(hasher, extent.offset_bytes, extent.end_bytes)
            ending = data.draw(st.sampled_from(["closed", "completed", "killed", "killed while writing"]))
            if ending == "completed":
                done = bench.complete(hasher)
                assert done.image.digests["sha256"] == bench.digest()
                assert (done.pieces, done.differing) == (6, ())
            if ending in ("closed", "completed"):
                hasher.close()
            else:
                abandon(hasher)
            if ending == "killed while writing":
                start = data.draw(places) * 512
                for extent in bench.mapfile.unread.within(span(start, min(start + 6 * 1024, SIZE))):
                    bench.write(extent)
        with bench.hasher() as hasher:
            assert bench.wrong() == []
            assert bench.complete(hasher).image.digests["sha256"] == bench.digest()
        assert bench.wrong() == []
        assert verify(bench.image, bench.log).clean


def test_only_so_many_pieces_are_open_and_the_others_are_read_back(bench, monkeypatch):
    monkeypatch.setattr(hashes, "MAX_OPEN_PIECES", 2)
    with bench.hasher() as hasher:
        for index in range(5):
            bench.read(hasher, index * PIECE, index * PIECE + 512)
        for index in range(5):
            bench.read(hasher, index * PIECE + 512, (index + 1) * PIECE)
        hasher._end_lanes()
        assert len(hasher._open) <= 2
        done = bench.complete(hasher)
    assert 0 < done.from_drive < 5
    assert bench.wrong() == []


def test_a_stop_at_the_end_keeps_what_was_hashed_by_then(bench):
    with bench.hasher() as hasher:
        bench.read(hasher, 0, 512)
        asked = iter([False] * 4 + [True] * 99)
        done = bench.complete(hasher, stop=lambda: next(asked))
    assert not done.finished
    assert done.image is None
    assert 0 < len(bench.believed()) < 6
    with bench.hasher() as hasher:
        assert bench.complete(hasher).image.digests["sha256"] == bench.digest()


def test_a_second_end_reads_nothing_again(bench):
    for expected_bytes in (SIZE, 0):
        with bench.hasher() as hasher:
            assert bench.complete(hasher).read_back_bytes == expected_bytes


def test_progress_is_told_to_the_last_byte(bench):
    told = []
    with bench.hasher() as hasher:
        bench.complete(hasher, on_progress=lambda done, of: told.append((done, of)))
    assert told[-1] == (SIZE, SIZE)
    assert told == sorted(told)


def test_an_image_changed_behind_our_back_is_told_when_it_is_read_back(bench):
    with bench.hasher() as hasher:
        bench.read(hasher, PIECE, 4 * PIECE)
        with bench.image.open("r+b") as file:
            file.seek(2 * PIECE + 5)
            file.write(b"changed")
        done = bench.complete(hasher)
    assert done.differing == (span(2 * PIECE, 3 * PIECE),)
    assert not verify(bench.image, bench.log).clean


def test_a_log_that_cannot_be_written_ends_hashing_and_not_the_rescue(bench, monkeypatch):
    hasher = bench.hasher()

    def refuse(line):
        raise OutputError("no room")

    monkeypatch.setattr(hasher.log, "_add", refuse)
    for start in range(0, SIZE, 512):
        bench.read(hasher, start, min(start + 512, SIZE))
    done = bench.complete(hasher)
    hasher.close()
    assert (done.finished, done.fault) == (False, "no room")
    monkeypatch.undo()
    assert read_hashes(bench.log).open  # the next run trusts it as far as one that was killed


def test_an_image_that_cannot_be_read_back_is_told(bench):
    with bench.hasher() as hasher:
        bench.image.unlink()
        done = bench.complete(hasher)
    assert not done.finished
    assert "does not exist" in done.fault


def test_more_waiting_bytes_than_fit_make_the_reader_wait(bench, monkeypatch):
    monkeypatch.setattr(hash_lane, "WAITING_BATCHES", 1)
    monkeypatch.setattr(hashes, "BATCH_BYTES", 512)
    with bench.hasher() as hasher:
        for start in range(0, SIZE, 512):
            bench.read(hasher, start, min(start + 512, SIZE))
        assert bench.complete(hasher).from_drive == 6
    assert bench.wrong() == []


def test_the_image_may_lie_elsewhere_than_on_the_drive(tmp_path):
    bench = Bench(tmp_path, 3 * PIECE)
    bench.image.write_bytes(bytes(2048) + bench.drive)
    bench.mapfile.mark(span(0, 3 * PIECE), BlockStatus.FINISHED)
    with bench.hasher(shift_bytes=2048, image_bytes=3 * PIECE + 2048) as hasher:
        hasher(Piece(extent=span(0, 3 * PIECE), status=BlockStatus.FINISHED, data=bench.drive))
        done = bench.complete(hasher)
    assert (done.pieces, done.from_drive) == (4, 3)  # the last is as long as it was said to be
    assert bench.believed()[0].unread_bytes == 2048
    assert bench.wrong() == []


def test_another_algorithm_is_added_for_the_image_and_pieces_keep_theirs(bench):
    with bench.hasher(algorithms=("sha256",)) as hasher:
        bench.read(hasher, 0, SIZE)
        bench.complete(hasher)
    with bench.hasher(algorithms=("md5",)) as hasher:
        done = bench.complete(hasher)
    assert done.image.digests == {"md5": bench.digest(name="md5")}
    assert {tuple(piece.digests) for piece in bench.believed().values()} == {("sha256",)}
    assert {piece.basis for piece in bench.believed().values()} == {"drive"}
    assert (done.read_back_bytes, done.differing) == (SIZE, ())
    assert verify(bench.image, bench.log).clean


def test_md5_alone_hashes_pieces_too(bench):
    with bench.hasher(algorithms=("md5",)) as hasher:
        bench.read(hasher, 0, SIZE)
        bench.complete(hasher)
    assert bench.believed()[1].digests == {"md5": bench.digest(PIECE, 2 * PIECE, name="md5")}
    assert verify(bench.image, bench.log).clean


def test_pieces_keep_the_size_that_the_log_began_with(bench):
    with bench.hasher() as hasher:
        bench.complete(hasher)
    with bench.hasher(piece_bytes=1024) as hasher:
        assert hasher.log.hashes.piece_bytes == PIECE


def test_a_new_image_under_an_old_name_does_not_inherit_its_hashes(bench):
    with bench.hasher() as hasher:
        bench.complete(hasher)
    bench.begun = False
    with bench.hasher():
        assert bench.believed() == {}


def test_two_runs_never_write_one_log(bench):
    with bench.hasher(), pytest.raises(InputError, match="another carver"):
        bench.hasher()


def test_torn_lines_and_lines_of_others_are_passed_over(bench):
    with bench.hasher() as hasher:
        bench.complete(hasher)
    for junk in (
        b'{"kind": "piece", "off',
        b'\n[1, 2]\n{"kind": 7}\n\0\0\0\n{"kind": "piece", "offset_bytes": -1}\n{"a":',
    ):
        with bench.log.open("ab") as file:
            file.write(junk)
        assert len(bench.believed()) == 6
        with bench.hasher() as hasher:  # writes after what is torn
            bench.complete(hasher)
        assert bench.wrong() == []
        assert not read_hashes(bench.log).open


def test_what_stands_before_a_head_counts_for_nothing(tmp_path):
    path = tmp_path / "log"
    line = {"kind": "piece", "offset_bytes": 0, "size_bytes": 4, "unread_bytes": 0, "basis": "drive", "sha256": "00"}
    path.write_text(json.dumps(line) + "\n")
    assert read_hashes(path).pieces == {}
    with HashLog(path) as log:
        log.begin(piece_bytes=4, algorithm="sha256")
        assert log.hashes.pieces == {}


def test_a_void_as_wide_as_all_offsets_is_no_endless_work(bench):
    with bench.hasher() as hasher:
        bench.complete(hasher)
    with bench.log.open("a") as file:
        file.write(json.dumps({"kind": "void", "offset_bytes": 0, "size_bytes": 2**62}) + "\n")
    assert bench.believed() == {}


def test_a_filling_voids_what_it_may_have_changed_and_no_more(bench):
    hashed(bench)
    note_change(bench.log)
    assert sorted(bench.believed()) == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]  # as far as the log is read; who reads it knows that it is open
    assert read_hashes(bench.log).open
    bench.image.write_bytes(bench.image.read_bytes()[: SIZE - 1024] + b"x" * 1024)
    found = verify(bench.image, bench.log)
    assert (found.checked_pieces, found.image_agrees, found.differing) == (4, None, ())
    with bench.hasher() as hasher:
        assert bench.wrong() == []
        assert bench.complete(hasher).image.digests["sha256"] == bench.digest()
    assert verify(bench.image, bench.log).clean


def test_a_filling_of_what_was_read_voids_everything(bench):
    hashed(bench)
    note_change(bench.log, of_read_bytes=True)
    assert bench.believed() == {}


def test_a_filling_of_an_image_without_hashes_makes_none(bench):
    note_change(bench.log)
    assert not bench.log.exists()


def test_pieces_grow_with_the_image_so_that_their_number_is_bounded():
    assert piece_bytes_for(0) == piece_bytes_for(4 << 40) == 64 << 20
    assert piece_bytes_for((4 << 40) + 1) == 128 << 20
    assert (20 << 40) / piece_bytes_for(20 << 40) <= 65536


def hashed(bench: Bench) -> None:
    with bench.hasher() as hasher:
        bench.read(hasher, 0, SIZE - 1024)
        bench.complete(hasher)


def test_an_unchanged_image_verifies(bench):
    hashed(bench)
    told = []
    found = verify(bench.image, bench.log, on_progress=lambda done, of: told.append((done, of)))
    assert found.clean
    assert (found.checked_pieces, found.image_agrees, found.unhashed_bytes) == (6, True, 0)
    assert found.digests == {"sha256": bench.digest()}
    assert told[-1] == (SIZE, SIZE)


@pytest.mark.parametrize("place", [0, PIECE - 1, 3 * PIECE, SIZE - 1])
def test_one_changed_byte_is_found_in_its_piece(bench, place):
    hashed(bench)
    content = bytearray(bench.image.read_bytes())
    content[place] ^= 1
    bench.image.write_bytes(content)
    found = verify(bench.image, bench.log)
    start = place // PIECE * PIECE
    assert found.differing == (span(start, min(start + PIECE, SIZE)),)
    assert (found.image_agrees, found.clean) == (False, False)


@pytest.mark.parametrize("size", [SIZE - 1, 3 * PIECE, PIECE + 7, SIZE + 1])
def test_an_image_of_another_length_does_not_verify(bench, size):
    hashed(bench)
    with bench.image.open("r+b") as file:
        file.truncate(size)
    found = verify(bench.image, bench.log)
    assert found.differing
    assert not found.clean


def test_an_image_on_a_larger_device_ends_where_the_drive_does(bench, monkeypatch):
    monkeypatch.setattr(hashes, "is_device", lambda path: True)
    monkeypatch.setattr(read_back, "is_device", lambda path: True)
    bench.image.write_bytes(bytes(SIZE) + b"what the device held before" * 500)
    with bench.hasher() as hasher:
        bench.read(hasher, 0, SIZE)
        done = bench.complete(hasher)
    assert (done.pieces, done.from_drive, done.read_back_bytes) == (6, 6, 0)
    assert done.image.digests["sha256"] == bench.digest(0, SIZE)
    assert verify(bench.image, bench.log).clean


def test_what_was_never_hashed_is_counted_and_vouched_for_by_nobody(bench):
    with bench.hasher() as hasher:
        bench.read(hasher, 0, 2 * PIECE)
    found = verify(bench.image, bench.log)
    assert (found.checked_pieces, found.unhashed_bytes, found.image_agrees) == (2, SIZE - 2 * PIECE, None)
    assert not found.clean


def test_a_stopped_verification_claims_nothing_of_the_rest(bench):
    hashed(bench)
    asked = iter([False] * 4 + [True] * 99)
    found = verify(bench.image, bench.log, stop=lambda: next(asked))
    assert (found.finished, found.digests, found.image_agrees, found.clean) == (False, {}, None, False)


def test_after_a_kill_only_what_it_cannot_have_changed_is_verified(bench):
    hashed(bench)
    abandon(bench.hasher())
    found = verify(bench.image, bench.log)
    assert (found.checked_pieces, found.image_agrees, found.differing) == (4, None, ())


def test_without_a_log_there_is_nothing_to_verify(bench):
    with pytest.raises(InputError, match="no hashes beside"):
        verify(bench.image, bench.log)


def test_a_rescue_in_two_runs_ends_with_the_hash_of_its_image(tmp_path):
    contents = tmp_path / "drive"
    contents.write_bytes(random.Random(3).randbytes(3 << 20))
    damage = Mapfile.covering(3 << 20)
    damage.mark(span(0, 3 << 20), BlockStatus.FINISHED)
    damage.mark(span(1 << 20, (1 << 20) + 2048), BlockStatus.BAD_SECTOR)
    image, map_path = tmp_path / "d.img", tmp_path / "d.img.map"
    reads = iter(range(10**9))
    for enough in (20, 10**9):
        source = DamagedSource(RawImage(contents), damage)
        mapfile = MapStore.read_snapshot(map_path) if map_path.exists() else None
        with Hasher(
            log_path(image, map_path), image_bytes=3 << 20, mapfile=mapfile, piece_bytes=1 << 18, algorithms=("md5",)
        ) as hasher:
            summary = rescue(
                source,
                image,
                map_path,
                RescueOptions(),
                subscribers=(hasher,),
                stop=lambda limit=enough: next(reads) >= limit,
            )
            if summary.finished:
                done = hasher.complete(image, MapStore.read_snapshot(map_path))
    assert done.finished
    assert done.image.digests == {"md5": hashlib.md5(image.read_bytes()).hexdigest()}
    assert done.image.unread_bytes == 2048
    assert verify(image, log_path(image, map_path)).clean
