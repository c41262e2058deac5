"""Sampling: what a source is made of, by a few blocks from all over it: zeros, random bytes, or something.

A look for people, not evidence: it is bounded in reads and in time, for a drive that fails has better things to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np

from imaging.device import SAMPLE_BYTES, sample_offsets
from imaging.errors import ReadFault
from imaging.extent import Extent
from imaging.source import Source

SAMPLES = 256
MAX_SAMPLING_SECONDS = 2  # a slow drive is better imaged than looked at; some twenty reads tell enough
SPREAD = 8
MAX_UNREADABLE_SAMPLES = 8  # each may cost a failing drive seconds
RANDOM_ENTROPY_BITS = 7.9  # 4 KiB of random bytes have 7.95 a byte; float32 weights have about 7.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What the sampled blocks of a source hold.

    Attributes:
        read: how many could be read.
        zero: how many of these are only zeros.
        random: how many look like random bytes: encrypted or compressed.
        unreadable: how many could not be read.
    """

    read: int
    zero: int
    random: int
    unreadable: int


def sample(source: Source) -> Sampling:
    """Read a few blocks all over a source, for a few seconds; what was never read from the drive does not count."""
    read = zero = random = unreadable = 0
    until = monotonic() + MAX_SAMPLING_SECONDS
    for offset_bytes in _shuffled(sample_offsets(source.size_bytes, count=SAMPLES)):
        if monotonic() > until:
            break
        if source.unread is not None and source.unread.touches(
            Extent(offset_bytes=offset_bytes, size_bytes=SAMPLE_BYTES)
        ):
            continue
        try:
            data = np.frombuffer(source.read_at(offset_bytes, SAMPLE_BYTES), dtype=np.uint8)
        except ReadFault:
            unreadable += 1
            if unreadable >= MAX_UNREADABLE_SAMPLES:
                break
            continue
        read += 1
        zero += not data.any()
        random += _entropy_bits(data) >= RANDOM_ENTROPY_BITS
    return Sampling(read=read, zero=zero, random=random, unreadable=unreadable)


def _shuffled(offsets: Sequence[int]) -> Iterator[int]:
    """Yield all offsets in an order whose beginnings are already spread out, for a sampling that is cut short."""
    for step in range(SPREAD):
        yield from offsets[step::SPREAD]


def _entropy_bits(data: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> float:
    counts = np.bincount(data, minlength=256)
    shares = counts[counts > 0] / max(1, len(data))
    return float(-(shares * np.log2(shares)).sum())
