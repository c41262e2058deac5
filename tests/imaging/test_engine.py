import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.failing_drive import Damage, bad_zones, damage_of, head_stripes, scattered_sectors, write_contents
from imaging.damaged import DamagedSource
from imaging.errors import (
    DestinationFullError,
    InputError,
    MapfileError,
    OutputError,
    ReadFault,
    UsageError,
)
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore, lock_exclusively
from imaging.pump import Piece
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions
from imaging.rescue.plan import Phase
from imaging.rescue.progress import Progress, RescueSummary
from imaging.rescue.writer import ImageWriter
from imaging.source import RawImage

MIB = 1 << 20
SIZE = 4 * MIB


class Bench:
    """A simulated failing drive and the place its image goes to."""

    def __init__(self, folder: Path, damage: Damage, *, seed: int = 1) -> None:
        self.folder = folder
        self.damage = damage
        self.contents_path = folder / "contents"
        self.image_path = folder / "drive.img"
        self.map_path = folder / "drive.map"
        self.asked: list[Extent] = []
        write_contents(self.contents_path, seed, damage.size_bytes)

    def source(self, **kwargs: Any) -> DamagedSource:
        kwargs.setdefault("on_read", self.asked.append)
        return DamagedSource(RawImage(self.contents_path), Mapfile.parse(self.damage.mapfile_text()), **kwargs)

    def rescue(self, source: Any = None, options: RescueOptions | None = None, **kwargs: Any) -> RescueSummary:
        source = source or self.source()
        return rescue(source, self.image_path, self.map_path, options or RescueOptions(), **kwargs)

    @property
    def bad(self) -> ExtentSet:
        return ExtentSet(Extent(offset_bytes=offset, size_bytes=size) for offset, size in self.damage.bad)

    @property
    def good(self) -> ExtentSet:
        return self.bad.complement(span(0, self.damage.size_bytes))

    def check_image(self, finished: ExtentSet) -> None:
        """The image holds the drive's bytes where the map says so."""
        drive, image = self.contents_path.read_bytes(), self.image_path.read_bytes()
        assert len(image) == len(drive)
        for extent in finished:
            assert image[extent.offset_bytes : extent.end_bytes] == drive[extent.offset_bytes : extent.end_bytes]

    def check_complete(self) -> None:
        """All that can be read is there, everything else is bad and reads as zeros."""
        mapfile = Mapfile.load(self.map_path)
        assert mapfile.extents(BlockStatus.FINISHED) == self.good
        assert mapfile.extents(BlockStatus.BAD_SECTOR) == self.bad
        self.check_image(self.good)
        image = self.image_path.read_bytes()
        for extent in self.bad:
            assert not any(image[extent.offset_bytes : extent.end_bytes])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, damage_of(SIZE, [(70_144, 1024), (MIB, 40_960), (3 * MIB + 512, 512)]))


def stop_after(count: int) -> Callable[[], bool]:
    left = iter(range(count))
    return lambda: next(left, None) is None


KINDS = {
    "healthy": damage_of(SIZE, []),
    "scattered": scattered_sectors(1, SIZE, 40),
    "zones": bad_zones(2, SIZE, 4, zone_bytes=100_000),
    "one big zone": damage_of(SIZE, [(MIB, 2 * MIB)]),
    "head stripes": head_stripes(SIZE, stripe_bytes=8192, every_bytes=300_032),
    "dead start": damage_of(SIZE, [(0, 300_032)]),
    "dead end": damage_of(SIZE, [(SIZE - 300_032, 300_032)]),
    "all dead": damage_of(SIZE, [(0, SIZE)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_good_sector_is_rescued_and_every_bad_one_marked(kind: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, KINDS[kind])
    summary = bench.rescue()
    bench.check_complete()
    assert summary.finished
    assert not summary.stopped
    assert summary.totals.rescued_bytes == summary.rescued_bytes == bench.good.total_bytes
    assert summary.totals.bad_bytes == bench.damage.bad_bytes
    assert summary.totals.bad_areas == len(bench.damage.bad)
    assert summary.reads == len(bench.asked)
    assert (summary.read_errors > 0) == bool(bench.damage.bad)
    assert Mapfile.load(bench.map_path).current_status == "+"


@given(
    places=st.lists(st.tuples(st.integers(0, 1023), st.integers(1, 90)), max_size=8),
    options=st.builds(
        RescueOptions,
        cluster_bytes=st.sampled_from([4096, 65536, 51_200]),
        initial_skip_bytes=st.sampled_from([0, None]),
        reverse=st.booleans(),
        unidirectional=st.booleans(),
        retry_passes=st.integers(0, 1),
    ),
    stops=st.lists(st.integers(1, 120), max_size=3),
)
@settings(max_examples=25, deadline=None)
def test_any_damage_with_any_interruptions_ends_in_the_same_image_and_reads_no_byte_twice(
    places: list[tuple[int, int]], options: RescueOptions, stops: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), damage_of(1024 * 512, [(at * 512, count * 512) for at, count in places]))
        for count in stops:
            bench.rescue(options=options, stop=stop_after(count))
            bench.check_image(MapStore.read_snapshot(bench.map_path).extents(BlockStatus.FINISHED))
        bench.rescue(options=options)
        bench.check_complete()
        got = ExtentSet()
        for extent in bench.asked:
            assert not got.touches(extent), "a byte that was rescued is read again"
            if bench.good.covers(extent):
                got |= ExtentSet([extent])
        sectors_tried = sum(extent.size_bytes for extent in bench.asked)
        # what failed is asked again in halves, down to a sector; then a retry pass, and what an interruption cut short
        sizes = (options.cluster_bytes // 512).bit_length()
        assert sectors_tried <= bench.damage.size_bytes * (1 + sizes + options.retry_passes + len(stops))


def test_a_finished_rescue_reads_nothing_when_run_again(bench: Bench) -> None:
    bench.rescue()
    bench.asked.clear()
    summary = bench.rescue()
    assert summary.finished
    assert bench.asked == []


def test_a_stop_saves_and_the_same_call_goes_on(bench: Bench) -> None:
    summary = bench.rescue(stop=stop_after(20))
    assert summary.stopped
    assert summary.reads == 20
    mapfile = Mapfile.load(bench.map_path)  # the map itself, not only its journal
    assert mapfile.count_bytes(BlockStatus.FINISHED) == summary.totals.rescued_bytes > 0
    assert mapfile.current_status == "?"
    assert bench.rescue().finished
    bench.check_complete()


def test_a_stop_before_the_first_read_leaves_an_image_that_can_be_gone_on_with(bench: Bench) -> None:
    assert bench.rescue(stop=lambda: True).reads == 0
    assert bench.image_path.stat().st_size == SIZE
    assert bench.rescue().finished
    bench.check_complete()


def test_the_bytes_before_a_failure_are_kept(bench: Bench) -> None:
    class Prefixing(DamagedSource):
        """A drive that hands over what it read before the bad sector, as buffered reads do."""

        def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
            try:
                return super().read_at(offset_bytes, size_bytes)
            except ReadFault as fault:
                first_bad = next(iter(bench.bad.within(span(offset_bytes, offset_bytes + size_bytes)))).offset_bytes
                fault.prefix = self._source.read_at(offset_bytes, first_bad - offset_bytes)
                raise

    source = Prefixing(
        RawImage(bench.contents_path), Mapfile.parse(bench.damage.mapfile_text()), on_read=bench.asked.append
    )
    bench.rescue(source, RescueOptions(no_trim=True, no_scrape=True))
    mapfile = Mapfile.load(bench.map_path)
    for extent in bench.bad:
        assert mapfile.block_at(extent.offset_bytes - 1)[1] is BlockStatus.FINISHED
    bench.check_image(mapfile.extents(BlockStatus.FINISHED))
    bench.rescue(source)
    bench.check_complete()


def test_scraping_reads_whole_physical_sectors(tmp_path: Path) -> None:
    bench = Bench(tmp_path, damage_of(SIZE, [(MIB, 8192), (2 * MIB + 4096, 4096)]))
    bench.rescue(bench.source(physical_sector_bytes=4096))
    bench.check_complete()
    assert min(extent.size_bytes for extent in bench.asked) == 4096


def test_only_the_given_range_is_read(bench: Bench) -> None:
    bench.rescue(options=RescueOptions(input_offset_bytes=MIB, size_bytes=MIB))
    assert all(extent.offset_bytes >= MIB and extent.end_bytes <= 2 * MIB for extent in bench.asked)
    mapfile = Mapfile.load(bench.map_path)
    assert mapfile.extents(BlockStatus.NON_TRIED) == ExtentSet([span(0, MIB), span(2 * MIB, SIZE)])
    bench.rescue()
    bench.check_complete()


def test_retrim_and_try_again_read_what_failed_once_more(bench: Bench) -> None:
    bench.rescue()
    for options in (RescueOptions(retrim=True), RescueOptions(retrim=True, try_again=True)):
        bench.asked.clear()
        bench.rescue(options=options)
        assert ExtentSet(bench.asked) & bench.bad == bench.bad
        assert not any(bench.good.covers(extent) and extent.size_bytes > 65_536 for extent in bench.asked)
        bench.check_complete()


def test_a_sector_that_comes_back_on_a_retry_is_rescued(bench: Bench) -> None:
    bench.rescue()
    bench.damage = damage_of(SIZE, bench.damage.bad[1:])
    bench.rescue(options=RescueOptions(retry_passes=1))
    bench.check_complete()


def test_progress_tells_phase_pass_place_and_totals(bench: Bench) -> None:
    told: list[Progress] = []
    summary = bench.rescue(
        options=RescueOptions(retry_passes=1), on_progress=told.append, clock=lambda: float(len(bench.asked))
    )
    words = list(dict.fromkeys(progress.phase.word for progress in told))
    assert words == ["copying", "trimming", "scraping", "retrying", "finished"]
    assert [progress.totals.rescued_bytes for progress in told] == sorted(p.totals.rescued_bytes for p in told)
    first, last = told[0], told[-1]
    assert (first.phase, first.pass_number, first.position_bytes, first.reads) == (Phase.COPYING, 1, 0, 0)
    assert first.last_error_bytes is None
    assert first.totals.non_tried_bytes == first.totals.size_bytes == SIZE
    assert last.totals == summary.totals
    assert last.last_error_bytes == summary.last_error_bytes == 3 * MIB + 512
    assert told[5].rate_bytes == 65_536.0
    assert any(progress.since_success_seconds > 3 for progress in told)
    assert (last.reads, last.read_errors) == (summary.reads, summary.read_errors)


def test_other_subscribers_get_every_piece_before_the_map(bench: Bench) -> None:
    pieces: list[Piece] = []
    bench.rescue(subscribers=(pieces.append,))
    finished = ExtentSet(piece.extent for piece in pieces if piece.status is BlockStatus.FINISHED)
    assert finished == bench.good
    drive = bench.contents_path.read_bytes()
    for piece in pieces:
        if piece.status is BlockStatus.FINISHED:
            assert piece.data == drive[piece.extent.offset_bytes : piece.extent.end_bytes]
        else:
            assert piece.data == b""


def test_an_image_without_its_map_is_never_overwritten(bench: Bench) -> None:
    bench.image_path.write_bytes(b"evidence")
    with pytest.raises(OutputError, match=r"its map .* does not"):
        bench.rescue()
    assert bench.image_path.read_bytes() == b"evidence"
    assert not bench.map_path.exists()


def test_the_source_is_never_its_own_image(bench: Bench) -> None:
    bench.map_path.write_text(Mapfile.covering(SIZE).to_text())
    with pytest.raises(OutputError, match="the source itself"):
        rescue(bench.source(), bench.contents_path, bench.map_path, RescueOptions())


def test_image_and_map_need_two_names(bench: Bench) -> None:
    with pytest.raises(OutputError, match="at once"):
        rescue(bench.source(), bench.image_path, bench.image_path, RescueOptions())


def test_a_folder_is_no_image(bench: Bench) -> None:
    bench.image_path.mkdir()
    with pytest.raises(OutputError, match="is a folder; name a new file in it"):
        bench.rescue()


def test_a_pipe_is_no_image(bench: Bench) -> None:
    os.mkfifo(bench.image_path)
    with pytest.raises(OutputError, match="is not a regular file; name a new image file"):
        bench.rescue()


def test_an_image_in_a_folder_that_does_not_exist_is_refused(bench: Bench) -> None:
    bench.image_path = bench.folder / "nowhere" / "drive.img"
    with pytest.raises(OutputError, match="cannot write"):
        bench.rescue()


def test_a_map_for_another_size_is_refused(bench: Bench) -> None:
    bench.map_path.write_text(Mapfile.covering(SIZE - 512).to_text())
    with pytest.raises(MapfileError):
        bench.rescue()
    assert not bench.image_path.exists()


def test_an_image_shorter_than_its_map_says_is_refused(bench: Bench) -> None:
    bench.rescue()
    os.truncate(bench.image_path, SIZE // 2)
    before = bench.map_path.read_text().split("#      pos")[1]
    with pytest.raises(InputError, match="cut short"):
        bench.rescue()
    assert bench.map_path.read_text().split("#      pos")[1] == before


def test_an_image_that_is_gone_while_its_map_is_not_is_refused(bench: Bench) -> None:
    bench.rescue()
    bench.image_path.unlink()
    with pytest.raises(InputError, match="cut short"):
        bench.rescue()
    assert not bench.image_path.exists(), "an empty image beside a map that promises data would be a lie"


def test_a_second_rescue_of_the_same_image_is_refused(bench: Bench) -> None:
    bench.rescue(stop=stop_after(3))
    with lock_exclusively(bench.image_path), pytest.raises(InputError, match="another carver"):
        bench.rescue()


def test_a_range_behind_the_end_is_refused(bench: Bench) -> None:
    with pytest.raises(UsageError):
        bench.rescue(options=RescueOptions(input_offset_bytes=SIZE))


def test_an_empty_source_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(InputError, match="empty"):
        rescue(RawImage(empty), tmp_path / "i", tmp_path / "m", RescueOptions())


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, DestinationFullError), (errno.EIO, OutputError)])
def test_a_failing_write_saves_what_was_read_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[OutputError]
) -> None:
    real = os.pwrite

    def fill_up(descriptor: int, data: bytes, offset_bytes: int) -> int:
        if offset_bytes >= 2 * MIB:
            raise OSError(code, os.strerror(code))
        return real(descriptor, data, offset_bytes)

    monkeypatch.setattr(os, "pwrite", fill_up)
    with pytest.raises(OutputError) as caught:
        bench.rescue()
    monkeypatch.undo()
    assert type(caught.value) is kind
    finished = Mapfile.load(bench.map_path).extents(BlockStatus.FINISHED)
    assert finished.ends[-1] == 2 * MIB
    bench.check_image(finished)
    bench.rescue()
    bench.check_complete()


def test_a_destination_that_fails_to_sync_never_gets_a_map_ahead_of_its_data(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fdatasync

    def fail(descriptor: int) -> None:
        if os.fstat(descriptor).st_size == SIZE:  # the image
            raise OSError(errno.EIO, "lost")
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OutputError):
        bench.rescue()
    monkeypatch.undo()
    assert MapStore.read_snapshot(bench.map_path).count_bytes(BlockStatus.FINISHED) == 0
    bench.rescue()
    bench.check_complete()


def test_when_the_save_fails_as_well_both_are_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(writer: ImageWriter) -> None:
        raise OutputError("the disk is dying")

    def full(writer: ImageWriter, piece: Piece) -> None:
        raise DestinationFullError("no room")

    monkeypatch.setattr(ImageWriter, "sync", fail)
    monkeypatch.setattr(ImageWriter, "__call__", full)
    with pytest.raises(DestinationFullError, match=r"no room; but .* could not be saved: the disk is dying"):
        bench.rescue()


@pytest.mark.parametrize("status", ["F", "G", "*", "/", "-", "+"])
def test_a_map_that_stands_at_another_work_is_copied_from_the_start(bench: Bench, status: str) -> None:
    mapfile = Mapfile.covering(SIZE)
    mapfile.current_status, mapfile.current_pass, mapfile.position_bytes = status, 3, SIZE
    bench.map_path.write_text(mapfile.to_text())
    assert bench.rescue(options=RescueOptions(retry_passes=1)).finished
    bench.check_complete()


class Vanishing(DamagedSource):
    """A drive that is pulled out after some reads."""

    after_reads = 12
    code: int = errno.EIO
    left_bytes = 0

    def present_bytes(self) -> int:
        return self.size_bytes if self.reads <= self.after_reads else self.left_bytes

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        if self.reads >= self.after_reads:
            self.reads += 1
            raise ReadFault("gone", offset_bytes=offset_bytes, size_bytes=size_bytes, errno=self.code)
        return super().read_at(offset_bytes, size_bytes)


@pytest.mark.parametrize(("code", "left_bytes"), [(errno.EIO, 0), (errno.ENODEV, SIZE), (errno.ENXIO, SIZE)])
def test_a_drive_that_vanishes_is_not_a_bad_sector(bench: Bench, code: int, left_bytes: int) -> None:
    source = Vanishing(RawImage(bench.contents_path), Mapfile.parse(bench.damage.mapfile_text()))
    source.code, source.left_bytes = code, left_bytes
    with pytest.raises(InputError, match=r"the drive is gone.*saved.*same command again"):
        bench.rescue(source, RescueOptions(compatible=True))
    mapfile = Mapfile.load(bench.map_path)
    assert mapfile.count_bytes(BlockStatus.FINISHED) > 0
    assert mapfile.count_bytes(BlockStatus.NON_TRIMMED) == 65_536, "the one cluster that failed before"
    bench.rescue()
    bench.check_complete()


def test_a_fault_of_our_own_making_is_not_a_bad_sector(bench: Bench) -> None:
    source = Vanishing(RawImage(bench.contents_path), Mapfile.parse(bench.damage.mapfile_text()))
    source.code, source.left_bytes = errno.EINVAL, SIZE
    with pytest.raises(ReadFault):
        bench.rescue(source)
    bench.rescue()
    bench.check_complete()


@pytest.mark.parametrize("reverse", [False, True])
def test_a_source_that_ends_early_is_read_to_its_end_and_the_rest_stays_non_tried(bench: Bench, reverse: bool) -> None:
    class Ending(DamagedSource):
        end_bytes = 2 * MIB + 1024

        def present_bytes(self) -> int:
            return self.end_bytes

        def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
            return super().read_at(offset_bytes, min(size_bytes, max(0, self.end_bytes - offset_bytes)))

    source = Ending(
        RawImage(bench.contents_path), Mapfile.parse(bench.damage.mapfile_text()), on_read=bench.asked.append
    )
    summary = bench.rescue(source, RescueOptions(reverse=reverse))
    assert summary.finished
    assert summary.source_end_bytes is not None
    mapfile = Mapfile.load(bench.map_path)
    readable = bench.good.within(span(0, Ending.end_bytes))
    assert mapfile.extents(BlockStatus.FINISHED) == readable
    assert mapfile.extents(BlockStatus.NON_TRIED) == ExtentSet([span(Ending.end_bytes, SIZE)])
    assert len(bench.asked) < 500


def test_a_plain_image_file_can_be_rescued_from_and_may_end_in_half_a_sector(tmp_path: Path) -> None:
    bench = Bench(tmp_path, damage_of(100_001, []))
    summary = bench.rescue(RawImage(bench.contents_path))
    assert summary.finished
    bench.check_complete()


def test_a_file_that_is_cut_short_while_we_read_it_ends_there(tmp_path: Path) -> None:
    bench = Bench(tmp_path, damage_of(SIZE, []))
    with RawImage(bench.contents_path) as source:
        os.truncate(bench.contents_path, MIB + 100)
        summary = bench.rescue(source)
    assert summary.source_end_bytes == MIB + 100
    assert Mapfile.load(bench.map_path).extents(BlockStatus.FINISHED) == ExtentSet([span(0, MIB + 100)])


def test_a_destination_that_cannot_hold_a_file_of_that_size_is_told_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.ftruncate

    def too_large(descriptor: int, size_bytes: int) -> None:
        if size_bytes == SIZE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        real(descriptor, size_bytes)

    monkeypatch.setattr(os, "ftruncate", too_large)
    with pytest.raises(OutputError, match="cannot hold a file of"):
        bench.rescue()
    assert bench.asked == []


def test_synchronous_writes_are_on_the_disk_before_the_next_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real = ImageWriter.sync

    def sync(writer: ImageWriter) -> None:
        events.append("sync")
        real(writer)

    monkeypatch.setattr(ImageWriter, "sync", sync)
    source = bench.source(on_read=lambda extent: events.append("read"))
    bench.rescue(source, RescueOptions(compatible=True, synchronous=True), stop=stop_after(3))
    assert events[:5] == ["read", "sync", "read", "read", "sync"], "the second read failed"


def test_a_keyboard_interrupt_saves_too(bench: Bench) -> None:
    def interrupt(extent: Extent) -> None:
        if extent.offset_bytes >= 2 * MIB:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.rescue(bench.source(on_read=interrupt))
    assert Mapfile.load(bench.map_path).count_bytes(BlockStatus.FINISHED) > MIB
    bench.rescue()
    bench.check_complete()


def test_the_unread_part_of_the_image_takes_no_room(tmp_path: Path) -> None:
    bench = Bench(tmp_path, damage_of(SIZE, [(MIB, 2 * MIB)]))
    bench.rescue()
    assert bench.image_path.stat().st_blocks * 512 <= 2 * MIB + 65_536


CHILD = """
import os, sys, time
from pathlib import Path
from imaging.damaged import DamagedSource
from imaging.mapfile import Mapfile
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions
from imaging.source import RawImage

contents, damage, image, map_path, reads = map(Path, sys.argv[1:])
log = os.open(reads, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def note(extent):
    os.write(log, f"{extent.offset_bytes} {extent.size_bytes}\\n".encode())
    time.sleep(0.0003)

source = DamagedSource(RawImage(contents), Mapfile.load(damage), on_read=note)
# a clock that runs a hundred times too fast, so that the journal is written every 20 ms
rescue(source, image, map_path, RescueOptions(retry_passes=1), clock=lambda: time.monotonic() * 100)
"""


def run_until_killed(bench: Bench, rng: random.Random, reads_path: Path) -> bool:
    """Run a rescue in a child and kill it at a random moment; return whether it ended before that."""
    damage_path = bench.folder / "damage.map"
    damage_path.write_text(bench.damage.mapfile_text())
    arguments = [bench.contents_path, damage_path, bench.image_path, bench.map_path, reads_path]
    child = subprocess.Popen([sys.executable, "-c", CHILD, *map(str, arguments)], cwd=Path(__file__).parents[2])
    try:
        before = reads_path.stat().st_size if reads_path.exists() else 0
        while child.poll() is None and (not reads_path.exists() or reads_path.stat().st_size == before):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.5))
        child.send_signal(signal.SIGKILL)
    finally:
        child.wait()
    return child.returncode == 0


def check_kills(folder: Path, rng: random.Random) -> int:
    """Kill a rescue again and again until it is through; return how often."""
    bench = Bench(folder, bad_zones(rng.randrange(1000), SIZE, 4, zone_bytes=60_000))
    reads_path = folder / "reads.txt"
    kills = 0
    finished = ExtentSet()
    while True:
        done_before = reads_path.stat().st_size if reads_path.exists() else 0
        through = run_until_killed(bench, rng, reads_path)
        rows = reads_path.read_bytes()[done_before:].decode().splitlines()
        for row in rows:
            offset_bytes, size_bytes = map(int, row.split())
            extent = Extent(offset_bytes=offset_bytes, size_bytes=size_bytes)
            assert not finished.touches(extent), "what the map had as finished is read again"
        finished = MapStore.read_snapshot(bench.map_path).extents(BlockStatus.FINISHED)
        bench.check_image(finished)
        if through:
            break
        kills += 1
    bench.check_complete()
    return kills


def test_killed_at_random_moments_it_ends_in_the_same_image(tmp_path: Path) -> None:
    assert check_kills(tmp_path, random.Random(5)) >= 2


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_two_hundred_kills_end_in_the_same_image_every_time(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if "long" not in request.config.getoption("markexpr"):
        pytest.skip("takes minutes: run with -m long")
    rng = random.Random(6)
    kills = 0
    while kills < 200:
        folder = tmp_path / str(kills)
        folder.mkdir()
        kills += check_kills(folder, rng)
        shutil.rmtree(folder)
