"""Interrupted at any moment and run again, a rescue ends as if nothing had happened, and does nothing twice."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from fixtures import demo
from imaging.mapfile import Mapfile
from tests.command import COMMAND, good
from tests.interruption import PARTIAL, STOPS, rescue_command, run_until
from tests.report_schema import load_checked, without_run


@pytest.fixture(scope="module")
def usual_seconds(demo_drive: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long an uninterrupted run takes here and now."""
    start = time.monotonic()
    case = tmp_path_factory.mktemp("timed") / "CASE"
    good("rescue", "--test-mode", demo_drive / "damage.map", demo_drive / "drive.img", case)
    return time.monotonic() - start


def recovered(case: Path) -> dict[str, str]:
    report = load_checked(case)
    return {file["path"]: hashlib.sha256((case / file["path"]).read_bytes()).hexdigest() for file in report["files"]}


def check_as_if_uninterrupted(case: Path, whole: Path) -> None:
    assert without_run(load_checked(case)) == without_run(load_checked(whole))
    assert recovered(case) == recovered(whole)
    assert (case / "image.raw").read_bytes() == (whole / "image.raw").read_bytes()
    assert list(Mapfile.load(case / "image.raw.map").blocks()) == list(Mapfile.load(whole / "image.raw.map").blocks())
    assert list(case.rglob(PARTIAL)) == []
    assert {path.name for path in case.iterdir()} == {path.name for path in whole.iterdir()}
    for log, key in (("scan.jsonl", "offset_bytes"), ("verdicts.jsonl", "through"), ("files.jsonl", "path")):
        lines = [json.loads(line) for line in (case / log).read_text().splitlines()]
        seen = Counter(line[key] for line in lines if key in line)
        assert seen and max(seen.values()) == 1, f"{log}: done twice"
        assert sum("finished" in line for line in lines) == 1


def check_nothing_was_lost(before: dict[str, list[str]], case: Path) -> None:
    """What a log held before a run it must still hold: nothing is done again, nothing forgotten."""
    for name, lines in before.items():
        whole = [line for line in lines if line.endswith("\n")]
        assert (case / name).read_text().splitlines(keepends=True)[: len(whole)] == whole, name


def logs(case: Path) -> dict[str, list[str]]:
    names = ("scan.jsonl", "verdicts.jsonl", "files.jsonl")
    return {name: (case / name).read_text().splitlines(keepends=True) for name in names if (case / name).is_file()}


def interrupt_and_finish(drive: Path, case: Path, whole: Path, stop_names: list[str], delays: list[float]) -> None:
    command = rescue_command(drive, case)
    for name, delay in zip(itertools.cycle(stop_names), delays, strict=False):
        before = logs(case)
        stop = STOPS[name]
        code, told = run_until(command, stop, delay)
        check_nothing_was_lost(before, case)
        killed = -stop.number
        assert code in (0, 130, killed), f"{name} after {delay:.2f} s: exit {code}\n{told}"
        if code == 130:
            assert "same command goes on" in told
        if code != killed:
            assert "Traceback" not in told, told
    good(*command[1:] if command[0].endswith("carver") else command[3:])
    check_as_if_uninterrupted(case, whole)


@pytest.mark.parametrize("stop_name", STOPS)
def test_a_rescue_that_is_stopped_and_run_again_ends_the_same(
    stop_name, demo_drive, demo_case, usual_seconds, tmp_path
):
    random_ = random.Random(stop_name)
    delays = [usual_seconds * random_.uniform(0.05, 1.0) for _ in range(2)]
    interrupt_and_finish(demo_drive, tmp_path / "CASE", demo_case, [stop_name], delays)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_a_rescue_that_is_stopped_many_times_in_many_ways_ends_the_same(
    seed, demo_drive, demo_case, usual_seconds, tmp_path
):
    random_ = random.Random(seed)
    names = random_.choices(list(STOPS), k=6)
    delays = [usual_seconds * random_.uniform(0.02, 1.1) for _ in names]
    interrupt_and_finish(demo_drive, tmp_path / "CASE", demo_case, names, delays)


@pytest.mark.long
@pytest.mark.parametrize("stop_name", STOPS)
def test_a_larger_drive_is_stopped_in_each_phase(stop_name, tmp_path):
    """A drive that takes long enough for a stop in every phase: many files, many bad sectors."""
    drive, whole, case = tmp_path / "drive", tmp_path / "whole", tmp_path / "CASE"
    large_drive(drive)
    start = time.monotonic()
    good(*rescue_command(drive, whole)[-5:])
    seconds = time.monotonic() - start
    for share in (0.1, 0.25, 0.4, 0.55, 0.7, 0.85):
        delays = [seconds * share] * 2
        interrupt_and_finish(drive, case.with_name(f"case-{share}"), whole, [stop_name], delays)


def large_drive(folder: Path) -> None:
    """Write a demo drive with sixty times as many models and 2,000 scattered bad sectors."""
    folder.mkdir()
    files = []
    for seed in range(12):
        files += [(f"{seed}-{name}", kind, content) for name, kind, content in demo.models(seed)]
    truth = demo.build_plain(folder / "drive.img", files, seed=1)
    size = (folder / "drive.img").stat().st_size
    sectors = sorted(random.Random(7).sample(range(size // 512), 2000))
    (folder / "damage.map").write_text(demo.mapfile_text(_joined(sectors), size))
    demo.write_truth(folder / "truth.json", truth)


def _joined(sectors: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for sector in sectors:
        if runs and sum(runs[-1]) == sector * 512:
            runs[-1] = (runs[-1][0], runs[-1][1] + 512)
        else:
            runs.append((sector * 512, 512))
    return runs


def test_ranges_that_were_finished_are_not_read_again(demo_drive, tmp_path):
    """After a stop in the middle of imaging, the next run reads what is missing and no more."""
    image = tmp_path / "out.img"
    head = ("image", "--json", "--test-mode", demo_drive / "damage.map")
    first = json.loads(good(*head, "-s", "20Mi", demo_drive / "drive.img", image).out)
    second = json.loads(good(*head, demo_drive / "drive.img", image).out)
    whole = json.loads(good(*head, demo_drive / "drive.img", tmp_path / "whole.img").out)
    assert second["rescued_bytes"] == whole["rescued_bytes"] > first["rescued_bytes"]
    assert first["reads"] + second["reads"] <= whole["reads"] + 8, "a range cut in two costs a few reads, no more"


def test_a_case_that_was_killed_while_it_was_bound_is_begun_again(small_image, tmp_path):
    case = tmp_path / "CASE"
    case.mkdir()
    (case / ".lock").touch()
    (case / "case.json.partial").write_text('{"schema_ver')
    good("carve", small_image, "--out", case)
    assert load_checked(case)["files"]
    assert list(case.rglob(PARTIAL)) == []


def test_what_a_killed_rescue_had_read_is_known_to_the_scan_that_follows(demo_drive, tmp_path):
    image, journal = tmp_path / "out.img", tmp_path / "out.img.map.journal"
    arguments = ["image", "-r", "-1", "--test-mode", demo_drive / "damage.map", demo_drive / "drive.img", image]
    command = [*COMMAND, *map(str, arguments)]  # its retry passes never end
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
        until = time.monotonic() + 60
        while not (journal.is_file() and journal.stat().st_size > 200):
            assert child.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        child.kill()
    candidates = [json.loads(line)["offset_bytes"] for line in good("scan", "--json", image).out.splitlines()]
    truth = json.loads((demo_drive / "truth.json").read_text())["files"]
    assert {file["layout"][0][0] for file in truth} <= set(candidates)
