"""Links: what a group holds, in old groups (symbol tables) and new ones (link messages, dense links)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from signatures._hdf5.btree2 import read_records
from signatures._hdf5.fractal import open_heap
from signatures._hdf5.header import LINK, LINK_INFO, SYMBOL_TABLE, ObjectHeader
from signatures._hdf5.space import Damage, Fields, Space
from signatures._hdf5.tree1 import Siblings

Table = tuple[int | None, int | None]
MAX_TREE_DEPTH = 64
_HARD, _SOFT, _EXTERNAL = 0, 1, 64
_NO_FREE_BLOCK = 1
_CACHED_NOTHING, _CACHED_TABLE, _CACHED_SOFT_LINK = 0, 1, 2
_NAMES_TREE, _ORDER_TREE, _HASH_BYTES = (
    5,
    6,
    4,
)  # version-2 B-trees over links; the records of the first begin with a hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One name in a group.

    Attributes:
        address: of its object; None for a soft or external link, whose `kind` tells which.
        table: tree and heap of the group it leads to, where the old group that holds the link repeats them.
    """

    name: bytes
    address: int | None
    kind: int = _HARD
    table: Table | None = None

    @property
    def is_external(self) -> bool:
        """Whether it leads into another file."""
        return self.kind == _EXTERNAL


def is_group(header: ObjectHeader) -> bool:
    """Tell whether an object is a group."""
    return any(message.kind in (SYMBOL_TABLE, LINK_INFO, LINK) for message in header.messages)


def read_links(space: Space, header: ObjectHeader, lost: Table | None = None) -> list[Link]:
    """Return the links of a group, sorted by name; what is broken is reported and left out.

    Args:
        space: the file.
        header: the group's.
        lost: tree and heap of an old group whose header has lost its own message of them.
    """
    links: list[Link] = []
    if lost is not None:
        try:
            links.extend(_read_symbol_table(space, *lost))
        except Damage as damage:
            space.damage(damage)
    for message in header.messages:
        try:
            fields = Fields(space, message.body, message.at_bytes)
            if message.kind == SYMBOL_TABLE:
                links.extend(_read_symbol_table(space, fields.address(), fields.address()))
            elif message.kind == LINK:
                links.append(read_link(fields))
            elif message.kind == LINK_INFO:
                links.extend(_read_dense(space, fields))
        except Damage as damage:
            space.damage(damage)
    return sorted(links, key=lambda link: link.name)


def read_link(fields: Fields) -> Link:
    """Take a link message.

    Raises:
        Damage: it is none.
    """
    version, flags = fields.number(1), fields.number(1)
    fields.expect(version == 1 and flags < 0x20, "link", "no link is here")
    kind = fields.number(1) if flags & 0x08 else _HARD
    fields.raw((8 if flags & 0x04 else 0) + (1 if flags & 0x10 else 0))
    name = fields.raw(fields.number(1 << (flags & 3)))
    fields.expect(_is_name(name), "link", "a link without a name, or with one that no link has")
    if kind == _HARD:
        address = fields.address()
        fields.expect(address is not None, "link", "a hard link that leads nowhere")
        return Link(name=name, address=address)
    fields.raw(fields.number(2))
    return Link(name=name, address=None, kind=kind)


def _read_dense(space: Space, fields: Fields) -> Iterator[Link]:
    """Yield the links in a group's fractal heap; broken ones are reported and left out."""
    version, flags = fields.number(1), fields.number(1)
    fields.expect(version == 0 and flags < 4, "link", "no link info is here")
    fields.raw(8 if flags & 1 else 0)
    heap_address, tree = fields.address(), fields.address()
    by_order = fields.address() if flags & 2 else None
    if heap_address is None or tree is None:
        return
    heap = open_heap(space, heap_address)
    if by_order is not None:  # the same again in another order: read for its checksums
        deque(read_records(space, by_order, (_ORDER_TREE,)), maxlen=0)
    for record in read_records(space, tree, (_NAMES_TREE,)):
        try:
            body, at_bytes = heap.take(record[_HASH_BYTES : _HASH_BYTES + heap.id_bytes])
            yield read_link(Fields(space, body, at_bytes))
        except Damage as damage:
            space.damage(damage)


def _read_symbol_table(space: Space, tree: int | None, heap: int | None) -> Iterator[Link]:
    """Yield the links of an old group: its names in a local heap, its objects in the nodes of a B-tree."""
    if tree is None or heap is None:
        raise Damage("link", None, "a group without its tree or heap")
    names = read_local_heap(space, heap)
    last = b""
    for node, low_at, high_at in _symbol_nodes(space, tree):
        try:
            keys = Fields(space, b"", space.at(node))
            low, high = _name_at(keys, names, low_at), _name_at(keys, names, high_at)
            for link in _read_symbol_node(space, node, names):
                if not max(last, low) < link.name <= high:
                    raise Damage(
                        "link-order", space.at(node), "the names of a group are not in order; some cannot be found"
                    )
                last = link.name
                yield link
        except Damage as damage:
            space.damage(damage)


def read_local_heap(space: Space, address: int) -> bytes:
    """Return the data segment of a local heap."""
    head_bytes = 8 + 2 * space.length_bytes + space.address_bytes
    head = space.read_signed(address, head_bytes, b"HEAP\0\0\0\0", "a local heap")
    fields = Fields(space, head, space.at(address), position=8)
    size_bytes, free, segment = fields.length(), fields.length(), fields.address()
    if segment is None:
        raise Damage("heap", space.at(address), "a local heap without data")
    names = space.read(segment, size_bytes, "a local heap's data")
    space.reached(segment, size_bytes)
    _check_free_list(space, space.at(segment), names, free)
    return names


def _check_free_list(space: Space, at_bytes: int, names: bytes, free: int) -> None:
    """Follow a local heap's free blocks, which libhdf5 does before it reads a name."""
    size = space.length_bytes
    left = len(names) // (2 * size)
    while free != _NO_FREE_BLOCK and free != (1 << 8 * size) - 1:
        block = names[free : free + 2 * size] if free < len(names) else b""
        following, room = int.from_bytes(block[:size], "little"), int.from_bytes(block[size:], "little")
        left -= 1
        if left < 0 or len(block) < 2 * size or room == 0 or free + room > len(names) or following == 0:
            raise Damage("heap", at_bytes, "a local heap's list of free blocks is broken")
        free = following


def _symbol_nodes(space: Space, root: int) -> Iterator[tuple[int, int, int]]:
    """Yield the symbol table nodes of a group's B-tree, left to right, each with where its two keys are in the heap.

    A broken node is reported.
    """
    stack, seen, siblings = [(root, MAX_TREE_DEPTH)], {root}, Siblings(space)
    while stack:
        address, above = stack.pop()
        try:
            level, rows = _read_group_node(space, address, above, siblings)
        except Damage as damage:
            space.damage(damage)
            continue
        children = [child for _, child, _ in rows]
        fresh = [row for row in rows if row[1] not in seen]
        if len(set(children)) < len(children) or len(fresh) < len(children):
            space.damage(Damage("tree", space.at(address), "a node of a group's tree was met before"))
        seen.update(children)
        if level == 0:
            yield from ((child, low, high) for low, child, high in fresh)
        else:
            stack.extend((child, level) for _, child, _ in reversed(fresh))
    siblings.close()


def _read_group_node(
    space: Space, address: int, above: int, siblings: Siblings
) -> tuple[int, list[tuple[int, int, int]]]:
    """Return level and (key, child, key) of a node; `above` is the level of its parent."""
    head_bytes = 8 + 2 * space.address_bytes
    head = space.read_signed(address, head_bytes, b"TREE\0", "a group's tree")
    level, used = head[5], int.from_bytes(head[6:8], "little")
    if level >= above:
        raise Damage("tree", space.at(address), "a tree's levels do not fall")
    siblings.meet(address, head)
    step = space.length_bytes + space.address_bytes
    if used > 2 * space.group_internal_k:
        raise Damage("tree", space.at(address), "a node of a group's tree with more children than it has room for")
    space.reached(address, head_bytes + 2 * space.group_internal_k * step + space.length_bytes)
    if not used:
        return level, []
    body = space.read(address + head_bytes, used * step + space.length_bytes, "a group's tree")
    fields = Fields(space, body, space.at(address))
    rows: list[tuple[int, int, int]] = []
    low = fields.length()
    for _ in range(used):
        child, high = fields.address(), fields.length()
        fields.expect(child is not None, "tree", "a tree's child leads nowhere")
        rows.append((low, child or 0, high))
        low = high
    return level, rows


def _read_symbol_node(space: Space, address: int, names: bytes) -> Iterator[Link]:
    head = space.read_signed(address, 8, b"SNOD\x01\0", "a symbol table node")
    count = int.from_bytes(head[6:8], "little")
    entry_bytes = space.length_bytes + space.address_bytes + 24  # the library takes a name's place for a length
    body = space.read(address + 8, count * entry_bytes, "a symbol table node") if count else b""
    if count > 2 * space.group_leaf_k:
        raise Damage("link", space.at(address), "a symbol table node with more names than it has room for")
    space.reached(address, 8 + 2 * space.group_leaf_k * entry_bytes)
    fields = Fields(space, body, space.at(address) + 8)
    for _ in range(count):
        name_at, target, cached = fields.length(), fields.address(), fields.number(4)
        fields.raw(4)
        table = (fields.address(), fields.address())
        fields.raw(16 - 2 * space.address_bytes)
        name = _name_at(fields, names, name_at)
        fields.expect(_is_name(name) and cached <= _CACHED_SOFT_LINK, "link", "an entry of no known kind or name")
        if cached == _CACHED_SOFT_LINK or target is None:
            yield Link(name=name, address=None, kind=_SOFT)
        else:
            yield Link(name=name, address=target, table=table if cached == _CACHED_TABLE else None)


def _is_name(name: bytes) -> bool:
    """Whether the library could have made a link of this name, and can find it again."""
    return bool(name) and b"/" not in name and name != b"."


def _name_at(fields: Fields, names: bytes, at: int) -> bytes:
    stop = names.find(b"\0", at) if at < len(names) else -1
    fields.expect(stop >= 0, "link", "a name lies outside its heap")
    return names[at:stop]


def table_of(space: Space, header: ObjectHeader) -> tuple[int | None, int | None] | None:
    """Return tree and heap of an old group."""
    message = header.first(SYMBOL_TABLE)
    if message is None:
        return None
    fields = Fields(space, message.body, message.at_bytes)
    return fields.address(), fields.address()
