"""A power cut between any two calls of a whole rescue, real writer and real map: the map is never ahead of the image.

The rescue runs once on the real file system while its calls are noted; then each beginning of them is done again on a
disk that loses power, and what may be left of it is looked at. Calls of the map alone are replayed in `test_mapstore`.
"""

import itertools
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from imaging.damaged import DamagedSource
from imaging.extent import span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions
from imaging.rescue.progress import RescueSummary
from imaging.rescue.writer import ImageWriter
from imaging.source import RawImage
from tests.imaging.test_mapstore import FragileDisk

KIB = 1 << 10
SIZE = 96 * KIB
CLUSTER = 4 * KIB
BAD = ((20 * KIB + 512, 1024), (70 * KIB, 512))
ZEROS = ((8 * KIB, 8 * KIB), (40 * KIB, 20 * KIB), (SIZE - 4 * KIB, 4 * KIB))  # of which a sparse image stores nothing
LOSSES = 10
ENDLESS = 1 << 30
Call = Callable[[FragileDisk], None]


def contents_of(seed: int) -> bytes:
    contents = bytearray(random.Random(seed).randbytes(SIZE).replace(b"\0", b"\1"))
    for offset, size in ZEROS:
        contents[offset : offset + size] = bytes(size)
    return bytes(contents)


@dataclass
class Recorder:
    """The calls that change files of a folder, in order, to be done again on another disk."""

    folder: Path
    calls: list[Call]

    def listen(self, patch: pytest.MonkeyPatch) -> None:
        """Note what the os module is asked to do, and have it done."""
        for name in ("open", "pwrite", "ftruncate", "fdatasync", "fsync", "replace", "rename"):
            patch.setattr(os, name, getattr(self, f"_{name}")(getattr(os, name)))

    def _note(self, call: Call) -> None:
        self.calls.append(call)

    def _path(self, descriptor: int) -> Path | None:
        """Return which of the folder's files that is; None for others, and for those without a name."""
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        return path if path.is_relative_to(self.folder) and path.exists() else None

    def _open(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Path, flags: int, *rest: int, **options: int) -> int:
            new = not Path(path).exists()
            descriptor = real(path, flags, *rest, **options)
            if (where := self._path(descriptor)) and where.is_file():
                if new:
                    self._note(lambda disk: disk.close(disk.open(where)))
                if flags & os.O_TRUNC:
                    self._note(lambda disk: disk.truncate(disk.open(where), 0))
            return descriptor

        return call

    def _pwrite(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(descriptor: int, data: bytes, offset_bytes: int) -> int:
            content = bytes(data)
            if where := self._path(descriptor):
                self._note(lambda disk: disk.write_at(disk.open(where), offset_bytes, content))
            return real(descriptor, data, offset_bytes)

        return call

    def _ftruncate(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(descriptor: int, size_bytes: int) -> None:
            if where := self._path(descriptor):
                self._note(lambda disk: disk.truncate(disk.open(where), size_bytes))
            real(descriptor, size_bytes)

        return call

    def _fdatasync(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(descriptor: int) -> None:
            real(descriptor)
            if where := self._path(descriptor):
                self._note(lambda disk: disk.sync_folder(where) if where.is_dir() else disk.sync(disk.open(where)))

        return call

    _fsync = _fdatasync

    def _replace(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(old: Path, new: Path) -> None:
            real(old, new)
            self._note(lambda disk: disk.rename(Path(old), Path(new)))

        return call

    _rename = _replace


@dataclass
class Bench:
    folder: Path
    options: RescueOptions

    @property
    def image(self) -> Path:
        return self.folder / "drive.img"

    @property
    def map(self) -> Path:
        return self.folder / "drive.map"

    def run(self, stop_after: int = ENDLESS) -> RescueSummary:
        """Rescue, with a clock that makes every second read a save."""
        contents = self.folder.parent / "contents"
        contents.write_bytes(contents_of(1))
        damage = Mapfile.covering(SIZE)
        damage.mark(span(0, SIZE), BlockStatus.FINISHED)
        for at, size in BAD:
            damage.mark(span(at, at + size), BlockStatus.BAD_SECTOR)
        seconds, left = itertools.count(), iter(range(stop_after))
        return rescue(
            DamagedSource(RawImage(contents), damage),
            self.image,
            self.map,
            self.options,
            clock=lambda: next(seconds) * 0.4,
            stop=lambda: next(left, None) is None,
        )

    def check(self, files: dict[Path, bytes]) -> int:
        """Hold what is left after a power cut against the drive; return how much the map says is read."""
        if self.map not in files or not files[self.map].strip():
            return 0
        plain = Mapfile.parse(files[self.map].decode())
        snapshot = MapStore.read_snapshot(self.map, disk=FragileDisk(files))
        image, drive = files.get(self.image, b""), contents_of(1)
        for claimed in (plain, snapshot):
            for extent in claimed.extents(BlockStatus.FINISHED):
                assert image[extent.offset_bytes : extent.end_bytes] == drive[extent.offset_bytes : extent.end_bytes]
        return snapshot.count_bytes(BlockStatus.FINISHED)


def replay(calls: list[Call], files: dict[Path, bytes]) -> FragileDisk:
    disk = FragileDisk(files)
    for call in calls:
        call(disk)
    return disk


OPTIONS = {
    "usual": RescueOptions(cluster_bytes=CLUSTER),
    "sparse": RescueOptions(cluster_bytes=CLUSTER, sparse=True),
    "synchronous": RescueOptions(cluster_bytes=CLUSTER, synchronous=True),
    "compared": RescueOptions(cluster_bytes=CLUSTER, compare_before_write=True),
    "backward, retried": RescueOptions(cluster_bytes=CLUSTER, reverse=True, retry_passes=1),
}


def noted(bench: Bench, stop_after: int) -> list[Call]:
    """Rescue, and return the calls that it took."""
    recorder = Recorder(bench.folder, [])
    with pytest.MonkeyPatch.context() as patch:
        recorder.listen(patch)
        bench.run(stop_after)
    return recorder.calls


def begun(folder: Path, kind: str) -> Bench:
    bench = Bench(folder / "case", OPTIONS[kind])
    bench.folder.mkdir()
    return bench


@pytest.mark.parametrize("kind", OPTIONS)
def test_no_power_cut_in_a_rescue_leaves_a_map_ahead_of_its_image(kind: str, tmp_path: Path) -> None:
    bench = begun(tmp_path, kind)
    files: dict[Path, bytes] = {}
    for stop_after in (30, ENDLESS):  # begun, and gone on with
        calls = noted(bench, stop_after)
        for count in range(len(calls)):
            disk = replay(calls[:count], files)
            for loss in range(LOSSES):
                bench.check(disk.after_power_loss(loss))
        disk = replay(calls, files)
        assert bench.check(disk.after_power_loss(1)) > SIZE // 8, "what is saved survives the loss of all the rest"
        files = {path: disk.read(path) or b"" for path in disk.names}
        assert files == {path: path.read_bytes() for path in bench.folder.iterdir()}, "all calls were noted"
    assert bench.check(files) == SIZE - sum(size for _, size in BAD)


@pytest.mark.parametrize("kind", OPTIONS)
def test_what_a_power_cut_leaves_is_gone_on_with_to_the_same_image(kind: str, tmp_path: Path) -> None:
    bench = begun(tmp_path, kind)
    calls = noted(bench, ENDLESS)
    image, blocks = bench.image.read_bytes(), list(Mapfile.load(bench.map).blocks())
    chance = random.Random(kind)
    for loss in range(20):
        left = replay(calls[: chance.randrange(len(calls))], {}).after_power_loss(loss)
        for path in bench.folder.iterdir():
            path.unlink()
        for path, content in left.items():
            path.write_bytes(content)
        assert left.get(bench.map) or bench.image not in left, "else nobody would know what of the image was read"
        assert bench.run().finished
        assert bench.image.read_bytes() == image
        assert list(Mapfile.load(bench.map).blocks()) == blocks


def test_the_replay_finds_an_image_that_is_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageWriter, "sync", lambda writer: None)
    with pytest.raises(AssertionError):
        test_no_power_cut_in_a_rescue_leaves_a_map_ahead_of_its_image("usual", tmp_path)
