"""A drive that hangs, for tests without root: a plain file behind `hanging_child.py`."""

import json
import random
import sys
from pathlib import Path
from typing import Any

from imaging.reads import ChildDevice

CHILD = Path(__file__).with_name("hanging_child.py")


class HangingDrive:
    def __init__(self, folder: Path, size_bytes: int, **rules: Any) -> None:
        self.folder = folder / "hanging"
        self.folder.mkdir()
        self.path = self.folder / "drive"
        self.contents = random.Random(3).randbytes(size_bytes)
        self.path.write_bytes(self.contents)
        self.rules_path = self.folder / "rules.json"
        self.rule(**rules)

    def rule(self, **rules: Any) -> None:
        temporary = self.folder / "rules.new"
        temporary.write_text(json.dumps(rules))
        temporary.rename(self.rules_path)

    def release(self) -> None:
        (self.folder / "release").touch()

    def asked(self) -> list[tuple[int, int]]:
        lines = (self.folder / "asked").read_text().split("\n")[:-1]
        return [(int(at), int(size)) for at, size in map(str.split, lines)]

    def open(self, *, read_timeout_seconds: float = 1.0, path: Path | None = None, **kwargs: Any) -> ChildDevice:
        command = [sys.executable, str(CHILD), str(self.rules_path)]
        return ChildDevice(path or self.path, read_timeout_seconds=read_timeout_seconds, command=command, **kwargs)
