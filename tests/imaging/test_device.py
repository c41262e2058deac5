"""What a device is, what uses it, and how it is known again; on a machine laid out in a folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from imaging import block_stack
from imaging.device import (
    DeviceInfo,
    describe,
    describe_number,
    identity,
    in_use,
    same_identity,
    sample_offsets,
    uses_of_number,
)
from imaging.errors import ReadFault
from imaging.extent import Extent, ExtentSet
from imaging.source import RawImage


class Machine:
    """A /sys, /proc and /run of our own."""

    def __init__(self, root):
        self.sys, self.proc, self.run = root / "sys", root / "proc", root / "run"
        self.mounts = []

    def write(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def disk(self, name, number, **files):
        folder = self.sys / "devices" / name
        self.write(folder / "dev", f"{number}\n")
        for key, value in files.items():
            self.write(folder / key.replace("__", "/"), f"{value}\n")
        self._link(self.sys / "dev" / "block" / number, folder)
        self._link(self.sys / "block" / name, folder)
        return folder

    def partition(self, disk, name, number):
        folder = self.sys / "devices" / disk / name
        self.write(folder / "dev", f"{number}\n")
        self.write(folder / "partition", "1\n")
        self._link(self.sys / "dev" / "block" / number, folder)
        return folder

    def stands_on(self, above, below):
        self._link(below / "holders" / above.name, above)
        self._link(above / "slaves" / below.name, below)

    def mount(self, number, point, *, how="rw", device="/dev/none", filesystem="ext4"):
        self.mounts.append(f"30 1 {number} / {point} {how},relatime shared:1 - {filesystem} {device} rw")
        self.write(self.proc / "self" / "mountinfo", "\n".join(self.mounts) + "\n")

    def uses(self, number):
        return uses_of_number(number, sys_root=self.sys, proc_root=self.proc)

    def _link(self, path, target):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    made.disk(
        "sdb",
        "8:16",
        size=2048,
        ro=0,
        queue__logical_block_size=512,
        queue__physical_block_size=4096,
        queue__rotational=1,
        queue__discard_max_bytes=0,
        device__model="ST2000LM015",
        device__rev="SDM1",
    )
    made.partition("sdb", "sdb1", "8:17")
    made.partition("sdb", "sdb2", "8:18")
    return made


def _describe(machine, number, path):
    return describe_number(number, path=path, sys_root=machine.sys, run_root=machine.run)


def test_a_disk_is_described_without_being_opened(machine, tmp_path):
    machine.write(machine.run / "udev" / "data" / "b8:16", "E:ID_BUS=ata\nE:ID_SERIAL_SHORT=WDZ1\n")
    info = _describe(machine, "8:16", tmp_path / "sdb")
    assert info == DeviceInfo(
        path=str(tmp_path / "sdb"),
        kind="device",
        size_bytes=2048 * 512,
        logical_sector_bytes=512,
        physical_sector_bytes=4096,
        model="ST2000LM015",
        serial="WDZ1",
        firmware="SDM1",
        transport="ata",
        rotational=True,
        read_only=False,
        discard=False,
    )


def test_a_partition_has_the_model_of_its_disk_and_its_own_size(machine, tmp_path):
    machine.write(machine.sys / "devices" / "sdb" / "sdb1" / "size", "16\n")
    info = _describe(machine, "8:17", tmp_path / "sdb1")
    assert (info.model, info.size_bytes) == ("ST2000LM015", 16 * 512)


def test_a_scsi_serial_is_read_from_its_vital_product_data(machine, tmp_path):
    (machine.sys / "devices" / "sdb" / "device" / "vpd_pg80").write_bytes(b"\x00\x80\x00\x08  WX12 \0")
    assert _describe(machine, "8:16", tmp_path).serial == "WX12"


def test_facts_that_the_system_does_not_give_are_none(machine, tmp_path):
    machine.disk("loop9", "7:9")
    info = _describe(machine, "7:9", tmp_path)
    assert (info.model, info.serial, info.rotational, info.discard, info.size_bytes) == (None,) * 5
    assert _describe(machine, "99:1", tmp_path).logical_sector_bytes is None


def test_an_image_file_is_described_by_its_size(tmp_path):
    (tmp_path / "drive.img").write_bytes(bytes(1000))
    info = describe(tmp_path / "drive.img")
    assert (info.kind, info.size_bytes, info.read_only) == ("file", 1000, False)
    assert describe(tmp_path / "absent").size_bytes is None


def test_an_idle_disk_is_not_in_use(machine):
    machine.mount("8:1", "/")
    assert machine.uses("8:16") == ()


@pytest.mark.parametrize(("how", "said"), [("rw", "read-write"), ("ro", "read-only")])
def test_a_disk_is_busy_when_a_partition_of_it_is_mounted(machine, how, said):
    machine.mount("8:17", r"/media/my\040disk", how=how)
    assert machine.uses("8:16") == (f"/dev/sdb1 is mounted at /media/my disk ({said})",)


def test_a_partition_is_busy_by_itself_and_by_its_disk_but_not_by_its_neighbour(machine):
    machine.mount("8:18", "/neighbour")
    assert machine.uses("8:17") == ()
    machine.mount("8:16", "/whole")
    assert machine.uses("8:17") == ("/dev/sdb is mounted at /whole (read-write)",)


def test_btrfs_mounts_are_known_by_the_device_they_name(machine):
    machine.mount("0:42", "/data", device="/dev/sdb2", filesystem="btrfs")
    assert machine.uses("8:16") == ("/dev/sdb2 is mounted at /data (read-write)",)


def test_every_member_of_a_btrfs_in_use_is_busy_though_mounts_name_only_one(machine):
    machine._link(machine.sys / "fs" / "btrfs" / "44606201-b637" / "devices" / "sdb2", machine.sys / "devices/sdb/sdb2")
    reason = "/dev/sdb2 is part of the btrfs file system 44606201-b637, which is in use"
    assert machine.uses("8:18") == (reason,)
    assert machine.uses("8:16") == (reason,)
    assert machine.uses("8:17") == (), "its neighbour is not"


def test_swap_is_a_use(machine):
    machine.write(machine.proc / "swaps", "Filename Type Size Used Priority\n/dev/sdb2 partition 10 0 -2\n")
    assert machine.uses("8:16") == ("/dev/sdb2 is in use as swap",)


def test_an_array_or_mapping_on_a_partition_is_a_use_and_so_is_what_is_mounted_on_it(machine):
    crypt = machine.disk("dm-0", "253:0", dm__name="opened")
    machine.stands_on(crypt, machine.sys / "devices" / "sdb" / "sdb1")
    machine.mount("253:0", "/secret")
    assert machine.uses("8:16") == (
        "/dev/sdb1 is part of /dev/dm-0 (opened)",
        "/dev/dm-0 is mounted at /secret (read-write)",
    )


def test_a_circle_of_devices_ends(machine):
    disk = machine.sys / "devices" / "sdb"
    machine.stands_on(disk, disk / "sdb1")
    assert machine.uses("8:16")
    found = block_stack.beneath("8:17", through_files=True, sys_root=machine.sys, proc_root=machine.proc)
    assert found == {"8:16", "8:17"}


def test_an_image_file_is_busy_when_a_loop_device_on_it_can_write_or_is_mounted(machine, tmp_path):
    image = tmp_path / "drive.img"
    image.write_bytes(bytes(512))
    loop = machine.disk("loop3", "7:3", ro=1, loop__backing_file=image)
    assert in_use(image, sys_root=machine.sys, proc_root=machine.proc) == ()
    machine.mount("7:3", "/mnt", how="ro")
    behind = f"{image} is behind /dev/loop3, and /dev/loop3 is mounted at /mnt (read-only)"
    assert in_use(image, sys_root=machine.sys, proc_root=machine.proc) == (behind,)
    (loop / "ro").write_text("0\n")
    writable = f"{image} can be written to through /dev/loop3"
    assert in_use(image, sys_root=machine.sys, proc_root=machine.proc) == (behind, writable)


def test_what_lies_beneath_a_mapping_is_its_partition_and_the_disk(machine):
    crypt = machine.disk("dm-0", "253:0")
    machine.stands_on(crypt, machine.sys / "devices" / "sdb" / "sdb1")
    found = block_stack.beneath("253:0", through_files=True, sys_root=machine.sys, proc_root=machine.proc)
    assert found == {"253:0", "8:17", "8:16"}


def test_without_kernel_trees_nothing_is_known_and_nothing_fails(tmp_path):
    nowhere = tmp_path / "none"
    assert uses_of_number("8:16", sys_root=nowhere, proc_root=nowhere) == ()
    assert block_stack.mount_of(tmp_path, proc_root=nowhere) is None
    assert block_stack.under_path(tmp_path, sys_root=nowhere, proc_root=nowhere)


def test_a_path_that_we_may_not_see_is_taken_for_its_nearest_visible_folder(tmp_path, monkeypatch):
    real = Path.exists

    def exists(path):
        if path.is_relative_to(tmp_path / "locked"):
            raise PermissionError
        return real(path)

    monkeypatch.setattr(Path, "exists", exists)
    assert block_stack.existing(tmp_path / "locked" / "deep" / "er") == tmp_path


class Faulty:
    """A source of given bytes, some of them unreadable, some never read."""

    def __init__(self, content, *, bad=(), unread=None):
        self.content, self.bad, self._unread = content, ExtentSet(bad), unread
        self.locator, self.sector_bytes, self.size_bytes = "faulty", 512, len(content)

    @property
    def unread(self):
        return self._unread

    def read_at(self, offset_bytes, size_bytes):
        if self.bad.touches(Extent(offset_bytes=offset_bytes, size_bytes=size_bytes)):
            raise ReadFault("bad sector", offset_bytes=offset_bytes, size_bytes=size_bytes, errno=5)
        return self.content[offset_bytes : offset_bytes + size_bytes]


NOTHING = DeviceInfo(path="x", kind="device")
CONTENT = bytes(range(256)) * 4096


def _identity(content=CONTENT, *, serial=None, model=None, **faults):
    info = DeviceInfo(path="x", kind="device", serial=serial, model=model)
    return identity(Faulty(content, **faults), info)


def test_an_identity_is_the_same_for_the_same_bytes():
    assert _identity() == _identity()
    assert same_identity(_identity(serial="A"), _identity(serial="A")) is None


def test_samples_that_cannot_be_read_or_were_not_read_yet_are_null_and_speak_against_nothing():
    whole = Extent(offset_bytes=0, size_bytes=len(CONTENT))
    failing, begun = _identity(bad=[whole]), _identity(unread=ExtentSet([whole]))
    for weak in (failing, begun):
        assert [digest for _, digest in weak["samples"]] == [None] * len(weak["samples"])
        assert same_identity(weak, _identity()) is None
        assert same_identity(_identity(), weak) is None


def test_one_bad_sample_leaves_the_others():
    record = _identity(bad=[Extent(offset_bytes=0, size_bytes=512)])
    assert [digest is None for _, digest in record["samples"]].count(True) == 1


def test_another_size_serial_or_content_is_another_drive_with_a_plain_reason():
    assert same_identity(_identity(), _identity(CONTENT[:-512])) == "its size is 1048064 bytes, not 1048576"
    assert same_identity(_identity(serial="A"), _identity(serial="B")) == "its serial number is B, not A"
    changed = b"\1" + CONTENT[1:]
    assert same_identity(_identity(serial="A"), _identity(changed, serial="A")) == "its contents at 0x0 are different"


def test_the_model_decides_only_where_no_serial_does():
    assert same_identity(_identity(model="A"), _identity(model="B")) == "its model is B, not A"
    assert same_identity(_identity(model="A", serial="1"), _identity(model="B", serial="1")) is None
    assert same_identity(_identity(model="A"), _identity()) is None


@pytest.mark.parametrize("size_bytes", [0, 1, 4096, 4097, 65536, 65537, 1 << 20, (1 << 40) + 512])
def test_sample_places_are_inside_ascending_and_depend_on_the_size_alone(size_bytes):
    offsets = sample_offsets(size_bytes)
    assert offsets == sample_offsets(size_bytes) == tuple(sorted(set(offsets)))
    assert all(offset < size_bytes and offset % 4096 == 0 for offset in offsets)
    assert len(offsets) == min(16, -(-size_bytes // 4096))


@pytest.mark.root
def test_a_loop_device_is_busy_when_another_on_the_same_file_is_mounted(machine, tmp_path):
    for name, number in (("loop3", "7:3"), ("loop4", "7:4")):
        machine.disk(name, number, size=100, loop__backing_file=tmp_path / "drive.img")
    assert machine.uses("7:3") == ()
    machine.mount("7:4", "/mnt")
    assert machine.uses("7:3") == (
        "/dev/loop4 holds the same bytes as /dev/loop3, and /dev/loop4 is mounted at /mnt (read-write)",
    )
    assert machine.uses("7:4") == ("/dev/loop4 is mounted at /mnt (read-write)",)


def test_the_file_under_a_loop_device_is_not_looked_at_since_its_server_may_be_gone(machine, monkeypatch):
    machine.disk("loop3", "7:3", size=100, loop__backing_file="/net/drive.img")
    monkeypatch.setattr(block_stack, "existing", None)
    monkeypatch.setattr(block_stack, "number_of", None)
    assert block_stack.beside("7:3", sys_root=machine.sys) == ()


def test_a_deleted_file_under_two_loop_devices_is_the_same_one_too(machine):
    for name, number in (("loop3", "7:3"), ("loop4", "7:4")):
        machine.disk(name, number, size=100, loop__backing_file="/gone/drive.img (deleted)")
    machine.mount("7:4", "/mnt")
    assert len(machine.uses("7:3")) == 1


def test_a_partition_is_busy_when_a_loop_device_over_just_its_bytes_is_mounted(machine, tmp_path):
    image = tmp_path / "drive.img"
    image.touch()
    machine.disk("loop3", "7:3", size=1000, loop__backing_file=image)
    for name, number, start in (("loop3p1", "259:1", 100), ("loop3p2", "259:2", 200)):
        folder = machine.partition("loop3", name, number)
        machine.write(folder / "start", f"{start}\n")
        machine.write(folder / "size", "100\n")
    machine.disk("loop4", "7:4", size=100, loop__backing_file=image, loop__offset=200 * 512)
    machine.mount("7:4", "/mnt")
    busy = "/dev/loop4 is mounted at /mnt (read-write)"
    assert machine.uses("259:2") == (f"/dev/loop4 holds the same bytes as /dev/loop3p2, and {busy}",)
    assert machine.uses("7:3") == (f"/dev/loop4 holds the same bytes as /dev/loop3, and {busy}",)
    assert machine.uses("259:1") == ()


def test_a_loop_device_is_busy_when_the_drive_under_it_is_mounted(machine, monkeypatch):
    monkeypatch.setattr(block_stack, "number_of", {"/dev/sdb2": "8:18"}.get)
    machine.disk("loop3", "7:3", size=100, loop__backing_file="/dev/sdb2")
    machine.mount("8:18", "/mnt")
    assert machine.uses("7:3") == (
        "/dev/sdb2 holds the same bytes as /dev/loop3, and /dev/sdb2 is mounted at /mnt (read-write)",
    )


def test_a_real_loop_device_over_an_image_makes_it_busy(tmp_path):
    image = tmp_path / "drive.img"
    image.write_bytes(bytes(1 << 20))
    made = subprocess.run(["losetup", "-f", "--show", str(image)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        if os.environ.get("CARVER_REQUIRE_TOOLS") == "1":
            pytest.fail(made.stderr)
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    loop = made.stdout.strip()
    try:
        assert in_use(image) == (f"{image} can be written to through {loop}",)
        info = describe(loop)
        assert (info.kind, info.size_bytes, info.logical_sector_bytes) == ("device", 1 << 20, 512)
        assert in_use(loop) == ()
        with RawImage(loop) as source:
            assert identity(source, info)["size_bytes"] == 1 << 20
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)
