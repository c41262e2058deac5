"""`carver image` harms no source: what the system uses is refused, and nothing is ever written to what is read."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fixtures.failing_drive import write_contents
from imaging.mapfile import BlockStatus, Mapfile
from tests.command import COMMAND, carver, good, need, need_program
from tests.test_end_to_end_destination import loop_device

pytestmark = pytest.mark.root
MIB = 1 << 20
BTRFS_BYTES = 128 * MIB  # its least
READING_CALLS = {
    "close", "fstat", "lseek", "newfstatat", "openat", "preadv", "preadv2", "pread64", "read", "readlink", "stat",
    "statx", "faccessat2", "access", "ioctl", "execve", "readlinkat",
}  # fmt: skip
ASKING_IOCTLS = {"BLKSSZGET", "BLKPBSZGET", "BLKALIGNOFF"}


def run(*words: object) -> None:
    """Prepare something; where this machine does not let us, there is nothing to test."""
    need_program(str(words[0]))
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60)
    need(f"{' '.join(map(str, words))}: {done.stderr.strip()}" if done.returncode else None)


@contextmanager
def device_of(path: Path, size_bytes: int, *options: str) -> Iterator[Path]:
    with path.open("xb") as file:
        file.truncate(size_bytes)
    with loop_device(path, *options) as device:
        yield device


@contextmanager
def mounted(device: Path, point: Path, *options: str) -> Iterator[Path]:
    point.mkdir()
    run("mount", *options, device, point)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], capture_output=True)  # the test may have done so


@contextmanager
def as_a_mount(folder: Path, *options: str) -> Iterator[Path]:
    with device_of(folder / "disk", 16 * MIB) as device:
        run("mkfs.ext4", "-q", device)
        with mounted(device, folder / "mnt", *options):
            yield device


@contextmanager
def as_a_read_only_mount(folder: Path) -> Iterator[Path]:
    with as_a_mount(folder, "-o", "ro") as device:
        yield device


@contextmanager
def as_a_mounted_partition(folder: Path) -> Iterator[Path]:
    with device_of(folder / "disk", 32 * MIB) as device:
        run("addpart", device, 1, MIB // 512, 16 * MIB // 512)  # as the kernel does when it reads a partition table
        partition = device.with_name(f"{device.name}p1")
        run("mkfs.ext4", "-q", partition)
        with mounted(partition, folder / "mnt"):
            yield device
        subprocess.run(["delpart", device, "1"], check=True)


@contextmanager
def as_a_loop_device_on_it(folder: Path) -> Iterator[Path]:
    with device_of(folder / "disk", 16 * MIB) as device, loop_device(device) as above:
        run("mkfs.ext4", "-q", above)
        with mounted(above, folder / "mnt"):
            yield device


@contextmanager
def as_swap(folder: Path) -> Iterator[Path]:
    with device_of(folder / "disk", 16 * MIB) as device:
        run("mkswap", device)
        run("swapon", device)
        try:
            yield device
        finally:
            subprocess.run(["swapoff", device], check=True)


@contextmanager
def as_the_second_member_of_a_btrfs(folder: Path) -> Iterator[Path]:
    with device_of(folder / "one", BTRFS_BYTES) as one, device_of(folder / "two", BTRFS_BYTES) as two:
        run("mkfs.btrfs", "-q", "-f", one, two)
        with mounted(one, folder / "mnt"):
            yield two


@contextmanager
def as_a_layer_of_an_overlay(folder: Path) -> Iterator[Path]:
    """Its own mount is gone: only the overlay still stands on it."""
    folders = {name: folder / "other" / name for name in ("upper", "work", "merged")}
    with as_a_mount(folder) as device, device_of(folder / "second", 16 * MIB) as other:
        run("mkfs.ext4", "-q", other)
        with mounted(other, folder / "other"):
            for made in folders.values():
                made.mkdir()
            layers = f"lowerdir={folder / 'mnt'},upperdir={folders['upper']},workdir={folders['work']}"
            run("mount", "-t", "overlay", "overlay", "-o", layers, folders["merged"])
            try:
                run("umount", folder / "mnt")
                yield device
            finally:
                subprocess.run(["umount", folders["merged"]], check=True)


@contextmanager
def as_a_mount_in_another_container(folder: Path) -> Iterator[Path]:
    (folder / "mnt").mkdir()
    with device_of(folder / "disk", 16 * MIB) as device:
        run("mkfs.ext4", "-q", device)
        inside = 'mount "$1" "$2" && echo mounted && read line'
        words = ["unshare", "-m", "--propagation", "private", "sh", "-c", inside, "sh", device, folder / "mnt"]
        with subprocess.Popen([*map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as container:
            assert container.stdout is not None
            assert container.stdout.readline() == b"mounted\n"
            yield device
            container.communicate(timeout=60)


USES = {
    "mounted": as_a_mount,
    "mounted read-only": as_a_read_only_mount,
    "a partition of it is mounted": as_a_mounted_partition,
    "a loop device on it is mounted": as_a_loop_device_on_it,
    "swap": as_swap,
    "a member of a btrfs": as_the_second_member_of_a_btrfs,
    "a layer of an overlay": as_a_layer_of_an_overlay,
    "mounted in another container": as_a_mount_in_another_container,
}  # arrays, LVM and encrypted mappings: tests/imaging/test_device.py, on a /sys of its own


@pytest.mark.parametrize("use", USES)
def test_a_source_that_the_system_uses_is_refused_and_nothing_is_made(use, tmp_path):
    with USES[use](tmp_path) as device:
        outcomes = [carver("image", device, tmp_path / "out.img"), carver("scan", device)]
    for outcome in outcomes:
        assert outcome.code == 3
        assert "--allow-mounted-source" in outcome.complaint
    assert not (tmp_path / "out.img").exists()
    assert not (tmp_path / "out.img.map").exists()


def test_what_nobody_uses_any_more_is_not_refused(tmp_path):
    with as_a_mount(tmp_path) as device:
        run("umount", tmp_path / "mnt")
        good("image", "-q", device, tmp_path / "out.img")


@pytest.mark.parametrize("sector_bytes", [512, 4096])
def test_a_writable_device_is_only_ever_asked_for_its_bytes(sector_bytes, tmp_path):
    """Nothing but our own care protects it: no call on it or its node but those that read."""
    need_program("strace")
    contents, trace = tmp_path / "contents", tmp_path / "trace"
    write_contents(contents, 3, 8 * MIB)
    before = hashlib.sha256(contents.read_bytes()).hexdigest()
    with loop_device(contents, "--sector-size", str(sector_bytes)) as device:
        strace = ["strace", "-f", "-y", "-qq", "-e", "trace=all", "-o", str(trace)]
        words = [*strace, *COMMAND, "image", "-q", "-r", "1", str(device), str(tmp_path / "out.img")]
        subprocess.run(words, check=True, capture_output=True, timeout=200)
        touching = [
            line.split(maxsplit=1)[1]
            for line in trace.read_text(errors="replace").splitlines()
            if f"<{device}>" in line or f'"{device}"' in line or str(contents) in line
        ]
    calls = [re.match(r"(?:<\.\.\. )?(\w+)", line)[1] for line in touching]
    assert set(calls) <= READING_CALLS
    assert {"openat", "preadv2"} <= set(calls), "the trace shows how it is read"
    opened = [line for line, call in zip(touching, calls, strict=True) if call == "openat"]
    assert all("O_RDONLY" in line for line in opened)
    assert all(line.split(", ")[1] in ASKING_IOCTLS for line in touching if line.startswith("ioctl("))
    assert hashlib.sha256(contents.read_bytes()).hexdigest() == before
    assert (tmp_path / "out.img").read_bytes() == contents.read_bytes()
    assert Mapfile.load(tmp_path / "out.img.map").count_bytes(BlockStatus.FINISHED) == 8 * MIB
