"""B-trees of version 2: records of equal size in nodes under checksums (file format specification, III.A.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from signatures._hdf5.records import rows, width_of
from signatures._hdf5.space import CHECKSUM_BYTES, Damage, Fields, Space

MAX_DEPTH = 32
MAX_NODE_BYTES = 1 << 24
_NODE_OVERHEAD_BYTES = 10  # signature, version, type, checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    """How the nodes at one height look: how many records fit, and the widths of their child pointers."""

    capacity: int
    pointer_widths: tuple[int, ...]


def read_records(space: Space, address: int, kinds: tuple[int, ...]) -> Iterator[bytes]:
    """Yield the records of the tree whose header is at `address`; broken nodes are reported and left out.

    Raises:
        Damage: the header is broken, or the tree is of another kind than `kinds`.
    """
    head_bytes = 22 + space.address_bytes + space.length_bytes
    head = space.read_sealed(address, head_bytes, b"BTHD\0", "a B-tree's header")
    fields = Fields(space, head, space.at(address), position=5)
    kind, node_bytes, record_bytes = fields.number(1), fields.number(4), fields.number(2)
    depth, _split, _merge = fields.number(2), fields.number(1), fields.number(1)
    root, root_records, total = fields.address(), fields.number(2), fields.length()
    fields.expect(kind in kinds, "tree", f"a B-tree of type {kind}")
    fields.expect(depth <= MAX_DEPTH and 0 < node_bytes <= MAX_NODE_BYTES, "tree", "an impossible B-tree")
    fields.expect(record_bytes > 0, "tree", "a B-tree with records of no size")
    if root is None:
        return
    levels = _levels(space, node_bytes, record_bytes, depth)
    found = 0
    for record in _walk(space, levels, root, root_records, record_bytes):
        found += 1
        yield record
    if found != total:
        space.damage(Damage("tree", space.at(address), f"a B-tree of {total} records, of which {found} are there"))


def _levels(space: Space, node_bytes: int, record_bytes: int, depth: int) -> list[_Level]:
    """Return the shape of nodes from the leaves up."""
    capacity = (node_bytes - _NODE_OVERHEAD_BYTES) // record_bytes
    levels = [_Level(capacity=capacity, pointer_widths=())]
    count_width, below = width_of(capacity), capacity
    for height in range(1, depth + 1):
        widths = (space.address_bytes, count_width) + ((width_of(below),) if height > 1 else ())
        pointer_bytes = sum(widths)
        capacity = (node_bytes - _NODE_OVERHEAD_BYTES - pointer_bytes) // (record_bytes + pointer_bytes)
        levels.append(_Level(capacity=capacity, pointer_widths=widths))
        below = (capacity + 1) * below + capacity
        if below >= 1 << 64:
            raise Damage("tree", None, "a B-tree deeper than any file")
    return levels


def _walk(space: Space, levels: list[_Level], root: int, root_records: int, record_bytes: int) -> Iterator[bytes]:
    stack, seen = [(root, root_records, len(levels) - 1)], {root}
    while stack:
        address, count, height = stack.pop()
        try:
            records, children = _read_node(space, levels[height], address, count, height, record_bytes)
        except Damage as damage:
            space.damage(damage)
            continue
        yield from records
        for child, child_count in reversed(children):
            if child in seen:
                space.damage(Damage("tree", space.at(address), "a node of a B-tree was met before"))
                continue
            seen.add(child)
            stack.append((child, child_count, height - 1))


def _read_node(
    space: Space, level: _Level, address: int, count: int, height: int, record_bytes: int
) -> tuple[list[bytes], list[tuple[int, int]]]:
    if count > level.capacity:
        raise Damage("tree", space.at(address), "a B-tree's node with more records than it has room for")
    children_bytes = (count + 1) * sum(level.pointer_widths) if height else 0
    size_bytes = 6 + count * record_bytes + children_bytes + CHECKSUM_BYTES
    node = space.read_sealed(address, size_bytes, b"BTIN\0" if height else b"BTLF\0", "a B-tree's node")
    records = [node[at : at + record_bytes] for at in range(6, 6 + count * record_bytes, record_bytes)]
    if not height:
        return records, []
    pointers = rows(node[6 + count * record_bytes :], level.pointer_widths)
    return records, [(pointer[0], pointer[1]) for pointer in pointers]
