"""Visible: text from inside recovered files, made safe to show.

Names in a recovered file are evidence and may be hostile: a newline forges a row, an escape sequence drives the
terminal, a bidi override turns `gnp.exe` round. What does not print is shown by its code point.
"""

from __future__ import annotations

NAME_CHARACTERS = 240


def visible(text: str) -> str:
    """Return `text` with every character that does not print (controls, bidi overrides, joiners) as ⟨U+202E⟩."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"⟨U+{ord(c):04X}⟩" for c in text)


def shortened(text: str, limit: int = NAME_CHARACTERS) -> str:
    """Return `text` cut in the middle to about `limit` characters, saying how many are left out."""
    if len(text) <= limit:
        return text
    keep = limit // 2
    return f"{text[:keep]} … {len(text) - 2 * keep:,} characters … {text[-keep:]}"
