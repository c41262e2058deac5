"""Where the image was and is, and whether it was a drive's at all: as the reports and the terminal tell it."""

from __future__ import annotations

import json
import shutil

import pytest

from carver.report.as_html import render
from carver.whereabouts import State, looked_up, whereabouts
from imaging.acquisition_record import load
from imaging.image import open_image
from tests.carver.recoveries import example
from tests.command import good
from tests.report_schema import load_checked


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "was" / "disk.img"
    path.parent.mkdir()
    path.write_bytes(bytes(4096))
    path.with_name("disk.img.map").write_text("0 +\n0 0x1000 +\n")
    return path


def state(kept, folder):
    return State(looked_up(kept, folder, 4096)["state"])


def test_an_image_outside_the_case_stays_where_it_was_or_is_gone_or_another(image, tmp_path):
    case = tmp_path / "case"
    kept = json.loads(json.dumps(whereabouts(open_image(image), case)))
    assert (kept["image"], kept["map"]) == (str(image), f"{image}.map")
    assert state(kept, case) is state(kept, tmp_path / "moved") is State.THERE
    image.write_bytes(bytes(4095))
    assert state(kept, case) is State.CHANGED
    image.unlink()
    assert state(kept, case) is State.GONE
    image.mkdir()
    assert state(kept, case) is State.CHANGED


def test_an_image_in_a_folder_that_may_not_be_looked_into_is_neither_there_nor_gone(image, tmp_path, monkeypatch):
    kept = whereabouts(open_image(image), tmp_path / "case")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.stat", refuse)
    assert state(kept, tmp_path / "case") is State.HIDDEN


def test_an_image_inside_the_case_moves_with_it(image, tmp_path):
    kept = whereabouts(open_image(image), image.parent)
    image.parent.rename(tmp_path / "is")
    found = looked_up(kept, tmp_path / "is", 4096)
    assert (found["state"], found["image_now"]) == ("moved with the case", str(tmp_path / "is" / "disk.img"))
    assert (found["case_folder"], found["case_folder_now"]) == (str(image.parent), str(tmp_path / "is"))


def test_a_device_is_not_looked_at_again(image, tmp_path):
    kept = {**whereabouts(open_image(image), tmp_path), "is_device": True}
    image.unlink()
    assert state(kept, tmp_path) is State.DEVICE


@pytest.mark.parametrize("found", State)
def test_the_page_says_what_became_of_the_image(found):
    where = {
        "image": "/was/<b>",
        "image_now": "/is/<b>",
        "state": found.value,
        "case_folder": "/was",
        "case_folder_now": "/is",
    }
    run = {**example().run, "whereabouts": where}
    page = "".join(render(example(run=run)))
    assert "&lt;b&gt;" in page and "/was/<b>" not in page
    assert "The case folder was /was then and is /is now" in page
    assert ("not there any more" in page) == (found is State.GONE)
    assert ("another length" in page) == (found is State.CHANGED)
    assert "<dt>Image</dt>" not in "".join(render(example()))


def test_a_report_written_anew_says_that_the_image_is_gone(small_image, tmp_path):
    image, case = tmp_path / "disk.img", tmp_path / "CASE"
    shutil.copy(small_image, image)
    good("carve", image, "--out", case)
    assert load_checked(case)["run"]["whereabouts"]["state"] == "there"
    image.unlink()
    done = good("report", case)
    assert f"The image: {image} when it was carved; not there any more" in done.err
    assert "`carver carve IMAGE MAPFILE" in done.err, "no command names what is not there"
    assert "not there any more when this report was written" in (case / "report.html").read_text()


def test_a_report_of_simulated_damage_says_so_in_front(demo_case, demo_drive):
    record = load(demo_case / "image.raw.acquisition.json")
    assert record is not None and record.sessions[0].options == {"test_mode": str(demo_drive / "damage.map")}
    assert load_checked(demo_case)["run"]["test_mode"] == str(demo_drive / "damage.map")
    page = (demo_case / "report.html").read_text()
    assert "<h1>Recovery report (test mode)</h1>" in page and "TEST MODE: no drive failed." in page
    assert page.index("TEST MODE") < page.index("<h2>")


def test_an_image_of_test_mode_is_known_as_such_when_it_is_carved_by_itself(demo_drive, tmp_path):
    image, case = tmp_path / "o.img", tmp_path / "CASE"
    good("image", "--no-hash", "-H", demo_drive / "damage.map", demo_drive / "drive.img", image)
    done = good("carve", image, "--out", case, "--formats", "safetensors")
    assert "TEST MODE: no drive failed." in done.err
    assert "TEST MODE" in (case / "report.html").read_text()


def test_a_drive_that_was_read_is_no_test():
    page = "".join(render(example()))
    assert "TEST MODE" not in page and "test mode" not in page
