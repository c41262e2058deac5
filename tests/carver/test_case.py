import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from carver import case as case_room
from carver.case import Case
from imaging.errors import CarverError, InputError, OutputError

IDENTITY: dict[str, object] = {"size_bytes": 4096, "serial": "S1", "model": "M", "samples": [[0, "aa"]]}


def begun(folder: Path, **changed: object) -> Case:
    return Case.create(folder, locator="/dev/sdx", identity={**IDENTITY, **changed})


def one_line(action: Callable[[], object], kind: type[CarverError]) -> str:
    with pytest.raises(kind) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    assert type(caught.value).exit_code in (3, 4)
    return text


def test_a_case_is_begun_once_and_opened_again(tmp_path: Path) -> None:
    with begun(tmp_path / "a" / "case") as case:
        case.note(image="x.img")
        first = case.binding
    with begun(tmp_path / "a" / "case") as case:
        assert case.binding == first
    with Case.existing(tmp_path / "a" / "case") as case:
        assert case.binding == first
        assert case.binding["source"] == {"locator": "/dev/sdx", "identity": IDENTITY}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"size_bytes": 8192}, "size is 8192"),
        ({"serial": "S2"}, "serial number is S2"),
        ({"samples": [[0, "bb"]]}, "contents at 0x0"),
    ],
)
def test_a_case_refuses_another_source(tmp_path: Path, changed: dict[str, object], reason: str) -> None:
    begun(tmp_path).close()
    text = one_line(lambda: begun(tmp_path, **changed), InputError)
    assert reason in text
    assert "name another folder" in text
    begun(tmp_path).close()  # and the refusal does not keep the lock


def test_a_folder_with_other_things_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    text = one_line(lambda: begun(tmp_path), OutputError)
    assert "thesis.tex" in text
    assert "name a new folder" in text
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", [".lock", "case.toml", "case.json.partial", "lost+found"])
def test_what_a_broken_start_or_a_lab_left_is_no_hindrance(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    begun(tmp_path).close()


def test_a_second_process_is_kept_out_until_the_first_is_done(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from carver.case import Case; "
        "case = Case.existing(Path(sys.argv[1])); print('in', flush=True); sys.stdin.read()"
    )
    begun(tmp_path).close()
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "in\n"
    for attempt in (lambda: begun(tmp_path), lambda: Case.existing(tmp_path)):
        assert "another carver is at work" in one_line(attempt, InputError)
    other.kill()  # even then the lock goes with it
    other.communicate()
    begun(tmp_path).close()


def test_a_file_system_without_locks_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(case_room.fcntl, "flock", no_locks)
    assert "local disk" in one_line(lambda: begun(tmp_path), OutputError)


def test_a_case_that_may_not_be_written_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path).close()

    def refuse(*arguments: object) -> int:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(case_room.os, "open", refuse)
    told = one_line(lambda: Case.existing(tmp_path), OutputError)
    assert f"no permission to write in {tmp_path}; run the same command with sudo" in told
    assert ".lock" not in told


def test_a_folder_without_a_case_is_told_which_one_to_give(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert "give the folder that `carver rescue` or" in one_line(
            lambda folder=folder: Case.existing(folder), InputError
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not the binding of a case"),
        ("[]", "not the binding of a case"),
        ("{}", "not the binding of a case"),
        ('{"schema_version": 1, "source": 3}', "not the binding of a case"),
        ('{"schema_version": 99, "source": {"identity": {}}}', "another version"),
        ("\udcff", "not the binding of a case"),
    ],
)
def test_a_binding_that_is_none_is_refused_with_what_to_do(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "case.json").write_bytes(content.encode("utf-8", errors="surrogateescape"))
    for attempt in (lambda: begun(tmp_path), lambda: Case.existing(tmp_path)):
        text = one_line(attempt, InputError)
        assert reason in text
        assert "begin a new case" in text


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be a folder" in one_line(lambda: begun(tmp_path / "file"), OutputError)


def test_notes_are_kept_and_written_only_when_they_change(tmp_path: Path) -> None:
    with begun(tmp_path) as case:
        case.note(run={"count": 1})
        before = (tmp_path / "case.json").stat().st_ino
        case.note(run={"count": 1})
        assert (tmp_path / "case.json").stat().st_ino == before
    assert json.loads((tmp_path / "case.json").read_text())["run"] == {"count": 1}
