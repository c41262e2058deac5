"""HDF5: values that lie in global heaps, and the sources of virtual datasets, must be there."""

import io

import numpy as np
import pytest

from signatures._hdf5 import references
from signatures.hdf5 import FORMAT
from signatures.verdict import Grade
from tests.signatures.zip_window import codes, judge

h5py = pytest.importorskip("h5py")
GOOD = (Grade.CONSISTENT, frozenset())


def built(fill):
    held = io.BytesIO()
    with h5py.File(held, "w", libver="latest") as file:
        fill(file)
    return held.getvalue()


def texts(file):
    file.create_dataset("texts", data=["one", "", "three " * 900], dtype=h5py.string_dtype())


def ragged(file):
    made = file.create_dataset("ragged", (2,), dtype=h5py.vlen_dtype("f8"))
    made[0], made[1] = np.arange(5.0), np.arange(700.0)


def virtual(file):
    layout = h5py.VirtualLayout(shape=(2, 10), dtype="f4")
    layout[0] = h5py.VirtualSource("other.h5", "data", shape=(10,))
    file.create_virtual_dataset("joined", layout)


def told(content):
    verdict = judge(FORMAT, content)
    return verdict.grade, frozenset(codes(verdict))


@pytest.mark.parametrize("fill", [texts, ragged])
def test_values_of_variable_length_that_are_there_are_good(fill):
    assert told(built(fill)) == GOOD


def test_a_value_that_its_heap_does_not_have_is_damage():
    for fill, length in ((texts, 5400), (ragged, 700)):
        content = bytearray(built(fill))
        at = content.index(
            length.to_bytes(4, "little") + content[content.index(length.to_bytes(4, "little")) + 4 :][:8]
        )
        content[at + 12] = 99  # the object's number
        grade, found = told(bytes(content))
        assert (grade, found) == (Grade.DAMAGED, {"vlen-reference"})


def test_a_value_longer_than_its_object_is_damage():
    content = bytearray(built(ragged))
    at = content.index((700).to_bytes(4, "little"))
    content[at : at + 4] = (701).to_bytes(4, "little")
    assert told(bytes(content)) == (Grade.DAMAGED, {"vlen-reference"})


def test_a_heap_that_is_gone_is_damage():
    content = built(texts)
    at = content.index(b"GCOL")
    assert told(content[:at] + bytes(4) + content[at + 4 :]) == (Grade.DAMAGED, {"signature-missing"})


def test_the_list_of_a_virtual_datasets_sources_is_under_a_checksum():
    content = built(virtual)
    assert told(content) == (Grade.CONSISTENT, {"virtual-dataset"})
    at = content.index(b"other.h5")
    changed = content[:at] + b"O" + content[at + 1 :]
    assert told(changed) == (Grade.DAMAGED, {"virtual-dataset", "metadata-checksum"})


def test_of_gigabytes_of_text_not_all_is_looked_up(monkeypatch):
    content = bytearray(built(texts))
    at = content.index((5400).to_bytes(4, "little"))
    content[at + 12] = 99
    monkeypatch.setattr(references, "MAX_METADATA_BYTES", 1 << 60)
    assert told(bytes(content)) == GOOD


def test_the_free_rest_of_a_heap_lies_inside_it():
    content = bytearray(built(lambda file: file.create_dataset("texts", data=["one"], dtype=h5py.string_dtype())))
    assert told(bytes(content)) == GOOD
    free = content.index(b"GCOL") + 16 + 16 + 8  # behind the heap's head and the only object
    content[free + 14] = 0x80
    assert told(bytes(content)) == (Grade.DAMAGED, {"heap"})


def test_a_link_whose_name_holds_a_slash_is_damage():
    content = io.BytesIO()
    with h5py.File(content, "w", libver="earliest") as file:  # names lie in a heap without a checksum
        file["weight"] = np.arange(3.0)
    changed = content.getvalue().replace(b"weight\0", b"we/ght\0")
    assert told(content.getvalue())[0] is Grade.CONSISTENT
    assert told(changed) == (Grade.DAMAGED, {"link"})
