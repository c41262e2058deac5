"""Whereabouts: where image and case were when the image was carved, and whether the image is still there.

A report may be written anew years later, on another machine: what it names must not be taken for what is there now.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from imaging.direct import is_device
from imaging.image import MappedImage


class State(StrEnum):
    """What became of the image."""

    THERE = "there"
    MOVED = "moved with the case"
    CHANGED = "another length"
    GONE = "not there"
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
    if kept["is_device"]:
        state = State.DEVICE
    elif not now.is_file():
        state = State.GONE
    elif now.stat().st_size != size_bytes:
        state = State.CHANGED
    else:
        state = State.THERE if now == image_was else State.MOVED
    return {**kept, "image_now": str(now), "case_folder_now": str(case_is), "state": state.value}
