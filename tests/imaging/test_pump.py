import errno
from pathlib import Path

import pytest

from imaging.damaged import DamagedSource
from imaging.errors import ReadFault
from imaging.extent import Extent, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.pump import Piece, Pump
from imaging.source import RawImage


@pytest.fixture
def contents(tmp_path: Path) -> RawImage:
    path = tmp_path / "contents"
    path.write_bytes(bytes(range(256)) * 16)
    return RawImage(path)


def test_subscribers_get_every_piece_in_their_order(contents: RawImage) -> None:
    told: list[tuple[str, Piece]] = []
    pump = Pump(contents, [lambda piece: told.append(("writer", piece)), lambda piece: told.append(("map", piece))])
    piece = Piece(extent=span(0, 4), status=BlockStatus.FINISHED, data=b"abcd")
    pump.publish(piece)
    assert told == [("writer", piece), ("map", piece)]


def test_what_one_subscriber_refuses_never_reaches_those_behind_it(contents: RawImage) -> None:
    told: list[Piece] = []

    def refuse(piece: Piece) -> None:
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        Pump(contents, [refuse, told.append]).publish(Piece(extent=span(0, 4), status=BlockStatus.BAD_SECTOR))
    assert told == []


def test_a_fault_is_told_with_the_bytes_before_it(contents: RawImage) -> None:
    class HalfRead(RawImage):
        def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
            good = super().read_at(offset_bytes, 512)
            raise ReadFault("x", offset_bytes=offset_bytes, size_bytes=size_bytes, errno=errno.EIO, prefix=good)

    pump = Pump(HalfRead(contents.path), [])
    reading = pump.read(span(512, 2048))
    assert reading.fault is not None
    assert reading.data == contents.read_at(512, 512)
    assert (pump.reads, pump.read_errors) == (1, 1)


def test_a_short_read_at_the_end_is_no_fault(contents: RawImage) -> None:
    pump = Pump(contents, [])
    reading = pump.read(span(4000, 5000))
    assert (len(reading.data), reading.fault) == (96, None)
    assert (pump.reads, pump.read_errors) == (1, 0)


def test_a_damaged_read_counts_as_an_error(contents: RawImage) -> None:
    damage = Mapfile([(span(0, 4096), BlockStatus.FINISHED)])
    damage.mark(span(512, 1024), BlockStatus.BAD_SECTOR)
    pump = Pump(DamagedSource(contents, damage), [])
    assert pump.read(span(0, 1024)).fault is not None
    assert pump.read(span(0, 512)).fault is None
    assert (pump.reads, pump.read_errors) == (2, 1)


def test_a_reading_tells_how_long_it_took(contents: RawImage) -> None:
    clock = iter([10.0, 10.25, 20.0, 23.0])
    pump = Pump(contents, [], clock=lambda: next(clock))
    assert pump.read(span(0, 512)).seconds == 0.25
    assert pump.read(span(512, 1024)).seconds == 3.0


def test_a_drive_that_measures_its_reads_itself_is_believed(contents: RawImage) -> None:
    class Measuring(RawImage):
        """Reads ahead, so that a clock outside sees nothing of the drive's time."""

        physical_sector_bytes = 512
        watcher = staticmethod(lambda waiting: True)
        read_seconds = 0.0

        def present_bytes(self) -> int:
            return self.size_bytes

        def expect(self, extent: Extent | None) -> None: ...
        def know_good(self, extent: Extent) -> None: ...
        def reopen(self) -> None: ...
        def take_late(self) -> list[tuple[int, bytes]]:
            return []

        def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
            self.read_seconds += 1.5
            return super().read_at(offset_bytes, size_bytes)

    pump = Pump(Measuring(contents.path), [], clock=lambda: 0.0)
    assert pump.read(span(0, 512)).seconds == 1.5
    assert pump.read(span(512, 1024)).seconds == 1.5
