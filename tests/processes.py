"""Processes of a run, looked at from outside."""

from __future__ import annotations

import os
import time
from pathlib import Path

WAIT_SECONDS = 120


def readers_of(device: Path) -> list[int]:
    """Return the processes that read a device for an imager, also those that outlived it."""
    readers = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(device) in words and any(b"imaging.reader" in word for word in words):
            readers.append(int(folder.name))
    return readers


def wait_until_nobody_reads(device: Path) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while readers := readers_of(device):
        assert time.monotonic() < until, f"left behind: {readers}"
        time.sleep(0.01)
