"""Map lines: the grammar of a mapfile's lines, one by one; what they add up to is `imaging.mapfile`'s.

The grammar is the one of ddrescue's manual, chapter "Mapfile structure", and what the manual leaves open is settled
by what `ddrescuelog` 1.27 accepts and refuses. Numbers are written as C writes integer constants (a leading 0 is
octal), and a `#` at the start of a line or after white space ends the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from imaging.errors import MapfileError
from imaging.extent import Extent, span

MAX_OFFSET_BYTES = 2**63 - 1  # ddrescue's positions are signed 64-bit; what is over is clamped
BLOCK_STATUSES = "?*/-+"
CURRENT_STATUSES = "?*/-FG+"

_BLANK = r"[ \t\v\f\r]*+"  # C's isspace; quantifiers are possessive because scanf never takes a character back
_INTEGER = r"([+-]?+(?>0[xX][0-9a-fA-F]*+|0[0-7]*+|[1-9][0-9]*+))"
_COMMENT = re.compile(r"(?:^|(?<=[ \t\v\f\r]))#|\0")  # C's strings end at a NUL
_STATUS_LINE = re.compile(rf"{_BLANK}{_INTEGER}{_BLANK}([^ \t\v\f\r]){_BLANK}([+-]?+[0-9]++)?")
_BLOCK_LINE = re.compile(rf"{_BLANK}{_INTEGER}{_BLANK}{_INTEGER}{_BLANK}([^ \t\v\f\r])")


def content_lines(text: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield each line that is more than a comment: where it stands, for a complaint, and what it says."""
    for number, line in enumerate(text.split("\n"), start=1):
        comment = _COMMENT.search(line)
        content = (line[: comment.start()] if comment else line).strip(" \t\v\f\r")
        if content or (comment and comment[0] == "\0"):
            yield f"{name}, line {number}", content


def status_line(content: str, where: str) -> tuple[int, str, int]:
    """Return position in bytes, current status and pass.

    Raises:
        MapfileError: it is no status line.
    """
    found = _STATUS_LINE.match(content)
    if not found:
        raise MapfileError(f"{where}: expected `position status [pass]`, found {_shown(content)}")
    position_bytes, status, current_pass = _number(found[1]), found[2], _as_c_int(found[3] or "1")
    if position_bytes < 0:
        raise MapfileError(f"{where}: the position {position_bytes} is negative")
    if status not in CURRENT_STATUSES:
        raise MapfileError(f"{where}: {status!r} is no current status; those are {' '.join(CURRENT_STATUSES)}")
    if current_pass < 1:
        raise MapfileError(f"{where}: the pass {found[3]} is not 1 or more")
    return position_bytes, status, current_pass


def block_line(content: str, where: str) -> tuple[Extent, str]:
    """Return a block, and the character of its status.

    Raises:
        MapfileError: it is no block line.
    """
    found = _BLOCK_LINE.match(content)
    if not found:
        raise MapfileError(f"{where}: expected `position size status`, found {_shown(content)}")
    offset_bytes, size_bytes, status = _number(found[1]), _number(found[2]), found[3]
    if offset_bytes < 0 or size_bytes < 0:
        raise MapfileError(f"{where}: a position or size is negative")
    if size_bytes == 0 and offset_bytes != 0:
        raise MapfileError(f"{where}: the block at {offset_bytes:#x} has size 0")
    if status not in BLOCK_STATUSES:
        raise MapfileError(f"{where}: {status!r} is no block status; those are {' '.join(BLOCK_STATUSES)}")
    return span(offset_bytes, min(offset_bytes + size_bytes, MAX_OFFSET_BYTES)), status


def _shown(content: str) -> str:
    """Return the start of a line that is not understood; of bytes that are no text, that they are none."""
    text = content[:60].replace("\t", " ")
    return repr(text) if text.isascii() and text.isprintable() and text else "bytes that are no text: it is no mapfile"


def _number(digits: str) -> int:
    """Read an integer as C's `strtoll` does with base 0, clamped."""
    sign, digits = (-1, digits[1:]) if digits[0] == "-" else (1, digits.removeprefix("+"))
    if digits[:2] in ("0x", "0X"):
        value = int(digits[2:] or "0", 16)
    elif digits[0] == "0":
        value = int(digits, 8)
    else:
        value = _decimal(digits)
    return sign * min(value, MAX_OFFSET_BYTES)


def _decimal(digits: str) -> int:
    """Read decimal digits; beyond 20 of them any number over 2^64 will do (Python refuses thousands)."""
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= 20 else 10**20


def _as_c_int(digits: str) -> int:
    """Read an integer as C's `%d` does: a long, clamped, of which an int keeps the low 32 bits."""
    value = min(_decimal(digits.lstrip("+-")), MAX_OFFSET_BYTES)
    signed = -value if digits[0] == "-" else value
    return (signed + 2**31) % 2**32 - 2**31
