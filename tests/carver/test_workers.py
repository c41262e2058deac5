import importlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import signatures
from carver.candidates import Candidate
from carver.judge import judge
from carver.workers import NOBODY, Limits, _lesser_ids, judge_all
from imaging.errors import CarverError, Interrupted
from imaging.extent import ExtentSet, span
from imaging.source import RawImage
from signatures.verdict import Grade, Verdict
from tests.carver.probe_formats import CELL_BYTES

LOADER = "tests.carver.probe_formats:formats"


def cells(path: Path, deeds: list[str]) -> tuple[RawImage, list[Candidate]]:
    path.write_bytes(b"".join(deed.encode().ljust(CELL_BYTES, b"\0") for deed in deeds))
    return RawImage(path), [
        Candidate(format="probe", layout=(span(i * CELL_BYTES, (i + 1) * CELL_BYTES),), hits=((0, "x"),))
        for i in range(len(deeds))
    ]


def judged(path: Path, deeds: list[str], *, workers: int = 1, limits: Limits | None = None) -> list[Verdict]:
    image, candidates = cells(path, deeds)
    pairs = [
        pair
        for batch in judge_all(image, candidates, ["probe"], workers=workers, limits=limits, loader=LOADER)
        for pair in batch
    ]
    assert [candidate for candidate, _ in pairs] == candidates
    return [verdict for _, verdict in pairs]


def told(verdicts: list[Verdict]) -> list[str]:
    return [v.findings[0].code if v.findings else str(v.facts["deed"]) for v in verdicts]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_verdicts_come_in_the_order_of_the_candidates(tmp_path: Path, workers: int) -> None:
    deeds = [f"n{number}" for number in range(500)]
    assert told(judged(tmp_path / "i", deeds, workers=workers)) == deeds


def test_no_candidates_start_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert judged(tmp_path / "i", ["x"][:0]) == []


def test_a_validator_that_hangs_is_undecided_and_the_rest_is_judged(tmp_path: Path) -> None:
    limits = Limits(timeout_seconds=1.0)
    verdicts = judged(tmp_path / "i", ["a", "hang", "b", "c"], limits=limits)
    assert told(verdicts) == ["a", "timeout", "b", "c"]
    assert verdicts[1].grade is Grade.UNDECIDED


def test_a_validator_that_reads_on_from_a_slow_disk_does_not_hang(tmp_path: Path) -> None:
    patient = Limits(timeout_seconds=1.0, progress_bytes=CELL_BYTES)
    assert told(judged(tmp_path / "i", ["a", "slow", "hang", "b"], limits=patient)) == ["a", "slow", "timeout", "b"]
    assert told(judged(tmp_path / "j", ["slow"], limits=Limits(timeout_seconds=1.0))) == ["timeout"]


def test_a_validator_that_kills_its_process_is_undecided_and_the_rest_is_judged(tmp_path: Path) -> None:
    verdicts = judged(tmp_path / "i", ["die", "a", "die", "b"], workers=2)
    assert told(verdicts) == ["validator-died", "a", "validator-died", "b"]
    assert verdicts[0].grade is Grade.UNDECIDED


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS is not kept elsewhere")
def test_a_validator_that_allocates_without_end_is_undecided(tmp_path: Path) -> None:
    assert told(judged(tmp_path / "i", ["a", "allocate", "b"])) == ["a", "memory", "b"]


def test_each_failure_of_a_validator_has_its_own_code(tmp_path: Path) -> None:
    deeds = ["raise", "budget", "fault", "no-json", "rejected", "a"]
    verdicts = judged(tmp_path / "i", deeds)
    assert told(verdicts) == ["validator-failed", "budget", "read-fault", "validator-failed", "not-a-probe", "a"]
    assert "ZeroDivisionError" in verdicts[0].findings[0].detail
    assert "plain values" in verdicts[3].findings[0].detail


def test_a_worker_is_confined(tmp_path: Path) -> None:
    (verdict,) = judged(tmp_path / "i", ["state"])
    assert verdict.facts["file_bytes"] == 0
    assert verdict.facts["pid"] != os.getpid()
    assert not verdict.facts["working_folder_on_path"] or "" in sys.path
    if sys.platform.startswith("linux"):
        assert verdict.facts["death_signal"] == 9


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to give up")
def test_root_judges_as_somebody_else_unless_told_not_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    (verdict,) = judged(tmp_path / "i", ["state"])
    assert verdict.facts["uid"] == NOBODY
    assert verdict.facts["groups"] == []
    (kept,) = judged(tmp_path / "j", ["state"], limits=Limits(drop_privileges=False))
    assert kept.facts["uid"] == 0
    assert kept.facts["descriptors"] <= 6  # three standard ones, the pipe, the image, the listing itself


@pytest.mark.parametrize(
    ("user", "group", "wanted"),
    [("1000", "1001", (1000, 1001)), ("0", "0", (NOBODY, NOBODY)), ("x", "1", (NOBODY, NOBODY))],
)
def test_the_lesser_user_is_the_one_behind_sudo_or_nobody(
    monkeypatch: pytest.MonkeyPatch, user: str, group: str, wanted: tuple[int, int]
) -> None:
    monkeypatch.setenv("SUDO_UID", user)
    monkeypatch.setenv("SUDO_GID", group)
    assert _lesser_ids() == wanted


def test_stopping_ends_the_workers_at_once(tmp_path: Path) -> None:
    image, candidates = cells(tmp_path / "i", ["a"] * 64 + ["hang"])
    got: list[object] = []
    batches = judge_all(image, candidates, ["probe"], workers=2, loader=LOADER, stop=lambda: bool(got))
    with pytest.raises(Interrupted):
        for batch in batches:
            got.extend(batch)
    assert len(got) == 64


def test_workers_that_cannot_start_are_an_error_not_a_thousand_verdicts(tmp_path: Path) -> None:
    image, candidates = cells(tmp_path / "i", ["a"])
    with pytest.raises(CarverError, match="could not be started"):
        list(judge_all(image, candidates, ["probe"], workers=1, loader="tests.carver.probe_formats:broken_loader"))


def test_unread_ranges_reach_the_workers(tmp_path: Path) -> None:
    image, candidates = cells(tmp_path / "i", ["a", "b", "c"])
    image = RawImage(image.path, unread=ExtentSet((span(20, 22),)))
    (pairs,) = judge_all(image, candidates, ["probe"], workers=1, loader=LOADER)
    assert [verdict.grade for _, verdict in pairs] == [Grade.CONSISTENT, Grade.DAMAGED, Grade.CONSISTENT]


PARENT = """
import sys
from pathlib import Path
from tests.carver.test_workers import LOADER, cells
from carver.workers import judge_all
image, candidates = cells(Path(sys.argv[1]), ["state"] * 64 + ["hang"])
for batch in judge_all(image, candidates, ["probe"], workers=1, loader=LOADER):
    print(batch[0][1].facts["pid"], flush=True)
    if sys.argv[2] == "leave":
        break
"""


@pytest.fixture
def parent(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "i"), request.param],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    yield process
    process.kill()
    process.communicate()


def gone(pid: int) -> bool:
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the parent-death signal is Linux's")
@pytest.mark.parametrize("parent", ["stay"], indirect=True)
def test_a_busy_worker_ends_with_a_killed_parent(parent: subprocess.Popen[str]) -> None:
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    time.sleep(0.3)  # it takes up the one that hangs
    parent.kill()
    assert gone(worker)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("parent", ["leave"], indirect=True)
def test_a_parent_that_leaves_does_not_wait_for_a_busy_worker(parent: subprocess.Popen[str]) -> None:
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    assert parent.wait(timeout=60) == 0
    assert gone(worker)


def test_real_formats_judge_the_same_without_privileges_and_load_nothing_after_them(tmp_path: Path) -> None:
    """Run as root from a home that only root may read, anything loaded late would be an error."""
    samples = [
        (name, content)
        for name in signatures.formats()
        for sample in importlib.import_module(f"fixtures.formats.{name}").samples(3)
        for content in (sample.content, sample.content[: len(sample.content) // 2])
    ]
    random.Random(5).shuffle(samples)
    deed = b"state".ljust(CELL_BYTES, b"\0")
    samples = [("probe", deed), *samples, ("probe", deed)]
    path, offset, candidates = tmp_path / "i", 0, []
    with path.open("wb") as file:
        for name, content in samples:
            file.write(content)
            layout = (span(offset, offset + len(content)),)
            candidates.append(Candidate(format=name, layout=layout, hits=()))
            offset += len(content)
    names = [*signatures.formats(), "probe"]
    loader = "tests.carver.probe_formats:watched_formats"
    with RawImage(path) as image:
        verdicts = [v for batch in judge_all(image, candidates, names, workers=1, loader=loader) for _, v in batch]
        for candidate, verdict in zip(candidates[1:-1], verdicts[1:-1], strict=True):
            assert verdict.grade is judge(image, candidate, signatures.formats()).grade, verdict.findings
    late = set(verdicts[-1].facts["modules"]) - set(verdicts[0].facts["modules"])  # type: ignore[call-overload]
    assert late == set()


def test_every_codec_of_a_validator_is_there_before_the_program_s_folders_are_out_of_reach() -> None:
    program = """
import builtins, sys
from carver.workers import LOADER, _load_formats
_load_formats(LOADER, [])
builtins.__import__ = None  # what judging would import now is out of reach
from_zip = b"\\x81.pt".decode("cp437")
from_pickle = b"\\\\u00fc".decode("raw-unicode-escape")
sys.stdout.write(ascii(from_zip + from_pickle))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == ascii("ü.ptü"), done.stderr[-300:]
