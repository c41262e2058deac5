"""Whereabouts: where image and case were when the image was carved, and whether the image is still there.

A report may be written anew years later, on another machine: what it names must not be taken for what is there now.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from stat import S_ISREG
from typing import Any

from imaging.direct import is_device
from imaging.image import MappedImage


class State(StrEnum):
    """What became of the image."""

    THERE = "there"
    MOVED = "moved with the case"
    CHANGED = "another length"
    GONE = "not there"
    HIDDEN = "cannot be looked at"
    DEVICE = "device"  # another drive may have its name by now; it is not looked at


def whereabouts(image: MappedImage, folder: Path) -> dict[str, Any]:
    """Return what a run keeps: where image, map and case are, as absolute paths."""
    path = image.source.path
    return {
        "image": str(path.absolute()),
        "map": None if image.map_path is None else str(image.map_path.absolute()),
        "case_folder": str(folder.absolute()),
        "is_device": is_device(path),
    }


def looked_up(kept: Mapping[str, Any], folder: Path, size_bytes: int) -> dict[str, Any]:
    """Return the same with what is there now.

    Args:
        kept: what `whereabouts` returned.
        folder: where the case is now.
        size_bytes: how long the image was.
    """
    case_was, case_is, image_was = Path(kept["case_folder"]), folder.absolute(), Path(kept["image"])
    inside = image_was.is_relative_to(case_was)
    now = case_is / image_was.relative_to(case_was) if inside else image_was
    state = State.DEVICE if kept["is_device"] else _state(now, size_bytes)
    if state is State.THERE and now != image_was:
        state = State.MOVED
    return {**kept, "image_now": str(now), "case_folder_now": str(case_is), "state": state.value}


def _state(path: Path, size_bytes: int) -> State:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return State.GONE
    except OSError:
        return State.HIDDEN
    return State.THERE if S_ISREG(found.st_mode) and found.st_size == size_bytes else State.CHANGED
