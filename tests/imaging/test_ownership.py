"""Ownership: outputs of a run through sudo belong to the user who typed it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from imaging.ownership import give_to_caller

Chowned = list[tuple[Path, int, int, bool]]


@pytest.fixture
def chowned(monkeypatch: pytest.MonkeyPatch) -> Chowned:
    """Run as if root through sudo by user 1234 of group 5678, and list what is handed over."""
    handed: Chowned = []

    def chown(path: Path, user: int, group: int, *, follow_symlinks: bool = True) -> None:
        handed.append((path, user, group, follow_symlinks))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setenv("SUDO_GID", "5678")
    return handed


def test_output_of_a_run_through_sudo_is_handed_to_its_caller_without_following_links(chowned: Chowned) -> None:
    give_to_caller(Path("out"))
    assert chowned == [(Path("out"), 1234, 5678, False)]


def test_output_of_a_run_that_is_not_root_stays(chowned: Chowned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    give_to_caller(Path("out"))
    assert chowned == []


@pytest.mark.parametrize("name", ["SUDO_UID", "SUDO_GID"])
def test_output_of_root_without_sudo_stays(chowned: Chowned, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name)
    give_to_caller(Path("out"))
    assert chowned == []


@pytest.mark.parametrize("text", ["", "-1", "root", "1 2", "²"])
def test_sudo_variables_that_are_no_numbers_are_ignored(
    chowned: Chowned, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", text)
    give_to_caller(Path("out"))
    assert chowned == []


def test_file_system_without_owners_is_no_error(chowned: Chowned, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, user: int, group: int, *, follow_symlinks: bool = True) -> None:
        raise OSError(errno.EPERM, "no owners here")

    monkeypatch.setattr(os, "chown", refuse)
    give_to_caller(Path("out"))
    assert chowned == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_really_gives_the_file_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out"
    path.touch()
    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setenv("SUDO_GID", "5678")
    give_to_caller(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)
