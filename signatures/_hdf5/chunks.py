"""Chunks: every kind of index over a chunked dataset's pieces (file format specification, VII and III.A.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product

from signatures._hdf5.arrays import read_extensible_array, read_fixed_array
from signatures._hdf5.btree2 import read_records
from signatures._hdf5.messages import DataLayout, Dataspace, Index
from signatures._hdf5.records import rows
from signatures._hdf5.space import Damage, Space
from signatures._hdf5.tree1 import Siblings

MAX_TREE_LEVEL = 64
_MASK_BYTES = 4
_BATCH = 4096  # records taken apart at once
_CHUNKS_PLAIN, _CHUNKS_FILTERED = 10, 11  # types of B-trees of version 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One stored chunk.

    Attributes:
        address: relative to the file's base.
        size_bytes: as stored.
        mask: bit i set: filter i was not applied.
        place: its coordinates in chunks where the index tells them, else its number in the index.
    """

    address: int
    size_bytes: int
    mask: int = 0
    place: tuple[int, ...] | int = 0


def read_chunks(space: Space, layout: DataLayout, dataspace: Dataspace, *, filtered: bool) -> Iterator[Chunk]:
    """Yield the stored chunks in the order of the index (implicit chunks have none).

    What is broken is reported and left out.

    Raises:
        Damage: the index's head is broken.
    """
    address = layout.address
    if address is None:
        return
    if layout.index is Index.BTREE_1:
        yield from _from_tree_1(space, layout, dataspace)
    elif layout.index is Index.BTREE_2:
        yield from _from_tree_2(space, layout, address, len(layout.chunk_shape))
    elif layout.index is Index.SINGLE:
        size_bytes = layout.chunk_bytes if layout.single_bytes is None else layout.single_bytes
        yield Chunk(address=address, size_bytes=size_bytes, mask=layout.single_mask)
    else:
        read = read_fixed_array if layout.index is Index.FIXED_ARRAY else read_extensible_array
        for place, row in read(space, address, filtered=filtered):
            if row[0] != (1 << 8 * space.address_bytes) - 1:
                size_bytes, mask = (row[1], row[2]) if filtered else (layout.chunk_bytes, 0)
                yield Chunk(address=row[0], size_bytes=size_bytes, mask=mask, place=place)


def chunk_count(layout: DataLayout, dataspace: Dataspace) -> int:
    """Return how many chunks the whole dataset would have."""
    shape = dataspace.shape or ()
    return math.prod(-(-size // chunk) for size, chunk in zip(shape, layout.chunk_shape, strict=False))


def implicit_runs(layout: DataLayout, dataspace: Dataspace) -> Iterator[tuple[int, int]]:
    """Yield (number, count) of the runs of implicit chunks inside the shape: they are numbered over its limits."""
    sizes, limits = layout.chunk_shape, dataspace.limits
    inside = [-(-size // chunk) for size, chunk in zip(dataspace.shape or (), sizes, strict=False)]
    room = [-(-(limit or 0) // chunk) for limit, chunk in zip(limits, sizes, strict=False)]
    for place in product(*(range(count) for count in inside[:-1])):
        number = 0
        for at, count in zip((*place, 0), room, strict=True):
            number = number * count + at
        yield number, inside[-1]


def coordinates(number: int, layout: DataLayout, dataspace: Dataspace) -> tuple[int, ...]:
    """Return a chunk's coordinates from its number in an array index.

    Numbers count in row-major order over the largest shape the dataset may have; a dimension without a limit (an
    extensible array has exactly one) counts slowest, whatever its position.
    """
    limits = dataspace.limits or dataspace.shape or ()
    sizes = layout.chunk_shape
    counts = [None if limit is None else -(-limit // size) for limit, size in zip(limits, sizes, strict=False)]
    order = sorted(range(len(counts)), key=lambda axis: (counts[axis] is not None, axis))
    place = [0] * len(counts)
    for axis in reversed(order):
        count = counts[axis]
        if count is None:
            place[axis] = number
        elif count:
            number, place[axis] = divmod(number, count)
    return tuple(place)


def _from_tree_1(space: Space, layout: DataLayout, dataspace: Dataspace) -> Iterator[Chunk]:
    root = layout.address or 0
    stack, seen, siblings = [(root, MAX_TREE_LEVEL)], {root}, Siblings(space)
    while stack:
        address, above = stack.pop()
        try:
            level, table = _read_chunk_node(
                space, address, above, siblings, (*layout.chunk_shape, layout.element_bytes)
            )
        except Damage as damage:
            space.damage(damage)
            continue
        if level == 0:
            yield from _leaf_chunks(space, layout, dataspace, address, table)
            continue
        for row in reversed(table):
            child = row[-1]
            if child in seen:
                space.damage(Damage("tree", space.at(address), "a node of a chunk tree was met before"))
                continue
            seen.add(child)
            stack.append((child, level))
    siblings.close()


def _read_chunk_node(
    space: Space, address: int, above: int, siblings: Siblings, sizes: tuple[int, ...]
) -> tuple[int, list[tuple[int, ...]]]:
    """Return level and rows (stored size, mask, offsets …, 0, child) of a node of a version-1 chunk tree."""
    head_bytes = 8 + 2 * space.address_bytes
    head = space.read_signed(address, head_bytes, b"TREE\x01", "a chunk tree")
    level, used = head[5], int.from_bytes(head[6:8], "little")
    if level >= above:
        raise Damage("tree", space.at(address), "a tree's levels do not fall")
    siblings.meet(address, head)
    widths = (4, _MASK_BYTES, *([8] * len(sizes)), space.address_bytes)
    if used > 2 * space.chunk_k:
        raise Damage("tree", space.at(address), "a node of a chunk tree with more children than it has room for")
    space.reached(address, head_bytes + (2 * space.chunk_k + 1) * sum(widths) - space.address_bytes)
    key_bytes = sum(widths) - space.address_bytes
    body = space.read(address + head_bytes, used * sum(widths) + key_bytes, "a chunk tree") if used else b""
    last = rows(body[len(body) - key_bytes :], widths[:-1])[0][2:] if used else ()
    if any(at % size for at, size in zip(last, sizes, strict=False)):
        raise Damage("chunk-place", space.at(address), "a chunk tree's last key is no chunk's place")
    return level, rows(body[: used * sum(widths)], widths)


def _leaf_chunks(
    space: Space, layout: DataLayout, dataspace: Dataspace, node: int, table: list[tuple[int, ...]]
) -> Iterator[Chunk]:
    shape = dataspace.shape or ()
    for size_bytes, mask, *offsets, zero, address in table:
        fits = all(
            at % chunk == 0 and at < size for at, chunk, size in zip(offsets, layout.chunk_shape, shape, strict=False)
        )
        if zero or not fits:
            space.damage(Damage("chunk-place", space.at(node), f"a chunk at {offsets}, where the dataset has none"))
            continue
        place = tuple(at // chunk for at, chunk in zip(offsets, layout.chunk_shape, strict=True))
        yield Chunk(address=address, size_bytes=size_bytes, mask=mask, place=place)


def _from_tree_2(space: Space, layout: DataLayout, address: int, rank: int) -> Iterator[Chunk]:
    records = read_records(space, address, (_CHUNKS_PLAIN, _CHUNKS_FILTERED))
    while batch := list(islice(records, _BATCH)):
        size_width = len(batch[0]) - space.address_bytes - 8 * rank - _MASK_BYTES
        if 0 < size_width <= 8:
            widths = (space.address_bytes, size_width, _MASK_BYTES, *([8] * rank))
            for target, size_bytes, mask, *place in rows(b"".join(batch), widths):
                yield Chunk(address=target, size_bytes=size_bytes, mask=mask, place=tuple(place))
        elif size_width == -_MASK_BYTES:
            for target, *place in rows(b"".join(batch), (space.address_bytes, *([8] * rank))):
                yield Chunk(address=target, size_bytes=layout.chunk_bytes, place=tuple(place))
        else:
            raise Damage("chunk-index", space.at(address), "a chunk tree with records of an impossible size")
