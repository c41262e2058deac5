"""Totals of what was asked for: those of the map without what lies outside, which no run changes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.extent import ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.rescue.progress import Stopwatch, outside_of, totals_of

SIZE = 200
BLOCKS = st.lists(
    st.tuples(st.integers(0, SIZE - 1), st.integers(1, 40), st.sampled_from(list(BlockStatus))), max_size=12
)
RANGES = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 60)), min_size=1, max_size=3)


def marked(mapfile, blocks, within=None):
    for start, size, status in blocks:
        extent = span(start, min(start + size, SIZE))
        for part in ExtentSet([extent]) if within is None else within.within(extent):
            mapfile.mark(part, status)
    return mapfile


@settings(deadline=None, max_examples=150)
@given(BLOCKS, RANGES, BLOCKS)
def test_what_is_asked_for_is_counted_by_subtraction_while_a_run_goes_on(before, ranges, during):
    domain = ExtentSet(span(start, min(start + size, SIZE)) for start, size in ranges)
    mapfile = marked(Mapfile.covering(SIZE), before)
    outside = outside_of(mapfile, domain)
    marked(mapfile, during, within=domain)
    asked = totals_of(mapfile) - outside
    held = {status: (mapfile.extents(status) & domain).total_bytes for status in BlockStatus}
    assert asked.size_bytes == domain.total_bytes
    assert asked.rescued_bytes == held[BlockStatus.FINISHED]
    assert asked.non_tried_bytes == held[BlockStatus.NON_TRIED]
    assert asked.non_trimmed_bytes == held[BlockStatus.NON_TRIMMED]
    assert asked.non_scraped_bytes == held[BlockStatus.NON_SCRAPED]
    assert asked.bad_bytes == held[BlockStatus.BAD_SECTOR]


def test_a_bad_area_that_reaches_inside_counts():
    mapfile = marked(Mapfile.covering(SIZE), [(0, 10, BlockStatus.BAD_SECTOR), (50, 20, BlockStatus.BAD_SECTOR)])
    assert (totals_of(mapfile) - outside_of(mapfile, ExtentSet([span(60, 100)]))).bad_areas == 1


def test_the_present_rate_is_that_of_the_last_second_and_before_of_what_there_was():
    times = iter([0.0, 0.0, 0.5, 1.0, 1.5, 2.0])
    watch = Stopwatch(lambda: next(times))
    rates = []
    for rescued_bytes in (0, 100, 100, 900, 900):
        watch.tick(rescued_bytes)
        rates.append(watch.rate_bytes)
    assert rates == [0.0, 200.0, 200.0, 200.0, 1800.0]
