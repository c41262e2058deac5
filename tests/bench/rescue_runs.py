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
from imaging.rescue.plan import Mark, Resume, Territory, plan_rescue, settle
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
    """Carry out our plan."""
    drive, curve = SimulatedDrive(mechanics, condition), Curve()
    size_bytes = condition.damage.size_bytes
    geometry = settle_geometry(
        options, drive_bytes=size_bytes, sector_bytes=512, physical_bytes=condition.physical_sector_bytes
    )
    mapfile = Mapfile.covering(size_bytes)
    plan = plan_rescue(Territory(mapfile, ExtentSet([span(0, size_bytes)])), geometry, options, Resume())
    step = next(plan, None)
    while step is not None:
        good_bytes = 0
        if isinstance(step, Mark):
            mapfile.mark(step.extent, step.status)
        else:
            extent = step.extent
            good_bytes = extent.size_bytes if drive.read(extent.offset_bytes, extent.size_bytes) else 0
            for mark in settle(step, good_bytes, geometry):
                mapfile.mark(mark.extent, mark.status)
            curve.add(drive.seconds, good_bytes)
        try:
            step = plan.send(good_bytes)
        except StopIteration:
            step = None
    assert mapfile.count_bytes(BlockStatus.FINISHED) == curve.final_bytes
    return curve


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
