"""Filling: by status, with location data, interrupted, on other positions; side by side with GNU ddrescue."""

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.failing_drive import damage_of, write_contents
from imaging import placement
from imaging.acquisition_record import AcquisitionRecord, load, record_path, save
from imaging.binding import comment_of
from imaging.errors import DestinationFullError, InputError, OutputError, UsageError
from imaging.extent import ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore, lock_exclusively
from imaging.rescue.fill import Filling, fill, filling_of, with_location
from imaging.rescue.options import RescueOptions
from imaging.rescue.sweep import SweepProgress
from tests.imaging.test_engine import Bench as RescueBench
from tests.imaging.test_failing_drive import gnu, need_program

SIZE = 1 << 20
ODD_MAP = """0x0 + 1
0x0 0x10200 +
0x10200 0x700 -
0x10900 0x200 /
0x10b00 0x25000 -
0x35b00 0x200 *
0x35d00 0x1 ?
0x35d01 0xca2ff +
"""


class Bench:
    """An image with its map, and what is filled into it."""

    def __init__(self, folder: Path, map_text: str = ODD_MAP) -> None:
        self.folder = folder
        self.image_path, self.map_path, self.pattern_path = folder / "image", folder / "map", folder / "pattern"
        write_contents(self.image_path, 3, SIZE)
        self.before = self.image_path.read_bytes()
        self.map_path.write_text(map_text)
        self.pattern_path.write_bytes(b"BAD-SECTOR ")

    def fill(self, types: str = "-", options: RescueOptions | None = None, **kwargs: object) -> SweepProgress:
        arguments = self.pattern_path, self.image_path, self.map_path, filling_of(types), options or RescueOptions()
        return fill(*arguments, **kwargs)  # type: ignore[arg-type]

    @property
    def changed(self) -> ExtentSet:
        """Where the image is not what it was, as far as bytes tell."""
        after = self.image_path.read_bytes()
        return ExtentSet(span(at, at + 1) for at in range(SIZE) if after[at] != self.before[at])

    def extents(self, *letters: str) -> ExtentSet:
        return Mapfile.parse(ODD_MAP).extents(*map(BlockStatus, letters))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def stop_after(count: int) -> Callable[[], bool]:
    left = iter(range(count))
    return lambda: next(left, None) is None


def blocks_of(path: Path) -> list[object]:
    return list(Mapfile.load(path).blocks())


CASES: dict[str, tuple[tuple[str, ...], str, RescueOptions]] = {
    "bad sectors": (("-F-",), "-", RescueOptions()),
    "with location": (("-Fl-",), "l-", RescueOptions()),
    "all that was not read": (("-F?*/-",), "?*/-", RescueOptions()),
    "several, with location": (("-F-/*?l",), "-/*?l", RescueOptions()),
    "in large sectors": (("-b2048", "-Fl-"), "l-", RescueOptions(sector_bytes=2048)),
    "in small clusters": (("-c4", "-F-"), "-", RescueOptions(cluster_bytes=2048)),
    "a part": (("-i0x10400", "-s0x1000", "-F-/"), "-/", RescueOptions(input_offset_bytes=0x10400, size_bytes=0x1000)),
    "elsewhere in the image": (
        ("-i0x10400", "-o0x100", "-Fl-"),
        "l-",
        RescueOptions(input_offset_bytes=0x10400, output_offset_bytes=0x100),
    ),
    "behind in the image": (
        ("-i0", "-s0x40000", "-o0x1000", "-F-"),
        "-",
        RescueOptions(size_bytes=0x40000, output_offset_bytes=0x1000),
    ),
    "compared first": (("-W", "-F-"), "-", RescueOptions(compare_before_write=True)),
    "what was read, by force": (("-f", "-F+"), "+", RescueOptions(force=True)),
}


@pytest.mark.parametrize("pattern_bytes", [3, 512, 100_000])
@pytest.mark.parametrize("case", CASES)
def test_the_image_and_the_map_are_the_same_as_ddrescue_leaves_them(
    case: str, pattern_bytes: int, tmp_path: Path
) -> None:
    need_program("ddrescue")
    arguments, types, options = CASES[case]
    bench = Bench(tmp_path)
    bench.pattern_path.write_bytes(random.Random(pattern_bytes).randbytes(pattern_bytes))
    shutil.copy(bench.image_path, tmp_path / "g.image")
    shutil.copy(bench.map_path, tmp_path / "g.map")
    gnu(*arguments, bench.pattern_path, tmp_path / "g.image", tmp_path / "g.map")
    assert bench.fill(types, options).finished
    assert bench.image_path.read_bytes() == (tmp_path / "g.image").read_bytes()
    assert Mapfile.load(bench.map_path) == Mapfile.load(tmp_path / "g.map")  # with its status line
    assert blocks_of(bench.map_path) == list(Mapfile.parse(ODD_MAP).blocks())


def test_only_blocks_of_the_given_statuses_inside_the_domain_are_changed(bench: Bench) -> None:
    bench.pattern_path.write_bytes(b"\0")  # the contents have none
    domain = ExtentSet([span(0x10300, 0x10A00), span(0x20000, 0x20100)])
    progress = bench.fill("-/", RescueOptions(domain=domain))
    wanted = bench.extents("-", "/") & domain
    assert bench.changed & wanted == bench.changed
    assert bench.changed.total_bytes > 0.9 * wanted.total_bytes
    assert progress.done_bytes == progress.total_bytes == wanted.total_bytes


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_interrupted_filling_goes_on_where_it_was(bench: Bench, count: int) -> None:
    (bench.folder / "whole").mkdir()
    whole = Bench(bench.folder / "whole")
    whole.fill("-/*?")
    began = bench.fill("-/*?", stop=stop_after(count))
    assert not began.finished
    mapfile = Mapfile.load(bench.map_path)
    assert mapfile.current_status == "F"
    ended = bench.fill("-/*?")
    assert ended.finished
    assert began.done_bytes + ended.done_bytes == began.total_bytes
    assert bench.image_path.read_bytes() == whole.image_path.read_bytes()
    assert Mapfile.load(bench.map_path) == Mapfile.load(whole.map_path)


@pytest.mark.parametrize("position_bytes", [0x10300, 0x10800, 0x15000, 0x30000, 0x38000])
def test_a_filling_goes_on_only_from_inside_the_domain_as_that_of_ddrescue(position_bytes: int, bench: Bench) -> None:
    need_program("ddrescue")
    bench.map_path.write_text(ODD_MAP.replace("0x0 + 1", f"{position_bytes:#x} F 1"))
    for name in ("image", "map"):
        shutil.copy(bench.folder / name, bench.folder / f"g.{name}")
    (bench.folder / "domain").write_text(
        "0x0 + 1\n0x0 0x10800 +\n0x10800 0x10000 ?\n0x20800 0x14000 +\n0x34800 0xcb800 ?\n"
    )
    domain = Mapfile.load(bench.folder / "domain").extents(BlockStatus.FINISHED)
    gnu("-F-", "-m", bench.folder / "domain", bench.pattern_path, bench.folder / "g.image", bench.folder / "g.map")
    bench.fill("-", RescueOptions(domain=domain))
    assert bench.image_path.read_bytes() == (bench.folder / "g.image").read_bytes()


def test_another_filling_than_the_interrupted_one_begins_at_the_start(bench: Bench) -> None:
    bench.fill("-", stop=stop_after(2))
    assert Mapfile.load(bench.map_path).position_bytes > 0x10200
    bench.pattern_path.write_bytes(b"another")
    progress = bench.fill("-")
    assert progress.done_bytes == bench.extents("-").total_bytes
    assert bench.image_path.read_bytes()[0x10200:0x10207] == b"another"


def test_a_filling_that_ddrescue_began_is_ended_and_the_other_way_round(bench: Bench) -> None:
    need_program("ddrescue")
    bench.map_path.write_text(ODD_MAP.replace("0x0 + 1", "0x10b00 F 1"))
    assert bench.fill("-").done_bytes == 0x25000
    assert not bench.changed.touches(span(0x10200, 0x10900))
    bench.fill("/-", stop=stop_after(1))
    bench.pattern_path.write_bytes(b"\0")
    gnu("-F/-", bench.pattern_path, bench.image_path, bench.map_path)
    assert bench.image_path.read_bytes()[0x10200:0x1020B] == b"BAD-SECTOR "
    assert not any(bench.image_path.read_bytes()[0x10900:0x10B00])


def test_progress_counts_what_is_done_and_the_map_is_saved_as_it_goes(bench: Bench) -> None:
    told: list[SweepProgress] = []
    seconds = iter(range(10**6))
    saved: list[int] = []

    def look() -> bool:
        saved.append(MapStore.read_snapshot(bench.map_path).position_bytes)
        return False

    bench.fill("-", on_progress=told.append, stop=look, clock=lambda: float(next(seconds)))
    assert [progress.done_bytes for progress in told] == sorted(progress.done_bytes for progress in told)
    assert told[-1].finished
    assert told[-1].done_bytes == told[-1].total_bytes == bench.extents("-").total_bytes
    assert max(saved) > 0x10200, "the position reaches the disk before the end"


def test_the_drive_and_the_place_in_the_image_stay_known(bench: Bench) -> None:
    kept = [comment_of({"serial": "S1"}), *placement.Placement(shift_bytes=-512, image_bytes=0).comments()]
    text = Mapfile.parse(ODD_MAP).to_text(["Mapfile", "Generation: 1", *kept])
    bench.map_path.write_text(text)
    bench.fill("-", RescueOptions(input_offset_bytes=512, output_offset_bytes=0), comments=["Command line: carver"])
    head = placement.head_of(bench.map_path)
    assert all(f"# {line}" in head for line in [*kept, "Command line: carver"])
    with pytest.raises(InputError, match="keep the difference"):
        bench.fill("-")


def test_the_acquisition_record_tells_of_a_filling_once(bench: Bench) -> None:
    path = record_path(bench.image_path, bench.map_path)
    save(path, AcquisitionRecord())
    bench.fill("-l", stop=stop_after(2))
    bench.fill("-l")
    record = load(path)
    assert record is not None
    assert [words.partition(": ")[2] for words in record.fillings] == [f"blocks of -l with {bench.pattern_path}"]


def test_what_was_read_is_not_filled_unless_forced(bench: Bench) -> None:
    with pytest.raises(UsageError, match="--force"):
        bench.fill("+-")
    assert not bench.changed


@pytest.mark.parametrize("types", ["", "l", "x", "-F", "l-x"])
def test_types_that_ddrescue_refuses_are_refused(types: str) -> None:
    need_program("ddrescue")
    with pytest.raises(UsageError):
        filling_of(types)
    if types:
        assert subprocess.run(["ddrescue", "-q", f"-F{types}", "a", "b", "c"], capture_output=True).returncode == 1


def test_types_are_read_in_any_order() -> None:
    assert filling_of("/l-") == Filling(
        statuses=frozenset({BlockStatus.BAD_SECTOR, BlockStatus.NON_SCRAPED}), location=True
    )
    assert filling_of(filling_of("-l?/").types) == filling_of("-l?/")


@pytest.mark.parametrize("sector_bytes", [8, 40, 512])
def test_location_data_never_reaches_beyond_its_sector(sector_bytes: int) -> None:
    data = bytes(sector_bytes * 3 + 5)
    located = with_location(data, 1 << 40, BlockStatus.BAD_SECTOR, sector_bytes)
    assert len(located) == len(data)
    assert all(located[start : start + 3] == b"\n# " for start in range(0, len(data), sector_bytes))


def test_an_image_that_was_cut_short_is_not_filled(bench: Bench) -> None:
    os.truncate(bench.image_path, SIZE // 2)
    with pytest.raises(InputError, match="cut short"):
        bench.fill()


def test_missing_and_empty_things_are_told(bench: Bench) -> None:
    with pytest.raises(InputError, match="no image"):
        fill(bench.pattern_path, bench.folder / "none", bench.map_path, filling_of("-"), RescueOptions())
    with pytest.raises(InputError, match="no mapfile"):
        fill(bench.pattern_path, bench.image_path, bench.folder / "none", filling_of("-"), RescueOptions())
    with pytest.raises(InputError, match="cannot read"):
        fill(bench.folder / "none", bench.image_path, bench.map_path, filling_of("-"), RescueOptions())
    with pytest.raises(OutputError, match="neither a file"):
        fill(bench.pattern_path, bench.folder, bench.map_path, filling_of("-"), RescueOptions())
    bench.pattern_path.write_bytes(b"")
    with pytest.raises(InputError, match="nothing to fill with"):
        bench.fill()
    bench.map_path.write_text("")
    with pytest.raises(InputError, match="is empty"):
        bench.fill()
    with pytest.raises(UsageError, match="not a multiple"):
        bench.fill("-", RescueOptions(sector_bytes=1000))


def test_a_rescue_at_work_on_the_image_keeps_a_filling_out(bench: Bench) -> None:
    with lock_exclusively(bench.image_path), pytest.raises(InputError, match="another carver"):
        bench.fill()
    assert not bench.changed


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, DestinationFullError), (errno.EIO, OutputError)])
def test_a_failing_write_saves_how_far_it_came(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[OutputError]
) -> None:
    real = os.pwrite

    def fill_up(descriptor: int, data: bytes, offset_bytes: int) -> int:
        if offset_bytes >= 0x20000:
            raise OSError(code, os.strerror(code))
        return real(descriptor, data, offset_bytes)

    monkeypatch.setattr(os, "pwrite", fill_up)
    with pytest.raises(OutputError) as caught:
        bench.fill("-/")
    monkeypatch.undo()
    assert type(caught.value) is kind
    mapfile = Mapfile.load(bench.map_path)
    assert (mapfile.current_status, mapfile.position_bytes) == ("F", 0x20B00)
    assert bench.fill("-/").finished
    assert bench.extents("-", "/").total_bytes * 0.9 < bench.changed.total_bytes


def test_a_filled_image_is_gone_on_with_as_if_it_had_not_been_filled(tmp_path: Path) -> None:
    rescue = RescueBench(tmp_path, damage_of(SIZE, [(0x10000, 0x4000)]))
    rescue.rescue()
    pattern_path = tmp_path / "pattern"
    pattern_path.write_bytes(b"x")
    fill(pattern_path, rescue.image_path, rescue.map_path, filling_of("-"), RescueOptions())
    assert rescue.image_path.read_bytes()[0x10000:0x14000] == b"x" * 0x4000
    contents = bytearray(rescue.contents_path.read_bytes())
    contents[0x11000:0x12000] = bytes(0x1000)  # zeros must win over the filling, also where holes are wanted
    rescue.contents_path.write_bytes(contents)
    rescue.damage = damage_of(SIZE, [])
    rescue.rescue(options=RescueOptions(retry_passes=1, sparse=True))
    assert rescue.image_path.read_bytes() == contents
