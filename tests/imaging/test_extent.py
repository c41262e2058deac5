"""Extents: the algebra of ExtentSet is that of Python's sets of byte offsets."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from imaging.extent import Extent, ExtentSet, Layout, clip_layout, layout_bytes, span

extents = st.builds(Extent, offset_bytes=st.integers(0, 80), size_bytes=st.integers(0, 20))
extent_lists = st.lists(extents, max_size=12)
extent_sets = st.builds(ExtentSet, extent_lists)


def offsets(extent: Extent) -> range:
    return range(extent.offset_bytes, extent.end_bytes)


def members(extent_set: ExtentSet) -> set[int]:
    """Return the offsets in a set, after a look at its form: sorted, nothing empty, nothing adjacent."""
    found = list(extent_set)
    assert all(extent.size_bytes > 0 for extent in found)
    assert all(before.end_bytes < after.offset_bytes for before, after in pairwise(found))
    assert extent_set.starts.dtype == extent_set.ends.dtype == np.int64
    return {at for extent in found for at in offsets(extent)}


@given(listed=extent_lists)
def test_set_holds_the_bytes_of_its_extents_however_they_overlap(listed: list[Extent]) -> None:
    built = ExtentSet(listed)
    expected = {at for extent in listed for at in offsets(extent)}
    assert members(built) == expected
    assert built.total_bytes == len(expected)
    assert bool(built) == bool(expected)
    assert len(built) == len(list(built))


@given(listed=extent_lists)
def test_set_from_arrays_is_the_set_from_extents(listed: list[Extent]) -> None:
    starts = np.array([extent.offset_bytes for extent in listed], dtype=np.int64)
    ends = np.array([extent.end_bytes for extent in listed], dtype=np.int64)
    assert ExtentSet.from_arrays(starts, ends) == ExtentSet(listed)


@given(first=extent_sets, second=extent_sets)
def test_union_intersection_and_difference_are_those_of_python_sets(first: ExtentSet, second: ExtentSet) -> None:
    assert members(first | second) == members(first) | members(second)
    assert members(first & second) == members(first) & members(second)
    assert members(first - second) == members(first) - members(second)


@given(first=extent_sets, second=extent_sets)
def test_sets_are_equal_when_their_bytes_are(first: ExtentSet, second: ExtentSet) -> None:
    assert (first == second) == (members(first) == members(second))
    assert first == ExtentSet(list(first))
    assert first != members(first)


@given(given_set=extent_sets, domain=extents)
def test_domain_cuts_complements_and_questions_agree_with_python_sets(given_set: ExtentSet, domain: Extent) -> None:
    inside = members(given_set) & set(offsets(domain))
    assert members(given_set.complement(domain)) == set(offsets(domain)) - members(given_set)
    assert members(given_set.within(domain)) == inside
    assert given_set.touches(domain) == bool(inside)
    assert given_set.covers(domain) == (inside == set(offsets(domain)))


@given(given_set=extent_sets, by_bytes=st.integers(-50, 50))
def test_shifted_set_holds_the_shifted_bytes(given_set: ExtentSet, by_bytes: int) -> None:
    assert members(given_set.shifted(by_bytes)) == {at + by_bytes for at in members(given_set)}


def test_empty_domain_touches_nothing_and_is_empty_even_inside_an_extent() -> None:
    held = ExtentSet([span(0, 100)])
    assert not held.touches(span(50, 50))
    assert not held.within(span(50, 50))
    assert held.within(span(50, 50)) == ExtentSet()


def test_offsets_near_the_end_of_sixty_three_bits_do_not_overflow() -> None:
    top = 2**63 - 1
    held = ExtentSet([span(top - 10, top)])
    assert held.total_bytes == 10
    assert held - ExtentSet([span(0, top - 5)]) == ExtentSet([span(top - 5, top)])


def test_extent_reads_as_hexadecimal() -> None:
    assert str(span(0x1F400, 0x1F600)) == "0x1f400+0x200"
    assert repr(ExtentSet([span(0, 16), span(32, 48)])) == "ExtentSet(0x0+0x10, 0x20+0x10)"


layouts = st.lists(extents, max_size=8).map(tuple)


@given(layout=layouts, offset_bytes=st.integers(0, 100), size_bytes=st.integers(0, 100))
def test_clipped_layout_holds_the_same_bytes_as_a_slice_of_the_file(
    layout: Layout, offset_bytes: int, size_bytes: int
) -> None:
    in_file_order = [at for extent in layout for at in offsets(extent)]
    clipped = clip_layout(layout, offset_bytes, size_bytes)
    expected = in_file_order[offset_bytes : offset_bytes + size_bytes]
    assert [at for extent in clipped for at in offsets(extent)] == expected
    assert layout_bytes(layout) == len(in_file_order)
    assert layout_bytes(clipped) == len(expected)
