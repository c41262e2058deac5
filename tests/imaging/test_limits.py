import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.failing_drive import damage_of, write_contents
from imaging.damaged import DamagedSource
from imaging.errors import UsageError
from imaging.extent import Extent
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore
from imaging.rescue.engine import rescue
from imaging.rescue.limits import Limits
from imaging.rescue.options import RescueOptions
from imaging.rescue.progress import RescueSummary
from imaging.source import RawImage
from tests.imaging.hanging import HangingDrive

KIB, MIB = 1 << 10, 1 << 20
SIZE = 4 * MIB
DAMAGE = damage_of(SIZE, [(70_144, 1024), (MIB, 40_960), (3 * MIB + 512, 512)])


class Time:
    """A clock that only the drive and sleeping move."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept_seconds = 0.0
        self.after_sleep: Callable[[], None] = lambda: None

    def clock(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.slept_seconds += seconds
        self.after_sleep()


class Bench:
    def __init__(self, folder: Path, *, read_seconds: float = 0.0) -> None:
        self.folder = folder
        self.time = Time()
        self.reads: list[tuple[float, Extent]] = []
        self.read_seconds = read_seconds
        self.contents_path = folder / "contents"
        write_contents(self.contents_path, 1, SIZE)

    def rescue(self, limits: Limits, stop: Callable[[], bool] = lambda: False, **options: Any) -> RescueSummary:
        source = DamagedSource(
            RawImage(self.contents_path), Mapfile.parse(DAMAGE.mapfile_text()), on_read=self._take_time
        )
        return rescue(
            source,
            self.folder / "image",
            self.map_path,
            RescueOptions(compatible=True, limits=limits, **options),
            clock=self.time.clock,
            sleep=self.time.sleep,
            stop=stop,
        )

    @property
    def map_path(self) -> Path:
        return self.folder / "map"

    def _take_time(self, extent: Extent) -> None:
        self.reads.append((self.time.seconds, extent))
        self.time.seconds += self.read_seconds


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_one_failed_read_too_many_ends_the_run_and_the_same_call_goes_on(bench: Bench) -> None:
    summary = bench.rescue(Limits(max_read_errors=2))
    assert not summary.finished
    assert summary.stopped
    assert summary.read_errors == 3
    assert summary.limit == "more than 2 reads failed (-X)"
    assert bench.rescue(Limits()).finished
    assert Mapfile.load(bench.map_path).count_bytes(BlockStatus.BAD_SECTOR) == DAMAGE.bad_bytes


def test_no_failed_read_is_allowed_where_the_limit_is_zero(bench: Bench) -> None:
    assert bench.rescue(Limits(max_read_errors=0)).read_errors == 1


def test_one_read_is_told_as_one(bench: Bench) -> None:
    assert bench.rescue(Limits(max_read_errors=1)).limit == "more than 1 read failed (-X)"


def test_bad_areas_count_in_the_whole_map_or_from_this_run_on(bench: Bench) -> None:
    summary = bench.rescue(Limits(max_bad_areas=1))
    assert summary.limit == "there is more than 1 bad area (-e)"
    assert summary.totals.bad_areas == 2
    again = bench.rescue(Limits(max_bad_areas=1))
    assert again.limit == summary.limit
    assert again.reads <= 1
    assert bench.rescue(Limits(max_bad_areas=9, count_new_areas=True)).finished


def test_new_bad_areas_end_a_run_that_was_to_find_none(bench: Bench) -> None:
    bench.rescue(Limits(), no_trim=True, no_scrape=True)
    summary = bench.rescue(Limits(max_bad_areas=0, count_new_areas=True))
    assert summary.limit == "there are more than 0 new bad areas (-e)"


def test_too_many_bytes_failing_within_a_second_end_the_run(tmp_path: Path) -> None:
    slow = Bench(tmp_path, read_seconds=0.6)
    assert slow.rescue(Limits(max_error_rate_bytes=64 * KIB)).finished
    (tmp_path / "again").mkdir()
    fast = Bench(tmp_path / "again", read_seconds=0.001)
    summary = fast.rescue(Limits(max_error_rate_bytes=64 * KIB))
    assert summary.limit == "more than 65536 bytes failed within a second (-E)"
    (tmp_path / "one").mkdir()
    one = Bench(tmp_path / "one", read_seconds=0.001)
    assert one.rescue(Limits(max_error_rate_bytes=1)).limit == "more than 1 byte failed within a second (-E)"


def test_nothing_read_for_too_long_ends_the_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, read_seconds=1.0)
    summary = bench.rescue(Limits(timeout_seconds=10))
    assert summary.limit == "nothing was read for more than 10 s (-T)"
    last_good = max(index for index, (_, extent) in enumerate(bench.reads) if _readable(extent))
    assert len(bench.reads) - last_good - 1 == 11  # the first that made it longer than 10 s


def _readable(extent: Extent) -> bool:
    return Mapfile.parse(DAMAGE.mapfile_text()).extents(BlockStatus.FINISHED).covers(extent)


def test_the_rate_is_never_above_its_cap(bench: Bench) -> None:
    summary = bench.rescue(Limits(max_read_rate_bytes=MIB))
    assert summary.finished
    for first, (begun_seconds, _) in enumerate(bench.reads):
        later = [extent.size_bytes for seconds, extent in bench.reads[first:] if seconds < begun_seconds + 1]
        assert sum(later) <= MIB + 64 * KIB  # and the cluster that is under way
    asked_bytes = sum(extent.size_bytes for _, extent in bench.reads)
    assert bench.time.seconds == pytest.approx(asked_bytes / MIB, rel=0.05)


def test_a_cap_below_one_cluster_still_reads_one_a_second(bench: Bench) -> None:
    left = iter(range(200))
    bench.rescue(Limits(max_read_rate_bytes=1), stop=lambda: len(bench.reads) >= 3 or next(left, None) is None)
    assert [round(seconds, 6) for seconds, _ in bench.reads] == [0.0, 1.0, 2.0]


def test_pauses_follow_errors_and_passes(bench: Bench) -> None:
    summary = bench.rescue(Limits(pause_on_error_seconds=2.0))
    assert bench.time.slept_seconds == pytest.approx(2.0 * summary.read_errors)


def test_a_pause_follows_each_pass(bench: Bench) -> None:
    passes = []
    rescue_options = Limits(pause_on_pass_seconds=3.0)
    bench.time.after_sleep = lambda: passes.append(len(bench.reads))
    bench.rescue(rescue_options)
    assert bench.time.slept_seconds == pytest.approx(3.0 * len(set(passes)))
    assert len(set(passes)) >= 3  # copying twice at least, trimming, scraping


def test_a_pause_ends_when_the_user_wants_an_end(bench: Bench) -> None:
    stopped = False

    def stop_now() -> None:
        nonlocal stopped
        stopped = True

    bench.time.after_sleep = stop_now
    summary = bench.rescue(Limits(pause_on_error_seconds=3600.0), stop=lambda: stopped)
    assert not summary.finished
    assert summary.limit is None
    assert bench.time.slept_seconds < 1.0
    assert summary.read_errors == 1
    assert Mapfile.load(bench.map_path).count_bytes(BlockStatus.FINISHED) == summary.totals.rescued_bytes > 0


def test_the_drive_is_opened_anew_after_each_error_of_the_copying_phase(tmp_path: Path) -> None:
    drive = HangingDrive(tmp_path, MIB, fail=[[200 * KIB, 1024], [700 * KIB, 512]])
    opened = []
    with drive.open(read_timeout_seconds=60.0) as device:
        reopen = device.reopen

        def counted() -> None:
            opened.append(device.path)
            reopen()

        device.reopen = counted  # type: ignore[method-assign]
        options = RescueOptions(compatible=True, limits=Limits(reopen_on_error=True), no_trim=True)
        summary = rescue(device, tmp_path / "image", tmp_path / "map", options)
    assert len(opened) == summary.read_errors == 2
    mapfile = Mapfile.load(tmp_path / "map")
    image = (tmp_path / "image").read_bytes()
    for extent in mapfile.extents(BlockStatus.FINISHED):
        assert image[extent.offset_bytes : extent.end_bytes] == drive.contents[extent.offset_bytes : extent.end_bytes]


def test_what_was_read_before_a_long_pause_is_saved_during_it(bench: Bench) -> None:
    saved: list[int] = []

    def look() -> None:
        saved.append(MapStore.read_snapshot(bench.map_path).count_bytes(BlockStatus.FINISHED))

    bench.time.after_sleep = look
    bench.rescue(Limits(pause_on_error_seconds=60.0, max_read_errors=1))
    assert saved[0] == 0  # the journal is written every two seconds
    assert saved[-1] >= 64 * KIB


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_read_errors=-1),
        Limits(max_bad_areas=-1),
        Limits(max_error_rate_bytes=-1),
        Limits(timeout_seconds=-1),
        Limits(max_read_rate_bytes=0),
        Limits(pause_on_error_seconds=-1),
        Limits(pause_on_pass_seconds=-1),
    ],
)
def test_limits_that_cannot_be_are_refused_before_anything_is_made(limits: Limits, bench: Bench) -> None:
    with pytest.raises(UsageError):
        bench.rescue(limits)
    assert not bench.map_path.exists()


@pytest.mark.skipif(shutil.which("ddrescue") is None, reason="GNU ddrescue is missing (apt-get install gddrescue)")
@pytest.mark.parametrize(
    ("option", "limits"),
    [
        ("-X0", Limits(max_read_errors=0)),
        ("-X2", Limits(max_read_errors=2)),
        ("-e0", Limits(max_bad_areas=0)),
        ("-e1", Limits(max_bad_areas=1)),
        ("-e+1", Limits(max_bad_areas=1, count_new_areas=True)),
    ],
)
def test_counted_limits_end_where_gnu_ddrescue_ends(option: str, limits: Limits, bench: Bench) -> None:
    damage_path, gnu_map = bench.folder / "damage.map", bench.folder / "gnu.map"
    damage_path.write_text(DAMAGE.mapfile_text())
    command = ["ddrescue", "-q", "-H", str(damage_path), option, str(bench.contents_path), str(bench.folder / "gnu")]
    ended = subprocess.run([*command, str(gnu_map)], capture_output=True, timeout=60, check=False)
    assert ended.returncode == 1
    summary = bench.rescue(limits)
    assert summary.limit is not None
    assert list(Mapfile.load(bench.map_path).blocks()) == list(Mapfile.load(gnu_map).blocks())
    assert re.search(r"\(-[Xe]\)", summary.limit)
