"""Fractal heaps: where new groups keep many links, and objects many attributes (file format specification, III.G)."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from signatures._hdf5.btree2 import read_records
from signatures._hdf5.filters import DEFLATE, INFLATE_STEP_BYTES
from signatures._hdf5.freespace import check_free_space
from signatures._hdf5.messages import Filter, read_filters
from signatures._hdf5.records import rows, width_of
from signatures._hdf5.space import CHECKSUM_BYTES, MAX_STRUCTURE_BYTES, Damage, Fields, Space, lookup3

MAX_NESTING = 64
MAX_HEAP_BYTES = 1 << 28
_BLOCKS_SEALED = 0x02  # header flag: direct blocks carry checksums
_MANAGED, _HUGE, _TINY = 0, 1, 2
_TINY_SHORT_ID_BYTES = 18  # ids up to here give a tiny object's size in four bits


@dataclass(slots=True, kw_only=True)
class FractalHeap:
    """An open heap: its blocks read and checked, its objects ready to be taken.

    Attributes:
        offset_width: bytes of a managed object's offset in its id.
        length_width: bytes of a managed object's length in its id.
        filters: applied to blocks and huge objects.
        starts: heap offsets of the direct blocks, ascending.
        blocks: their (window offset, bytes).
        huge: (window offset, size) of huge objects by their number.
    """

    space: Space
    address: int
    id_bytes: int
    flags: int
    offset_width: int
    length_width: int
    width: int
    start_bytes: int
    max_direct_bytes: int
    filters: tuple[Filter, ...]
    starts: list[int] = field(default_factory=list)
    blocks: list[tuple[int, bytes]] = field(default_factory=list)
    huge: dict[int, tuple[int, int]] = field(default_factory=dict)

    def take(self, identifier: bytes) -> tuple[bytes, int]:
        """Return an object's bytes, and where in the window they lie.

        Raises:
            Damage: there is no such object.
        """
        kind = identifier[0] >> 4 & 3 if identifier else -1
        if kind == _MANAGED and identifier[0] >> 6 == 0:
            return self._take_managed(identifier)
        if kind == _TINY:
            return self._take_tiny(identifier)
        if kind == _HUGE:
            return self._take_huge(identifier)
        raise Damage("heap", self.space.at(self.address), "no heap object has such an id")

    def _take_managed(self, identifier: bytes) -> tuple[bytes, int]:
        ((offset, size_bytes),) = rows(identifier[1:], (self.offset_width, self.length_width))[:1] or ((0, 0),)
        index = bisect_right(self.starts, offset) - 1
        if index >= 0 and size_bytes:
            at_bytes, block = self.blocks[index]
            inside = offset - self.starts[index]
            if inside + size_bytes <= len(block):
                return block[inside : inside + size_bytes], at_bytes + inside
        raise Damage("heap", self.space.at(self.address), "a heap object lies outside its heap")

    def _take_tiny(self, identifier: bytes) -> tuple[bytes, int]:
        short = self.id_bytes <= _TINY_SHORT_ID_BYTES
        size_bytes = 1 + (identifier[0] & 0x0F if short else int.from_bytes(identifier[:2], "big") & 0x0FFF)
        first = 1 if short else 2
        return identifier[first : first + size_bytes], self.space.at(self.address)

    def _take_huge(self, identifier: bytes) -> tuple[bytes, int]:
        place = self._direct_huge(identifier) or self.huge.get(int.from_bytes(identifier[1:9], "little"))
        if place is None:
            raise Damage("heap", self.space.at(self.address), "a huge heap object is not in its tree")
        address, size_bytes = place
        content = self.space.read(address, size_bytes, "a huge heap object")
        self.space.reached(address, size_bytes)
        return unfilter(content, self.filters, 0, self.space.at(address)), self.space.at(address)

    def _direct_huge(self, identifier: bytes) -> tuple[int, int] | None:
        """Return address and size where the id itself holds them."""
        space = self.space
        needed = space.address_bytes + space.length_bytes * (2 if self.filters else 1) + (4 if self.filters else 0)
        if min(self.id_bytes, len(identifier)) < 1 + needed:  # a tree may tell shorter ids than its heap
            return None
        ((address, size_bytes),) = rows(identifier[1 : 1 + needed], (space.address_bytes, space.length_bytes))[:1]
        return address, size_bytes


def open_heap(space: Space, address: int) -> FractalHeap:
    """Read a heap's header and all its blocks; broken blocks are reported and left out.

    Raises:
        Damage: the header is broken.
    """
    heap, rest = _read_head(space, address)
    huge_tree, root, root_rows, root_bytes, root_mask = rest
    if huge_tree is not None:
        _read_huge(heap, huge_tree)
    if root is None:
        return heap
    found: list[tuple[int, int, bytes]] = []
    budget = [MAX_HEAP_BYTES]
    try:
        if root_rows:
            _read_indirect(heap, root, root_rows, 0, found, budget, 0)
        else:
            found.append((0, space.at(root), _read_direct(heap, root, heap.start_bytes, root_bytes, root_mask)))
    except Damage as damage:
        space.damage(damage)
    found.sort(key=lambda block: block[0])
    heap.starts = [start for start, _, _ in found]
    heap.blocks = [(at_bytes, content) for _, at_bytes, content in found]
    return heap


def _read_head(space: Space, address: int) -> tuple[FractalHeap, tuple[int | None, int | None, int, int, int]]:
    size, length = space.address_bytes, space.length_bytes
    fixed_bytes = 22 + 12 * length + 3 * size
    filter_bytes = int.from_bytes(space.read(address + 7, 2, "a heap's header"), "little")
    total_bytes = fixed_bytes + (length + 4 + filter_bytes if filter_bytes else 0) + CHECKSUM_BYTES
    head = space.read_sealed(address, total_bytes, b"FRHP\0", "a heap's header")
    fields = Fields(space, head, space.at(address), position=5)
    id_bytes, _, flags, max_managed = fields.number(2), fields.number(2), fields.number(1), fields.number(4)
    fields.length()
    huge_tree = fields.address()
    fields.length()
    free_space = fields.address()
    fields.raw(8 * length)
    width, start_bytes, max_direct_bytes = fields.number(2), fields.length(), fields.length()
    heap_bits, _start_rows, root = fields.number(2), fields.number(2), fields.address()
    root_rows, root_bytes, root_mask = fields.number(2), 0, 0
    filters: tuple[Filter, ...] = ()
    if filter_bytes:
        root_bytes, root_mask = fields.length(), fields.number(4)
        filters = read_filters(Fields(space, fields.raw(filter_bytes), space.at(address)))
    for power in (width, start_bytes, max_direct_bytes):
        fields.expect(power > 0 and power & (power - 1) == 0, "heap", "an impossible heap")
    fields.expect(start_bytes <= max_direct_bytes <= MAX_STRUCTURE_BYTES, "heap", "an impossible heap")
    fields.expect(0 < heap_bits <= 64 and id_bytes > 0, "heap", "an impossible heap")
    if free_space is not None:
        check_free_space(space, free_space)
    heap = FractalHeap(
        space=space,
        address=address,
        id_bytes=id_bytes,
        flags=flags,
        offset_width=-(-heap_bits // 8),
        length_width=min(-(-(max_direct_bytes.bit_length() - 1) // 8) or 1, width_of(max_managed)),
        width=width,
        start_bytes=start_bytes,
        max_direct_bytes=max_direct_bytes,
        filters=filters,
    )
    return heap, (huge_tree, root, root_rows, root_bytes, root_mask)


def _row_bytes(heap: FractalHeap, row: int) -> int:
    """Return the size of the blocks in a row of the doubling table."""
    return heap.start_bytes << max(0, row - 1)


def _read_indirect(
    heap: FractalHeap,
    address: int,
    row_count: int,
    first: int,
    found: list[tuple[int, int, bytes]],
    budget: list[int],
    depth: int,
) -> None:
    """Read an indirect block and all below it into `found` as (heap offset, window offset, bytes)."""
    space = heap.space
    direct_rows = min(row_count, (heap.max_direct_bytes // heap.start_bytes).bit_length() + 1)
    if depth > MAX_NESTING or row_count > MAX_NESTING:
        raise Damage("heap", space.at(address), "a heap nested too deeply")
    direct_widths = (space.address_bytes, space.length_bytes, 4) if heap.filters else (space.address_bytes,)
    prefix_bytes = 5 + space.address_bytes + heap.offset_width
    direct_bytes = direct_rows * heap.width * sum(direct_widths)
    indirect_bytes = (row_count - direct_rows) * heap.width * space.address_bytes
    size_bytes = prefix_bytes + direct_bytes + indirect_bytes + CHECKSUM_BYTES
    block = space.read_sealed(address, size_bytes, b"FHIB\0", "a heap's indirect block")
    _check_prefix(heap, block, address, first)
    children = rows(block[prefix_bytes : prefix_bytes + direct_bytes], direct_widths)
    children += [(child[0],) for child in rows(block[prefix_bytes + direct_bytes :], (space.address_bytes,))]
    undefined = (1 << 8 * space.address_bytes) - 1
    for number, (child, *stored) in enumerate(children):
        row = number // heap.width
        block_bytes = _row_bytes(heap, row)
        if child != undefined:
            budget[0] -= block_bytes if row < direct_rows else size_bytes
            if budget[0] < 0:
                raise Damage("heap", space.at(address), "a heap larger than any file has")
            try:
                if row < direct_rows:
                    stored_bytes, mask = stored if stored else (0, 0)
                    content = _read_direct(heap, child, block_bytes, stored_bytes, mask, first)
                    found.append((first, space.at(child), content))
                else:
                    below = (block_bytes // (heap.start_bytes * heap.width)).bit_length()
                    _read_indirect(heap, child, below, first, found, budget, depth + 1)
            except Damage as damage:
                space.damage(damage)
        first += block_bytes


def _check_prefix(heap: FractalHeap, block: bytes, address: int, first: int) -> None:
    """Compare a block's back-pointer and its offset in the heap."""
    fields = Fields(heap.space, block, heap.space.at(address), position=5)
    if fields.address() != heap.address or fields.number(heap.offset_width) != first:
        raise Damage("heap", heap.space.at(address), "a block belongs to another heap")


def _read_direct(
    heap: FractalHeap, address: int, block_bytes: int, stored_bytes: int, mask: int, first: int = 0
) -> bytes:
    """Return a direct block, unfiltered; its checksum is compared."""
    space = heap.space
    content = space.read(address, stored_bytes if heap.filters else block_bytes, "a heap's block")
    space.reached(address, len(content))
    if heap.filters:
        content = unfilter(content, heap.filters, mask, space.at(address), block_bytes)
    if not content.startswith(b"FHDB\0"):
        raise Damage("signature-missing", space.at(address), "a heap's block does not begin with b'FHDB'")
    _check_prefix(heap, content, address, first)
    if heap.flags & _BLOCKS_SEALED:
        seal = 5 + space.address_bytes + heap.offset_width
        blank = content[:seal] + bytes(CHECKSUM_BYTES) + content[seal + CHECKSUM_BYTES :]
        if lookup3(blank) != int.from_bytes(content[seal : seal + CHECKSUM_BYTES], "little"):
            space.damage(
                Damage("metadata-checksum", space.at(address), "the checksum of a heap's block does not agree")
            )
    return content


def unfilter(
    content: bytes, filters: Sequence[Filter], mask: int, at_bytes: int, limit_bytes: int = MAX_STRUCTURE_BYTES
) -> bytes:
    """Undo the filters over a heap's block or object: deflate, the only one that writers use there.

    Raises:
        Damage: another filter, or a broken stream.
    """
    for index in range(len(filters) - 1, -1, -1):
        if mask >> index & 1:
            continue
        if filters[index].number != DEFLATE:
            raise Damage("heap", at_bytes, f"a heap under filter {filters[index].number}, which is not undone")
        machine = zlib.decompressobj()
        try:
            content = machine.decompress(content, max(limit_bytes, INFLATE_STEP_BYTES))
        except zlib.error as error:
            raise Damage("heap", at_bytes, f"a heap's block does not inflate: {error}") from error
        if not machine.eof:
            raise Damage("heap", at_bytes, "a heap's block does not end")
    return content


def _read_huge(heap: FractalHeap, tree: int) -> None:
    """Remember where the huge objects are that ids name by number."""
    space = heap.space
    size, length = space.address_bytes, space.length_bytes
    layouts = {1: (size, length, length), 2: (size, length, 4, length, length)}
    try:
        for record in read_records(space, tree, (1, 2, 3, 4)):
            widths = layouts[2 if heap.filters else 1]
            if len(record) == sum(widths):
                ((address, size_bytes, *_, number),) = rows(record, widths)
                heap.huge[number] = (address, size_bytes)
    except Damage as damage:
        space.damage(damage)
