"""Object headers, version 1 and 2, with their continuation blocks (file format specification, IV.A)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from signatures._hdf5.space import CHECKSUM_BYTES, Damage, Fields, Space

MAX_MESSAGES = 1 << 17  # 65,535 is what a version-1 header can count
MAX_CONTINUATIONS = 1 << 14
SHARED = 0x02  # message flag: the body says where the real message is

NIL, DATASPACE, LINK_INFO, DATATYPE, FILL_OLD, FILL, LINK, EXTERNAL, LAYOUT = range(9)
GROUP_INFO, FILTERS, ATTRIBUTE, MODIFIED_OLD = 0x0A, 0x0B, 0x0C, 0x0E
SHARED_TABLE, CONTINUATION, SYMBOL_TABLE = 0x0F, 0x10, 0x11
MODIFIED, TREE_SIZES, DRIVER_INFO, ATTRIBUTE_INFO = 0x12, 0x13, 0x14, 0x15
REFERENCES, FILE_SPACE = 0x16, 0x17
LAST_KNOWN = 0x18

_SHARED_AND_NOT, _FAIL_ON_WRITE, _MARK_UNKNOWN, _WAS_UNKNOWN, _MAY_BE_SHARED = 0x06, 0x08, 0x10, 0x20, 0x40
_SHAREABLE = (DATASPACE, DATATYPE, FILL_OLD, FILL, FILTERS, ATTRIBUTE)

_V1_PREFIX_BYTES = 16
_V1_MESSAGE_BYTES = 8
_V2_MAX_PREFIX_BYTES = 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One header message.

    Attributes:
        kind: its type number.
        flags: bit 1: shared.
        body: its bytes.
        at_bytes: where in the window the body begins.
        sealed: whether it lies under a checksum that agrees.
    """

    kind: int
    flags: int
    body: bytes
    at_bytes: int
    sealed: bool


@dataclass(slots=True, kw_only=True)
class ObjectHeader:
    """One object header with everything its continuations hold.

    Attributes:
        address: relative to the file's base.
        version: 1 or 2.
        messages: in order, empty ones left out.
        complete: whether every block was there and every checksum agreed.
    """

    address: int
    version: int
    messages: list[Message] = field(default_factory=list)
    complete: bool = True

    def first(self, kind: int) -> Message | None:
        """Return the first message of a kind."""
        return next((message for message in self.messages if message.kind == kind), None)

    def all(self, kind: int) -> list[Message]:
        """Return the messages of a kind."""
        return [message for message in self.messages if message.kind == kind]


def read_header(space: Space, address: int) -> ObjectHeader:
    """Read the object header at an address.

    A broken continuation is reported and the rest is kept.

    Raises:
        Damage: there is no object header.
    """
    if space.read(address, 4, "an object header") == b"OHDR":
        return _read_v2(space, address)
    return _read_v1(space, address)


def _read_v1(space: Space, address: int) -> ObjectHeader:
    at_bytes = space.at(address)
    prefix = Fields(space, space.read(address, _V1_PREFIX_BYTES, "an object header"), at_bytes)
    version, reserved, count = prefix.number(1), prefix.number(1), prefix.number(2)
    references, size_bytes = prefix.number(4), prefix.number(4)
    prefix.expect(version == 1 and reserved == 0, "object-header", "no object header is here")
    prefix.expect(prefix.number(4) == 0 and size_bytes % 8 == 0, "object-header", "no object header is here")
    prefix.expect(references > 0 or size_bytes > 0, "object-header", "an object header that nothing refers to")
    body = space.read(address + _V1_PREFIX_BYTES, size_bytes, "an object header")
    space.reached(address, _V1_PREFIX_BYTES + size_bytes)
    header = ObjectHeader(address=address, version=1)
    waiting = deque([(body, at_bytes + _V1_PREFIX_BYTES)])
    seen = {address}
    found = 0
    while waiting:
        content, block_at_bytes = waiting.popleft()
        fields = Fields(space, content, block_at_bytes)
        while fields.left >= _V1_MESSAGE_BYTES:
            found += 1
            fields.expect(found <= MAX_MESSAGES, "object-header", "an object header with too many messages")
            kind, message_bytes, flags = fields.number(2), fields.number(2), fields.number(1)
            fields.expect(fields.number(3) == 0, "object-header", "an object header's messages are broken")
            where_bytes = block_at_bytes + fields.position
            _check_message(fields, kind, flags)
            fields.expect(kind != REFERENCES, "object-header", "an old header with a newer header's message")
            fields.expect(message_bytes % 8 == 0, "object-header", "an object header's messages are not aligned")
            message = Message(
                kind=kind, flags=flags, body=fields.raw(message_bytes), at_bytes=where_bytes, sealed=False
            )
            _keep(header, message)
            if kind == CONTINUATION:
                _follow(space, header, message, seen, waiting)
    if found != count and header.complete:
        header.complete = False
        detail = f"an object header counts {count} messages and has {found}"
        space.damage(Damage("object-header", at_bytes, detail))
    return header


def _check_message(fields: Fields, kind: int, flags: int) -> None:
    """Refuse types and flags that no writer makes, as libhdf5 does."""
    fields.expect(kind <= LAST_KNOWN, "object-header", f"no message has type {kind:#x}")
    impossible = (flags & _SHARED_AND_NOT) == _SHARED_AND_NOT
    impossible |= bool(flags & _WAS_UNKNOWN) and (bool(flags & _FAIL_ON_WRITE) or not flags & _MARK_UNKNOWN)
    impossible |= bool(flags & (SHARED | _MAY_BE_SHARED)) and kind not in _SHAREABLE
    fields.expect(not impossible, "object-header", f"no message of type {kind:#x} has flags {flags:#x}")


def _keep(header: ObjectHeader, message: Message) -> None:
    if message.kind not in (NIL, CONTINUATION):
        header.messages.append(message)


def _follow(
    space: Space, header: ObjectHeader, message: Message, seen: set[int], waiting: deque[tuple[bytes, int]]
) -> None:
    """Read a continuation block and queue it; one that cannot be read is reported."""
    try:
        address, size_bytes = continuation(space, message)
        if address in seen or len(seen) > MAX_CONTINUATIONS:
            raise Damage("object-header", message.at_bytes, "a continuation was met before")
        seen.add(address)
        waiting.append((space.read(address, size_bytes, "a header continuation"), space.at(address)))
        space.reached(address, size_bytes)
    except Damage as damage:
        header.complete = False
        space.damage(damage)


def continuation(space: Space, message: Message) -> tuple[int, int]:
    """Return address and size in bytes of the block a continuation message names.

    Raises:
        Damage: it names none.
    """
    fields = Fields(space, message.body, message.at_bytes)
    address, size_bytes = fields.address(), fields.length()
    if address is None or size_bytes == 0:
        raise Damage("object-header", message.at_bytes, "a continuation leads nowhere")
    return address, size_bytes


def _read_v2(space: Space, address: int) -> ObjectHeader:
    at_bytes = space.at(address)
    head = space.window.read_at(at_bytes, _V2_MAX_PREFIX_BYTES)
    prefix = Fields(space, head, at_bytes, position=4)
    version, flags = prefix.number(1), prefix.number(1)
    prefix.expect(version == 2 and flags < 0x40, "object-header", "no object header is here")
    prefix.raw((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))
    messages_bytes = prefix.number(1 << (flags & 3))
    content = space.read(address, prefix.position + messages_bytes + CHECKSUM_BYTES, "an object header")
    space.reached(address, len(content))
    header = ObjectHeader(address=address, version=2)
    waiting = deque([(content, address, prefix.position)])
    seen = {address}
    while waiting:
        content, block_address, start = waiting.popleft()
        sealed = space.check_seal(content, block_address, "an object header")
        header.complete = header.complete and sealed
        fields = Fields(space, content[:-CHECKSUM_BYTES], space.at(block_address), position=start)
        for message in _messages_v2(fields, tracked=bool(flags & 0x04), sealed=sealed):
            _keep(header, message)
            if len(header.messages) > MAX_MESSAGES:
                raise Damage("object-header", at_bytes, "an object header has too many messages")
            if message.kind == CONTINUATION:
                _follow_v2(space, header, message, seen, waiting)
    return header


def _messages_v2(fields: Fields, *, tracked: bool, sealed: bool) -> list[Message]:
    messages: list[Message] = []
    head_bytes = 6 if tracked else 4
    while fields.left >= head_bytes:
        kind, size_bytes, flags = fields.number(1), fields.number(2), fields.number(1)
        fields.raw(head_bytes - 4)
        _check_message(fields, kind, flags)
        where_bytes = fields.at_bytes + fields.position
        body = fields.raw(size_bytes)
        messages.append(Message(kind=kind, flags=flags, body=body, at_bytes=where_bytes, sealed=sealed))
    return messages


def _follow_v2(
    space: Space, header: ObjectHeader, message: Message, seen: set[int], waiting: deque[tuple[bytes, int, int]]
) -> None:
    try:
        address, size_bytes = continuation(space, message)
        if address in seen or len(seen) > MAX_CONTINUATIONS:
            raise Damage("object-header", message.at_bytes, "a continuation was met before")
        seen.add(address)
        if size_bytes < 8:
            raise Damage("structure-short", message.at_bytes, "a continuation has no room for its signature")
        block = space.read_signed(address, size_bytes, b"OCHK", "a header continuation")
        waiting.append((block, address, 4))
    except Damage as damage:
        header.complete = False
        space.damage(damage)
