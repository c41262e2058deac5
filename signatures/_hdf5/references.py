"""Values of variable length: each element names an object of a global heap, which must be there and be long enough.

So is the list of what a virtual dataset is put together from, whose last four bytes are a checksum over it. Chunks
under filters are not looked into.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from imaging.extent import Extent
from signatures._hdf5.dataset import Dataset
from signatures._hdf5.datatype import VLEN
from signatures._hdf5.global_heap import read_global, read_sizes
from signatures._hdf5.messages import LayoutClass
from signatures._hdf5.records import rows
from signatures._hdf5.space import MAX_METADATA_BYTES, Damage, Space
from signatures.tensors import Tensor
from signatures.verdict import Grade

PIECE_ELEMENTS = 1 << 16
NUMBER_BYTES = 4


def check_references(space: Space, dataset: Dataset, tensor: Tensor) -> Tensor:
    """Return the tensor, DAMAGED when what it refers to is not in the file; the first such element is reported."""
    try:
        if dataset.layout.kind is LayoutClass.VIRTUAL:
            _check_mapping(space, dataset)
        elif (
            dataset.datatype.kind == VLEN and not dataset.filters and not dataset.external and tensor.grade != "DAMAGED"
        ):
            for extent in tensor.layout:
                _check_elements(space, dataset, extent)
    except Damage as damage:
        space.damage(damage)
        return dataclasses.replace(tensor, grade=Grade.DAMAGED.value)
    return tensor


def _check_mapping(space: Space, dataset: Dataset) -> None:
    address = dataset.layout.address
    if address is None:
        return
    mapping = read_global(space, address, dataset.layout.heap_number)
    space.check_seal(mapping, address, f"the list of the sources of {dataset.path}")


def _check_elements(space: Space, dataset: Dataset, extent: Extent) -> None:
    element_bytes = 2 * NUMBER_BYTES + space.address_bytes
    if dataset.datatype.size_bytes != element_bytes:
        raise Damage("datatype", extent.offset_bytes, f"{dataset.path}: references of an impossible size")
    for at_bytes, content in _pieces(space, extent, PIECE_ELEMENTS * element_bytes):
        wanted: dict[int, list[tuple[int, int]]] = {}
        for length, address, number in rows(content, (NUMBER_BYTES, space.address_bytes, NUMBER_BYTES)):
            if length:
                wanted.setdefault(address, []).append((number, length * dataset.datatype.base_bytes))
        for address in sorted(wanted):
            if space.metadata_left_bytes < MAX_METADATA_BYTES // 2:
                return  # gigabytes of text: the rest is taken on trust, the structures still to come are not
            sizes = read_sizes(space, address)
            if any(sizes.get(number, -1) < size for number, size in wanted[address]):
                detail = f"{dataset.path}: a value of variable length is not in its heap"
                raise Damage("vlen-reference", at_bytes, detail)


def _pieces(space: Space, extent: Extent, piece_bytes: int) -> Iterator[tuple[int, bytes]]:
    at_bytes = extent.offset_bytes
    for content in space.window.chunks(extent.offset_bytes, extent.size_bytes, chunk_bytes=piece_bytes):
        yield at_bytes, content
        at_bytes += len(content)
