"""`carver map --picture`: a map drawn, also one that is being written."""

from __future__ import annotations

import json
import subprocess
import time
from xml.etree import ElementTree

from tests.command import COMMAND, carver, good

MAP = "0 ?\n0 0x100000 +\n0x100000 0x200 -\n0x100200 0xFFE00 ?\n"


def test_a_map_is_drawn_as_svg_or_as_a_page(tmp_path):
    (tmp_path / "m").write_text(MAP)
    told = good("map", "--picture", tmp_path / "m.svg", tmp_path / "m")
    assert "any browser shows it" in told.err
    assert "bad sector: 512 B" in (tmp_path / "m.svg").read_text()
    assert ElementTree.parse(tmp_path / "m.svg").getroot().tag.endswith("svg")
    made = json.loads(good("map", "--json", "--picture", tmp_path / "m.html", tmp_path / "m").out)
    assert made == {"picture": str(tmp_path / "m.html")}
    assert (tmp_path / "m.html").read_text().startswith("<!DOCTYPE html>")
    assert good("map", "--picture", "-", tmp_path / "m").out == (tmp_path / "m.svg").read_text()


def test_a_picture_is_never_written_over(tmp_path):
    (tmp_path / "m").write_text(MAP)
    (tmp_path / "m.svg").write_text("mine")
    refused = carver("map", "--picture", tmp_path / "m.svg", tmp_path / "m")
    assert refused.code == 4 and "nothing is ever written over" in refused.complaint
    assert (tmp_path / "m.svg").read_text() == "mine"


def test_a_map_that_is_being_written_is_drawn(demo_drive, tmp_path):
    image = tmp_path / "o.img"
    command = ["image", "-r", "-1", "-H", demo_drive / "damage.map", demo_drive / "drive.img", image]
    with subprocess.Popen([*COMMAND, *map(str, command)], stderr=subprocess.DEVNULL) as child:
        journal, until = tmp_path / "o.img.map.journal", time.monotonic() + 60
        while not (journal.is_file() and journal.stat().st_size):
            assert child.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        good("map", "--picture", tmp_path / "m.svg", tmp_path / "o.img.map")
        assert child.poll() is None
        child.terminate()
    assert "bad sector: " in (tmp_path / "m.svg").read_text()
