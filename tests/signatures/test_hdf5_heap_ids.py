"""Fractal heaps of HDF5: ids that are shorter than the heap says, whose checksums are right all the same."""

from types import SimpleNamespace

import pytest

from signatures._hdf5.fractal import FractalHeap
from signatures._hdf5.space import Damage

SPACE = SimpleNamespace(address_bytes=8, length_bytes=8, at=lambda address: address)


def heap(id_bytes):
    told = {"flags": 0, "offset_width": 4, "length_width": 3, "width": 4, "start_bytes": 512, "max_direct_bytes": 4096}
    return FractalHeap(space=SPACE, address=0, id_bytes=id_bytes, filters=(), **told)


@pytest.mark.parametrize("identifier", [b"", b"\x10", b"\x10" + bytes(6), bytes(7), b"\x30" + bytes(6)])
def test_an_id_shorter_than_its_heap_tells_names_no_object(identifier):
    with pytest.raises(Damage):
        heap(64).take(identifier)


def test_a_tiny_object_whose_id_is_one_byte_has_no_contents():
    assert heap(64).take(b"\x20") == (b"", 0)


def test_a_long_tiny_id_tells_its_size_in_twelve_bits():
    assert heap(300).take(b"\x21\x02" + bytes(259)) == (bytes(259), 0)
