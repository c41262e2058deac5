"""List of SHA-256 sums, as sha256sum and `shasum -a 256` write them: a name and the hash of a file that lies elsewhere.

Source of the facts: the manual of GNU coreutils, sha2 utilities: hash, a blank, a blank or "*" (binary), the name, a
line feed. A list ends with the last line that keeps to this; names with a backslash in front (escaped) are left out.
"""

from __future__ import annotations

import re

from imaging.window import Window
from signatures.format import Format, SectorProbe
from signatures.verdict import Finding, Grade, Verdict, rejected

MAX_FILE_BYTES = 4 << 20
MAX_FILES = 10_000
HEX = b"0123456789abcdef"
PROBE_DIGITS = 24
LINES = re.compile(rb"(?:[0-9a-f]{64} [ *][^\0\r\n\\]{1,4096}\r?(?:\n|(?=\0)|\Z))+")
LINE = re.compile(rb"([0-9a-f]{64}) [ *]([^\r\n]+)")


def validate(window: Window) -> Verdict:
    """Judge a list that would begin at the window's start."""
    met = LINES.match(_read_text(window))
    if met is None:
        return rejected("grammar", at_bytes=0)
    try:
        sums = [(one[1].decode(), one[2].decode()) for one in LINE.finditer(met[0])]
    except UnicodeDecodeError:
        return rejected("not-utf-8", at_bytes=0)
    if len(sums) > MAX_FILES:
        return rejected("too-long", at_bytes=0)
    detail = "the format has no mark at its end: lines that were cut off here would not be missed"
    facts = {"kind": "SHA-256 list", "sums": [{"sha256": digest, "name": name} for digest, name in sums]}
    finding = Finding(code="no-end-mark", offset_bytes=met.end(), detail=detail)
    return Verdict(grade=Grade.CONSISTENT, size_bytes=met.end(), findings=(finding,), facts=facts)


def _read_text(window: Window) -> bytes:
    """Return the bytes up to a zero, and that, or to the limit."""
    text, zero, _ = window.read_at(0, 1 << 14).partition(b"\0")
    if not zero and LINE.match(text):
        text, zero, _ = window.read_at(0, MAX_FILE_BYTES).partition(b"\0")
    return text + zero


FORMAT = Format(
    name="sha256_list",
    suffix=".sha256",
    title="List of SHA-256 sums (sha256sum, side file)",
    patterns=(),
    probes=(SectorProbe(allowed=(HEX,) * PROBE_DIGITS),),
    validate=validate,
    proves="nothing of its own; a recovered file of one of its sums is proven, and named",
    side=True,
)
