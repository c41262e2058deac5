import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imaging.errors import UsageError
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.rescue.options import Geometry, RescueOptions, settle_geometry
from imaging.rescue.order import plan_rescue
from imaging.rescue.plan import (
    Heading,
    Mark,
    Outcome,
    Phase,
    Read,
    Resume,
    Territory,
    reset_marks,
    settle,
)

KIB = 1024
CLUSTER = 64 * KIB
SIZE = 4 << 20
GNU = RescueOptions(compatible=True)
GEOMETRY = settle_geometry(GNU, drive_bytes=SIZE, sector_bytes=512, physical_bytes=512)
WHOLE = ExtentSet([span(0, SIZE)])


def walk(
    mapfile: Mapfile,
    bad: ExtentSet,
    *,
    options: RescueOptions = GNU,
    resume: Resume = Resume(),  # noqa: B008 - frozen
    domain: ExtentSet = WHOLE,
    geometry: Geometry | None = None,
    stop_after: int = 10**9,
    slow: ExtentSet = ExtentSet(),  # noqa: B008 - frozen
) -> list[Read]:
    """Carry out a plan on a drive of which `bad` fails and `slow` is slow, and return the reads in order."""
    reads: list[Read] = []
    geometry = geometry or settle_geometry(options, drive_bytes=SIZE, sector_bytes=512, physical_bytes=512)
    plan = plan_rescue(Territory(mapfile, domain), geometry, options, resume)
    step = next(plan, None)
    while step is not None:
        outcome = Outcome()
        if isinstance(step, Mark):
            mapfile.mark(step.extent, step.status)
        else:
            if len(reads) == stop_after:
                break
            reads.append(step)
            good_bytes = 0 if bad.touches(step.extent) else step.extent.size_bytes
            outcome = Outcome(good_bytes=good_bytes, slow=slow.touches(step.extent) and good_bytes > 0)
            for mark in settle(step, good_bytes, geometry):
                mapfile.mark(mark.extent, mark.status)
        try:
            step = plan.send(outcome)
        except StopIteration:
            step = None
    return reads


def places(reads: list[Read], phase: Phase, number: int | None = None) -> list[tuple[int, int]]:
    return [
        (read.extent.offset_bytes, read.extent.size_bytes)
        for read in reads
        if read.phase is phase and number in (None, read.pass_number)
    ]


def test_a_healthy_drive_is_read_once_in_clusters_from_start_to_end() -> None:
    reads = walk(Mapfile.covering(SIZE), ExtentSet())
    assert places(reads, Phase.COPYING, 1) == [(at, CLUSTER) for at in range(0, SIZE, CLUSTER)]
    assert len(reads) == SIZE // CLUSTER


def test_the_first_pass_skips_after_an_error_and_doubles_the_skip_until_a_clean_read() -> None:
    geometry = Geometry(
        cluster_bytes=CLUSTER,
        large_bytes=CLUSTER,
        sector_bytes=512,
        initial_skip_bytes=CLUSTER,
        max_skip_bytes=4 * CLUSTER,
    )
    bad = ExtentSet([span(0, 20 * CLUSTER)])
    reads = walk(Mapfile.covering(SIZE), bad, geometry=geometry)
    starts = [offset // CLUSTER for offset, _ in places(reads, Phase.COPYING, 1)]
    # a read and a skip of 1, of 2, of 4, of 4 (the maximum), …
    assert starts[:7] == [0, 2, 5, 10, 15, 20, 21]


def test_the_skip_is_small_again_after_a_clean_read() -> None:
    bad = ExtentSet([span(0, 512), span(CLUSTER * 2, CLUSTER * 2 + 512), span(CLUSTER * 8, CLUSTER * 8 + 512)])
    geometry = Geometry(
        cluster_bytes=CLUSTER,
        large_bytes=CLUSTER,
        sector_bytes=512,
        initial_skip_bytes=CLUSTER,
        max_skip_bytes=8 * CLUSTER,
    )
    reads = walk(Mapfile.covering(SIZE), bad, geometry=geometry)
    starts = [offset // CLUSTER for offset, _ in places(reads, Phase.COPYING, 1)]
    assert starts[:7] == [0, 2, 5, 6, 7, 8, 10]


def test_the_first_read_after_a_skip_ends_at_a_cluster_boundary() -> None:
    geometry = Geometry(
        cluster_bytes=CLUSTER, large_bytes=CLUSTER, sector_bytes=512, initial_skip_bytes=70_144, max_skip_bytes=70_144
    )
    reads = walk(Mapfile.covering(SIZE), ExtentSet([span(0, 512)]), geometry=geometry)
    assert places(reads, Phase.COPYING, 1)[1] == (CLUSTER + 70_144, 3 * CLUSTER - (CLUSTER + 70_144))


def test_the_second_pass_comes_backward_and_leaves_a_block_at_its_first_error() -> None:
    bad = ExtentSet([span(16 * CLUSTER, 32 * CLUSTER)])
    geometry = Geometry(
        cluster_bytes=CLUSTER, large_bytes=CLUSTER, sector_bytes=512, initial_skip_bytes=CLUSTER, max_skip_bytes=SIZE
    )
    reads = walk(Mapfile.covering(SIZE), bad, geometry=geometry)
    second = [offset // CLUSTER for offset, _ in places(reads, Phase.COPYING, 2)]
    assert second == [34, 33, 32, 31, 25, 20, 17]
    fifth = [offset // CLUSTER for offset, _ in places(reads, Phase.COPYING, 5)]
    assert fifth == [19, 22, 23, 24, 27, 28, 29, 30], "what the second pass left is swept"


def test_passes_three_and_four_read_only_what_follows_good_data() -> None:
    mapfile = Mapfile.covering(SIZE)
    for index, status in ((4, BlockStatus.FINISHED), (8, BlockStatus.NON_TRIMMED), (12, BlockStatus.FINISHED)):
        mapfile.mark(Extent(offset_bytes=index * CLUSTER, size_bytes=CLUSTER), status)
    options = RescueOptions(compatible=True, copying_passes=frozenset({3}), no_trim=True)
    reads = walk(mapfile, ExtentSet(), options=options)
    starts = [offset // CLUSTER for offset, _ in places(reads, Phase.COPYING, 3)]
    assert starts == [0, 1, 2, 3, 5, 6, 7, *range(13, 64)], "the start of the drive counts as good"

    mapfile = Mapfile.covering(SIZE)
    for index, status in ((4, BlockStatus.FINISHED), (8, BlockStatus.NON_TRIMMED), (12, BlockStatus.FINISHED)):
        mapfile.mark(Extent(offset_bytes=index * CLUSTER, size_bytes=CLUSTER), status)
    options = RescueOptions(compatible=True, copying_passes=frozenset({4}), no_trim=True)
    reads = walk(mapfile, ExtentSet(), options=options)
    starts = [offset // CLUSTER for offset, _ in places(reads, Phase.COPYING, 4)]
    assert starts == [*range(63, 12, -1), 11, 10, 9, 3, 2, 1, 0], "and so does its end"


def test_trimming_stops_at_the_first_failure_from_either_edge_and_leaves_the_middle_to_scraping() -> None:
    bad = ExtentSet([span(1024, 1536), span(4096, 4608)])
    options = RescueOptions(compatible=True, no_scrape=True)
    mapfile = Mapfile.covering(SIZE)
    reads = walk(mapfile, bad, options=options)
    trimmed = [offset for offset, _ in places(reads, Phase.TRIMMING)]
    assert trimmed == [0, 512, 1024, *range(CLUSTER - 512, 4096 - 512, -512)]
    assert mapfile.extents(BlockStatus.NON_SCRAPED) == ExtentSet([span(1536, 4096)])
    assert mapfile.extents(BlockStatus.BAD_SECTOR) == bad


def test_an_edge_beside_a_bad_sector_is_not_trimmed_again() -> None:
    mapfile = Mapfile([(span(0, SIZE), BlockStatus.FINISHED)])
    mapfile.mark(span(0, 512), BlockStatus.BAD_SECTOR)
    mapfile.mark(span(512, 4096), BlockStatus.NON_TRIMMED)
    reads = walk(mapfile, ExtentSet([span(0, 2048)]))
    assert places(reads, Phase.TRIMMING) == [(offset, 512) for offset in (3584, 3072, 2560, 2048, 1536)]
    assert places(reads, Phase.SCRAPING) == [(512, 512), (1024, 512)]


def test_scraping_reads_by_the_physical_sector() -> None:
    geometry = settle_geometry(GNU, drive_bytes=SIZE, sector_bytes=512, physical_bytes=4096)
    mapfile = Mapfile([(span(0, SIZE), BlockStatus.FINISHED)])
    mapfile.mark(span(512, 20480), BlockStatus.NON_SCRAPED)
    reads = walk(mapfile, ExtentSet([span(8192, 12288)]), geometry=geometry)
    assert places(reads, Phase.SCRAPING) == [(512, 3584), (4096, 4096), (8192, 4096), (12288, 4096), (16384, 4096)]
    assert mapfile.extents(BlockStatus.BAD_SECTOR) == ExtentSet([span(8192, 12288)])


def test_each_retry_pass_tries_every_bad_sector_once_and_turns_round() -> None:
    mapfile = Mapfile([(span(0, SIZE), BlockStatus.FINISHED)])
    bad = ExtentSet([span(1024, 2048), span(8192, 8704)])
    for extent in bad:
        mapfile.mark(extent, BlockStatus.BAD_SECTOR)
    reads = walk(mapfile, bad, options=RescueOptions(compatible=True, retry_passes=2))
    assert [offset for offset, _ in places(reads, Phase.RETRYING, 1)] == [1024, 1536, 8192]
    assert [offset for offset, _ in places(reads, Phase.RETRYING, 2)] == [8192, 1536, 1024]


def test_endless_retrying_ends_when_nothing_is_bad_any_more() -> None:
    mapfile = Mapfile([(span(0, SIZE), BlockStatus.FINISHED)])
    mapfile.mark(span(0, 1024), BlockStatus.BAD_SECTOR)
    reads = walk(mapfile, ExtentSet(), options=RescueOptions(compatible=True, retry_passes=-1))
    assert len(reads) == 2


def test_an_interrupted_retry_pass_is_finished_in_its_own_direction() -> None:
    mapfile = Mapfile([(span(0, SIZE), BlockStatus.FINISHED)])
    bad = ExtentSet([span(0, 2048)])
    mapfile.mark(span(0, 2048), BlockStatus.BAD_SECTOR)
    resume = Resume(phase="-", pass_number=2, position_bytes=1024)
    reads = walk(mapfile, bad, options=RescueOptions(compatible=True, retry_passes=2), resume=resume)
    assert [offset for offset, _ in places(reads, Phase.RETRYING, 2)] == [512, 0]
    assert [offset for offset, _ in places(reads, Phase.RETRYING, 3)] == [0, 512, 1024, 1536]


def test_reverse_turns_every_pass_and_unidirectional_keeps_the_direction() -> None:
    reads = walk(Mapfile.covering(SIZE), ExtentSet(), options=RescueOptions(compatible=True, reverse=True))
    starts = [offset for offset, _ in places(reads, Phase.COPYING, 1)]
    assert starts == sorted(starts, reverse=True)
    bad = ExtentSet([span(SIZE // 4, SIZE // 2)])
    reads = walk(Mapfile.covering(SIZE), bad, options=RescueOptions(compatible=True, unidirectional=True))
    assert {read.heading for read in reads if read.phase is Phase.COPYING} == {Heading.FORWARD}


def test_a_rescue_without_skips_tries_every_cluster_in_the_first_pass() -> None:
    options = RescueOptions(compatible=True, initial_skip_bytes=0, max_skip_bytes=0)
    reads = walk(Mapfile.covering(SIZE), ExtentSet([span(0, SIZE // 2)]), options=options)
    assert len(places(reads, Phase.COPYING, 1)) == SIZE // CLUSTER
    assert not places(reads, Phase.COPYING, 2)


def test_no_trim_and_no_scrape_leave_their_blocks_alone() -> None:
    bad = ExtentSet([span(1024, 1536), span(4096, 4608)])
    mapfile = Mapfile.covering(SIZE)
    reads = walk(mapfile, bad, options=RescueOptions(compatible=True, no_trim=True, no_scrape=True))
    assert {read.phase for read in reads} == {Phase.COPYING}
    assert mapfile.extents(BlockStatus.NON_TRIMMED) == ExtentSet([span(0, CLUSTER)])


def test_nothing_outside_the_domain_is_read_or_marked() -> None:
    domain = ExtentSet([span(CLUSTER, 3 * CLUSTER), span(10 * CLUSTER + 512, 11 * CLUSTER)])
    mapfile = Mapfile.covering(SIZE)
    reads = walk(mapfile, ExtentSet([span(0, SIZE)]), domain=domain)
    assert all(domain.covers(read.extent) for read in reads)
    assert mapfile.extents(BlockStatus.BAD_SECTOR) == domain
    assert mapfile.extents(BlockStatus.NON_TRIED) == domain.complement(span(0, SIZE))


def test_a_copying_pass_goes_on_where_the_map_says() -> None:
    mapfile = Mapfile.covering(SIZE)
    mapfile.mark(span(0, 8 * CLUSTER), BlockStatus.FINISHED)
    mapfile.mark(span(2 * CLUSTER, 3 * CLUSTER), BlockStatus.NON_TRIED)  # skipped earlier in this pass
    resume = Resume(phase="?", pass_number=1, position_bytes=8 * CLUSTER)
    reads = walk(mapfile, ExtentSet(), resume=resume)
    assert places(reads, Phase.COPYING, 1)[0] == (8 * CLUSTER, CLUSTER)
    assert places(reads, Phase.COPYING, 2) == [(2 * CLUSTER, CLUSTER)]


def test_a_sweep_that_is_resumed_in_the_middle_also_reads_what_lies_behind() -> None:
    mapfile = Mapfile.covering(SIZE)
    resume = Resume(phase="?", pass_number=5, position_bytes=SIZE // 2)
    walk(mapfile, ExtentSet(), resume=resume)
    assert not mapfile.unread


def test_a_failed_read_of_one_sector_is_bad_and_a_longer_one_is_to_be_trimmed() -> None:
    read = Read(extent=span(0, 1024), phase=Phase.COPYING, pass_number=1, heading=Heading.FORWARD)
    assert [mark.status for mark in settle(read, 0, GEOMETRY)] == [BlockStatus.NON_TRIMMED]
    assert [mark.status for mark in settle(read, 512, GEOMETRY)] == [BlockStatus.FINISHED, BlockStatus.BAD_SECTOR]
    assert [mark.status for mark in settle(read, 1024, GEOMETRY)] == [BlockStatus.FINISHED]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (RescueOptions(), "?*/-+"),
        (RescueOptions(try_again=True), "???-+"),
        (RescueOptions(retrim=True), "?***+"),
        (RescueOptions(try_again=True, retrim=True), "????+"),
    ],
)
def test_try_again_and_retrim_set_back_what_their_manual_says(options: RescueOptions, expected: str) -> None:
    size_bytes = 512 * len(BlockStatus)
    mapfile = Mapfile([(span(512 * i, 512 * (i + 1)), status) for i, status in enumerate(BlockStatus)])
    for mark in reset_marks(Territory(mapfile, ExtentSet([span(0, size_bytes)])), options):
        mapfile.mark(mark.extent, mark.status)
    assert "".join(mapfile.block_at(offset)[1] for offset in range(0, size_bytes, 512)) == expected


def test_skips_follow_the_size_of_the_drive() -> None:
    big = settle_geometry(RescueOptions(), drive_bytes=10**12, sector_bytes=512, physical_bytes=4096)
    assert big.initial_skip_bytes == 10_027_008  # a 100,000th, rounded up to 64 KiB
    assert big.max_skip_bytes == 10**10
    assert big.sector_bytes == 4096
    small = settle_geometry(RescueOptions(), drive_bytes=10**6, sector_bytes=512, physical_bytes=512)
    assert (small.initial_skip_bytes, small.max_skip_bytes) == (65536, 65536)


@pytest.mark.parametrize(
    "options",
    [
        RescueOptions(cluster_bytes=1000),
        RescueOptions(cluster_bytes=0),
        RescueOptions(sector_bytes=256),
        RescueOptions(initial_skip_bytes=-1),
        RescueOptions(max_skip_bytes=-1),
        RescueOptions(copying_passes=frozenset({6})),
        RescueOptions(retry_passes=-2),
        RescueOptions(input_offset_bytes=-1),
        RescueOptions(size_bytes=-1),
    ],
)
def test_options_that_fit_no_drive_are_refused(options: RescueOptions) -> None:
    with pytest.raises(UsageError):
        settle_geometry(options, drive_bytes=SIZE, sector_bytes=512, physical_bytes=512)


SECTORS = 600
small_extents = st.builds(
    lambda at, count: span(at * 512, min(at + count, SECTORS) * 512),
    st.integers(0, SECTORS - 1),
    st.one_of(st.integers(1, 4), st.integers(1, 150)),
)
option_sets = st.builds(
    RescueOptions,
    compatible=st.booleans(),
    cluster_bytes=st.sampled_from([512, 4096, 51_200, CLUSTER]),
    initial_skip_bytes=st.sampled_from([0, 4096, None]),
    max_skip_bytes=st.sampled_from([None, 100_000]),
    reverse=st.booleans(),
    unidirectional=st.booleans(),
    retry_passes=st.integers(0, 2),
)


@given(bad=st.lists(small_extents, max_size=8), options=option_sets, sector=st.sampled_from([512, 4096]))
@example(  # a piece as long as a sector that lies in two
    bad=[span(252_416, 254_464)], options=RescueOptions(cluster_bytes=51_200, initial_skip_bytes=4096), sector=4096
)
@settings(deadline=None)
def test_every_plan_finds_every_good_sector_and_tries_no_sector_more_often_than_it_may(
    bad: list[Extent], options: RescueOptions, sector: int
) -> None:
    size_bytes = SECTORS * 512
    # a physical sector fails as one
    broken = ExtentSet([span(e.offset_bytes // sector * sector, -(-e.end_bytes // sector) * sector) for e in bad])
    geometry = settle_geometry(options, drive_bytes=size_bytes, sector_bytes=512, physical_bytes=sector)
    mapfile = Mapfile.covering(size_bytes)
    domain = ExtentSet([span(0, size_bytes)])
    reads = walk(mapfile, broken, options=options, domain=domain, geometry=geometry)
    assert mapfile.extents(BlockStatus.BAD_SECTOR) == broken
    assert mapfile.extents(BlockStatus.FINISHED) == broken.complement(span(0, size_bytes))
    tries = [0] * SECTORS
    for read in reads:
        for index in range(read.extent.offset_bytes // 512, -(-read.extent.end_bytes // 512)):
            tries[index] += 1
    allowed = 2 if options.compatible else 3  # a large read, its cluster, the sector
    assert max(tries) <= allowed + options.retry_passes


@given(
    bad=st.lists(small_extents, max_size=6),
    options=option_sets,
    stops=st.lists(st.integers(1, 60), max_size=6),
)
@settings(deadline=None)
def test_a_plan_interrupted_anywhere_ends_with_the_same_map_and_reads_nothing_finished_again(
    bad: list[Extent], options: RescueOptions, stops: list[int]
) -> None:
    size_bytes = SECTORS * 512
    broken = ExtentSet(bad)
    geometry = settle_geometry(options, drive_bytes=size_bytes, sector_bytes=512, physical_bytes=512)
    domain = ExtentSet([span(0, size_bytes)])
    mapfile = Mapfile.covering(size_bytes)
    resume = Resume()
    for stop_after in [*stops, 10**9]:
        finished = mapfile.extents(BlockStatus.FINISHED)
        reads = walk(
            mapfile,
            broken,
            options=options,
            resume=resume,
            domain=domain,
            geometry=geometry,
            stop_after=stop_after,
        )
        assert not any(finished.touches(read.extent) for read in reads)
        if reads:
            last = reads[-1]
            resume = Resume(phase=last.phase, pass_number=last.pass_number, position_bytes=last.position_bytes)
    assert mapfile.extents(BlockStatus.BAD_SECTOR) == broken
    assert mapfile.extents(BlockStatus.FINISHED) == broken.complement(span(0, size_bytes))
