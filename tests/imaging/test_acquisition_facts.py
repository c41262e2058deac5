"""Who images, as the record tells."""

import os
import pwd

import pytest

from imaging.acquisition_facts import Tool, begun
from imaging.rescue.options import RescueOptions

TOOL = Tool(name="carver", version="1", command=("carver",))


def user_told(path):
    return begun(path, RescueOptions(), TOOL, (), None).user


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(4096))
    return path


def test_the_user_behind_sudo_is_who_images(source, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "lab")
    assert user_told(source) == "lab"


def test_a_user_is_told_also_where_the_environment_names_none(source, monkeypatch):
    for name in ("SUDO_USER", "USER", "LOGNAME"):
        monkeypatch.delenv(name, raising=False)
    assert user_told(source) == pwd.getpwuid(os.getuid()).pw_name


def test_a_number_that_the_system_has_no_name_for_is_told_as_a_number(source, monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987654)
    assert user_told(source) == "user 987654"
