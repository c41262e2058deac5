"""Kernels: equal to their plain twins, and to plain search, on one table of cases and on random data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carver.automaton import RESUME_FIELDS, build
from carver.kernels import scan_patterns, scan_probes
from signatures.format import SectorProbe
from tests.carver.scanning import CASES, MAGICS, a_format, oracle, planted, walked


def split(keys):
    return [(key >> 16, key & 0xFFFF) for key in keys]


def kernel_hits(automaton, data, limit, room=1 << 12):
    """All hits of the pattern kernel, in the order told, through an array of `room` hits."""
    found, resume, keys = np.zeros(room, np.int64), np.zeros(RESUME_FIELDS, np.int64), []
    tables = (automaton.next_states, automaton.out_first, automaton.out_numbers, automaton.lengths)
    pairs = (automaton.pair_marks, automaton.pair_spans, automaton.lead_bytes)
    array = np.frombuffer(data, np.uint8)
    while resume[0] >= 0:
        count = scan_patterns(array, limit, *tables, *pairs, found, resume)
        assert count <= room
        keys += found[:count].tolist()
    return split(keys)


def probe_hits(automaton, data, first=0, room=1 << 12):
    found, resume, keys = np.zeros(room, np.int64), np.zeros(RESUME_FIELDS, np.int64), []
    tables = (automaton.probe_numbers, automaton.probe_allowed, automaton.lengths)
    while resume[0] >= 0:
        count = scan_probes(np.frombuffer(data, np.uint8), first, len(data), 512, *tables, found, resume)
        keys += found[:count].tolist()
    return split(keys)


@pytest.mark.parametrize("room", [8, 9, 4096])
@pytest.mark.parametrize("case", CASES)
def test_kernel_tells_each_hit_once_even_when_its_array_overflows(case, room):
    magics, data = CASES[case]
    automaton = build([a_format(magics=magics)])
    hits = kernel_hits(automaton, data, len(data), room)
    assert sorted(hits) == oracle(data, automaton.table)


@pytest.mark.parametrize("case", CASES)
def test_hits_that_start_at_the_limit_or_later_are_not_told(case):
    magics, data = CASES[case]
    automaton = build([a_format(magics=magics)])
    for limit in (0, 1, len(data) // 2, len(data) - 1):
        assert sorted(kernel_hits(automaton, data, limit)) == walked(automaton, data, limit)


@pytest.mark.parametrize("magic", MAGICS)
def test_a_pattern_is_seen_at_every_place_of_a_block(magic):
    automaton = build([a_format(magics=MAGICS)])
    for at in range(64, 64 + 130):
        data = planted(400, [at], [magic], seed=at)
        assert kernel_hits(automaton, data, len(data)) == walked(automaton, data, len(data)) != []


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_kernel_equals_plain_search_on_random_patterns_and_data(draw):
    letters = st.sampled_from(b"ab\0")  # few letters: patterns overlap, and lie inside each other
    pattern = st.lists(letters, min_size=3, max_size=20).map(bytes)
    magics = draw.draw(st.lists(pattern, min_size=1, max_size=8, unique=True))
    data = draw.draw(st.lists(letters | st.integers(0, 255), max_size=400).map(bytes))
    pieces = draw.draw(st.lists(st.sampled_from(magics), max_size=6))
    data = data.join([b"", *pieces, b""]) if len(data) < 120 else data + b"".join(pieces)
    automaton = build([a_format(magics=magics)])
    assert sorted(kernel_hits(automaton, data, len(data), room=16)) == oracle(data, automaton.table)


PROBES = (
    SectorProbe(allowed=(b"\x08", b"\x01\x02\x03", b"\x12\x1a"), name="onnx-like"),
    SectorProbe(allowed=(bytes(range(128)),) * 4, name="text-like"),
)


@pytest.mark.parametrize("room", [2, 3, 4096])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 511, 515, 5000])
def test_probes_hold_at_sector_starts_only(size, room):
    data = bytearray(planted(size, ()))
    for at in range(0, size, 256):
        data[at : at + 3] = b"\x08\x03\x12"
    automaton = build([a_format(probes=PROBES)])
    hits = probe_hits(automaton, bytes(data[:size]), room=room)
    assert hits == oracle(bytes(data[:size]), automaton.table)
    assert (size < 3) or hits


def test_probe_kernel_begins_at_the_sector_it_is_given():
    automaton = build([a_format(probes=(SectorProbe(allowed=(b"\0",)),))])
    assert probe_hits(automaton, bytes(1200), first=100) == [(100, 0), (612, 0), (1124, 0)]
