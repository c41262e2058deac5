"""`carver image` of a real failing device, killed with -9 in every phase: nothing lost, hardly anything read twice.

A kill leaves the page cache, so it cannot show a map ahead of an image that was not synced: the crash replays of
`tests/imaging/test_mapstore.py` do that.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fixtures.failing_drive import (
    Damage,
    DriveRead,
    FailingDrive,
    damage_of,
    failing_drive,
    missing_for_failing_drive,
    write_contents,
)
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import COMMIT_SECONDS, MapStore
from tests.command import COMMAND, need, need_program
from tests.processes import wait_until_nobody_reads

pytestmark = pytest.mark.root
KIB, MIB = 1 << 10, 1 << 20
SECTOR_BYTES = 4096  # of the drive: the phases that go by sectors then take no longer than the copying ones
PART_BYTES = 3 * MIB
SLOWEST_SECONDS = 120  # a run that is neither killed nor finished by then hangs
PHASES = {"*": "trimming", "/": "scraping", "-": "retrying", "+": "finished"}
MOST_READS_AT_START = 20  # to see that it is the same drive
UNTIMED = ("starting", "saving")
SAVING_CALLS = ("rename", "fsync", "ftruncate", "fdatasync", "pwrite64")  # as strace names them


def parts_of(parts: int) -> Damage:
    """Return a drive of parts, each with two bad places, between which sectors can be read, too."""
    bad = []
    for part in range(parts):
        for place in (PART_BYTES // 3 + 64 * KIB, 2 * PART_BYTES // 3):
            start = part * PART_BYTES + place // (64 * KIB) * (64 * KIB)
            bad += [(start + sector * SECTOR_BYTES, SECTOR_BYTES) for sector in (3, 4, 5, 6, 7, 9, 10, 11, 12)]
    return damage_of(parts * PART_BYTES, bad)


def skipped_from(parts: int, number: int) -> Mapfile:
    """Return a map as slow reads leave it: it stands at a later copying pass, and much of every part was skipped."""
    mapfile = Mapfile.covering(parts * PART_BYTES)
    for part in range(parts):
        mapfile.mark(span(part * PART_BYTES, part * PART_BYTES + 256 * KIB), BlockStatus.FINISHED)
    mapfile.current_status, mapfile.current_pass = "?", number
    return mapfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A kill: the phase that the rescue was in, and whether its whole process group was meant."""

    phase: str
    to_group: bool


@dataclass(kw_only=True)
class Bench:
    """A rescue that is killed and run again until it is through."""

    folder: Path
    drive: FailingDrive
    contents: bytes
    read_milliseconds: int
    chance: random.Random
    begin_with: Mapfile | None
    kills: list[Kill] = field(default_factory=list)
    start_seconds: float = 2.0
    most_lost_reads: int = 0

    @property
    def image(self) -> Path:
        return self.folder / "drive.img"

    @property
    def map(self) -> Path:
        return self.folder / "drive.img.map"

    def begin(self) -> None:
        """Lay out what the rescue begins with: nothing, or what another tool has read."""
        self.folder.mkdir()
        if self.begin_with is None:
            return
        self.map.write_text(self.begin_with.to_text())
        with self.image.open("wb") as image:
            for extent in self.begin_with.extents(BlockStatus.FINISHED):
                image.seek(extent.offset_bytes)
                image.write(self.contents[extent.offset_bytes : extent.end_bytes])

    def command(self) -> list[str]:
        arguments = ("image", "-q", "-r", "1", "--recheck-errors", "0", self.drive.device, self.image)
        return [*COMMAND, *map(str, arguments)]

    def run_whole(self) -> None:
        done = subprocess.run(self.command(), capture_output=True, text=True, timeout=SLOWEST_SECONDS)
        assert done.returncode == 0, done.stderr

    def run_and_kill(self, phase: str | None) -> bool:
        """Run it and kill it in this phase (None: whichever it is in); return whether it was through before."""
        before, reads_before = self.finished(), len(self.drive.reads())
        to_group = self.chance.random() < 0.5
        tracing = self._killing_call() if phase == "saving" else []
        map_before = self._map_file()
        since = time.monotonic()
        messages = self.folder / "messages.txt"
        with messages.open("wb") as told:
            child = subprocess.Popen([*tracing, *self.command()], stdout=told, stderr=told, start_new_session=True)
        limit = since + self.chance.uniform(0, 0.8 * self.start_seconds) if phase == "starting" else math.inf
        while child.poll() is None and self._map_file() == map_before and time.monotonic() < limit:
            assert time.monotonic() - since < SLOWEST_SECONDS, "it does not start"
            time.sleep(0.005)
        started = self._map_file() != map_before
        reads_at_start = len(self.drive.reads()) if started else None
        if started and not tracing:
            self.start_seconds = time.monotonic() - since
        by_call = bool(tracing)
        try:
            child.wait(self.chance.uniform(0, 1.5 * COMMIT_SECONDS) if started else 0)
        except subprocess.TimeoutExpired:
            by_call = False
            (os.killpg if to_group else os.kill)(child.pid, signal.SIGKILL)
        code = child.wait(SLOWEST_SECONDS)
        if tracing:
            _end_group(child.pid)
        assert code in (0, -signal.SIGKILL), messages.read_text()
        wait_until_nobody_reads(self.drive.device)  # the child that reads ends with its parent, however that ended
        snapshot = MapStore.read_snapshot(self.map) if self.map.exists() else Mapfile.covering(len(self.contents))
        if code:
            self.kills.append(Kill(phase="saving" if by_call else _phase(snapshot, started), to_group=to_group))
        reads = self.drive.reads()
        self.check(before, snapshot, [] if reads_at_start is None else reads[reads_at_start:])
        if not started:
            assert snapshot.extents(BlockStatus.FINISHED) == before
            assert len(reads) - reads_before <= MOST_READS_AT_START or not before
        return code == 0

    def check(self, before: ExtentSet, snapshot: Mapfile, reads: list[DriveRead]) -> None:
        """Hold the map against the image, and what was read against the map."""
        finished = snapshot.extents(BlockStatus.FINISHED)
        assert not before - finished, "what was read is never forgotten"
        image = self.image.read_bytes() if self.image.exists() else b""
        for extent in finished:
            assert (
                image[extent.offset_bytes : extent.end_bytes] == self.contents[extent.offset_bytes : extent.end_bytes]
            )
        if self.map.exists():
            subprocess.run(["ddrescuelog", "-t", self.map], check=True, capture_output=True, timeout=SLOWEST_SECONDS)
        assert not [read for read in reads if before.touches(_extent(read))], "what the map had is read again"
        lost = [read for read in reads if not read.failed and not finished.covers(_extent(read))]
        most = COMMIT_SECONDS * 1000 / self.read_milliseconds + 4
        assert len(lost) <= most, "more than the reads of the last seconds must be read again"
        self.most_lost_reads = max(self.most_lost_reads, len(lost))

    def check_end(self, whole: Bench) -> None:
        assert self.image.read_bytes() == whole.image.read_bytes()
        ours, theirs = Mapfile.load(self.map), Mapfile.load(whole.map)
        assert list(ours.blocks()) == list(theirs.blocks())
        assert (ours.current_status, ours.extents(BlockStatus.NON_TRIED)) == ("+", ExtentSet())
        result = json.loads((self.folder / "drive.img.acquisition.json").read_text())["result"]
        assert result["digests"]["sha256"] == hashlib.sha256(self.image.read_bytes()).hexdigest()
        assert result["map_sha256"] == hashlib.sha256(self.map.read_bytes()).hexdigest()
        assert result["hashes"]["differing"] == [], "no piece was read as something else after a kill"

    def finished(self) -> ExtentSet:
        return MapStore.read_snapshot(self.map).extents(BlockStatus.FINISHED) if self.map.exists() else ExtentSet()

    def _map_file(self) -> tuple[int, int] | None:
        """Return which file the map is: it is written anew when a rescue has started, and once in a while."""
        try:
            status = self.map.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _killing_call(self) -> list[str]:
        """Return what runs a command up to one of the calls that save the map."""
        first = not any(kill.phase == "saving" for kill in self.kills)  # which is reached by every run
        call, count = self.chance.choice(SAVING_CALLS), 1 if first else self.chance.randint(1, 3)
        inject = f"inject={call}:signal=KILL:when={count}"
        names = ("drive.img", "drive.img.map", "drive.img.map.new", "drive.img.map.journal", ".")
        paths = [word for name in names for word in ("-P", str(self.folder / name))]
        return ["strace", "-f", "-qq", "-o", "/dev/null", *paths, "-e", f"trace={call}", "-e", inject]


def _phase(snapshot: Mapfile, started: bool) -> str:
    if not started:
        return "starting"
    return PHASES.get(snapshot.current_status, f"copying {snapshot.current_pass}")


def _extent(read: DriveRead) -> Extent:
    return Extent(offset_bytes=read.offset_bytes, size_bytes=read.size_bytes)


def _end_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


@contextmanager
def bench_of(
    folder: Path, parts: int, *, read_milliseconds: int, seed: int, begin_at_pass: int = 1
) -> Iterator[tuple[Bench, Bench]]:
    """Yield a rescue to be killed, and the same rescue that was never interrupted."""
    need(missing_for_failing_drive())
    need_program("ddrescuelog", "strace")
    damage = parts_of(parts)
    contents_path = folder / "contents"
    write_contents(contents_path, seed, damage.size_bytes)
    contents = contents_path.read_bytes()
    begin_with = skipped_from(parts, begin_at_pass) if begin_at_pass > 1 else None
    with failing_drive(
        folder / "bench", contents_path, damage, sector_bytes=SECTOR_BYTES, read_milliseconds=read_milliseconds
    ) as drive:
        killed, whole = (
            Bench(
                folder=folder / name,
                drive=drive,
                contents=contents,
                read_milliseconds=read_milliseconds,
                chance=random.Random(seed),
                begin_with=begin_with,
            )
            for name in ("killed", "whole")
        )
        whole.begin()
        whole.run_whole()
        yield killed, whole


def kill_until_through(bench: Bench, whole: Bench, most_kills: int) -> None:
    """Kill it again and again, in every tenth run while it starts, in two while it saves, up to the end."""
    bench.begin()
    through = False
    while not through:
        turn = len(bench.kills)
        if turn >= most_kills:
            bench.run_whole()
            break
        through = bench.run_and_kill({3: "starting", 6: "saving", 8: "saving"}.get(turn % 10))
    bench.check_end(whole)
    shutil.rmtree(bench.folder)


def test_a_rescue_killed_a_dozen_times_ends_as_if_nothing_had_happened(tmp_path):
    with bench_of(tmp_path, 2, read_milliseconds=15, seed=1, begin_at_pass=3) as (bench, whole):
        while len(bench.kills) < 12:
            kill_until_through(bench, whole, 12)
    assert {kill.to_group for kill in bench.kills} == {False, True}
    assert {kill.phase for kill in bench.kills} >= set(UNTIMED)


KILLS_EACH = 70  # in each of three rescues, which go on side by side
LEAST = {"starting": 15, "saving": 15, "copying 1": 8, "copying 2": 3, "copying 3": 3, "copying 4": 3, "copying 5": 4}
LEAST |= {"trimming": 10, "scraping": 4, "retrying": 10}


def kill_many_times(folder: Path, begin_at_pass: int) -> Bench:
    folder.mkdir()
    with bench_of(folder, 8, read_milliseconds=30, seed=begin_at_pass, begin_at_pass=begin_at_pass) as (bench, whole):
        while len(bench.kills) < KILLS_EACH:
            kill_until_through(bench, whole, KILLS_EACH)
    return bench


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_two_hundred_kills_spread_over_every_phase_end_as_if_nothing_had_happened(tmp_path):
    need(missing_for_failing_drive())
    with ThreadPoolExecutor(3) as pool:  # they mostly wait for their drives
        benches = list(pool.map(lambda number: kill_many_times(tmp_path / str(number), number), (1, 2, 3)))
    kills = [kill for bench in benches for kill in bench.kills]
    phases = Counter(kill.phase for kill in kills)
    groups = sum(kill.to_group for kill in kills)
    print(f"{len(kills)} kills, {groups} of whole groups: {dict(sorted(phases.items()))}")
    print(f"at most {max(bench.most_lost_reads for bench in benches)} reads of a run were done again by the next one")
    assert len(kills) >= 200
    assert min(groups, len(kills) - groups) > 50
    assert {phase for phase, least in LEAST.items() if phases[phase] < least} == set()
