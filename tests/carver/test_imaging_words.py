"""Imaging in words: the lines of the screen, the advice, and the sentences at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from carver.cli import imaging_words as words
from carver.cli.durations import duration, roughly
from carver.cli.imaging_words import Road
from imaging.extent import span
from imaging.rescue.forecast import Forecast
from imaging.rescue.options import RescueOptions
from imaging.rescue.plan import Phase
from imaging.rescue.progress import Progress, RescueSummary, Totals

MIB = 1 << 20
ROAD = Road(image=Path("my disk.img"), map=Path("my disk.img.map"), options=RescueOptions())


def totals(rescued: int = 0, *, size: int = 1000 * MIB, **others: int) -> Totals:
    zeros = ("non_tried_bytes", "non_trimmed_bytes", "non_scraped_bytes", "bad_bytes", "bad_areas")
    return Totals(size_bytes=size, rescued_bytes=rescued, **{**dict.fromkeys(zeros, 0), **others})


def progress(phase: Phase = Phase.COPYING, **others: object) -> Progress:
    plain = Progress(
        phase=phase,
        pass_number=1,
        position_bytes=0x1F000,
        totals=totals(999 * MIB),
        reads=0,
        read_errors=0,
        rate_bytes=1.5 * MIB,
        average_rate_bytes=2.0 * MIB,
        seconds=75,
        since_success_seconds=0,
        last_error_bytes=None,
    )
    return replace(plain, **others)


def forecast(phase: Phase = Phase.SCRAPING, **others: object) -> Forecast:
    plain = Forecast(
        phase=phase, seconds=11_500.0, reads=8206, later_bytes=0, later_reads=0, later_seconds=0.0, tried=1200, won=7
    )
    return replace(plain, **others)


def summary(held: Totals, **others: object) -> RescueSummary:
    plain = RescueSummary(
        finished=True,
        totals=held,
        rescued_bytes=held.rescued_bytes,
        reads=1,
        read_errors=0,
        seconds=1.0,
        last_error_bytes=None,
        source_end_bytes=None,
    )
    return replace(plain, **others)


def ended(held: Totals, road: Road = ROAD, **others: object) -> str:
    return " ".join(words.ending(summary(held, **others), road))


@pytest.mark.parametrize(
    ("seconds", "exact", "about"),
    [
        (0, "0 s", "0 s"),
        (59.9, "59 s", "1 min"),
        (61, "1 min 1 s", "1 min 30 s"),
        (3600, "1 h", "1 h"),
        (11_500, "3 h 11 min", "3 h 20 min"),
        (200_000, "2 d 7 h", "2 d 8 h"),
    ],
)
def test_times_are_told_in_their_two_largest_units(seconds, exact, about):
    assert (duration(seconds), roughly(seconds)) == (exact, about)


@pytest.mark.parametrize(("rescued", "said"), [(0, "0.00 %"), (999_999, "99.99 %"), (10**6, "100.00 %")])
def test_what_is_not_whole_is_never_called_so(rescued, said):
    assert words.share(totals(rescued, size=10**6)) == said


def test_nothing_of_nothing_is_all_of_it():
    assert words.share(totals(0, size=0)) == "100.00 %"


def test_a_phase_says_what_it_means_and_which_way_it_goes():
    options = RescueOptions()
    assert words.phase_line(progress(), options) == "copying (phase 1 of 4), pass 1: copying what reads well"
    assert "pass 2 backwards" in words.phase_line(progress(pass_number=2), options)
    assert "pass 1 backwards" in words.phase_line(progress(), RescueOptions(reverse=True))
    assert "scraping (phase 3 of 4): trying bad areas" in words.phase_line(progress(Phase.SCRAPING), options)
    assert words.phase_line(progress(Phase.FINISHED), options) == "finished"


def test_rates_are_those_of_now_and_of_the_whole_run():
    assert words.rate_line(progress()) == "now 1.5 MiB/s, average 2.0 MiB/s, running 1 min 15 s"


def test_a_time_that_is_not_known_is_not_guessed():
    assert words.remaining(forecast(Phase.COPYING, reads=None, seconds=None, later_seconds=None)) == "unknown"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (forecast(), "about 3 h 20 min"),
        (forecast(Phase.RETRYING, seconds=30.0), "about 30 s for this pass"),
        (
            forecast(Phase.COPYING, later_reads=8216, later_seconds=None),
            "about 3 h 20 min, then up to 8,216 reads in bad areas",
        ),
        (
            forecast(Phase.TRIMMING, seconds=10.0, later_reads=60, later_seconds=60.0),
            "about 10 s, then up to 60 reads in bad areas (1 min)",
        ),
        (forecast(Phase.TRIMMING, seconds=9.0, later_bytes=MIB), "about 9 s, then 1.0 MiB that were left for later"),
        (forecast(Phase.FINISHED, seconds=0.0), "nothing"),
    ],
)
def test_the_remaining_time_says_what_it_is_of(made, said):
    assert words.remaining(made) == said


def test_the_place_tells_the_last_error_and_how_long_nothing_came():
    assert words.place_line(progress()) == "at 0x1f000 (124.0 KiB)"
    line = words.place_line(progress(since_success_seconds=42.0, last_error_bytes=0x1E00))
    assert line == "at 0x1f000 (124.0 KiB), nothing read for 42 s; last error at 0x1e00"


def test_damage_is_told_by_what_is_known_of_it():
    held = totals(0, bad_bytes=1024, bad_areas=2, non_trimmed_bytes=2048, non_scraped_bytes=4096)
    line = words.damage_line(progress(totals=held, read_errors=1234, slow_reads=5, hangs=1))
    assert line == (
        "bad 1.0 KiB in 2 areas, not trimmed 2.0 KiB, not scraped 4.0 KiB, read errors 1,234, slow reads 5, hangs 1"
    )


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"waiting_seconds": 1.0}, None),
        ({"waiting_seconds": 5.0}, "has not answered for 5 s (Ctrl-C is safe)"),
        ({"waiting_seconds": 99.0, "hung": True}, "hangs since 99 s"),
        ({"waiting_seconds": 7.0, "gone": True}, "has vanished: waiting for it to come back, 7 s"),
    ],
)
def test_a_drive_that_does_not_answer_is_told(state, said):
    told = words.trouble(progress(**state))
    assert told is None if said is None else said in (told or "")


def test_advice_weighs_what_is_left_against_what_it_takes():
    held = totals(998 * MIB, size=1000 * MIB, bad_bytes=MIB, non_scraped_bytes=MIB)
    text = words.advice(progress(Phase.SCRAPING, totals=held), forecast(), ROAD)
    assert text == (
        "99.80 % is read. Scraping the rest needs up to 8,206 more reads, about 3 h 20 min at the present rate, and is "
        "likely to win few sectors (7 of 1,200 reads so far). You can carve now, in another terminal, while this goes "
        "on: `carver carve 'my disk.img' --out DIR`; or stop with Ctrl-C: the same command goes on later"
    )


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (forecast(won=300), "still wins sectors (300 of 1,200 reads so far)"),
        (forecast(tried=10, won=0), "how many sectors it will win is not known yet"),
        (forecast(seconds=None), "8,206 more reads and is likely"),
        (forecast(Phase.RETRYING), "This retry pass needs up to 8,206 more reads, about 3 h 20 min"),
        (forecast(Phase.TRIMMING, later_reads=100, later_seconds=500.0), "The rest needs up to 8,306 more reads"),
    ],
)
def test_advice_says_only_what_is_known(made, said):
    assert said in (words.advice(progress(made.phase), made, ROAD) or "")


@pytest.mark.parametrize(
    "made",
    [
        forecast(Phase.COPYING, reads=None, later_reads=9999, later_seconds=None),
        forecast(seconds=59.0),
        forecast(Phase.TRIMMING, later_bytes=512, later_seconds=None),
        forecast(seconds=None, reads=999),
        forecast(reads=0, seconds=0.0),
        forecast(Phase.FINISHED, reads=0, seconds=0.0),
    ],
)
def test_there_is_no_advice_while_good_parts_are_left_or_little_is(made):
    assert words.advice(progress(made.phase), made, ROAD) is None


def test_advice_names_a_map_that_does_not_lie_beside_its_image():
    road = Road(image=Path("a"), map=Path("b"), options=RescueOptions())
    assert "`carver carve a b --out DIR`" in (words.advice(progress(Phase.SCRAPING), forecast(), road) or "")


def test_a_line_for_a_log_holds_it_all():
    line = words.log_line(progress(), forecast(Phase.COPYING, reads=None), RescueOptions())
    assert line == (
        "copying (phase 1 of 4), pass 1: copying what reads well; 99.90 % read (999.0 MiB of 1,000.0 MiB), 1.5 MiB/s; "
        "remaining: about 3 h 20 min"
    )
    assert "read errors 3" in words.log_line(progress(read_errors=3), forecast(), RescueOptions())


def test_a_whole_image_is_told_and_what_to_do_with_it():
    text = ended(totals(1000 * MIB))
    assert text.startswith("All 1,000.0 MiB were read into my disk.img.")
    assert text.endswith("Next: `carver carve 'my disk.img' --out DIR` brings back the model files in it.")


def test_carving_is_not_proposed_where_it_follows_by_itself():
    assert "Next" not in ended(totals(1000 * MIB), replace(ROAD, carves=True))


@pytest.mark.parametrize(
    ("held", "asked", "said"),
    [
        ({"bad_bytes": MIB, "bad_areas": 3}, {}, "1.0 MiB in 3 bad areas, whose sectors failed one by one"),
        ({"bad_bytes": MIB, "bad_areas": 1}, {}, "with -r 3, then with -R -r 3 (from the other side)"),
        ({"bad_bytes": MIB, "bad_areas": 1}, {"reverse": True}, "with -r 3 tries the bad sectors again"),
        ({"bad_bytes": MIB, "bad_areas": 1}, {"retry_passes": 3}, "Next: the same command with -R -r 3 tries"),
        ({"non_scraped_bytes": MIB}, {"no_scrape": True}, "1.0 MiB not scraped, as -n asks"),
        ({"non_scraped_bytes": MIB}, {"no_scrape": True}, "without -n scrapes what is left"),
        ({"non_scraped_bytes": MIB}, {}, "1.0 MiB not scraped: the drive hung there"),
        ({"non_trimmed_bytes": MIB}, {"no_trim": True}, "1.0 MiB not trimmed, as -N asks"),
        ({"non_trimmed_bytes": MIB}, {"no_trim": True}, "without -N trims and scrapes"),
        ({"non_trimmed_bytes": MIB}, {}, "1.0 MiB not trimmed"),
        ({"non_tried_bytes": MIB}, {"copying_passes": frozenset({1})}, "passes that --cpass leaves out"),
        ({"non_tried_bytes": MIB}, {"copying_passes": frozenset()}, "without --cpass copies what is left"),
        ({"non_tried_bytes": MIB}, {}, "left for the next run"),
    ],
)
def test_what_was_not_read_is_told_with_its_reason_and_what_to_run_next(held, asked, said):
    road = replace(ROAD, options=RescueOptions(**asked))
    text = ended(totals(999 * MIB, **held), road)
    assert said in text
    assert "999.0 MiB of 1,000.0 MiB (99.90 %) were read into my disk.img. Not read: 1.0 MiB" in text


def test_after_retries_from_both_sides_the_same_is_proposed_only_while_it_wins():
    road = replace(ROAD, options=RescueOptions(retry_passes=3, reverse=True))
    held = totals(999 * MIB, bad_bytes=MIB, bad_areas=1)
    assert "tries the bad sectors again (this run won 512 bytes)" in ended(held, road, rescued_bytes=512)
    told = ended(held, road, rescued_bytes=0)
    assert "another cable or adapter" in told
    assert "the same command" not in told
    assert "carver carve" in told


def test_what_was_not_asked_for_is_told_apart():
    whole, asked = totals(20 * MIB, non_tried_bytes=980 * MIB), totals(20 * MIB, size=20 * MIB)
    text = ended(whole, asked=asked)
    assert "All 20.0 MiB were read into my disk.img. The other 980.0 MiB of the drive were not asked for." in text
    part = totals(19 * MIB, size=20 * MIB, bad_bytes=MIB, bad_areas=1)
    assert "19.0 MiB of 20.0 MiB (95.00 %) were read" in ended(whole, asked=part)


def test_an_empty_range_is_not_called_read():
    assert ended(totals(0), asked=totals(0, size=0)) == "Nothing was read: the part that was asked for is empty."


def test_a_source_that_ended_early_is_told():
    text = ended(totals(999 * MIB, non_tried_bytes=MIB), source_end_bytes=999 * MIB)
    assert "ended at 0x3e700000, before the size that it claims" in text and "behind the drive's end" in text


def test_a_run_that_a_limit_ended_says_which_and_how_to_go_on():
    text = ended(totals(9 * MIB), finished=False, limit="more than 5 reads failed (-X)")
    assert "Ended by the limit that was set: more than 5 reads failed (-X)." in text
    assert "are read so far into my disk.img." in text
    assert "the same command without that limit goes on" in text


def test_a_run_that_was_interrupted_tells_how_far_it_came_and_leaves_going_on_to_the_complaint():
    so_far = "9.0 MiB of 1,000.0 MiB (0.90 %) are read so far into my disk.img."
    carve = " `carver carve 'my disk.img' --out DIR` works on what is read so far."
    assert ended(totals(9 * MIB), finished=False) == so_far + carve
    assert ended(totals(9 * MIB), replace(ROAD, carves=True), finished=False) == so_far


def test_hangs_returns_and_blank_answers_are_told():
    text = ended(
        totals(1000 * MIB),
        hung=(span(0, 512), span(512, 1024)),
        returned_as=("/dev/sdz",),
        blank_alarm=True,
        blank_after_errors_bytes=MIB,
    )
    assert "hung at 2 places" in text and "came back as /dev/sdz" in text
    assert "warning: 1.0 MiB after errors read as one repeated sector" in text
    assert "hung at 1 place;" in ended(totals(1000 * MIB), hung=(span(0, 512),))
