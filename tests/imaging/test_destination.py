"""Writing to a device: what is refused, with force and without, and that the rest is what GNU ddrescue writes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fixtures.failing_drive import damage_of, write_contents
from imaging import block_stack
from imaging.binding import comment_of
from imaging.damaged import DamagedSource
from imaging.device import DeviceInfo
from imaging.errors import InputError, OutputError
from imaging.extent import ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.placement import Placement
from imaging.reads import open_source
from imaging.rescue import fill
from imaging.rescue.destination import Roots, check_destination, refuse_device, title_of
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions
from imaging.rescue.progress import RescueSummary
from imaging.rescue.writer import ImageWriter
from imaging.source import RawImage
from tests.imaging.test_device import Machine
from tests.imaging.test_engine import stop_after
from tests.imaging.test_failing_drive import bench as failing_bench
from tests.imaging.test_failing_drive import gnu, need, need_program

MIB = 1 << 20
SIZE = 2 * MIB
DAMAGE = damage_of(SIZE, [(70_144, 1024), (MIB, 40_960)])
GOOD = ExtentSet(span(start, start + size) for start, size in DAMAGE.bad).complement(span(0, SIZE))


@contextmanager
def loop_device(path: Path, size_bytes: int | None = None, *options: str) -> Iterator[Path]:
    """A writable block device over a file."""
    if os.geteuid() != 0:
        need("a loop device needs root")
    if size_bytes is not None:
        path.write_bytes(b"\xaa" * size_bytes)
    made = subprocess.run(["losetup", "-f", *options, "--show", path], capture_output=True, text=True, check=False)
    need(f"no loop device: {made.stderr.strip()}" if made.returncode else None)
    device = Path(made.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


@contextmanager
def mounted(device: Path, folder: Path) -> Iterator[Path]:
    """A new file system on a device."""
    need_program("mkfs.ext2")
    subprocess.run(["mkfs.ext2", "-q", "-F", device], check=True)
    folder.mkdir()
    made = subprocess.run(["mount", device, folder], capture_output=True, check=False)
    need("nothing can be mounted here" if made.returncode else None)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


class Bench:
    """A simulated drive that goes to a device."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.map_path = folder, folder / "drive.map"
        self.contents_path = folder / "contents"
        write_contents(self.contents_path, 5, SIZE)

    def rescue(self, image_path: Path, options: RescueOptions | None = None, **kwargs: object) -> RescueSummary:
        options = options or RescueOptions(force=True)
        with RawImage(self.contents_path) as contents:
            source = DamagedSource(contents, Mapfile.parse(DAMAGE.mapfile_text()))
            return rescue(source, image_path, self.map_path, options, **kwargs)  # type: ignore[arg-type]

    def refused(self, image_path: Path, match: str, options: RescueOptions | None = None) -> None:
        """Nothing is written, not even a map."""
        before = image_path.read_bytes()
        text = self.map_path.read_bytes() if self.map_path.exists() else None
        with pytest.raises(OutputError, match=match):
            self.rescue(image_path, options)
        assert image_path.read_bytes() == before
        assert (self.map_path.read_bytes() if self.map_path.exists() else None) == text


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.root
def test_a_device_gets_what_ddrescue_would_write_there(bench: Bench) -> None:
    need_program("ddrescue")
    with (
        loop_device(bench.folder / "ours", SIZE + MIB) as ours,
        loop_device(bench.folder / "theirs", SIZE + MIB) as theirs,
    ):
        assert bench.rescue(ours).finished
        (bench.folder / "damage").write_text(DAMAGE.mapfile_text())
        gnu("-f", "-H", bench.folder / "damage", bench.contents_path, theirs, bench.folder / "g.map")
        assert ours.read_bytes() == theirs.read_bytes(), "also where nothing could be read: there is what was there"
    assert list(Mapfile.load(bench.map_path).blocks()) == list(Mapfile.load(bench.folder / "g.map").blocks())
    assert Mapfile.load(bench.map_path).extents(BlockStatus.FINISHED) == GOOD


@pytest.mark.root
@pytest.mark.parametrize(
    "options",
    [
        RescueOptions(force=True, cluster_bytes=16_384),
        RescueOptions(force=True, cluster_bytes=16_384, compare_before_write=True, synchronous=True),
        RescueOptions(force=True, cluster_bytes=16_384, input_offset_bytes=512, output_offset_bytes=4096, domain=GOOD),
    ],
)
def test_an_interrupted_rescue_to_a_device_goes_on(options: RescueOptions, bench: Bench) -> None:
    with loop_device(bench.folder / "disk", SIZE + MIB) as device:
        for _ in range(2):
            assert bench.rescue(device, options, stop=stop_after(5)).stopped
        assert bench.rescue(device, options).finished
        after = device.read_bytes()
    shift = 4096 - 512 if options.output_offset_bytes else 0
    drive = bench.contents_path.read_bytes()
    for extent in GOOD.within(span(options.input_offset_bytes, SIZE)):
        there = after[extent.offset_bytes + shift : extent.end_bytes + shift]
        assert there == drive[extent.offset_bytes : extent.end_bytes]
    assert after[SIZE + shift :] == b"\xaa" * (MIB - shift)


@pytest.mark.root
def test_a_failing_device_is_copied_to_another_at_another_position(bench: Bench) -> None:
    options = RescueOptions(
        force=True, input_offset_bytes=4096, output_offset_bytes=0, recheck_errors=2, compare_before_write=True
    )
    with ExitStack() as stack:
        drive = stack.enter_context(failing_bench(bench.folder, DAMAGE))
        device = stack.enter_context(loop_device(bench.folder / "disk", SIZE))
        for stop in (stop_after(12), lambda: False):
            with open_source(drive.device) as source:
                rescue(source, device, bench.map_path, options, stop=stop)
        finished = Mapfile.load(bench.map_path).extents(BlockStatus.FINISHED)
        after, contents = device.read_bytes(), (bench.folder / "contents").read_bytes()
    assert finished == GOOD.within(span(4096, SIZE))
    for extent in finished:
        assert (
            after[extent.offset_bytes - 4096 : extent.end_bytes - 4096]
            == contents[extent.offset_bytes : extent.end_bytes]
        )


@pytest.mark.root
def test_without_force_a_device_is_named_and_left_alone(bench: Bench) -> None:
    with loop_device(bench.folder / "disk", SIZE) as device:
        bench.refused(device, rf"{device} is a device \({SIZE} bytes\), and everything .* say --force", RescueOptions())


@pytest.mark.root
def test_a_device_that_is_too_small_is_refused_and_a_part_that_fits_is_not(bench: Bench) -> None:
    with loop_device(bench.folder / "disk", MIB) as device:
        bench.refused(device, f"too small: it has {MIB} bytes, and {SIZE} are needed")
        options = RescueOptions(force=True, size_bytes=MIB)
        assert bench.rescue(device, options).finished
        bench.map_path.unlink()
        moved = RescueOptions(force=True, input_offset_bytes=MIB, output_offset_bytes=512)
        bench.refused(device, f"{MIB + 512} are needed", moved)


@pytest.mark.root
def test_a_device_that_the_system_keeps_read_only_is_refused(bench: Bench) -> None:
    with loop_device(bench.folder / "disk", SIZE) as device:
        subprocess.run(["losetup", "-d", device], check=True)
        subprocess.run(["losetup", "-r", device, bench.folder / "disk"], check=True)
        bench.refused(device, "refuses writes")


@pytest.mark.root
def test_a_mounted_device_is_refused_and_what_lies_on_it_is_named(bench: Bench) -> None:
    with ExitStack() as stack:
        device = stack.enter_context(loop_device(bench.folder / "disk", 8 * MIB))
        folder = stack.enter_context(mounted(device, bench.folder / "mnt"))
        with pytest.raises(OutputError, match=r"is mounted at .*, so .* is not overwritten"):
            bench.rescue(device)
        with pytest.raises(OutputError, match="in use by the system"):
            ImageWriter(device, 0)  # the kernel says so as well, should it be mounted a moment after the look
        bench.map_path = folder / "drive.map"
        with pytest.raises(OutputError, match=r"the map .* lies on .*, which would be overwritten"):
            bench.rescue(device)
        bench.map_path = bench.folder / "drive.map"
        on_it = folder / "contents"
        on_it.write_bytes(bench.contents_path.read_bytes())
        bench.contents_path = on_it
        with pytest.raises(OutputError, match=r"the source .* lies on .*, which would be overwritten"):
            bench.rescue(device)
        assert not bench.map_path.exists()


@pytest.mark.root
def test_the_source_itself_and_what_stands_on_its_drive_are_refused(bench: Bench) -> None:
    with ExitStack() as stack:
        source = stack.enter_context(loop_device(bench.folder / "disk", 8 * MIB))
        link = bench.folder / "by-id"
        link.symlink_to(source)
        for image_path in (source, link):
            with pytest.raises(OutputError, match="is the source itself"), RawImage(source) as drive:
                rescue(drive, image_path, bench.map_path, RescueOptions(force=True))
        folder = stack.enter_context(mounted(source, bench.folder / "mnt"))
        upon = stack.enter_context(loop_device(folder / "image", MIB))
        place = Placement(image_bytes=MIB)
        with pytest.raises(OutputError, match="are on the same drive, which is never written to"):
            check_destination(upon, bench.map_path, source, placement=place, force=True)
        with pytest.raises(OutputError, match=r"the source .* lies on .*, which would be overwritten"):
            check_destination(source, bench.map_path, upon, placement=place, force=True)
        assert not bench.map_path.exists()


@pytest.mark.root
def test_files_manners_are_refused_on_a_device(bench: Bench) -> None:
    with loop_device(bench.folder / "disk", SIZE) as device:
        before = device.read_bytes()
        for options in (RescueOptions(force=True, sparse=True), RescueOptions(force=True, preallocate=True)):
            with pytest.raises(OutputError, match=r"is a device, and .* leave --"):
                bench.rescue(device, options)
        assert device.read_bytes() == before


@pytest.mark.root
def test_going_on_with_another_device_or_a_file_in_its_place_is_refused(bench: Bench) -> None:
    with loop_device(bench.folder / "one", SIZE) as one, loop_device(bench.folder / "two", SIZE + 512) as two:
        assert bench.rescue(one, stop=stop_after(5)).stopped
        bench.refused(two, "on another device")
        with pytest.raises(InputError, match="cut short"):
            bench.rescue(bench.folder / "file.img")
        assert bench.rescue(one).finished
        bench.map_path.unlink()
        assert bench.rescue(bench.folder / "file.img", stop=stop_after(5)).stopped
        bench.refused(two, "they are in a file")


@pytest.mark.root
def test_what_ddrescue_began_on_a_device_is_gone_on_with(bench: Bench) -> None:
    need_program("ddrescue")
    (bench.folder / "damage").write_text(DAMAGE.mapfile_text())
    with loop_device(bench.folder / "one", SIZE) as device:
        gnu("-f", "-N", "-n", "-H", bench.folder / "damage", bench.contents_path, device, bench.map_path)
        assert bench.rescue(device).finished
        assert Mapfile.load(bench.map_path).extents(BlockStatus.FINISHED) == GOOD


@pytest.mark.root
def test_a_second_rescue_to_the_same_device_is_refused(bench: Bench) -> None:
    with loop_device(bench.folder / "one", SIZE) as device:
        refusals: list[str] = []

        def look() -> bool:
            with pytest.raises((InputError, OutputError)) as caught:
                rescue(RawImage(bench.contents_path), device, bench.folder / "second.map", RescueOptions(force=True))
            refusals.append(str(caught.value))
            return True

        assert bench.rescue(device, stop=look).stopped
    assert refusals


@pytest.mark.root
def test_a_device_is_filled_only_by_force_and_never_where_it_is_the_drive_that_was_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern_path = bench.folder / "pattern"
    pattern_path.write_bytes(b"x")
    filling = fill.filling_of("-")
    with loop_device(bench.folder / "one", SIZE) as device:
        bench.rescue(device, comments=[comment_of({"serial": "S1"})])
        before = device.read_bytes()
        with pytest.raises(OutputError, match="say --force"):
            fill.fill(pattern_path, device, bench.map_path, filling, RescueOptions())
        monkeypatch.setattr(fill, "describe", lambda path: DeviceInfo(path=str(path), kind="device", serial="S1"))
        with pytest.raises(OutputError, match=r"is the drive that .* was made of"):
            fill.fill(pattern_path, device, bench.map_path, filling, RescueOptions(force=True))
        monkeypatch.undo()
        assert device.read_bytes() == before
        assert fill.fill(pattern_path, device, bench.map_path, filling, RescueOptions(force=True)).finished
        after = device.read_bytes()
        assert bench.rescue(device).finished, "the map still tells which device it is of"
    assert after[MIB : MIB + 40_960] == b"x" * 40_960
    assert after[:70_144] == before[:70_144]


def test_a_folder_is_no_image_and_a_name_in_it_is_told(bench: Bench) -> None:
    with pytest.raises(OutputError, match=r"is a folder; name a new file in it, such as .*/drive.img"):
        bench.rescue(bench.folder)


def test_names_in_dev_are_no_place_for_an_image_or_a_map(bench: Bench) -> None:
    with pytest.raises(OutputError, match="there is no device"):
        bench.rescue(Path("/dev/carver-no-such-device"))
    assert not Path("/dev/carver-no-such-device").exists()


@pytest.mark.root
def test_a_map_among_the_devices_would_be_forgotten(bench: Bench) -> None:
    with loop_device(bench.folder / "one", SIZE) as device:
        bench.map_path = Path(f"{device}.map")
        with pytest.raises(OutputError, match="in memory only"):
            bench.rescue(device)
        assert not bench.map_path.exists()
        bench.map_path = device
        with pytest.raises(OutputError, match="is not a regular file; name a file for the map"):
            bench.rescue(bench.folder / "file.img")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with a disk of two partitions and another one; `/dev/X` there is a file X here."""
    made = Machine(tmp_path)
    made.disk("sda", "8:0", size=4096, ro=0)
    made.partition("sda", "sda1", "8:1")
    made.partition("sda", "sda2", "8:2")
    made.disk("sdb", "8:16", size=4096, ro=0)
    made.disk("md0", "9:0")
    made.disk("dm-0", "253:0", dm__name="vg-root")
    numbers = {"sda": "8:0", "sda1": "8:1", "sda2": "8:2", "sdb": "8:16"}
    monkeypatch.setattr(block_stack, "number_of", lambda path: numbers.get(Path(path).name))
    (made.proc / "self").mkdir(parents=True, exist_ok=True)
    return made


def test_the_partitions_of_a_device_are_named_before_it_is_overwritten(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="with /dev/sda1, /dev/sda2 on it"):
        refuse_device(tmp_path / "sda", tmp_path / "map", force=False, roots=Roots(sys=machine.sys, proc=machine.proc))


def _refuse(machine: Machine, tmp_path: Path, name: str, source: str | None = None, needed_bytes: int = 0) -> None:
    roots = Roots(sys=machine.sys, proc=machine.proc)
    source_path = tmp_path / source if source else None
    refuse_device(tmp_path / name, tmp_path / "map", source_path, needed_bytes=needed_bytes, force=True, roots=roots)


@pytest.mark.parametrize(("source", "image"), [("sda1", "sda2"), ("sda", "sda1"), ("sda2", "sda"), ("sda", "sda")])
def test_no_other_part_of_the_sources_disk_is_written_to(
    source: str, image: str, machine: Machine, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=r"same drive|source itself"):
        _refuse(machine, tmp_path, image, source)
    _refuse(machine, tmp_path, "sdb", source)


def test_swap_arrays_and_volumes_are_refused(machine: Machine, tmp_path: Path) -> None:
    devices = machine.sys / "devices"
    machine.stands_on(devices / "md0", devices / "sda" / "sda1")
    machine.stands_on(devices / "dm-0", devices / "sda" / "sda2")
    for name, reason in (("sda1", "is part of /dev/md0"), ("sda2", "vg-root"), ("sda", "is part of")):
        with pytest.raises(OutputError, match=reason):
            _refuse(machine, tmp_path, name)
    machine.write(machine.proc / "swaps", "Filename Type Size Used Priority\n/dev/sdb partition 1 0 -2\n")
    with pytest.raises(OutputError, match="is in use as swap"):
        _refuse(machine, tmp_path, "sdb")


def test_a_disk_with_a_mounted_partition_is_refused_and_the_partition_beside_it_is_not(
    machine: Machine, tmp_path: Path
) -> None:
    machine.mount("8:1", "/mnt")
    for name in ("sda", "sda1"):
        with pytest.raises(OutputError, match="is mounted at /mnt"):
            _refuse(machine, tmp_path, name)
    _refuse(machine, tmp_path, "sda2")


def test_elsewhere_than_on_linux_a_device_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(OutputError, match="only on Linux"):
        refuse_device(Path("/dev/disk9"), tmp_path / "map", force=True)


def test_a_person_knows_a_device_by_model_serial_number_and_size() -> None:
    info = DeviceInfo(path="/dev/sdb", kind="device", model="ST2000", serial="W1", size_bytes=5)
    assert title_of(info) == "ST2000, serial number W1, 5 bytes"
    assert title_of(DeviceInfo(path="/dev/sdb", kind="device")) == "nothing more is known of it"
