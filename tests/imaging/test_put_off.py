"""What hung is left for last, also by the run after the one that it hung."""

from pathlib import Path

import pytest

from imaging.extent import Extent, ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore, read_remarks
from imaging.rescue import run
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions
from imaging.rescue.plan import Heading, Phase, Read
from imaging.rescue.progress import Progress, RescueSummary
from imaging.rescue.put_off import MAX_REMARKS, PutOff, recalled
from tests.imaging.hanging import HangingDrive

KIB, MIB = 1 << 10, 1 << 20
SIZE = 2 * MIB
HANG = [MIB, 1024]


def read_of(extent: Extent, phase: Phase = Phase.COPYING) -> Read:
    return Read(extent=extent, phase=phase, pass_number=1, heading=Heading.FORWARD)


def test_what_waits_is_recalled_from_the_remarks_of_the_map() -> None:
    put_off = PutOff(ExtentSet([span(0, 512), span(4096, 8192)]))
    put_off.suspect(read_of(span(MIB, MIB + 512)))
    remarks = put_off.remarks(Mapfile.covering(SIZE))
    assert recalled(remarks) == ExtentSet([span(0, 512), span(4096, 8192), span(MIB, MIB + 512)])


def test_a_suspect_that_answers_is_no_remark() -> None:
    put_off = PutOff()
    read = read_of(span(0, 512))
    assert put_off.suspect(read)
    assert not put_off.suspect(read), "no news"
    put_off.acquit()
    assert put_off.remarks(Mapfile.covering(SIZE)) == ()


def test_what_was_read_since_is_no_remark_and_what_hung_stays_one_as_a_bad_sector() -> None:
    mapfile = Mapfile.covering(SIZE)
    mapfile.mark(span(0, 1024), BlockStatus.FINISHED)
    mapfile.mark(span(4096, 8192), BlockStatus.BAD_SECTOR)
    put_off = PutOff(ExtentSet([span(0, 2048), span(4096, 8192)]))
    assert recalled(put_off.remarks(mapfile)) == ExtentSet([span(1024, 2048), span(4096, 8192)])


def test_what_lies_outside_the_domain_waits_for_another_run() -> None:
    put_off = PutOff(ExtentSet([span(0, 512), span(MIB, MIB + 512)]), domain=ExtentSet([span(0, 4096)]))
    assert recalled(put_off.remarks(Mapfile.covering(SIZE))) == ExtentSet([span(0, 512), span(MIB, MIB + 512)])
    assert put_off.take() == ExtentSet([span(0, 512)])


@pytest.mark.parametrize(
    "remark", ["left for last 0x0+0x", "left for last -0x1+0x1", "left for last 0x" + "f" * 99, ""]
)
def test_remarks_that_say_something_else_say_nothing(remark: str) -> None:
    assert recalled([remark]) == ExtentSet()


def test_a_drive_that_hangs_everywhere_does_not_fill_the_head_of_its_map() -> None:
    put_off = PutOff(ExtentSet(span(at, at + 512) for at in range(0, SIZE, 1024)))
    assert len(put_off.remarks(Mapfile.covering(SIZE))) == MAX_REMARKS


class Bench:
    def __init__(self, folder: Path, *, serial: bool = False) -> None:
        self.drive = HangingDrive(folder, SIZE, hang=[HANG], serial=serial)
        self.image_path, self.map_path = folder / "drive.img", folder / "drive.map"
        self.told: list[Progress] = []

    def waits(self) -> bool:
        return bool(self.told) and self.told[-1].waiting_seconds > 0.8

    def run(self, *, stop: bool, timeout_seconds: float = 60.0) -> RescueSummary:
        self.told.clear()
        with self.drive.open(read_timeout_seconds=timeout_seconds) as source:
            return rescue(
                source,
                self.image_path,
                self.map_path,
                RescueOptions(compatible=True),
                on_progress=self.told.append,
                stop=self.waits if stop else lambda: False,
            )

    def finished(self) -> ExtentSet:
        return MapStore.read_snapshot(self.map_path).extents(BlockStatus.FINISHED)


@pytest.mark.parametrize(
    ("timeout_seconds", "suspect_seconds"),
    [(0.4, 60.0), (60.0, 0.5)],
    ids=["after its deadline", "before its deadline"],
)
def test_a_run_that_was_stopped_at_a_hang_is_followed_by_one_that_reads_everything_else_first(
    timeout_seconds: float, suspect_seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SUSPECT_SECONDS", suspect_seconds)
    bench = Bench(tmp_path, serial=True)
    assert bench.run(stop=True, timeout_seconds=timeout_seconds).stopped
    assert bench.finished() == ExtentSet([span(0, MIB)])
    assert read_remarks(bench.map_path) == (f"left for last {span(MIB, MIB + 64 * KIB)}",)
    asked = len(bench.drive.asked())
    bench.drive.rule(hang=[HANG])  # its queue is no longer frozen
    assert bench.run(stop=True).stopped
    assert bench.finished() == ExtentSet([span(0, MIB), span(MIB + 64 * KIB, SIZE)])
    first = bench.drive.asked()[asked:][0]
    assert first[0] >= MIB + 64 * KIB, "not the place that hung"
    bench.drive.release()
    assert bench.run(stop=False).finished
    assert bench.finished() == ExtentSet([span(0, SIZE)])
    assert read_remarks(bench.map_path) == ()
    assert bench.image_path.read_bytes() == bench.drive.contents


def test_what_hung_is_known_while_the_run_still_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SUSPECT_SECONDS", 0.5)
    bench = Bench(tmp_path)
    known: list[ExtentSet] = []

    def look() -> bool:
        known.append(recalled(read_remarks(bench.map_path)) if bench.map_path.exists() else ExtentSet())
        return bool(known[-1])

    with bench.drive.open(read_timeout_seconds=60.0) as source:
        summary = rescue(source, bench.image_path, bench.map_path, RescueOptions(compatible=True), stop=look)
    assert summary.stopped
    assert known[-1] == ExtentSet([span(MIB, MIB + 64 * KIB)]), "a kill would not have lost it"


def test_a_hang_in_the_last_round_is_left_for_last_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.run(stop=False, timeout_seconds=0.4).finished
    bad = MapStore.read_snapshot(bench.map_path).extents(BlockStatus.BAD_SECTOR)
    assert bad == ExtentSet([span(MIB, MIB + 1024)])
    assert recalled(read_remarks(bench.map_path)) == bad
    asked = len(bench.drive.asked())
    bench.drive.release()
    with bench.drive.open() as source:
        assert rescue(source, bench.image_path, bench.map_path, RescueOptions(retrim=True)).finished
    assert [at for at, _ in bench.drive.asked()[asked:]] == [MIB, MIB + 512]
    assert read_remarks(bench.map_path) == ()
