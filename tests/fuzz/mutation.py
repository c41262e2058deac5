"""Mutations of whole files: flips, cuts, splices, doubled and lost stretches, inflated counts in binary and in text."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 4095, 65535, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1)
DIGITS = re.compile(rb"\d{1,19}")
MAX_OPERATIONS = 6
MAX_STRETCH = 512
Seeds = Sequence[bytes]


def mutated(chance: random.Random, seeds: Seeds) -> bytes:
    """Return one of the seeds, changed in one to six ways."""
    content = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, MAX_OPERATIONS)):
        if not content:
            break
        chance.choice(OPERATIONS)(chance, content, seeds)
    return bytes(content)


def _flip(chance: random.Random, content: bytearray, seeds: Seeds) -> None:
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _byte(chance: random.Random, content: bytearray, seeds: Seeds) -> None:
    content[chance.randrange(len(content))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _number(chance: random.Random, content: bytearray, seeds: Seeds) -> None:
    width = chance.choice((2, 4, 8))
    value = chance.choice((*NUMBERS, len(content), len(content) + chance.randint(-64, 64)))
    at = chance.randrange(len(content))
    content[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, chance.choice(("little", "big")))


def _text_number(chance: random.Random, content: bytearray, seeds: Seeds) -> None:
    at = chance.randrange(len(content))
    found = DIGITS.search(content, at, at + 4096)
    if found:
        content[found.start() : found.end()] = str(chance.choice(NUMBERS)).encode()


def _cut(chance: random.Random, content: bytearray, seeds: Seeds) -> None:
    del content[chance.randrange(len(content)) :]


def _lose(chance: random.Random, content: bytearray, seeds: Seeds) -> None:
    at = chance.randrange(len(content))
    del content[at : at + chance.randint(1, MAX_STRETCH)]


def _double(chance: random.Random, content: bytearray, seeds: Seeds) -> None:
    at = chance.randrange(len(content))
    content[at:at] = content[at : at + chance.randint(1, MAX_STRETCH)] * chance.choice((1, 1, 2, 16))


def _splice(chance: random.Random, content: bytearray, seeds: Seeds) -> None:
    other = chance.choice(seeds)
    if other:
        first, at, size = chance.randrange(len(other)), chance.randrange(len(content)), chance.randint(1, MAX_STRETCH)
        content[at : at + size] = other[first : first + size]


def _copy_within(chance: random.Random, content: bytearray, seeds: Seeds) -> None:
    size = chance.choice((1, 2, 4, 8, 16))
    first, at = chance.randrange(len(content)), chance.randrange(len(content))
    content[at : at + size] = content[first : first + size]


def _zeros(chance: random.Random, content: bytearray, seeds: Seeds) -> None:
    at = chance.randrange(len(content))
    size = min(chance.randint(1, MAX_STRETCH), len(content) - at)
    content[at : at + size] = bytes(size)


OPERATIONS: tuple[Callable[[random.Random, bytearray, Seeds], None], ...] = (
    _flip, _flip, _byte, _number, _number, _text_number, _cut, _lose, _double, _splice, _copy_within, _zeros,
)  # fmt: skip
