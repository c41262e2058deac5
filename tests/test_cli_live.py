"""The live screen of imaging, as a user sees it on a terminal; and what a log file gets instead."""

from __future__ import annotations

import re

import pytest

from fixtures.failing_drive import damage_of, hanging_drive, missing_for_failing_drive, write_contents
from tests.command import carver, good, need
from tests.processes import wait_until_nobody_reads
from tests.terminal import CTRL_C, Screen, show

MIB = 1 << 20
LINES = ("", "", "now ", "remaining: ", "at 0x", "bad ")  # behind the bar and the phase

HEX = re.compile(r"[0-9a-f]{12}  ([0-9a-f]{2} ){16} .{1,16}$")


def image(drive, image_path, *words):
    return ("image", *words, "-H", drive / "damage.map", drive / "drive.img", image_path)


def test_a_terminal_shows_phase_rates_place_and_damage_in_place(demo_drive, tmp_path):
    code, seen = show(*image(demo_drive, tmp_path / "o.img", "--pause-on-error=0.01"))
    assert code == 0, seen[-1]
    whole = [text.splitlines() for text in seen if "% read" in text and "\nbad " in text]
    assert whole, seen[-1]
    for rows in whole:
        assert "% read" in rows[0] and ("(phase " in rows[1] or rows[1] == "finished"), rows
        assert [row[: len(line)] for row, line in zip(rows, LINES, strict=False)] == list(LINES), rows
    assert any("scraping (phase 3 of 4): trying bad areas sector by sector" in rows[1] for rows in whole)
    assert any("last error at 0x" in rows[4] for rows in whole)
    last = seen[-1]
    assert sum("% read" in row for row in last.splitlines()) == 1, "the bar stays, the lines below it do not"
    assert "(phase " not in last
    assert "Not read: 133.5 KiB in 4 bad areas" in " ".join(last.split())


def test_advice_is_given_on_the_screen_and_ctrl_c_keeps_it_tidy(demo_drive, tmp_path):
    code, seen = show(
        *image(demo_drive, tmp_path / "o.img", "--pause-on-error=0.5"),
        keys=[(lambda text: "carver carve" in text and "at the present rate" in " ".join(text.split()), CTRL_C)],
    )
    assert code == 130, seen[-1]
    assert any("Scraping the rest needs up to" in text for text in seen)
    rows = seen[-1].splitlines()
    assert "carver: stopping: saving what is done (once more to stop at once)" in rows
    assert not [row for row in rows if "at the present rate" in row or row.startswith("bad ")], "nothing is left over"
    assert "the same command goes on from here" in " ".join(seen[-1].split())


def test_a_preview_shows_the_data_read_last(demo_drive, tmp_path):
    code, seen = show(*image(demo_drive, tmp_path / "o.img", "-P2", "--pause-on-error=0.01"))
    assert code == 0
    dumps = [[row for row in text.splitlines() if HEX.match(row)] for text in seen]
    assert max(map(len, dumps)) == 2


def test_a_small_terminal_gets_the_bar_alone(demo_drive, tmp_path):
    code, seen = show(*image(demo_drive, tmp_path / "o.img", "--pause-on-error=0.01"), rows=6, columns=60)
    assert code == 0
    assert any("% read" in text for text in seen)
    assert not any("(phase " in text for text in seen)


def test_a_terminal_that_tells_no_size_gets_a_line_for_each_phase_and_bars_of_the_usual_width(demo_drive, tmp_path):
    code, seen = show(*image(demo_drive, tmp_path / "o.img"), columns=0, rows=0)
    assert code == 0
    for phase in ("copying (phase 1", "trimming (phase 2", "scraping (phase 3", "finished"):
        assert sum(row.startswith(phase) for row in seen[-1].splitlines()) == 1, seen[-1]
    code, seen = show("carve", demo_drive / "drive.img", "--out", tmp_path / "CASE", columns=0, rows=0)
    assert code == 0
    assert any("scanning for files:" in text and "%|" in text for text in seen)


def test_quiet_leaves_out_bars_and_lines_but_tells_how_it_ended(demo_drive, tmp_path):
    code, seen = show(*image(demo_drive, tmp_path / "o.img", "-q"))
    assert code == 0
    assert not any("% read" in text or "(phase " in text for text in seen)
    told = " ".join(seen[-1].split())
    assert "Not read: 133.5 KiB in 4 bad areas" in told
    assert "Next: the same command with -r 3" in told


@pytest.mark.root
def test_a_drive_that_hangs_is_told_of_and_ctrl_c_is_answered(tmp_path):
    need(missing_for_failing_drive())
    write_contents(tmp_path / "contents", 5, 4 * MIB)
    hang = (2 * MIB, 512)
    with hanging_drive(
        tmp_path / "bench", tmp_path / "contents", damage_of(4 * MIB, []), [hang], parallel=False
    ) as drive:
        try:
            code, seen = show(
                *("image", "--read-timeout", "4", drive.device, tmp_path / "o.img"),
                keys=[(lambda text: "the drive hangs since" in text, CTRL_C)],
            )
        finally:
            drive.release()
        wait_until_nobody_reads(drive.device)
    assert code == 130, seen[-1]
    assert any(re.search(r"the drive has not answered for [2-9] s \(Ctrl-C is safe\)", text) for text in seen)
    assert any("its place is left for last" in " ".join(text.split()) for text in seen)
    assert "the same command goes on from here" in " ".join(seen[-1].split())


def test_elsewhere_each_phase_is_a_line(demo_drive, tmp_path):
    done = good(*image(demo_drive, tmp_path / "o.img"))
    rows = done.err.splitlines()
    for phase in ("copying (phase 1", "trimming (phase 2", "scraping (phase 3", "finished"):
        assert sum(row.startswith(phase) for row in rows) == 1, done.err
    assert "\r" not in done.err and "\x1b" not in done.err


def test_a_question_is_asked_before_anything_is_read(demo_drive, tmp_path):
    code, seen = show(
        *image(demo_drive, tmp_path / "o.img", "--ask"), keys=[(lambda text: "Start? (y/n)" in text, b"y\n")]
    )
    assert code == 0
    assert f"to:   {tmp_path / 'o.img'}"[:90] in "".join(seen[-1].splitlines())
    unasked = carver(*image(demo_drive, tmp_path / "p.img", "--ask"))
    assert unasked.code == 130 and "not started" in unasked.complaint
    assert not (tmp_path / "p.img").exists()


def test_the_screen_of_these_tests_knows_what_it_is_told():
    screen = Screen(4)
    screen.feed("abcdef\r\ngh\x1b[A\rX\x1b[K\n\n12345\x1b")
    assert screen.text == "abcd\nX\ngh\n1234\n5"
    screen.feed("[A\r\x1b[J#")
    assert screen.text == "abcd\nX\ngh\n#"
