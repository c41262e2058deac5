"""What many end-to-end tests need and none of them changes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from fixtures import demo
from fixtures.images import build_plain, write_truth
from tests.command import good

# Started in a shell's background, the tests are told to ignore Ctrl-C. Their children, which heed that, are typed at.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object) -> str | None:
    """A long content goes by its length: it may hold the time of its making, and xdist wants the same names twice."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) and len(val) > 8 else None


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


@pytest.fixture(scope="session")
def small_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small healthy image, with its truth.json beside it: a few safetensors and ONNX files among decoys."""
    folder = tmp_path_factory.mktemp("small")
    files = [
        (f"{name}-{number}{demo.SUFFIXES[name]}", name, sample.content)
        for name in ("safetensors", "onnx")
        for number, sample in enumerate(demo.small_samples(name, 5))
    ]
    truth = build_plain(folder / "small.img", files, seed=5)
    write_truth(folder / "truth.json", truth)
    return folder / "small.img"
