"""Records on disk: read as they were put there, one by one, however long."""

import os
from array import array

import pytest

from carver import verdict_json
from carver.stagelog import StageLog
from carver.stored import READ_BYTES, Stored, store
from carver.verdict_json import carved_files, carved_to_json, kept_models
from imaging.errors import DestinationFullError
from tests.carver.recoveries import example, example_model

RECORDS = ["", "short", "x" * (READ_BYTES - 3), "x" * (READ_BYTES - 2), "long" * 5 * READ_BYTES, "\udc80\n模型"]


def kept(folder, records=RECORDS):
    return store(records, folder, encode=str, decode=str)


def test_records_are_read_back_in_order_as_often_as_wanted(tmp_path):
    records = kept(tmp_path)
    assert len(records) == len(RECORDS) and list(records) == list(records) == RECORDS
    assert [records[number] for number in range(len(RECORDS))] == RECORDS and records[-1] == RECORDS[-1]
    assert records[1:3] == tuple(RECORDS[1:3]) and records[9:] == ()
    with pytest.raises(IndexError):
        records[len(RECORDS)]


def test_nothing_of_them_has_a_name_and_the_file_goes_with_them(tmp_path):
    records = kept(tmp_path)
    descriptor = records._descriptor
    assert not list(tmp_path.iterdir()) and os.fstat(descriptor).st_size > 0
    del records
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_no_records_are_an_empty_sequence(tmp_path):
    assert list(kept(tmp_path, [])) == [] and not kept(tmp_path, [])


def test_a_full_disk_is_told_as_such(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "full")

    monkeypatch.setattr(os, "dup", full)
    with pytest.raises(DestinationFullError):
        kept(tmp_path)


def test_records_of_a_file_stay_readable_when_another_takes_its_place(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b'1\n[2]\n"last, torn off its line\'s end"')
    records = Stored.in_file(path, array("q", [0, 2, 6]), lambda value: value)
    path.rename(tmp_path / "log.1")
    path.write_bytes(b"another")
    assert list(records) == [1, [2], "last, torn off its line's end"]


@pytest.mark.parametrize("held_bytes", [0, 1 << 20])
def test_recovered_files_and_models_come_back_as_they_were(tmp_path, monkeypatch, held_bytes):
    monkeypatch.setattr(verdict_json, "HELD_BYTES", held_bytes)
    recovery = example()
    files = (*recovery.files[1:], *recovery.side_files)
    with StageLog(tmp_path / "files.jsonl", {}) as log:
        log.append(*map(carved_to_json, files))
        log.finish()
    found, small = carved_files(tmp_path / "files.jsonl")
    assert isinstance(found, tuple) == bool(held_bytes)
    assert tuple(found) == recovery.files[1:] and tuple(small) == recovery.side_files
    models = (example_model(), example_model(family="", companions=(), step=None, same_content=("a", "b")))
    assert tuple(kept_models(tmp_path, models)) == models
