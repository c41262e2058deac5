"""Datasets: from an object header to a Tensor with the place and the grade of its bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from imaging.extent import Extent
from signatures._hdf5_datatype import Datatype, read_datatype
from signatures._hdf5_header import (
    DATASPACE,
    DATATYPE,
    EXTERNAL,
    FILTERS,
    LAYOUT,
    SHARED,
    Message,
    ObjectHeader,
    read_header,
)
from signatures._hdf5_messages import (
    DataLayout,
    Dataspace,
    Filter,
    LayoutClass,
    read_dataspace,
    read_filters,
    read_layout,
)
from signatures._hdf5_space import Damage, Fields, Space
from signatures.tensors import Tensor
from signatures.verdict import Grade

Part = TypeVar("Part")


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


def read_part(space: Space, message: Message, read: Callable[[Fields], Part]) -> Part:
    """Read a message's body, following it to where it is shared from.

    Raises:
        Damage: it is broken, or what it points to is.
    """
    if message.flags & SHARED:
        message = follow_shared(space, message)
    return read(Fields(space, message.body, message.at_bytes))


def follow_shared(space: Space, message: Message) -> Message:
    """Return the message that a shared one stands for.

    Raises:
        Damage: there is none.
    """
    fields = Fields(space, message.body, message.at_bytes)
    version, kind = fields.number(1), fields.number(1)
    fields.expect(1 <= version <= 3, "shared-message", "no shared message is here")
    if version == 3 and kind == 1:
        raise Damage("shared-table-unsupported", message.at_bytes, "a message lies in the file's shared message table")
    if version == 1:
        fields.raw(6 + space.length_bytes)  # reserved, then the name offset of a whole symbol table entry
    address = fields.address()
    fields.expect(address is not None, "shared-message", "a shared message leads nowhere")
    found = read_header(space, address or 0).first(message.kind)
    if found is None or found.flags & SHARED:
        raise Damage("shared-message", message.at_bytes, "a shared message is not where it should be")
    return found


def tensor_of(space: Space, dataset: Dataset) -> Tensor:
    """Judge a dataset's bytes.

    Raises:
        Damage: they cannot be where the dataset says.
    """
    kind = dataset.layout.kind
    if dataset.external:
        space.unproven = True
        space.remark("external-data", None, f"{dataset.path}: its data lies in other files")
        return make_tensor(dataset, ())
    if kind is LayoutClass.VIRTUAL:
        space.unproven = True
        space.remark("virtual-dataset", None, f"{dataset.path}: its data lies in other datasets")
        return make_tensor(dataset, ())
    if kind is LayoutClass.COMPACT:
        return _judge_compact(dataset)
    if kind is LayoutClass.CONTIGUOUS:
        return _judge_contiguous(space, dataset)
    raise Damage("chunked-unsupported", None, "chunked")


def make_tensor(dataset: Dataset, layout: tuple[Extent, ...], grade: Grade = Grade.CONSISTENT) -> Tensor:
    """Return the dataset as a tensor."""
    shape = (0,) if dataset.dataspace.shape is None else dataset.dataspace.shape
    return Tensor(name=dataset.path, dtype=dataset.datatype.name, shape=shape, layout=layout, grade=grade.value)


def _judge_compact(dataset: Dataset) -> Tensor:
    size_bytes = dataset.layout.size_bytes or 0
    if size_bytes < dataset.size_bytes:
        raise Damage("data-size", dataset.layout.compact_at_bytes, f"{dataset.path}: less data than its shape asks for")
    extent = Extent(offset_bytes=dataset.layout.compact_at_bytes, size_bytes=dataset.size_bytes)
    proven = dataset.layout_sealed and not dataset.datatype.elsewhere
    layout = (extent,) if extent.size_bytes else ()
    return make_tensor(dataset, layout, Grade.INTACT if proven else Grade.CONSISTENT)


def _judge_contiguous(space: Space, dataset: Dataset) -> Tensor:
    address, stored_bytes = dataset.layout.address, dataset.layout.size_bytes
    if address is None or dataset.size_bytes == 0:
        return make_tensor(dataset, ())
    at_bytes = space.at(address)
    if stored_bytes is not None and stored_bytes != dataset.size_bytes:
        raise Damage(
            "data-size",
            at_bytes,
            f"{dataset.path}: {stored_bytes} bytes are stored, its shape asks for {dataset.size_bytes}",
        )
    extent = Extent(offset_bytes=at_bytes, size_bytes=dataset.size_bytes)
    return make_tensor(dataset, (extent,), space.grade_extent(extent, dataset.path))
