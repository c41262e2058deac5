"""Mac disks: where macOS uses a disk, from what `mount` and `diskutil` print. Best effort, never run on a Mac yet.

The names tell the family: /dev/rdisk2 and /dev/disk2s1 are of disk2. An APFS container is a disk of its own, whose
physical stores `diskutil info -plist` names.
"""

from __future__ import annotations

import plistlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

TIMEOUT_SECONDS = 30
NAME = re.compile(r"r?(disk\d+)(s\d+)*")
MOUNT_LINE = re.compile(r"^(/dev/disk\S+) on (.+) \(([^()]*)\)$")


def info(path: Path | str) -> dict[str, object]:
    """Return what `diskutil info -plist` knows of a disk; nothing where it fails."""
    try:
        facts = plistlib.loads(_printed("diskutil", "info", "-plist", str(path)))
    except (plistlib.InvalidFileException, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def uses(path: Path | str) -> tuple[str, ...]:
    """Return plain reasons why a disk is busy: what is mounted of it, or of an APFS container that lies on it."""
    return tuple(
        f"{device} is mounted at {point} ({'read-only' if 'read-only' in options else 'read-write'})"
        for device, point, options in mounts(_printed("mount").decode("utf-8", "replace"))
        if any(_same(str(path), name) for name in (device, *stores(device)))
    )


def lies_on(path: Path | str, place: Path) -> bool:
    """Tell whether `place` (which exists) lies on the disk or partition `path`."""
    best = ("", "")
    for device, point, _ in mounts(_printed("mount").decode("utf-8", "replace")):
        if place.resolve().is_relative_to(point) and len(point) >= len(best[1]):
            best = (device, point)
    return bool(best[0]) and any(_same(str(path), name) for name in (best[0], *stores(best[0])))


def mounts(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (device, mount point, options) of each disk in the output of `mount`."""
    for line in text.splitlines():
        if (match := MOUNT_LINE.match(line)) is not None:
            yield match[1], match[2], match[3]


def stores(device: str) -> list[str]:
    """Return the partitions that the APFS container of a device lies on."""
    found = info(device).get("APFSPhysicalStores")
    pairs = found if isinstance(found, list) else []
    return [str(pair.get("APFSPhysicalStore", "")) for pair in pairs if isinstance(pair, dict)]


def _same(source: str, used: str) -> bool:
    """Tell whether a use of `used` is a use of `source`: of a partition only itself, of a whole disk all its parts."""
    mine, theirs = NAME.fullmatch(Path(source).name), NAME.fullmatch(Path(used).name)
    if mine is None or theirs is None or mine[1] != theirs[1]:
        return False
    return mine[2] is None or Path(source).name.removeprefix("r") == Path(used).name


def _printed(*command: str) -> bytes:
    try:
        return subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return b""
