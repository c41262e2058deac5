"""Datasets: from an object header to a Tensor with the place and the grade of its bytes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from imaging.extent import Extent
from signatures._hdf5.chunks import Chunk, chunk_count, coordinates, implicit_runs, read_chunks
from signatures._hdf5.datatype import Datatype, read_datatype
from signatures._hdf5.filters import active_filters, filter_name, prove_chunk, unverifiable
from signatures._hdf5.header import (
    DATASPACE,
    DATATYPE,
    EXTERNAL,
    FILL,
    FILTERS,
    LAYOUT,
    Message,
    ObjectHeader,
)
from signatures._hdf5.links import read_local_heap
from signatures._hdf5.messages import (
    DataLayout,
    Dataspace,
    Filter,
    Index,
    LayoutClass,
    read_dataspace,
    read_external,
    read_fill,
    read_filters,
    read_layout,
)
from signatures._hdf5.shared import read_part
from signatures._hdf5.space import Damage, Space
from signatures.tensors import Tensor
from signatures.verdict import Grade

MAX_NAMED_FILES = 16
MOST_DATASET_BYTES = 1 << 63  # no library can address more, written or not
MAX_IMPLICIT_CHUNKS = 1 << 20  # beyond, the room that a dataset may grow into is taken as its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What a dataset's messages say."""

    path: str
    header: ObjectHeader
    datatype: Datatype
    dataspace: Dataspace
    layout: DataLayout
    filters: tuple[Filter, ...]
    external: bool
    layout_sealed: bool

    @property
    def size_bytes(self) -> int:
        """How many bytes its elements take, unfiltered."""
        return self.dataspace.elements * self.datatype.size_bytes


def is_dataset(header: ObjectHeader) -> bool:
    """Tell whether an object is a dataset."""
    return header.first(LAYOUT) is not None


def read_dataset(space: Space, path: str, header: ObjectHeader) -> Dataset:
    """Read what a dataset's messages say.

    Raises:
        Damage: one of them is broken or missing.
    """
    layout = _needed(header, LAYOUT, "layout")
    fill = header.first(FILL)
    if fill:
        read_part(space, fill, read_fill)
    filters = header.first(FILTERS)
    return Dataset(
        path=path,
        header=header,
        datatype=read_part(space, _needed(header, DATATYPE, "datatype"), read_datatype),
        dataspace=read_part(space, _needed(header, DATASPACE, "dataspace"), read_dataspace),
        layout=read_part(space, layout, read_layout),
        filters=read_part(space, filters, read_filters) if filters else (),
        external=header.first(EXTERNAL) is not None,
        layout_sealed=layout.sealed,
    )


def _needed(header: ObjectHeader, kind: int, name: str) -> Message:
    message = header.first(kind)
    if message is None:
        raise Damage("dataset-message-missing", None, f"a dataset has no {name}")
    return message


def tensor_of(space: Space, dataset: Dataset) -> Tensor:
    """Judge a dataset's bytes.

    Raises:
        Damage: they cannot be where the dataset says.
    """
    kind = dataset.layout.kind
    if dataset.size_bytes >= MOST_DATASET_BYTES:
        raise Damage("data-size", None, f"{dataset.path}: its shape asks for {dataset.size_bytes} bytes")
    if dataset.external:
        space.unproven = True
        files = ", ".join(_external_files(space, dataset))
        space.remark("external-data", None, f"{dataset.path}: its data lies in other files: {files}")
        return make_tensor(dataset, ())
    if kind is LayoutClass.VIRTUAL:
        space.unproven = True
        space.remark("virtual-dataset", None, f"{dataset.path}: its data lies in other datasets")
        return make_tensor(dataset, ())
    if kind is LayoutClass.COMPACT:
        return _judge_compact(dataset)
    if kind is LayoutClass.CONTIGUOUS:
        return _judge_contiguous(space, dataset)
    return _judge_chunked(space, dataset)


def _external_files(space: Space, dataset: Dataset) -> list[str]:
    """Return the names of the files that hold a dataset's bytes.

    Raises:
        Damage: the list or its heap is broken.
    """
    message = dataset.header.first(EXTERNAL)
    if message is None:
        return []
    heap, places = read_part(space, message, read_external)
    names = read_local_heap(space, heap)
    if any(place >= len(names) for place in places):
        raise Damage("external-list", message.at_bytes, "the name of a file lies outside its heap")
    found = [names[place : names.find(b"\0", place)] for place in places[:MAX_NAMED_FILES]]
    return [name.decode("utf-8", "backslashreplace") for name in found]


def make_tensor(dataset: Dataset, layout: tuple[Extent, ...], grade: Grade = Grade.CONSISTENT) -> Tensor:
    """Return the dataset as a tensor."""
    shape = (0,) if dataset.dataspace.shape is None else dataset.dataspace.shape
    return Tensor(name=dataset.path, dtype=dataset.datatype.name, shape=shape, layout=layout, grade=grade.value)


def _judge_compact(dataset: Dataset) -> Tensor:
    size_bytes = dataset.layout.size_bytes or 0
    if size_bytes != dataset.size_bytes:
        detail = f"{dataset.path}: {size_bytes} bytes are stored, its shape asks for {dataset.size_bytes}"
        raise Damage("data-size", dataset.layout.compact_at_bytes, detail)
    extent = Extent(offset_bytes=dataset.layout.compact_at_bytes, size_bytes=dataset.size_bytes)
    proven = dataset.layout_sealed and not dataset.datatype.elsewhere
    layout = (extent,) if extent.size_bytes else ()
    return make_tensor(dataset, layout, Grade.INTACT if proven else Grade.CONSISTENT)


def _judge_contiguous(space: Space, dataset: Dataset) -> Tensor:
    address, stored_bytes = dataset.layout.address, dataset.layout.size_bytes
    at_bytes = space.at(address or 0)
    if stored_bytes is not None and stored_bytes != dataset.size_bytes:
        raise Damage(
            "data-size",
            at_bytes,
            f"{dataset.path}: {stored_bytes} bytes are stored, its shape asks for {dataset.size_bytes}",
        )
    if address is not None and at_bytes > space.end_bytes and dataset.size_bytes == 0:
        raise Damage("data-beyond-end", at_bytes, f"{dataset.path}: its data lies beyond the file's end")
    if address is None or dataset.size_bytes == 0:
        return make_tensor(dataset, ())
    extent = Extent(offset_bytes=at_bytes, size_bytes=dataset.size_bytes)
    layout = () if space.spread and at_bytes >= space.end_bytes else (extent,)  # a second file has its own addresses
    return make_tensor(dataset, layout, space.grade_extent(extent, dataset.path))


def _judge_chunked(space: Space, dataset: Dataset) -> Tensor:
    """Judge every stored chunk; the tensor is no better than the worst of them."""
    _check_chunk_shape(dataset)
    if dataset.layout.index is Index.IMPLICIT:
        return _judge_implicit(space, dataset)
    if dataset.size_bytes == 0:
        deque(read_chunks(space, dataset.layout, dataset.dataspace, filtered=bool(dataset.filters)), maxlen=0)
        return make_tensor(dataset, ())
    proven, grades, stored = True, {Grade.CONSISTENT}, 0
    extents: list[Extent] = []
    layout, damaged_before = dataset.layout, space.damaged
    space.damaged = False
    try:
        for chunk in read_chunks(space, layout, dataset.dataspace, filtered=bool(dataset.filters)):
            stored += 1
            extent = Extent(offset_bytes=space.at(chunk.address), size_bytes=chunk.size_bytes)
            grade = _judge_chunk(space, dataset, chunk, extent)
            grades.add(grade)
            proven = proven and grade is Grade.INTACT
            _append(extents, extent)
    except Damage as damage:
        space.damage(damage)
    if space.damaged:
        grades.add(Grade.DAMAGED)
    space.damaged |= damaged_before
    return make_tensor(
        dataset, tuple(extents), _worst(grades, proven=proven and stored > 0 and _all_there(dataset, stored))
    )


def _judge_implicit(space: Space, dataset: Dataset) -> Tensor:
    """Chunks without an index lie in one run, unfiltered, with room for all that the dataset may ever have."""
    layout, dataspace = dataset.layout, dataset.dataspace
    if layout.address is None:
        return make_tensor(dataset, ())
    if None in dataspace.limits:
        raise Damage("chunk-index", space.at(layout.address), f"{dataset.path}: no index over chunks without a limit")
    room = chunk_count(layout, Dataspace(shape=tuple(limit or 0 for limit in dataspace.limits)))
    whole = Extent(offset_bytes=space.at(layout.address), size_bytes=room * layout.chunk_bytes)
    grade = space.grade_extent(whole, dataset.path)
    count = chunk_count(layout, dataspace)
    if grade is Grade.DAMAGED or count == room or count > MAX_IMPLICIT_CHUNKS:
        return make_tensor(dataset, (whole,) if whole.size_bytes else (), grade)
    extents: list[Extent] = []
    for first, count in implicit_runs(layout, dataspace):
        at_bytes = whole.offset_bytes + first * layout.chunk_bytes
        _append(extents, Extent(offset_bytes=at_bytes, size_bytes=count * layout.chunk_bytes))
    return make_tensor(dataset, tuple(extents), grade)


def _check_chunk_shape(dataset: Dataset) -> None:
    layout = dataset.layout
    shape = dataset.dataspace.shape or ()
    if len(layout.chunk_shape) != len(shape) or layout.element_bytes != dataset.datatype.size_bytes:
        raise Damage("chunk-shape", None, f"{dataset.path}: its chunks do not fit its shape or its datatype")


def _all_there(dataset: Dataset, stored: int) -> bool:
    """Whether no chunk is left to the fill value, and no element points elsewhere."""
    return stored == chunk_count(dataset.layout, dataset.dataspace) and not dataset.datatype.elsewhere


def _worst(grades: set[Grade], *, proven: bool) -> Grade:
    for grade in (Grade.DAMAGED, Grade.TRUNCATED):
        if grade in grades:
            return grade
    return Grade.INTACT if proven else Grade.CONSISTENT


def _judge_chunk(space: Space, dataset: Dataset, chunk: Chunk, extent: Extent) -> Grade:
    grade = space.grade_extent(extent, dataset.path)
    if grade is not Grade.CONSISTENT:
        return grade
    steps = active_filters(dataset.filters, chunk.mask)
    if dataset.layout.edges_unfiltered and _hangs_over(dataset, chunk):
        steps = []
    space.spend_data(extent, dataset.path)
    for step in unverifiable(steps):
        space.unproven = True
        space.remark("filter-unverified", None, f"{dataset.path}: data under {filter_name(step)} cannot be checked")
    try:
        proven = prove_chunk(space, extent.offset_bytes, extent.size_bytes, steps, dataset.layout.chunk_bytes)
    except Damage as damage:
        space.damage(damage)
        return Grade.DAMAGED
    return Grade.INTACT if proven and not unverifiable(steps) else Grade.CONSISTENT


def _hangs_over(dataset: Dataset, chunk: Chunk) -> bool:
    """Whether a chunk lies at an edge that is no multiple of the chunk's size."""
    place = chunk.place
    shape, sizes = dataset.dataspace.shape or (), dataset.layout.chunk_shape
    if isinstance(place, int):
        place = coordinates(place, dataset.layout, dataset.dataspace)
    return any((at + 1) * size > whole for at, size, whole in zip(place, sizes, shape, strict=False))


def _append(extents: list[Extent], extent: Extent) -> None:
    """Add an extent, joined with the last one if it goes on from it."""
    if extents and extents[-1].end_bytes == extent.offset_bytes:
        first = extents.pop()
        extent = Extent(offset_bytes=first.offset_bytes, size_bytes=first.size_bytes + extent.size_bytes)
    extents.append(extent)
