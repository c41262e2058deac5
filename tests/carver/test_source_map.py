import dataclasses
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carver.recovery import SourceRecord
from carver.report.source_map import MAX_CELLS, count_in_cells, draw, map_source
from carver.report.summary import summarise
from imaging.extent import ExtentSet, span
from signatures.verdict import Grade
from tests.carver.recoveries import HOSTILE, MIB, carved, example, runs


def mapped(size_bytes, files=(), unread=()):
    source = SourceRecord(locator="x", size_bytes=size_bytes, identity={}, unread=unread)
    return map_source(example(source=source, files=files))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 900))), st.integers(1, 64))
def test_each_cell_counts_its_own_bytes(pairs, cell_bytes):
    size_bytes = 4900
    cells = -(-size_bytes // cell_bytes)
    extents = ExtentSet(span(start, start + size) for start, size in pairs)
    wanted = [extents.within(span(cell * cell_bytes, (cell + 1) * cell_bytes)).total_bytes for cell in range(cells)]
    assert count_in_cells(extents, cell_bytes, cells).tolist() == wanted


@pytest.mark.parametrize("size_bytes", [1, 512, 513, MIB, 64 * MIB + 512, 20 * 10**12, 1 << 60])
def test_cells_cover_the_source_and_are_bounded(size_bytes):
    cells = mapped(size_bytes)
    assert (
        cells.cells <= MAX_CELLS and cells.cell_bytes * (cells.cells - 1) < size_bytes <= cells.cell_bytes * cells.cells
    )


def test_an_empty_source_has_no_cells_and_still_draws():
    cells = mapped(0)
    assert cells.cells == 0 and ElementTree.fromstring(draw(cells)) is not None


def test_one_bad_sector_in_twenty_terabytes_is_seen():
    cells = mapped(20 * 10**12, unread=((10**12, 512, "-"), (10**12 - 10**10, 5 * 10**10, "?")))
    assert cells.status(10**12 // cells.cell_bytes) == "-"
    assert cells.status(0) == "+" and cells.status((10**12 + 3 * 10**10) // cells.cell_bytes) == "?"


def test_a_cell_shows_its_worst_grade():
    good = carved("a", Grade.INTACT, runs((0, 300)))
    bad = carved("b", Grade.DAMAGED, runs((300, 100)))
    cells = mapped(4096, files=(good, bad))
    assert cells.grade(0) is Grade.DAMAGED and cells.grade(1) is None
    assert cells.names[0] == ("a", "b")


class Asked(tuple):
    """Files that count how often one is read by its number: from disk, with all its tensors."""

    def __getitem__(self, number):
        self.times = [*getattr(self, "times", ()), number]
        return super().__getitem__(number)


def test_a_file_that_lies_in_every_cell_is_read_once():
    files = Asked((carved("a", Grade.INTACT, runs((0, 64 * MIB))),))
    cells = mapped(64 * MIB, files=files)
    assert cells.cells > 100 and set(cells.names) == {("a",)}
    assert files.times == [0]


def test_children_are_left_to_their_containers():
    box = carved("a", Grade.INTACT, runs((0, 2048)))
    inner = carved("b", Grade.DAMAGED, runs((512, 512)), parent="a")
    assert mapped(4096, files=(box, inner)).grade(1) is Grade.INTACT


def test_a_child_of_nothing_stands_by_itself():
    lost = carved("b", Grade.DAMAGED, runs((512, 512)), parent="not/listed")
    assert mapped(4096, files=(lost,)).grade(1) is Grade.DAMAGED
    assert summarise(example(files=(lost,))).files == 1


def test_without_a_mapfile_reading_is_unknown():
    cells = mapped(4096, unread=None)
    assert cells.status(0) == " " and "read or not: unknown" in draw(cells)


def test_the_drawing_is_sound_xml_with_a_title_a_cell_and_no_hostile_text():
    text = str(draw(map_source(example())))
    root = ElementTree.fromstring(text)
    cells = map_source(example())
    assert len(root.findall("g/title")) == cells.cells
    assert "<script>" not in text and "\u202e" not in text and HOSTILE not in text
    titles = "\n".join(title.text for title in root.findall("g/title"))
    assert "bad sector: 8.0 KiB" in titles and "files/0000001000000_model.h5" in titles


def test_files_past_the_end_of_the_source_do_no_harm():
    cells = mapped(4096, files=(carved("a", Grade.TRUNCATED, runs((3584, 10_000))),))
    assert cells.grade(7) is Grade.TRUNCATED and int(np.sum(cells.files[Grade.TRUNCATED])) == 512


def test_very_many_unread_ranges_are_mapped():
    unread = tuple((n * 1024, 512, "-") for n in range(200_000))
    cells = mapped(200_000 * 1024, unread=unread)
    assert int(np.sum(cells.unread["-"])) == 200_000 * 512


def test_the_map_knows_an_unknown_status_by_its_letter():
    record = dataclasses.replace(example().source, unread=((0, 512, "x"),))
    cells = map_source(example(source=record))
    assert "x: 512 B" in draw(cells) and cells.status(0) == "x" and 'class="s-unknown"' in draw(cells)
