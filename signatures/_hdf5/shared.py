"""Shared messages: a datatype (or another message) that several objects have in common (specification, IV.A.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from signatures._hdf5.header import SHARED, Message, read_header
from signatures._hdf5.space import Damage, Fields, Space

Part = TypeVar("Part")
_IN_TABLE = 1


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
    if version == 3 and kind == _IN_TABLE:
        return _from_table(space, message, fields.raw(8))
    if version == 1:
        fields.raw(6 + space.length_bytes)  # reserved, then the name offset of a whole symbol table entry
    address = fields.address()
    fields.expect(address is not None, "shared-message", "a shared message leads nowhere")
    found = read_header(space, address or 0).first(message.kind)
    if found is None or found.flags & SHARED:
        raise Damage("shared-message", message.at_bytes, "a shared message is not where it should be")
    return found


def _from_table(space: Space, message: Message, identifier: bytes) -> Message:
    if space.take_shared is None:
        raise Damage("shared-message", message.at_bytes, "a message lies in a shared message table that is not there")
    body, at_bytes = space.take_shared(message.kind, identifier)
    return Message(kind=message.kind, flags=0, body=body, at_bytes=at_bytes, sealed=message.sealed)
