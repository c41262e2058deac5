"""MapStore: crash replay between any two of its calls, and what a kill, a full disk or a second writer may do."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.disk import LocalDisk
from imaging.errors import DestinationFullError, InputError, MapfileError, OutputError
from imaging.extent import ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import (
    COMMIT_SECONDS,
    FINGERPRINT_CHARACTERS,
    LOCK_PAUSE_SECONDS,
    MapStore,
    is_locked,
    journal_path,
    lock_exclusively,
    lock_holder,
    read_remarks,
)

SIZE_BYTES = 4096
SECTOR_BYTES = 64
FINISHED = BlockStatus.FINISHED
MAP = Path("/case/drive.map")
IMAGE = Path("/case/drive.img")
DRIVE = bytes(1 + at % 251 for at in range(SIZE_BYTES))  # no zero: what is lost differs from what was read


def nothing_to_sync() -> None:
    """Stand for an image that is on its disk already."""


# --- a disk that loses power ------------------------------------------------------------------------------------------


@dataclass
class Inode:
    """A file: what is safely on the disk, and the writes and cuts that may be lost, kept or torn."""

    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # (offset, bytes) or (size, None): a cut

    def content(self) -> bytes:
        return apply(self.durable, self.pending)

    def after_power_loss(self, chance: random.Random) -> bytes:
        """Return what may be found: any of the pending changes, in any combination, each write perhaps torn."""
        kept: list[tuple[int, bytes | None]] = []
        for at, piece in self.pending:
            fate = chance.choice(("lost", "kept", "torn"))
            if fate == "kept":
                kept.append((at, piece))
            elif fate == "torn" and piece:
                cut = chance.randrange(len(piece))
                kept.append(chance.choice(((at, piece[:cut]), (at + cut, piece[cut:]))))
        return apply(self.durable, kept)


def apply(content: bytes, changes: list[tuple[int, bytes | None]]) -> bytes:
    """Apply writes and cuts in order; holes are zeros."""
    for at, piece in changes:
        if piece is None:
            content = content[:at].ljust(at, b"\0")
        else:
            content = content[:at].ljust(at, b"\0") + piece + content[at + len(piece) :]
    return content


class PowerCutError(Exception):
    """The moment after the last call that the disk still took."""


class FragileDisk:
    """A disk in memory that knows what a power cut would leave, and cuts the power after a number of calls."""

    def __init__(self, files: dict[Path, bytes] | None = None, *, calls_left: int | None = None) -> None:
        self.calls: list[str] = []
        self.calls_left = calls_left
        self.inodes: list[Inode] = [Inode(durable=content) for content in (files or {}).values()]
        self.names: dict[Path, int] = {path: number for number, path in enumerate(files or {})}
        self.durable_names = dict(self.names)
        self.pending_names: list[dict[Path, int]] = []  # the folder after each change since it was synced

    def _called(self, call: str) -> None:
        if self.calls_left is not None:
            if self.calls_left == 0:
                raise PowerCutError
            self.calls_left -= 1
        self.calls.append(call)

    def _named(self, names: dict[Path, int]) -> None:
        self.names = names
        self.pending_names.append(dict(names))

    def read(self, path: Path) -> bytes | None:
        return self.inodes[self.names[path]].content() if path in self.names else None

    def open(self, path: Path) -> int:
        if path not in self.names:
            self._called(f"create {path.name}")
            self.inodes.append(Inode())
            self._named({**self.names, path: len(self.inodes) - 1})
        return self.names[path]

    def write_at(self, descriptor: int, offset_bytes: int, content: bytes) -> None:
        self._called(f"write {descriptor}")
        self.inodes[descriptor].pending.append((offset_bytes, content))

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        self._called(f"truncate {descriptor}")
        self.inodes[descriptor].pending.append((size_bytes, None))

    def sync(self, descriptor: int) -> None:
        self._called(f"sync {descriptor}")
        inode = self.inodes[descriptor]
        inode.durable, inode.pending = inode.content(), []

    def write_synced(self, path: Path, content: bytes) -> None:
        descriptor = self.open(path)
        self.truncate(descriptor, 0)
        self.write_at(descriptor, 0, content)
        self.sync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self._called(f"rename {old.name}")
        names = dict(self.names)
        names[new] = names.pop(old)
        self._named(names)

    def sync_folder(self, path: Path) -> None:
        self._called("sync folder")
        self.durable_names, self.pending_names = dict(self.names), []

    def close(self, descriptor: int) -> None:
        """Keep nothing: a close syncs nothing."""

    def after_power_loss(self, seed: int) -> dict[Path, bytes]:
        """Return the files that may be found: 0, everything kept; 1, all unsynced lost; else any mixture."""
        chance = random.Random(seed)
        folders = [self.durable_names, *self.pending_names]  # a file system's journal keeps their order
        if seed == 0:
            return {path: self.inodes[number].content() for path, number in folders[-1].items()}
        if seed == 1:
            return {path: self.inodes[number].durable for path, number in folders[0].items()}
        return {path: self.inodes[number].after_power_loss(chance) for path, number in chance.choice(folders).items()}


@dataclass
class Progress:
    """What the workload could rely on: the statuses that a returned commit promised."""

    promised: ExtentSet = field(default_factory=ExtentSet)
    read: ExtentSet = field(default_factory=ExtentSet)


def rescue(disk: FragileDisk, progress: Progress, *, seed: int, rounds: int = 12) -> None:
    """Do what a rescue does: read, write to the image, record; commit, and checkpoint at times."""
    chance = random.Random(seed)
    image = disk.open(IMAGE)
    disk.sync_folder(IMAGE.parent)
    with MapStore.open(MAP, SIZE_BYTES, disk=disk) as store:
        progress.read = progress.promised = store.mapfile.extents(FINISHED)
        for turn in range(rounds):
            for _ in range(chance.randrange(1, 4)):
                extent = span(at := chance.randrange(0, SIZE_BYTES, SECTOR_BYTES), at + SECTOR_BYTES)
                if chance.random() < 0.7:
                    disk.write_at(image, extent.offset_bytes, DRIVE[extent.offset_bytes : extent.end_bytes])
                    store.record(extent, FINISHED)
                elif store.mapfile.block_at(extent.offset_bytes)[1] is not FINISHED:
                    store.record(extent, BlockStatus.NON_TRIMMED)
                store.mapfile.position_bytes = extent.end_bytes
            progress.read = store.mapfile.extents(FINISHED)
            save = store.checkpoint if turn % 4 == 3 else store.commit
            save(lambda: disk.sync(image))
            progress.promised = progress.read


def call_count(seed: int) -> int:
    disk = FragileDisk()
    rescue(disk, Progress(), seed=seed)
    return len(disk.calls)


def assert_map_is_true(files: dict[Path, bytes], progress: Progress) -> None:
    """Show that the map claims nothing that the image lacks, and lacks nothing that was promised."""
    if MAP not in files:
        assert not progress.promised
        return
    plain = Mapfile.parse(files[MAP].decode())  # what ddrescuelog would read: always whole
    if not len(plain):
        return
    snapshot = MapStore.read_snapshot(MAP, disk=FragileDisk(files))
    image = files.get(IMAGE, b"")
    for claimed in (plain, snapshot):
        for extent in claimed.extents(FINISHED):
            assert image[extent.offset_bytes : extent.end_bytes] == DRIVE[extent.offset_bytes : extent.end_bytes]
    assert not progress.promised - snapshot.extents(FINISHED)


@pytest.mark.parametrize("seed", range(3))
def test_crash_after_any_call_never_shows_a_map_ahead_of_the_image(seed: int) -> None:
    for calls in range(call_count(seed)):
        disk, progress = FragileDisk(calls_left=calls), Progress()
        with pytest.raises(PowerCutError):
            rescue(disk, progress, seed=seed)
        for loss in range(12):
            assert_map_is_true(disk.after_power_loss(loss), progress)


@given(first=st.integers(0, 60), second=st.integers(0, 60), loss=st.integers(0, 9999), seed=st.integers(0, 99))
def test_crash_during_the_run_after_a_crash_is_as_harmless(first: int, second: int, loss: int, seed: int) -> None:
    files: dict[Path, bytes] = {}
    promised = ExtentSet()
    for calls in (first, second):
        disk, progress = FragileDisk(files, calls_left=calls), Progress(promised=promised)
        with pytest.raises(PowerCutError):
            rescue(disk, progress, seed=seed + calls, rounds=99)
        files = disk.after_power_loss(loss)
        assert_map_is_true(files, progress)
        promised = progress.promised


def test_old_journal_beside_a_new_map_with_the_same_blocks_counts_for_nothing() -> None:
    disk = FragileDisk()
    rescue(disk, Progress(), seed=5, rounds=2)
    old_journal = disk.read(journal_path(MAP))
    assert old_journal
    anew = FragileDisk({journal_path(MAP): old_journal})  # map and image were deleted
    MapStore.open(MAP, SIZE_BYTES, disk=anew).close()
    content = anew.read(MAP)
    assert content
    left = FragileDisk({MAP: content, journal_path(MAP): old_journal})  # the cut of the journal was lost
    assert not MapStore.read_snapshot(MAP, disk=left).extents(FINISHED)


class EagerStore(MapStore):
    """A store that is wrong on purpose: it writes its line before it syncs the image."""

    def commit(self, sync_data: Callable[[], None]) -> None:
        super().commit(nothing_to_sync)
        sync_data()


def test_crash_replay_finds_a_store_that_writes_the_line_before_the_image_is_synced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(globals(), "MapStore", EagerStore)
    with pytest.raises(AssertionError):
        test_crash_after_any_call_never_shows_a_map_ahead_of_the_image(0)


class ForgetfulDisk(FragileDisk):
    """A disk whose new map is renamed before its bytes are there."""

    def write_synced(self, path: Path, content: bytes) -> None:
        descriptor = self.open(path)
        self.truncate(descriptor, 0)
        self.write_at(descriptor, 0, content)


def test_crash_replay_finds_a_map_renamed_before_it_is_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "FragileDisk", ForgetfulDisk)
    with pytest.raises((AssertionError, MapfileError)):
        test_crash_after_any_call_never_shows_a_map_ahead_of_the_image(0)


# --- the real disk ----------------------------------------------------------------------------------------------------


def test_recorded_statuses_come_back_from_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "drive.map"
    with MapStore.open(path, SIZE_BYTES, comments=["Command line: carver image"]) as store:
        store.record(span(0, 512), FINISHED)
        store.record(span(1024, 1536), BlockStatus.BAD_SECTOR)
        store.mapfile.position_bytes, store.mapfile.current_status, store.mapfile.current_pass = 1536, "/", 3
        store.commit(nothing_to_sync)
        expected = store.mapfile.copy()
    assert Mapfile.load(path).count_bytes(FINISHED) == 0, "the map itself was not written yet"
    assert MapStore.read_snapshot(path) == expected
    with MapStore.open(path, SIZE_BYTES) as store:
        assert store.mapfile == expected
    assert Mapfile.load(path) == expected, "opening folds the journal into the map"
    assert journal_path(path).read_bytes() == b""
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["drive.map", "drive.map.journal"]


def test_neighbouring_records_of_one_status_become_one_line_in_either_direction(tmp_path: Path) -> None:
    path = tmp_path / "drive.map"
    with MapStore.open(path, SIZE_BYTES) as store:
        for at in (0, 64, 128, 1088, 1024):
            store.record(span(at, at + 64), FINISHED)
        store.commit(nothing_to_sync)
        assert len(journal_path(path).read_text().splitlines()) == 2
        assert MapStore.read_snapshot(path).extents(FINISHED) == ExtentSet([span(0, 192), span(1024, 1152)])


def test_torn_last_line_of_the_journal_is_ignored_and_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "drive.map"
    with MapStore.open(path, SIZE_BYTES) as store:
        for at in (0, 1024):
            store.record(span(at, at + 64), FINISHED)
            store.commit(nothing_to_sync)
    whole = journal_path(path).read_bytes()
    for cut in range(whole.index(b"\n") + 2, len(whole) - 1):
        journal_path(path).write_bytes(whole[:cut])
        assert MapStore.read_snapshot(path).extents(FINISHED) == ExtentSet([span(0, 64)])
    with MapStore.open(path, SIZE_BYTES) as store:
        store.record(span(2048, 2112), FINISHED)
        store.commit(nothing_to_sync)
    assert MapStore.read_snapshot(path).extents(FINISHED) == ExtentSet([span(0, 64), span(2048, 2112)])


def test_journal_of_a_map_that_another_tool_changed_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "drive.map"
    with MapStore.open(path, SIZE_BYTES) as store:
        store.record(span(0, 64), FINISHED)
        store.commit(nothing_to_sync)
    path.write_text(f"0 ?\n0 {SIZE_BYTES} ?\n")
    assert MapStore.read_snapshot(path).count_bytes(FINISHED) == 0


def test_journal_line_that_does_not_fit_its_map_is_a_mapfile_error(tmp_path: Path) -> None:
    path = tmp_path / "drive.map"
    MapStore.open(path, SIZE_BYTES).close()
    fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()[:FINGERPRINT_CHARACTERS]
    body = f"{fingerprint} 0x0 {2 * SIZE_BYTES:#x} +"
    journal_path(path).write_text(f"{body} {zlib.crc32(body.encode()):08x}\n")
    with pytest.raises(MapfileError, match="line 1 of the journal does not fit its map"):
        MapStore.read_snapshot(path)


def test_remarks_are_in_every_map_written_and_are_found_by_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "drive.map"
    assert read_remarks(path) == ()
    with MapStore.open(path, SIZE_BYTES, comments=["Command line: carver image"]) as store:
        assert store.remarks == ()
        store.remarks = ("left for last 0x0+0x200", "another")
        store.checkpoint(nothing_to_sync)
    with MapStore.open(path, SIZE_BYTES) as store:
        assert store.remarks == read_remarks(path) == ("left for last 0x0+0x200", "another")
        store.remarks = ()
        store.checkpoint(nothing_to_sync)
    assert read_remarks(path) == ()
    assert Mapfile.load(path).size_bytes == SIZE_BYTES


def test_map_of_another_size_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "drive.map"
    MapStore.open(path, SIZE_BYTES).close()
    before = path.read_bytes()
    with pytest.raises(MapfileError, match="0x1000, but the drive has 0x1200: give the map that belongs to this"):
        MapStore.open(path, SIZE_BYTES + 512)
    assert path.read_bytes() == before
    MapStore.open(path, SIZE_BYTES).close()  # the refusal left no lock behind


def test_empty_map_begins_a_new_rescue(tmp_path: Path) -> None:
    path = tmp_path / "drive.map"
    path.write_text("# nothing yet\n")
    with MapStore.open(path, SIZE_BYTES) as store:
        assert store.mapfile == Mapfile.covering(SIZE_BYTES)


def test_snapshot_of_a_missing_map_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no mapfile"):
        MapStore.read_snapshot(tmp_path / "none.map")


def test_commit_is_due_two_seconds_after_something_began_to_wait(tmp_path: Path) -> None:
    with MapStore.open(tmp_path / "drive.map", SIZE_BYTES) as store:
        assert not store.due(0.0)
        store.record(span(0, 64), FINISHED)
        assert [store.due(100.0), store.due(100.0 + COMMIT_SECONDS - 0.1), store.due(100.0 + COMMIT_SECONDS)] == [
            False,
            False,
            True,
        ]
        store.commit(nothing_to_sync)
        assert not store.due(200.0)


def test_whole_map_is_written_by_itself_after_thirty_seconds_of_commits(tmp_path: Path) -> None:
    path = tmp_path / "drive.map"
    with MapStore.open(path, SIZE_BYTES) as store:
        for turn in range(16):
            store.record(span(turn * 64, turn * 64 + 64), FINISHED)
            store.commit(nothing_to_sync)
        assert Mapfile.load(path).count_bytes(FINISHED) == 16 * 64
        assert journal_path(path).read_bytes() == b""


@pytest.mark.skipif(shutil.which("ddrescuelog") is None, reason="ddrescuelog is not installed")
def test_ddrescuelog_reads_the_map_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "drive.map"
    with MapStore.open(path, SIZE_BYTES, comments=["odd \udcff name"]) as store:
        store.record(span(0, 64), FINISHED)
        store.checkpoint(nothing_to_sync)
        answer = subprocess.run(["ddrescuelog", "-t", path], capture_output=True, text=True, check=True)
    assert re.search(r"rescued:\s+64 B", answer.stdout)


def test_map_keeps_its_mode_when_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "drive.map"
    with MapStore.open(path, SIZE_BYTES) as store:
        path.chmod(0o640)
        store.checkpoint(nothing_to_sync)
    assert path.stat().st_mode & 0o777 == 0o640


def test_map_behind_a_symbolic_link_stays_behind_it(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    link = tmp_path / "drive.map"
    link.symlink_to(tmp_path / "kept" / "real.map")
    MapStore.open(link, SIZE_BYTES).close()
    assert link.is_symlink()
    assert (tmp_path / "kept" / "real.map").is_file()


# --- a disk that fails ------------------------------------------------------------------------------------------------


class FailingDisk(LocalDisk):
    """The real disk, on which one kind of call fails once."""

    def __init__(self) -> None:
        self.failing = ""
        self.code = errno.ENOSPC

    def _maybe_fail(self, call: str) -> None:
        if self.failing == call:
            self.failing = ""
            raise OSError(self.code, os.strerror(self.code))

    def write_at(self, descriptor: int, offset_bytes: int, content: bytes) -> None:
        if self.failing == "write_at":
            super().write_at(descriptor, offset_bytes, content[: len(content) // 2])
        self._maybe_fail("write_at")
        super().write_at(descriptor, offset_bytes, content)

    def sync(self, descriptor: int) -> None:
        self._maybe_fail("sync")
        super().sync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self._maybe_fail("rename")
        super().rename(old, new)

    def sync_folder(self, path: Path) -> None:
        self._maybe_fail("sync_folder")
        super().sync_folder(path)

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        self._maybe_fail("truncate")
        super().truncate(descriptor, size_bytes)


@pytest.mark.parametrize(
    ("save", "call"),
    [
        ("commit", "write_at"),
        ("commit", "sync"),
        ("checkpoint", "write_at"),
        ("checkpoint", "sync"),
        ("checkpoint", "rename"),
        ("checkpoint", "sync_folder"),
        ("checkpoint", "truncate"),
    ],
)
def test_full_disk_at_any_call_loses_nothing_once_there_is_room(save: str, call: str, tmp_path: Path) -> None:
    path, disk = tmp_path / "drive.map", FailingDisk()
    with MapStore.open(path, SIZE_BYTES, disk=disk) as store:
        store.record(span(0, 64), FINISHED)
        store.commit(nothing_to_sync)
        store.record(span(1024, 1088), FINISHED)
        disk.failing = call
        with pytest.raises(DestinationFullError, match="make room"):
            getattr(store, save)(nothing_to_sync)
        assert MapStore.read_snapshot(path).extents(FINISHED).covers(span(0, 64)), "what was promised holds"
        store.commit(nothing_to_sync)
        assert MapStore.read_snapshot(path) == store.mapfile
        store.record(span(2048, 2112), FINISHED)
        store.commit(nothing_to_sync)
        assert MapStore.read_snapshot(path) == store.mapfile


def test_failing_disk_is_an_output_error(tmp_path: Path) -> None:
    disk = FailingDisk()
    with MapStore.open(tmp_path / "drive.map", SIZE_BYTES, disk=disk) as store:
        store.record(span(0, 64), FINISHED)
        disk.failing, disk.code = "sync", errno.EIO
        with pytest.raises(OutputError, match="cannot write"):
            store.commit(nothing_to_sync)


def test_image_that_failed_to_sync_once_is_never_believed_again(tmp_path: Path) -> None:
    def failing_sync() -> None:
        raise OSError(errno.EIO, "failing")

    path = tmp_path / "drive.map"
    with MapStore.open(path, SIZE_BYTES) as store:
        store.record(span(0, 64), FINISHED)
        with pytest.raises(OSError, match="failing"):
            store.commit(failing_sync)
        for save in (store.commit, store.checkpoint):
            with pytest.raises(OutputError, match="mend the destination"):
                save(nothing_to_sync)
    assert MapStore.read_snapshot(path).count_bytes(FINISHED) == 0


# --- other processes --------------------------------------------------------------------------------------------------


def run_python(code: str, *arguments: Path) -> subprocess.Popen[str]:
    """Start a Python of our own kind on some code, its standard output and input piped."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_second_writer_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    image = tmp_path / "drive.img"
    holder = run_python(
        """
        import sys; from pathlib import Path; from imaging.mapstore import lock_exclusively
        lock = lock_exclusively(Path(sys.argv[1])); print("locked", flush=True); sys.stdin.read()
        """,
        image,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        told = rf"another carver is writing this image \(.*drive\.img\), pid {holder.pid};"
        if not Path("/proc/locks").exists():
            told = "another carver is writing this image"
        with pytest.raises(InputError, match=told):
            lock_exclusively(image)
        holder.kill()
    lock_exclusively(image).close()


def test_second_store_on_one_map_is_refused_while_a_snapshot_is_not(tmp_path: Path) -> None:
    path = tmp_path / "drive.map"
    with MapStore.open(path, SIZE_BYTES) as store:
        store.record(span(0, 64), FINISHED)
        store.commit(nothing_to_sync)
        with pytest.raises(InputError, match="another carver"):
            MapStore.open(path, SIZE_BYTES)
        assert MapStore.read_snapshot(path).count_bytes(FINISHED) == 64
    MapStore.open(path, SIZE_BYTES).close()


def test_file_system_without_locks_is_warned_of_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    lock_exclusively(tmp_path / "drive.img").close()
    assert "cannot be locked" in caplog.text


def test_image_that_cannot_be_opened_for_writing_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*none/drive\.img: No such file"):
        lock_exclusively(tmp_path / "none" / "drive.img")


def test_child_program_does_not_hold_the_lock_for_its_dead_parent(tmp_path: Path) -> None:
    path = tmp_path / "drive.map"
    store = MapStore.open(path, SIZE_BYTES)
    idle = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]
    child = subprocess.Popen(idle, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, close_fds=False)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        store.close()
        MapStore.open(path, SIZE_BYTES).close()
        child.kill()


def test_killed_at_any_moment_the_map_never_claims_what_the_image_lacks(tmp_path: Path) -> None:
    path, image = tmp_path / "drive.map", tmp_path / "drive.img"
    code = """
        import os, sys; from pathlib import Path
        from imaging.extent import span; from imaging.mapfile import BlockStatus; from imaging.mapstore import MapStore
        path, image = map(Path, sys.argv[1:])
        size_bytes, step_bytes = 1 << 20, 512
        out = os.open(image, os.O_RDWR | os.O_CREAT)
        with MapStore.open(path, size_bytes) as store:
            print("open", flush=True)
            while (block := store.mapfile.next_block(0, BlockStatus.NON_TRIED)) is not None:
                extent = span(block.offset_bytes, block.offset_bytes + step_bytes)
                os.pwrite(out, b"x" * step_bytes, extent.offset_bytes)
                store.record(extent, BlockStatus.FINISHED)
                store.commit(lambda: None)
            store.checkpoint(lambda: None)
    """
    chance = random.Random(7)
    reached_bytes = 0
    for _ in range(4):
        writer = run_python(code, path, image)
        with writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "open\n"
            wanted_bytes = reached_bytes + chance.randrange(1, 100) * 512
            while MapStore.read_snapshot(path).count_bytes(FINISHED) < wanted_bytes and writer.poll() is None:
                pass
            writer.send_signal(signal.SIGKILL)
        snapshot = MapStore.read_snapshot(path)
        assert snapshot.count_bytes(FINISHED) >= min(wanted_bytes, 1 << 20)
        content = image.read_bytes()
        for extent in snapshot.extents(FINISHED):
            assert content[extent.offset_bytes : extent.end_bytes] == b"x" * extent.size_bytes
        reached_bytes = snapshot.count_bytes(FINISHED)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_system_calls_come_in_the_promised_order(tmp_path: Path) -> None:
    code = """
        import os, sys; from pathlib import Path
        from imaging.extent import span; from imaging.mapfile import BlockStatus; from imaging.mapstore import MapStore
        path, image = map(Path, sys.argv[1:])
        out = os.open(image, os.O_RDWR | os.O_CREAT)
        with MapStore.open(path, 1024) as store:
            os.write(2, b"BEGIN")
            os.pwrite(out, b"x" * 512, 0)
            store.record(span(0, 512), BlockStatus.FINISHED)
            store.commit(lambda: os.fdatasync(out))
            store.checkpoint(lambda: os.fdatasync(out))
    """
    trace = tmp_path / "trace"
    kinds = "trace=pwrite64,fdatasync,fsync,rename,renameat,renameat2,ftruncate,write"
    run = subprocess.run(
        ["strace", "-f", "-y", "-o", trace, "-e", kinds, sys.executable, "-c", textwrap.dedent(code),
         tmp_path / "drive.map", tmp_path / "drive.img"],
        cwd=Path(__file__).parents[2], capture_output=True, check=False, text=True,
    )  # fmt: skip
    if "ptrace" in run.stderr:
        pytest.skip("strace may not trace here")
    assert run.returncode == 0, run.stderr
    steps = []
    for line in trace.read_text().partition("BEGIN")[2].splitlines()[1:]:
        call = re.match(r"\d+\s+(\w+)\((?:\d+<[^>]*?([^/>]*)>)?", line)
        if call:
            steps.append(f"{call[1]} {call[2] or ''}".strip())
    assert [re.sub(r"rename.*", "rename", step) for step in steps] == [
        "pwrite64 drive.img",
        "fdatasync drive.img",
        "pwrite64 drive.map.journal",
        "fdatasync drive.map.journal",
        "fdatasync drive.img",
        "pwrite64 drive.map.new",
        "fdatasync drive.map.new",
        "rename",
        f"fsync {tmp_path.name}",
        "ftruncate drive.map.journal",
    ]


def test_who_asks_whether_a_file_is_locked_does_not_keep_a_rescue_from_it(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.touch()
    with path.open("rb") as one, path.open("rb") as other:
        fcntl.flock(one.fileno(), fcntl.LOCK_SH)  # as one who asks has it for a moment
        assert not is_locked(other.fileno())
        released = threading.Timer(LOCK_PAUSE_SECONDS / 2, lambda: fcntl.flock(one.fileno(), fcntl.LOCK_UN))
        released.start()
        with lock_exclusively(path):
            assert is_locked(other.fileno())
            assert is_locked(other.fileno()), "to ask takes no lock away"
        released.join()
        assert not is_locked(other.fileno())
        with lock_exclusively(path):
            pass


def test_a_lock_is_known_where_the_file_system_names_another_device_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "image", tmp_path / "other"
    path.touch()
    other.touch()
    with path.open("rb") as image, other.open("rb") as unlocked:
        inodes = [os.fstat(file.fileno()).st_ino for file in (image, unlocked)]
        lines = [
            f"1: FLOCK  ADVISORY  WRITE {os.getpid()} 00:2d:{inodes[0]} 0 EOF",  # as on btrfs
            f"2: FLOCK  ADVISORY  WRITE 999999999 00:2d:{inodes[1]} 0 EOF",  # of a file elsewhere with the same number
        ]
        monkeypatch.setattr(Path, "read_text", lambda self, **options: "\n".join(lines))
        assert lock_holder(image.fileno()) == os.getpid()
        assert lock_holder(unlocked.fileno()) is None
