"""Each command by itself: image, scan, carve, report, score; what it prints, writes, and leaves alone."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fixtures.formats import numpy_array
from tests.command import COMMAND, carver, good, need_program, need_root
from tests.report_schema import load_checked


def listing(*folders: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of everything below some folders."""
    found = (path for folder in folders for path in folder.rglob("*"))
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in found}


def json_lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_command_also_runs_as_a_module(small_image):
    shown = subprocess.run([sys.executable, "-m", "carver", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("carver ")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([c, "--help"] for c in ("rescue", "image", "scan"))]
)
def test_help_imports_nothing_heavy(arguments):
    heavy = ("numpy", "numba", "construct", "ahocorasick", "jinja2", "tqdm", "h5py", "torch")
    program = (
        f"import sys\nfrom carver.cli import main\ntry: main({arguments!r})\n"
        f"except SystemExit as end: assert not end.code\nprint([m for m in {heavy!r} if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"


def test_help_documents_the_exit_codes():
    words = good("carve", "--help").out
    for code in ("0 finished", "1 internal", "2 usage", "3 input", "4 output", "10 with --strict", "130 interrupted"):
        assert code in words


def test_image_keeps_its_map_beside_the_image_and_goes_on_without_reading_again(demo_drive, tmp_path):
    command = (
        "image",
        "--json",
        "--test-mode",
        demo_drive / "damage.map",
        demo_drive / "drive.img",
        tmp_path / "out.img",
    )
    first = json.loads(good(*command).out)
    assert first["map"] == str(tmp_path / "out.img.map")
    assert first["finished"] and first["reads"] > 0 and first["read_errors"] > 0
    second = json.loads(good(*command).out)
    assert (second["reads"], second["rescued_bytes"]) == (0, first["rescued_bytes"])


def test_image_takes_another_mapfile(small_image, tmp_path):
    good("image", small_image, tmp_path / "out.img", tmp_path / "other.mapfile")
    assert {path.name for path in tmp_path.iterdir()} >= {"out.img", "other.mapfile"}
    assert not (tmp_path / "out.img.map").exists()
    assert (tmp_path / "out.img").read_bytes() == small_image.read_bytes()


def test_an_image_without_its_map_is_never_overwritten(small_image, tmp_path):
    (tmp_path / "out.img").write_bytes(b"somebody's own")
    refused = carver("image", small_image, tmp_path / "out.img")
    assert refused.code == 4
    assert "not overwritten" in refused.complaint
    assert (tmp_path / "out.img").read_bytes() == b"somebody's own"
    assert [path.name for path in tmp_path.iterdir()] == ["out.img"]


@pytest.mark.parametrize("map_text", ["", "# nothing but a comment\n"])
def test_an_image_whose_map_tells_nothing_is_never_overwritten(map_text, small_image, tmp_path):
    (tmp_path / "out.img").write_bytes(b"somebody's own")
    (tmp_path / "out.img.map").write_text(map_text)
    refused = carver("image", small_image, tmp_path / "out.img")
    assert refused.code == 4
    assert "is empty" in refused.complaint and "not overwritten" in refused.complaint
    assert (tmp_path / "out.img").read_bytes() == b"somebody's own"


def test_a_map_that_tells_nothing_is_refused_for_carving(small_image, tmp_path):
    (tmp_path / "empty.map").write_text("# nothing but a comment\n")
    refused = carver("carve", small_image, tmp_path / "empty.map", "--out", tmp_path / "CASE")
    assert refused.code == 3
    assert "is empty" in refused.complaint and "name the right map" in refused.complaint


def test_another_drive_of_the_same_size_is_not_mixed_into_an_image(small_image, tmp_path):
    other = tmp_path / "other.img"
    other.write_bytes(bytes(reversed(small_image.read_bytes())))
    image = tmp_path / "out.img"
    good("image", "-s", "64Ki", small_image, image)
    refused = carver("image", other, image)
    assert refused.code == 3
    assert "another drive" in refused.complaint
    good("image", small_image, image)
    assert image.read_bytes() == small_image.read_bytes()


@pytest.mark.parametrize("harm", ["removed", "overwritten"])
def test_a_recovered_file_that_is_gone_is_written_again_by_the_same_command(harm, small_image, tmp_path):
    command = ("rescue", small_image, tmp_path / "CASE")
    good(*command)
    report = (tmp_path / "CASE" / "report.json").read_text()
    path = tmp_path / "CASE" / json.loads(report)["files"][0]["path"]
    content = path.read_bytes()
    if harm == "removed":
        path.unlink()
    else:
        path.write_bytes(b"junk")
    good(*command)
    files = json.loads((tmp_path / "CASE" / "report.json").read_text())["files"]
    listed = {tmp_path / "CASE" / file["path"] for file in files}
    assert content in [file.read_bytes() for file in listed]
    assert set((tmp_path / "CASE" / "files").iterdir()) <= listed


def test_retry_passes_and_ranges_are_ddrescues(demo_drive, tmp_path):
    head = ("image", "--json", "--test-mode", demo_drive / "damage.map", demo_drive / "drive.img")
    part = json.loads(good(*head, "-i", "1Mi", "-s", "2Mi", tmp_path / "part.img").out)
    assert part["rescued_bytes"] == 2 << 20
    plain = json.loads(good(*head, "-n", "-N", tmp_path / "plain.img").out)
    assert plain["bad_bytes"] == 0 < plain["non_trimmed_bytes"]
    retried = json.loads(good(*head, "-r", "2", tmp_path / "plain.img").out)
    assert retried["bad_bytes"] > 0 == retried["non_trimmed_bytes"]


def test_scan_tells_a_json_line_a_candidate_with_the_start_of_the_file(small_image):
    lines = json_lines(good("scan", "--json", small_image).out)
    truth = json.loads((small_image.parent / "truth.json").read_text())["files"]
    found = {(line["offset_bytes"], line["format"]) for line in lines}
    assert found >= {(file["layout"][0][0], file["format"]) for file in truth}


def test_scan_without_a_case_keeps_nothing_anywhere(small_image, tmp_path):
    places = [tmp_path / name for name in ("cwd", "tmp", "home")]
    for place in places:
        place.mkdir()
    good("scan", small_image)  # compiled code may be cached beside the program
    before = listing(*places, small_image.parent)
    env = {"TMPDIR": str(places[1]), "HOME": str(places[2]), "XDG_CACHE_HOME": str(places[2])}
    outcome = good("scan", small_image, cwd=places[0], env=env)
    assert "places where a file may begin" in outcome.err
    assert listing(*places, small_image.parent) == before


def test_one_place_is_told_as_one(tmp_path):
    image = tmp_path / "one drive.img"
    image.write_bytes(bytes(4096) + next(numpy_array.samples(5)).content + bytes(1 << 16))
    said = good("scan", image).err
    assert "\n1 place where a file may begin; " in f"\n{said}"
    assert f"`carver carve '{image}' --out DIR` checks and writes it." in said
    kept = good("scan", image, "--case", tmp_path / "a case").err
    assert f"`carver carve '{image}' --out '{tmp_path / 'a case'}'` checks and writes it." in kept


def test_carve_goes_on_from_a_scan_that_kept_its_hits(small_image, tmp_path):
    case = tmp_path / "CASE"
    scanned = json_lines(good("scan", "--json", "--case", case, small_image).out)
    assert {path.name for path in case.iterdir()} >= {"scan.jsonl", "hits.bin", "case.json"}
    before = listing(case)
    again = json_lines(good("scan", "--json", "--case", case, small_image).out)
    assert again == scanned == json_lines(good("scan", "--json", small_image).out)
    good("carve", small_image, "--out", case)
    after = listing(case)
    for name in ("scan.jsonl", "hits.bin"):
        assert after[str(case / name)] == before[str(case / name)]
    assert load_checked(case)["files"]


def test_scan_ends_quietly_when_its_reader_has_enough(small_image):
    with subprocess.Popen(
        [*COMMAND, "scan", "--json", small_image], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as scan:
        scan.stdout.readline()
        scan.stdout.close()
        told = scan.stderr.read()
        assert scan.wait(60) in (0, 141)  # 0 when all was written before the reader left
    assert "Traceback" not in told
    assert "BrokenPipe" not in told


def test_no_progress_bars_where_stderr_is_no_terminal(small_image, tmp_path):
    assert "\r" not in good("carve", small_image, "--out", tmp_path / "CASE").err


@pytest.mark.parametrize("option", ["-v", "-q", "--json"])
def test_an_option_before_the_command_is_told_where_it_goes(option, small_image):
    refused = carver(option, "scan", small_image)
    assert refused.code == 2
    assert f"options go behind the command: `carver COMMAND {option} …`" in refused.complaint


def test_a_map_without_an_operation_is_told_how_to_show_it(tmp_path):
    refused = carver("map", tmp_path / "a.map")
    assert refused.code == 2
    assert "`carver map -t MAPFILE` shows it" in refused.complaint


def test_a_dry_run_needs_no_case_folder_and_leaves_nothing_behind(small_image, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    dry = good("carve", "--dry-run", small_image)
    assert "`--out DIR` in place of --dry-run writes them" in dry.err
    assert "none was written" in dry.err and "may then be DAMAGED" in dry.err
    assert list(tmp_path.glob("carver-*")) == []


def test_carving_without_a_folder_is_a_usage_error_that_names_the_option(small_image):
    refused = carver("carve", small_image)
    assert refused.code == 2
    assert "needs `--out DIR`" in refused.complaint


def test_a_dry_run_lists_files_and_space_and_writes_none(small_image, tmp_path):
    dry = good("carve", "--dry-run", "--json", small_image, "--out", tmp_path / "CASE")
    truth = json.loads((small_image.parent / "truth.json").read_text())["files"]
    listed = {(line["offset_bytes"], line["size_bytes"]) for line in json_lines(dry.out)}
    assert listed == {tuple(file["layout"][0]) for file in truth}
    assert f"{len(truth)} files" in dry.err and "none was written" in dry.err
    kept = {path.name for path in (tmp_path / "CASE").iterdir()}
    assert not kept & {"files", "damaged", "truncated", "report.json", "report.html", "files.jsonl"}
    before = (tmp_path / "CASE" / "verdicts.jsonl").read_bytes()
    good("carve", small_image, "--out", tmp_path / "CASE")
    assert (tmp_path / "CASE" / "verdicts.jsonl").read_bytes() == before
    assert len(load_checked(tmp_path / "CASE")["files"]) == len(truth)


def test_formats_and_ranges_and_sizes_choose_what_is_carved(small_image, tmp_path):
    truth = json.loads((small_image.parent / "truth.json").read_text())["files"]

    def listed(name: str, *options: object) -> set[int]:
        dry = good("carve", "--dry-run", "--json", *options, small_image, "--out", tmp_path / name)
        return {line["offset_bytes"] for line in json_lines(dry.out)}

    starts = {file["layout"][0][0]: file for file in truth}
    middle = sorted(starts)[len(starts) // 2]
    assert listed("a", "--formats", "onnx") == {at for at, file in starts.items() if file["format"] == "onnx"}
    assert listed("b", "--range", f"{middle}-") == {at for at in starts if at >= middle}
    assert listed("c", "--range", f"{middle:#x}+512") == {middle}
    assert listed("d", "--min-size", "10000") == {at for at, file in starts.items() if file["size_bytes"] >= 10_000}
    assert listed("e", "--threads", "1") == set(starts)


def test_md5_stands_beside_sha256_for_labs_that_ask(small_image, tmp_path):
    good("carve", "--md5", small_image, "--out", tmp_path / "CASE")
    for file in load_checked(tmp_path / "CASE")["files"]:
        assert file["md5"] == hashlib.md5((tmp_path / "CASE" / file["path"]).read_bytes()).hexdigest()


def test_the_examiner_reaches_both_reports_by_option_and_by_case_toml(small_image, tmp_path):
    case = tmp_path / "CASE"
    names = ("--case-number", "K-17", "--evidence", "drive 3", "--examiner", "Ada Ö", "--notes", "wet\nand cold")
    good("carve", small_image, "--out", case, "--organisation", "Lab & <Sons>", *names)
    head = load_checked(case)["case"]
    assert (head["case"], head["evidence"], head["examiner"]) == ("K-17", "drive 3", "Ada Ö")
    assert (head["organisation"], head["notes"]) == ("Lab & <Sons>", "wet\nand cold")
    page = (case / "report.html").read_text()
    assert "Ada Ö" in page and "<Sons>" not in page
    files = {name: mark for name, mark in listing(case).items() if "/files/" in name}
    text = (case / "case.toml").read_text().replace("Ada Ö", "Grace H.")
    (case / "case.toml").write_text(text)
    good("report", case)
    assert load_checked(case)["case"]["examiner"] == "Grace H."
    assert "Grace H." in (case / "report.html").read_text()
    good("report", case, "--examiner", "Emmy N.")
    assert load_checked(case)["case"]["examiner"] == "Emmy N."
    assert {name: mark for name, mark in listing(case).items() if "/files/" in name} == files


def test_score_holds_a_case_against_its_bars(demo_drive, demo_case, tmp_path):
    head = ("score", demo_case, "--truth", demo_drive / "truth.json")
    assert carver(*head, "--min-recall", "0.8", "--min-precision", "1").code == 0
    short = carver(*head, "--min-recall", "1", "--junit", tmp_path / "junit.xml")
    assert short.code == 10
    assert "safetensors: recall 0.8333 is below 1" in short.complaint
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert root.tag == "testsuites"
    failed = {case.get("classname") for case in root.iter("testcase") if case.find("failure") is not None}
    assert failed == {"carver.score.safetensors", "carver.score.all"}


def test_ddrescues_habit_is_answered_with_the_right_command(small_image, tmp_path):
    answered = carver("rescue", small_image, tmp_path / "my image.raw", tmp_path / "map")
    assert answered.code == 2
    assert f"`carver image {small_image} '{tmp_path / 'my image.raw'}' {tmp_path / 'map'}`" in answered.complaint
    assert list(tmp_path.iterdir()) == []


def test_a_second_command_in_the_same_case_is_refused(small_image, tmp_path):
    case = tmp_path / "CASE"
    good("scan", "--case", case, small_image)
    with (case / ".lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = carver("carve", small_image, "--out", case)
    assert refused.code == 3
    assert "another carver is at work" in refused.complaint


@contextmanager
def endless_image(
    drive: Path, folder: Path, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[list[str], subprocess.Popen]]:
    """Run an `image` whose retry passes never end; give it when its map is there, and end it in the end."""
    command = ["image", "-r", "-1", "--test-mode", drive / "damage.map", drive / "drive.img", folder / "o.img"]
    arguments = [str(part) for part in command]
    with subprocess.Popen([*prefix, *COMMAND, *arguments], stderr=subprocess.PIPE, text=True) as child:
        until = time.monotonic() + 60
        while not (folder / "o.img.map").exists():
            assert child.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        try:
            yield arguments, child
        finally:
            child.kill()


def test_a_second_writer_of_an_image_is_refused(demo_drive, tmp_path):
    with endless_image(demo_drive, tmp_path) as (arguments, first):
        refused = carver(*arguments)
        assert first.poll() is None
        first.send_signal(signal.SIGTERM)
        told = first.communicate(timeout=60)[1]
        assert first.returncode == 130
    assert refused.code in (3, 4), refused.err
    assert "another" in refused.complaint
    assert "same command goes on" in told


def test_a_run_under_nohup_outlives_its_terminal(demo_drive, tmp_path):
    need_program("nohup")
    with endless_image(demo_drive, tmp_path, ("nohup",)) as (_, child):
        child.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(2)
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 130


def test_an_error_of_our_own_is_one_line_and_its_traceback_only_comes_when_asked_for(small_image, tmp_path):
    program = (
        "import sys\nfrom carver import preflight\nfrom carver.cli import main\n"
        "def broken(*a, **k): raise RuntimeError('odd \\x1b[2J')\npreflight.examine = broken\nsys.exit(main())"
    )
    command = [sys.executable, "-c", program, "scan", str(small_image)]
    plain = subprocess.run(command, capture_output=True, text=True)
    assert plain.returncode == 1
    assert len(plain.stderr.splitlines()) == 1
    assert "carver's own" in plain.stderr and "report" in plain.stderr and "\x1b" not in plain.stderr
    loud = subprocess.run([*command, "--verbose"], capture_output=True, text=True)
    assert loud.returncode == 1
    assert "Traceback" in loud.stderr


@pytest.mark.root
def test_outputs_of_a_run_through_sudo_belong_to_the_user_who_called(small_image, demo_drive, tmp_path):
    need_root()
    env = {"SUDO_UID": "1234", "SUDO_GID": "1235", "SUDO_USER": "somebody"}
    tmp_path.chmod(0o755)
    good("carve", small_image, "--out", tmp_path / "new" / "CASE", env=env)
    demo_command = (
        "rescue",
        "--test-mode",
        demo_drive / "damage.map",
        demo_drive / "drive.img",
        tmp_path / "deep" / "C",
    )
    good(*demo_command, env=env)
    good("image", small_image, tmp_path / "images" / "out.img", env=env)
    truth = ("--truth", small_image.parent / "truth.json")
    good("score", tmp_path / "new" / "CASE", *truth, "--junit", tmp_path / "new" / "junit.xml", env=env)
    owners = {
        str(path.relative_to(tmp_path)): (path.lstat().st_uid, path.lstat().st_gid) for path in tmp_path.rglob("*")
    }
    assert {name for name, owner in owners.items() if owner != (1234, 1235)} == set()


def test_a_case_can_be_moved_and_reported_again(small_image, tmp_path):
    good("carve", small_image, "--out", tmp_path / "CASE")
    shutil.move(tmp_path / "CASE", tmp_path / "elsewhere")
    good("report", tmp_path / "elsewhere")
    assert load_checked(tmp_path / "elsewhere")["files"]
