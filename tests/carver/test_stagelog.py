import errno
import json
import os
from pathlib import Path

import pytest

from carver.stagelog import StageLog, read_log
from imaging.errors import DestinationFullError, OutputError

KEY = {"image_bytes": 512, "formats": ["hdf5"]}


def logged(path: Path, count: int, *, finish: bool = False) -> bytes:
    with StageLog(path, KEY) as log:
        for number in range(count):
            log.append({"number": number, "text": "ü" * number})
        if finish:
            log.finish()
    return path.read_bytes()


def numbers(log: StageLog) -> list[int]:
    return [entry["number"] for entry in log.entries()]


def test_a_log_is_gone_on_with_after_a_cut_at_every_byte(tmp_path: Path) -> None:
    content = logged(tmp_path / "whole.jsonl", 4, finish=True)
    for cut in range(len(content) + 1):
        path = tmp_path / f"cut-{cut}.jsonl"
        path.write_bytes(content[:cut])
        whole_lines = content[:cut].count(b"\n")
        with StageLog(path, KEY) as log:
            assert numbers(log) == list(range(4))[: max(0, whole_lines - 1)]
            assert log.finished == (cut == len(content))
            for number in range(len(numbers(log)), 4):
                log.append({"number": number, "text": "ü" * number})
            log.finish()
        assert path.read_bytes() == content


def test_a_finished_log_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    logged(path, 2, finish=True)
    os.utime(path, ns=(1, 1))
    with StageLog(path, KEY) as log:
        assert log.finished
        log.finish()
    assert path.stat().st_mtime_ns == 1


def test_a_log_with_another_key_is_set_aside_with_its_data_and_never_overwritten(tmp_path: Path) -> None:
    path, data = tmp_path / "scan.jsonl", tmp_path / "hits.bin"
    for turn in range(3):
        with StageLog(path, {"turn": turn}, data=data) as log:
            log.append({"number": turn})
            data.write_bytes(bytes([turn]))
    assert {p.name for p in tmp_path.iterdir()} == {
        *("scan.jsonl", "scan.1.jsonl", "scan.2.jsonl"),
        *("hits.bin", "hits.1.bin", "hits.2.bin"),
    }
    for name, turn in (("1", 0), ("2", 1)):
        first = (tmp_path / f"scan.{name}.jsonl").read_text().splitlines()[0]
        assert json.loads(first) == {"key": {"turn": turn}}
        assert (tmp_path / f"hits.{name}.bin").read_bytes() == bytes([turn])


def test_the_data_stays_where_it_is_while_the_log_stands(tmp_path: Path) -> None:
    data = tmp_path / "hits.bin"
    for _ in range(2):
        with StageLog(tmp_path / "scan.jsonl", KEY, data=data):
            data.write_bytes(b"hits")
    assert {p.name for p in tmp_path.iterdir()} == {"scan.jsonl", "hits.bin"}


def test_an_empty_log_is_begun_and_nothing_set_aside(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").touch()
    StageLog(tmp_path / "log.jsonl", KEY).close()
    assert [p.name for p in tmp_path.iterdir()] == ["log.jsonl"]


@pytest.mark.parametrize("garbage", [b"[1]\n", b"\xff\xfe\n", b'{"number": 9}', b"\n"])
def test_what_is_no_entry_ends_the_log(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "log.jsonl"
    content = logged(path, 2)
    path.write_bytes(content + garbage)
    assert [entry["number"] for _, entry in read_log(path)] == [0, 1]
    with StageLog(path, KEY) as log:
        assert numbers(log) == [0, 1]
    assert path.read_bytes() == content


class FullDisk:
    """A file that takes so many bytes more, then has no room."""

    def __init__(self, file: object, room_bytes: int) -> None:
        self.file, self.room_bytes = file, room_bytes

    def write(self, data: bytes) -> int:
        if self.room_bytes == 0:
            raise OSError(errno.ENOSPC, "full")
        written = self.file.write(data[: self.room_bytes])
        self.room_bytes -= written
        return written

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)


@pytest.mark.parametrize("room_bytes", [0, 1, 10])
def test_a_full_disk_leaves_the_log_usable(tmp_path: Path, room_bytes: int) -> None:
    path = tmp_path / "log.jsonl"
    content = logged(path, 2)
    with StageLog(path, KEY) as log:
        real = log._file
        log._file = FullDisk(real, room_bytes)
        with pytest.raises(DestinationFullError, match="free some space and run the same command again"):
            log.append({"number": 2, "text": "üü"})
        assert path.read_bytes() == content
        log._file = real
        log.append({"number": 2, "text": "üü"})
        assert numbers(log) == [0, 1, 2]


def test_a_folder_that_is_gone_is_told_as_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        StageLog(tmp_path / "gone" / "log.jsonl", KEY)


def test_an_entry_is_found_again_by_its_offset(tmp_path: Path) -> None:
    with StageLog(tmp_path / "log.jsonl", KEY) as log:
        offsets = [log.append({"number": number}) for number in range(3)]
        assert [log.read_entry(offset)["number"] for offset in reversed(offsets)] == [2, 1, 0]
        assert [offset for offset, _ in log.offsets()] == offsets


def test_an_entry_that_is_no_json_number_is_refused_before_it_is_written(tmp_path: Path) -> None:
    with StageLog(tmp_path / "log.jsonl", KEY) as log:
        with pytest.raises(ValueError, match="not JSON compliant"):
            log.append({"number": float("nan")})
        assert numbers(log) == []
