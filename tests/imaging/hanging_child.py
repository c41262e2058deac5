"""A reading child whose drive is a plain file that hangs, fails, lies, dies or goes away where a JSON file says so.

Run as a program: `hanging_child.py RULES DEVICE MEMORY PARENT`. RULES, read before each read: `hang`, `fail` and `die`
are lists of [offset, size]; `code` is the error of failures; `zeros` makes every answer empty; a read that hangs
returns when the file `release` beside RULES appears; where `serial` is true, reads are served in turn, as by a frozen
queue; each read is noted in the file `asked`.
"""

import errno
import fcntl
import json
import mmap
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from imaging.reader import MEMORY_BYTES, answer_questions


class FileDrive:
    def __init__(self, rules_path: Path, path: Path, memory: mmap.mmap) -> None:
        self.rules_path, self.path, self.memory = rules_path, path, memory
        self.file = path.open("rb", buffering=0)

    def rules(self) -> dict[str, Any]:
        return json.loads(self.rules_path.read_text())

    def present_bytes(self) -> int:
        return 0 if self.rules().get("gone") else self.path.stat().st_size

    def fill_at(self, memory_offset_bytes: int, position_bytes: int, size_bytes: int) -> int:
        folder = self.rules_path.parent
        with (folder / "asked").open("a") as log:
            log.write(f"{position_bytes} {size_bytes}\n")
        with (folder / "queue").open("a") as queue:
            if self.rules().get("serial"):
                fcntl.flock(queue, fcntl.LOCK_EX)
            while self.hit("hang", position_bytes, size_bytes) and not (folder / "release").exists():
                time.sleep(0.01)
        if self.hit("die", position_bytes, size_bytes):
            os._exit(9)
        if self.hit("fail", position_bytes, size_bytes) or self.rules().get("gone"):
            raise OSError(self.rules().get("code", errno.EIO), "no")
        data = os.pread(self.file.fileno(), size_bytes, position_bytes)
        if self.rules().get("zeros"):
            data = bytes(len(data))
        self.memory[memory_offset_bytes : memory_offset_bytes + len(data)] = data
        return len(data)

    def hit(self, rule: str, position_bytes: int, size_bytes: int) -> bool:
        ranges = self.rules().get(rule, [])
        return any(position_bytes < at + size and at < position_bytes + size_bytes for at, size in ranges)


def main() -> None:
    rules_path, path, descriptor = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    rules = json.loads(rules_path.read_text())
    if refusal := rules.get("refuse"):
        os.write(1, json.dumps({"refusal": refusal}).encode() + b"\n")
        return
    while rules.get("never_opens"):
        time.sleep(0.05)
        if os.getppid() != int(sys.argv[4]):
            return
    drive = FileDrive(rules_path, path, mmap.mmap(descriptor, MEMORY_BYTES))
    greeting = {"size_bytes": path.stat().st_size, "sector_bytes": 512, "physical_sector_bytes": 512}
    os.write(1, json.dumps(greeting).encode() + b"\n")
    answer_questions(drive)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
