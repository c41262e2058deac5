"""Automaton: numbering, and tables equal to the patterns."""

from dataclasses import replace

import pytest

from carver.automaton import build
from signatures.format import ANY, Pattern, SectorProbe
from tests.carver.scanning import CASES, MAGICS, a_format, oracle, walked


@pytest.mark.parametrize("case", CASES)
def test_the_walk_over_the_tables_finds_what_plain_search_finds(case):
    magics, data = CASES[case]
    automaton = build([a_format(magics=magics)])
    assert walked(automaton, data, len(data)) == oracle(data, automaton.table)


def test_numbers_follow_format_and_pattern_names_not_the_order_given():
    one = a_format("one", patterns=(Pattern(bytes=b"zzz1", name="b"), Pattern(bytes=b"aaa1", name="a")))
    two = a_format("two", MAGICS, probes=(SectorProbe(allowed=(b"x",), name="a-probe"),))
    table = build([two, one]).table
    assert table == build([one, two]).table
    assert [(name, entry.name) for name, entry in table][:3] == [("one", "a"), ("one", "b"), ("two", "a-probe")]


def test_formats_that_share_a_pattern_each_get_the_hit():
    automaton = build([a_format("npz", [b"PK\x03\x04"]), a_format("keras", [b"PK\x03\x04"])])
    assert walked(automaton, b"..PK\x03\x04", 6) == [(2, 0), (2, 1)]
    assert [name for name, _ in automaton.table] == ["keras", "npz"]


def test_no_formats_make_an_automaton_that_finds_nothing():
    automaton = build([])
    assert automaton.table == ()
    assert automaton.reach_bytes == 0
    assert walked(automaton, b"PK\x03\x04", 4) == []


def test_a_probe_belongs_to_the_reach():
    assert build([a_format(probes=(SectorProbe(allowed=(b"x",) * 9),))]).reach_bytes == 8


def test_what_is_asked_around_a_pattern_belongs_to_the_reach_and_to_what_hits_depend_on():
    plain = Pattern(bytes=b"PK\x03\x04", name="one")
    automata = [
        build([a_format(patterns=(replace(plain, **more),))])
        for more in ({}, {"before": (ANY,)}, {"after": (ANY, ANY)})
    ]
    assert [automaton.reach_bytes for automaton in automata] == [3, 4, 5]
    assert len({automaton.digest for automaton in automata}) == 3
    assert build([a_format(patterns=(plain,))]).digest == automata[0].digest


@pytest.mark.parametrize(
    ("declared", "matches"),
    [
        (a_format(magics=[b"\0\0\0\1"]), False),
        (a_format(magics=[bytes(4)]), True),
        (a_format(probes=(SectorProbe(allowed=(b"\0\1", b"\0")),)), True),
        (a_format(probes=(SectorProbe(allowed=(b"\0\1", b"\2")),)), False),
    ],
)
def test_only_patterns_of_zeros_need_the_holes(declared, matches):
    assert build([declared]).matches_zeros is matches


@pytest.mark.parametrize(
    "declared", [a_format(magics=[b"PK\x03"]), a_format(magics=[b""]), a_format(probes=(SectorProbe(allowed=()),))]
)
def test_a_pattern_too_short_to_scan_for_is_refused(declared):
    with pytest.raises(ValueError, match="too short"):
        build([declared])


def test_more_patterns_than_a_hit_can_number_are_refused():
    many = tuple(Pattern(bytes=i.to_bytes(4), name=str(i)) for i in range((1 << 16) + 1))
    with pytest.raises(ValueError, match="65537 patterns"):
        build([a_format(patterns=many)])


def test_more_probes_than_a_word_has_bits_are_refused():
    many = tuple(SectorProbe(allowed=(b"x",), name=str(i)) for i in range(64))
    with pytest.raises(ValueError, match="more than 63 probes"):
        build([a_format(probes=many)])
