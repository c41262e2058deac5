"""Files laid on an image from sector to sector, and carved by the installed command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixtures.formats import safetensors
from tests import report_schema
from tests.command import good

SECTOR_BYTES = 512


def lay_out(path: Path, contents: list[bytes]) -> list[int]:
    """Write contents one after the other, each at a sector and behind an empty one; return where each begins."""
    starts, held = [], bytearray(SECTOR_BYTES)
    for content in contents:
        starts.append(len(held))
        held += content + bytes(-len(content) % SECTOR_BYTES + SECTOR_BYTES)
    path.write_bytes(held)
    return starts


def carve(folder: Path, contents: list[bytes], *options: str) -> dict[str, Any]:
    """Return the checked report of an image of these contents."""
    lay_out(folder / "disk.img", contents)
    good("carve", folder / "disk.img", "--out", folder / "case", *options)
    return report_schema.load_checked(folder / "case")


def weights(names: list[str], *, shape: tuple[int, ...] = (16, 8), fill: int = 7, dtype: str = "F32") -> bytes:
    """Return a safetensors file of tensors of one shape; `fill` tells two of the same names apart."""
    specs = tuple((name, dtype, shape) for name in names)
    size_bytes = sum(map(safetensors.payload_bytes, specs))
    data = bytes((fill + 31 * at) % 251 + 1 for at in range(size_bytes))
    return safetensors.assemble(safetensors.compact(safetensors.entries(specs)), data)
