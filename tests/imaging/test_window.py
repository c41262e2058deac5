"""Windows: any layout reads as one file, from 0, within its budget, and knows what was never read."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.errors import BudgetExceeded
from imaging.extent import Extent, ExtentSet, Layout, span
from imaging.window import PAGE_BYTES, Budget, Window

DRIVE = bytes((at * 7 + at // 256) % 256 for at in range(4 * PAGE_BYTES))
BACKWARDS: Layout = (span(3000, 3100), span(500, 540), span(0, 7), span(2000, 2000), span(100, 400))


@dataclass
class BytesSource:
    """A source in memory that counts what is read of it."""

    content: bytes = DRIVE
    unread: ExtentSet | None = None
    locator: str = "memory"
    sector_bytes: int = 512
    read_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        self.read_bytes += size_bytes
        return self.content[offset_bytes : offset_bytes + size_bytes]


def file_of(layout: Layout) -> bytes:
    return b"".join(DRIVE[extent.offset_bytes : extent.end_bytes] for extent in layout)


layouts = st.lists(
    st.builds(Extent, offset_bytes=st.integers(0, 5000), size_bytes=st.integers(0, 300)), max_size=6
).map(tuple)
reads = st.lists(st.tuples(st.integers(-5, 2000), st.integers(-5, 2000)), max_size=8)


@given(layout=layouts, wanted=reads)
def test_layout_in_any_number_of_pieces_and_any_order_reads_as_one_file(
    layout: Layout, wanted: list[tuple[int, int]]
) -> None:
    window, whole = Window(BytesSource(), layout), file_of(layout)
    assert window.size_bytes == len(whole)
    for offset_bytes, size_bytes in wanted:
        expected = whole[offset_bytes : max(0, offset_bytes + size_bytes)] if offset_bytes >= 0 else b""
        assert window.read_at(offset_bytes, size_bytes) == expected


def test_layout_that_runs_backwards_reads_forwards() -> None:
    window = Window(BytesSource(), BACKWARDS)
    assert window.read_at(95, 20) == DRIVE[3095:3100] + DRIVE[500:515]
    assert window.read_at(0, 10**6) == file_of(BACKWARDS)


@pytest.mark.parametrize(
    "layout", [(span(5, 3 * PAGE_BYTES),), (span(PAGE_BYTES, 3 * PAGE_BYTES), span(0, PAGE_BYTES))]
)
def test_reads_before_across_and_beyond_the_page_kept_agree_with_the_file(layout: Layout) -> None:
    window, whole = Window(BytesSource(), layout), file_of(layout)
    for at in (0, 10, PAGE_BYTES - 1, PAGE_BYTES, 5, 2 * PAGE_BYTES - 2, PAGE_BYTES + 1, 0):
        for size_bytes in (1, 4, PAGE_BYTES // 2, PAGE_BYTES // 2 + 1, PAGE_BYTES, 10**7):
            assert window.read_at(at, size_bytes) == whole[at : at + size_bytes]


def test_small_reads_are_served_from_one_page() -> None:
    source = BytesSource()
    window = Window(source, (span(0, len(DRIVE)),))
    for at in range(0, 1000, 10):
        window.read_at(at, 10)
    assert source.read_bytes == PAGE_BYTES


@given(layout=layouts, offset_bytes=st.integers(0, 900), size_bytes=st.integers(0, 900), chunk_bytes=st.integers(1, 99))
def test_chunks_are_the_bytes_in_order_and_never_longer_than_asked(
    layout: Layout, offset_bytes: int, size_bytes: int, chunk_bytes: int
) -> None:
    window = Window(BytesSource(), layout)
    pieces = list(window.chunks(offset_bytes, size_bytes, chunk_bytes=chunk_bytes))
    assert b"".join(pieces) == file_of(layout)[offset_bytes : offset_bytes + size_bytes]
    assert all(0 < len(piece) <= chunk_bytes for piece in pieces)


def test_chunks_end_where_the_image_was_cut_short() -> None:
    window = Window(BytesSource(content=DRIVE[:100]), (span(0, 1000),))
    assert b"".join(window.chunks(0, 1000, chunk_bytes=30)) == DRIVE[:100]


@given(
    layout=layouts,
    unread=st.lists(st.builds(Extent, offset_bytes=st.integers(0, 5000), size_bytes=st.integers(0, 500)), max_size=6),
    offset_bytes=st.integers(0, 900),
    size_bytes=st.integers(0, 900),
)
def test_unread_ranges_are_told_in_the_offsets_of_the_window(
    layout: Layout, unread: list[Extent], offset_bytes: int, size_bytes: int
) -> None:
    holes = ExtentSet(unread)
    window = Window(BytesSource(unread=holes), layout)
    on_drive = [at for extent in layout for at in range(extent.offset_bytes, extent.end_bytes)]
    expected = [
        span(at, at + 1)
        for at in range(offset_bytes, min(offset_bytes + size_bytes, len(on_drive)))
        if holes.touches(span(on_drive[at], on_drive[at] + 1))
    ]
    assert window.unread_known
    assert window.unread_within(offset_bytes, size_bytes) == ExtentSet(expected)


def test_source_without_a_map_knows_of_no_unread_range_and_says_so() -> None:
    window = Window(BytesSource(), BACKWARDS)
    assert not window.unread_known
    assert not window.unread_within(0, 100)


def test_fully_read_source_is_known_to_be() -> None:
    window = Window(BytesSource(unread=ExtentSet()), BACKWARDS)
    assert window.unread_known
    assert not window.unread_within(0, 100)


@given(layout=layouts, offset_bytes=st.integers(0, 500), size_bytes=st.integers(0, 500))
def test_part_of_a_window_is_a_window_on_that_part(layout: Layout, offset_bytes: int, size_bytes: int) -> None:
    part = Window(BytesSource(), layout).part(offset_bytes, size_bytes)
    assert part.read_at(0, 10**6) == file_of(layout)[offset_bytes : offset_bytes + size_bytes]


def test_window_and_its_parts_spend_from_one_budget_of_bytes() -> None:
    window = Window(BytesSource(), (span(0, 1000),), budget=Budget(bytes_left=100))
    part = window.part(0, 500)
    window.read_at(0, 60)
    part.read_at(0, 40)
    with pytest.raises(BudgetExceeded):
        part.read_at(0, 1)


def test_window_and_its_parts_spend_from_one_budget_of_steps() -> None:
    window = Window(BytesSource(), (span(0, 1000),), budget=Budget(steps_left=2))
    window.read_at(0, 1)
    window.part(10, 20).read_at(0, 1)
    with pytest.raises(BudgetExceeded):
        window.read_at(0, 1)


def test_reads_outside_the_window_cost_nothing() -> None:
    budget = Budget(steps_left=0)
    window = Window(BytesSource(), (span(0, 10),), budget=budget)
    assert [window.read_at(10, 5), window.read_at(-1, 5), window.read_at(0, 0)] == [b"", b"", b""]
    assert budget == Budget(steps_left=0)


def test_budget_is_charged_for_what_can_be_read_not_for_what_a_hostile_header_asks() -> None:
    budget = Budget(bytes_left=10)
    assert Window(BytesSource(), (span(0, 10),), budget=budget).read_at(0, 2**60) == DRIVE[:10]
    assert budget.bytes_left == 0
