"""JSON stream: a large JSON object read value by value, its lists item by item, so that it is never held whole.

A report of a million files is gigabytes long. Python's own decoder takes each value; this finds where they begin.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

READ_CHARACTERS = 1 << 20
MAX_VALUE_CHARACTERS = 1 << 28  # one file with a million tensors
BLANKS = " \t\n\r"
ENDS = tuple(f"{BLANKS},:]}}")

_decode = json.JSONDecoder().raw_decode


def entries(file: TextIO) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of the object in a file, in order; of a list an iterator, good until the next key.

    What is no object yields nothing, if it is JSON at all.

    Raises:
        ValueError: it is no JSON, or one value in it is larger than any should be.
        RecursionError: it is nested too deeply.
        OSError: it cannot be read.
    """
    text = _Text(file)
    if text.next() != "{":
        text.value()
    elif text.skip("{").next() == "}":
        text.skip("}")
    else:
        yield from _members(text)
    if text.next():
        raise ValueError("something follows the end")


def _members(text: _Text) -> Iterator[tuple[str, Any]]:
    while True:
        if text.next() != '"':
            raise ValueError("a key is missing")
        key = text.value()
        text.skip(":")
        if text.next() == "[":
            items = _items(text.skip("["))
            yield key, items
            for _ in items:  # what nobody asked for
                pass
        else:
            yield key, text.value()
        if text.next() == "}":
            text.skip("}")
            return
        text.skip(",")


def _items(text: _Text) -> Iterator[Any]:
    if text.next() == "]":
        text.skip("]")
        return
    while True:
        yield text.value()
        if text.next() == "]":
            text.skip("]")
            return
        text.skip(",")


class _Text:
    """A file's text, of which only what is being looked at is held."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._held, self._at, self._ended = "", 0, False

    def next(self) -> str:
        """Return the next character that is no blank, without taking it; "" at the end."""
        while True:
            while self._at < len(self._held):
                if self._held[self._at] not in BLANKS:
                    return self._held[self._at]
                self._at += 1
            if not self._read(READ_CHARACTERS):
                return ""

    def skip(self, wanted: str) -> _Text:
        """Take a character that must come next."""
        if self.next() != wanted:
            raise ValueError(f"{wanted!r} is missing before {self._held[self._at : self._at + 20]!r}")
        self._at += 1
        return self

    def value(self) -> Any:  # noqa: ANN401 - a JSON value
        """Take the value that comes next; more is read until it is there as a whole."""
        self.next()
        while True:
            try:
                value, end = _decode(self._held, self._at)
            except ValueError:
                if not self._read(max(READ_CHARACTERS, len(self._held))):
                    raise
                continue
            if self._held[end : end + 1] not in ENDS and self._read(READ_CHARACTERS):  # a number may go on
                continue
            self._at = end
            return value

    def _read(self, characters: int) -> bool:
        """Hold more of the file, and nothing any more of what was taken; tell whether there was more."""
        if self._ended:
            return False
        self._held, self._at = self._held[self._at :], 0
        if len(self._held) > MAX_VALUE_CHARACTERS:
            raise ValueError(f"one value is longer than {MAX_VALUE_CHARACTERS} characters, or does not end")
        piece = self._file.read(characters)
        self._held += piece
        self._ended = not piece
        return bool(piece)
