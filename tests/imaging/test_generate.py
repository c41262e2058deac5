"""Generating: a map from an image's zeros; side by side with GNU ddrescue."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.errors import InputError, OutputError, UsageError
from imaging.extent import Extent, ExtentSet, span
from imaging.image import open_image
from imaging.mapfile import BlockStatus, Mapfile
from imaging.placement import recorded_shift
from imaging.rescue.engine import rescue
from imaging.rescue.generate import generate, runs_with_data
from imaging.rescue.options import RescueOptions
from imaging.rescue.sweep import SweepProgress
from imaging.source import RawImage
from tests.imaging.test_failing_drive import gnu, need_program

SECTOR = 512
DRIVE_BYTES = 9000 * SECTOR + 300


class Bench:
    """A drive, and what somebody copied of it without a map."""

    def __init__(self, folder: Path) -> None:
        self.drive_path, self.image_path, self.map_path = folder / "drive", folder / "image", folder / "map"
        rng = random.Random(4)
        self.contents = bytes(rng.randrange(1, 256) for _ in range(4096)) * (DRIVE_BYTES // 4096 + 1)
        self.contents = self.contents[:DRIVE_BYTES]
        self.drive_path.write_bytes(self.contents)

    def copy(self, *extents: Extent, shift_bytes: int = 0, size_bytes: int | None = None) -> None:
        with self.image_path.open("wb") as file:
            for extent in extents:
                file.seek(extent.offset_bytes + shift_bytes)
                file.write(self.contents[extent.offset_bytes : extent.end_bytes])
            if size_bytes is not None:
                file.truncate(size_bytes)

    def generate(self, options: RescueOptions | None = None, **kwargs: object) -> SweepProgress:
        with RawImage(self.drive_path) as drive:
            return generate(drive, self.image_path, self.map_path, options or RescueOptions(), **kwargs)  # type: ignore[arg-type]

    @property
    def finished(self) -> ExtentSet:
        return Mapfile.load(self.map_path).extents(BlockStatus.FINISHED)


COPIED = (span(0, 1536), span(4096, 4296), span(70_000, 70_001), span(0x30000, 0x90200), span(0x380000, 0x380400))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.copy(*COPIED, size_bytes=DRIVE_BYTES)
    return made


def stop_after(count: int) -> Callable[[], bool]:
    left = iter(range(count))
    return lambda: next(left, None) is None


CASES: dict[str, tuple[tuple[str, ...], RescueOptions]] = {
    "whole": ((), RescueOptions()),
    "in large sectors": (("-b4096",), RescueOptions(sector_bytes=4096)),
    "a part": (("-i0x1000", "-s0x40000"), RescueOptions(input_offset_bytes=0x1000, size_bytes=0x40000)),
    "from an odd place": (("-i1000", "-s300000"), RescueOptions(input_offset_bytes=1000, size_bytes=300_000)),
    "from elsewhere": (("-i0x1000", "-o0"), RescueOptions(input_offset_bytes=0x1000, output_offset_bytes=0)),
    "from behind": (("-o0x1000", "-i0"), RescueOptions(output_offset_bytes=0x1000)),
    "in small clusters": (("-c2", "-i700"), RescueOptions(cluster_bytes=1024, input_offset_bytes=700)),
}


@pytest.mark.parametrize("short_bytes", [0, 100_000])
@pytest.mark.parametrize("case", CASES)
def test_the_blocks_are_those_that_ddrescue_generates(case: str, short_bytes: int, bench: Bench) -> None:
    need_program("ddrescue")
    arguments, options = CASES[case]
    os.truncate(bench.image_path, DRIVE_BYTES - short_bytes)
    theirs_path = bench.map_path.with_name("theirs")
    gnu("-G", *arguments, bench.drive_path, bench.image_path, theirs_path)
    assert bench.generate(options).finished
    assert bench.finished == Mapfile.load(theirs_path).extents(BlockStatus.FINISHED)
    mapfile = Mapfile.load(bench.map_path)
    assert mapfile.size_bytes == DRIVE_BYTES, "it covers the drive, as every map of ours"
    assert mapfile.unread == mapfile.extents(BlockStatus.NON_TRIED)
    assert mapfile.current_status == "+"


@given(
    sectors=st.lists(st.booleans(), max_size=60),
    tail_bytes=st.integers(0, 4),
    sector_bytes=st.sampled_from([4, 8]),
    position_bytes=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_runs_are_the_sectors_with_anything_in_them(
    sectors: list[bool], tail_bytes: int, sector_bytes: int, position_bytes: int
) -> None:
    data = b"".join((b"\0" * (sector_bytes - 1) + b"\1") if full else bytes(sector_bytes) for full in sectors)
    data += b"\1" * tail_bytes
    runs = list(runs_with_data(data, position_bytes, sector_bytes))
    assert len(ExtentSet(runs)) == len(runs)
    held = ExtentSet(runs)
    for start in range(0, len(data), sector_bytes):
        sector = span(position_bytes + start, position_bytes + min(start + sector_bytes, len(data)))
        assert held.covers(sector) == held.touches(sector) == any(data[start : start + sector_bytes])


def test_a_rescue_goes_on_with_the_map_and_reads_only_what_was_not_copied(bench: Bench) -> None:
    asked: list[Extent] = []

    class Watched(RawImage):
        def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
            asked.append(span(offset_bytes, offset_bytes + size_bytes))
            return super().read_at(offset_bytes, size_bytes)

    bench.copy(span(0, 1536), span(0x30000, 0x90200), size_bytes=0x100000)
    bench.generate()
    known = bench.finished
    with Watched(bench.drive_path) as drive:
        assert rescue(drive, bench.image_path, bench.map_path, RescueOptions()).finished
    assert bench.image_path.read_bytes() == bench.contents
    assert ExtentSet(asked) == known.complement(span(0, DRIVE_BYTES))


def test_a_map_of_a_shifted_image_tells_so(bench: Bench) -> None:
    bench.copy(span(0x1000, 0x3000), shift_bytes=-0x1000, size_bytes=0x3000)
    options = RescueOptions(input_offset_bytes=0x1000, output_offset_bytes=0, size_bytes=0x3000)
    bench.generate(options)
    assert bench.finished == ExtentSet([span(0x1000, 0x3000)])
    assert recorded_shift(bench.map_path) == -0x1000
    assert open_image(bench.image_path, bench.map_path).source.unread == ExtentSet([span(0x2000, 0x3000)])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_interrupted_one_goes_on_where_it_was(bench: Bench, count: int) -> None:
    whole = [span(e.offset_bytes // SECTOR * SECTOR, -(-e.end_bytes // SECTOR) * SECTOR) for e in COPIED]
    began = bench.generate(stop=stop_after(count))
    assert not began.finished
    assert Mapfile.load(bench.map_path).current_status == "G"
    assert bench.finished.total_bytes < ExtentSet(whole).total_bytes
    ended = bench.generate()
    assert ended.finished
    assert began.done_bytes + ended.done_bytes == began.total_bytes
    assert bench.finished == ExtentSet(whole)


def test_holes_are_passed_over_without_being_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.copy(span(0, 512), span(DRIVE_BYTES - 512, DRIVE_BYTES))
    read: list[int] = []
    real = RawImage.read_at

    def read_at(image: RawImage, offset_bytes: int, size_bytes: int) -> bytes:
        read.append(size_bytes)
        return real(image, offset_bytes, size_bytes)

    monkeypatch.setattr(RawImage, "read_at", read_at)
    bench.generate()
    assert bench.finished.total_bytes == 512 + 300 + 512  # the drive's last whole sector is cut by its end
    if bench.image_path.stat().st_blocks * 512 < DRIVE_BYTES // 2:  # this file system keeps holes
        assert sum(read) < DRIVE_BYTES // 2


def test_progress_comes_to_its_end(bench: Bench) -> None:
    told: list[SweepProgress] = []
    seconds = iter(range(10**6))
    bench.generate(on_progress=told.append, clock=lambda: float(next(seconds)))
    assert len(told) > 2
    assert [p.finished for p in told] == [False] * (len(told) - 1) + [True]
    assert told[-1].done_bytes == told[-1].total_bytes == told[0].total_bytes


def test_a_map_that_knows_more_is_not_written_over(bench: Bench) -> None:
    mapfile = Mapfile.covering(DRIVE_BYTES)
    mapfile.mark(span(0, 512), BlockStatus.BAD_SECTOR)
    bench.map_path.write_text(mapfile.to_text())
    before = bench.map_path.read_bytes()
    with pytest.raises(OutputError, match="tells already"):
        bench.generate()
    assert bench.map_path.read_bytes() == before
    bench.map_path.write_text(Mapfile.covering(DRIVE_BYTES).to_text())
    assert bench.generate().finished


def test_what_cannot_be_is_told(bench: Bench) -> None:
    with pytest.raises(UsageError, match="starts at"):
        bench.generate(RescueOptions(input_offset_bytes=DRIVE_BYTES))
    with pytest.raises(UsageError, match="not a multiple"):
        bench.generate(RescueOptions(sector_bytes=1000))
    bench.image_path.unlink()
    with pytest.raises(InputError, match="does not exist"):
        bench.generate()
    bench.map_path.mkdir()
    with pytest.raises(OutputError, match="regular file"):
        bench.generate()
