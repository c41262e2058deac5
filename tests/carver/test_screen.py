"""What a carving run says at its end, and what to do next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from carver.cli import screen
from tests.carver.recoveries import MIB, example

CASE = Path("my case")


@pytest.fixture
def told(capsys):
    """Tell of a recovery, and return what was said."""

    def tell(recovery, image=None):
        screen.tell_recovery(recovery, CASE, image)
        return capsys.readouterr().err

    return tell


def with_unread(unread):
    plain = example()
    return replace(plain, source=replace(plain.source, unread=unread))


def test_without_a_map_the_command_that_names_one_is_told(told):
    text = told(with_unread(None))
    assert "If there is one, name it: `carver carve /dev/sdb MAPFILE --out 'my case'`." in text


def test_while_imaging_is_not_finished_that_comes_before_retries(told):
    text = told(example())
    assert "(4.0 MiB not tried, 1.0 MiB not trimmed, 512 bytes not scraped): run the imaging command again" in text
    assert "-r 3" not in text


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


def test_the_image_is_named_as_the_user_names_it_now(told):
    plain = with_unread(None)
    assert "`carver carve moved/disk.img MAPFILE --out 'my case'`" in told(plain, Path("moved/disk.img"))
    assert f"`carver carve {plain.source.locator} MAPFILE --out 'my case'`" in told(plain)


def test_copies_are_told_beside_the_count_of_files(told):
    first = example().files[0]
    assert "1 of them is a copy, byte for byte, of another." in told(
        replace(example(), files=(first, replace(first, path="files/again.pt")))
    )
