"""The stages again, on a checkpoint with its small files: interrupted anywhere, the outcome is the same."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from carver.stagelog import StageLog
from fixtures.formats.git_lfs_pointer import pointer
from fixtures.formats.model_json import LLAMA, written
from fixtures.formats.weights_index import index
from imaging.errors import Interrupted
from tests.carver import test_stages as stages
from tests.carver.laid_out import lay_out, weights

SIDE = ("git_lfs_pointer", "model_json", "weights_index")
CHOICES = replace(stages.CHOICES, formats=tuple(sorted((*stages.CHOICES.formats, *SIDE))))
NAMES = {"m-00001-of-00002.safetensors": ["a"], "m-00002-of-00002.safetensors": ["b"]}
in_process = stages.in_process  # the fixture


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("disk") / "disk.img"
    shards = [weights(tensors, shape=(2, LLAMA["hidden_size"])) for tensors in NAMES.values()]
    lay_out(path, [shards[1], pointer(shards[0]), written(LLAMA), shards[0], index(NAMES, total_bytes=9)])
    return path


def outcome(folder: Path, disk: Path) -> dict[str, object]:
    return stages.carve(folder, disk, choices=CHOICES)


def test_stopped_anywhere(disk: Path, tmp_path: Path, in_process: None) -> None:
    asked = count()
    wanted = stages.carve(tmp_path / "whole", disk, stop=lambda: next(asked) < 0, choices=CHOICES)
    report = wanted["report"]
    assert isinstance(report, dict)
    assert sorted((file["path"], file["grade"]) for file in report["files"]) == [
        ("files/m-00001-of-00002.safetensors", "INTACT"),
        ("files/m-00002-of-00002.safetensors", "CONSISTENT"),
    ]
    there = wanted["there"]
    assert isinstance(there, dict)
    assert {path for path in there if path.startswith("models/")} == {
        f"models/m/{name}" for name in (*NAMES, "m.safetensors.index.json", "config.json")
    }
    for number in range(next(asked)):
        folder, calls = tmp_path / f"stopped-{number}", count()
        with pytest.raises(Interrupted):
            stages.carve(folder, disk, stop=lambda calls=calls, number=number: next(calls) >= number, choices=CHOICES)
        assert outcome(folder, disk) == wanted


def test_killed_at_any_line_of_a_log(
    disk: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = outcome(tmp_path / "whole", disk)
    append = StageLog.append
    for number in count():
        calls, folder = count(), tmp_path / f"killed-{number}"

        def dies(log: StageLog, *entries: dict[str, object], calls: count = calls, number: int = number) -> int:
            for entry in entries:
                if next(calls) == number:
                    raise stages.Killed
                offset_bytes = append(log, entry)
            return offset_bytes

        with monkeypatch.context() as patch:
            patch.setattr(StageLog, "append", dies)
            try:
                outcome(folder, disk)
            except stages.Killed:
                pass
            else:
                break
        assert outcome(folder, disk) == wanted
    assert number > 6
