"""What macOS prints of its disks, as texts of its manuals' form: no Mac runs these tests."""

from __future__ import annotations

import plistlib
from pathlib import Path

import pytest

from imaging import mac_disks

MOUNTS = b"""/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
devfs on /dev (devfs, local, nobrowse)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled)
/dev/disk4s2 on /Volumes/My (old) drive (hfs, local, nodev, nosuid, journaled)
"""


@pytest.fixture(autouse=True)
def mac(monkeypatch):
    def printed(*command):
        if command[0] == "mount":
            return MOUNTS
        on_container = command[-1].startswith("/dev/disk3")
        return plistlib.dumps({"APFSPhysicalStores": [{"APFSPhysicalStore": "disk0s2"}]} if on_container else {})

    monkeypatch.setattr(mac_disks, "_printed", printed)


@pytest.mark.parametrize("path", ["/dev/disk4", "/dev/rdisk4", "/dev/disk4s2", "/dev/rdisk4s2"])
def test_a_disk_and_its_partition_are_busy_when_it_is_mounted(path):
    assert mac_disks.uses(path) == ("/dev/disk4s2 is mounted at /Volumes/My (old) drive (read-write)",)


def test_a_disk_is_busy_by_the_apfs_container_on_it():
    reasons = (
        "/dev/disk3s1s1 is mounted at / (read-only)",
        "/dev/disk3s5 is mounted at /System/Volumes/Data (read-write)",
    )
    assert mac_disks.uses("/dev/disk0") == mac_disks.uses("/dev/disk0s2") == mac_disks.uses("/dev/disk3") == reasons


@pytest.mark.parametrize("path", ["/dev/disk5", "/dev/disk4s1", "/dev/disk40", "/dev/disk0s1", "/tmp/image.raw"])
def test_what_is_not_mounted_is_idle(path):
    assert mac_disks.uses(path) == ()


def test_a_place_lies_on_the_disk_of_the_longest_mount_point_above_it():
    assert mac_disks.lies_on("/dev/rdisk4", Path("/Volumes/My (old) drive/case"))
    assert not mac_disks.lies_on("/dev/disk0", Path("/Volumes/My (old) drive/case"))
    assert mac_disks.lies_on("/dev/disk0", Path("/Volumes/other"))


def test_a_disk_of_which_nothing_is_known_has_no_facts(monkeypatch):
    monkeypatch.setattr(mac_disks, "_printed", lambda *command: b"")
    assert mac_disks.info("/dev/disk9") == {}
    assert mac_disks.uses("/dev/disk4") == ()
