"""Settings changed for a rescue, and put back whatever happens: on a machine in a folder, and on a loop device."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imaging import block_stack
from imaging.errors import OutputError, UsageError
from imaging.kernel_settings import Roots, WantedSettings, changed, note_path, restore_left_over
from tests.imaging.fake_smartctl import FakeSmartctl, ata


class Machine:
    """One disk, 8:16, with the settings that a kernel has for it."""

    def __init__(self, root: Path, monkeypatch) -> None:
        self.roots = Roots(sys=root / "sys", proc=root / "proc")
        self.disk = root / "sys" / "devices" / "sdb"
        self.note = root / "d.img.map.settings"
        self.device = "/dev/sdb"
        self.told: list[str] = []
        self.write("dev", "8:16")
        self.write("size", "2048")
        self.write("diskseq", "17")
        self.write("device/timeout", "30")
        self.write("device/serial", "ZFL0ABCD")
        self.write("queue/read_ahead_kb", "128")
        link = self.roots.sys / "dev" / "block" / "8:16"
        link.parent.mkdir(parents=True)
        link.symlink_to(self.disk)
        self.boot("one")
        monkeypatch.setattr(block_stack, "number_of", lambda path: "8:16" if path == self.device else None)

    def write(self, place: str, text: str) -> None:
        path = self.disk / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def boot(self, name: str) -> None:
        path = self.roots.proc / "sys" / "kernel" / "random" / "boot_id"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name + "\n")

    def value(self, place: str) -> str:
        return (self.disk / place).read_text().strip()

    def changed(self, **wanted):
        return changed(self.device, WantedSettings(**wanted), note=self.note, tell=self.told.append, roots=self.roots)

    def killed(self, **wanted) -> None:
        """What a run leaves that is killed while its settings are changed."""
        with self.changed(**wanted):
            left = self.note.read_bytes()
            values = {place: self.value(place) for place in ("device/timeout", "queue/read_ahead_kb")}
        self.note.write_bytes(left)
        for place, value in values.items():
            self.write(place, value)

    def restore(self) -> None:
        restore_left_over(self.note, tell=self.told.append, roots=self.roots)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def test_settings_are_changed_inside_and_as_before_outside(machine):
    with machine.changed(command_timeout_seconds=180, readahead_kib=0) as changes:
        assert list(map(str, changes)) == ["command timeout: 30 -> 180", "readahead: 128 -> 0"]
        assert (machine.value("device/timeout"), machine.value("queue/read_ahead_kb")) == ("180", "0")
        assert machine.note.exists()
    assert (machine.value("device/timeout"), machine.value("queue/read_ahead_kb")) == ("30", "128")
    assert not machine.note.exists()
    assert machine.told == []


def test_an_error_inside_puts_them_back_as_well(machine):
    with pytest.raises(KeyError), machine.changed(command_timeout_seconds=180):
        raise KeyError
    assert machine.value("device/timeout") == "30"
    assert not machine.note.exists()


def test_what_is_so_already_is_not_changed_and_not_put_back(machine):
    with machine.changed(command_timeout_seconds=30) as changes:
        assert changes == ()
        machine.write("device/timeout", "60")
    assert machine.value("device/timeout") == "60"


def test_nothing_wished_for_leaves_nothing_behind(machine):
    with machine.changed() as changes:
        assert changes == ()
        assert not machine.note.exists()


def test_the_note_is_there_before_anything_is_changed(machine, monkeypatch):
    def refuse(path, content):
        raise OutputError("no room for the note")

    monkeypatch.setattr("imaging.kernel_settings._write", refuse)
    with pytest.raises(OutputError), machine.changed(command_timeout_seconds=180):
        pass
    assert machine.value("device/timeout") == "30"


def test_the_next_start_puts_back_what_a_killed_run_left(machine):
    machine.killed(command_timeout_seconds=180, readahead_kib=0)
    assert machine.value("device/timeout") == "180"
    with machine.changed():
        assert (machine.value("device/timeout"), machine.value("queue/read_ahead_kb")) == ("30", "128")
        assert not machine.note.exists()


def test_the_next_start_changes_from_the_first_value_again(machine):
    machine.killed(command_timeout_seconds=180)
    with machine.changed(command_timeout_seconds=90) as changes:
        assert list(map(str, changes)) == ["command timeout: 30 -> 90"]
    assert machine.value("device/timeout") == "30"


def test_after_a_new_start_of_the_machine_nothing_is_put_back(machine):
    machine.killed(command_timeout_seconds=180)
    machine.boot("two")
    machine.restore()
    assert machine.value("device/timeout") == "180"
    assert not machine.note.exists()


@pytest.mark.parametrize(("place", "text"), [("diskseq", "18"), ("device/serial", "OTHER")])
def test_another_drive_in_its_place_is_left_alone(machine, place, text):
    machine.killed(command_timeout_seconds=180)
    machine.write(place, text)
    machine.restore()
    assert machine.value("device/timeout") == "180"
    assert not machine.note.exists()


def test_a_drive_that_is_gone_needs_no_putting_back(machine):
    machine.killed(command_timeout_seconds=180)
    (machine.roots.sys / "dev" / "block" / "8:16").unlink()
    machine.restore()
    assert not machine.note.exists()


def test_what_someone_else_has_changed_since_is_left(machine):
    machine.killed(command_timeout_seconds=180)
    machine.write("device/timeout", "45")
    machine.restore()
    assert machine.value("device/timeout") == "45"
    assert machine.told == ["command timeout was changed by someone else to 45; it is left so"]


def test_what_the_drive_does_not_have_is_told(machine):
    (machine.disk / "device" / "timeout").unlink()
    with machine.changed(command_timeout_seconds=180, readahead_kib=0) as changes:
        assert list(map(str, changes)) == ["readahead: 128 -> 0"]
    assert any("command timeout cannot be changed" in line for line in machine.told)


def test_a_file_that_refuses_is_told_and_the_note_stays_for_the_next_start(machine, monkeypatch):
    machine.killed(command_timeout_seconds=180)
    monkeypatch.setattr(os, "open", _refusing(os.open, "timeout"))
    machine.restore()
    assert "Permission denied" in machine.told[0]
    assert machine.note.exists()
    monkeypatch.undo()
    monkeypatch.setattr(block_stack, "number_of", lambda path: "8:16")
    machine.restore()
    assert machine.value("device/timeout") == "30"
    assert not machine.note.exists()


def _refusing(opens, name):
    def refuse(path, flags, *rest, **named):
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied")
        return opens(path, flags, *rest, **named)

    return refuse


def test_a_setting_that_does_not_take_is_told_and_not_among_the_changes(machine, monkeypatch):
    monkeypatch.setattr("imaging.kernel_settings._Drive._write", lambda self, place, value: None)
    with machine.changed(command_timeout_seconds=180) as changes:
        assert changes == ()
    assert "it is 30 afterwards" in machine.told[0]


def test_a_file_is_told_to_have_no_settings(machine):
    machine.device = "/dev/other"
    with changed("/some/file", WantedSettings(readahead_kib=0), note=machine.note, tell=machine.told.append) as changes:
        assert changes == ()
    assert "no settings of the kernel" in machine.told[0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"changes": 3}',
        b'{"boot": "one", "number": "8:16", "sequence": "17", "serial": "ZFL0ABCD", "changes": [{"what": "shadow", '
        b'"was": "1", "became": "30"}]}',
        b'{"boot": "one", "number": "8:16", "sequence": "17", "serial": "ZFL0ABCD", "changes": '
        b'[{"what": "command timeout", "was": "root::0:0", "became": "30"}]}',
    ],
)
def test_a_note_that_we_did_not_write_changes_nothing(machine, content):
    machine.note.write_bytes(content)
    machine.restore()
    assert machine.value("device/timeout") == "30"


@pytest.mark.parametrize(
    "wanted",
    [
        {"command_timeout_seconds": 0},
        {"command_timeout_seconds": 3601},
        {"readahead_kib": -1},
        {"erc_deciseconds": (70, 1000)},
        {"erc_deciseconds": (-1, 70)},
    ],
)
def test_values_that_cannot_be_are_refused(machine, wanted):
    with pytest.raises(UsageError), machine.changed(**wanted):
        pass
    assert not machine.note.exists()


def test_error_recovery_time_is_set_and_put_back(machine, tmp_path, monkeypatch):
    smartctl = FakeSmartctl(tmp_path, monkeypatch)
    smartctl.answers(ata())
    with machine.changed(erc_deciseconds=(70, 70)) as changes:
        assert list(map(str, changes)) == ["SCT ERC: 0,0 -> 70,70"]
    assert [words[2] for words in smartctl.asked()] == [
        "scterc",
        "scterc,70,70",
        "scterc",
        "scterc",
        "scterc,0,0",
        "scterc",
    ]
    assert {words[-1] for words in smartctl.asked()} == {"/dev/sdb"}
    assert not machine.note.exists()


def test_a_partition_has_the_settings_of_its_disk(machine, tmp_path, monkeypatch):
    smartctl = FakeSmartctl(tmp_path, monkeypatch)
    smartctl.answers(ata())
    machine.write("sdb1/partition", "1")
    machine.write("sdb1/dev", "8:17")
    (machine.roots.sys / "dev" / "block" / "8:17").symlink_to(machine.disk / "sdb1")
    monkeypatch.setattr(block_stack, "number_of", lambda path: "8:17")
    with machine.changed(command_timeout_seconds=90, erc_deciseconds=(70, 70)) as changes:
        assert list(map(str, changes)) == ["command timeout: 30 -> 90", "SCT ERC: 0,0 -> 70,70"]
    assert {words[-1] for words in smartctl.asked()} == {"/dev/sdb"}
    assert machine.value("device/timeout") == "30"


def test_error_recovery_time_is_put_back_also_after_a_new_start_of_the_machine(machine, tmp_path, monkeypatch):
    smartctl = FakeSmartctl(tmp_path, monkeypatch)
    smartctl.answers(ata())
    machine.killed(erc_deciseconds=(70, 70))
    smartctl.answers(ata(ata_sct_erc={kind: {"enabled": True, "deciseconds": 70} for kind in ("read", "write")}))
    machine.boot("two")
    machine.write("diskseq", "3")
    machine.restore()
    assert smartctl.asked()[-2][2] == "scterc,0,0"
    assert not machine.note.exists()


def test_a_drive_without_error_recovery_control_is_told(machine, tmp_path, monkeypatch):
    document = ata()
    del document["ata_sct_erc"]
    FakeSmartctl(tmp_path, monkeypatch).answers(document)
    with machine.changed(erc_deciseconds=(70, 70)) as changes:
        assert changes == ()
    assert machine.told == ["SCT ERC cannot be changed: /dev/sdb has none that is told"]


def test_a_drive_that_does_not_take_an_error_recovery_time_is_told(machine, tmp_path, monkeypatch):
    FakeSmartctl(tmp_path, monkeypatch).answers(ata(), takes_erc=False)
    with machine.changed(erc_deciseconds=(70, 70)) as changes:
        assert changes == ()
    assert machine.told == ["SCT ERC of /dev/sdb cannot be set to 70,70: it is 0,0 afterwards"]


RUN = """
import sys, time
from pathlib import Path
from imaging.kernel_settings import WantedSettings, changed
with changed(sys.argv[1], WantedSettings(readahead_kib=4), note=Path(sys.argv[2])):
    print("changed", flush=True)
    time.sleep(60)
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a loop device")
def test_readahead_of_a_real_loop_device_survives_a_kill(tmp_path):
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    made = subprocess.run(["losetup", "-f", "-r", "--show", image], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip("no loop device to be had")
    loop = made.stdout.strip()
    try:
        place = Path("/sys/block") / Path(loop).name / "queue" / "read_ahead_kb"
        before, note = place.read_text(), note_path(tmp_path / "d.map")
        run = subprocess.Popen([sys.executable, "-c", RUN, loop, note], stdout=subprocess.PIPE, text=True)
        assert run.stdout is not None
        assert run.stdout.readline() == "changed\n"
        assert place.read_text() == "4\n"
        run.send_signal(signal.SIGKILL)
        run.wait(20)
        assert json.loads(note.read_text())["changes"][0]["was"] == before.strip()
        with changed(loop, WantedSettings(), note=note):
            assert place.read_text() == before
        with changed(loop, WantedSettings(readahead_kib=8), note=note):
            assert place.read_text() == "8\n"
        assert place.read_text() == before
        assert not note.exists()
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)
