"""Other programs beside a rescue: bounded in time and in what they say, never waited for."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from imaging import programs
from imaging.programs import MAX_OUTPUT_BYTES, find, run


def test_what_it_prints_and_how_it_ends_is_returned():
    ran = run(["sh", "-c", "echo out; echo err >&2; exit 7"], timeout_seconds=20)
    assert (ran.status, sorted(ran.output.split())) == (7, [b"err", b"out"])


def test_one_that_does_not_end_is_killed_with_its_children(tmp_path):
    note = tmp_path / "pid"
    ran = run(["sh", "-c", f"sleep 60 & echo $! > {note}; wait"], timeout_seconds=0.5)
    assert ran.status is None
    child = int(note.read_text())
    until = time.monotonic() + 20
    while _lives(child) and time.monotonic() < until:
        time.sleep(0.01)
    assert not _lives(child)


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_grandchild_that_keeps_the_output_open_holds_nobody():
    ran = run(["sh", "-c", "(sleep 30 &) ; echo done"], timeout_seconds=20)
    assert (ran.status, ran.output) == (0, b"done\n")


def test_a_flood_of_output_is_cut():
    ran = run([sys.executable, "-c", f"print('x' * {MAX_OUTPUT_BYTES + 100})"], timeout_seconds=60)
    assert len(ran.output) == MAX_OUTPUT_BYTES


def test_it_ends_when_it_is_told_to_stop():
    asked = iter([False, False, True])
    assert run(["sleep", "60"], timeout_seconds=60, stop=lambda: next(asked, True)).status is None


def test_it_gets_its_variables_beside_ours(monkeypatch):
    monkeypatch.setenv("OURS", "1")
    assert run(["sh", "-c", "echo $OURS $THEIRS"], timeout_seconds=20, environment={"THEIRS": "2"}).output == b"1 2\n"


def test_it_keeps_no_folder_of_ours_busy_unless_it_shall(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["pwd"], timeout_seconds=20).output == b"/\n"
    assert run(["pwd"], timeout_seconds=20, folder=None).output.strip() == os.fsencode(tmp_path)


def test_one_that_is_not_there_is_an_error():
    with pytest.raises(FileNotFoundError):
        run(["/no/such/program"], timeout_seconds=20)


def test_system_programs_are_found_where_a_users_path_does_not_lead(tmp_path, monkeypatch):
    program = tmp_path / "smartctl"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(programs, "SYSTEM_FOLDERS", (str(tmp_path),))
    assert find("smartctl") == str(program)
    assert find("no-such-program") is None
