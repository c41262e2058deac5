from xml.etree import ElementTree

import pytest

from carver.report.map_picture import MAX_CELLS, picture_html, picture_in_page, picture_svg
from imaging.extent import ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile

KIB, MIB = 1 << 10, 1 << 20
SVG = "{http://www.w3.org/2000/svg}"


def mapfile_of(size_bytes, **marks):
    """Make a map of read bytes, but for (offset, size) of each status by name."""
    mapfile = Mapfile.covering(size_bytes)
    mapfile.mark(span(0, size_bytes), BlockStatus.FINISHED)
    for status, (offset_bytes, held_bytes) in marks.items():
        mapfile.mark(span(offset_bytes, offset_bytes + held_bytes), BlockStatus[status])
    return mapfile


def drawn(mapfile, **others):
    return ElementTree.fromstring(picture_svg(mapfile, name="disk.map", **others))


def texts(root):
    return [element.text for element in root.iter(f"{SVG}text")]


def titled(root):
    """Return class and title of each block that is drawn by itself."""
    found = [(rect.get("class"), rect.find(f"{SVG}title")) for rect in root.iter(f"{SVG}rect")]
    return [(kind, title.text) for kind, title in found if title is not None]


def test_each_status_has_its_class_its_place_and_its_size_in_the_legend():
    marks = {"BAD_SECTOR": (0, 512), "NON_SCRAPED": (MIB, KIB), "NON_TRIMMED": (2 * MIB, 5), "NON_TRIED": (3 * MIB, 7)}
    root = drawn(mapfile_of(4 * MIB, **marks))
    kinds = [(kind, title.split("+")[0]) for kind, title in titled(root)]
    assert kinds == [("s-bad", "0x0"), ("s-scrape", "0x100000"), ("s-trim", "0x200000"), ("s-untried", "0x300000")]
    legend = "\n".join(texts(root))
    assert "disk.map: 99.96 % of 4.0 MiB read" in legend
    assert "bad sector: 512 B (0.01 %) in 1 area" in legend
    assert "not trimmed: 5 B (less than 0.01 %) in 1 area" in legend
    assert "read: 3.9 MiB (99.96 %) in 4 areas" in legend


def test_a_block_tells_what_lies_in_it():
    ((_, title),) = titled(drawn(mapfile_of(4 * MIB, BAD_SECTOR=(512, 512))))
    assert title.splitlines() == ["0x0+0x800 (2.0 KiB)", "bad sector: 512 B", "read: 1.5 KiB"]


@pytest.mark.parametrize("size_bytes", [1, 512, MIB, 64 * MIB + 512, 20 * 10**12, 1 << 60])
def test_one_bad_sector_is_seen_on_a_drive_of_any_size_and_the_picture_stays_small(size_bytes):
    bad = (size_bytes * 2 // 3 // 512 * 512, min(512, size_bytes))
    text = picture_svg(mapfile_of(size_bytes, BAD_SECTOR=bad), name="m")
    assert [kind for kind, _ in titled(ElementTree.fromstring(text))] == ["s-bad"]
    assert len(text) < 120 * MAX_CELLS


def test_where_the_rescue_stands_is_framed():
    mapfile = mapfile_of(4 * MIB)
    mapfile.position_bytes = 2 * MIB
    frames = [rect for rect in drawn(mapfile).iter(f"{SVG}rect") if rect.get("class") == "here"]
    assert len(frames) == 1
    mapfile.position_bytes = 4 * MIB  # behind the last block
    assert not [rect for rect in drawn(mapfile).iter(f"{SVG}rect") if rect.get("class") == "here"]


def test_only_the_domain_is_shown_and_counted():
    mapfile = mapfile_of(4 * MIB, BAD_SECTOR=(0, 512))
    root = drawn(mapfile, domain=ExtentSet([span(MIB, 2 * MIB)]))
    assert titled(root) == []
    assert "disk.map: 100.00 % of 1.0 MiB read" in texts(root)
    assert any(path.get("class") == "s-unknown" for path in root.iter(f"{SVG}path"))


def test_an_empty_map_still_draws():
    assert "disk.map: 100 % of 0 B read" in texts(drawn(Mapfile()))


def test_a_hostile_name_stays_text():
    name = '<script>alert(1)</script>&"'
    assert "<script" not in picture_svg(mapfile_of(MIB), name=name)
    page = picture_html(mapfile_of(MIB), name=name)
    assert "<script" not in page and "default-src 'none'" in page
    assert page.startswith("<!DOCTYPE html>")


def test_the_grid_of_a_page_shows_what_was_not_read():
    grid = picture_in_page(4 * MIB, ((0, 512, "-"), (MIB, MIB, "?")))
    kinds = [rect.get("class") for rect in ElementTree.fromstring(grid).iter("rect")]
    assert kinds.count("s-bad") == 1 and kinds.count("s-untried") == 512
    assert "style" not in grid, "the page has it"


def test_the_grid_of_an_empty_source_still_draws():
    assert ElementTree.fromstring(picture_in_page(0, ())) is not None
