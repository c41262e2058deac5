"""Placement: where in the image the drive's bytes lie. The map's positions are always the drive's.

Usually both are the same. Where they are not (`--output-position`), the map's head says by how much, so that whoever
reads the image later moves the map first, and a rescue that goes on with another position is refused. GNU ddrescue and
ddrescuelog leave the comments out; then nothing is known, and its users move the map by hand (`--shift`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from imaging.errors import InputError

MARK = "Image offset: "
OURS = "# Generation: "  # only a map that we keep ourselves has it
HEAD_BYTES = 1 << 16
_SHIFT = re.compile(rf"# {MARK}([+-]0x[0-9a-f]{{1,16}})\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the bytes of a drive lie in its image.

    Attributes:
        shift_bytes: the position in the image minus the one on the drive.
        image_bytes: how long an image file is made, at least.
        needed_bytes: how long a device must be.
    """

    shift_bytes: int = 0
    image_bytes: int
    needed_bytes: int = 0

    def comments(self) -> tuple[str, ...]:
        """Return what the head of the map says of it."""
        if self.shift_bytes == 0:
            return ()
        return (f"{MARK}{self.shift_bytes:+#x} (what the drive has at 0 is there in the image)",)


def head_of(map_path: Path) -> list[str]:
    """Return the comment lines at the head of a map; none where it cannot be read."""
    try:
        with map_path.open("rb") as file:
            head = file.read(HEAD_BYTES).decode("utf-8", errors="surrogateescape")
    except OSError:
        return []  # none yet, or opening it says why
    return [line for line in head.splitlines() if line.startswith("#")]


def recorded_shift(map_path: Path) -> int | None:
    """Return by how much the image is shifted against the map; None where the map's writer does not tell."""
    head = head_of(map_path)
    for line in head:
        if found := _SHIFT.match(line):
            return int(found[1], 16)
    return 0 if any(line.startswith(OURS) for line in head) else None


def refuse_other_shift(map_path: Path, shift_bytes: int) -> None:
    """Refuse to go on at another place in the image than before.

    Raises:
        InputError: the map says that its finished bytes lie elsewhere.
    """
    recorded = recorded_shift(map_path)
    if recorded is None or recorded == shift_bytes:
        return
    raise InputError(
        f"{map_path} belongs to an image in which everything lies {recorded:+#x} bytes from where the drive has it, "
        f"and {shift_bytes:+#x} is asked for: keep the difference between the output and the input position (-o, -i), "
        "or name another image and map"
    )
