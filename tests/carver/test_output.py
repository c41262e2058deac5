import errno
import os
from pathlib import Path

import pytest

from carver import output as output_room
from carver.cli import without_order
from carver.output import make_folder, output_error, sync_folder, write_whole
from imaging.errors import DestinationFullError, OutputError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_is_told_with_what_to_do(number: int) -> None:
    error = output_error(Path("x"), OSError(number, ""))
    assert isinstance(error, DestinationFullError)
    assert "free some space and run the same command again" in str(error)


def test_a_full_disk_is_told_with_the_users_folder_and_not_with_a_file_in_the_making() -> None:
    error = output_error(Path("case/file-3.partial"), OSError(errno.ENOSPC, ""))
    assert str(error).startswith("no room left in case: ")


@pytest.mark.parametrize("below", ["", "case"])
def test_a_file_in_the_place_of_a_folder_is_told_as_such(tmp_path: Path, below: str) -> None:
    (tmp_path / "taken").write_bytes(b"notes")
    with pytest.raises(OutputError, match="a file has that name; name another folder"):
        make_folder(tmp_path / "taken" / below)
    assert (tmp_path / "taken").read_bytes() == b"notes"


def test_the_order_to_run_again_is_left_out_where_a_pause_gives_another() -> None:
    told = str(output_error(Path("x"), OSError(errno.ENOSPC, "")))
    assert without_order(told) == "no room left for x: everything done so far is saved"
    other = "no room; make room and run the same command again, or leave --preallocate out"
    assert without_order(other) == other


def test_other_write_errors_are_told_in_the_systems_words() -> None:
    error = output_error(Path("x"), OSError(errno.EROFS, ""))
    assert type(error) is OutputError
    assert str(error) == f"cannot write x: {os.strerror(errno.EROFS)}; mend that, or name another place"


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    for content in (b"old", b"newer"):
        write_whole(tmp_path / "case.json", content)
        assert (tmp_path / "case.json").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["case.json"]


@pytest.mark.parametrize("call", ["fsync", "open"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    write_whole(tmp_path / "case.json", b"old")

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(*((output_room.os, "fsync") if call == "fsync" else (Path, "open")), full)
    with pytest.raises(DestinationFullError):
        write_whole(tmp_path / "case.json", b"new")
    monkeypatch.undo()
    assert (tmp_path / "case.json").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["case.json"]


def test_a_file_whose_folder_is_none_is_told_as_one_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"notes")
    for folder in ("taken", "missing"):
        with pytest.raises(OutputError, match=f"cannot write .*{folder}/junit.xml: .*; mend that, or name another"):
            write_whole(tmp_path / folder / "junit.xml", b"new")


def test_folders_are_made_with_those_above_them(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands files over")
def test_what_sudo_makes_belongs_to_the_calling_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setenv("SUDO_GID", "1235")
    make_folder(tmp_path / "a" / "b")
    write_whole(tmp_path / "a" / "b" / "c", b"")
    for path in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)
    assert tmp_path.stat().st_uid == 0


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(descriptor: int) -> None:
        raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr(output_room.os, "fsync", cannot)
    sync_folder(tmp_path)
