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

What comes out depends on the order in which they are taken, so some orders are tried and the best outcome counts.

Low nibbles are looked up by the whole byte: the instruction (`pshufb`) answers nothing for bytes from 0x80 on, which
spares the masking and halves the wrong answers. So a fingerprint is of plain bytes (below 0x80), but for the first,
which is always masked: many magics begin so. Only if some pattern has no such place, vectors cannot be used (`plain`),
and the prefilter goes by pairs of bytes, slower by more than half; no format here has one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

FINGERPRINT_BYTES = 4
PLACES = 32  # near the front: whatever lies before a fingerprint is walked each time it is met
BUCKETS = 8
LOOK_UPS = FINGERPRINT_BYTES + 1  # low nibbles, and the high one of the first byte
ROUNDS = 6
TRIES = 3
WEIGHTS = (8.0, 4.0, 4.0)  # of random bytes, text, binaries: weights and compressed data are most of a disk
HASH_BITS = 13
HASH_FACTOR = 0x9E3779B1  # 2 ** 32 / golden ratio: spreads the low bits over the high ones
FIRST_PAIR = 4  # of a mark
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
        nibbles: sets of buckets by nibble, uint8, shape (LOOK_UPS, 16): low nibbles of bytes 0 to 3, then the high one
            of byte 0.
        plain: whether no byte from 0x80 on belongs to a fingerprint, elsewhere than first.
        spans: by hash of four bytes, how many bytes from there a pattern can take; 0: no fingerprint; int32.
        pairs: by pair `low | high << 8`: 4 if it begins a fingerprint, 2 if it lies in the middle of one, 1 if it ends
            one; uint8.
        lead_bytes: how many bytes of a pattern can lie before its fingerprint.
    """

    places: tuple[int, ...]
    nibbles: npt.NDArray[np.uint8]
    plain: bool
    spans: npt.NDArray[np.int32]
    pairs: npt.NDArray[np.uint8]
    lead_bytes: int


@lru_cache(maxsize=8)
def choose(keys: tuple[bytes, ...]) -> Fingerprints:
    """Choose the fingerprints of these patterns, each of four bytes or more."""
    plain = all(any(_plain(window) for window in _windows(key)) for key in keys)
    options = [_options(key, plain=plain) for key in keys]
    chosen = min((_settle(options, order) for order in _orders(keys, options)), key=lambda c: _cost(options, c))
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
        for back, pair in _pairs(window):
            pairs[pair[0] | pair[1] << 8] |= FIRST_PAIR >> back
    return Fingerprints(
        places=tuple(places),
        nibbles=nibbles,
        plain=plain,
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
    return [value & 15 for value in window] + [window[0] >> 4]


def _pairs(window: bytes) -> list[tuple[int, bytes]]:
    """Return by which pairs a fingerprint is seen without vectors, as (how far behind its start, pair).

    At an odd place that is the one in its middle, at an even one the rarer of the others.
    """
    ends = [(0, window[:2]), (2, window[2:])]
    return [(1, window[1:3]), min(ends, key=lambda end: _share(end[1]))]


def _share(pair: bytes) -> float:
    """Return how often a pair is met, summed over the backgrounds."""
    return float(sum(shares[pair[0]] * shares[pair[1]] for shares in _backgrounds()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """A pattern's possible fingerprints, n of them.

    Attributes:
        places: where in the pattern they lie, shape (n,).
        nibbles: which nibbles are looked up, shape (n, LOOK_UPS, 16).
        masks: the same as bits of a number, shape (n, LOOK_UPS).
        pair_cost: how often their pairs are met, shape (n,).
    """

    places: npt.NDArray[np.int64]
    nibbles: npt.NDArray[np.bool_]
    masks: Masks
    pair_cost: Floats


def _options(key: bytes, *, plain: bool) -> _Options:
    windows = _windows(key)
    places = [i for i, window in enumerate(windows) if _plain(window) or not plain]
    nibbles = np.array([_nibbles(windows[i]) for i in places])[..., None] == np.arange(16)
    costs = [sum(_share(pair) for _, pair in _pairs(windows[i])) for i in places]
    return _Options(
        places=np.array(places),
        nibbles=nibbles,
        masks=_masks(nibbles),
        pair_cost=np.array(costs, np.float32) * np.float32(PAIR_WEIGHT),
    )


def _orders(keys: Sequence[bytes], options: Sequence[_Options]) -> list[list[int]]:
    """Return in which orders to try: whatever order the keys come in, the outcome is the same."""
    fewest_first = sorted(range(len(keys)), key=lambda i: (len(options[i].places), keys[i]))
    shuffle = random.Random(TRIES).sample
    return [fewest_first, *(shuffle(fewest_first, len(keys)) for _ in range(TRIES - 1))]


def _settle(options: Sequence[_Options], order: Sequence[int]) -> list[tuple[int, int]]:
    """Return (index into its options, bucket) for each pattern."""
    chosen = [(-1, -1)] * len(options)
    users = np.zeros((BUCKETS, LOOK_UPS, 16), np.int16)  # how many fingerprints of a bucket have a nibble
    for _ in range(ROUNDS):
        before = list(chosen)
        for number in order:
            option, (index, bucket) = options[number], chosen[number]
            if bucket >= 0:
                users[bucket] -= option.nibbles[index]
            index, bucket = chosen[number] = _best(option, _masks(users > 0))
            users[bucket] += option.nibbles[index]
        if chosen == before:
            break
    return chosen


def _cost(options: Sequence[_Options], chosen: Sequence[tuple[int, int]]) -> float:
    users = np.zeros((BUCKETS, LOOK_UPS, 16), bool)
    for option, (index, bucket) in zip(options, chosen, strict=True):
        users[bucket] |= option.nibbles[index]
    pairs = sum(float(option.pair_cost[index]) for option, (index, _) in zip(options, chosen, strict=True))
    return float(_pass_rate(_masks(users)).sum()) + pairs


def _best(option: _Options, buckets: Masks) -> tuple[int, int]:
    """Return the place (an index into the options) and bucket that raise the share of wrong places least."""
    rates = _pass_rate(np.concatenate((buckets[None], buckets[None] | option.masks[:, None])))
    cost = rates[1:] - rates[0] + option.pair_cost[:, None]
    index, bucket = divmod(int(cost.argmin()), BUCKETS)
    return index, bucket


def _masks(nibbles: npt.NDArray[np.bool_]) -> Masks:
    """Return sets of nibbles, shape (…, 16), as bits of a number."""
    return (nibbles @ (1 << np.arange(16))).astype(np.uint16)


def _pass_rate(masks: Masks) -> Floats:
    """Return the expected share of places that pass, summed over the backgrounds; `masks` has shape (…, LOOK_UPS)."""
    low, plain_low, high = _shares_of_masks()
    rates = low[:, masks[..., 0]] * high[:, masks[..., FINGERPRINT_BYTES]]
    for place in range(1, FINGERPRINT_BYTES):
        rates *= plain_low[:, masks[..., place]]
    return np.tensordot(np.array(WEIGHTS, np.float32), rates, axes=1)


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
def _shares_of_masks() -> tuple[Floats, Floats, Floats]:
    """Return by set how often a byte's low nibble, a plain byte's, a high nibble is in it; a row a background."""
    grids = [shares.reshape(16, 16) for shares in _backgrounds()]
    low = np.stack([_sums(grid.sum(axis=0)) for grid in grids])
    plain_low = np.stack([_sums(grid[:8].sum(axis=0)) for grid in grids])
    high = np.stack([_sums(grid.sum(axis=1)) for grid in grids])
    return low, plain_low, high


def _sums(shares: Floats) -> Floats:
    sums = np.zeros(1, np.float32)
    for share in shares:  # bit by bit: the sets without it, then those with it
        sums = np.concatenate((sums, sums + share))
    return sums
