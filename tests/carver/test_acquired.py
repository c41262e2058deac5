"""How the image came about, in a case's reports."""

from __future__ import annotations

import json
import logging

import pytest

from carver.acquired import acquisition_of, acquisition_rows
from carver.report.as_html import render
from imaging.acquisition_record import AcquisitionRecord, Result, Session, load, save
from imaging.image import open_image
from tests.carver.recoveries import HOSTILE, example
from tests.command import good
from tests.report_schema import load_checked

RESULT = Result(
    at="2026-11-22T10:00:00+00:00",
    finished=True,
    image_bytes=4096,
    rescued_bytes=3584,
    unread_bytes=512,
    unread_ranges=((0, 512, "-"),),
    unread_range_count=1,
    fill="zeros",
    map_sha256="0" * 64,
    digests={"sha256": "1" * 64},
)
RECORD = AcquisitionRecord(
    case={"examiner": HOSTILE},
    drive={"model": "<b>ACME</b>", "serial": "S1"},
    sessions=(Session(started="2026-11-22T09:00:00+00:00", outcome="finished", tool="carver", version="1"),),
    result=RESULT,
)


@pytest.fixture
def image(tmp_path):
    (tmp_path / "disk.img").write_bytes(bytes(4096))
    (tmp_path / "disk.img.map").write_text("0 +\n0 0x200 -\n0x200 0xE00 +\n")
    return open_image(tmp_path / "disk.img")


def test_the_record_beside_the_image_goes_into_the_case_without_its_ranges(image, tmp_path):
    save(tmp_path / "disk.img.acquisition.json", RECORD)
    kept = json.loads(json.dumps(acquisition_of(image)))
    assert kept["drive"]["serial"] == "S1" and "unread_ranges" not in kept["result"]
    sections = acquisition_rows({"acquisition": kept})
    assert set(sections) == {"Drive", "Image", "Session 1", "Result"}, "the case stands in the report's head"
    assert ("Drive", "Serial number", "S1") in sections["Drive"]


def test_there_is_none_without_a_record(image):
    assert acquisition_of(image) is None
    assert acquisition_rows({"acquisition": None}) == acquisition_rows({}) == {}


def test_a_record_that_cannot_be_read_is_told_and_left_out(image, tmp_path, caplog):
    (tmp_path / "disk.img.acquisition.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert acquisition_of(image) is None
        assert acquisition_rows({"acquisition": {"schema_version": 99}}) == {}
    assert "the report goes without it" in caplog.text and "of another version" in caplog.text


def test_the_page_shows_the_record_with_nothing_hostile_in_it(image, tmp_path):
    save(tmp_path / "disk.img.acquisition.json", RECORD)
    page = "".join(render(example(run={"acquisition": acquisition_of(image), "host": "lab"})))
    assert "How the drive was imaged" in page and "1" * 64 in page and "&lt;b&gt;ACME" in page
    assert "<b>ACME" not in page and HOSTILE not in page
    assert "How the drive was imaged" not in "".join(render(example()))


def test_a_rescue_ends_with_its_record_in_the_reports(demo_case):
    report = load_checked(demo_case)
    record = load(demo_case / "image.raw.acquisition.json")
    assert record is not None and record.result is not None
    assert report["run"]["acquisition"]["result"]["digests"] == record.result.digests
    assert record.result.digests["sha256"] in (demo_case / "report.html").read_text()


def test_a_case_carved_from_an_image_alone_has_none(small_image, tmp_path):
    good("carve", small_image, "--out", tmp_path / "CASE")
    assert load_checked(tmp_path / "CASE")["run"]["acquisition"] is None
