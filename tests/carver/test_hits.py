import errno
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from carver import hits as hits_room
from carver import stagelog as stagelog_room
from carver.hits import HitStore, unreadable
from carver.scan import HIT_DTYPE, ChunkHits
from imaging.errors import DestinationFullError, InputError
from imaging.extent import Extent, ExtentSet, span

KEY = {"image_bytes": 1 << 20}


def a_chunk(number: int, count: int, *, unread: tuple[Extent, ...] = ()) -> ChunkHits:
    found = np.zeros(count, dtype=HIT_DTYPE)
    found["offset_bytes"] = np.arange(count) + 1000 * number
    return ChunkHits(chunk=span(1000 * number, 1000 * (number + 1)), hits=found, unread=ExtentSet(unread))


def offsets(store: HitStore) -> list[int]:
    return [offset for block in store.blocks() for offset in block["offset_bytes"].tolist()]


def filled(folder: Path, counts: list[int]) -> HitStore:
    store = HitStore(folder, KEY)
    for number, count in enumerate(counts):
        store.append(a_chunk(number, count))
    return store


def test_hits_come_back_in_order_and_the_scan_goes_on_behind_the_last_chunk(tmp_path: Path) -> None:
    filled(tmp_path, [3, 0, 2]).close()
    store = HitStore(tmp_path, KEY)
    assert offsets(store) == [0, 1, 2, 2000, 2001]
    assert (store.count, store.resume_at_bytes, store.finished) == (5, 3000, False)
    store.close()


def test_hits_behind_the_last_logged_chunk_are_cut_off(tmp_path: Path) -> None:
    filled(tmp_path, [3]).close()
    with (tmp_path / "hits.bin").open("ab") as file:
        file.write(a_chunk(1, 2).hits.tobytes() + b"torn")
    store = HitStore(tmp_path, KEY)
    assert offsets(store) == [0, 1, 2]
    store.append(a_chunk(1, 1))
    assert offsets(store) == [0, 1, 2, 1000]
    store.close()


def test_a_line_of_the_log_that_was_torn_takes_its_hits_with_it(tmp_path: Path) -> None:
    filled(tmp_path, [3, 2]).close()
    log = tmp_path / "scan.jsonl"
    log.write_bytes(log.read_bytes()[:-1])
    store = HitStore(tmp_path, KEY)
    assert offsets(store) == [0, 1, 2]
    assert store.resume_at_bytes == 1000
    store.close()


def test_hits_that_are_gone_are_missed_not_made_up(tmp_path: Path) -> None:
    filled(tmp_path, [3]).close()
    (tmp_path / "hits.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"remove .*scan\.jsonl and run the same command again"):
        HitStore(tmp_path, KEY)


def test_another_image_begins_anew_and_the_old_hits_stay(tmp_path: Path) -> None:
    filled(tmp_path, [3]).close()
    old = (tmp_path / "hits.bin").read_bytes()
    store = HitStore(tmp_path, {"image_bytes": 7})
    assert (store.count, store.resume_at_bytes) == (0, 0)
    store.close()
    assert (tmp_path / "hits.1.bin").read_bytes() == old
    assert (tmp_path / "scan.1.jsonl").exists()


def full(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "full")


@pytest.mark.parametrize("where", ["fsync", "log"])
def test_a_full_disk_loses_what_was_not_committed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    store = filled(tmp_path, [3])
    store.commit()
    store.append(a_chunk(1, 5))
    with monkeypatch.context() as patch:
        patch.setattr((hits_room if where == "fsync" else stagelog_room).os, "fsync", full)
        with pytest.raises(DestinationFullError):
            store.commit()
    assert offsets(store) == [0, 1, 2]
    store.append(a_chunk(1, 1))
    store.close()
    assert offsets(HitStore(tmp_path, KEY)) == [0, 1, 2, 1000]


def test_hits_that_find_no_room_leave_those_before(tmp_path: Path) -> None:
    store = filled(tmp_path, [3])
    real, store._file = store._file, FullAfter(store._file, 15)
    with pytest.raises(DestinationFullError):
        store.append(a_chunk(1, 5))
    store._file = real
    store.close()
    assert offsets(HitStore(tmp_path, KEY)) == [0, 1, 2]


class FullAfter:
    """A file with room for some more bytes."""

    def __init__(self, file: BinaryIO, room_bytes: int) -> None:
        self.file = file
        self.room_bytes = room_bytes

    def write(self, data: bytes) -> int:
        if not self.room_bytes:
            full()
        written_bytes = self.file.write(data[: self.room_bytes])
        self.room_bytes -= written_bytes
        return written_bytes

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)


def test_chunks_wait_for_the_disk_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    monkeypatch.setattr(hits_room.os, "fsync", waits.append)
    store = filled(tmp_path, [1] * 100)
    before = len(waits)
    store.close()
    assert before <= 3  # the log's first line, and hardly a second
    assert len(waits) - before == 2  # hits, then log
    assert len(offsets(HitStore(tmp_path, KEY))) == 100


def test_hits_are_told_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hits_room, "BLOCK_HITS", 4)
    store = filled(tmp_path, [10])
    assert [len(block) for block in store.blocks()] == [4, 4, 2]
    store.close()


def test_what_could_not_be_read_while_scanning_stands_in_the_log(tmp_path: Path) -> None:
    store = HitStore(tmp_path, KEY)
    store.append(a_chunk(0, 1, unread=(span(10, 20),)))
    store.close()
    assert [entry["unreadable"] for entry in store.log.entries()] == [[[10, 10]]]
    assert unreadable(tmp_path) == ExtentSet([span(10, 20)])
    assert unreadable(tmp_path / "elsewhere") == ExtentSet()
