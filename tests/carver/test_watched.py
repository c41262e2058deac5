"""A long look at the image ends when the run is stopped."""

from __future__ import annotations

from itertools import count

import pytest

from carver.stages.watched import Watched
from fixtures.formats import tf_checkpoint_data as data_files
from imaging.errors import Interrupted
from signatures.tf_checkpoint_data import FORMAT
from tests.signatures.zip_window import MemorySource


def test_it_reads_as_its_source_does_until_it_is_stopped():
    asked = count()
    watched = Watched(MemorySource(b"0123456789"), lambda: next(asked) >= 2)
    assert (watched.locator, watched.size_bytes, watched.sector_bytes, watched.unread) == ("memory", 10, 512, None)
    assert watched.read_at(2, 3) == b"234"
    assert watched.read_at(9, 3) == b"9"
    with pytest.raises(Interrupted):
        watched.read_at(0, 1)


def test_a_search_for_a_data_file_is_stopped_within_a_few_megabytes():
    _, index = data_files.build(3, data_files.MODEL)
    source = MemorySource(bytes(100 << 20) + index)
    asked = count()
    watched = Watched(source, lambda: next(asked) >= 5)
    with pytest.raises(Interrupted):
        list(FORMAT.layouts(watched, source.size_bytes - 8, FORMAT.patterns[0]))
    assert source.reads == 5
