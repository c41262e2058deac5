"""Killed with -9 at random moments, filling, generating and rescues of every manner end as if nothing had happened."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fixtures.failing_drive import damage_of, write_contents
from imaging.errors import InputError
from imaging.extent import ExtentSet, span
from imaging.image import open_image
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore
from imaging.rescue.fill import fill, filling_of
from imaging.rescue.options import RescueOptions
from tests.imaging.test_destination import loop_device

MIB = 1 << 20
SIZE = 4 * MIB
BAD = [(70_144, 1024), (MIB, 60_416), (3 * MIB + 512, 512)]
HOLE = span(2 * MIB, 2 * MIB + 300_000)

CHILD = """
import sys, time
from pathlib import Path
import imaging.mapstore, imaging.rescue.sweep
from imaging.damaged import DamagedSource
from imaging.image import open_image
from imaging.mapfile import Mapfile
from imaging.rescue.engine import rescue
from imaging.rescue.fill import fill, filling_of
from imaging.rescue.generate import generate
from imaging.rescue.options import RescueOptions
from imaging.source import RawImage

imaging.mapstore.COMMIT_SECONDS = imaging.rescue.sweep.COMMIT_SECONDS = 0.05
what, options, contents, damage, image, map_path, pattern = sys.argv[1:]
options = eval(options)
slowly = lambda: bool(time.sleep({"rescue": 0.003, "fill": 0.015, "generate": 0.3}[what]))
if what == "fill":
    fill(Path(pattern), Path(image), Path(map_path), filling_of("l-"), options, stop=slowly)
elif what == "generate":
    generate(RawImage(contents), Path(image), Path(map_path), options, stop=slowly)
else:
    source = DamagedSource(RawImage(contents), Mapfile.load(Path(damage)))
    rescue(source, Path(image), Path(map_path), options, stop=slowly)
"""


class Bench:
    """A drive, its image, and a child that works on them."""

    def __init__(self, folder: Path) -> None:
        self.image_path, self.map_path = folder / "image", folder / "map"
        self.contents_path, self.damage_path, self.pattern_path = folder / "contents", folder / "damage", folder / "x"
        write_contents(self.contents_path, 8, SIZE)
        self.drive = bytearray(self.contents_path.read_bytes())
        self.drive[HOLE.offset_bytes : HOLE.end_bytes] = bytes(HOLE.size_bytes)
        self.contents_path.write_bytes(self.drive)
        self.damage_path.write_text(damage_of(SIZE, BAD).mapfile_text())
        self.pattern_path.write_bytes(b"BAD ")

    def run(self, what: str, options: str, rng: random.Random | None = None, seconds: float = 0.0) -> bool:
        """Run it, killed within this time of its beginning where `rng` is given; return whether it came to its end."""
        paths = [self.contents_path, self.damage_path, self.image_path, self.map_path, self.pattern_path]
        command = [sys.executable, "-c", CHILD, what, options, *map(str, paths)]
        with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as child:
            if rng is not None:
                before = self.state()
                while child.poll() is None and self.state() == before:
                    time.sleep(0.005)
                time.sleep(rng.uniform(0, seconds))
                child.kill()
            assert child.wait() in (0, -signal.SIGKILL), "it ended by itself"
            return child.returncode == 0

    def state(self) -> object:
        """Return what changes as soon as the work has begun."""
        paths = (self.map_path, self.map_path.with_name("map.journal"))
        return [path.stat().st_mtime_ns if path.exists() else None for path in paths]

    def run_through(self, what: str, options: str, seed: int, seconds: float = 0.5) -> int:
        """Run it and kill it until it is through; return how many kills that took."""
        rng = random.Random(seed)
        kills = 0
        while not self.run(what, options, rng, seconds):
            kills += 1
            if what == "generate" and MapStore.read_snapshot(self.map_path).current_status == "+":
                break  # killed on its way out: there is a map now, and a second is refused
            assert kills < 100
        return kills


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def check(bench: Bench, shift_bytes: int, start_bytes: int = 0) -> None:
    bad = ExtentSet(span(at, at + size) for at, size in BAD)
    image = bench.image_path.read_bytes()
    finished = Mapfile.load(bench.map_path).extents(BlockStatus.FINISHED)
    assert finished == bad.complement(span(start_bytes, SIZE))
    for extent in finished:
        there = image[extent.offset_bytes + shift_bytes : extent.end_bytes + shift_bytes]
        assert there == bench.drive[extent.offset_bytes : extent.end_bytes]


@pytest.mark.parametrize(
    ("options", "start", "shift"),
    [
        ("RescueOptions(sparse=True, compare_before_write=True)", 0, 0),
        ("RescueOptions(input_offset_bytes=512, output_offset_bytes=4096, preallocate=True)", 512, 3584),
    ],
)
def test_a_rescue_of_another_manner(options: str, start: int, shift: int, bench: Bench) -> None:
    assert bench.run_through("rescue", options, seed=1) >= 1
    check(bench, shift, start)


@pytest.mark.root
def test_a_rescue_to_a_device(bench: Bench) -> None:
    with loop_device(bench.image_path, SIZE) as device:
        bench.image_path = device
        assert bench.run_through("rescue", "RescueOptions(force=True)", seed=2) >= 1
        check(bench, 0)


def test_a_filling(bench: Bench, tmp_path: Path) -> None:
    assert bench.run("rescue", "RescueOptions()")
    whole, small = tmp_path / "whole", RescueOptions(cluster_bytes=512)
    for path in (bench.image_path, bench.map_path):
        shutil.copy(path, whole.with_name(f"whole-{path.name}"))
    fill(bench.pattern_path, tmp_path / "whole-image", tmp_path / "whole-map", filling_of("l-"), small)
    assert bench.run_through("fill", "RescueOptions(cluster_bytes=512)", seed=3, seconds=0.8) >= 1
    assert bench.image_path.read_bytes() == (tmp_path / "whole-image").read_bytes()
    assert Mapfile.load(bench.map_path) == Mapfile.load(tmp_path / "whole-map")
    check(bench, 0)


def test_a_generating(bench: Bench) -> None:
    bench.image_path.write_bytes(bench.drive[: 3 * MIB])
    assert bench.run_through("generate", "RescueOptions(cluster_bytes=512)", seed=4, seconds=0.8) >= 1
    finished = Mapfile.load(bench.map_path).extents(BlockStatus.FINISHED)
    inner = span(HOLE.offset_bytes, HOLE.end_bytes // 512 * 512)
    assert finished == ExtentSet([inner]).complement(span(0, 3 * MIB))
    assert bench.run("rescue", "RescueOptions()")
    read = Mapfile.load(bench.map_path).extents(BlockStatus.FINISHED)
    assert read == ExtentSet([span(3 * MIB + 512, 3 * MIB + 1024)]).complement(span(0, SIZE)), "what is bad was copied"
    assert open_image(bench.image_path, bench.map_path).source.read_at(0, 3 * MIB) == bench.drive[: 3 * MIB]


def test_a_filling_and_a_rescue_keep_each_other_out(bench: Bench) -> None:
    assert bench.run("rescue", "RescueOptions()")
    with MapStore.open(bench.map_path, SIZE), pytest.raises(InputError, match="another carver"):
        fill(bench.pattern_path, bench.image_path, bench.map_path, filling_of("-"), RescueOptions())
