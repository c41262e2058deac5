"""The rescue on a real block device that returns EIO, side by side with GNU ddrescue."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fixtures.failing_drive import (
    Damage,
    FailingDrive,
    bad_zones,
    damage_of,
    failing_drive,
    missing_for_failing_drive,
    scattered_sectors,
    write_contents,
)
from imaging.damaged import DamagedSource
from imaging.errors import DestinationFullError
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.reads import ChildDevice, open_source
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions
from imaging.rescue.progress import RescueSummary
from imaging.source import RawImage

MIB = 1 << 20
SIZE = 16 * MIB
DAMAGE = damage_of(
    SIZE, [*scattered_sectors(1, SIZE, 12).bad, *bad_zones(2, SIZE, 2, zone_bytes=8192).bad, (5 * MIB, 70_144)]
)


def need(reason: str | None) -> None:
    if reason and os.environ.get("CARVER_REQUIRE_TOOLS") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def need_program(*names: str) -> None:
    missing = [name for name in names if shutil.which(name) is None]
    need(f"missing: {', '.join(missing)} (apt-get install gddrescue)" if missing else None)


@contextmanager
def bench(folder: Path, damage: Damage, *, sector_bytes: int = 512) -> Iterator[FailingDrive]:
    need(missing_for_failing_drive())
    contents_path = folder / "contents"
    write_contents(contents_path, 7, damage.size_bytes)
    with failing_drive(folder / "bench", contents_path, damage, sector_bytes=sector_bytes) as drive:
        yield drive


def image_it(
    drive: FailingDrive, folder: Path, options: RescueOptions | None = None, stop_after: int = 10**9
) -> RescueSummary:
    left = iter(range(stop_after))
    with open_source(drive.device) as source:
        return rescue(
            source,
            folder / "drive.img",
            folder / "drive.map",
            options or RescueOptions(),
            stop=lambda: next(left, None) is None,
        )


def gnu(*arguments: object) -> None:
    subprocess.run(["ddrescue", "-q", *map(str, arguments)], check=True, timeout=120)


def bad_of(damage: Damage) -> ExtentSet:
    return ExtentSet(Extent(offset_bytes=offset, size_bytes=size) for offset, size in damage.bad)


def check_complete(folder: Path, damage: Damage) -> None:
    mapfile = Mapfile.load(folder / "drive.map")
    good = bad_of(damage).complement(span(0, damage.size_bytes))
    assert mapfile.extents(BlockStatus.BAD_SECTOR) == bad_of(damage)
    assert mapfile.extents(BlockStatus.FINISHED) == good
    drive, image = (folder / "contents").read_bytes(), (folder / "drive.img").read_bytes()
    assert len(image) == len(drive)
    for extent in good:
        assert image[extent.offset_bytes : extent.end_bytes] == drive[extent.offset_bytes : extent.end_bytes]


@pytest.mark.root
def test_a_failing_block_device_is_imaged_to_the_last_good_sector(tmp_path: Path) -> None:
    with bench(tmp_path, DAMAGE) as drive:
        summary = image_it(drive, tmp_path)
        reached = drive.reads()
    check_complete(tmp_path, DAMAGE)
    assert summary.finished
    assert summary.totals.bad_bytes == DAMAGE.bad_bytes
    # what the program counted is what the drive saw: no readahead, no second tries, nothing widened or split
    assert len(reached) == summary.reads
    assert sum(read.failed for read in reached) == summary.read_errors


@pytest.mark.root
def test_every_read_that_reaches_the_drive_is_whole_aligned_sectors(tmp_path: Path) -> None:
    damage = damage_of(4 * MIB, [(MIB, 4096), (2 * MIB + 8192, 8192)])
    with bench(tmp_path, damage, sector_bytes=4096) as drive:
        with open_source(drive.device) as source:
            assert isinstance(source, ChildDevice)
            assert (source.sector_bytes, source.physical_sector_bytes) == (4096, 4096)
            assert (source.size_bytes, source.present_bytes()) == (4 * MIB, 4 * MIB)
            assert source.read_at(5000, 3) == (tmp_path / "contents").read_bytes()[5000:5003]
        image_it(drive, tmp_path)
        reached = drive.reads()
    check_complete(tmp_path, damage)
    assert all(read.offset_bytes % 4096 == read.size_bytes % 4096 == 0 for read in reached)
    assert (reached[0].offset_bytes, reached[0].size_bytes) == (4096, 4096)


@pytest.mark.root
def test_gnu_ddrescue_finishes_what_we_began(tmp_path: Path) -> None:
    need_program("ddrescue", "ddrescuelog")
    with bench(tmp_path, DAMAGE) as drive:
        for stop_after in (40, 250, 200):
            assert image_it(drive, tmp_path, stop_after=stop_after).stopped
        shown = subprocess.run(
            ["ddrescuelog", "-t", tmp_path / "drive.map"], check=True, capture_output=True, text=True
        )
        assert "rescued" in shown.stdout
        finished = Mapfile.load(tmp_path / "drive.map").extents(BlockStatus.FINISHED)
        ours = len(drive.reads())
        gnu("-d", drive.device, tmp_path / "drive.img", tmp_path / "drive.map")
        theirs = drive.reads()[ours:]
    check_complete(tmp_path, DAMAGE)
    assert not any(finished.touches(span(r.offset_bytes, r.offset_bytes + r.size_bytes)) for r in theirs)


@pytest.mark.root
def test_we_finish_what_gnu_ddrescue_began(tmp_path: Path) -> None:
    need_program("ddrescue")
    with bench(tmp_path, DAMAGE) as drive:
        gnu("-d", "--cpass=1,2", "-N", "-n", drive.device, tmp_path / "drive.img", tmp_path / "drive.map")
        finished = Mapfile.load(tmp_path / "drive.map").extents(BlockStatus.FINISHED)
        theirs = len(drive.reads())
        assert image_it(drive, tmp_path, RescueOptions(recheck_errors=0)).finished
        ours = drive.reads()[theirs:]
    check_complete(tmp_path, DAMAGE)
    assert not any(finished.touches(span(r.offset_bytes, r.offset_bytes + r.size_bytes)) for r in ours)


@pytest.mark.root
def test_the_source_is_opened_for_reading_only_and_by_a_child_alone(tmp_path: Path) -> None:
    def open_here(process: int) -> list[int]:
        """Return the flags of every descriptor that the process has on the drive."""
        links = [link for link in Path(f"/proc/{process}/fd").iterdir() if link.resolve() == drive.device]
        texts = [Path(f"/proc/{process}/fdinfo/{link.name}").read_text() for link in links]
        return [int(text.split("flags:")[1].split()[0], 8) for text in texts]

    with bench(tmp_path, damage_of(MIB, [])) as drive, open_source(drive.device) as source:
        assert isinstance(source, ChildDevice)
        (child,) = source._children
        assert open_here(os.getpid()) == []
        (flags,) = open_here(child.process_id)
        assert flags & os.O_ACCMODE == os.O_RDONLY
        assert flags & os.O_DIRECT


KINDS = {
    "scattered": scattered_sectors(3, SIZE - 512, 60),
    "zones": bad_zones(4, SIZE - 512, 5, zone_bytes=50_000),
    "one big zone": damage_of(SIZE - 512, [(3 * MIB, MIB)]),
    "dead start": damage_of(SIZE - 512, [(0, 300_032)]),
}


@pytest.mark.parametrize("damage", [*KINDS.values(), DAMAGE, damage_of(1024, []), damage_of(1024, [(0, 9999)])])
def test_the_damage_map_of_the_bench_says_what_its_truth_says(damage: Damage) -> None:
    mapfile = Mapfile.parse(damage.mapfile_text())
    assert mapfile.unread == bad_of(damage)
    assert mapfile.size_bytes == damage.size_bytes
    assert sum(size for _, size in damage.readable) + damage.bad_bytes == damage.size_bytes


def test_ranges_of_damage_are_merged_and_cut_at_the_end_of_the_drive() -> None:
    damage = damage_of(4096, [(512, 512), (1024, 512), (600, 10), (3072, 9999), (9000, 1)])
    assert damage.bad == ((512, 1024), (3072, 1024))


@pytest.mark.parametrize("options", [(), ("-r2",), ("-R",), ("-u",), ("-n", "-N"), ("-c", "16", "-K", "0,65536")])
@pytest.mark.parametrize("kind", KINDS)
def test_on_the_same_damage_gnu_ddrescue_reads_the_same_places_in_the_same_order(
    kind: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    need_program("ddrescue")
    damage = Damage(size_bytes=SIZE, bad=KINDS[kind].bad)  # the last sector is good: ddrescue cuts a bad end off
    ours = {
        (): RescueOptions(compatible=True),
        ("-r2",): RescueOptions(compatible=True, retry_passes=2),
        ("-R",): RescueOptions(compatible=True, reverse=True),
        ("-u",): RescueOptions(compatible=True, unidirectional=True),
        ("-n", "-N"): RescueOptions(compatible=True, no_scrape=True, no_trim=True),
        ("-c", "16", "-K", "0,65536"): RescueOptions(compatible=True, cluster_bytes=8192, initial_skip_bytes=0),
    }[options]
    contents_path, damage_path = tmp_path / "contents", tmp_path / "damage.map"
    with contents_path.open("wb") as file:
        file.truncate(SIZE)
    damage_path.write_text(damage.mapfile_text())
    asked: list[tuple[int, int]] = []
    source = DamagedSource(
        RawImage(contents_path),
        Mapfile.load(damage_path),
        on_read=lambda extent: asked.append((extent.offset_bytes, extent.size_bytes)),
    )
    rescue(source, tmp_path / "drive.img", tmp_path / "drive.map", ours)

    log_path = tmp_path / "reads.log"
    gnu(*options, "-H", damage_path, f"--log-reads={log_path}", contents_path, tmp_path / "g.img", tmp_path / "g.map")
    rows = [line.split() for line in log_path.read_text().splitlines() if line.startswith("0x")]
    assert asked == [(int(row[0], 16), int(row[1])) for row in rows]
    assert list(Mapfile.load(tmp_path / "drive.map").blocks()) == list(Mapfile.load(tmp_path / "g.map").blocks())


@pytest.mark.root
def test_a_destination_that_fills_up_keeps_what_was_read(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        need("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    damage = damage_of(12 * MIB, [(MIB, 512)])
    contents_path = tmp_path / "contents"
    write_contents(contents_path, 7, damage.size_bytes)
    source = DamagedSource(RawImage(contents_path), Mapfile.parse(damage.mapfile_text()))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "carver-test", small], capture_output=True)
    need("no tmpfs can be mounted here" if mounted.returncode else None)
    try:
        with pytest.raises(DestinationFullError, match="make room"):
            rescue(source, small / "drive.img", small / "drive.map", RescueOptions())
        finished = Mapfile.load(small / "drive.map").extents(BlockStatus.FINISHED)
        assert finished.total_bytes > 6 * MIB, "all but the room kept back for the map is used and known"
        subprocess.run(["mount", "-o", "remount,size=24m", small], check=True)
        assert rescue(source, small / "drive.img", small / "drive.map", RescueOptions()).finished
        for name in ("drive.img", "drive.map"):
            shutil.copy(small / name, tmp_path / name)
    finally:
        subprocess.run(["umount", small], check=True)
    check_complete(tmp_path, damage)
