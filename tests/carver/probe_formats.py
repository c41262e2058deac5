"""Formats that misbehave on purpose, loaded by name in the workers: what a validator does stands in its first byte."""

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path

import signatures
from imaging.errors import BudgetExceeded, ReadFault
from imaging.window import Window
from signatures.format import Format
from signatures.verdict import Grade, Verdict, rejected

CELL_BYTES = 16


def validate(window: Window) -> Verdict:
    deed = window.read_at(0, CELL_BYTES).decode().split("\0")[0]
    if deed == "hang":
        time.sleep(600)
    if deed == "slow":
        for _ in range(5):
            time.sleep(0.4)
            window.part(0, CELL_BYTES).read_at(0, CELL_BYTES)
    if deed == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if deed == "allocate":
        return fine({"bytes": len(bytearray(8 << 30))})
    if deed == "raise":
        raise ZeroDivisionError("a validator's mistake")
    if deed == "budget":
        raise BudgetExceeded("too much")
    if deed == "fault":
        raise ReadFault("bad sector at 0x10", offset_bytes=16, size_bytes=512)
    if deed == "no-json":
        return fine({"set": {1, 2}})
    if deed == "rejected":
        return rejected("not-a-probe", at_bytes=0)
    if deed == "state":
        return fine(state())
    return fine({"deed": deed})


def fine(facts: dict[str, object]) -> Verdict:
    return Verdict(grade=Grade.CONSISTENT, size_bytes=CELL_BYTES, facts=facts)


def state() -> dict[str, object]:
    death = ctypes.c_int()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(2, ctypes.byref(death), 0, 0, 0)  # PR_GET_PDEATHSIG
    return {
        "pid": os.getpid(),
        "uid": os.geteuid(),
        "groups": os.getgroups(),
        "file_bytes": resource.getrlimit(resource.RLIMIT_FSIZE)[0],
        "death_signal": death.value,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())) if os.access("/proc/self/fd", os.R_OK) else 0,
        "working_folder_on_path": "" in sys.path,
        "modules": sorted(sys.modules),
    }


def formats() -> dict[str, Format]:
    probe = Format(name="probe", suffix=".probe", title="a probe", patterns=(), validate=validate, proves="nothing")
    return {"probe": probe}


def watched_formats() -> dict[str, Format]:
    """The real formats, and one that tells which modules are loaded by now."""
    return {**signatures.formats(), **formats()}


def broken_loader() -> dict[str, Format]:
    raise RuntimeError("this program is broken")
