"""Rescue runs: our plan and GNU ddrescue's order of reads, carried out on the same simulated drive."""

from __future__ import annotations

import subprocess
import tempfile
from array import array
from bisect import bisect_left
from pathlib import Path

from imaging.extent import ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.rescue.options import RescueOptions, settle_geometry
from imaging.rescue.order import plan_rescue
from imaging.rescue.plan import SLOW_PASSES, Mark, Outcome, Phase, Read, Resume, Territory, settle
from imaging.rescue.slowness import SlowJudge
from tests.bench.drive_model import Condition, Mechanics, SimulatedDrive

SHARES = (0.5, 0.9, 0.99, 1.0)


class Curve:
    """Bytes rescued against reads and simulated seconds: one entry a read."""

    def __init__(self) -> None:
        self.seconds = array("d", [0.0])
        self.rescued = array("q", [0])
        self.errors = 0

    def add(self, seconds: float, good_bytes: int) -> None:
        """Note a read: the time when it ended, and what was new of what it gave."""
        self.seconds.append(seconds)
        self.rescued.append(self.rescued[-1] + good_bytes)
        self.errors += good_bytes == 0

    @property
    def reads(self) -> int:
        """How many there were."""
        return len(self.seconds) - 1

    @property
    def final_bytes(self) -> int:
        """What was rescued in the end."""
        return self.rescued[-1]

    def seconds_to(self, wanted_bytes: int) -> float:
        """Return when so many bytes were there; infinity where they never were."""
        index = bisect_left(self.rescued, wanted_bytes)
        return self.seconds[index] if index < len(self.rescued) else float("inf")

    def rescued_at(self, seconds: float) -> int:
        """Return what was there by then."""
        return self.rescued[max(bisect_left(self.seconds, seconds) - 1, 0)]


def run_ours(mechanics: Mechanics, condition: Condition, options: RescueOptions) -> Curve:
    """Carry out our plan, as the engine does."""
    drive, curve = SimulatedDrive(mechanics, condition), Curve()
    size_bytes = condition.damage.size_bytes
    geometry = settle_geometry(
        options, drive_bytes=size_bytes, sector_bytes=512, physical_bytes=condition.physical_sector_bytes
    )
    mapfile = Mapfile.covering(size_bytes)
    judge = SlowJudge(options.slow_reads, adaptive=not options.compatible)
    plan = plan_rescue(Territory(mapfile, ExtentSet([span(0, size_bytes)])), geometry, options, Resume())
    step = next(plan, None)
    while step is not None:
        outcome = Outcome()
        if isinstance(step, Mark):
            mapfile.mark(step.extent, step.status)
        else:
            outcome = _read(drive, step, curve, judge)
            for mark in settle(step, outcome.good_bytes, geometry):
                mapfile.mark(mark.extent, mark.status)
        try:
            step = plan.send(outcome)
        except StopIteration:
            step = None
    if mapfile.count_bytes(BlockStatus.FINISHED) != curve.final_bytes:
        raise SystemExit("a good sector was read twice, or lost")
    return curve


def _read(drive: SimulatedDrive, read: Read, curve: Curve, judge: SlowJudge) -> Outcome:
    size_bytes, begin = read.extent.size_bytes, drive.seconds
    good_bytes = size_bytes if drive.read(read.extent.offset_bytes, size_bytes) else 0
    curve.add(drive.seconds, good_bytes)
    slow = False
    if good_bytes and read.phase is Phase.COPYING and read.pass_number in SLOW_PASSES:
        slow = judge.judge(
            size_bytes,
            drive.seconds - begin,
            run_seconds=drive.seconds,
            average_rate_bytes=curve.final_bytes / drive.seconds,
        )
    return Outcome(good_bytes=good_bytes, slow=slow)


def run_gnu(mechanics: Mechanics, condition: Condition, arguments: tuple[str, ...] = ()) -> Curve:
    """Replay the reads that GNU ddrescue makes of this damage (`--test-mode`, `--log-reads`) at the same prices."""
    drive, curve = SimulatedDrive(mechanics, condition), Curve()
    with tempfile.TemporaryDirectory() as name:
        contents, damage, log = (Path(name, each) for each in ("contents", "damage.map", "reads.log"))
        with contents.open("wb") as file:
            file.truncate(condition.damage.size_bytes)
        damage.write_text(condition.damage.mapfile_text())
        command = ["ddrescue", "-q", "-f", *arguments, f"--test-mode={damage}", f"--log-reads={log}"]
        subprocess.run([*command, contents, "/dev/null", Path(name, "map")], check=True)
        with log.open() as rows:
            for row in rows:
                if row.startswith("0x"):
                    offset, size, copied = row.split()[:3]
                    came = drive.read(int(offset, 16), int(size))
                    if came != (int(copied) > 0):
                        raise SystemExit(f"GNU ddrescue's log and the model differ at {offset}")
                    curve.add(drive.seconds, int(copied))
    return curve
