"""Patched: what cannot be read is skipped page by page, known as such, and ends no search."""

from __future__ import annotations

import numpy as np

from carver.stages import seeking
from carver.stages.patched import LEAST_BYTES, Patched
from fixtures.formats.onnx_external_data import build, network
from imaging.errors import ReadFault
from imaging.extent import ExtentSet, span
from imaging.image import MappedImage
from signatures import onnx
from signatures._onnx_data_plan import data_files
from tests.signatures.zip_window import window_on

CONTENT = np.random.default_rng(1).bytes(1 << 16)
BLOCK = 4096


class Broken:
    """A drive that fails where it must, and counts how often it was asked there."""

    locator, sector_bytes, unread = "drive", 512, None

    def __init__(self, content: bytes, bad: ExtentSet) -> None:
        self.content, self.bad, self.faults = content, bad, 0

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        if self.bad.touches(span(offset_bytes, offset_bytes + size_bytes)):
            self.faults += 1
            raise ReadFault("bad", offset_bytes=offset_bytes, size_bytes=size_bytes, errno=5)
        return self.content[offset_bytes : offset_bytes + size_bytes]


def test_a_page_that_fails_is_zeros_and_the_rest_of_the_read_is_there():
    bad = span(5 * LEAST_BYTES, 6 * LEAST_BYTES)
    drive = Broken(CONTENT, ExtentSet((span(bad.offset_bytes + 700, bad.offset_bytes + 701),)))
    patched = Patched(drive, ExtentSet())
    expected = CONTENT[: bad.offset_bytes] + bytes(bad.size_bytes) + CONTENT[bad.end_bytes :]
    assert patched.read_at(0, len(CONTENT)) == expected
    assert patched.unread == ExtentSet((bad,))
    faults = drive.faults
    assert patched.read_at(100, len(CONTENT)) == expected[100:]
    assert drive.faults == faults


def test_what_is_known_to_be_unread_is_not_asked_for():
    drive = Broken(CONTENT, ExtentSet((span(512, 1024),)))
    patched = Patched(drive, ExtentSet((span(512, 1024),)))
    assert patched.read_at(0, 2048) == CONTENT[:512] + bytes(512) + CONTENT[1024:2048]
    assert drive.faults == 0
    assert [patched.was_read(span(*ends)) for ends in ((0, 512), (0, 513), (1023, 1024), (1024, 4096))] == [
        *(True, False, False, True),
    ]


def test_nothing_is_there_behind_the_end():
    assert Patched(Broken(CONTENT, ExtentSet()), ExtentSet()).read_at(len(CONTENT) - 2, 9) == CONTENT[-2:]
    assert Patched(Broken(CONTENT, ExtentSet()), ExtentSet()).read_at(len(CONTENT), 9) == b""


def _sought(hole_blocks: int, *, in_data: bool) -> tuple[seeking._Seeking, int, ExtentSet]:
    """Return a search on a drive with a bad block, before the data or in its middle, and where the data begins."""
    data, content = build(3, network(), align_bytes=256)
    parts = [content, CONTENT, data, CONTENT]
    padded = [part + bytes(-len(part) % BLOCK) for part in parts]
    start = len(padded[0]) + len(padded[1])
    middle = start + 9 * BLOCK if in_data else start - 9 * BLOCK
    bad = ExtentSet((span(middle, middle + hole_blocks * BLOCK),))
    here = span(0, len(content))
    image = MappedImage(source=Broken(b"".join(padded), bad), mapfile=None, map_path=None)  # type: ignore[arg-type]
    search = seeking._Seeking(image, ExtentSet((here,)), seeking.Hooks(), ExtentSet())
    search.seek([here], data_files(onnx.validate(window_on(content)).facts["external_data"]))
    return search, start, bad


def test_data_is_found_though_a_block_near_it_cannot_be_read():
    search, start, bad = _sought(1, in_data=False)
    assert list(search.found) == [start]
    (told,) = search.sought
    assert (told["outcome"], told["unread_bytes"]) == ("found", bad.total_bytes)


def test_data_is_found_though_a_block_in_it_cannot_be_read():
    search, start, _ = _sought(1, in_data=True)
    assert list(search.found) == [start]
