"""The arrows between the rooms, walked in the import trees."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "imaging": {"imaging"},
    "signatures": {"signatures", "imaging"},
    "carver": {"carver", "signatures", "imaging"},
    "fixtures": {"fixtures"},
}
PACKAGES = set(MAY_IMPORT)
MAY_USE = {  # rooms of `carver`
    "identify": {"identify"},
    "stages": {"stages", "identify"},
    "report": {"report", "identify"},
    "cli": {"cli", "report", "stages", "identify"},
    "recover.py": {"report", "stages", "identify"},
    "__main__.py": {"cli"},
}
ONLY_HERE_NUMBA = {
    "carver/bus_errors.py",
    "carver/kernels.py",
    "signatures/_compiling.py",
    "signatures/kernels/checksums.py",
    "signatures/kernels/surveys.py",
}
MODULES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
ENGINE = [path for path in MODULES if path.is_relative_to(ROOT / "carver")]


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield ("." * node.level) + (node.module or "")
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_arrow_runs_the_wrong_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    names = {name.split(".")[0] for name in imported(ast.parse(path.read_text())) if not name.startswith(".")}
    assert names & PACKAGES <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", ENGINE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_room_of_the_engine_knows_one_that_stands_on_it(path: Path) -> None:
    """What finds and writes knows neither the reports nor the command line, and the engine's own modules no room."""
    rooms = {one.name for one in (ROOT / "carver").iterdir() if one.is_dir()}
    names = (name.split(".") for name in imported(ast.parse(path.read_text())))
    used = {name[1] for name in names if name[0] == "carver" and len(name) > 1} & rooms
    assert used <= MAY_USE.get(path.relative_to(ROOT / "carver").parts[0], set())


def test_numba_is_imported_by_the_kernels_alone() -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in MODULES
        if any(name.split(".")[0] in ("numba", "llvmlite") for name in imported(ast.parse(path.read_text())))
    }
    assert users == ONLY_HERE_NUMBA


def test_only_the_command_line_prints() -> None:
    printers = {
        str(path.relative_to(ROOT))
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert all(name.startswith(("carver/cli/", "fixtures/")) for name in printers), printers


def test_the_top_level_holds_what_was_agreed() -> None:
    agreed = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "carver",
        "signatures",
        "imaging",
        "tests",
        "fixtures",
    }
    tracked = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert agreed <= tracked
    assert tracked - agreed <= {"build", "dist", "demo", "carver.egg-info"}


def test_every_module_says_what_its_room_is_for() -> None:
    silent = [str(path.relative_to(ROOT)) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_knowing_the_formats_takes_no_compiler() -> None:
    program = "import sys, signatures\nprint(len(signatures.formats()) > 4, 'numba' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == "True False\n"


@pytest.mark.parametrize("content", [os.urandom(32)])
def test_a_test_is_named_alike_in_every_process(content: bytes, request: pytest.FixtureRequest) -> None:
    assert request.node.callspec.id == f"{len(content)}-bytes"
