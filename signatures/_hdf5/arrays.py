"""Fixed and extensible arrays: chunk indexes under checksums (file format specification, VII.C and VII.D)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from signatures._hdf5.records import rows
from signatures._hdf5.space import CHECKSUM_BYTES, Damage, Fields, Space

MAX_PAGE_BITS = 32
MAX_PAGES = 1 << 24
_MASK_BYTES = 4

Entry = tuple[int, tuple[int, ...]]
Bits = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Elements:
    """What one element is: `widths` are (address) or (address, size, mask)."""

    filtered: bool
    size_bytes: int
    widths: tuple[int, ...]


def _elements(fields: Fields, client: int, size_bytes: int, *, filtered: bool) -> _Elements:
    address_bytes = fields.space.address_bytes
    size_width = size_bytes - address_bytes - _MASK_BYTES
    fields.expect(client == (1 if filtered else 0), "chunk-index", "a chunk index of the wrong kind")
    if not filtered:
        fields.expect(size_bytes == address_bytes, "chunk-index", "a chunk index with elements of an impossible size")
        return _Elements(filtered=False, size_bytes=size_bytes, widths=(address_bytes,))
    fields.expect(0 < size_width <= 8, "chunk-index", "a chunk index with elements of an impossible size")
    return _Elements(filtered=True, size_bytes=size_bytes, widths=(address_bytes, size_width, _MASK_BYTES))


def read_fixed_array(space: Space, address: int, *, filtered: bool) -> Iterator[Entry]:
    """Yield (number, (address[, size, mask])) of every element; broken pages are reported and left out.

    Raises:
        Damage: the header or the block is broken.
    """
    head_bytes = 8 + space.length_bytes + space.address_bytes + CHECKSUM_BYTES
    head = space.read_sealed(address, head_bytes, b"FAHD\0", "a fixed array's header")
    fields = Fields(space, head, space.at(address), position=5)
    client, element_bytes, page_bits = fields.number(1), fields.number(1), fields.number(1)
    count, block = fields.length(), fields.address()
    elements = _elements(fields, client, element_bytes, filtered=filtered)
    fields.expect(page_bits <= MAX_PAGE_BITS, "chunk-index", "pages of an impossible size")
    if block is None:
        return
    page = 1 << page_bits
    prefix_bytes = 6 + space.address_bytes
    if count <= page:
        size_bytes = prefix_bytes + count * element_bytes + CHECKSUM_BYTES
        content = space.read_sealed(block, size_bytes, b"FADB\0", "a fixed array's block")
        yield from enumerate(rows(content[prefix_bytes:], elements.widths))
        return
    pages = -(-count // page)
    fields.expect(pages <= MAX_PAGES, "chunk-index", "more pages than any index has")
    prefix_bytes += -(-pages // 8)
    content = space.read_sealed(block, prefix_bytes + CHECKSUM_BYTES, b"FADB\0", "a fixed array's block")
    used = np.unpackbits(np.frombuffer(content, dtype=np.uint8, offset=6 + space.address_bytes), count=pages)
    yield from _read_pages(space, block + prefix_bytes + CHECKSUM_BYTES, used, count, page, elements)


def _read_pages(space: Space, address: int, used: Bits, count: int, page: int, elements: _Elements) -> Iterator[Entry]:
    """Yield the elements of the pages whose entry in `used` is 1."""
    full_bytes = page * elements.size_bytes + CHECKSUM_BYTES
    for number in np.flatnonzero(used).tolist():
        first = number * page
        inside = min(page, count - first)
        size_bytes = inside * elements.size_bytes + CHECKSUM_BYTES
        try:
            content = space.read(address + number * full_bytes, size_bytes, "a page of a chunk index")
        except Damage as damage:
            space.damage(damage)
            return
        space.reached(address + number * full_bytes, size_bytes)
        space.check_seal(content, address + number * full_bytes, "a page of a chunk index")
        yield from enumerate(rows(content[:-CHECKSUM_BYTES], elements.widths), start=first)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Extensible:
    """An extensible array's parameters."""

    elements: _Elements
    header: int
    max_bits: int
    in_index: int
    block_min: int
    super_min: int
    page_bits: int

    @property
    def offset_bytes(self) -> int:
        """Width of a block's offset."""
        return -(-self.max_bits // 8)

    def blocks_in(self, super_block: int) -> tuple[int, int]:
        """Return how many data blocks a super block has, and how many elements each of them."""
        return 1 << super_block // 2, (1 << (super_block + 1) // 2) * self.block_min


def read_extensible_array(space: Space, address: int, *, filtered: bool) -> Iterator[Entry]:
    """Yield (number, (address[, size, mask])) of every element; broken blocks are reported and left out.

    Raises:
        Damage: the header or the index block is broken.
    """
    head_bytes = 12 + 6 * space.length_bytes + space.address_bytes + CHECKSUM_BYTES
    head = space.read_sealed(address, head_bytes, b"EAHD\0", "an extensible array's header")
    fields = Fields(space, head, space.at(address), position=5)
    client, element_bytes, max_bits, in_index = (fields.number(1) for _ in range(4))
    block_min, super_min, page_bits = (fields.number(1) for _ in range(3))
    fields.raw(6 * space.length_bytes)
    index = fields.address()
    fields.expect(0 < max_bits <= 64 and page_bits <= MAX_PAGE_BITS, "chunk-index", "an impossible extensible array")
    for power in (block_min, super_min):
        fields.expect(power > 0 and power & (power - 1) == 0, "chunk-index", "an impossible extensible array")
    fields.expect(max_bits >= block_min.bit_length() - 1, "chunk-index", "an impossible extensible array")
    shape = _Extensible(
        elements=_elements(fields, client, element_bytes, filtered=filtered),
        header=address,
        max_bits=max_bits,
        in_index=in_index,
        block_min=block_min,
        super_min=super_min,
        page_bits=page_bits,
    )
    if index is not None:
        yield from _read_index_block(space, index, shape)


def _read_index_block(space: Space, address: int, shape: _Extensible) -> Iterator[Entry]:
    super_blocks = 1 + shape.max_bits - (shape.block_min.bit_length() - 1)
    direct = 2 * (shape.super_min.bit_length() - 1)  # super blocks whose data blocks the index block names itself
    direct_blocks = 2 * (shape.super_min - 1)
    elements, size = shape.elements, space.address_bytes
    super_pointers = max(0, super_blocks - direct)
    body_bytes = shape.in_index * elements.size_bytes + (direct_blocks + super_pointers) * size
    prefix_bytes = 6 + size
    content = space.read_sealed(
        address, prefix_bytes + body_bytes + CHECKSUM_BYTES, b"EAIB\0", "an extensible array's index block"
    )
    inside = content[prefix_bytes : prefix_bytes + shape.in_index * elements.size_bytes]
    yield from enumerate(rows(inside, elements.widths))
    pointers = [row[0] for row in rows(content[prefix_bytes + len(inside) :], (size,))]
    undefined = (1 << 8 * size) - 1
    first, block = shape.in_index, 0
    for super_block in range(min(direct, super_blocks)):
        count, block_elements = shape.blocks_in(super_block)
        for _ in range(count):
            if block < direct_blocks and pointers[block] != undefined:
                yield from _guarded(space, _read_data_block(space, pointers[block], shape, first, block_elements, None))
            first, block = first + block_elements, block + 1
    for super_block in range(direct, super_blocks):
        count, block_elements = shape.blocks_in(super_block)
        pointer = pointers[direct_blocks + super_block - direct]
        if pointer != undefined:
            yield from _guarded(space, _read_super_block(space, pointer, shape, first, count, block_elements))
        first += count * block_elements


def _guarded(space: Space, entries: Iterator[Entry]) -> Iterator[Entry]:
    """Yield what can be read of a block; the Damage that ends it is reported."""
    try:
        yield from entries
    except Damage as damage:
        space.damage(damage)


def _read_super_block(
    space: Space, address: int, shape: _Extensible, first: int, count: int, block_elements: int
) -> Iterator[Entry]:
    pages = block_elements >> shape.page_bits if block_elements > 1 << shape.page_bits else 0
    if pages > MAX_PAGES:
        raise Damage("chunk-index", space.at(address), "more pages than any index has")
    bitmap_bytes = -(-pages // 8)
    prefix_bytes = 6 + space.address_bytes + shape.offset_bytes
    size_bytes = prefix_bytes + count * (bitmap_bytes + space.address_bytes) + CHECKSUM_BYTES
    content = space.read_sealed(address, size_bytes, b"EASB\0", "an extensible array's super block")
    # the library counts pages through all blocks: a block's bits begin anywhere in a byte
    bitmap = np.frombuffer(content, dtype=np.uint8, count=count * bitmap_bytes, offset=prefix_bytes)
    bits = np.unpackbits(bitmap, count=count * pages) if pages else bitmap
    pointers = rows(content[prefix_bytes + count * bitmap_bytes :], (space.address_bytes,))
    undefined = (1 << 8 * space.address_bytes) - 1
    for number, (pointer,) in enumerate(pointers):
        if pointer == undefined:
            continue
        used = bits[number * pages : (number + 1) * pages] if pages else None
        start = first + number * block_elements
        yield from _guarded(space, _read_data_block(space, pointer, shape, start, block_elements, used))


def _read_data_block(
    space: Space, address: int, shape: _Extensible, first: int, count: int, used: Bits | None
) -> Iterator[Entry]:
    prefix_bytes = 6 + space.address_bytes + shape.offset_bytes
    elements = shape.elements
    inside_bytes = 0 if used is not None else count * elements.size_bytes
    content = space.read_sealed(
        address, prefix_bytes + inside_bytes + CHECKSUM_BYTES, b"EADB\0", "an extensible array's data block"
    )
    if used is None:
        yield from enumerate(rows(content[prefix_bytes:], elements.widths), start=first)
        return
    pages = _read_pages(space, address + len(content) + CHECKSUM_BYTES, used, count, 1 << shape.page_bits, elements)
    for number, row in pages:
        yield first + number, row
