"""A drive that grows too hot: paused, read on when it has cooled, left when it does not cool."""

from __future__ import annotations

import threading
import time

import pytest

from imaging.errors import InputError, UsageError
from imaging.extent import span
from imaging.health import Health
from imaging.mapfile import BlockStatus
from imaging.pump import Piece
from imaging.temperature import MAX_SILENT, TemperatureGuard
from tests.imaging.fake_smartctl import FakeSmartctl, ata

PIECE = Piece(extent=span(0, 512), status=BlockStatus.BAD_SECTOR)


class Bench:
    """A guard on a clock of its own; each step of its sleep may change the temperature."""

    def __init__(self, celsius: int | None = 30) -> None:
        self.celsius = celsius
        self.seconds = 0.0
        self.told: list[str] = []
        self.stopping = False
        self.asked: list[str] = []
        self.on_sleep = lambda: None

    def ask(self, device) -> Health:
        self.asked.append(str(device))
        return Health(asked="", note="" if self.celsius is not None else "bridge", temperature_celsius=self.celsius)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.on_sleep()

    def guard(self, **options) -> TemperatureGuard:
        return TemperatureGuard(
            "/dev/sdb",
            stop=lambda: self.stopping,
            tell=self.told.append,
            ask=self.ask,
            clock=lambda: self.seconds,
            sleep=self.sleep,
            **{"max_celsius": 60, **options},
        )


@pytest.fixture
def bench():
    return Bench()


def test_a_cool_drive_is_read_without_a_pause(bench):
    guard = bench.guard()
    guard(PIECE)
    assert (bench.seconds, bench.told, guard.stop()) == (0.0, [], False)


def test_a_hot_drive_is_left_in_peace_until_it_is_five_degrees_cooler(bench):
    guard = bench.guard()
    guard.celsius = 60

    def cool() -> None:
        guard.celsius = {20.0: 58, 40.0: 56, 60.0: 55}.get(round(bench.seconds, 1), guard.celsius)

    bench.on_sleep = cool
    guard(PIECE)
    assert round(bench.seconds, 1) == 60.0
    assert bench.told == ["/dev/sdb is at 60 °C: not read until it is at 55 °C", "/dev/sdb is at 55 °C: reading on"]
    assert not guard.stop()


def test_a_drive_that_does_not_cool_ends_the_rescue(bench):
    guard = bench.guard(cooling_seconds=1800)
    guard.celsius = 63
    guard(PIECE)
    assert 1800 <= bench.seconds < 1801
    assert guard.stop()
    assert guard.ended == "the drive is still at 63 °C after 30 min without a read"
    guard(PIECE)
    assert bench.seconds < 1801


def test_the_user_can_stop_in_a_pause(bench):
    guard = bench.guard()
    guard.celsius = 70

    def stop() -> None:
        bench.stopping = True

    bench.on_sleep = stop
    guard(PIECE)
    assert bench.seconds < 1
    assert (guard.stop(), guard.ended) == (True, None)


def test_a_drive_that_tells_no_temperature_cannot_be_protected(bench):
    bench.celsius = None
    with pytest.raises(InputError, match="does not tell its temperature \\(bridge\\)"):
        bench.guard()


@pytest.mark.parametrize("celsius", [19, 101, 0, -5])
def test_a_limit_that_no_drive_works_at_is_refused(bench, celsius):
    with pytest.raises(UsageError):
        bench.guard(max_celsius=celsius)


def wait_until(condition) -> None:
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    assert condition()


def test_it_is_asked_again_and_again_beside_the_rescue(bench):
    with bench.guard(ask_seconds=0.005) as guard:
        bench.celsius = 52
        wait_until(lambda: guard.celsius == 52)
        bench.celsius = 47
        wait_until(lambda: guard.celsius == 47)
    assert guard.highest_celsius == 52


def test_a_drive_that_falls_silent_is_read_on_and_not_asked_again(bench):
    with bench.guard(ask_seconds=0.005) as guard:
        bench.celsius = None
        wait_until(lambda: guard.celsius is None)
        asked = len(bench.asked)
        time.sleep(0.05)
        assert len(bench.asked) == asked >= 1 + MAX_SILENT  # once or more before it fell silent
        guard(PIECE)
    assert len(bench.told) == 1
    assert "does not tell its temperature any more" in bench.told[0]


def test_one_answer_that_is_missing_changes_nothing(bench):
    with bench.guard(ask_seconds=0.005) as guard:
        answers = iter([None, 41] * 50)
        bench.ask = lambda device: Health(asked="", temperature_celsius=next(answers))
        guard._ask = bench.ask
        wait_until(lambda: guard.celsius == 41)
        time.sleep(0.05)
        assert guard.celsius == 41
    assert bench.told == []


def test_an_end_does_not_wait_for_an_answer(bench):
    held, asking = threading.Event(), threading.Event()
    guard = bench.guard(ask_seconds=0.001)

    def hang(device):
        asking.set()
        held.wait(30)
        return Health(asked="")

    guard._ask = hang
    with guard:
        assert asking.wait(20)
    assert guard._thread.is_alive()
    held.set()


def test_a_drive_that_came_back_is_asked_under_its_new_name(bench):
    with bench.guard(ask_seconds=0.005) as guard:
        guard.device = "/dev/sdc"
        wait_until(lambda: bench.asked[-1] == "/dev/sdc")


def test_the_temperature_is_smartctls(tmp_path, monkeypatch):
    FakeSmartctl(tmp_path, monkeypatch).answers(ata(temperature={"current": 57}))
    guard = TemperatureGuard("/dev/sdb", max_celsius=60, stop=lambda: False)
    assert guard.celsius == 57
