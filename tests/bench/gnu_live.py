"""GNU, live: GNU ddrescue before the simulated drive itself, so that it sees the simulated time; for its slow reads.

Its test mode knows no slow sectors. Here a small library is compiled and preloaded (`gnu_shim.c`), which hands each
read of the input to the simulated drive and has time() tell the drive's clock.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from tests.bench.drive_model import Condition, Mechanics, SimulatedDrive
from tests.bench.rescue_runs import Curve

SHIM = Path(__file__).with_name("gnu_shim.c")
QUESTION, ANSWER = struct.Struct("=qq"), struct.Struct("=dd")


def missing() -> str | None:
    """Return why this cannot be done here, or None."""
    lacking = [name for name in ("cc", "ddrescue") if shutil.which(name) is None]
    return f"missing: {', '.join(lacking)}" if lacking else None


def run_gnu_live(mechanics: Mechanics, condition: Condition, arguments: tuple[str, ...]) -> Curve:
    """Let GNU ddrescue rescue the simulated drive."""
    drive, curve = SimulatedDrive(mechanics, condition), Curve()
    with tempfile.TemporaryDirectory() as name:
        library, contents = Path(name, "shim.so"), Path(name, "contents")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SHIM, "-ldl"], check=True)
        with contents.open("wb") as file:
            file.truncate(condition.damage.size_bytes)
        ask_read, ask_write = os.pipe()
        hear_read, hear_write = os.pipe()
        settings = {"LD_PRELOAD": str(library), "BENCH_INPUT": str(contents)}
        settings |= {"BENCH_ASK": str(ask_write), "BENCH_HEAR": str(hear_read)}
        command = ["ddrescue", "-q", "-f", *arguments, str(contents), "/dev/null", str(Path(name, "map"))]
        gnu = subprocess.Popen(command, env=os.environ | settings, pass_fds=(ask_write, hear_read))
        os.close(ask_write)
        os.close(hear_read)
        while len(question := os.read(ask_read, QUESTION.size)) == QUESTION.size:
            offset_bytes, size_bytes = QUESTION.unpack(question)
            size_bytes = min(size_bytes, condition.damage.size_bytes - offset_bytes)
            came = drive.read(offset_bytes, size_bytes)
            curve.add(drive.seconds, size_bytes if came else 0)
            os.write(hear_write, ANSWER.pack(drive.seconds, float(came)))
        os.close(ask_read)
        os.close(hear_write)
        if gnu.wait() != 0:
            raise SystemExit(f"GNU ddrescue ended with {gnu.returncode}")
    return curve
