"""Fingerprints: one for each pattern, rare, and in the tables under every one of its look-ups."""

import numpy as np
import pytest

from carver.fingerprints import BUCKETS, FINGERPRINT_BYTES, choose, hashed, joined, packed, unpacked
from signatures import formats
from tests.carver.scanning import MAGICS, MANY

SETS = {
    "few": MAGICS,
    "many": MANY,
    "of-high-bytes": (b"\x80\x02\x8a\nl\xfc\x9cF", b"\xef\xbe\xad\xde"),
    "of-all-formats": tuple(dict.fromkeys(p.bytes for f in formats().values() for p in f.patterns)),
    "one": (b"PK\x03\x04",),
    "none": (),
}


def windows(keys):
    return [key[at : at + FINGERPRINT_BYTES] for key, at in zip(keys, choose(keys).places, strict=True)]


@pytest.mark.parametrize("name", SETS)
def test_every_fingerprint_passes_all_its_look_ups_in_one_bucket(name):
    prints = choose(SETS[name])
    for window in windows(SETS[name]):
        assert len(window) == FINGERPRINT_BYTES
        buckets = 255
        for row, value in enumerate(window):
            buckets &= int(prints.nibbles[row][value & 15])
        assert buckets & int(prints.nibbles[4][window[0] >> 4])
    assert int(prints.nibbles.max(initial=0)) < 1 << BUCKETS


@pytest.mark.parametrize("name", SETS)
def test_a_walk_covers_every_pattern_with_the_fingerprint_and_no_more(name):
    prints, around = choose(SETS[name]), {}
    for key, window, place in zip(SETS[name], windows(SETS[name]), prints.places, strict=True):
        around.setdefault(hashed(window), []).append((place, len(key) - place))
    for slot, sizes in around.items():
        before, behind = zip(*sizes, strict=True)
        assert unpacked(int(prints.walks[slot])) == (max(before), min(before), max(behind))
    assert set(np.flatnonzero(prints.walks)) == set(around)


def test_walks_join_to_what_finds_both():
    assert unpacked(joined(packed(3, 3, 9), packed(7, 7, 4))) == (7, 3, 9)
    assert joined(0, packed(3, 2, 9)) == packed(3, 2, 9)


def test_vectors_are_given_up_only_where_a_pattern_has_no_four_plain_bytes():
    assert choose((b"\x89HDF\r\n\x1a\n", b"\xff\xffPKPK")).plain
    assert not choose((b"\x89HDF\r\n\x1a\n", b"\xef\xbe\xad\xde")).plain


def test_every_pattern_of_the_formats_here_can_be_found_by_vectors():
    assert choose(SETS["of-all-formats"]).plain


def test_fingerprints_do_not_depend_on_the_order_of_the_patterns():
    keys = SETS["of-all-formats"]
    one, other = choose(keys), choose(keys[::-1])
    assert one.places == other.places[::-1]
    assert (one.nibbles == other.nibbles).all()
    assert (one.walks == other.walks).all()


@pytest.mark.parametrize("value", [0, 0x20, 0xFF])
def test_runs_of_one_common_byte_do_not_pass(value):
    prints = choose(SETS["of-all-formats"])
    assert prints.pairs[value | value << 8] == 0
    assert prints.walks[hashed(bytes([value]) * 4)] == 0


def test_the_same_patterns_get_the_same_fingerprints():
    first = choose(MANY)
    choose.cache_clear()
    again = choose(MANY)
    assert again is not first
    assert again.places == first.places
    assert (again.nibbles == first.nibbles).all()
