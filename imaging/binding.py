"""Binding: which drive a map belongs to, kept as a comment at its head, so that another drive is not mixed in.

GNU ddrescue leaves the comments out when it writes the map; then nothing is known, and nothing refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from imaging.device import DeviceInfo, identity, same_identity
from imaging.errors import InputError
from imaging.impatient import FIRST_LOOK_SECONDS, LOOK_SECONDS, Impatient
from imaging.mapstore import read_remarks
from imaging.rescue.put_off import recalled
from imaging.source import Source

MARK = "Source identity: "
HEAD_BYTES = 1 << 16


def comment_of(identity: Mapping[str, object]) -> str:
    """Return the comment line that names a drive."""
    return MARK + json.dumps(identity, sort_keys=True)


def identify(source: Source, info: DeviceInfo, map_path: Path) -> dict[str, object]:
    """Return a drive's `identity`, at the cost of seconds where it hangs, and without the places where it hung before.

    Args:
        source: the drive.
        info: what the system knows of it.
        map_path: its mapfile; there may be none yet.

    Raises:
        InputError: the map cannot be read.
    """
    # without a map the drive was looked at already for what it is, so that it is awake
    first_seconds = FIRST_LOOK_SECONDS if map_path.exists() else LOOK_SECONDS
    return identity(Impatient(source, spare=recalled(read_remarks(map_path)), first_seconds=first_seconds), info)


def refuse_another(map_path: Path, identity: Mapping[str, object]) -> None:
    """Refuse to go on with a map that was begun for another drive.

    Raises:
        InputError: it was, with the reason.
    """
    bound = bound_identity(map_path)
    difference = same_identity(bound, identity) if bound is not None else None
    if difference:
        raise InputError(
            f"{map_path} was begun for another drive ({difference}): going on would mix two drives in one image; "
            "name another image and map for this one"
        )


def bound_identity(map_path: Path) -> dict[str, object] | None:
    """Return the identity of the drive that a map was begun for; None where its head does not tell."""
    try:
        with map_path.open("rb") as file:
            head = file.read(HEAD_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return None  # none yet, or opening it says why
    for line in head.splitlines():
        if line.startswith("#") and MARK in line:
            try:
                found = json.loads(line.partition(MARK)[2])
            except ValueError:
                return None
            return found if isinstance(found, dict) else None
    return None
