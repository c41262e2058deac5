"""What the kernel tells of areas that a drive hides, on a machine laid out in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.hidden_areas import hidden_areas, hidden_areas_of_number


class Machine:
    def __init__(self, root: Path) -> None:
        self.sys = root / "sys"
        self.port = self.sys / "devices" / "pci0000:00" / "ata3"

    def disk(self, name: str = "sdb") -> None:
        folder = self.port / "host2" / "target2:0:0" / "2:0:0:0" / "block" / name
        folder.mkdir(parents=True)
        link = self.sys / "dev" / "block" / "8:16"
        link.parent.mkdir(parents=True)
        link.symlink_to(folder)

    def identify(self, words: dict[int, int], *, link: str = "link3", text: str | None = None) -> None:
        table = [words.get(index, 0) for index in range(256)]
        lines = [" ".join(f"{word:04x}" for word in table[row : row + 8]) for row in range(0, 256, 8)]
        path = self.port / link / f"{link.replace('link', 'dev')}.0" / "ata_device" / "dev3.0" / "id"
        path.parent.mkdir(parents=True)
        path.write_text(text if text is not None else "\n".join(lines) + "\n")

    def found(self):
        return hidden_areas_of_number("8:16", sys_root=self.sys)


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    made.disk()
    return made


def test_feature_sets_and_the_visible_size_are_told(machine):
    machine.identify({82: 1 << 10, 83: 1 << 11, 85: 1 << 10, 100: 0x88B0, 101: 0xE8E0, 102: 0, 103: 0})
    found = machine.found()
    assert (found.hpa_supported, found.hpa_enabled, found.dco_supported) == (True, True, True)
    assert found.visible_sectors == 3907029168
    assert "whether it does was not asked" in found.note


def test_a_drive_without_these_features_hides_nothing(machine):
    machine.identify({100: 5})
    found = machine.found()
    assert (found.hpa_supported, found.hpa_enabled, found.dco_supported) == (False, False, False)
    assert found.note == "the drive has neither HPA nor DCO"


@pytest.mark.parametrize("text", ["", "0000 " * 255, "zzzz " * 256, "0" * 5000, "0000 " * 300])
def test_an_identification_of_another_shape_tells_nothing(machine, text):
    machine.identify({}, text=text)
    assert machine.found().hpa_supported is None
    assert machine.found().note.startswith("not known")


def test_two_drives_at_one_port_are_not_told_apart(machine):
    machine.identify({82: 1 << 10}, link="link3")
    machine.identify({82: 0}, link="link4")
    assert machine.found().hpa_supported is None


def test_a_drive_that_is_no_ata_drive_tells_nothing(machine):
    assert machine.found().note.startswith("not known")


def test_nvme_has_no_such_areas(tmp_path):
    machine = Machine(tmp_path)
    machine.disk("nvme0n1")
    assert machine.found().note == "NVMe drives have neither HPA nor DCO"


def test_a_file_is_no_drive(tmp_path):
    assert hidden_areas(tmp_path).note == "no drive"
