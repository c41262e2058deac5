"""Global heaps: collections of values of variable length (file format specification, III.E)."""

from __future__ import annotations

from collections.abc import Iterator

from signatures._hdf5.space import Damage, Space

MAX_COLLECTION_BYTES = 1 << 26


def read_global(space: Space, address: int, number: int) -> bytes:
    """Return object `number` of the collection at `address`.

    Raises:
        Damage: there is no such object.
    """
    objects = read_collection(space, address)
    if number not in objects:
        raise Damage("heap", space.at(address), "a value of variable length is not in its collection")
    return objects[number]


def read_collection(space: Space, address: int) -> dict[int, bytes]:
    """Return the objects of a collection by number; read once a file.

    Raises:
        Damage: it is none.
    """
    known = space.collections.get(address)
    if known is None:
        content = _read(space, address)
        known = {number: content[at : at + length] for number, at, length in _objects(space, address, content)}
        space.collections[address] = known
    return known


def read_sizes(space: Space, address: int) -> dict[int, int]:
    """Return how long the objects of a collection are, by number; nothing of it is kept.

    Raises:
        Damage: it is none.
    """
    return {number: length for number, _, length in _objects(space, address, _read(space, address))}


def _read(space: Space, address: int) -> bytes:
    size = space.length_bytes
    head = space.read_signed(address, 8 + size, b"GCOL\x01\0\0\0", "a global heap")
    size_bytes = int.from_bytes(head[8:], "little")
    if not 8 + size <= size_bytes <= MAX_COLLECTION_BYTES:
        raise Damage("heap", space.at(address), "a global heap of impossible size")
    content = space.read(address, size_bytes, "a global heap")
    space.reached(address, size_bytes)
    return content


def _objects(space: Space, address: int, content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (number, where in `content`, length) of each object."""
    head_bytes = at = -(-(8 + space.length_bytes) // 8) * 8  # the heap's own head and each object's are as long
    while at + head_bytes <= len(content):
        number = int.from_bytes(content[at : at + 2], "little")
        length = int.from_bytes(content[at + 8 : at + 8 + space.length_bytes], "little")
        needed = length if number == 0 else head_bytes + length  # the free rest counts its own head
        if at + needed > len(content):
            raise Damage("heap", space.at(address) + at, "an object runs out of its global heap")
        if number == 0:
            return
        yield number, at + head_bytes, length
        at += head_bytes + -(-length // 8) * 8
