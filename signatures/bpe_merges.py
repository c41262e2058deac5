"""Merges of a byte-pair tokenizer (`merges.txt`): two tokens a line; there is no mark at its end.

Source of the facts: transformers' and openai/gpt-2's files: the first line is `#version: 0.2`, each other holds two
tokens and one blank between them. The file ends with the last line that keeps to this.
"""

from __future__ import annotations

import re

from imaging.window import Window
from signatures.format import Format, Pattern
from signatures.verdict import Finding, Grade, Verdict, rejected

MAX_FILE_BYTES = 32 << 20
MIN_MERGES = 3
HEAD = b"#version: 0."
LINES = re.compile(
    rb"#version: 0\.[0-9]{1,2}[^\n\0]{0,80}\n(?:[^ \n\r\t\0]{1,512} [^ \n\r\t\0]{1,512}\r?(?:\n|(?=\0)|\Z))*"
)


def validate(window: Window) -> Verdict:
    """Judge a file that would begin at the window's start."""
    met = LINES.match(_read_text(window))
    if met is None:
        return rejected("first-line", at_bytes=0)
    text = _whole_characters(met[0])
    merges = text.count(b"\n") - text.endswith(b"\n")
    if merges < MIN_MERGES:
        return rejected("merges", at_bytes=text.find(b"\n") + 1)
    finding = Finding(
        code="no-end-mark",
        offset_bytes=len(text),
        detail="the format has no mark at its end: lines that were cut off here would not be missed",
    )
    facts = {"kind": "merges.txt", "merges": merges, "name": "merges", "name_source": "format"}
    return Verdict(grade=Grade.CONSISTENT, size_bytes=len(text), findings=(finding,), facts=facts)


def _read_text(window: Window) -> bytes:
    """Return the bytes up to a zero, and that, or to the limit."""
    pieces = []
    for piece in window.chunks(0, MAX_FILE_BYTES, chunk_bytes=1 << 16):
        text, zero, _ = piece.partition(b"\0")
        pieces += [text, zero]
        if zero:
            break
    return b"".join(pieces)


def _whole_characters(text: bytes) -> bytes:
    """Return the lines before the first that is no UTF-8: what follows the file may look like one more."""
    try:
        text.decode()
    except UnicodeDecodeError as fault:
        return text[: text.rfind(b"\n", 0, fault.start) + 1]
    return text


FORMAT = Format(
    name="bpe_merges",
    suffix=".txt",
    title="Merges of a byte-pair tokenizer (merges.txt, side file)",
    patterns=(Pattern(bytes=HEAD, alignment_bytes=512),),
    validate=validate,
    proves="nothing; each line must hold two tokens",
    side=True,
)
