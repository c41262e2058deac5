"""Imaging devices: the imager beside GNU ddrescue on a healthy loop device, and on a real device that fails.

The healthy one is a file of random bytes under a loop device with direct I/O; images go to a tmpfs, so that the
destination is no limit. "Scanned meanwhile" ends when the whole image is scanned. All run in turn, round by round; each
run reads all of the device. Processor time is that of the process and of the children that have ended, the reading
child included. Needs root.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from carver.following import Follower
from carver.scan import scan
from fixtures.failing_drive import (
    bad_zones,
    damage_of,
    failing_drive,
    head_stripes,
    missing_for_failing_drive,
    scattered_sectors,
    write_contents,
)
from imaging.extent import ExtentSet
from imaging.hashes import Hasher
from imaging.reads import open_source
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions
from imaging.source import RawImage
from signatures import formats

MIB = 1 << 20
FORMATS = list(formats().values())
IMAGES = Path("/dev/shm")
FAILING_BYTES = 64 * MIB
COMPATIBLE = RescueOptions(compatible=True)


def measure(folder: Path, size_mib: int, rounds: int) -> None:
    """Print both tables."""
    if reason := missing_for_failing_drive():
        print(f"\nno real devices: {reason}")
        return
    measure_healthy(folder, size_mib, rounds)
    measure_failing(folder)


def measure_healthy(folder: Path, size_mib: int, rounds: int) -> None:
    """Print MB/s and processor seconds a GiB."""
    print(f"\n### healthy loop device, {size_mib} MiB, {rounds} rounds, load {os.getloadavg()[0]:.1f}\n")
    print("| | MB/s | processor s a GiB |\n|---|---|---|")
    with tempfile.TemporaryDirectory(dir=folder) as place, tempfile.TemporaryDirectory(dir=IMAGES) as images:
        contents = Path(place, "contents")
        with contents.open("wb") as file:
            for _ in range(size_mib):
                file.write(os.urandom(MIB))
            os.fsync(file.fileno())
        with loop_device(contents) as device:
            times: dict[str, list[tuple[float, float]]] = {}
            for turn in range(rounds + 1):
                for name, one in contenders(device, Path(images)).items():
                    times.setdefault(name, [])
                    spent = timed(one, Path(images))
                    if turn:  # the first round warms up
                        times[name].append(spent)
    for name, spents in times.items():
        rate = size_mib * MIB / statistics.median(wall for wall, _ in spents) / 1e6
        processor = statistics.median(used for _, used in spents) / size_mib * 1024
        print(f"| {name} | {rate:,.0f} | {processor:.2f} |", flush=True)


def contenders(device: Path, images: Path) -> dict[str, Callable[[], None]]:
    return {
        "carver": lambda: image(device, images, RescueOptions()),
        "carver, hashing SHA-256": lambda: image(device, images, RescueOptions(), hashing=True),
        "carver, scanned meanwhile": lambda: image_followed(device, images),
        "carver, scanned afterwards": lambda: image_then_scan(device, images),
        "carver, compatible": lambda: image(device, images, COMPATIBLE),
        "GNU ddrescue -d": lambda: gnu(device, images),
        "dd bs=1M iflag=direct": lambda: dd(device, images),
    }


def image(device: Path, images: Path, options: RescueOptions, *, hashing: bool = False) -> None:
    """Image a device, without hashes or with those that `carver image` makes by itself."""
    image_path, map_path, log_path = (images / name for name in ("image", "map", "hashes"))
    with open_source(device) as source:
        if hashing:
            with Hasher(log_path, image_bytes=source.size_bytes, mapfile=None) as hasher:
                rescue(source, image_path, map_path, options, subscribers=(hasher,))
        else:
            rescue(source, image_path, map_path, options)


def image_followed(device: Path, images: Path) -> None:
    """Image a device and scan meanwhile, as `carver rescue` does; ends when all is scanned."""
    with open_source(device) as source:
        follower = Follower(images, images / "image", FORMATS, image_bytes=source.size_bytes, finished=ExtentSet())
        with follower:
            rescue(source, images / "image", images / "map", RescueOptions(), subscribers=(follower,))


def image_then_scan(device: Path, images: Path) -> None:
    """Image a device, then scan the image with one thread."""
    image(device, images, RescueOptions())
    with RawImage(images / "image") as made:
        for _ in scan(made, FORMATS):
            pass


def gnu(device: Path, images: Path) -> None:
    subprocess.run(["ddrescue", "-q", "-d", device, images / "image", images / "map"], check=True)


def dd(device: Path, images: Path) -> None:
    command = ["dd", f"if={device}", f"of={images / 'image'}", "bs=1M", "iflag=direct", "status=none"]
    subprocess.run(command, check=True)


def timed(one: Callable[[], None], images: Path) -> tuple[float, float]:
    """Return the seconds by the clock and of the processor; what was written to `images` is removed."""
    begin, begin_processor = time.perf_counter(), processor_seconds()
    one()
    spent = time.perf_counter() - begin, processor_seconds() - begin_processor
    for path in images.iterdir():
        path.unlink()
    return spent


def processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@contextmanager
def loop_device(path: Path) -> Iterator[Path]:
    setup = ["losetup", "-f", "-r", "--direct-io=on", "--show", str(path)]
    device = subprocess.run(setup, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield Path(device)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def measure_failing(folder: Path) -> None:
    """Print what reached a real block device of 64 MiB that fails, and what was rescued."""
    zones = bad_zones(5, FAILING_BYTES, 4, zone_bytes=512 * 1024).bad
    stripes = head_stripes(FAILING_BYTES, stripe_bytes=256 * 1024, every_bytes=2 * MIB).bad[16:]
    damage = damage_of(FAILING_BYTES, [*scattered_sectors(5, FAILING_BYTES // 4, 20).bad, *zones, *stripes])
    good = FAILING_BYTES - damage.bad_bytes
    print(f"\n### failing block device, 64 MiB, {damage.bad_bytes // 512:,} bad sectors in {len(damage.bad)} areas\n")
    print("| | reads at the drive | errors | to 90 % | to 99 % | not rescued |\n|---|---|---|---|---|---|")
    runs = {"carver": lambda device, images: image(device, images, RescueOptions())}
    runs["carver, compatible"] = lambda device, images: image(device, images, COMPATIBLE)
    runs["GNU ddrescue -d"] = gnu
    for name, one in runs.items():
        with tempfile.TemporaryDirectory(dir=folder) as place:
            contents, images = Path(place, "contents"), Path(place, "images")
            images.mkdir()
            write_contents(contents, 5, FAILING_BYTES)
            with failing_drive(Path(place, "bench"), contents, damage) as drive:
                before = len(drive.reads())  # of those who looked at the new device
                one(drive.device, images)
                reads = drive.reads()[before:]
        had, errors, marks = 0, 0, []
        for read in reads:
            had, errors = had + read.size_bytes * (not read.failed), errors + read.failed
            marks += [errors] * ((had >= good * 0.9) + (had >= good * 0.99) - len(marks))
        first, second = (f"{mark:,} errors" for mark in marks)
        cells = [f"{len(reads):,}", f"{errors:,}", first, second, f"{max(good - had, 0):,}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
