"""What imaging says where there is no terminal: a line now and then, and what matters once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

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


def test_a_drive_that_does_not_answer_is_told_of_once_until_it_answers_again(told):
    answers = progress_at(1, Phase.COPYING, non_tried_bytes=1 << 20)
    waits = [replace(answers, waiting_seconds=seconds) for seconds in (1.0, 3.0, 9.0)]
    lines = told(answers, *waits, answers, *waits)
    assert [line for line in lines if "not answered" in line] == [
        "the drive has not answered for 3 s (Ctrl-C is safe)"
    ] * 2


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
    with Showing(ROAD, forecaster, quiet=False) as showing:
        assert isinstance(showing._live, Terminal)
