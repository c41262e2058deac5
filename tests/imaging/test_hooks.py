"""The user's command for power cycling: when it is run, what it is told, and that nothing depends on it."""

from __future__ import annotations

import shlex
import sys
import threading
import time
from pathlib import Path

import pytest

from imaging.errors import UsageError
from imaging.hooks import Hook, Trouble
from imaging.rescue.comeback import Gone
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions
from imaging.rescue.plan import Phase
from imaging.rescue.progress import Progress, Totals
from imaging.source import RawImage
from tests.imaging.hanging import HangingDrive

SAYS = "import os; print(sorted((k, v) for k, v in os.environ.items() if k.startswith('CARVER_')))"
TOTALS = Totals(
    size_bytes=0,
    rescued_bytes=0,
    non_tried_bytes=0,
    non_trimmed_bytes=0,
    non_scraped_bytes=0,
    bad_bytes=0,
    bad_areas=0,
)


def progress(waiting_seconds: float, *, gone: bool = False) -> Progress:
    return Progress(
        phase=Phase.COPYING,
        pass_number=1,
        position_bytes=4096,
        totals=TOTALS,
        reads=0,
        read_errors=0,
        rate_bytes=0.0,
        average_rate_bytes=0.0,
        seconds=0.0,
        since_success_seconds=0.0,
        last_error_bytes=None,
        waiting_seconds=waiting_seconds,
        gone=gone,
    )


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def ended(hook: Hook) -> list[str]:
    until = time.monotonic() + 20
    while hook._is_running() and time.monotonic() < until:
        time.sleep(0.01)
    return hook.runs


HUNG = Trouble(reason="hung", position_bytes=0x1000, seconds=130.0)


def test_it_is_told_what_has_happened(monkeypatch):
    monkeypatch.delenv("CARVER_REQUIRE_TOOLS", raising=False)  # CI's, handed on as all of the environment is
    hook = Hook(python(SAYS), device="/dev/sdb", serial="Z1")
    assert hook.run(HUNG)
    assert ended(hook) == [
        "the drive has not answered for 130 s at 0x1000: the hook ended well: [('CARVER_DEVICE', '/dev/sdb'), "
        "('CARVER_POSITION', '4096'), ('CARVER_REASON', 'hung'), ('CARVER_SECONDS', '130'), ('CARVER_SERIAL', 'Z1')]"
    ]


def test_no_shell_sees_its_words(tmp_path):
    hook = Hook(f"echo $HOME; touch {tmp_path}/made '*' $(id)", device="/dev/sdb")
    hook.run(HUNG)
    assert ended(hook)[0].endswith(f"ended well: $HOME; touch {tmp_path}/made * $(id)")
    assert not (tmp_path / "made").exists()


def test_a_user_who_wants_a_shell_writes_one(tmp_path):
    hook = Hook(f"sh -c 'echo $CARVER_REASON > {tmp_path}/made'", device="/dev/sdb")
    hook.run(HUNG)
    ended(hook)
    assert (tmp_path / "made").read_text() == "hung\n"


def test_it_runs_in_the_folder_of_the_user(tmp_path, monkeypatch):
    script = tmp_path / "cycle"
    script.write_text("#!/bin/sh\necho here\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    hook = Hook("./cycle", device="/dev/sdb")
    hook.run(HUNG)
    assert ended(hook)[0].endswith("ended well: here")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("false", "failed with exit status 1"),
        ("/no/such/program", "could not be started: No such file or directory"),
        ("sh -c 'echo broken >&2; exit 3'", "failed with exit status 3: broken"),
        ("sh -c 'kill -9 $$'", "failed with exit status -9"),
    ],
)
def test_its_failure_is_told_and_is_no_error(command, words):
    told = []
    hook = Hook(command, device="/dev/sdb", tell=told.append)
    assert hook.run(HUNG)
    assert ended(hook)[0].endswith(f"the hook {words}")
    assert told[-1] == f"the hook {words}"


def test_one_that_does_not_end_is_killed_with_what_it_started(tmp_path):
    hook = Hook(f"sh -c '(sleep 1.5; touch {tmp_path}/late) & sleep 60'", device="/dev/sdb", timeout_seconds=0.3)
    hook.run(HUNG)
    assert ended(hook)[0].endswith("did not end within 0 s, and was killed")
    time.sleep(2)
    assert not (tmp_path / "late").exists()


@pytest.mark.parametrize("command", ["", "   ", "echo 'open"])
def test_a_command_that_is_none_is_refused(command):
    with pytest.raises(UsageError):
        Hook(command, device="/dev/sdb")


def test_it_is_not_run_again_before_its_interval_has_passed(clock):
    hook = Hook("true", device="/dev/sdb", interval_seconds=300, clock=clock)
    assert hook.run(HUNG)
    ended(hook)
    clock.seconds = 299.0
    assert not hook.run(HUNG)
    clock.seconds = 300.0
    assert hook.run(HUNG)
    assert len(ended(hook)) == 2


def test_it_is_not_run_while_it_runs(clock, tmp_path):
    hook = Hook(f"sh -c 'while [ ! -e {tmp_path}/go ]; do sleep 0.05; done'", device="/dev/sdb", clock=clock)
    assert hook.run(HUNG)
    clock.seconds = 1e6
    assert not hook.run(HUNG)
    (tmp_path / "go").touch()
    assert len(ended(hook)) == 1


def test_a_drive_that_does_not_answer_for_long_runs_it(clock):
    shown = []
    hook = Hook("true", device="/dev/sdb", hung_seconds=120, clock=clock)
    watch = hook.watching(shown.append)
    watch(progress(119.9))
    assert hook.runs == []
    assert not hook._is_running()
    watch(progress(120.0))
    assert "has not answered for 120 s at 0x1000" in ended(hook)[0]
    assert len(shown) == 2


def test_waiting_for_a_drive_that_is_gone_is_no_hang(clock):
    hook = Hook("true", device="/dev/sdb", clock=clock)
    hook.watching(lambda shown: None)(progress(1000.0, gone=True))
    assert hook.runs == []
    assert not hook._is_running()


def test_a_drive_that_is_gone_runs_it_before_it_is_waited_for(tmp_path):
    drive = tmp_path / "drive"
    drive.write_bytes(bytes(4096))
    source = RawImage(drive)
    seen = []

    def wait(gone, tell):
        seen.append(list(hook.runs))
        return source

    hook = Hook("echo cycled", device="/dev/sdb")
    hook.watching(lambda shown: None)(progress(0.0))
    told = []
    assert hook.before(wait)(Gone(source=source, samples=()), told.append) is source
    assert seen == [["the drive is gone at 0x1000: the hook ended well: cycled"]]


def test_without_anyone_who_waits_the_rescue_ends_after_it(tmp_path):
    drive = tmp_path / "drive"
    drive.write_bytes(bytes(4096))
    hook = Hook("true", device="/dev/sdb")
    assert hook.before(None)(Gone(source=RawImage(drive), samples=()), lambda seconds: None) is None
    assert len(hook.runs) == 1


def test_the_user_can_end_the_waiting_for_it(tmp_path):
    drive = tmp_path / "drive"
    drive.write_bytes(bytes(4096))
    hook = Hook(f"sh -c 'while [ ! -e {tmp_path}/go ]; do sleep 0.05; done'", device="/dev/sdb")

    def tell(seconds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hook.before(None)(Gone(source=RawImage(drive), samples=()), tell)
    (tmp_path / "go").touch()
    ended(hook)


def test_at_the_end_a_command_that_still_runs_is_left_to_end_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("imaging.hooks.SETTLE_SECONDS", 0.1)
    told = []
    hook = Hook(f"sh -c 'while [ ! -e {tmp_path}/go ]; do sleep 0.05; done'", device="/dev/sdb", tell=told.append)
    hook.settle()
    assert told == []
    hook.run(HUNG)
    hook.settle()
    assert told[-1] == "the hook still runs; it is left to end by itself"
    (tmp_path / "go").touch()
    assert ended(hook)[0].endswith("ended well")


def test_a_rescue_of_a_drive_that_hangs_is_helped_by_it(tmp_path):
    drive = HangingDrive(tmp_path, 1 << 20, hang=[[512 * 1024, 512]])
    release = drive.folder / "release"
    hook = Hook(f"touch {release}", device=str(drive.path), hung_seconds=0.3)
    shown: list[Progress] = []
    timer = threading.Timer(60, release.touch)
    timer.start()
    with drive.open(read_timeout_seconds=30) as source:
        summary = rescue(
            source,
            tmp_path / "d.img",
            tmp_path / "d.img.map",
            RescueOptions(),
            on_progress=hook.watching(shown.append),
        )
    timer.cancel()
    assert summary.finished
    assert summary.totals.rescued_bytes == 1 << 20
    assert len(ended(hook)) == 1
    assert (tmp_path / "d.img").read_bytes() == Path(drive.path).read_bytes()
