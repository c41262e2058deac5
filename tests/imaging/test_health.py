"""What a drive says of itself: ATA, NVMe, a bridge that says nothing, and a smartctl that does not behave."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from imaging import block_stack, programs
from imaging.failure_rates import FAILURES_A_YEAR, attribute_risk
from imaging.health import EXIT_BITS, ask_smartctl, describe_health, parse_health, read_health
from tests.imaging.fake_smartctl import FakeSmartctl, ata, attribute, nvme, refusing_bridge


@pytest.fixture
def smartctl(tmp_path, monkeypatch):
    return FakeSmartctl(tmp_path, monkeypatch)


def test_an_ata_disk_is_read_whole(smartctl):
    smartctl.answers(ata(), status=64)
    health = read_health("/dev/sdb")
    assert smartctl.asked() == [["--json", "-x", "/dev/sdb"]]
    assert (health.model, health.serial, health.firmware) == ("ST2000DM008-2FR102", "ZFL0ABCD", "0001")
    assert (health.protocol, health.capacity_bytes) == ("ATA", 2000398934016)
    assert (health.temperature_celsius, health.power_on_hours, health.passed) == (34, 23456, True)
    assert health.attributes == {5: 0, 187: 0, 188: 1, 197: 0, 198: 0}  # Seagate packs three counters in 188
    assert health.erc_deciseconds == (0, 0)
    assert health.problems == (EXIT_BITS[6],)
    assert health.available
    assert (health.risk.band, health.note) == ("low", "")


def test_of_a_partition_its_disk_is_asked(smartctl, monkeypatch):
    monkeypatch.setattr(block_stack, "number_of", lambda path: "8:17")
    monkeypatch.setattr(block_stack, "parent_disk_of", lambda number: {"8:17": "8:16"}[number])
    monkeypatch.setattr(block_stack, "name_of", lambda number: {"8:16": "/dev/sdb"}[number])
    read_health("/dev/disk/by-id/x-part1")
    assert smartctl.asked() == [["--json", "-x", "/dev/sdb"]]


def test_a_name_like_an_option_is_none(smartctl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    read_health("-d")
    assert smartctl.asked() == [["--json", "-x", f"{tmp_path}/-d"]]


def test_an_nvme_drive_is_read_whole(smartctl):
    smartctl.answers(nvme())
    health = read_health("/dev/nvme0n1")
    assert (health.protocol, health.serial, health.temperature_celsius) == ("NVMe", "S5GXNX0R123456", 41)
    assert (health.critical_warning, health.media_errors) == (0, 0)
    assert (health.available_spare_percent, health.percentage_used) == (100, 3)
    assert health.available
    assert (health.risk.band, health.risk.failures_a_year_percent) == ("low", None)
    assert health.erc_deciseconds is None


def test_a_bridge_that_refuses_is_a_normal_answer(smartctl):
    smartctl.answers(refusing_bridge(), status=1)
    health = read_health("/dev/sdc")
    assert not health.available
    assert (health.risk, health.problems) == (None, ())
    assert describe_health(health) == ("SMART: not told (/dev/sdc: Unknown USB bridge [0x152d:0x0578 (0x100)])",)


def test_a_drive_without_smart_that_says_nothing_is_told_so():
    assert "tells nothing" in parse_health({"smartctl": {"exit_status": 4}}).note


def test_without_smartctl_there_is_an_answer_too(monkeypatch):
    monkeypatch.setattr(programs, "SYSTEM_FOLDERS", ())
    monkeypatch.setenv("PATH", "")
    assert "smartmontools" in read_health("/dev/sdb").note


def test_a_smartctl_that_cannot_be_started_is_told(tmp_path, monkeypatch, smartctl):
    (smartctl.folder / "smartctl").write_text("#!/no/such/interpreter\n")
    assert "cannot be started" in read_health("/dev/sdb").note


def test_a_smartctl_that_hangs_is_left_after_its_time(smartctl):
    smartctl.answers(ata(), sleep=60)
    assert read_health("/dev/sdb", timeout_seconds=0.3).note == "no answer within 0 s"


def test_a_user_who_stops_does_not_wait_for_smartctl(smartctl):
    smartctl.answers(ata(), sleep=60)
    assert "stopped" in read_health("/dev/sdb", stop=lambda: True).note


@pytest.mark.parametrize("text", ["", "smartctl 5.43", "[" * 100_000, "[]", "7", '{"a":'])
def test_an_answer_that_is_no_json_document_is_told(smartctl, text):
    smartctl.answers({}, text=text, status=2)
    assert ask_smartctl(["-x", "/dev/sdb"]).startswith("smartctl answered no JSON (exit status 2)")


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"smartctl": 3, "ata_smart_attributes": {"table": "x"}},
        {"ata_smart_attributes": {"table": [None, 3, {"id": "5"}, {"id": 5}, {"id": 5, "raw": []}]}},
        {"temperature": {"current": True}, "serial_number": 7, "smart_status": {"passed": "yes"}},
        {"nvme_smart_health_information_log": [], "power_on_time": {"hours": -1}, "model_name": "   "},
        {"smartctl": {"messages": [None, {"string": 3}, "x"]}},
    ],
)
def test_values_of_another_shape_count_as_not_told(document):
    health = parse_health(document)
    assert not health.available
    assert (health.temperature_celsius, health.serial, health.model, health.power_on_hours) == (None, None, None, None)
    assert health.note


@pytest.mark.parametrize(("bit", "words"), EXIT_BITS.items())
def test_each_bit_of_the_exit_status_has_its_words(bit, words):
    assert parse_health(ata(smartctl={"exit_status": 1 << bit})).problems == (words,)
    assert parse_health(ata(smartctl={"exit_status": 1 << bit | 2})).problems == ()


@pytest.mark.parametrize(
    ("number", "value", "percent", "band"),
    [
        (5, 0, 2.5, "low"),
        (5, 3, 2.5, "low"),
        (5, 4, 7.5, "raised"),
        (5, 16, 24.0, "high"),
        (5, 70, 36.0, "high"),
        (5, 100_000, 36.0, "high"),
        (187, 0, 2.8, "low"),
        (187, 1, 34.0, "high"),
        (188, 100, 2.5, "low"),
        (188, 101, 10.0, "raised"),
        (197, 1, 34.0, "high"),
        (197, 2, 68.0, "high"),
        (198, 0, 2.9, "low"),
        (198, 1, 81.0, "high"),
    ],
)
def test_a_raw_value_has_its_published_rate(number, value, percent, band):
    risk = attribute_risk({number: value})
    assert (risk.failures_a_year_percent, risk.band) == (percent, band)
    assert f"attribute {number}" in risk.reason
    assert "Backblaze" in risk.source


def test_the_worst_attribute_decides():
    risk = attribute_risk({5: 20, 197: 8, 198: 0, 9: 10**6})
    assert risk.reason == "sectors pending reallocation (attribute 197): 8"
    assert attribute_risk({9: 5}) is None
    assert set(FAILURES_A_YEAR) == {5, 187, 188, 197, 198}


@pytest.mark.parametrize(
    ("log", "band", "reason"),
    [
        ({"critical_warning": 4}, "high", "its reliability is degraded"),
        ({"critical_warning": 128}, "high", "critical warning 0x80"),
        ({"media_errors": 3}, "high", "media errors: 3"),
        ({"available_spare": 5}, "high", "spare left: 5 %, below 10 %"),
        ({"percentage_used": 104}, "raised", "percentage used: 104 % of its rated life"),
    ],
)
def test_an_nvme_drive_is_judged_by_its_own_log(log, band, reason):
    risk = parse_health(nvme(**log)).risk
    assert (risk.band, risk.reason) == (band, reason)


def test_smartctls_text_is_believed_before_the_packed_number():
    table = {"table": [attribute(5, 51539607560, "8 (Average 12)"), attribute(197, 7, "0x07")]}
    assert parse_health(ata(ata_smart_attributes=table)).attributes == {5: 8, 197: 7}


def test_people_read_the_band_with_its_source_and_no_chance_for_this_drive():
    table = {"table": [attribute(197, 1), attribute(198, 1)]}
    lines = describe_health(parse_health(ata(ata_smart_attributes=table, smart_status={"passed": False})))
    assert lines[0] == "SMART: the drive's own judgement: FAILED, 34 °C, 23456 hours of use"
    assert "uncorrectable sectors (198): 1" in lines
    assert "about 81 % failed within a year" in lines[-1]
    assert "not a chance for this drive" in lines[-1]


def test_people_read_an_nvme_log():
    lines = describe_health(parse_health(nvme(critical_warning=1)))
    assert "critical warning 0x1, media errors 0, spare 100 %, used 3 % of its rated life" in lines
    assert lines[-1].startswith("risk: high: its spare is below the threshold")


@pytest.mark.skipif(programs.find("smartctl") is None, reason="smartctl is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a loop device")
@pytest.mark.root
def test_the_real_smartctl_knows_nothing_of_a_loop_device(tmp_path: Path):
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    made = subprocess.run(["losetup", "-f", "-r", "--show", image], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip("no loop device to be had")
    loop = made.stdout.strip()
    try:
        health = read_health(loop)
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)
    assert not health.available
    assert health.note
