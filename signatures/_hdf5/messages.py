"""Messages that say what a dataset is: dataspace, layout, filters (file format specification, IV.A.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from signatures._hdf5.datatype import MAX_RANK
from signatures._hdf5.records import rows
from signatures._hdf5.space import Fields

MAX_FILTERS = 32  # H5Z_MAX_NFILTERS
_FIRST_NAMED_FILTER = 256
_FILL_PRESENT, _FILL_UNDEFINED = 0x20, 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataspace:
    """Shape: () for a scalar, None for the null dataspace; `limits` with None for unlimited."""

    shape: tuple[int, ...] | None
    limits: tuple[int | None, ...] = ()

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return 0 if self.shape is None else math.prod(self.shape)


def read_dataspace(fields: Fields) -> Dataspace:
    """Take a dataspace.

    Raises:
        Damage: it is none.
    """
    version, rank, flags, kind = (fields.number(1) for _ in range(4))
    fields.expect(version in (1, 2) and rank <= MAX_RANK, "dataspace", "no dataspace is here")
    if version == 1:
        fields.raw(4)
        kind = 1 if rank else 0
    fields.expect(kind <= 2, "dataspace", f"no dataspace has type {kind}")
    shape = tuple(fields.length() for _ in range(rank))
    limits: tuple[int | None, ...] = shape
    if flags & 1:
        unlimited = (1 << 8 * fields.space.length_bytes) - 1
        stored = [fields.length() for _ in range(rank)]
        fields.expect(
            all(low <= high for low, high in zip(shape, stored, strict=True)), "dataspace", "a shape beyond its limits"
        )
        limits = tuple(None if limit == unlimited else limit for limit in stored)
    return Dataspace(shape=None if kind == 2 else shape, limits=limits)


def read_fill(fields: Fields) -> bytes:
    """Take a fill value; b"" when there is none.

    Raises:
        Damage: it is none.
    """
    version = fields.number(1)
    fields.expect(1 <= version <= 3, "fill-value", f"no fill value has version {version}")
    if version == 3:
        present = fields.number(1) & _FILL_PRESENT
    else:
        fields.raw(2)
        present = fields.number(1) if version == 2 else max(1, fields.number(1))
    size_bytes = fields.number(4) if present else 0
    return fields.raw(size_bytes) if size_bytes != _FILL_UNDEFINED else b""


class LayoutClass(IntEnum):
    """How a dataset's bytes are stored."""

    COMPACT = 0
    CONTIGUOUS = 1
    CHUNKED = 2
    VIRTUAL = 3


class Index(IntEnum):
    """How a dataset's chunks are found."""

    BTREE_1 = 0  # our number; layout messages before version 4 know no other
    SINGLE = 1
    IMPLICIT = 2
    FIXED_ARRAY = 3
    EXTENSIBLE_ARRAY = 4
    BTREE_2 = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLayout:
    """Where a dataset's bytes are.

    Attributes:
        address: of the data or of the chunk index; None when nothing was ever stored.
        size_bytes: of compact or contiguous data; None where the message does not say (versions 1 and 2).
        compact_at_bytes: where in the window compact data lies.
        chunk_shape: in elements, without the element size.
        element_bytes: as the layout has it.
        single_bytes: stored size of a filtered single chunk, with its `single_mask`.
        edges_unfiltered: whether chunks that hang over the edge were stored without filters.
        heap_number: of a virtual dataset's list of sources in the global heap at `address`.
    """

    version: int
    kind: LayoutClass
    address: int | None = None
    size_bytes: int | None = None
    compact_at_bytes: int = 0
    chunk_shape: tuple[int, ...] = ()
    element_bytes: int = 0
    index: Index = Index.BTREE_1
    single_bytes: int | None = None
    single_mask: int = 0
    edges_unfiltered: bool = False
    heap_number: int = 0

    @property
    def chunk_bytes(self) -> int:
        """Size of a whole chunk before any filter."""
        return math.prod(self.chunk_shape) * self.element_bytes


def read_layout(fields: Fields) -> DataLayout:
    """Take a layout message, version 1 to 5.

    Raises:
        Damage: it is none.
    """
    version = fields.number(1)
    if version in (1, 2):
        return _read_old_layout(fields, version)
    fields.expect(3 <= version <= 5, "layout", f"no layout has version {version}")
    kind = fields.number(1)
    fields.expect(
        kind <= LayoutClass.VIRTUAL and (version > 3 or kind < LayoutClass.VIRTUAL), "layout", "unknown class"
    )
    if kind == LayoutClass.COMPACT:
        return _compact(fields, version, fields.number(2))
    if kind == LayoutClass.CONTIGUOUS:
        address, size_bytes = fields.address(), fields.length()
        return DataLayout(version=version, kind=LayoutClass.CONTIGUOUS, address=address, size_bytes=size_bytes)
    if kind == LayoutClass.VIRTUAL:
        address, number = fields.address(), fields.number(4)
        return DataLayout(version=version, kind=LayoutClass.VIRTUAL, address=address, heap_number=number)
    if version == 3:
        rank = fields.number(1)
        address = fields.address()
        return _chunked(fields, version, address, tuple(fields.number(4) for _ in range(_rank(fields, rank))))
    return _read_new_chunked(fields, version)


def _rank(fields: Fields, rank: int) -> int:
    fields.expect(0 < rank <= MAX_RANK + 1, "layout", "chunks of impossible rank")
    return rank


def _compact(fields: Fields, version: int, size_bytes: int) -> DataLayout:
    at_bytes = fields.at_bytes + fields.position
    fields.raw(size_bytes)
    return DataLayout(version=version, kind=LayoutClass.COMPACT, size_bytes=size_bytes, compact_at_bytes=at_bytes)


def _chunked(fields: Fields, version: int, address: int | None, sizes: tuple[int, ...]) -> DataLayout:
    fields.expect(len(sizes) > 1 and all(sizes), "layout", "chunks of no size")
    return DataLayout(
        version=version, kind=LayoutClass.CHUNKED, address=address, chunk_shape=sizes[:-1], element_bytes=sizes[-1]
    )


def _read_old_layout(fields: Fields, version: int) -> DataLayout:
    rank, kind = fields.number(1), fields.number(1)
    fields.raw(5)
    fields.expect(kind <= LayoutClass.CHUNKED, "layout", f"no layout has class {kind}")
    address = None if kind == LayoutClass.COMPACT else fields.address()
    sizes = tuple(fields.number(4) for _ in range(rank))
    if kind == LayoutClass.COMPACT:
        return _compact(fields, version, fields.number(4))
    if kind == LayoutClass.CONTIGUOUS:
        return DataLayout(version=version, kind=LayoutClass.CONTIGUOUS, address=address)
    _rank(fields, rank)
    return _chunked(fields, version, address, sizes)


def _read_new_chunked(fields: Fields, version: int) -> DataLayout:
    flags, rank, size_size = fields.number(1), _rank(fields, fields.number(1)), fields.number(1)
    fields.expect(0 < size_size <= 8 and flags < 4, "layout", "chunk sizes of impossible width")
    sizes = tuple(fields.number(size_size) for _ in range(rank))
    fields.expect(rank > 1 and all(sizes), "layout", "chunks of no size")
    kind = fields.number(1)
    fields.expect(Index.SINGLE <= kind <= Index.BTREE_2, "layout", f"no chunk index has type {kind}")
    index, single_bytes, single_mask = Index(kind), None, 0
    if index is Index.SINGLE and flags & 2:
        single_bytes, single_mask = fields.length(), fields.number(4)
    else:  # creation parameters, which the index's own header repeats under its checksum
        fields.raw({Index.FIXED_ARRAY: 1, Index.EXTENSIBLE_ARRAY: 5, Index.BTREE_2: 6}.get(index, 0))
    return DataLayout(
        version=version,
        kind=LayoutClass.CHUNKED,
        address=fields.address(),
        chunk_shape=sizes[:-1],
        element_bytes=sizes[-1],
        index=index,
        single_bytes=single_bytes,
        single_mask=single_mask,
        edges_unfiltered=bool(flags & 1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One step of a filter pipeline; `values` are its parameters (of shuffle: the size of an element)."""

    number: int
    name: str
    optional: bool
    values: tuple[int, ...] = ()


def read_external(fields: Fields) -> tuple[int, list[int]]:
    """Take an external file list; return the address of the heap with the names, and where in it they are.

    Raises:
        Damage: it is none.
    """
    version = fields.number(1)
    fields.raw(3)
    slots, used, heap = fields.number(2), fields.number(2), fields.address()
    fields.expect(version == 1 and 0 < used <= slots and heap is not None, "external-list", "no list of files is here")
    names: list[int] = []
    for _ in range(used):
        names.append(fields.length())
        fields.raw(2 * fields.space.length_bytes)
    return heap or 0, names


def read_filters(fields: Fields) -> tuple[Filter, ...]:
    """Take a filter pipeline, in the order in which a writer applies it.

    Raises:
        Damage: it is none.
    """
    version, count = fields.number(1), fields.number(1)
    fields.expect(version in (1, 2) and 0 < count <= MAX_FILTERS, "filters", "no filter pipeline is here")
    if version == 1:
        fields.raw(6)
    return tuple(_read_filter(fields, version) for _ in range(count))


def _read_filter(fields: Fields, version: int) -> Filter:
    number = fields.number(2)
    name_bytes = fields.number(2) if version == 1 or number >= _FIRST_NAMED_FILTER else 0
    flags, values = fields.number(2), fields.number(2)
    stored = fields.raw(-(-name_bytes // 8) * 8 if version == 1 else name_bytes)
    fields.expect(not stored or b"\0" in stored, "filters", "a filter's name has no end")
    name = stored.split(b"\0")[0]
    parameters = rows(fields.raw(4 * values), (4,))
    if version == 1 and values % 2:
        fields.raw(4)
    return Filter(
        number=number,
        name=name.decode("utf-8", "backslashreplace"),
        optional=bool(flags & 1),
        values=tuple(value for (value,) in parameters),
    )
