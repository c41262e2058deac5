"""Fingerprints: which four bytes of each pattern the prefilter looks for, and the tables that find them.

A fingerprint is four bytes in a row, at a place of the pattern that is good to look for: rare on disks, and like the
fingerprints of other patterns. Up to eight groups of fingerprints, the *buckets*, are looked for at once. For each of
the four bytes a table tells, by the byte's low half (its low *nibble*), which buckets allow it: a set of buckets is
eight bits, one byte. For the first byte another table tells the same by the high nibble. Where the AND of all look-ups
leaves a bucket, a fingerprint may begin; `carver.kernels` tells how sixteen or thirty-two places are asked at a time.

Which place of a pattern to take, and which bucket to put it in, decides how often the prefilter is wrong. Patterns are
taken in turn, those with the fewest places first, and each gets the place and bucket that raise the expected share of
wrong places least, over three kinds of bytes: random (compressed data, weights), text, and binaries full of zeros.
Then each is taken out and put back some times, as the others have settled by then.

Low nibbles are looked up by the whole byte: the instruction (`pshufb`) answers nothing for bytes from 0x80 on, which
spares the masking and halves the wrong answers. So a fingerprint is of plain bytes (below 0x80), but for the first,
which is always masked: many magics begin so. Only if some pattern has no such place, all bytes are masked (`masked`)
and the high nibble of the last byte is looked up too, which makes the prefilter slower by a third.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

FINGERPRINT_BYTES = 4
PLACES = 32  # near the front: whatever lies before a fingerprint is walked each time it is met
BUCKETS = 8
HIGH_PLACES = (0, 3)  # bytes with a table for the high nibble too; without masks the first table is enough
LOOK_UPS = FINGERPRINT_BYTES + len(HIGH_PLACES)
ROUNDS = 6
WEIGHTS = (8.0, 1.0, 1.0)  # of random bytes, text, binaries: weights and compressed data are most of a disk
HASH_BITS = 13
HASH_FACTOR = 0x9E3779B1  # 2 ** 32 / golden ratio: spreads the low bits over the high ones
PAIR_WEIGHT = 0.03  # the portable prefilter sees pairs alone: zeros and spaces must not pass it

Masks = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float32]
TEXT = (
    b" " * 12
    + b"""eeeeeeeetttttaaaaoooiiinnnsssrrrhhllddccuummffppggwwyybbvk0123456789__..,,--""''()=/:;
ETAOINSRCPK{}<>*#xqzj
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprints:
    """What the prefilter looks for.

    Attributes:
        places: where in pattern i its fingerprint lies.
        nibbles: sets of buckets by nibble, uint8, shape (LOOK_UPS, 16): low nibbles of bytes 0 to 3, then
            the high ones of bytes 0 and 3 (the last is not asked unless `masked`).
        masked: whether bytes from 0x80 on belong to fingerprints, elsewhere than first.
        spans: by hash of four bytes, how many bytes from there a pattern can take; 0: no fingerprint; int32.
        pairs: by pair `low | high << 8`: 1 if it ends a fingerprint, 2 if it lies in the middle of one, 3: both; uint8.
        lead_bytes: how many bytes of a pattern can lie before its fingerprint.
    """

    places: tuple[int, ...]
    nibbles: npt.NDArray[np.uint8]
    masked: bool
    spans: npt.NDArray[np.int32]
    pairs: npt.NDArray[np.uint8]
    lead_bytes: int


@lru_cache(maxsize=8)
def choose(keys: tuple[bytes, ...]) -> Fingerprints:
    """Choose the fingerprints of these patterns, each of four bytes or more."""
    masked = not all(any(_plain(window) for window in _windows(key)) for key in keys)
    options = [_options(key, masked=masked) for key in keys]
    chosen = _settle(options, masked=masked)
    nibbles = np.zeros((LOOK_UPS, 16), np.uint8)
    spans = np.zeros(1 << HASH_BITS, np.int32)
    pairs = np.zeros(1 << 16, np.uint8)
    places = []
    for key, option, (index, bucket) in zip(keys, options, chosen, strict=True):
        place = int(option.places[index])
        places.append(place)
        window = key[place : place + FINGERPRINT_BYTES]
        for row, nibble in enumerate(_nibbles(window)):
            nibbles[row, nibble] |= 1 << bucket
        spans[hashed(window)] = max(int(spans[hashed(window)]), len(key) - place)
        pairs[window[2] | window[3] << 8] |= 1
        pairs[window[1] | window[2] << 8] |= 2
    return Fingerprints(
        places=tuple(places),
        nibbles=nibbles,
        masked=masked,
        spans=spans,
        pairs=pairs,
        lead_bytes=max(places, default=0),
    )


def hashed(window: bytes) -> int:
    """Return the hash of four bytes, an index of `Fingerprints.spans`."""
    return (int.from_bytes(window, "little") * HASH_FACTOR & 0xFFFFFFFF) >> (32 - HASH_BITS)


def _windows(key: bytes) -> list[bytes]:
    return [key[i : i + FINGERPRINT_BYTES] for i in range(min(len(key) - FINGERPRINT_BYTES + 1, PLACES))]


def _plain(window: bytes) -> bool:
    return max(window[1:]) < 0x80


def _nibbles(window: bytes) -> list[int]:
    """Return what is looked up of a fingerprint, in the order of the tables."""
    return [value & 15 for value in window] + [window[place] >> 4 for place in HIGH_PLACES]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """A pattern's possible fingerprints: places, bits a look-up (shape (n, LOOK_UPS)), cost of the pairs."""

    places: npt.NDArray[np.int64]
    bits: Masks
    pair_cost: Floats


def _options(key: bytes, *, masked: bool) -> _Options:
    windows = _windows(key)
    places = [i for i, window in enumerate(windows) if masked or _plain(window)]
    bits = [[1 << nibble for nibble in _nibbles(windows[i])] for i in places]
    shares = _backgrounds()
    costs = [sum(s[w[2]] * (s[w[1]] + s[w[3]]) for s in shares) for w in (windows[i] for i in places)]
    return _Options(
        places=np.array(places),
        bits=np.array(bits, np.uint16).reshape(-1, LOOK_UPS),
        pair_cost=np.array(costs, np.float32) * np.float32(PAIR_WEIGHT),
    )


def _settle(options: Sequence[_Options], *, masked: bool) -> list[tuple[int, int]]:
    """Return (index into its options, bucket) for each pattern."""
    chosen = [(-1, -1)] * len(options)
    order = sorted(range(len(options)), key=lambda i: len(options[i].places))  # stable: the same for the same patterns
    for _ in range(ROUNDS):
        before = list(chosen)
        for number in order:
            chosen[number] = (-1, -1)
            chosen[number] = _best(options[number], _buckets(options, chosen), masked=masked)
        if chosen == before:
            break
    return chosen


def _buckets(options: Sequence[_Options], chosen: Sequence[tuple[int, int]]) -> Masks:
    """Return which nibbles each bucket allows, shape (BUCKETS, LOOK_UPS)."""
    masks = np.zeros((BUCKETS, LOOK_UPS), np.uint16)
    for option, (index, bucket) in zip(options, chosen, strict=True):
        if bucket >= 0:
            masks[bucket] |= option.bits[index]
    return masks


def _best(option: _Options, buckets: Masks, *, masked: bool) -> tuple[int, int]:
    joined = buckets[None] | option.bits[:, None]
    cost = _pass_rate(joined, masked=masked) - _pass_rate(buckets, masked=masked)[None] + option.pair_cost[:, None]
    index, bucket = divmod(int(cost.argmin()), BUCKETS)
    return index, bucket


def _pass_rate(masks: Masks, *, masked: bool) -> Floats:
    """Return the expected share of places that pass, summed over the backgrounds; `masks` has shape (…, LOOK_UPS)."""
    total = np.zeros(masks.shape[:-1], np.float32)
    for weight, (low, plain_low, high) in zip(WEIGHTS, _shares_of_masks(), strict=True):
        others = low if masked else plain_low
        tables = [low, others, others, others, high, high] if masked else [low, others, others, others, high]
        rate = np.ones(masks.shape[:-1], np.float32)
        for row, shares in enumerate(tables):
            rate *= shares[masks[..., row]]
        total += np.float32(weight) * rate
    return total


@cache
def _backgrounds() -> tuple[Floats, ...]:
    """Return how often each byte is met: in random data, in text, in binaries."""
    random = np.full(256, 1 / 256)
    text = np.bincount(np.frombuffer(TEXT, np.uint8), minlength=256) / len(TEXT)
    binary = random * 0.3
    binary[0] += 0.5
    binary[1:16] += 0.1 / 15
    binary[0xFF] += 0.1
    return tuple(shares.astype(np.float32) for shares in (random, text, binary))


@cache
def _shares_of_masks() -> tuple[tuple[Floats, Floats, Floats], ...]:
    """Return by set how often a byte's low nibble, a plain byte's, and a high nibble is in it; a background each."""
    grids = [shares.reshape(16, 16) for shares in _backgrounds()]
    return tuple((_sums(grid.sum(axis=0)), _sums(grid[:8].sum(axis=0)), _sums(grid.sum(axis=1))) for grid in grids)


def _sums(shares: Floats) -> Floats:
    sums = np.zeros(1, np.float32)
    for share in shares:  # bit by bit: the sets without it, then those with it
        sums = np.concatenate((sums, sums + share))
    return sums
