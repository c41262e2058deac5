"""Bad input: one clear line that says what to do, the right exit code, nothing lost, no traceback."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import COMMAND, Outcome, carver, good, need_root, run


def refused(outcome: Outcome, code: int, *words: str) -> None:
    assert outcome.code == code, outcome.err
    for word in words:
        assert word in outcome.complaint


@pytest.fixture
def case(tmp_path: Path) -> Path:
    return tmp_path / "CASE"


def each_command(source: Path, folder: Path) -> list[tuple[object, ...]]:
    return [
        ("rescue", source, folder / "CASE"),
        ("image", source, folder / "out.img"),
        ("scan", source),
        ("carve", source, "--out", folder / "CASE"),
    ]


def all_refuse(source: Path, folder: Path, code: int, *words: str) -> None:
    for command in each_command(source, folder):
        refused(carver(*command), code, *words)
    assert not (folder / "CASE").exists()
    assert not (folder / "out.img").exists()


def test_no_such_device(tmp_path):
    all_refuse(Path("/dev/no-such-drive"), tmp_path, 3, "does not exist", "lsblk")


def test_an_empty_source(tmp_path):
    (tmp_path / "empty.img").touch()
    all_refuse(tmp_path / "empty.img", tmp_path, 3, "is empty", "check the path")


def test_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    all_refuse(tmp_path / "folder", tmp_path, 3, "is a directory", "raw image file or a block device")


def test_a_sparse_bundle_is_told_from_a_folder(tmp_path):
    (tmp_path / "backup.sparsebundle" / "bands").mkdir(parents=True)
    all_refuse(tmp_path / "backup.sparsebundle", tmp_path, 3, "sparse bundle", "hdiutil")


def test_the_first_of_several_pieces(small_image, tmp_path):
    for number in (1, 2):
        shutil.copy(small_image, tmp_path / f"drive.{number:03}")
    all_refuse(tmp_path / "drive.001", tmp_path, 3, "first of several pieces", "cat ")


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    all_refuse(tmp_path / "pipe", tmp_path, 3, "is a pipe", "to a file first")


def test_something_without_offsets(tmp_path):
    all_refuse(Path("/dev/null"), tmp_path, 3, "neither a file nor a block device")


ENCODED = {
    "E01": (b"EVF\x09\x0d\x0a\xff\x00\x01\x01\x00\x00\x00" + bytes(4083), "ewfexport"),
    "qcow2": (b"QFI\xfb\x00\x00\x00\x03" + bytes(8 << 10), "qemu-img"),
    "vmdk": (b"KDMV\x01\x00\x00\x00" + bytes(8 << 10), "qemu-img"),
    "dmg": (bytes(8192) + b"koly\x00\x00\x00\x04\x00\x00\x02\x00" + bytes(500), "hdiutil"),
    "gz": (gzip.compress(bytes(1 << 20)), "gunzip"),
}


@pytest.mark.parametrize("suffix", ENCODED)
def test_what_is_not_raw_bytes_is_refused_with_what_to_do(suffix, tmp_path):
    content, tool = ENCODED[suffix]
    (tmp_path / f"drive.{suffix}").write_bytes(content)
    all_refuse(tmp_path / f"drive.{suffix}", tmp_path, 3, tool)


def as_nobody(*arguments: object) -> Outcome:
    """Run the command as a user without rights; everything is imported before, in case only root may read it."""
    need_root()
    program = (
        "import os, sys\nimport carver.kernels, signatures.kernels\n"
        "import carver.cli.carve, carver.cli.scan, carver.cli.rescue, carver.cli.report, carver.cli.map\n"
        "import carver.cli.score, encodings.utf_8_sig\n"
        "from carver.cli import main\ncarver.cli.carve.signatures.formats()\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\nsys.exit(main())"
    )
    return run([sys.executable, "-c", program, *map(str, arguments)])


@pytest.mark.root
def test_no_permission_to_read(small_image, tmp_path):
    shutil.copy(small_image, tmp_path / "secret.img")
    (tmp_path / "secret.img").chmod(0o600)
    _open_up(tmp_path)
    refused(as_nobody("scan", tmp_path / "secret.img"), 3, "no permission to read", "sudo")


@pytest.mark.root
def test_an_image_in_a_folder_that_may_not_be_looked_into(small_image, tmp_path):
    (tmp_path / "theirs").mkdir()
    shutil.copy(small_image, tmp_path / "theirs" / "small.img")
    _open_up(tmp_path)
    (tmp_path / "theirs").chmod(0o700)
    for command in (("scan",), ("carve", "--dry-run"), ("map", "-t")):
        refused(as_nobody(*command, tmp_path / "theirs" / "small.img"), 3)
    refused(as_nobody("rescue", tmp_path / "theirs" / "small.img", tmp_path / "CASE"), 3, "no permission to read")
    refused(as_nobody("report", tmp_path / "theirs" / "CASE"), 3, "no permission to look at", "sudo")
    refused(as_nobody("scan", small_image, "--case", tmp_path / "theirs" / "CASE"), 3, "no permission")


@pytest.mark.root
def test_a_destination_that_cannot_be_written(small_image, tmp_path):
    shutil.copy(small_image, tmp_path / "small.img")
    _open_up(tmp_path)
    (tmp_path / "theirs").mkdir(mode=0o755)
    command = ("carve", tmp_path / "small.img", "--out", tmp_path / "theirs" / "CASE")
    refused(as_nobody(*command), 4, "no permission to write", "another folder")
    assert list((tmp_path / "theirs").iterdir()) == []


@pytest.mark.root
def test_a_score_that_cannot_be_written_is_an_output_that_cannot(demo_case, demo_drive, tmp_path):
    (tmp_path / "report.json").write_bytes((demo_case / "report.json").read_bytes())
    (tmp_path / "truth.json").write_bytes((demo_drive / "truth.json").read_bytes())
    for name, mode in (("theirs", 0o755), ("closed", 0o700)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    _open_up(tmp_path)
    command = ("score", tmp_path / "report.json", "--truth", tmp_path / "truth.json", "--junit")
    for name in ("theirs", "closed"):
        words = f"cannot write {tmp_path / name / 'junit.xml'}: Permission denied; mend that, or name another place"
        refused(as_nobody(*command, tmp_path / name / "junit.xml"), 4, words)
        assert list((tmp_path / name).iterdir()) == []
    refused(carver(*command, tmp_path / "missing" / "junit.xml"), 4, "No such file or directory; mend that")
    refused(carver(*command, tmp_path / "truth.json" / "junit.xml"), 4, "Not a directory; mend that")


def _open_up(folder: Path) -> None:
    for path in (folder, *folder.parents):
        if path == Path("/tmp") or path == Path("/"):
            break
        path.chmod(path.stat().st_mode | 0o055)


def test_a_destination_under_a_file(small_image, tmp_path):
    (tmp_path / "file").write_text("mine")
    refused(carver("carve", small_image, "--out", tmp_path / "file" / "CASE"), 4, "file")
    refused(carver("carve", small_image, "--out", tmp_path / "file"), 4, "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_holds_something_else(small_image, case):
    case.mkdir()
    (case / "thesis.tex").write_text("mine")
    refused(carver("carve", small_image, "--out", case), 4, "thesis.tex", "name a new folder")
    assert (case / "thesis.tex").read_text() == "mine"
    assert {path.name for path in case.iterdir()} <= {"thesis.tex", ".lock"}


def test_a_folder_that_holds_the_case_of_another_source(small_image, case, tmp_path):
    good("scan", "--case", case, small_image)
    other = tmp_path / "other.img"
    other.write_bytes(bytes(512) + small_image.read_bytes()[512:])
    before = {path.name: path.read_bytes() for path in case.iterdir()}
    refused(carver("carve", other, "--out", case), 3, "case of another source", str(small_image), "another folder")
    assert {path.name: path.read_bytes() for path in case.iterdir()} == before


def test_a_case_where_nothing_was_carved(small_image, case, tmp_path):
    good("scan", "--case", case, small_image)
    refused(carver("report", case), 3, "nothing was carved", "carver carve")
    refused(carver("report", tmp_path / "nowhere"), 3, "nowhere does not exist; give the folder that")
    refused(carver("report", tmp_path), 3, "holds no case; give the folder that")
    refused(carver("report", small_image), 3, "small.img is a file; give the folder that")


def test_an_image_cut_short_under_its_map(small_image, tmp_path):
    image = tmp_path / "drive.img"
    shutil.copy(small_image, image)
    good("image", small_image, tmp_path / "whole.img")
    shutil.copy(tmp_path / "whole.img.map", tmp_path / "drive.img.map")
    os.truncate(image, image.stat().st_size - 4096)
    for command in (
        ("scan", image),
        ("rescue", image, tmp_path / "CASE"),
        ("carve", image, "--out", tmp_path / "CASE"),
    ):
        refused(carver(*command), 3, "cut short", "copy the image again")
    os.truncate(tmp_path / "whole.img", 4096)
    refused(carver("image", small_image, tmp_path / "whole.img"), 3, "whole.img")
    assert not (tmp_path / "CASE").exists()


def test_a_mapfile_of_another_size(small_image, tmp_path):
    size = small_image.stat().st_size
    smaller, larger = tmp_path / "smaller.map", tmp_path / "larger.map"
    smaller.write_text(f"0x0 + 1\n0x0 {size // 2:#x} +\n")
    larger.write_text(f"0x0 + 1\n0x0 {size * 2:#x} -\n")
    refused(carver("scan", small_image, smaller), 3, "another size", "name the map")
    for which in (smaller, larger):
        before = which.read_bytes()
        shutil.copy(small_image, tmp_path / "out.img")
        refused(
            carver("image", small_image, tmp_path / "out.img", which), 3, f"the drive has {size:#x}", "give the map"
        )
        assert which.read_bytes() == before


@pytest.mark.parametrize("line", ["0x400 0x200 !", "0x300 0x200 +", "0x400 zzz +", "0x400"])
def test_a_mapfile_with_errors_is_refused_by_line(line, small_image, tmp_path):
    broken = tmp_path / "broken.map"
    broken.write_text(f"# made by hand\n0x0 + 1\n0x0 0x400 +\n{line}\n")
    before = broken.read_bytes()
    refused(carver("scan", small_image, broken), 3, "broken.map", "line 4")
    shutil.copy(small_image, tmp_path / "out.img")
    refused(carver("image", small_image, tmp_path / "out.img", broken), 3, "line 4")
    assert broken.read_bytes() == before


def test_a_mapfile_that_is_not_there(small_image, tmp_path):
    refused(carver("scan", small_image, tmp_path / "no.map"), 3, "no.map")
    refused(carver("rescue", "--test-mode", tmp_path / "no.map", small_image, tmp_path / "CASE"), 3, "no.map")


WRONG = {
    "unknown format": (["--formats", "onnx,pdf"], "no format pdf; there are"),
    "no format": (["--formats", ","], "there are"),
    "a format that only its model leads to": (["--formats", "onnx_external_data"], "choose onnx,onnx_external_data"),
    "bad size": (["--min-size", "12parsecs"], "is no size; write e.g."),
    "bad range": (["--range", "2Gi-1Gi"], "empty range"),
    "no range": (["--range", "7"], "is no range; write START-END"),
    "no threads": (["--threads", "0"], "a number from 1"),
    "words for threads": (["--threads", "many"], "--threads"),
    "unknown option": (["--sideways"], "--sideways"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_options_are_told_before_anything_is_read(wrong, small_image, demo_drive, case):
    options, words = WRONG[wrong]
    refused(carver("carve", *options, small_image, "--out", case), 2, words)
    imaging = ("rescue", "--test-mode", demo_drive / "damage.map")
    refused(carver(*imaging, *options, demo_drive / "drive.img", case), 2, words)
    assert not case.exists()


def test_wrong_imaging_options(small_image, tmp_path):
    refused(carver("image", "-r", "-2", small_image, tmp_path / "out.img"), 2, "retry passes")
    refused(carver("image", "-i", "100T", small_image, tmp_path / "out.img"), 2, "the source ends at")
    refused(carver("image", small_image, tmp_path / "same", tmp_path / "same"), 4, "image and its map at once")
    refused(carver("image", small_image, small_image), 4, "is the source itself")


def test_no_command_at_all():
    refused(carver(), 2, "say which command", "carver --help")
    refused(carver("recover"), 2, "recover", "rescue")


def test_options_of_reading_a_drive_are_told_to_do_nothing_to_a_file(small_image, case):
    told = good("rescue", "-r", "3", "-s", "1Mi", "--range", "1-512", small_image, case).err
    assert "is a file and read in place: -s, -r are about reading a drive and without effect here" in told


def test_a_range_behind_the_end_is_told_with_the_end(small_image, case):
    refused(carver("carve", small_image, "--range", "1T-2T", "--out", case), 2, "behind the end of", "KiB")


def test_a_scan_that_finds_nothing_in_its_range_says_that_only_this_was_looked_at(small_image):
    nothing = good("scan", small_image, "--range", "1-512")
    assert "No place where a file may begin was found. Only the chosen range and formats were looked at." in nothing.err


def test_a_scan_names_the_command_that_goes_on_with_its_own_choices(small_image):
    found = good("scan", small_image, "--formats", "onnx", "--range", "0x200-")
    assert f"`carver carve {small_image} --formats onnx --range 0x200- --out DIR`" in found.err


def test_nothing_in_a_range_is_no_finding_about_the_drive(small_image, case):
    nothing = good("carve", small_image, "--range", "1-512", "--out", case)
    assert "Only files that begin in the chosen range (0x1+0x1ff) were looked for." in nothing.err
    assert "right drive" not in nothing.err
    assert "that begin in the chosen range (0x1+0x1ff)" in (case / "report.html").read_text()


def test_wrong_truth_and_bars(small_image, demo_case, tmp_path):
    (tmp_path / "truth.json").write_text("{")
    refused(carver("score", demo_case, "--truth", tmp_path / "truth.json"), 3, "truth.json", "no JSON")
    refused(carver("score", demo_case, "--truth", tmp_path / "no.json"), 3, "no.json")
    truth = small_image.parent / "truth.json"
    refused(carver("score", demo_case, "--truth", truth, "--min-recall", "95"), 2, "from 0 to 1")
    refused(carver("score", tmp_path, "--truth", truth), 3, "report.json")
    refused(carver("score", tmp_path / "none", "--truth", truth), 3, "does not exist", "a case folder")


def test_a_broken_case_toml_is_told_before_hours_are_spent(small_image, case):
    good("scan", "--case", case, small_image)
    (case / "case.toml").write_text("examiner = Ada\n")
    refused(carver("carve", small_image, "--out", case), 3, "case.toml", "no valid TOML")
    assert not (case / "files").exists()


def test_hostile_names_on_the_command_line_reach_no_terminal(tmp_path):
    outcome = carver("scan", tmp_path / "evil\x1b[2J\n.img")
    assert outcome.code == 3
    assert "\x1b" not in outcome.err
    assert "⟨U+001B⟩" in outcome.complaint


def test_a_path_that_is_no_utf8_is_a_path_like_any_other(small_image, tmp_path):
    odd = os.fsencode(tmp_path) + b"/caf\xe9.img"
    shutil.copy(os.fsencode(small_image), odd)
    command = [*COMMAND, "carve", odd, "--out", os.fsencode(tmp_path) + b"/case\xe9"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert Path(os.fsdecode(os.fsencode(tmp_path) + b"/case\xe9/report.html")).is_file()
