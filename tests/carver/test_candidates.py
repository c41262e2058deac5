"""Candidates: where a file may start, told once, from a stream of hits of any length."""

import logging
import tracemalloc

import numpy as np
import pytest

from carver import candidates as room
from carver.automaton import build
from carver.candidates import Candidate, candidates
from carver.scan import HIT_DTYPE, scan
from imaging.errors import BudgetExceeded, ReadFault
from imaging.extent import span
from imaging.source import RawImage
from signatures.format import ANY, Pattern, SectorProbe
from tests.carver.scanning import a_format, write


class Blank:
    """A source of zeros."""

    locator, sector_bytes, unread = "blank", 512, None

    def __init__(self, size_bytes=1 << 40):
        self.size_bytes = size_bytes

    def read_at(self, offset_bytes, size_bytes):
        return bytes(size_bytes)


HEAD = Pattern(bytes=b"HEAD", name="head")
INNER = Pattern(bytes=b"INNER", name="inner", offset_bytes=8)
ALIGNED = Pattern(bytes=b"ALIGNED", name="aligned", offset_bytes=2, alignment_bytes=512)
TAIL = Pattern(bytes=b"TAIL", name="tail")
TOY = a_format("toy", patterns=(HEAD, INNER, ALIGNED), probes=(SectorProbe(allowed=(b"x",)),))


def told(hits, *formats, source=None, cut_at=None):
    """The candidates of (offset, pattern name) hits on `formats`; the array cut in two at `cut_at`."""
    table = build(formats).table
    number = {entry.name: n for n, (_, entry) in enumerate(table)}
    array = np.array([(at, number[name]) for at, name in hits], HIT_DTYPE)
    arrays = [array] if cut_at is None else [array[:cut_at], array[cut_at:]]
    return list(candidates(source or Blank(), arrays, table, {f.name: f for f in formats}))


def starts(found):
    return [candidate.start_bytes for candidate in found]


def test_a_candidate_runs_from_its_start_to_the_end_of_the_source():
    (found,) = told([(100, "inner")], TOY, source=Blank(1000))
    assert found == Candidate(format="toy", layout=(span(92, 1000),), hits=((100, "inner"),))
    assert found.start_bytes == 92


def test_a_hit_begins_with_what_was_asked_before_the_constant():
    asked = Pattern(bytes=b"ASKED", name="asked", offset_bytes=8, before=(ANY,) * 3, after=(ANY,))
    other = Pattern(bytes=b"OTHER", name="other", offset_bytes=7)
    (found,) = told([(101, "asked"), (103, "other")], a_format("toy", patterns=(asked, other)), source=Blank(1000))
    assert found.start_bytes == 96
    assert found.hits == ((103, "other"), (104, "asked"))


def test_an_anchor_makes_no_candidate():
    anchor = Pattern(bytes=b"INSIDE", name="inside", anchor=True)
    assert starts(told([(50, "inside"), (100, "head")], a_format("toy", patterns=(HEAD, anchor)))) == [100]


def test_a_start_before_the_source_is_dropped():
    assert starts(told([(7, "inner"), (8, "inner")], TOY)) == [0]


def test_a_start_that_is_not_aligned_is_dropped():
    assert starts(told([(2, "aligned"), (513, "aligned"), (514, "aligned")], TOY)) == [0, 512]


def test_a_probe_starts_where_it_holds():
    assert starts(told([(1024, "probe")], TOY)) == [1024]


def test_hits_for_the_same_start_are_one_candidate():
    (found,) = told([(512, "head"), (514, "aligned"), (520, "inner")], TOY)
    assert found.hits == ((512, "head"), (514, "aligned"), (520, "inner"))


def test_formats_with_the_same_start_are_two_candidates():
    found = told(
        [(512, "head"), (513, "other")],
        TOY,
        a_format("b", patterns=(Pattern(bytes=b"xxxx", name="other", offset_bytes=1),)),
    )
    assert [(c.format, c.start_bytes) for c in found] == [("toy", 512), ("b", 512)]


def test_candidates_come_in_the_order_of_their_first_hits():
    assert starts(told([(20, "inner"), (13, "head"), (900, "head")], TOY)) == [12, 13, 900]


def test_a_candidate_keeps_only_its_first_hits():
    zip_like = a_format("zip", patterns=(TAIL,), starts=lambda source, at, pattern: [0])
    (found,) = told([(at, "tail") for at in range(100)], zip_like)
    assert found.hits == tuple((at, "tail") for at in range(room.MAX_HITS_KEPT))


def test_a_late_hit_for_a_start_already_told_is_no_second_candidate():
    zip_like = a_format("zip", patterns=(HEAD, TAIL), starts=lambda source, at, p: [at if p is HEAD else 0])
    hits = [(0, "head"), (5 << 20, "head"), (1 << 30, "tail")]
    assert starts(told(hits, zip_like)) == [0, 5 << 20]


@pytest.mark.parametrize("cut_at", range(7))
def test_candidates_do_not_depend_on_how_hits_are_cut(cut_at):
    hits = [(0, "head"), (8, "inner"), (99, "inner"), (2 << 20, "head"), ((2 << 20) + 8, "inner"), (5 << 20, "head")]
    assert told(hits, TOY, cut_at=cut_at) == told(hits, TOY)


def test_starts_may_name_many_places_or_none():
    picky = a_format("picky", patterns=(HEAD,), starts=lambda source, at, p: [at, at - 512, -5] if at % 2 else [])
    assert starts(told([(1000, "head"), (2001, "head")], picky)) == [2001, 1489]


def test_starts_without_end_are_cut_off():
    endless = a_format("endless", patterns=(HEAD,), starts=lambda source, at, pattern: iter(int, 1))
    assert starts(told([(1000, "head")], endless)) == [0]


@pytest.mark.parametrize(
    "fault", [ReadFault("bad sector", offset_bytes=1000, size_bytes=4), BudgetExceeded("too many reads")]
)
def test_a_hit_near_which_nothing_can_be_told_is_dropped_with_a_line(caplog, fault):
    def reading(source, at, pattern):
        if at == 1000:
            raise fault
        yield at

    with caplog.at_level(logging.WARNING):
        assert starts(
            told([(500, "head"), (1000, "head"), (1500, "head")], a_format("f", patterns=(HEAD,), starts=reading))
        ) == [500, 1500]
    assert "0x3e8" in caplog.text


def test_hits_of_formats_not_asked_for_are_dropped():
    table = build([TOY]).table
    assert list(candidates(Blank(), [np.array([(0, 1)], HIT_DTYPE)], table, {})) == []


def test_any_number_of_hits_is_held_in_little_memory(monkeypatch):
    monkeypatch.setattr(room, "MAX_WAITING", 1000)
    monkeypatch.setattr(room, "MAX_RECENT", 1000)
    table = build([TOY]).table
    number = [entry.name for _, entry in table].index("head")

    def arrays():
        for first in range(0, 100_000, 5_000):
            array = np.zeros(5_000, HIT_DTYPE)
            array["offset_bytes"] = np.arange(first, first + 5_000) * 4
            array["pattern"] = number
            yield array

    tracemalloc.start()
    count = sum(1 for _ in candidates(Blank(), arrays(), table, {"toy": TOY}))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_000
    assert peak_bytes < 4 << 20


def test_scan_and_candidates_together(tmp_path):
    data = bytes(512) + b"HEAD....INNER" + bytes(2000)
    with RawImage(write(tmp_path / "i", data)) as image:
        table = build([TOY]).table
        found = list(candidates(image, (chunk.hits for chunk in scan(image, [TOY])), table, {"toy": TOY}))
    assert found == [Candidate(format="toy", layout=(span(512, len(data)),), hits=((512, "head"), (520, "inner")))]
