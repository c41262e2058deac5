"""The options of imaging: every one that GNU ddrescue has, with its letters, names, suffixes and refusals."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from carver.cli import imaging_options
from carver.cli.arguments import parse
from carver.cli.imaging_arguments import ALWAYS_SO, NOT_TAKEN
from imaging.mapfile import BlockStatus, Mapfile
from tests.command import carver, good, need_program

OPTION = re.compile(r"^  (?:-(\w), |    )--([a-z-]+)(\[?=[^\s]+)?", re.MULTILINE)
WITH_AN_ARGUMENT = {  # option, an argument, where it is kept, and as what
    "min-read-rate": ("1Mi", "min_read_rate", 1 << 20),
    "sector-size": ("2Ki", "sector_size", 2048),
    "cluster-size": ("16", "cluster_size", 16),
    "max-bad-areas": ("+7", "max_bad_areas", (7, True)),
    "max-error-rate": ("64k", "max_error_rate", 64000),
    "fill-mode": ("?-l", "fill_mode", "?-l"),
    "test-mode": ("FILE", "test_mode", "FILE"),
    "input-position": ("1Ms", "input_position", 512_000_000),
    "skip-size": ("64Ki,1Mi", "skip_size", (1 << 16, 1 << 20)),
    "domain-mapfile": ("FILE", "domain_mapfile", "FILE"),
    "output-position": ("0x200", "output_position", 512),
    "data-preview": ("5", "data_preview", 5),
    "retry-passes": ("-1", "retry_passes", -1),
    "size": ("010s", "size", 4096),
    "timeout": ("1.5m", "timeout", 90.0),
    "max-read-errors": ("3", "max_read_errors", 3),
    "max-read-rate": ("1M", "max_read_rate", 1_000_000),
    "cpass": ("1,3-5", "cpass", frozenset({1, 3, 4, 5})),
    "delay-slow": ("1/2m", "delay_slow", 30.0),
    "log-events": ("FILE", "log_events", "FILE"),
    "log-rates": ("FILE", "log_rates", "FILE"),
    "log-reads": ("FILE", "log_reads", "FILE"),
    "max-slow-reads": ("9", "max_slow_reads", 9),
    "pause-on-error": ("2s", "pause_on_error", 2.0),
    "pause-on-pass": ("1h", "pause_on_pass", 3600.0),
}
TELLS_AND_ENDS = {"help", "version"}
TAKES_NONE = {"truncate", "extend-outfile", "command-mode", "mapfile-interval", "same-file"}


def image(*words: str) -> object:
    return parse(["image", *words, "DEVICE", "IMAGE"])


def of_ddrescue() -> list[tuple[str, str]]:
    need_program("ddrescue")
    text = subprocess.run(["ddrescue", "--help"], capture_output=True, text=True, check=True).stdout
    return [(letter, name) for letter, name, _ in OPTION.findall(text)]


def test_every_option_of_ddrescue_is_had_or_answered_with_the_reason(capsys):
    options = of_ddrescue()
    assert len(options) > 50
    not_taken = {name.removeprefix("--"): reason for names, reason in NOT_TAKEN.items() for name in names}
    assert {name for name in not_taken if not name.startswith("-")} == TAKES_NONE
    for letter, name in options:
        for typed in [f"--{name}", *([f"-{letter}"] if letter else [])]:
            if name in TELLS_AND_ENDS:
                with pytest.raises(SystemExit) as ended:
                    image(typed)
                assert ended.value.code == 0 and "carver" in capsys.readouterr().out
            elif name in not_taken:
                with pytest.raises(SystemExit) as ended:
                    image(typed)
                assert ended.value.code == 2
                assert not_taken[name] in capsys.readouterr().err
            elif name in WITH_AN_ARGUMENT:
                argument, kept, value = WITH_AN_ARGUMENT[name]
                glued = f"{typed}={argument}" if typed.startswith("--") else f"{typed}{argument}"
                for words in [[glued], *([] if name == "data-preview" else [[typed, argument]])]:
                    found = getattr(image(*words), kept)
                    assert (str(found) if value == "FILE" else found) == value, words
            else:
                before, after = vars(image()), vars(image(typed))
                assert {key for key in after if after[key] != before[key]} - {"command_line"}, (
                    f"{typed} changes nothing"
                )
                assert str(after["source"]) == "DEVICE", f"{typed} takes no argument"


def test_what_is_always_so_is_accepted_and_said_to_be():
    for names, reason in ALWAYS_SO.items():
        assert reason and all(vars(image(name)) for name in names)


@pytest.mark.parametrize("words", [["-P"], ["--data-preview"], ["-dP"]])
def test_a_preview_without_a_number_has_three_lines_and_leaves_the_device_alone(words):
    options = image(*words)
    assert (options.data_preview, str(options.source)) == (3, "DEVICE")


@pytest.mark.parametrize(("words", "size"), [(["-b4096", "-s4s"], 16384), (["-s4s", "-b4096"], 2048)])
def test_sectors_are_those_of_the_sector_size_typed_before(words, size):
    assert image(*words).size == size


def test_a_size_of_minus_one_is_the_whole_drive():
    assert image("-s", "10M", "-s", "-1").size is None


def test_clusters_are_counted_in_sectors():
    assert imaging_options.rescue_options(image("-c16", "-b4096")).cluster_bytes == 65536
    assert imaging_options.rescue_options(image("-c16")).cluster_bytes == 8192


def test_what_is_typed_reaches_the_rescue():
    flags = ["-nNRuAMyOSWf", "-r3", "-K64Ki,1Mi", "--cpass=2-4"]
    limits = ["-X5", "-e+2", "-E1k", "-T2h", "-Z1M", "--pause-on-pass=1"]
    options = imaging_options.rescue_options(image(*flags, *limits))
    assert (options.initial_skip_bytes, options.max_skip_bytes) == (1 << 16, 1 << 20)
    assert options.copying_passes == {2, 3, 4}
    assert options.no_scrape and options.no_trim and options.reverse and options.unidirectional and options.try_again
    assert options.retrim and options.synchronous and options.sparse and options.compare_before_write and options.force
    limits = options.limits
    assert (limits.max_read_errors, limits.max_bad_areas, limits.count_new_areas) == (5, 2, True)
    assert (limits.max_error_rate_bytes, limits.timeout_seconds, limits.max_read_rate_bytes) == (1000, 7200.0, 1000000)
    assert (limits.pause_on_pass_seconds, limits.reopen_on_error, options.retry_passes) == (1.0, True, 3)


def test_verify_on_error_looks_again_after_every_error():
    assert imaging_options.rescue_options(image("-J")).recheck_errors == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["-K1"], "at least 64Ki"),
        (["-K1Mi,64Ki"], "shorter than the first"),
        (["-K,"], "the first jump"),
        (["--cpass=0-3"], "numbered 1 to 5"),
        (["--cpass=6"], "numbered 1 to 5"),
        (["--cpass=4-2"], "numbered 1 to 5"),
        (["-P33"], "1 to 32"),
        (["-e-1"], "no whole number from 0"),
        (["-T", "1.5x"], "is no time"),
        (["-T", "1/0"], "is no time"),
        (["-s", "08"], "is no size"),
        (["-s", "16E"], "2^63-1"),
        (["--cluster-size=-1"], "no whole number from 0"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_in_one_line(words, reason, capsys):
    with pytest.raises(SystemExit) as ended:
        image(*words)
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert reason in told and len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["-S", "-p"], "leave one of them out"),
        (["-L"], "give one of these"),
        (["-r", "-2"], "-1 for passes without end"),
        (["--read-timeout", "0"], "more than 0"),
        (["-m", "-", "-H", "-"], "only once"),
        (["-Z0"], "read rate"),
        (["--max-slow-reads=3"], "needs --min-read-rate"),
        (["-c0"], "a cluster of 0 bytes"),
        (["-b1000"], "not a multiple"),
        (["-i1G"], "but the source ends"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_made(words, reason, small_image, tmp_path):
    refused = carver("image", *words, small_image, tmp_path / "out.img")
    assert refused.code == 2
    assert reason in refused.complaint
    assert list(tmp_path.iterdir()) == []


def test_a_domain_of_nothing_is_refused(small_image, tmp_path):
    (tmp_path / "domain").write_text(f"0 ?\n0 {small_image.stat().st_size} ?\n")
    refused = carver("image", "-m", tmp_path / "domain", small_image, tmp_path / "out.img")
    assert refused.code == 2 and "nothing to read" in refused.complaint


def test_only_what_the_domain_has_finished_is_read(small_image, tmp_path):
    size = small_image.stat().st_size
    (tmp_path / "domain").write_text("0 ?\n65536 0x10000 +\n0x40000 65536 +\n")  # by hand, with gaps
    good("image", "-L", "-m", tmp_path / "domain", small_image, tmp_path / "out.img")
    finished = Mapfile.load(tmp_path / "out.img.map").extents(BlockStatus.FINISHED)
    assert [(extent.offset_bytes, extent.size_bytes) for extent in finished] == [(65536, 65536), (0x40000, 65536)]
    assert (tmp_path / "out.img").stat().st_size <= size


def test_what_was_not_asked_for_is_left_out_of_the_count(small_image, tmp_path):
    size = small_image.stat().st_size
    done = good("image", "--json", "-i", "64Ki", "-s", "128Ki", small_image, tmp_path / "out.img")
    assert "100.00 % read (128.0 KiB of 128.0 KiB)" in done.err
    assert f"All 128.0 KiB were read into {tmp_path / 'out.img'}. The other " in done.err
    told = json.loads(done.out)
    assert (told["size_bytes"], told["asked"]["size_bytes"], told["asked"]["non_tried_bytes"]) == (size, 128 << 10, 0)


@pytest.mark.parametrize(
    ("words", "limit"),
    [(["-X2"], "-X"), (["-e0"], "-e"), (["-e+0"], "-e"), (["-E1k"], "-E"), (["-T0", "--pause-on-error=0.2"], "-T")],
)
def test_a_limit_ends_with_its_own_exit_code_and_the_same_command_without_it_goes_on(
    words, limit, demo_drive, tmp_path
):
    command = ("image", "--json", "-H", demo_drive / "damage.map", demo_drive / "drive.img", tmp_path / "out.img")
    ended = carver(*command, *words)
    assert ended.code == 11, ended.err
    assert f"({limit})" in ended.err and "without that limit goes on" in ended.err
    told = json.loads(ended.out)
    assert told["finished"] is False and limit in told["limit"]
    assert json.loads(good(*command).out)["finished"] is True


def test_a_whole_road_goes_on_to_carve_what_a_limit_has_left(demo_drive, tmp_path):
    ended = carver("rescue", "-X2", "-H", demo_drive / "damage.map", demo_drive / "drive.img", tmp_path / "CASE")
    assert ended.code == 11, ended.err
    assert json.loads((tmp_path / "CASE" / "report.json").read_text())["files"]


def test_the_json_of_an_image_tells_all_of_the_summary(demo_drive, tmp_path):
    told = json.loads(
        good("image", "--json", "-H", demo_drive / "damage.map", demo_drive / "drive.img", tmp_path / "o").out
    )
    for key in ("seconds", "last_error_bytes", "source_end_bytes", "limit", "bad_areas", "rescued_in_this_run_bytes"):
        assert key in told
    assert told["rescued_bytes"] == told["rescued_in_this_run_bytes"] == told["size_bytes"] - told["bad_bytes"]


def test_quiet_tells_only_how_it_ended(demo_drive, tmp_path):
    done = good("image", "-q", "-H", demo_drive / "damage.map", demo_drive / "drive.img", tmp_path / "o")
    assert done.out == ""
    assert "% read" not in done.err, "a line of the log"
    assert "Not read: 133.5 KiB in 4 bad areas" in done.err


@pytest.mark.parametrize("words", [["-d", "-r3"], ["-dr3", "-n"], ["-P"]])
def test_ddrescues_habit_is_answered_with_the_right_command_and_its_options(words, small_image, tmp_path):
    answered = carver("rescue", *words, small_image, tmp_path / "my image.raw", tmp_path / "map")
    assert answered.code == 2
    typed = f"`carver image {' '.join(words)} {small_image} '{tmp_path / 'my image.raw'}' {tmp_path / 'map'}`"
    assert typed in answered.complaint
    assert list(tmp_path.iterdir()) == []


def test_logs_tell_events_rates_and_reads_and_are_continued(demo_drive, tmp_path):
    logs = [f"--log-{name}={tmp_path / name}" for name in ("events", "rates", "reads")]
    command = ("image", *logs, "-H", demo_drive / "damage.map", demo_drive / "drive.img", tmp_path / "o", "--json")
    carver(*command, "-X2")
    first = {name: (tmp_path / name).read_text() for name in ("events", "rates", "reads")}
    assert "end of run: more than 2 reads failed" in first["events"]
    told = json.loads(good(*command).out)
    events, rates, reads = ((tmp_path / name).read_text() for name in ("events", "rates", "reads"))
    assert events.startswith(first["events"]) and events.endswith("end of run: finished\n")
    assert [word for word in ("copying", "trimming", "scraping") if f"{word} (phase" not in events] == []
    data = [line.split() for line in reads.removeprefix(first["reads"]).splitlines() if not line.startswith("#")]
    assert len(data) == told["reads"]
    assert sum(int(size) != int(got) for _, size, got, _ in data) == told["read_errors"]
    assert all(len(line.split()) == 7 for line in rates.splitlines() if not line.startswith("#"))


def test_a_log_that_cannot_be_written_is_refused_before_anything_is_read(small_image, tmp_path):
    refused = carver("image", "--log-events", tmp_path / "no" / "log", small_image, tmp_path / "out.img")
    assert refused.code == 4 and "cannot write the log" in refused.complaint and "go on without" in refused.complaint
    refused = carver("image", "--log-reads", small_image, small_image, tmp_path / "out.img")
    assert refused.code == 4 and "is the source itself" in refused.complaint
    assert not (tmp_path / "out.img").exists()
