"""Pickle opcodes read one by one from bytes, bounded, without running any."""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Iterator
from typing import Any, Final

MAX_OPCODES = 20_000_000  # of a list of numbers, one each
MAX_DIGITS = 4000  # Python itself refuses more
MAX_PICKLE_BYTES = 256 << 20


class OverlongError(ValueError):
    """A pickle has more opcodes than are read."""


def opcodes(raw: bytes) -> Iterator[tuple[str, Any, int]]:
    """Yield (name, argument, end) of each opcode; stops where the bytes end.

    Lenient where Python's own disassembler is strict (quotes, escapes, encodings), so that a pickle that still loads
    cannot hide what it imports behind an argument that only the disassembler refuses.

    Raises:
        KeyError: a byte is no opcode.
        ValueError, IndexError: an argument is cut short.
        OverlongError: there are more than `MAX_OPCODES`.
    """
    at = 0
    for _ in range(MAX_OPCODES):
        if at >= len(raw):
            return
        name, kind = _OPCODES[raw[at]]
        argument, at = _argument(raw, at + 1, kind) if kind else (None, at + 1)
        yield name, argument, at
    raise OverlongError(f"more than {MAX_OPCODES:,} opcodes")


def _argument(raw: bytes, at: int, kind: str) -> tuple[Any, int]:
    fixed = _FIXED.get(kind)
    if fixed is not None:
        if at + fixed.size > len(raw):
            raise ValueError("cut short")
        return fixed.unpack_from(raw, at)[0], at + fixed.size
    counted = _COUNTED.get(kind)
    if counted is not None:
        size_bytes, at = _argument(raw, at, counted)
        if not 0 <= size_bytes <= len(raw) - at:
            raise ValueError("longer than what is left")
        return _counted(raw[at : at + size_bytes], kind), at + size_bytes
    line, at = _line(raw, at, "raw-unicode-escape" if kind == "unicodestringnl" else "utf-8")
    if kind == "stringnl_noescape_pair":
        second, at = _line(raw, at)
        return f"{line} {second}", at
    if kind.startswith("decimalnl"):
        return {"00": False, "01": True}[line] if line in ("00", "01") else _integer(line), at
    if kind == "floatnl":
        return _float(line), at
    return (line if kind == "unicodestringnl" else line.strip("'\"")), at


def _integer(line: str) -> object:
    """Return a number as the loader does: any base, and what follows a NUL does not count; else the text itself."""
    digits = line.partition("\0")[0].strip().rstrip("L")
    for base in (10, 0):
        try:
            return int(digits[:MAX_DIGITS], base)
        except ValueError:
            continue
    return line


def _float(line: str) -> object:
    try:
        return float(line.partition("\0")[0])
    except ValueError:
        return line


def _counted(piece: bytes, kind: str) -> object:
    if kind.startswith("long"):
        return int.from_bytes(piece, "little", signed=True)
    return piece.decode("utf-8", "replace") if kind.startswith(("unicode", "string")) else piece


def _line(raw: bytes, at: int, encoding: str = "utf-8") -> tuple[str, int]:
    end = raw.index(b"\n", at)
    return raw[at:end].decode(encoding, "replace").strip("\r"), end + 1


_OPCODES: Final = {
    ord(opcode.code): (opcode.name, opcode.arg.name if opcode.arg else "") for opcode in pickletools.opcodes
}
_FIXED: Final = {
    "uint1": struct.Struct("<B"),
    "uint2": struct.Struct("<H"),
    "int4": struct.Struct("<i"),
    "uint4": struct.Struct("<I"),
    "uint8": struct.Struct("<Q"),
    "float8": struct.Struct(">d"),
}
_COUNTED: Final = {
    "string1": "uint1",
    "string4": "int4",
    "bytes1": "uint1",
    "bytes4": "uint4",
    "bytes8": "uint8",
    "bytearray8": "uint8",
    "unicodestring1": "uint1",
    "unicodestring4": "uint4",
    "unicodestring8": "uint8",
    "long1": "uint1",
    "long4": "int4",
}
