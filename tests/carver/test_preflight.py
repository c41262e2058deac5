"""What is told and refused before a run begins."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from carver import destinations
from carver.notices import Notice, Roots
from carver.preflight import examine, refuse
from imaging import block_stack, sampling
from imaging.device import DeviceInfo, describe
from imaging.encodings import Caution
from imaging.errors import InputError, OutputError, ReadFault
from imaging.extent import Extent, ExtentSet
from imaging.sampling import sample
from imaging.source import RawImage

FILE = DeviceInfo(path="drive.img", kind="file")
MIB = 1 << 20
Usage = namedtuple("Usage", "total used free")
Flags = namedtuple("Flags", "f_flag")


class Simulated:
    """A source of given bytes, with ranges that fail or were never read."""

    def __init__(self, content, *, bad=None, unread=None):
        self.content, self.bad, self.unread = content, bad or ExtentSet(), unread
        self.locator, self.sector_bytes, self.size_bytes = "drive.img", 512, len(content)
        self.reads = 0

    def read_at(self, offset_bytes, size_bytes):
        self.reads += 1
        if self.bad.touches(Extent(offset_bytes=offset_bytes, size_bytes=size_bytes)):
            raise ReadFault("bad sector", offset_bytes=offset_bytes, size_bytes=size_bytes, errno=5)
        return self.content[offset_bytes : offset_bytes + size_bytes]


TEXT = (b"all kinds of words that are no zeros; " * 61_000)[: 4096 * 560]

LUKS = b"LUKS\xba\xbe\x00\x02".ljust(512, b"\0")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "drive.img"
    path.write_bytes(TEXT)
    return path


@pytest.fixture
def quiet(tmp_path):
    """Kernel trees that know of nothing."""
    return Roots(sys=tmp_path / "sys", proc=tmp_path / "proc")


def _codes(notices):
    return [(notice.code, str(notice.level)) for notice in notices]


def _examine(path, roots, /, *, source=None, info=FILE, **options):
    return examine(path, source=source or Simulated(TEXT), info=info, roots=roots, **options)


def test_a_plain_image_and_a_roomy_folder_give_no_notice(image, quiet, tmp_path):
    assert _examine(image, quiet, folder=tmp_path / "case") == ()


def test_a_file_that_is_no_whole_number_of_sectors_long_is_told_as_such_but_not_a_device(image, quiet):
    odd = Simulated(TEXT + b"more")
    (notice,) = _examine(image, quiet, source=odd)
    assert (notice.code, notice.level) == ("odd-size", Caution.INFO) and "copy it again" in notice.line
    assert _examine(image, quiet, source=odd, info=DeviceInfo(path="drive.img", kind="device")) == ()


def test_a_container_is_refused_with_the_command_that_makes_it_raw(image, quiet):
    notices = _examine(image, quiet, source=Simulated(b"QFI\xfb" + TEXT))
    assert _codes(notices) == [("qcow2", "refuse")]
    with pytest.raises(InputError, match=r"not raw bytes but QEMU.*qemu-img convert -O raw drive\.img out\.raw"):
        refuse(notices)


def test_encryption_is_told_but_does_not_end_the_run(image, quiet):
    notices = _examine(image, quiet, source=Simulated(LUKS + TEXT))
    assert _codes(notices) == [("luks", "warn")]
    refuse(notices)


def test_an_empty_source_is_refused(image, quiet):
    notices = _examine(image, quiet, source=Simulated(b""))
    assert _codes(notices) == [("source-empty", "refuse")]
    with pytest.raises(InputError, match=r"drive\.img is empty; check the path"):
        refuse(notices)


def test_the_first_piece_of_a_split_image_is_refused(quiet, tmp_path):
    for name in ("drive.001", "drive.002"):
        (tmp_path / name).write_bytes(TEXT)
    assert _codes(_examine(tmp_path / "drive.001", quiet)) == [("split-raw", "refuse")]


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({}, "zeros"),
        ({"discard": False, "rotational": True}, "zeros"),
        ({"discard": True, "rotational": True}, "zeros-trim"),
        ({"discard": None, "rotational": False}, "zeros-trim"),
    ],
)
def test_mostly_zeros_are_told_and_spell_trim_on_a_drive_that_can(image, quiet, facts, code):
    mostly = Simulated(TEXT[: MIB // 16] + bytes(4 * MIB))
    notices = _examine(image, quiet, source=mostly, info=DeviceInfo(path="drive.img", kind="file", **facts))
    assert [notice.code for notice in notices] == [code]
    assert "sampled blocks" in notices[0].message


def test_half_zeros_are_not_worth_a_word(image, quiet):
    assert _examine(image, quiet, source=Simulated(TEXT + bytes(len(TEXT)))) == ()


def test_random_bytes_all_over_look_encrypted_unless_something_explains_them(image, quiet):
    noise = np.random.default_rng(2).bytes(2 * MIB)
    assert _codes(_examine(image, quiet, source=Simulated(noise))) == [("looks-encrypted", "warn")]
    assert _codes(_examine(image, quiet, source=Simulated(LUKS + noise))) == [("luks", "warn")]


def test_float_weights_all_over_do_not_look_encrypted(image, quiet):
    weights = np.random.default_rng(3).standard_normal(MIB // 4).astype("<f4").tobytes()
    assert _examine(image, quiet, source=Simulated(weights)) == ()


def test_a_drive_that_is_being_imaged_already_is_not_looked_at_again(image, quiet, tmp_path):
    target, map_path = tmp_path / "image.raw", tmp_path / "image.raw.map"
    target.write_bytes(TEXT)
    map_path.write_text("0 ? 1\n0 4096 ?\n")
    source = Simulated(TEXT)
    assert _examine(image, quiet, source=source, image=target, map_path=map_path) == ()
    assert source.reads == 0, "each read wears a failing drive"
    map_path.unlink()
    _examine(image, quiet, source=source, image=target, map_path=map_path)
    assert source.reads > 0


def test_samples_leave_out_what_was_never_read_and_stop_at_a_drive_that_fails_everywhere():
    whole = ExtentSet([Extent(offset_bytes=0, size_bytes=len(TEXT))])
    unread = Simulated(TEXT, unread=whole)
    assert sample(unread) == sampling.Sampling(read=0, zero=0, random=0, unreadable=0)
    assert unread.reads == 0
    failing = Simulated(TEXT, bad=whole)
    assert sample(failing).unreadable == failing.reads == sampling.MAX_UNREADABLE_SAMPLES


def test_sampling_stops_when_its_time_is_over(monkeypatch):
    clock = iter(range(0, 10_000, sampling.MAX_SAMPLING_SECONDS // 2))
    monkeypatch.setattr(sampling, "monotonic", lambda: next(clock))
    assert sample(Simulated(TEXT)).read == 2


def test_an_image_that_does_not_fit_is_refused_and_one_begun_before_only_warned_of(image, quiet, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 9, len(TEXT) - MIB))
    target = tmp_path / "out" / "image.raw"
    notices = _examine(image, quiet, image=target)
    assert _codes(notices) == [("destination-room", "refuse")]
    with pytest.raises(
        OutputError, match=r"1\.2 MiB free, but 2\.2 MiB are needed; make 1\.0 MiB of room, or .* drive$"
    ):
        refuse(notices)
    target.parent.mkdir()
    target.write_bytes(bytes(4096))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 9, 4096))
    warned = _examine(image, quiet, image=target)
    assert _codes(warned) == [("destination-room", "warn")]
    assert "stops there, saved, and goes on later" in warned[0].line


def test_a_sparse_image_that_may_not_fit_is_only_warned_of(image, quiet, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 9, MIB))
    (warned,) = _examine(image, quiet, image=tmp_path / "image.raw", sparse=True)
    assert (warned.code, warned.level.value) == ("destination-room", "warn")
    assert "2.2 MiB are needed, less what is zeros (-S)" in warned.line
    assert "stops there, saved, and goes on later" in warned.line


def test_what_an_image_already_holds_is_not_asked_for_twice(image, quiet, tmp_path, monkeypatch):
    target = tmp_path / "image.raw"
    target.write_bytes(TEXT)
    os.sync()  # blocks are counted when they are placed
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 9, 4096))
    assert _examine(image, quiet, image=target) == ()


def test_files_that_need_more_than_there_is_are_refused_and_little_room_for_unknown_ones_told(
    image, quiet, tmp_path, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 9, MIB))
    assert _codes(_examine(image, quiet, folder=tmp_path, files_bytes=2 * MIB)) == [("destination-room", "refuse")]
    assert _examine(image, quiet, folder=tmp_path, files_bytes=1000) == ()
    assert _codes(_examine(image, quiet, folder=tmp_path)) == [("destination-little-room", "warn")]


def test_a_file_system_that_cannot_hold_the_image_is_refused(image, quiet, tmp_path, monkeypatch):
    (quiet.proc / "self").mkdir(parents=True)
    (quiet.proc / "self" / "mountinfo").write_text(f"30 1 8:33 / {tmp_path} rw - vfat /dev/sdc1 rw\n")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 9, 1 << 40))
    large = Simulated(TEXT)
    large.size_bytes = 1 << 32
    large.read_at = lambda offset_bytes, size_bytes: TEXT[:size_bytes]
    notices = _examine(image, quiet, source=large, image=tmp_path / "image.raw")
    assert _codes(notices) == [("destination-file-limit", "refuse")]
    assert _codes(_examine(image, quiet, source=large, folder=tmp_path)) == [("destination-file-limit", "warn")]
    assert _examine(image, quiet, image=tmp_path / "image.raw") == ()


def test_the_source_itself_is_never_an_output(image, quiet, tmp_path):
    link = tmp_path / "link.img"
    link.symlink_to(image)
    for output in (image, link):
        notices = _examine(image, quiet, image=output, allow_mounted=True)
        assert ("destination-is-source", "refuse") in _codes(notices)


def test_a_folder_that_may_not_be_written_is_refused(image, quiet, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    notices = _examine(image, quiet, folder=tmp_path / "case")
    assert _codes(notices) == [("destination-not-writable", "refuse")]
    with pytest.raises(OutputError, match="no permission to write in"):
        refuse(notices)


def test_a_read_only_destination_is_told_as_such_and_not_called_too_small(image, quiet, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda path: Flags(os.ST_RDONLY))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 10, 0))
    notices = _examine(image, quiet, image=tmp_path / "out.img", folder=tmp_path)
    assert _codes(notices) == [("destination-read-only", "refuse")]
    with pytest.raises(OutputError, match="is mounted read-only; remount it for writing, or choose another drive"):
        refuse(notices)


def test_a_macs_own_drive_and_a_writable_drive_are_told(image, quiet):
    info = DeviceInfo(path="/dev/disk0", kind="device", internal_mac=True, read_only=False)
    assert _codes(_examine(image, quiet, info=info)) == [("internal-mac", "warn"), ("no-write-blocker", "info")]


def test_refusals_come_first_and_only_they_end_the_run():
    refuse(
        [Notice(code="zeros", level=Caution.WARN, message="so"), Notice(code="ntfs", level=Caution.INFO, message="so")]
    )
    with pytest.raises(OutputError, match=r"^this; do that$"):
        refuse([Notice(code="writes-cache", level=Caution.REFUSE, message="this", advice="do that")])


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """A machine on which everything of ours lies on the first partition of 8:16, and "/dev/sdb…" are nodes."""
    root = tmp_path / "machine"
    roots = Roots(sys=root / "sys", proc=root / "proc")
    numbers = {"/dev/sdb": "8:16", "/dev/sdb1": "8:17", "/dev/sdb2": "8:18"}
    disk = root / "devices" / "sdb"
    for node, number in numbers.items():
        folder = disk if node == "/dev/sdb" else disk / Path(node).name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dev").write_text(number)
        if folder != disk:
            (folder / "partition").write_text("1")
        link = roots.sys / "dev" / "block" / number
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder)
    (roots.proc / "self").mkdir(parents=True)
    (roots.proc / "self" / "mountinfo").write_text("30 1 8:17 / / rw - ext4 /dev/sdb1 rw\n")
    monkeypatch.setattr(block_stack, "number_of", lambda path: numbers.get(str(path)))
    return roots


def _on(drive, node, **options):
    return examine(Path(node), source=None, info=DeviceInfo(path=node, kind="device"), roots=drive, **options)


@pytest.mark.parametrize("node", ["/dev/sdb", "/dev/sdb1"])
def test_outputs_and_our_own_writes_on_the_source_are_refused_even_when_mounted_is_allowed(drive, node, tmp_path):
    notices = _on(drive, node, folder=tmp_path / "case", allow_mounted=True)
    assert _codes(notices) == [
        ("destination-on-source", "refuse"),
        ("writes-temporary", "refuse"),
        ("writes-cache", "refuse"),
        ("source-busy", "warn"),
        ("program-on-source", "warn"),
        ("program-on-source", "warn"),
    ]
    with pytest.raises(OutputError, match="destroys what you want to recover; choose a folder on another drive"):
        refuse(notices)


def test_what_no_option_overrides_is_said_before_what_one_does(drive, tmp_path):
    with pytest.raises(OutputError, match="lies on the source"):
        refuse(_on(drive, "/dev/sdb", folder=tmp_path / "case"))


def test_a_mounted_source_is_refused_unless_allowed(drive):
    notices = _on(drive, "/dev/sdb")
    assert notices[0].message == "/dev/sdb1 is mounted at / (read-write)"
    with pytest.raises(InputError, match="--allow-mounted-source"):
        refuse(notices)


def test_another_partition_of_the_same_drive_is_only_warned_of(drive, tmp_path):
    notices = _on(drive, "/dev/sdb2", folder=tmp_path / "case")
    assert _codes(notices) == [("destination-on-same-drive", "warn")]


def test_the_cache_folder_is_where_the_user_put_it(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert destinations.numba_cache_folder() == tmp_path
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    assert destinations.numba_cache_folder().name == "__pycache__"
    monkeypatch.setattr(destinations.os, "access", lambda path, mode: False)  # an installation of the system's
    monkeypatch.setattr(destinations.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert destinations.numba_cache_folder() == tmp_path / "numba"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert destinations.numba_cache_folder() == Path.home() / ".cache" / "numba"
    monkeypatch.setattr(destinations.sys, "platform", "darwin")
    assert destinations.numba_cache_folder() == Path.home() / "Library" / "Caches" / "numba"


def test_a_busy_source_is_not_read(drive, image):
    source = Simulated(TEXT)
    examine(Path("/dev/sdb"), source=source, info=FILE, roots=drive)
    assert source.reads == 0


@pytest.mark.root
def test_on_a_real_mounted_loop_device_nothing_may_be_written_to_it(tmp_path):
    from fixtures import ext4

    if reason := ext4.missing():
        if os.environ.get("CARVER_REQUIRE_TOOLS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    made = tmp_path / "ext4.img"
    ext4.make(made, seed=1, size_bytes=32 * MIB)
    with ext4.mounted(made) as root:
        found = subprocess.run(["losetup", "-j", made, "-n", "-O", "NAME"], capture_output=True, text=True, check=True)
        loop = Path(found.stdout.strip())
        with RawImage(loop) as source:
            told = examine(loop, source=source, info=describe(loop), folder=root / "case", allow_mounted=True)
            elsewhere = examine(loop, source=source, info=describe(loop), folder=tmp_path / "case")
        behind = examine(made, source=None, info=describe(made), folder=tmp_path / "case")
    assert ("destination-on-source", "refuse") in _codes(told)
    assert ("source-busy", "refuse") in _codes(elsewhere)
    assert not any(code.startswith(("destination-", "writes-")) for code, _ in _codes(elsewhere))
    assert f"is mounted at {root}" in " ".join(notice.message for notice in behind)
