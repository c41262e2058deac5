"""What `carver image` keeps beside the image: record, hashes, verification; and what it changes only when asked."""

from __future__ import annotations

import hashlib
import json

import pytest

from imaging.acquisition_record import load
from tests.command import carver, good


def image(drive, folder, *words):
    return ("image", "--json", *words, "-H", drive / "damage.map", drive / "drive.img", folder / "o.img")


def record_of(folder):
    record = load(folder / "o.img.acquisition.json")
    assert record is not None
    return record


def test_an_image_is_hashed_and_the_record_says_how_it_came_about(demo_drive, tmp_path):
    done = good(
        *image(demo_drive, tmp_path, "--hash", "SHA-256,md5", "-r1", "--examiner", "Ada Ö", "--case-number", "K-17")
    )
    told = json.loads(done.out)
    content = (tmp_path / "o.img").read_bytes()
    wanted = {name: hashlib.new(name, content).hexdigest() for name in ("sha256", "md5")}
    assert told["digests"] == wanted
    assert f"SHA256 of {tmp_path / 'o.img'}: {wanted['sha256']}" in done.err
    record = record_of(tmp_path)
    assert told["acquisition"] == str(tmp_path / "o.img.acquisition.json")
    assert (record.case["examiner"], record.case["case"]) == ("Ada Ö", "K-17")
    assert record.result is not None and record.result.digests == wanted
    (session,) = record.sessions
    assert session.outcome == "finished" and session.retry_passes == 1
    assert list(session.command[:2]) == ["carver", "image"] and "Ada Ö" in session.command
    good(*image(demo_drive, tmp_path))
    assert len(record_of(tmp_path).sessions) == 2


def test_an_image_need_not_be_hashed(demo_drive, tmp_path):
    done = good(*image(demo_drive, tmp_path, "--no-hash"))
    assert json.loads(done.out)["digests"] == {} and "SHA256" not in done.err
    assert not (tmp_path / "o.img.hashes").exists()


def test_an_image_is_verified_by_reading_it_again(demo_drive, tmp_path):
    done = good(*image(demo_drive, tmp_path, "--verify"))
    assert json.loads(done.out)["verified"] is True and "is as it was hashed" in done.err
    with (tmp_path / "o.img").open("r+b") as file:
        file.seek(1 << 20)
        byte = file.read(1)
        file.seek(1 << 20)
        file.write(bytes([byte[0] ^ 1]))
    changed = carver(*image(demo_drive, tmp_path, "--verify"))
    assert changed.code == 10, changed.err
    assert "warning: read again" in changed.err
    assert json.loads(changed.out)["verified"] is False
    assert [each["clean"] for each in record_of(tmp_path).verifications] == [True, False]


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["--verify", "--no-hash"], 2, "leave one of them out"),
        (["--hash", "crc32"], 2, "those are sha256, md5"),
        (["--max-temperature", "5"], 2, "20 to 100"),
        (["--max-temperature", "50"], 3, "does not tell its temperature"),
        (["--on-trouble", "switch 'off"], 2, "cannot be read"),
        (["--scterc", "5000"], 2, "error recovery time"),
        (["--scterc", "a,b"], 2, "no whole number from 0"),
        (["--command-timeout", "0"], 2, "command timeout"),
    ],
)
def test_wishes_that_cannot_be_are_refused(words, code, reason, demo_drive, tmp_path):
    refused = carver(*image(demo_drive, tmp_path, *words))
    assert refused.code == code, refused.err
    assert reason in refused.complaint
    assert not (tmp_path / "o.img").exists()


def test_an_interrupted_run_is_on_record_and_hashes_nothing_whole(demo_drive, tmp_path):
    ended = carver(*image(demo_drive, tmp_path, "-X2"))
    assert ended.code == 11
    assert json.loads(ended.out)["digests"] == {}
    (session,) = record_of(tmp_path).sessions
    assert session.outcome != "finished" and session.ended is not None
