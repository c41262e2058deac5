"""Attributes: small values beside an object; read whole only where a label or a name may come from them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from signatures._hdf5.btree2 import read_records
from signatures._hdf5.datatype import STRING, Datatype, read_datatype
from signatures._hdf5.fractal import open_heap
from signatures._hdf5.global_heap import read_global
from signatures._hdf5.header import ATTRIBUTE, ATTRIBUTE_INFO, DATASPACE, DATATYPE, SHARED, Message, ObjectHeader
from signatures._hdf5.messages import Dataspace, read_dataspace
from signatures._hdf5.shared import follow_shared
from signatures._hdf5.space import Damage, Fields, Space

MAX_TEXT_BYTES = 1 << 24
MAX_TEXTS = 1 << 16
_NAMES_TREE, _ORDER_TREE = 8, 9  # types of the version-2 B-trees over attributes
_DATATYPE_SHARED, _DATASPACE_SHARED = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute: `raw` is its value as stored, `at_bytes` where in the window the message begins."""

    name: str
    datatype: Datatype
    dataspace: Dataspace
    raw: bytes
    at_bytes: int


def read_attributes(space: Space, header: ObjectHeader) -> Iterator[Attribute]:
    """Yield an object's attributes, compact and dense; broken ones are reported and left out."""
    for message in header.messages:
        if message.kind not in (ATTRIBUTE, ATTRIBUTE_INFO):
            continue
        try:
            if message.kind == ATTRIBUTE:
                whole = follow_shared(space, message) if message.flags & SHARED else message
                yield _read_attribute(Fields(space, whole.body, whole.at_bytes))
            else:
                yield from _read_dense(space, message)
        except Damage as damage:
            space.damage(damage)


def _read_dense(space: Space, message: Message) -> Iterator[Attribute]:
    """Yield the attributes in an object's fractal heap."""
    fields = Fields(space, message.body, message.at_bytes)
    version, flags = fields.number(1), fields.number(1)
    fields.expect(version == 0 and flags < 4, "attribute", "no attribute info is here")
    fields.raw(2 if flags & 1 else 0)
    heap_address, tree = fields.address(), fields.address()
    by_order = fields.address() if flags & 2 else None
    if heap_address is None or tree is None:
        return
    heap = open_heap(space, heap_address)
    if by_order is not None:  # the same again in another order: read for its checksums
        deque(read_records(space, by_order, (_ORDER_TREE,)), maxlen=0)
    for record in read_records(space, tree, (_NAMES_TREE,)):
        try:
            if len(record) > heap.id_bytes and record[heap.id_bytes] & SHARED:
                continue  # its message lies in the shared message table, which reports itself
            body, at_bytes = heap.take(record[: heap.id_bytes])
            yield _read_attribute(Fields(space, body, at_bytes))
        except Damage as damage:
            space.damage(damage)


def _read_attribute(fields: Fields) -> Attribute:
    at_bytes = fields.at_bytes
    version, flags = fields.number(1), fields.number(1)
    fields.expect(1 <= version <= 3, "attribute", "no attribute is here")
    name_bytes, type_bytes, space_bytes = fields.number(2), fields.number(2), fields.number(2)
    fields.raw(1 if version == 3 else 0)
    pad = 8 if version == 1 else 1
    shared = flags if version > 1 else 0
    name = fields.raw(-(-name_bytes // pad) * pad)[:name_bytes]
    fields.expect(name.find(b"\0") == name_bytes - 1 > 0, "attribute", "an attribute's name is not as long as it says")
    name = name[:-1]
    datatype = read_datatype(_inner(fields, type_bytes, pad, DATATYPE, shared=bool(shared & _DATATYPE_SHARED)))
    dataspace = read_dataspace(_inner(fields, space_bytes, pad, DATASPACE, shared=bool(shared & _DATASPACE_SHARED)))
    size_bytes = dataspace.elements * datatype.size_bytes
    fields.expect(size_bytes <= fields.left, "attribute", "an attribute's value is longer than its message")
    return Attribute(
        name=name.decode("utf-8", "backslashreplace"),
        datatype=datatype,
        dataspace=dataspace,
        raw=fields.raw(size_bytes),
        at_bytes=at_bytes,
    )


def _inner(fields: Fields, size_bytes: int, pad: int, kind: int, *, shared: bool) -> Fields:
    """Return the fields of a message inside the attribute's, which may lie elsewhere."""
    at_bytes = fields.at_bytes + fields.position
    body = fields.raw(-(-size_bytes // pad) * pad)
    if not shared:
        return Fields(fields.space, body, at_bytes)
    stub = Message(kind=kind, flags=SHARED, body=body, at_bytes=at_bytes, sealed=False)
    found = follow_shared(fields.space, stub)
    return Fields(fields.space, found.body, found.at_bytes)


def texts(space: Space, attribute: Attribute) -> list[bytes]:
    """Return an attribute's strings, of fixed or variable length; none if it holds something else.

    Raises:
        Damage: a string is not where the attribute says.
    """
    datatype, count = attribute.datatype, min(attribute.dataspace.elements, MAX_TEXTS)
    size_bytes = datatype.size_bytes
    pieces = [attribute.raw[at : at + size_bytes] for at in range(0, count * size_bytes, size_bytes)]
    if datatype.kind == STRING:
        return [piece.split(b"\0")[0] for piece in pieces]
    if not datatype.is_vlen_string:
        return []
    found: list[bytes] = []
    for piece in pieces:
        fields = Fields(space, piece, attribute.at_bytes)
        length, address, number = fields.number(4), fields.address(), fields.number(4)
        if not length or not address:
            found.append(b"")
            continue
        if length > MAX_TEXT_BYTES:
            raise Damage("heap", attribute.at_bytes, f"a string of {length} bytes")
        found.append(read_global(space, address, number)[:length])
    return found
