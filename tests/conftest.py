"""What many end-to-end tests need and none of them changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import demo
from tests.command import good


@pytest.fixture(scope="session")
def demo_drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drive.img, damage.map and truth.json."""
    folder = tmp_path_factory.mktemp("demo")
    demo.build(folder, seed=4)
    return folder


@pytest.fixture(scope="session")
def demo_case(demo_drive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The case of an uninterrupted rescue of the demo drive; tests that change a case copy it."""
    case = tmp_path_factory.mktemp("case") / "CASE"
    good("rescue", "--test-mode", demo_drive / "damage.map", demo_drive / "drive.img", case)
    return case
