"""Sizes, times and ranges as they can be typed; suffixes are GNU ddrescue's."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from fractions import Fraction

SECTOR_BYTES = 512
MAX_POSITION_BYTES = 2**63 - 1

_UNITS: dict[str, int] = {"": 1, **{letter: 1000**n for n, letter in enumerate("kMGTPEZY", 1)}}
_UNITS |= {f"{letter}i": 1024**n for n, letter in enumerate("KMGTPEZY", 1)}
_SIZE = re.compile(r"(0x[0-9a-fA-F]{1,99}|0[0-7]{0,98}|[1-9][0-9]{0,98})([a-zA-Z]*)\Z")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_INTERVAL = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?(?:/[1-9][0-9]{0,17})?)([smhd]?)\Z")


def size(text: str, *, sector_bytes: int = SECTOR_BYTES) -> int:
    """Return a number of bytes: decimal, 0x… or octal as in C (a leading 0), with a multiplier.

    Multipliers are k M G T (1000s), Ki Mi Gi Ti (1024s), s for sectors, also behind another (Kis); a B may follow.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    match = _SIZE.match(text.strip())
    unit = match.group(2).removesuffix("B") if match else ""
    factor = _UNITS.get(unit.removesuffix("s"))
    if match is None or factor is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write e.g. 4096, 0x1000, 64Ki, 10G")
    digits = match.group(1)
    base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
    return int(digits, base) * factor * (sector_bytes if unit.endswith("s") else 1)


def count(text: str) -> int:
    """Return a whole number from 0.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return int(text)


def retries(text: str) -> int:
    """Return a number of retry passes, -1 for passes without end.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        return -1 if text == "-1" else count(text)
    except argparse.ArgumentTypeError as fault:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of retry passes; write e.g. 3, or -1 for passes without end"
        ) from fault


def share(text: str) -> float:
    """Return a share from 0 to 1.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # nor NaN
        raise argparse.ArgumentTypeError(f"{text!r} is no share from 0 to 1; write e.g. 0.99")
    return value


def interval(text: str) -> float:
    """Return seconds: 90, 1.5h, 1/2m, with s (the default), m, h or d behind.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    match = _INTERVAL.match(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write e.g. 90, 1.5m, 2h, 1d")
    whole, _, part = match.group(1).partition("/")
    return float(Fraction(whole) / int(part or 1) * _SECONDS[match.group(2)])


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


class SizeInSectors(argparse.Action):
    """A number of bytes whose `s` counts sectors of the `-b` typed before it, as GNU ddrescue's programs read it."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, *, sector: str, endless: bool = False, **others: object
    ) -> None:
        """Declare it.

        Args:
            option_strings: argparse's.
            dest: argparse's.
            sector: where the namespace keeps the sector's size (None there: 512).
            endless: -1 stands for no limit.
            others: argparse's.
        """
        super().__init__(option_strings, dest, **{"metavar": "BYTES", **others})  # type: ignore[arg-type]
        self._sector, self._endless = sector, endless

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Keep the value, as argparse asks."""
        if self._endless and values == "-1":
            setattr(namespace, self.dest, None)
            return
        try:
            size_bytes = size(str(values), sector_bytes=getattr(namespace, self._sector) or SECTOR_BYTES)
        except argparse.ArgumentTypeError as fault:
            raise argparse.ArgumentError(self, str(fault)) from fault
        if size_bytes > MAX_POSITION_BYTES:
            raise argparse.ArgumentError(self, f"{values} is over 2^63-1")
        setattr(namespace, self.dest, size_bytes)
