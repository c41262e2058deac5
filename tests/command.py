"""The installed command, run as a user runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

TIMEOUT_SECONDS = 180
INSTALLED = shutil.which("carver", path=sysconfig.get_path("scripts"))
COMMAND = [INSTALLED] if INSTALLED else [sys.executable, "-m", "carver"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line that says what is wrong; there must be one and only one, and no traceback."""
        assert "Traceback" not in self.err, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("carver: ")]
        assert len(lines) == 1, self.err
        return lines[0]


def carver(*arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Outcome:
    """Run `carver` with these arguments to its end."""
    return run([*COMMAND, *map(str, arguments)], cwd=cwd, env=env)


def run(command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Outcome:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT_SECONDS,
    )
    return Outcome(code=done.returncode, out=done.stdout, err=done.stderr)


def good(*arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Outcome:
    """Run `carver`, which must end well."""
    outcome = carver(*arguments, cwd=cwd, env=env)
    assert outcome.code == 0, outcome.err
    assert "Traceback" not in outcome.err
    return outcome


def need(reason: str | None) -> None:
    """Skip for this reason; where all tools are promised, fail."""
    if reason and os.environ.get("CARVER_REQUIRE_TOOLS") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def need_root() -> None:
    need("needs root" if os.geteuid() != 0 else None)


def need_program(*names: str) -> None:
    missing = [name for name in names if shutil.which(name) is None]
    need(f"missing: {', '.join(missing)}" if missing else None)
