"""The image on its way to the disk: domain, position, holes, room and compared writes, as GNU ddrescue leaves them."""

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.failing_drive import Damage, bad_zones, damage_of, scattered_sectors, write_contents
from imaging.damaged import DamagedSource
from imaging.errors import DestinationFullError, InputError, OutputError, UsageError
from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore
from imaging.pump import Piece
from imaging.reads import PatientDrive, Watcher
from imaging.rescue import room
from imaging.rescue.comeback import samples_of
from imaging.rescue.options import RescueOptions, settle_placement
from imaging.rescue.writer import SPARSE_BLOCK_BYTES, ImageWriter, zero_runs
from imaging.source import RawImage
from tests.imaging.test_engine import Bench, stop_after
from tests.imaging.test_failing_drive import gnu, need, need_program

MIB = 1 << 20
SIZE = 8 * MIB
HOLES = [(0, 300_000), (MIB, 3 * MIB), (5 * MIB + 512, 66_000), (SIZE - 200_000, 200_000)]
DAMAGE = damage_of(
    SIZE - 512, [*scattered_sectors(1, SIZE - 512, 20).bad, *bad_zones(2, SIZE - 512, 3, zone_bytes=30_000).bad]
)
DAMAGE = Damage(size_bytes=SIZE, bad=DAMAGE.bad)  # the last sector is good: ddrescue cuts a bad end off
DOMAIN = ExtentSet(
    [span(0, 4096), span(70_000 // 512 * 512, 2 * MIB), span(3 * MIB + 512, 3 * MIB + 1024), span(6 * MIB, SIZE)]
)


def domain_text(domain: ExtentSet, size_bytes: int) -> str:
    whole = span(0, size_bytes)
    return Mapfile.from_extents(
        {BlockStatus.FINISHED: domain, BlockStatus.BAD_SECTOR: domain.complement(whole)}
    ).to_text()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path, DAMAGE)
    contents = bytearray(made.contents_path.read_bytes())
    for start, size in HOLES:
        contents[start : start + size] = bytes(size)
    made.contents_path.write_bytes(contents)
    return made


CASES: dict[str, tuple[tuple[str, ...], RescueOptions]] = {
    "a domain": (("-m", "DOMAIN"), RescueOptions(domain=DOMAIN)),
    "a domain, in reverse": (("-R", "-m", "DOMAIN"), RescueOptions(domain=DOMAIN, reverse=True)),
    "a domain in a range": (
        ("-i", "0x8000", "-s", "0x5f8000", "-m", "DOMAIN"),
        RescueOptions(domain=DOMAIN, input_offset_bytes=0x8000, size_bytes=0x5F8000),
    ),
    "a range": (("-i1Mi", "-s", "2Mi"), RescueOptions(input_offset_bytes=MIB, size_bytes=2 * MIB)),
    "a range to the start": (
        ("-i", "1000000", "-s", "3000000", "-o0"),
        RescueOptions(input_offset_bytes=1_000_000, size_bytes=3_000_000, output_offset_bytes=0),
    ),
    "a range to the back": (
        ("-i", "3072", "-s2Mi", "-o", "5000"),
        RescueOptions(input_offset_bytes=3072, size_bytes=2 * MIB, output_offset_bytes=5000),
    ),
    "a domain to the start": (
        ("-i1Mi", "-o", "0", "-m", "DOMAIN"),
        RescueOptions(input_offset_bytes=MIB, output_offset_bytes=0, domain=DOMAIN),
    ),
    "sparse": (("-S",), RescueOptions(sparse=True)),
    "sparse, elsewhere": (
        ("-S", "-i", "1536", "-o0"),
        RescueOptions(sparse=True, input_offset_bytes=1536, output_offset_bytes=0),
    ),
    "preallocated": (("-p",), RescueOptions(preallocate=True)),
    "compared": (("-W",), RescueOptions(compare_before_write=True)),
    "sparse and compared": (("-S", "-W"), RescueOptions(sparse=True, compare_before_write=True)),
}


@pytest.mark.parametrize("case", CASES)
def test_image_map_and_reads_are_those_of_ddrescue(case: str, bench: Bench) -> None:
    need_program("ddrescue")
    arguments, options = CASES[case]
    (bench.folder / "domain").write_text(domain_text(DOMAIN, SIZE))
    compare(bench, [bench.folder / "domain" if name == "DOMAIN" else name for name in arguments], options)


def compare(bench: Bench, arguments: Sequence[object], options: RescueOptions) -> None:
    """Rescue the same drive with ddrescue and with ours: the same reads in the same order, the same map and image."""
    folder, image_path, map_path = bench.folder, bench.folder / "g.img", bench.folder / "g.map"
    (folder / "damage").write_text(DAMAGE.mapfile_text())
    log_path = folder / "reads"
    log_path.touch()  # where there is nothing to do, it makes none
    gnu(*arguments, "-H", folder / "damage", f"--log-reads={log_path}", bench.contents_path, image_path, map_path)
    assert bench.rescue(options=replace(options, compatible=True)).finished
    rows = [line.split() for line in log_path.read_text().splitlines() if line.startswith("0x")]
    assert [(e.offset_bytes, e.size_bytes) for e in bench.asked] == [(int(row[0], 16), int(row[1])) for row in rows]
    ours, theirs = bench.image_path.read_bytes(), image_path.read_bytes() if image_path.exists() else b""
    assert ours[: len(theirs)] == theirs
    assert not any(ours[len(theirs) :]), "ours is as long as the drive, or the range, from the start"
    if map_path.exists():
        assert list(Mapfile.load(bench.map_path).blocks()) == list(Mapfile.load(map_path).blocks())


def test_nothing_outside_the_domain_is_read_marked_or_reset(bench: Bench) -> None:
    bench.rescue(options=RescueOptions(no_trim=True))
    before = Mapfile.load(bench.map_path)
    bench.asked.clear()
    bench.rescue(options=RescueOptions(domain=DOMAIN, try_again=True, retrim=True, retry_passes=1))
    after, outside = Mapfile.load(bench.map_path), DOMAIN.complement(span(0, SIZE))
    assert ExtentSet(bench.asked) - DOMAIN == ExtentSet()
    for status in BlockStatus:
        assert before.extents(status) & outside == after.extents(status) & outside
    bench.rescue()
    bench.check_complete()


def check_shifted(bench: Bench, shift_bytes: int) -> ExtentSet:
    """The image has the drive's bytes where they should be in it; return which."""
    finished = MapStore.read_snapshot(bench.map_path).extents(BlockStatus.FINISHED)
    drive, image = bench.contents_path.read_bytes(), bench.image_path.read_bytes()
    for extent in finished:
        there = image[extent.offset_bytes + shift_bytes : extent.end_bytes + shift_bytes]
        assert there == drive[extent.offset_bytes : extent.end_bytes]
    return finished


@pytest.mark.parametrize(("start", "to"), [(MIB, 0), (1536, 512), (0, 3000), (MIB, 4 * MIB)])
def test_an_interrupted_rescue_to_another_position_goes_on_there(start: int, to: int, bench: Bench) -> None:
    options = RescueOptions(input_offset_bytes=start, output_offset_bytes=to, cluster_bytes=16_384)
    for _ in range(3):
        assert bench.rescue(options=options, stop=stop_after(30)).stopped
        check_shifted(bench, to - start)
    assert bench.rescue(options=options).finished
    assert check_shifted(bench, to - start) == bench.good.within(span(start, SIZE))
    assert bench.image_path.stat().st_size == SIZE + to - start


@pytest.mark.parametrize("other", [RescueOptions(), RescueOptions(output_offset_bytes=512)])
def test_going_on_at_another_position_is_refused_and_changes_nothing(other: RescueOptions, bench: Bench) -> None:
    bench.rescue(options=RescueOptions(input_offset_bytes=MIB, output_offset_bytes=0), stop=stop_after(20))
    image, text = bench.image_path.read_bytes(), bench.map_path.read_bytes()
    with pytest.raises(InputError, match="keep the difference"):
        bench.rescue(options=other)
    assert (bench.image_path.read_bytes(), bench.map_path.read_bytes()) == (image, text)


def test_another_part_of_the_drive_goes_to_its_place_in_the_same_shifted_image(bench: Bench) -> None:
    bench.rescue(options=RescueOptions(input_offset_bytes=2 * MIB, size_bytes=MIB, output_offset_bytes=MIB))
    bench.rescue(options=RescueOptions(input_offset_bytes=5 * MIB, size_bytes=MIB, output_offset_bytes=4 * MIB))
    wanted = ExtentSet([span(2 * MIB, 3 * MIB), span(5 * MIB, 6 * MIB)])
    assert check_shifted(bench, -MIB) == bench.good & wanted
    assert bench.image_path.stat().st_size == 5 * MIB


def test_ddrescue_goes_on_with_a_shifted_image(bench: Bench) -> None:
    need_program("ddrescue")
    bench.rescue(options=RescueOptions(input_offset_bytes=MIB, output_offset_bytes=0), stop=stop_after(20))
    (bench.folder / "damage").write_text(DAMAGE.mapfile_text())
    gnu("-i1Mi", "-o0", "-H", bench.folder / "damage", bench.contents_path, bench.image_path, bench.map_path)
    assert check_shifted(bench, -MIB) == bench.good.within(span(MIB, SIZE))
    assert bench.rescue(options=RescueOptions(input_offset_bytes=MIB, output_offset_bytes=0)).finished


def test_a_map_with_data_before_the_start_of_the_image_is_refused(bench: Bench) -> None:
    bench.rescue(stop=stop_after(10))
    lines = [line for line in bench.map_path.read_text().splitlines(keepends=True) if "Generation" not in line]
    bench.map_path.write_text("".join(lines))
    bench.map_path.with_name(bench.map_path.name + ".journal").unlink()
    with pytest.raises(InputError, match="before the start"):
        bench.rescue(options=RescueOptions(input_offset_bytes=MIB, output_offset_bytes=0))


class Patient(DamagedSource):
    """A drive that is asked, after errors, for what it has given before; `corrupt`: it then gives something else."""

    corrupt = False

    def __init__(self, source: RawImage, damage: Mapfile) -> None:
        super().__init__(source, damage)
        self.watcher: Watcher = lambda waiting: True
        self.read_seconds = 0.0
        self.given: set[int] = set()
        self.asked_again: list[Extent] = []

    def expect(self, extent: Extent | None) -> None:
        """Read nothing ahead."""

    def know_good(self, extent: Extent) -> None:
        """Hang never."""

    def reopen(self) -> None:
        """Be open all the time."""

    def take_late(self) -> list[tuple[int, bytes]]:
        """Bring nothing late."""
        return []

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Read, and note what was read before."""
        data = super().read_at(offset_bytes, size_bytes)
        sectors = set(range(offset_bytes // 512, (offset_bytes + size_bytes) // 512))
        again = not sectors.isdisjoint(self.given)
        self.given |= sectors
        if again:
            self.asked_again.append(span(offset_bytes, offset_bytes + size_bytes))
        return bytes(byte ^ 0xFF for byte in data) if again and self.corrupt else data


def test_what_was_read_before_is_compared_with_its_place_in_a_shifted_image(bench: Bench) -> None:
    source = Patient(RawImage(bench.contents_path), Mapfile.parse(DAMAGE.mapfile_text()))
    assert isinstance(source, PatientDrive)
    options = RescueOptions(input_offset_bytes=MIB, output_offset_bytes=0, recheck_errors=2)
    assert bench.rescue(source, options, stop=stop_after(400)).stopped
    assert source.asked_again, "a good sector was read again, and was as it had been"
    source.corrupt = True
    with pytest.raises(InputError, match="answers other bytes"):
        bench.rescue(source, options)
    check_shifted(bench, -MIB)


def test_a_vanished_drive_is_known_by_its_bytes_from_a_shifted_image(bench: Bench) -> None:
    bench.rescue(options=RescueOptions(input_offset_bytes=MIB, output_offset_bytes=0))
    mapfile = Mapfile.load(bench.map_path)
    finished = mapfile.extents(BlockStatus.FINISHED)
    with ImageWriter(bench.image_path, 0, finished=finished, shift_bytes=-MIB) as writer:
        samples = samples_of(mapfile, writer.read_back)
    drive = bench.contents_path.read_bytes()
    assert len(samples) > 3
    assert all(drive[at : at + len(data)] == data for at, data in samples)


def test_a_domain_in_which_nothing_lies_is_done_at_once(bench: Bench) -> None:
    assert bench.rescue(options=RescueOptions(domain=ExtentSet())).finished
    assert bench.asked == []


def test_positions_that_cannot_be_are_refused(bench: Bench) -> None:
    with pytest.raises(UsageError, match="negative"):
        bench.rescue(options=RescueOptions(output_offset_bytes=-1))
    with pytest.raises(UsageError, match="beyond"):
        bench.rescue(options=RescueOptions(output_offset_bytes=(1 << 63) - 1))
    assert not bench.map_path.exists()


def test_an_image_at_the_drives_positions_is_as_long_as_the_drive_and_a_device_needs_only_the_domain() -> None:
    domain = ExtentSet([span(512, 1024), span(2048, 4096)])
    same = settle_placement(RescueOptions(size_bytes=5000), domain, drive_bytes=SIZE)
    assert (same.shift_bytes, same.image_bytes, same.needed_bytes) == (0, SIZE, 4096)
    moved = settle_placement(
        RescueOptions(size_bytes=5000, input_offset_bytes=512, output_offset_bytes=0), domain, drive_bytes=SIZE
    )
    assert (moved.shift_bytes, moved.image_bytes, moved.needed_bytes) == (-512, 5000, 3584)
    cut = settle_placement(RescueOptions(size_bytes=1024), domain, drive_bytes=SIZE)
    assert cut.needed_bytes == 1024


def blocks_of(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_zeros_that_were_read_take_no_room(bench: Bench) -> None:
    bench.rescue(options=RescueOptions(sparse=True))
    sparse_bytes = blocks_of(bench.image_path)
    zeros_bytes = sum(size // SPARSE_BLOCK_BYTES * SPARSE_BLOCK_BYTES - 2 * SPARSE_BLOCK_BYTES for _, size in HOLES)
    bench.check_complete()
    bench.image_path.unlink()
    bench.map_path.unlink()
    bench.rescue()
    assert sparse_bytes <= blocks_of(bench.image_path) - zeros_bytes + bench.bad.total_bytes + 64 * 1024


def test_old_bytes_never_survive_where_zeros_were_read(bench: Bench) -> None:
    # as after a rescue of another copy, a filling, or a write whose mark in the map was lost with the power
    bench.rescue(options=RescueOptions(sparse=True), stop=stop_after(5))
    finished = Mapfile.load(bench.map_path).extents(BlockStatus.FINISHED)
    with bench.image_path.open("r+b") as file:
        for extent in finished.complement(span(0, SIZE)):
            file.seek(extent.offset_bytes)
            file.write(b"\xee" * extent.size_bytes)
    bench.rescue(options=RescueOptions(sparse=True))
    bench.check_image(bench.good)


def test_only_a_file_can_be_sparse_or_preallocated(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="only a file can be sparse"):
        ImageWriter(Path("/dev/null"), 0, sparse=True)
    with ImageWriter(Path("/dev/null"), 0) as writer, pytest.raises(OutputError, match="all its room already"):
        writer.take_room(ExtentSet([span(0, 512)]))


@given(
    blocks=st.lists(st.tuples(st.booleans(), st.integers(1, 3 * SPARSE_BLOCK_BYTES)), max_size=6),
    offset_bytes=st.integers(0, 3 * SPARSE_BLOCK_BYTES),
)
@settings(max_examples=100, deadline=None)
def test_runs_of_zeros_cover_the_data_and_are_cut_at_blocks_of_the_image(
    blocks: list[tuple[bool, int]], offset_bytes: int
) -> None:
    data = b"".join((b"\1" if full else b"\0") * size for full, size in blocks)
    runs = list(zero_runs(data, offset_bytes))
    assert [start for start, _, _ in runs] == [0, *(end for _, end, _ in runs)][: len(runs)]
    assert (runs[-1][1] if runs else 0) == len(data)
    for start, end, is_zero in runs:
        assert start < end
        assert is_zero <= (not any(data[start:end]))
        for edge in (start, end):
            assert edge in (0, len(data)) or (edge + offset_bytes) % SPARSE_BLOCK_BYTES == 0
    assert all(one[2] != other[2] for one, other in pairwise(runs))
    for at in range(-offset_bytes % SPARSE_BLOCK_BYTES, len(data) - SPARSE_BLOCK_BYTES + 1, SPARSE_BLOCK_BYTES):
        if not any(data[at : at + SPARSE_BLOCK_BYTES]):
            assert any(start <= at and at + SPARSE_BLOCK_BYTES <= end for start, end, is_zero in runs if is_zero)


def counted_writes(monkeypatch: pytest.MonkeyPatch) -> list[Extent]:
    real, written = os.pwrite, []

    def pwrite(descriptor: int, data: bytes, offset_bytes: int) -> int:
        if Path(f"/proc/self/fd/{descriptor}").resolve().suffix == ".img":
            written.append(Extent(offset_bytes=offset_bytes, size_bytes=len(data)))
        return real(descriptor, data, offset_bytes)

    monkeypatch.setattr(os, "pwrite", pwrite)
    return written


def test_what_the_image_has_already_is_not_written_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.rescue()
    bench.map_path.write_text(Mapfile.covering(SIZE).to_text())
    with bench.image_path.open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"old")
    written = counted_writes(monkeypatch)
    bench.rescue(options=RescueOptions(compare_before_write=True))
    assert sum(extent.size_bytes for extent in written) <= 64 * 1024
    assert ExtentSet(written).covers(span(5 * MIB, 5 * MIB + 3))
    bench.check_image(bench.good)


def test_what_cannot_be_compared_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> bytes:
        raise OSError(errno.EIO, "bad sector of the destination")

    with ImageWriter(tmp_path / "i.img", 4096, compare_before_write=True, sparse=True) as writer:
        monkeypatch.setattr(os, "pread", fail)
        writer(Piece(extent=span(0, 4096), status=BlockStatus.FINISHED, data=bytes(4096)))
        assert blocks_of(tmp_path / "i.img") >= 4096


@pytest.mark.parametrize("option", ["sparse", "compare_before_write"])
def test_what_is_compared_comes_from_the_disk_not_from_writes_that_never_reached_it(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "i.img"
    path.write_bytes(b"x" * 4096)  # as a failed sync leaves it: in the cache only, and counted as clean
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: calls.append(("sync",)))
    monkeypatch.setattr(os, "posix_fadvise", lambda descriptor, *rest: calls.append(rest))
    with ImageWriter(path, 4096, **{option: True}):  # type: ignore[arg-type]
        pass
    assert calls == [("sync",), (0, 0, os.POSIX_FADV_DONTNEED)]


def test_preallocated_room_is_there_before_the_first_read(bench: Bench) -> None:
    seen: list[int] = []
    domain = ExtentSet([span(0, MIB), span(4 * MIB, 5 * MIB)])
    bench.rescue(
        bench.source(on_read=lambda extent: seen.append(blocks_of(bench.image_path))),
        RescueOptions(preallocate=True, domain=domain, input_offset_bytes=512, output_offset_bytes=0),
    )
    assert 2 * MIB - 512 <= seen[0] < 2 * MIB + 64 * 1024
    check_shifted(bench, -512)


def test_a_file_system_that_cannot_preallocate_is_told_and_nothing_is_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(descriptor: int, offset_bytes: int, size_bytes: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(room, "_allocate", unable)
    with pytest.raises(OutputError, match="cannot take room beforehand; leave --preallocate out"):
        bench.rescue(options=RescueOptions(preallocate=True))
    assert bench.asked == []
    monkeypatch.undo()
    assert bench.rescue().finished
    bench.check_complete()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 8 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        need("mounting a small file system needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "carver-test", folder], capture_output=True)
    need("no tmpfs can be mounted here" if mounted.returncode else None)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.root
def test_room_that_is_missing_is_missed_before_the_first_read(bench: Bench, small: Path) -> None:
    bench.image_path, bench.map_path = small / "drive.img", small / "drive.map"
    with pytest.raises(DestinationFullError, match="Nothing was read; make room"):
        bench.rescue(options=RescueOptions(preallocate=True))
    assert bench.asked == []
    assert shutil.disk_usage(small).free > 7 * MIB, "what was taken in vain is given back"
    subprocess.run(["mount", "-o", "remount,size=24m", small], check=True)
    assert bench.rescue(options=RescueOptions(preallocate=True)).finished
    bench.check_complete()


@pytest.mark.root
@pytest.mark.parametrize(
    "options",
    [
        RescueOptions(sparse=True),
        RescueOptions(compare_before_write=True),
        RescueOptions(input_offset_bytes=512, output_offset_bytes=0),
        RescueOptions(domain=ExtentSet([span(0, 7 * MIB + 4096), span(7 * MIB + 8192, SIZE)])),
    ],
)
def test_a_destination_that_fills_up_keeps_what_was_read_however_it_is_written(
    options: RescueOptions, bench: Bench, small: Path
) -> None:
    write_contents(bench.contents_path, 7, SIZE)
    bench.image_path, bench.map_path = small / "drive.img", small / "drive.map"
    (small / "ballast").write_bytes(bytes(2 * MIB))
    with pytest.raises(DestinationFullError, match="make room"):
        bench.rescue(options=options)
    shift_bytes = -512 if options.output_offset_bytes == 0 else 0
    assert check_shifted(bench, shift_bytes).total_bytes > 3 * MIB
    (small / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=24m", small], check=True)
    bench.asked.clear()
    assert bench.rescue(options=options).finished
    whole = ExtentSet([span(512, SIZE)]) if shift_bytes else options.domain or ExtentSet([span(0, SIZE)])
    assert check_shifted(bench, shift_bytes) == bench.good & whole


@pytest.mark.parametrize("option", ["sparse", "compare_before_write", "synchronous"])
@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, DestinationFullError), (errno.EIO, OutputError)])
def test_a_write_that_fails_is_told_by_its_kind(
    option: str, code: int, kind: type[OutputError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    with ImageWriter(tmp_path / "i.img", 4096, **{option: True}) as writer:  # type: ignore[arg-type]
        monkeypatch.setattr(os, "pwrite", fail)
        with pytest.raises(OutputError) as caught:
            writer(Piece(extent=span(0, 4096), status=BlockStatus.FINISHED, data=b"x" * 4096))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [(errno.ENOSPC, DestinationFullError, "make room"), (errno.EFBIG, OutputError, "use a file system that can")],
)
def test_an_image_that_cannot_be_made_as_long_as_the_drive_is_told_why(
    code: int, kind: type[OutputError], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(OutputError, match=words) as caught:
        ImageWriter(tmp_path / "i.img", 4096)
    assert type(caught.value) is kind


def options_of(seed: int, folder: Path) -> tuple[list[object], RescueOptions]:
    """Return the same random wishes as arguments of ddrescue and as options of ours, positions off the sectors too."""
    rng = random.Random(seed)
    unit_bytes = rng.choice([512, 512, 100, 7])

    def position() -> int:
        return rng.randrange(SIZE // unit_bytes) * unit_bytes

    start = rng.choice([0, position()])
    size, to = rng.choice([None, position() + unit_bytes]), rng.choice([None, 0, position()])
    sizes = [rng.choice([1, 3, 400, 5000]) * unit_bytes for _ in range(5)]
    domain = ExtentSet(span(at, min(SIZE, at + size)) for at, size in ((position(), size) for size in sizes))
    (folder / "domain").write_text(domain_text(domain, SIZE))
    arguments: list[object] = ["-i", start]
    arguments += [] if size is None else ["-s", size]
    arguments += [] if to is None else ["-o", to]
    whole = rng.random() < 0.3
    arguments += [] if whole else ["-m", folder / "domain"]
    manners = {"-S": "sparse", "-W": "compare_before_write", "-R": "reverse"}
    chosen = {letter: rng.random() < 0.4 for letter in manners}
    arguments += [letter for letter, wanted in chosen.items() if wanted]
    return arguments, RescueOptions(
        input_offset_bytes=start,
        size_bytes=size,
        output_offset_bytes=to,
        domain=None if whole else domain,
        **{manners[letter]: wanted for letter, wanted in chosen.items()},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("seed", range(12))
def test_any_mixture_of_wishes_gives_the_image_map_and_reads_of_ddrescue(seed: int, bench: Bench) -> None:
    need_program("ddrescue")
    arguments, options = options_of(seed, bench.folder)
    compare(bench, arguments, options)
