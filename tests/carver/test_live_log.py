"""What imaging says where there is no terminal: a line now and then, and what matters once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from carver.cli import screen
from carver.cli.imaging_words import Road
from carver.cli.live import Log, Showing, Silent, Terminal
from imaging.rescue.forecast import Forecaster
from imaging.rescue.options import RescueOptions
from imaging.rescue.plan import Phase
from tests.imaging.test_forecast import SECTOR, progress_at

ROAD = Road(image=Path("o.img"), map=Path("o.img.map"), options=RescueOptions())


@pytest.fixture
def told(capsys):
    """Show steps to a log, and return the lines that it says."""

    def show(*steps):
        log = Log(ROAD, Forecaster(sector_bytes=SECTOR))
        for step in steps:
            log.show(step)
        log.close()
        return capsys.readouterr().err.splitlines()

    return show


def test_a_line_is_said_at_each_change_of_phase_and_each_minute(told):
    copying = [progress_at(second, Phase.COPYING, non_tried_bytes=1 << 20) for second in range(0, 150, 5)]
    lines = told(*copying, progress_at(150, Phase.TRIMMING), progress_at(151, Phase.FINISHED))
    assert [line.split()[0].strip(";") for line in lines] == ["copying"] * 3 + ["trimming", "finished"]


def waiting(second, waited, **state):
    answers = progress_at(second, Phase.COPYING, non_tried_bytes=1 << 20)
    return replace(answers, waiting_seconds=waited, position_bytes=0x5000, **state)


def troubles(lines):
    return [line for line in lines if line.startswith("after ")]


def test_a_drive_that_answers_late_again_and_again_is_told_of_once_a_minute_with_the_place(told):
    steps = [waiting(second, waited) for second in range(1, 120, 10) for waited in (0.0, 1.0, 3.0, 9.0)]
    assert troubles(told(*steps)) == [
        "after 1 s, at 0x5000: the drive has not answered for 3 s (Ctrl-C is safe)",
        "after 1 min 1 s, at 0x5000: the drive has not answered for 3 s (Ctrl-C is safe)",
    ]


def test_a_wait_that_becomes_a_hang_is_told_of_at_once(told):
    waits, hangs = troubles(told(waiting(3, 3.0), waiting(9, 9.0, hung=True), waiting(10, 10.0, hung=True)))
    assert "has not answered for 3 s" in waits
    assert hangs.startswith("after 9 s, at 0x5000: the drive hangs since 9 s")


def test_the_last_line_tells_the_rate_of_the_whole_run_and_its_time(told):
    ended = replace(progress_at(75, Phase.FINISHED), rate_bytes=0.0, average_rate_bytes=2.0 * (1 << 20))
    (line,) = told(ended)
    assert line.endswith("average 2.0 MiB/s, took 1 min 15 s")


def test_advice_is_given_once_a_phase_and_not_before_there_is_a_rate_to_go_by(told):
    steps = [
        progress_at(
            second, Phase.SCRAPING, reads=second * 4, errors=second * 4, non_scraped_bytes=SECTOR * (9999 - second * 4)
        )
        for second in range(0, 50, 2)
    ]
    advised = [line for line in told(*steps) if "carver carve" in line]
    assert len(advised) == 1
    assert "likely to win few sectors (0 of 56 reads so far)" in advised[0]


def test_the_view_is_chosen_by_where_it_is_shown(monkeypatch):
    forecaster = Forecaster(sector_bytes=SECTOR)
    assert isinstance(Showing(ROAD, forecaster, quiet=True)._live, Silent)
    assert isinstance(Showing(ROAD, forecaster, quiet=False)._live, Log)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(screen, "terminal_size", lambda: None)
    assert isinstance(Showing(ROAD, forecaster, quiet=False)._live, Log), "it does not say how large it is"
    monkeypatch.setattr(screen, "terminal_size", lambda: (80, 24))
    with Showing(ROAD, forecaster, quiet=False) as showing:
        assert isinstance(showing._live, Terminal)
