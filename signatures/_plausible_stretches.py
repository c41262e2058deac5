"""Stretches: blocks of one kind that is no tensor's own, put together over a few others between them.

A program, a picture or another model's numbers are not alike in every block. Only what begins or ends inside a tensor,
beside blocks that look like its weights, is told: a tensor that is odd throughout was made so.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

BLOCK_BYTES: Final = 4096
FILL_BYTES: Final = 8 * BLOCK_BYTES  # of other blocks between two
LEAST_BYTES: Final = 4 * BLOCK_BYTES
BESIDE_BYTES: Final = 2 * BLOCK_BYTES  # of weights


@dataclass(slots=True)
class Span:
    """Bytes of one kind, in the file's own offsets."""

    start: int
    end: int
    kind: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The first and the last of some spans."""

    first: int
    last: int


def stretches(spans: Sequence[Span], kinds: Container[int]) -> Iterator[Stretch]:
    """Yield the stretches that are mostly of `kinds`, and of 16 KiB of these at least."""
    first = last = -1
    own_bytes = 0
    for number, one in enumerate(spans):
        if one.kind not in kinds:
            continue
        if first >= 0 and one.start - spans[last].end > FILL_BYTES:
            yield from _stretch(spans, first, last, own_bytes)
            first, own_bytes = -1, 0
        first = number if first < 0 else first
        last = number
        own_bytes += one.end - one.start
    if first >= 0:
        yield from _stretch(spans, first, last, own_bytes)


def _stretch(spans: Sequence[Span], first: int, last: int, own_bytes: int) -> Iterator[Stretch]:
    if own_bytes >= LEAST_BYTES and 2 * own_bytes >= spans[last].end - spans[first].start:
        yield Stretch(first=first, last=last)


def beside(spans: Sequence[Span], number: int, step: int) -> Span | None:
    """Return the span before (step -1) or behind (1) one, over a block that may be half the one and half the other."""
    one = spans[number]
    for _ in range(2):
        number += step
        if not 0 <= number < len(spans):
            return None
        near = spans[number]
        if (near.end != one.start) if step < 0 else (near.start != one.end):
            return None
        if near.end - near.start > BLOCK_BYTES:
            return near
        one = near
    return None
