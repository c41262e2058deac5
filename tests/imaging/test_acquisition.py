"""The acquisition record: begun before the first read, completed however the rescue ends, one session a run."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from imaging import acquisition
from imaging.acquisition import Tool, Wishes
from imaging.acquisition_record import (
    KILLED,
    MAX_RANGES,
    AcquisitionRecord,
    Session,
    add_verification,
    load,
    note_filling,
    record_path,
    save,
)
from imaging.damaged import DamagedSource
from imaging.errors import InputError, Interrupted, OutputError
from imaging.extent import ExtentSet, span
from imaging.hash_log import log_path, read_hashes
from imaging.health import Health
from imaging.kernel_settings import WantedSettings
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore
from imaging.read_back import verify
from imaging.rescue.engine import rescue
from imaging.rescue.limits import Limits
from imaging.rescue.options import RescueOptions
from imaging.source import RawImage
from tests.imaging.hanging import HangingDrive

SIZE = 1 << 20
TOOL = Tool(name="carver", version="0.1.0", command=("carver", "image", "/dev/sdb", "my image"))


class Bench:
    def __init__(self, folder: Path) -> None:
        self.drive, self.image, self.map = folder / "drive", folder / "d.img", folder / "d.img.map"
        self.drive.write_bytes(random.Random(5).randbytes(SIZE))
        self.damage = Mapfile.covering(SIZE)
        self.damage.mark(span(0, SIZE), BlockStatus.FINISHED)
        self.told: list[str] = []

    def fail(self, start: int, end: int) -> None:
        self.damage.mark(span(start, end), BlockStatus.BAD_SECTOR)

    def session(self, wishes: Wishes | None = None, *, options: RescueOptions | None = None, stop=lambda: False):
        self.source = DamagedSource(RawImage(self.drive), self.damage)
        return acquisition.session(
            self.source,
            self.image,
            self.map,
            options or RescueOptions(),
            wishes or Wishes(),
            TOOL,
            stop=stop,
            tell=self.told.append,
        )

    def rescue(self, session, *, options: RescueOptions | None = None, **arguments):
        return rescue(
            self.source,
            self.image,
            self.map,
            options or RescueOptions(),
            subscribers=session.subscribers,
            on_progress=session.watching(lambda progress: None),
            on_gone=session.before(None),
            **{"stop": session.stop, **arguments},
        )

    def run(self, wishes: Wishes | None = None, **arguments):
        options = arguments.pop("options", None)
        with self.session(wishes, options=options) as session:
            summary = self.rescue(session, options=options, **arguments)
            session.finish(summary)
        return session

    def record(self) -> AcquisitionRecord:
        found = load(record_path(self.image, self.map))
        assert found is not None
        return found


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_a_finished_rescue_has_a_whole_record(bench):
    bench.fail(4096, 6144)
    bench.run(Wishes(case={"case": "2026-17", "examiner": "A. Name", "notes": ""}))
    record = bench.record()
    assert record.case == {"case": "2026-17", "examiner": "A. Name"}
    assert record.drive["path"] == str(bench.drive)
    assert record.drive["size_bytes"] == SIZE
    assert record.image == {
        "path": str(bench.image),
        "map": str(bench.map),
        "format": "raw",
        "segments": 1,
        "image_bytes": SIZE,
        "shift_bytes": 0,
    }
    (session,) = record.sessions
    assert (session.tool, session.version, session.command) == ("carver", "0.1.0", list(TOOL.command))
    assert session.outcome == "finished"
    assert session.write_protection["opened"] == "read-only"
    assert "no hardware write blocker" in session.write_protection["statement"]
    assert session.reads > 0
    assert session.read_errors > 0
    assert session.rescued_bytes == SIZE - 2048
    started, ended = map(datetime.fromisoformat, (session.started, session.ended))
    assert started <= ended
    assert started.utcoffset() == timedelta(0)


def test_the_result_tells_what_is_missing_and_what_is_in_its_place(bench):
    bench.fail(4096, 6144)
    bench.fail(SIZE - 512, SIZE)
    bench.run()
    result = bench.record().result
    assert result.finished
    assert (result.image_bytes, result.rescued_bytes, result.unread_bytes) == (SIZE, SIZE - 2560, 2560)
    assert result.unread_ranges == [[4096, 2048, "-"], [SIZE - 512, 512, "-"]]
    assert result.unread_range_count == 2
    assert result.fill.startswith("zeros")
    assert result.map_sha256 == hashlib.sha256(bench.map.read_bytes()).hexdigest()
    assert result.digests == {"sha256": hashlib.sha256(bench.image.read_bytes()).hexdigest()}
    assert result.hashes["log"] == str(log_path(bench.image, bench.map))


def test_what_was_asked_of_the_rescue_is_kept_where_it_is_not_the_default(bench):
    options = RescueOptions(
        no_scrape=True,
        copying_passes=frozenset({1, 2}),
        limits=Limits(max_read_errors=7),
        domain=ExtentSet([span(0, 4096)]),
    )
    bench.run(options=options)
    assert bench.record().sessions[0].options == {
        "copying_passes": [1, 2],
        "no_scrape": True,
        "limits": {"max_read_errors": 7},
        "domain": "1 ranges, 4096 bytes",
    }


def test_each_run_appends_a_session(bench):
    reads = iter(range(10**6))
    bench.run(Wishes(case={"case": "1"}), stop=lambda: next(reads) >= 3)
    assert bench.record().sessions[0].outcome == "stopped"
    assert bench.record().result.finished is False
    assert bench.record().result.digests == {}
    bench.run(Wishes(case={"examiner": "B"}))
    record = bench.record()
    assert [session.outcome for session in record.sessions] == ["stopped", "finished"]
    assert record.case == {"case": "1", "examiner": "B"}
    assert record.result.digests == {"sha256": hashlib.sha256(bench.drive.read_bytes()).hexdigest()}


def test_the_record_is_there_before_the_first_read(bench):
    with bench.session() as session:
        seen = json.loads(record_path(bench.image, bench.map).read_text())
        session.finish(bench.rescue(session))
    assert [each["outcome"] for each in seen["sessions"]] == ["running"]


def test_an_error_is_in_the_record_and_goes_on_its_way(bench):
    with pytest.raises(InputError, match="the drive is gone"), bench.session():
        raise InputError("the drive is gone: pulled")
    assert bench.record().sessions[0].outcome == "failed: the drive is gone: pulled"
    assert bench.record().result is None


@pytest.mark.parametrize("error", [Interrupted("stopped"), KeyboardInterrupt()])
def test_a_user_who_stops_is_no_failure(bench, error):
    with pytest.raises(type(error)), bench.session() as session:
        session.finish(bench.rescue(session, stop=lambda: True))
        raise error
    assert bench.record().sessions[0].outcome == "stopped"


def test_a_limit_that_ended_the_rescue_is_named(bench):
    bench.fail(0, SIZE // 2)
    bench.run(options=RescueOptions(limits=Limits(max_read_errors=1)))
    assert bench.record().sessions[0].outcome.startswith("ended: ")


def test_without_hashes_the_record_says_so(bench):
    bench.run(Wishes(algorithms=()))
    assert bench.record().result.digests == {}
    assert bench.record().result.hashes == {}
    assert not log_path(bench.image, bench.map).exists()


def test_both_digests_where_both_are_wished_for(bench):
    bench.run(Wishes(algorithms=("sha256", "md5")))
    assert bench.record().result.digests["md5"] == hashlib.md5(bench.drive.read_bytes()).hexdigest()


def test_the_image_may_lie_elsewhere_than_on_the_drive(bench):
    bench.run(options=RescueOptions(input_offset_bytes=4096, output_offset_bytes=0))
    record = bench.record()
    assert record.image["shift_bytes"] == -4096
    assert record.result.digests == {"sha256": hashlib.sha256(bench.image.read_bytes()).hexdigest()}
    assert bench.image.read_bytes() == bench.drive.read_bytes()[4096:]
    assert record.result.unread_bytes == 4096
    assert verify(bench.image, log_path(bench.image, bench.map)).clean


def test_a_rescue_that_would_be_refused_leaves_no_record(bench):
    bench.image.write_bytes(b"someone's")
    with pytest.raises(OutputError), bench.session():
        pass
    assert not record_path(bench.image, bench.map).exists()
    assert not log_path(bench.image, bench.map).exists()


def test_a_second_run_on_the_same_image_is_refused_before_it_touches_the_record(bench):
    with bench.session(Wishes(algorithms=())) as session, MapStore.open(bench.map, SIZE):
        with pytest.raises(InputError, match="another carver"), bench.session():
            pass
        assert len(bench.record().sessions) == 1
        assert session.subscribers == ()


def test_a_record_of_something_else_is_not_written_over(bench):
    path = record_path(bench.image, bench.map)
    for content in (
        "{}",
        "[]",
        "x",
        '{"sessions": [], "result": null, "colour": 1}',
        '{"sessions": [3], "result": null}',
    ):
        path.write_text(content)
        with pytest.raises(InputError, match="no acquisition record"), bench.session():
            pass
        assert path.read_text() == content
    path.write_text('{"schema_version": 99, "sessions": [], "result": null}')
    with pytest.raises(InputError, match="another version"):
        load(path)


def test_the_record_of_an_image_that_is_gone_is_set_aside_and_kept(bench):
    for number in (1, 2):
        bench.run(Wishes(case={"case": str(number)}))
        bench.image.unlink()
        bench.map.unlink()
    bench.run()
    assert bench.record().case == {}
    assert len(bench.record().sessions) == 1
    for number in (1, 2):
        kept = load(bench.image.with_name(f"d.img.acquisition.{number}.json"))
        assert kept is not None
        assert kept.case == {"case": str(number)}
    assert "set aside" in bench.record().sessions[0].events[0]
    assert verify(bench.image, log_path(bench.image, bench.map)).clean


def test_a_run_that_was_killed_before_it_had_a_map_is_gone_on_with(bench):
    save(
        record_path(bench.image, bench.map), AcquisitionRecord(sessions=(Session(started="2026-11-22T18:00:00+00:00"),))
    )
    bench.run()
    assert [session.outcome for session in bench.record().sessions] == [KILLED, "finished"]


def test_a_record_that_cannot_be_completed_does_not_hide_the_error(bench, monkeypatch, caplog):
    with pytest.raises(InputError, match="gone"), bench.session():
        monkeypatch.setattr("imaging.acquisition.save", _refuse)
        raise InputError("gone")
    assert "could not be completed: no room" in caplog.text


def test_a_record_that_cannot_be_completed_is_an_error_of_its_own(bench, monkeypatch):
    with pytest.raises(OutputError, match="no room"), bench.session() as session:
        session.finish(bench.rescue(session))
        monkeypatch.setattr("imaging.acquisition.save", _refuse)


def _refuse(path, record):
    raise OutputError("no room")


def test_smart_is_asked_before_and_after_of_a_drive_only(bench, monkeypatch):
    asked = []

    def answer(device, **options):
        asked.append(str(device))
        return Health(asked="", serial="Z1", passed=True, temperature_celsius=30 + len(asked))

    monkeypatch.setattr(acquisition, "read_health", answer)
    bench.run()
    assert asked == []
    monkeypatch.setattr(acquisition, "is_device", lambda path: path == bench.drive)
    bench.run()
    assert asked == [str(bench.drive)] * 2
    record = bench.record()
    assert record.drive["smart_serial"] == "Z1"
    assert record.sessions[1].health_before["temperature_celsius"] == 31
    assert record.sessions[1].health_after["temperature_celsius"] == 32
    bench.run(Wishes(smart=False))
    assert len(asked) == 2


def test_a_user_who_stops_does_not_wait_for_smart(bench, monkeypatch):
    asked = []
    monkeypatch.setattr(acquisition, "read_health", lambda device, **options: asked.append(device) or Health(asked=""))
    monkeypatch.setattr(acquisition, "is_device", lambda path: path == bench.drive)
    with bench.session(stop=lambda: True) as session:
        session.finish(bench.rescue(session))
    assert len(asked) == 1


def test_what_is_told_on_the_way_is_in_the_record(bench):
    bench.run(Wishes(settings=WantedSettings(readahead_kib=0)))
    assert bench.record().sessions[0].events == bench.told
    assert "no settings of the kernel" in bench.told[0]


def test_a_hook_that_ran_is_in_the_record(bench, tmp_path):
    drive = HangingDrive(tmp_path, SIZE, hang=[[512 * 1024, 512]])
    wishes = Wishes(hook=f"touch {drive.folder}/release")
    with drive.open(read_timeout_seconds=30) as source:
        bench.source = source
        with acquisition.session(source, bench.image, bench.map, RescueOptions(), wishes, TOOL) as session:
            assert session.hook is not None
            session.hook._hung_seconds = 0.3
            session.finish(bench.rescue(session))
    assert any("the hook ended well" in event for event in bench.record().sessions[0].events)
    assert bench.record().sessions[0].outcome == "finished"


def test_a_drive_that_comes_back_is_followed_to_its_new_name(bench, monkeypatch):
    guard = acquisition.TemperatureGuard
    monkeypatch.setattr(
        acquisition,
        "TemperatureGuard",
        lambda device, **options: guard(device, ask=lambda path: Health(asked="", temperature_celsius=30), **options),
    )
    back = RawImage(bench.drive)
    with bench.session(Wishes(max_celsius=60)) as session:
        assert session.before(None) is None
        session.record = replace(session.record, sessions=(replace(session.record.sessions[0], kernel_changes=("x",)),))
        waits = session.before(lambda gone, tell: back)
        session.guard.device = "/dev/gone"
        assert waits(None, None) is back
        assert session.guard.device == str(bench.drive)
        assert session.before(lambda gone, tell: None)(None, None) is None
    assert "settings again" in bench.told[0]
    assert len(bench.told) == 1


def test_a_drive_that_does_not_cool_ends_the_session(bench, monkeypatch):
    monkeypatch.setattr("imaging.temperature.COOLING_SECONDS", 0.05)
    hot = Health(asked="", temperature_celsius=71)
    guard = acquisition.TemperatureGuard
    monkeypatch.setattr(
        acquisition,
        "TemperatureGuard",
        lambda device, **options: guard(device, ask=lambda path: hot, cooling_seconds=0.05, **options),
    )
    bench.run(Wishes(max_celsius=60))
    (session,) = bench.record().sessions
    assert session.outcome == "ended: the drive is still at 71 °C after 0 min without a read"
    assert session.highest_celsius == 71
    assert bench.record().result.rescued_bytes < SIZE


def test_a_verification_is_appended(bench):
    bench.run()
    path = record_path(bench.image, bench.map)
    assert add_verification(path, verify(bench.image, log_path(bench.image, bench.map))).verifications[-1]["clean"]
    with bench.image.open("r+b") as file:
        file.write(b"changed")
    add_verification(path, verify(bench.image, log_path(bench.image, bench.map)))
    clean, changed = bench.record().verifications
    assert (clean["clean"], changed["clean"], changed["image_agrees"]) == (True, False, False)
    assert changed["differing"] == [[0, SIZE]]
    assert (
        add_verification(bench.image.with_name("other"), verify(bench.image, log_path(bench.image, bench.map))) is None
    )


def test_a_filling_is_on_record_and_voids_hashes(bench):
    bench.fail(4096, 6144)
    bench.run()
    note_filling(bench.image, bench.map, "blocks of - with zero.bin")
    with bench.image.open("r+b") as file:
        file.seek(4096)
        file.write(b"x" * 2048)
    assert bench.record().fillings[0].endswith(": blocks of - with zero.bin")
    assert verify(bench.image, log_path(bench.image, bench.map)).image_agrees is None
    bench.run()
    assert "blocks of - with zero.bin" in bench.record().result.fill
    assert bench.record().result.digests == {"sha256": hashlib.sha256(bench.image.read_bytes()).hexdigest()}


def test_a_filling_without_a_record_makes_none(bench):
    note_filling(bench.image, bench.map, "blocks of - with zero.bin")
    assert not record_path(bench.image, bench.map).exists()


def test_a_run_without_hashes_voids_those_of_the_run_before(bench):
    bench.fail(4096, 6144)
    bench.run()
    bench.damage.mark(span(4096, 6144), BlockStatus.FINISHED)
    bench.run(Wishes(algorithms=()), options=RescueOptions(retry_passes=1))
    assert bench.image.read_bytes() == bench.drive.read_bytes()
    found = verify(bench.image, log_path(bench.image, bench.map))
    assert (found.image_agrees, found.differing) == (None, ())
    assert bench.record().result.digests == {}


def test_of_very_many_unread_ranges_the_first_are_listed_and_all_are_counted(bench):
    mapfile = Mapfile.covering(3 * MAX_RANGES)
    for start in range(0, 3 * MAX_RANGES, 2):
        mapfile.mark(span(start, start + 1), BlockStatus.FINISHED)
    bench.map.write_text(mapfile.to_text())
    bench.image.write_bytes(bytes(SIZE))
    with pytest.raises(InputError), bench.session(Wishes(algorithms=())):
        raise InputError("x")
    result = bench.record().result
    assert (len(result.unread_ranges), result.unread_range_count) == (MAX_RANGES, MAX_RANGES * 3 // 2)


def test_the_record_is_replaced_whole_or_not_at_all(bench, monkeypatch):
    bench.run()
    path = record_path(bench.image, bench.map)
    before = path.read_bytes()

    def full(self, descriptor, offset_bytes, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("imaging.disk.LocalDisk.write_at", full)
    with pytest.raises(OutputError, match="no room"):
        save(path, AcquisitionRecord())
    assert path.read_bytes() == before


RUN = """
import sys, time
from pathlib import Path
from imaging import acquisition
from imaging.acquisition import Tool, Wishes
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions
from imaging.source import RawImage

class Slow(RawImage):
    def read_at(self, offset_bytes, size_bytes):
        time.sleep(0.02)
        return super().read_at(offset_bytes, size_bytes)

drive, image, map_path = map(Path, sys.argv[1:])
source, options = Slow(drive), RescueOptions(cluster_bytes=4096)
tool = Tool(name="carver", version="0", command=())
with acquisition.session(source, image, map_path, options, Wishes(), tool) as session:
    print("begun", flush=True)
    session.finish(rescue(source, image, map_path, options, subscribers=session.subscribers, stop=session.stop))
"""


def test_a_run_that_was_killed_is_known_by_the_next(bench):
    run = subprocess.Popen([sys.executable, "-c", RUN, bench.drive, bench.image, bench.map], stdout=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stdout.readline() == b"begun\n"
    time.sleep(1.0)
    run.send_signal(signal.SIGKILL)
    run.wait(20)
    assert read_hashes(log_path(bench.image, bench.map)).open
    bench.run()
    record = bench.record()
    assert [session.outcome for session in record.sessions] == [KILLED, "finished"]
    assert record.sessions[0].ended is None
    assert record.result.digests == {"sha256": hashlib.sha256(bench.drive.read_bytes()).hexdigest()}
    assert verify(bench.image, log_path(bench.image, bench.map)).clean
