"""Python literals in file headers: strings, whole numbers, the three words, tuples, lists, dicts. None is evaluated."""

from __future__ import annotations

import re
from collections import deque
from typing import Final

MAX_DEPTH: Final = 16
MAX_CHARACTERS: Final = 1 << 20
BLANKS: Final = " \t\f\r\n"  # Python's own; no others

_TOKEN = re.compile(
    r"""[ \t\f\r\n]*(?:(?P<mark>[\[\](){},:])|u?'(?P<single>(?:[^'\\\0\r\n]|\\.)*)'"""
    r"""|u?"(?P<double>(?:[^"\\\0\r\n]|\\.)*)\""""
    r"""|(?P<number>-?(?:0+|[1-9][0-9]{0,19}))L?(?![0-9A-Za-z_])|(?P<word>True|False|None)\b)"""
)
_WORDS: Final = {"True": True, "False": False, "None": None}
_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}


def read_literal(text: str) -> object:
    """Return the value; escapes within strings are kept as they stand.

    Raises:
        ValueError: it is no literal, or nested too deep.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError("too long")
    tokens: deque[tuple[str, str]] = deque()
    text, at = text.rstrip(BLANKS), 0
    while at < len(text):
        met = _TOKEN.match(text, at)
        if met is None or met.lastgroup is None:
            raise ValueError(f"no literal at {at}")
        tokens.append((met.lastgroup, met[met.lastgroup]))
        at = met.end()
    value = _value(tokens, 0)
    if tokens:
        raise ValueError("more than one literal")
    return value


def _value(tokens: deque[tuple[str, str]], depth: int) -> object:
    if not tokens or depth > MAX_DEPTH:
        raise ValueError("ends early, or nested too deep")
    kind, word = tokens.popleft()
    if kind == "number":
        return int(word)
    if kind == "word":
        return _WORDS[word]
    if kind != "mark":
        return word
    if word not in _CLOSING:
        raise ValueError(f"{word} stands where a value should")
    return _group(tokens, word, depth + 1)


def _group(tokens: deque[tuple[str, str]], opening: str, depth: int) -> object:
    """Return the tuple, list or dict of which the opening bracket has been taken."""
    items: list[object] = []
    keys: list[object] = []
    comma = False
    while not _taken(tokens, _CLOSING[opening]):
        if items and not comma:
            raise ValueError("a comma is missing")
        if opening == "{":
            keys.append(_value(tokens, depth))
            if not isinstance(keys[-1], str) or not _taken(tokens, ":"):
                raise ValueError("no key")
        items.append(_value(tokens, depth))
        comma = _taken(tokens, ",")
    if opening == "{":
        return dict(zip(keys, items, strict=True))
    if opening == "[":
        return items
    return items[0] if len(items) == 1 and not comma else tuple(items)


def _taken(tokens: deque[tuple[str, str]], mark: str) -> bool:
    if not tokens:
        raise ValueError("ends early")
    if tokens[0] != ("mark", mark):
        return False
    tokens.popleft()
    return True
