"""What the reading program says before its first read; its reads are tested with its parent, in test_reads."""

import errno
import json
import os
import tempfile
from pathlib import Path

import pytest

from imaging import reader
from imaging.reader import MEMORY_BYTES, serve


def said(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    told: list[dict[str, object]] = []
    monkeypatch.setattr(reader, "_tell", told.append)
    monkeypatch.setattr(reader, "_end_with", lambda parent: None)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    with tempfile.TemporaryFile() as memory:
        memory.truncate(MEMORY_BYTES)
        serve([str(path), str(memory.fileno()), str(os.getppid())])
    return json.loads(json.dumps(told))


def test_what_is_no_device_is_refused_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image"
    path.touch()
    assert said(path, monkeypatch) == [{"refusal": f"{path} is a file, not a block device"}]


def test_a_device_that_does_not_tell_its_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str, memory: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(reader, "DirectDevice", fail)
    (told,) = said(tmp_path, monkeypatch)
    assert "No such device" in str(told["refusal"])


def test_a_child_whose_parent_is_gone_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")  # else the wish to end with the parent would stay with this process
    with pytest.raises(SystemExit):
        reader._end_with(os.getpid())
