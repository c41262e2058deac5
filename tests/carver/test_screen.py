"""What a carving run says at its end, and what to do next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from carver.cli import screen
from carver.report import wording
from carver.report.summary import summarise
from tests.carver.recoveries import MIB, example

CASE = Path("my case")


@pytest.fixture
def told(capsys):
    """Tell of a recovery, and return what was said."""

    def tell(recovery):
        screen.tell_recovery(recovery, CASE)
        return capsys.readouterr().err

    return tell


def with_unread(unread):
    plain = example()
    return replace(plain, source=replace(plain.source, unread=unread))


def test_of_a_case_carved_without_a_map_the_command_that_names_one_is_told(capsys):
    screen.tell_image(with_unread(None), CASE)
    text = capsys.readouterr().err
    assert "If there is one, name it: `carver carve /dev/sdb MAPFILE --out 'my case'`." in text


def test_what_was_told_before_the_work_is_not_told_again_at_its_end(told):
    assert "Unread sectors unknown" not in told(with_unread(None))


def test_while_imaging_is_not_finished_that_comes_before_retries(told):
    text = told(example())
    assert "(4.0 MiB not tried, 1.0 MiB not trimmed, 512 bytes not scraped): run the imaging command again" in text
    assert "-r 3" not in text


def test_what_the_options_of_imaging_left_out_is_not_called_unfinished(told):
    session = {"command": ["carver", "image", "-s", "1Mi", "/dev/sdb", "a.img"], "options": {"size_bytes": 1 << 20}}
    ended = {**example().run, "acquisition": {"sessions": [{**session, "outcome": "finished"}]}}
    text = told(replace(example(), run=ended))
    assert "A part of the drive was left out (4.0 MiB not tried, " in text
    assert "the imaging command without the options that left it out goes on there" in text
    assert "not finished" not in text
    stopped = {**example().run, "acquisition": {"sessions": [{**session, "outcome": "interrupted"}]}}
    assert "not finished" in told(replace(example(), run=stopped))
    nothing = replace(example(), files=(), models=(), missing=(), side_files=(), run=ended)
    assert "Only a part of the drive was read, as the options of the imaging command asked." in told(nothing)
    (step,) = [one for one in wording.next_steps(nothing, summarise(nothing)) if "was left out by options" in one]
    assert "(`carver image -s 1Mi /dev/sdb a.img`)" in step


def test_when_only_bad_sectors_are_left_those_in_files_are_tried_again(told):
    file = next(file for file in example().files if not file.grade.good and file.layout)
    at = file.layout[0].offset_bytes
    text = told(with_unread(((at, 512, "-"),)))
    assert "512 bytes of these files were never read: the imaging command with `-m 'my case/missing.map' -r 3`" in text
    assert "not finished" not in text
    assert "never read: " not in told(with_unread(((63 * MIB, 512, "-"),)))


def test_one_is_told_as_one(told):
    plain = example()
    text = told(replace(plain, files=plain.files[:1], models=(), missing=()))
    assert "1 model file: 1 proven intact." in text
    assert "1 small file that tells of models was written, too." in text
    assert screen.human(1) == "1 byte"


def test_sizes_are_told_as_in_the_report_and_never_as_more_than_there_is():
    told = [screen.human(size) for size in (0, 1023, 1024, 32 * MIB - 1)]
    assert told == ["0 bytes", "1,023 bytes", "1.0 KiB", "31.9 MiB"]


def test_who_gets_nothing_back_is_told_what_to_look_at(told):
    text = told(replace(example(), files=(), models=(), missing=(), side_files=()))
    assert "No model files were found." in text
    assert "right drive" in text and "TRIM" in text and "encrypted" in text


def test_files_that_share_bytes_are_told_beside_the_count_of_files(told):
    first, other = example().files[0], example().files[3]
    files = (first, replace(other, path="damaged/over.h5", layout=first.layout))
    assert "2 of them share bytes with another one of them" in told(replace(example(), files=files))


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"range": [4096, 2**63 - 1]}, "Only files that begin in the chosen range (0x1000+0x3fff000) were looked for."),
        ({"formats": ["onnx", "gguf"]}, "Only files of the chosen formats (onnx, gguf) were looked for."),
        ({"min_size_bytes": 10240}, "Only files of at least 10.0 KiB were looked for."),
        (
            {"formats": ["onnx"], "range": [512, 1024]},
            "Only files of the chosen formats (onnx) and that begin in the chosen range (0x200+0x200) were looked for.",
        ),
    ],
)
def test_who_gets_nothing_back_by_their_own_choice_is_told_of_that_and_not_of_the_drive(told, chosen, words):
    plain = replace(example(), files=(), models=(), missing=(), side_files=())
    text = told(replace(plain, run={**plain.run, "chosen": chosen}))
    assert words in text and "The same command without that choice looks for all." in text
    assert "right drive" not in text


def test_copies_are_told_beside_the_count_of_files(told):
    first = example().files[0]
    assert "1 of them is a copy, byte for byte, of another." in told(
        replace(example(), files=(first, replace(first, path="files/again.pt")))
    )
