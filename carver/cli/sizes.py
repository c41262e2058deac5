"""Sizes: numbers of bytes as they can be typed."""

from __future__ import annotations

import argparse
import re

SECTOR_BYTES = 512

_UNITS: dict[str, int] = {"": 1, **{letter: 1000**n for n, letter in enumerate("kMGTPE", 1)}}
_UNITS |= {f"{letter}i": 1024**n for n, letter in enumerate("KMGTPE", 1)}
_SIZE = re.compile(r"(0x[0-9a-fA-F]+|[0-9]+)([a-zA-Z]*)\Z")


def size(text: str, *, sector_bytes: int = SECTOR_BYTES) -> int:
    """Return a number of bytes: decimal or 0x…, with s (sectors), k M G T (1000s) or Ki Mi Gi Ti (1024s), B optional.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    match = _SIZE.match(text.strip())
    unit = match.group(2).removesuffix("B") if match else None
    units = _UNITS | {"s": sector_bytes}
    if match is None or unit not in units:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write e.g. 4096, 0x1000, 64Ki, 10G")
    return int(match.group(1), 16 if match.group(1).startswith("0x") else 10) * units[unit]


def byte_range(text: str) -> tuple[int, int]:
    """Return (start, end) of "START-END" or "START+SIZE"; END may be left out.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    start, mark, rest = text.partition("+") if "+" in text else text.partition("-")
    if not mark:
        raise argparse.ArgumentTypeError(f"{text!r} is no range; write START-END or START+SIZE, e.g. 1Gi-2Gi")
    first = size(start) if start else 0
    last = (first + size(rest) if mark == "+" else size(rest)) if rest else 2**63 - 1
    if last <= first:
        raise argparse.ArgumentTypeError(f"{text!r} is an empty range")
    return first, last
