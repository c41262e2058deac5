"""The forecast: remaining time by phase and recent rate, the reads that bad areas may need, and what was won so far."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imaging.rescue.forecast import Forecast, Forecaster
from imaging.rescue.plan import Phase
from imaging.rescue.progress import Progress, Totals

MIB = 1 << 20
SECTOR = 512


def progress_at(
    seconds: float, phase: Phase, *, reads: int = 0, errors: int = 0, pass_number: int = 1, **left_bytes: int
) -> Progress:
    counts = {"non_tried_bytes": 0, "non_trimmed_bytes": 0, "non_scraped_bytes": 0, "bad_bytes": 0} | left_bytes
    totals = Totals(size_bytes=100 * MIB, rescued_bytes=100 * MIB - sum(counts.values()), bad_areas=0, **counts)
    return Progress(
        phase=phase,
        pass_number=pass_number,
        position_bytes=0,
        totals=totals,
        reads=reads,
        read_errors=errors,
        rate_bytes=0.0,
        average_rate_bytes=0.0,
        seconds=seconds,
        since_success_seconds=0.0,
        last_error_bytes=None,
    )


def after(*steps: Progress, **phases: bool) -> Forecast:
    forecaster = Forecaster(sector_bytes=SECTOR, **phases)
    return [forecaster.note(step) for step in steps][-1]


def test_copying_lasts_as_long_as_what_was_not_tried_at_the_rate_at_which_it_shrinks():
    forecast = after(
        progress_at(0, Phase.COPYING, non_tried_bytes=100 * MIB),
        progress_at(10, Phase.COPYING, non_tried_bytes=80 * MIB),
    )
    assert forecast.seconds == pytest.approx(40)
    assert forecast.reads is None


def test_only_the_last_half_minute_counts():
    steps = [progress_at(second, Phase.COPYING, non_tried_bytes=(100 - second) * MIB) for second in range(50)]
    steps += [
        progress_at(50 + second, Phase.COPYING, non_tried_bytes=50 * MIB - second * MIB // 10) for second in range(41)
    ]
    assert after(*steps).seconds == pytest.approx(46 / 0.1)


def test_nothing_is_guessed_before_enough_was_seen_or_while_nothing_moves():
    first = progress_at(0, Phase.COPYING, non_tried_bytes=100 * MIB)
    assert after(first).seconds is None
    assert after(first, progress_at(1, Phase.COPYING, non_tried_bytes=90 * MIB)).seconds is None
    assert after(first, progress_at(20, Phase.COPYING, non_tried_bytes=100 * MIB)).seconds is None


@pytest.mark.parametrize("trouble", ["hung", "gone"])
def test_no_time_is_told_of_a_drive_that_does_not_answer(trouble):
    later = replace(progress_at(10, Phase.COPYING, non_tried_bytes=MIB), **{trouble: True})
    assert after(progress_at(0, Phase.COPYING, non_tried_bytes=2 * MIB), later).seconds is None


def test_what_copying_leaves_behind_is_counted_in_sectors_and_its_time_is_unknown():
    forecast = after(
        progress_at(0, Phase.COPYING, non_tried_bytes=10 * MIB, non_trimmed_bytes=MIB),
        progress_at(10, Phase.COPYING, non_tried_bytes=5 * MIB, non_trimmed_bytes=MIB, non_scraped_bytes=SECTOR),
    )
    assert (forecast.later_reads, forecast.later_seconds) == (MIB // SECTOR + 1, None)


@pytest.mark.parametrize(("left_out", "reads"), [("trims", 8), ("scrapes", 4)])
def test_a_phase_that_is_left_out_needs_no_reads(left_out, reads):
    step = progress_at(0, Phase.COPYING, non_trimmed_bytes=4 * SECTOR, non_scraped_bytes=8 * SECTOR)
    assert after(step, **{left_out: False}).later_reads == reads


def test_trimming_knows_what_scraping_will_take_at_its_own_pace():
    forecast = after(
        progress_at(0, Phase.TRIMMING, non_trimmed_bytes=MIB, non_scraped_bytes=0),
        progress_at(10, Phase.TRIMMING, reads=5, errors=5, non_trimmed_bytes=MIB // 2, non_scraped_bytes=100 * SECTOR),
    )
    assert (forecast.seconds, forecast.later_reads, forecast.later_seconds) == (10.0, 100, 200.0)


def test_what_is_copied_after_trimming_is_counted_and_makes_the_rest_unknown():
    steps = [
        progress_at(0, Phase.TRIMMING, non_trimmed_bytes=MIB, non_tried_bytes=MIB),
        progress_at(10, Phase.TRIMMING, reads=5, non_trimmed_bytes=MIB // 2, non_tried_bytes=MIB),
    ]
    forecast = after(*steps)
    assert (forecast.seconds, forecast.later_bytes, forecast.later_seconds) == (10.0, MIB, None)
    assert after(*steps, sweeps=False).later_bytes == 0


def test_scraping_counts_its_sectors_and_what_they_won():
    forecast = after(
        progress_at(0, Phase.TRIMMING, reads=900, errors=20),
        progress_at(5, Phase.SCRAPING, reads=1000, errors=30, non_scraped_bytes=400 * SECTOR),
        progress_at(25, Phase.SCRAPING, reads=1100, errors=123, non_scraped_bytes=300 * SECTOR),
    )
    assert (forecast.reads, forecast.seconds) == (300, 60.0)
    assert (forecast.tried, forecast.won) == (100, 7)


def test_a_retry_pass_asks_for_each_bad_sector_once():
    forecast = after(
        progress_at(0, Phase.RETRYING, reads=0, bad_bytes=100 * SECTOR),
        progress_at(10, Phase.RETRYING, reads=20, errors=18, bad_bytes=98 * SECTOR),
    )
    assert (forecast.reads, forecast.seconds, forecast.won) == (80, 40.0, 2)


def test_the_next_retry_pass_is_counted_anew():
    forecast = after(
        progress_at(0, Phase.RETRYING, reads=0, bad_bytes=10 * SECTOR),
        progress_at(20, Phase.RETRYING, reads=10, errors=10, pass_number=2, bad_bytes=10 * SECTOR),
    )
    assert (forecast.reads, forecast.seconds, forecast.tried) == (10, 20.0, 10)


def test_a_finished_rescue_has_nothing_left():
    forecast = after(progress_at(0, Phase.FINISHED, bad_bytes=MIB))
    assert (forecast.seconds, forecast.later_reads) == (0.0, 0)
