"""Fingerprints: which four bytes of each pattern the prefilter looks for, and the tables that find them.

A fingerprint is four bytes in a row, at a place of the pattern that is good to look for: rare on disks, and like the
fingerprints of other patterns. Up to eight groups of fingerprints, the *buckets*, are looked for at once. For each of
the four bytes a table tells, by the byte's low half (its low *nibble*), which buckets allow it: a set of buckets is
eight bits, one byte. For the first byte another table tells the same by the high nibble. Where the AND of all look-ups
leaves a bucket, a fingerprint may begin; `carver.kernels` tells how sixteen or thirty-two places are asked at a time.

Which place of a pattern to take, and which bucket to put it in, decides how often the prefilter is wrong. Patterns are
taken in turn, those with the fewest places first, and each gets the place and bucket that raise the expected share of
wrong places least, over some kinds of bytes: random (compressed data, weights), text, binaries full of zeros, the names
in programs, and machine code.
Then each is taken out and put back some times, as the others have settled by then.

What comes out depends on the order in which they are taken, so some orders are tried, the most hopeful go on, and the
best outcome counts.

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
PLACES = 32  # near the front
LEAD_BITS = 8  # of a number below PLACES
BUCKETS = 8
LOOK_UPS = FINGERPRINT_BYTES + 1  # low nibbles, and the high one of the first byte
ROUNDS = 6
HOPEFUL = 2  # of the orders go on after the first round
TRIES = 6
WEIGHTS = {"random": 8.0, "text": 2.0, "binaries": 4.0, "code": 12.0, "names": 0.4, "stack guard": 0.03}
HASH_BITS = 13
HASH_FACTOR = 0x9E3779B1  # 2 ** 32 / golden ratio: spreads the low bits over the high ones
FIRST_PAIR = 4  # of a mark
PAIR_WEIGHT = 0.03  # the portable prefilter sees pairs alone: zeros and spaces must not pass it

Masks = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float32]
Choice = Sequence[tuple[int, int]]
"""(index into its options, bucket) for each pattern; (-1, -1) for none yet"""
TEXT = (
    b" " * 12
    + b"""eeeeeeeetttttaaaaoooiiinnnsssrrrhhllddccuummffppggwwyybbvk0123456789__..,,--""''()=/:;
ETAOINSRCPK{}<>*#xqzj
"""
)
LETTERS = b"eeeeeeeeetttttttaaaaaaaooooooiiiiiinnnnnnssssssrrrrrrrlllldddccccuuummmppffggyybvkx"
CAPITALS = b"SCTMPIRADEFLBNOGVHUWKSCTMPIRA"
STACK_GUARD = b"\x8b\x04\x25\x28"  # mov %fs:0x28: how nearly each function of Linux for x86-64 begins and ends
CODE = {  # what of a thousand bytes of programs for x86-64 is what byte, counted in Debian's python3.11, git and bash
    0x00: 140, 0x48: 67, 0xFF: 45, 0x89: 38, 0x0F: 31, 0x8B: 27, 0x24: 24, 0xE8: 21, 0x85: 19, 0x01: 17, 0x4C: 15,
    0x83: 15, 0xC0: 14, 0x41: 13, 0x84: 13, 0x8D: 12, 0x44: 12, 0xE9: 11, 0x08: 11, 0x31: 9, 0x74: 9, 0x49: 9, 0x10: 9,
    0x20: 8, 0x1F: 8, 0x05: 7, 0x66: 6, 0x04: 6, 0x75: 6, 0x18: 6, 0xC7: 6, 0x02: 6, 0x45: 6, 0x3D: 5, 0x0E: 5, 0x28: 4,
    0xFE: 4, 0x40: 4, 0xC3: 4, 0xF6: 4,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprints:
    """What the prefilter looks for.

    Attributes:
        places: where in pattern i its fingerprint lies.
        nibbles: sets of buckets by nibble, uint8, shape (LOOK_UPS, 16): low nibbles of bytes 0 to 3, then the high one
            of byte 0.
        plain: whether no byte from 0x80 on belongs to a fingerprint, elsewhere than first.
        walks: by hash of four bytes, where the patterns with this fingerprint lie around it, as `packed` says; 0: none;
            int32.
        pairs: by pair `low | high << 8`: 4 if it begins a fingerprint, 2 if it lies in the middle of one, 1 if it ends
            one; uint8.
    """

    places: tuple[int, ...]
    nibbles: npt.NDArray[np.uint8]
    plain: bool
    walks: npt.NDArray[np.int32]
    pairs: npt.NDArray[np.uint8]


@lru_cache(maxsize=8)
def choose(keys: tuple[bytes, ...]) -> Fingerprints:
    """Choose the fingerprints of these patterns, each of four bytes or more."""
    plain = all(any(_plain(window) for window in _windows(key)) for key in keys)
    options = [_options(key, plain=plain) for key in keys]
    unset = [(-1, -1)] * len(keys)
    begun = [(_settle(options, order, unset, rounds=1), order) for order in _orders(keys, options)]
    begun.sort(key=lambda one: _cost(options, one[0]))
    settled = [_settle(options, order, chosen, rounds=ROUNDS) for chosen, order in begun[:HOPEFUL]]
    chosen = min(settled, key=lambda one: _cost(options, one))
    nibbles = np.zeros((LOOK_UPS, 16), np.uint8)
    walks = np.zeros(1 << HASH_BITS, np.int32)
    pairs = np.zeros(1 << 16, np.uint8)
    places = []
    for key, option, (index, bucket) in zip(keys, options, chosen, strict=True):
        place = int(option.places[index])
        places.append(place)
        window = key[place : place + FINGERPRINT_BYTES]
        for row, nibble in enumerate(_nibbles(window)):
            nibbles[row, nibble] |= 1 << bucket
        slot = hashed(window)
        walks[slot] = joined(int(walks[slot]), packed(place, place, len(key) - place))
        for back, pair in _pairs(window):
            pairs[pair[0] | pair[1] << 8] |= FIRST_PAIR >> back
    return Fingerprints(
        places=tuple(places),
        nibbles=nibbles,
        plain=plain,
        walks=walks,
        pairs=pairs,
    )


def packed(most_before: int, least_before: int, from_here: int) -> int:
    """Return as one number how many bytes patterns have before a fingerprint, at most and at least, and from it on."""
    return most_before | least_before << LEAD_BITS | from_here << 2 * LEAD_BITS


def unpacked(walk: int) -> tuple[int, int, int]:
    """Return what `packed` was given."""
    most = (1 << LEAD_BITS) - 1
    return walk & most, walk >> LEAD_BITS & most, walk >> 2 * LEAD_BITS


def joined(walk: int, other: int) -> int:
    """Return the walk that finds what either finds; 0 is none."""
    if not walk:
        return other
    one, two = unpacked(walk), unpacked(other)
    return packed(max(one[0], two[0]), min(one[1], two[1]), max(one[2], two[2]))


def hashed(window: bytes) -> int:
    """Return the hash of four bytes, an index of `Fingerprints.walks`."""
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
    return [(1, window[1:3]), min(ends, key=lambda end: _share(*end))]


def _share(place: int, pair: bytes) -> float:
    """Return how often a pair is met at a place of a fingerprint, summed over the backgrounds."""
    shares = _backgrounds()
    return float((shares[:, place, pair[0]] * shares[:, place + 1, pair[1]]).sum())


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
    costs = [sum(_share(*pair) for pair in _pairs(windows[i])) for i in places]
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


def _settle(options: Sequence[_Options], order: Sequence[int], begun: Choice, *, rounds: int) -> Choice:
    """Return what is chosen for each pattern after some rounds more, or as soon as nothing changes."""
    chosen = list(begun)
    users = np.zeros((BUCKETS, LOOK_UPS, 16), np.int16)  # how many fingerprints of a bucket have a nibble
    for option, (index, bucket) in zip(options, chosen, strict=True):
        if bucket >= 0:
            users[bucket] += option.nibbles[index]
    for _ in range(rounds):
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


def _cost(options: Sequence[_Options], chosen: Choice) -> float:
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
    low, high = _shares_of_masks()
    rates: Floats = high[:, masks[..., FINGERPRINT_BYTES]]
    for place in range(FINGERPRINT_BYTES):
        rates *= low[place][:, masks[..., place]]
    return np.asarray(rates.sum(axis=0))


@cache
def _backgrounds() -> Floats:
    """Return how often each byte is met at each place of four, in what `WEIGHTS` names; shape (n, 4, 256)."""
    random = np.full(256, 1 / 256)
    text, letters, capitals = map(_shares_in, (TEXT, LETTERS, CAPITALS))
    binary = random * 0.3
    binary[0] += 0.5
    binary[1:16] += 0.1 / 15
    binary[0xFF] += 0.1
    code = random * (1 - sum(CODE.values()) / 1000)
    code[list(CODE)] += np.array(list(CODE.values())) / 1000
    names = [capitals, letters, letters, letters]
    guard = [_shares_in(bytes([value])) for value in STACK_GUARD]
    everywhere = [[shares] * FINGERPRINT_BYTES for shares in (random, text, binary, code)]
    return np.array([*everywhere, names, guard], np.float32)


def _shares_in(kind: bytes) -> npt.NDArray[np.float64]:
    return np.bincount(np.frombuffer(kind, np.uint8), minlength=256) / len(kind)


@cache
def _shares_of_masks() -> tuple[Floats, Floats]:
    """Return by set how often a byte's low nibble is in it, where it is plain or first, and a first byte's high one.

    Shapes (4, n, 65536) and (n, 65536), a row a background; the second is weighted.
    """
    places = _backgrounds().reshape(-1, FINGERPRINT_BYTES, 16, 16).swapaxes(0, 1)
    low = [[_sums(grid[: 16 if place == 0 else 8].sum(axis=0)) for grid in row] for place, row in enumerate(places)]
    high = [_sums(weight * grid.sum(axis=1)) for weight, grid in zip(WEIGHTS.values(), places[0], strict=True)]
    return np.array(low), np.array(high)


def _sums(shares: Floats) -> Floats:
    sums = np.zeros(1, np.float32)
    for share in shares:  # bit by bit: the sets without it, then those with it
        sums = np.concatenate((sums, sums + share))
    return sums
