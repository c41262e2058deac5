"""Where results go: a destination that fills up, one on the source, a source that is mounted."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fixtures import demo, ext4
from tests.command import COMMAND, TIMEOUT_SECONDS, carver, good, need, need_root
from tests.interruption import PARTIAL
from tests.report_schema import load_checked

pytestmark = pytest.mark.root
LITTLE, ENOUGH = "37m", "120m"  # room for the demo's image of 32 MiB, but not for the files beside it


@contextmanager
def small_disk(folder: Path, room: str) -> Iterator[Path]:
    need_root()
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "carver-test", folder], capture_output=True)
    need("no tmpfs can be mounted here" if made.returncode else None)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", f"remount,size={ENOUGH}", disk], check=True)


@contextmanager
def loop_device(image: Path, *options: str) -> Iterator[Path]:
    need(ext4.missing())
    made = subprocess.run(["losetup", "-f", "--show", *options, image], capture_output=True, text=True)
    need(f"no loop device: {made.stderr}" if made.returncode else None)
    device = Path(made.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def rescue_demo(drive: Path, case: Path) -> tuple[object, ...]:
    return ("rescue", "--test-mode", drive / "damage.map", drive / "drive.img", case)


def test_a_full_destination_ends_with_four_and_the_same_command_goes_on(demo_drive, demo_case, tmp_path):
    with small_disk(tmp_path / "disk", LITTLE) as disk:
        command = rescue_demo(demo_drive, disk / "CASE")
        full = carver(*command)
        assert full.code == 4
        assert "no room left" in full.complaint and "same command" in full.complaint
        assert list(disk.rglob(PARTIAL)) == []
        done = list((disk / "CASE" / "files").iterdir())
        before = {path: path.stat().st_mtime_ns for path in done}
        assert before
        again = carver(*command)
        assert again.code == 4
        enlarge(disk)
        good(*command)
        assert {path: path.stat().st_mtime_ns for path in done} == before, "written twice"
        assert load_checked(disk / "CASE")["files"] == load_checked(demo_case)["files"]


def test_a_destination_that_cannot_hold_the_image_is_refused_before_anything_is_written(demo_drive, tmp_path):
    with small_disk(tmp_path / "disk", "8m") as disk:
        refused = carver(*rescue_demo(demo_drive, disk / "CASE"))
        assert refused.code == 4
        assert "32.0 MiB are needed" in refused.complaint and "another drive" in refused.complaint
        assert list(disk.iterdir()) == []


def test_a_sparse_image_is_begun_where_only_its_data_may_fit_and_goes_on_after_room_was_made(tmp_path):
    source = tmp_path / "drive.img"
    with source.open("wb") as file:
        file.truncate(32 << 20)
        for offset_bytes in (4 << 20, 20 << 20):
            file.seek(offset_bytes)
            file.write(np.random.default_rng(3).bytes(3 << 20))
    with small_disk(tmp_path / "disk", "5m") as disk:
        refused = carver("image", source, disk / "whole.img")
        assert refused.code == 4 and "32.0 MiB are needed; make 27.0 MiB of room" in refused.complaint
        command = ("image", "-S", source, disk / "sparse.img")
        full = carver(*command)
        assert full.code == 4
        assert "less what is zeros (-S)" in full.err
        assert "no room is left" in full.complaint and "make room and run the same command again" in full.complaint
        enlarge(disk)
        good(*command)
        assert (disk / "sparse.img").read_bytes() == source.read_bytes()
        assert (disk / "sparse.img").stat().st_blocks * 512 < 8 << 20


def test_at_a_terminal_a_full_destination_pauses_and_enter_goes_on(demo_drive, demo_case, tmp_path):
    with small_disk(tmp_path / "disk", LITTLE) as disk:
        with at_terminal(*rescue_demo(demo_drive, disk / "CASE")) as terminal:
            told = terminal.read_until("Ctrl-C to end")
            assert "no room" in told and "Make room and press Enter" in told
            assert "run the same command again" not in told, "two orders, one against the other"
            enlarge(disk)
            terminal.type("\n")
            assert terminal.wait() == 0
        assert load_checked(disk / "CASE")["files"] == load_checked(demo_case)["files"]


def test_at_a_terminal_one_ctrl_c_ends_the_pause(demo_drive, tmp_path):
    with small_disk(tmp_path / "disk", LITTLE) as disk:
        with at_terminal(*rescue_demo(demo_drive, disk / "CASE")) as terminal:
            terminal.read_until("Ctrl-C to end")
            terminal.type("\x03")
            assert terminal.wait() == 4
        enlarge(disk)
        good(*rescue_demo(demo_drive, disk / "CASE"))


class Terminal:
    """A command at a pseudo-terminal."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid, self.descriptor, self.seen = pid, descriptor, ""
        self.code: int | None = None

    def read_until(self, words: str) -> str:
        until = time.monotonic() + TIMEOUT_SECONDS
        while words not in self.seen:
            assert time.monotonic() < until, self.seen
            assert self._more(), self.seen
        return self.seen

    def _more(self) -> bool:
        if not select.select([self.descriptor], [], [], 1.0)[0]:
            return True
        try:
            data = os.read(self.descriptor, 4096)
        except OSError:  # the other side is closed
            return False
        self.seen += data.decode("utf-8", "replace")
        return bool(data)

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def wait(self) -> int:
        until = time.monotonic() + TIMEOUT_SECONDS
        while self._more():
            assert time.monotonic() < until, self.seen
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert "Traceback" not in self.seen
        return self.code


@contextmanager
def at_terminal(*arguments: object) -> Iterator[Terminal]:
    pid, descriptor = pty.fork()
    if pid == 0:
        command = [*COMMAND, *map(str, arguments)]
        os.execv(command[0], command)
    terminal = Terminal(pid, descriptor)
    try:
        yield terminal
    finally:
        if terminal.code is None:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        os.close(descriptor)


@pytest.fixture
def file_system(tmp_path: Path) -> Path:
    need(ext4.missing())
    ext4.make(tmp_path / "fs.img", seed=3, size_bytes=24 << 20)
    return tmp_path / "fs.img"


@contextmanager
def mounted(device: Path, folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", options, device, folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_destination_on_the_source_is_refused_whatever_is_allowed(file_system, tmp_path):
    with loop_device(file_system) as device, mounted(device, tmp_path / "mnt", "rw") as root:
        (root / "deep").mkdir()
        for allowed in ([], ["--allow-mounted-source"]):
            for command in (
                ["rescue", device, root / "deep" / "CASE"],
                ["image", device, root / "out.img"],
                ["image", device, tmp_path / "out.img", root / "out.map"],
                ["rescue", file_system, root / "deep" / "CASE"],
                ["carve", device, "--out", root / "deep" / "CASE"],
                ["scan", device, "--case", root / "CASE"],
            ):
                refused = carver(*command, *allowed)
                assert refused.code == 4, refused.err
                assert "lies on the source" in refused.complaint and "another drive" in refused.complaint
        assert sorted(path.name for path in root.iterdir()) == ["deep", "lost+found"]
        assert list((root / "deep").iterdir()) == []


@pytest.mark.parametrize("setting", ["TMPDIR", "NUMBA_CACHE_DIR"])
@pytest.mark.parametrize("command", ["rescue", "carve", "scan", "image"])
def test_our_own_cache_and_temporary_files_never_reach_the_source(command, setting, file_system, tmp_path):
    rest = {"rescue": ["CASE"], "carve": ["--out", "CASE"], "scan": [], "image": ["out.img"]}[command]
    with loop_device(file_system) as device, mounted(device, tmp_path / "mnt", "rw") as root:
        arguments = [command, "--allow-mounted-source", device, *rest]
        refused = carver(*arguments, cwd=tmp_path, env={setting: str(root)})
        assert refused.code == 4, refused.err
        assert f"set {setting}=" in refused.complaint
        assert [path.name for path in root.iterdir()] == ["lost+found"]


@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_a_mounted_source_is_refused_unless_it_is_allowed(mode, file_system, tmp_path):
    with loop_device(file_system) as device, mounted(device, tmp_path / "mnt", mode):
        for command in (["rescue", device, tmp_path / "CASE"], ["scan", device]):
            refused = carver(*command)
            assert refused.code == 3
            assert "is mounted at" in refused.complaint and "--allow-mounted-source" in refused.complaint
        assert not (tmp_path / "CASE").exists()
        allowed = good("scan", "--allow-mounted-source", device)
        assert "warning: " in allowed.err and "is mounted at" in allowed.err


def test_an_image_that_a_loop_device_has_mounted_is_refused_as_well(file_system, tmp_path):
    with loop_device(file_system) as device, mounted(device, tmp_path / "mnt", "ro"):
        refused = carver("scan", file_system)
        assert refused.code == 3
        assert f"is behind {device}" in refused.complaint and "unmount or stop it first" in refused.complaint


def test_what_was_deleted_from_a_real_ext4_comes_back_byte_for_byte(tmp_path):
    need(ext4.missing())
    files = list(demo.models(6))
    truth = ext4.build_ext4(tmp_path / "fs.img", files, seed=6, size_bytes=64 << 20)
    whole = [file for file in truth["files"] if len(file["layout"]) == 1]
    assert len(whole) >= len(files) - 2
    demo.write_truth(tmp_path / "truth.json", {**truth, "files": whole})
    good("rescue", tmp_path / "fs.img", tmp_path / "CASE")
    load_checked(tmp_path / "CASE")
    bars = ("--min-recall", 1, "--min-precision", 1)
    score = good("score", tmp_path / "CASE", "--truth", tmp_path / "truth.json", "--json", *bars)
    assert json.loads(score.out)["missed"] == []
