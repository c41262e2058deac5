"""The default order, tried on simulated drives; what both orders promise is in test_plan."""

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.failing_drive import damage_of
from imaging.extent import ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.rescue.engine import rescue
from imaging.rescue.limits import Limits
from imaging.rescue.options import RescueOptions, settle_geometry
from imaging.rescue.order import plan_rescue
from imaging.rescue.plan import Heading, Phase, Read, Resume, Territory
from imaging.rescue.slowness import SlowReads
from tests.bench.drive_model import DISK, Condition, SimulatedSource, Weakness
from tests.bench.rescue_runs import run_ours
from tests.imaging.test_failing_drive import need_program
from tests.imaging.test_plan import places, small_extents, walk

KIB, MIB = 1024, 1 << 20
CLUSTER = 64 * KIB
SIZE = 4 * MIB
OWN = RescueOptions()


def condition(size_bytes: int, *bad: tuple[int, int]) -> Condition:
    return Condition(damage=damage_of(size_bytes, bad))


def whole(size_bytes: int) -> ExtentSet:
    return ExtentSet([span(0, size_bytes)])


FIRST_PASS = RescueOptions(copying_passes=frozenset({1}), no_trim=True, no_scrape=True)


def read_of(
    size_bytes: int,
    bad: ExtentSet,
    slow: ExtentSet = ExtentSet(),  # noqa: B008 - frozen
    options: RescueOptions = OWN,
) -> list[Read]:
    mapfile = Mapfile.covering(size_bytes)
    geometry = settle_geometry(OWN, drive_bytes=size_bytes, sector_bytes=512, physical_bytes=512)
    return walk(mapfile, bad, options=options, domain=whole(size_bytes), slow=slow, geometry=geometry)


def test_a_healthy_drive_is_read_once_in_large_reads() -> None:
    reads = read_of(SIZE, ExtentSet())
    assert places(reads, Phase.COPYING, 1) == [(at, 4 * CLUSTER) for at in range(0, SIZE, 4 * CLUSTER)]
    assert len(reads) == SIZE // (4 * CLUSTER)


def test_after_the_first_failure_reads_are_clusters_and_what_the_large_one_hid_is_read_again() -> None:
    reads = read_of(SIZE, ExtentSet([span(MIB, MIB + 512)]))
    first = places(reads, Phase.COPYING, 1)
    failed = first.index((MIB, 4 * CLUSTER))
    assert {size for _, size in first[failed + 1 :]} == {CLUSTER}
    assert first[failed + 1][0] == MIB + 4 * CLUSTER, "nothing more is jumped over: it has hidden enough"
    assert places(reads, Phase.COPYING, 2) == [(MIB + n * CLUSTER, CLUSTER) for n in (3, 2, 1, 0)]
    assert max(read.extent.size_bytes for read in reads if read.phase is not Phase.COPYING) == 512


def test_what_lies_between_two_failures_is_left_until_the_good_edges_are_trimmed() -> None:
    reads = read_of(64 * MIB, ExtentSet([span(16 * MIB, 18 * MIB)]))
    order = list(dict.fromkeys((read.phase.value, read.pass_number) for read in reads))
    assert order == [("?", 1), ("?", 2), ("?", 3), ("*", 1), ("?", 5), ("/", 1)]


def test_behind_a_failure_the_sweep_pins_the_bad_sector_and_keeps_what_came_before_it() -> None:
    bad = ExtentSet([span(MIB + n * CLUSTER + 1024, MIB + n * CLUSTER + 1536) for n in range(32)])
    mapfile = Mapfile.covering(SIZE)
    reads = walk(mapfile, bad, options=RescueOptions(no_trim=True, no_scrape=True), domain=whole(SIZE))
    swept = [read for read in reads if read.pass_number == 5]
    assert {read.extent.size_bytes for read in swept} == {512}
    pinned = mapfile.extents(BlockStatus.BAD_SECTOR)
    assert pinned and all(bad.covers(sector) for sector in pinned)
    assert mapfile.extents(BlockStatus.NON_TRIED) == ExtentSet()


def test_zones_at_equal_distances_are_jumped_over_untouched() -> None:
    stripes = [(4 * MIB * n, MIB) for n in range(1, 60)]
    reads = read_of(256 * MIB, ExtentSet(span(at, at + size) for at, size in stripes), options=FIRST_PASS)
    failed = [at for at, _ in places(reads, Phase.COPYING, 1) if at % (4 * MIB) < MIB and at >= 4 * MIB]
    touched = {at // (4 * MIB) for at in failed}
    assert len(touched) < 12, "most stripes are never touched by the first pass"
    assert len(failed) < 40


def test_a_rhythm_that_ends_costs_no_more_than_the_holes_of_one_trust() -> None:
    stripes = [(4 * MIB * n, MIB) for n in range(1, 12)]
    reads = read_of(256 * MIB, ExtentSet(span(at, at + size) for at, size in stripes), options=FIRST_PASS)
    got = sum(size for at, size in places(reads, Phase.COPYING, 1) if at >= 12 * 4 * MIB)
    assert got > 0.9 * (256 - 48) * MIB


def test_a_slow_zone_is_left_for_later_passes() -> None:
    slow = ExtentSet([span(16 * MIB, 24 * MIB)])
    reads = read_of(64 * MIB, ExtentSet(), slow)
    first = [read for read in reads if read.pass_number == 1 and slow.touches(read.extent)]
    assert len(first) < 20
    assert sum(read.extent.size_bytes for read in reads) == 64 * MIB, "and all of it is read once"


def test_the_far_side_of_a_failed_cluster_is_read_forward_while_clusters_hold_one_fault() -> None:
    reads = read_of(SIZE, ExtentSet([span(MIB + 1024, MIB + 1536)]))
    trimmed = [read for read in reads if read.phase is Phase.TRIMMING]
    assert all(read.heading is Heading.FORWARD for read in trimmed)
    assert trimmed[3].extent.offset_bytes == MIB + CLUSTER - 8 * 512


def test_scraping_begins_between_good_parts_and_leaves_dead_zones_for_last() -> None:
    mapfile = Mapfile([(span(0, SIZE), BlockStatus.FINISHED)])
    for start, end in ((0, MIB), (2 * MIB, 2 * MIB + 4096)):
        mapfile.mark(span(start, end), BlockStatus.NON_SCRAPED)
    dead = ExtentSet([span(0, MIB)])
    reads = walk(mapfile, dead, options=OWN, resume=Resume(phase="/"), domain=whole(SIZE))
    at = [read.extent.offset_bytes for read in reads]
    assert at[:8] == [512 * n for n in range(8)], "both sides were read: the drive's start counts"
    assert at[8:16] == list(range(2 * MIB, 2 * MIB + 4096, 512)), "eight failures in a row, and the rest waits"
    assert at[16:] == list(range(4096, MIB, 512))


def test_a_map_that_was_trimmed_goes_on_with_edges_and_sweep_unless_the_range_has_grown() -> None:
    mapfile = Mapfile.covering(SIZE)
    mapfile.mark(span(0, SIZE - 3 * CLUSTER), BlockStatus.FINISHED)
    mapfile.mark(span(SIZE - 3 * CLUSTER, SIZE - 2 * CLUSTER), BlockStatus.NON_TRIMMED)
    for size_bytes, first in ((SIZE, (Phase.TRIMMING, 1)), (2 * SIZE, (Phase.COPYING, 1))):
        grown = Mapfile([*mapfile.blocks(), (span(SIZE, size_bytes), BlockStatus.NON_TRIED)])
        reads = walk(grown, ExtentSet(), options=OWN, domain=whole(size_bytes), resume=Resume(phase="*"))
        assert (reads[0].phase, reads[0].pass_number) == first
        assert not grown.unread


def test_the_engine_carries_the_plan_out_as_the_benchmark_does(tmp_path: Path) -> None:
    drive = condition(8 * MIB, (70_144, 1024), (MIB, 40_960), (3 * MIB + 512, 512))
    drive = replace(drive, weakness=Weakness(areas=((5 * MIB, MIB),), slow_seconds=0.05))
    for options in (OWN, RescueOptions(slow_reads=SlowReads(min_read_rate_bytes=10**6, delay_slow_seconds=0.0))):
        source, asked = SimulatedSource(DISK, drive), 0
        curve = run_ours(DISK, drive, options)

        def count(offset_bytes: int, size_bytes: int, came: bool) -> None:
            nonlocal asked
            asked += 1

        source.on_read = count
        name = str(options.slow_reads.min_read_rate_bytes)
        clock = lambda source=source: source.drive.seconds  # noqa: E731
        rescue(source, tmp_path / f"{name}.img", tmp_path / f"{name}.map", options, clock=clock)
        assert asked == curve.reads
        assert source.drive.seconds == curve.seconds[-1]


@pytest.mark.parametrize("reverse", [False, True])
def test_runs_that_end_at_their_first_error_each_mark_or_read_something(tmp_path: Path, reverse: bool) -> None:
    drive = condition(8 * MIB, (2 * MIB, 4 * MIB))
    options = RescueOptions(reverse=reverse, limits=Limits(max_read_errors=0))
    untried: list[int] = []
    for _ in range(8):
        source = SimulatedSource(DISK, drive)
        summary = rescue(source, tmp_path / "i", tmp_path / "m", options)
        untried.append(summary.totals.non_tried_bytes)
        assert summary.limit is not None
    assert untried[1:] == sorted(set(untried[1:]), reverse=True), "each run leaves less untried than the one before"


def test_a_healthy_drive_is_gone_on_with_in_large_reads(tmp_path: Path) -> None:
    mapfile = Mapfile.covering(SIZE)
    mapfile.mark(span(0, MIB), BlockStatus.FINISHED)
    geometry = settle_geometry(OWN, drive_bytes=SIZE, sector_bytes=512, physical_bytes=512)
    plan = plan_rescue(Territory(mapfile, whole(SIZE)), geometry, OWN, Resume(position_bytes=MIB))
    step = next(plan)
    assert isinstance(step, Read) and (step.extent.offset_bytes, step.extent.size_bytes) == (MIB, 4 * CLUSTER)


def test_too_many_slow_reads_end_the_run(tmp_path: Path) -> None:
    drive = replace(condition(8 * MIB), weakness=Weakness(areas=((0, 8 * MIB),), slow_seconds=0.01))
    source = SimulatedSource(DISK, drive)
    rules = SlowReads(min_read_rate_bytes=10**6, delay_slow_seconds=0.0, max_slow_reads=3)
    options = RescueOptions(slow_reads=rules)
    clock = lambda: source.drive.seconds  # noqa: E731
    summary = rescue(source, tmp_path / "i", tmp_path / "m", options, clock=clock)
    assert summary.limit == "more than 3 reads were slow (--max-slow-reads)"
    assert summary.reads == 4


@given(
    bad=st.lists(small_extents, max_size=8).map(ExtentSet),
    stop_after=st.integers(0, 80),
)
@settings(max_examples=15, deadline=None)
def test_gnu_ddrescue_finishes_what_the_default_order_began_and_the_other_way_round(
    bad: ExtentSet, stop_after: int
) -> None:
    need_program("ddrescue")
    size_bytes = 600 * 512 + 512  # the last sector is good: ddrescue cuts a bad end off
    good = bad.complement(span(0, size_bytes))
    mapfile = Mapfile.covering(size_bytes)
    reads = walk(mapfile, bad, options=OWN, domain=whole(size_bytes), stop_after=stop_after)
    with tempfile.TemporaryDirectory() as name:
        contents, damage, begun, image = (Path(name, each) for each in ("contents", "damage", "begun", "image"))
        contents.write_bytes(bytes(size_bytes))
        damage.write_text(Mapfile.from_extents({BlockStatus.FINISHED: good, BlockStatus.BAD_SECTOR: bad}).to_text())
        if reads:
            last = reads[-1]
            mapfile.position_bytes, mapfile.current_pass = last.position_bytes, last.pass_number
            mapfile.current_status = last.phase.value
        begun.write_text(mapfile.to_text())
        gnu = ["ddrescue", "-q", "-f", f"--test-mode={damage}"]
        subprocess.run([*gnu, contents, "/dev/null", begun], check=True)
        assert Mapfile.load(begun).extents(BlockStatus.FINISHED) == good

        begun.unlink()
        subprocess.run([*gnu, f"--max-read-errors={stop_after % 7}", contents, image, begun], check=False)
        mapfile = Mapfile.load(begun)
        at = Resume(
            phase=mapfile.current_status, pass_number=mapfile.current_pass, position_bytes=mapfile.position_bytes
        )
        walk(mapfile, bad, options=OWN, domain=whole(size_bytes), resume=at)
        assert mapfile.extents(BlockStatus.FINISHED) == good
        assert mapfile.extents(BlockStatus.BAD_SECTOR) == bad
