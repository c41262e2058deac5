"""FlatBuffers over a Window, bounded: tables, vtables, strings and vectors, read as a schema tells.

A flatbuffer has neither length nor checksum. Its end is the largest end of all that can be reached from the root.
Offsets of children are unsigned and point forward, so that there are no cycles; what two parents share is read once.
Facts: FlatBuffers' "Internals" (flatbuffers.dev).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from imaging.errors import BudgetExceeded
from imaging.window import Window
from signatures._protobuf import CutShortError, MalformedError
from signatures.format import Asked
from signatures.verdict import Finding, Verdict, rejected

MAX_TABLES: Final = 300_000  # of one file; the largest models known have some 50,000
MAX_OFFSETS: Final = 1_000_000  # followed, to tables read before and to none included
MAX_CHILDREN: Final = 200_000  # of one vector
MAX_FAULTS: Final = 32
MIN_TABLES: Final = 4  # of a broken file that is still told from chance
MAX_TEXT_BYTES: Final = 1 << 20
MAX_BUFFER_BYTES: Final = 1 << 31  # signed 32-bit offsets
MAX_VTABLE_BYTES: Final = 4 + 2 * 64
HEAD_BYTES: Final = 1 << 10
ROOT_ADDRESS: Final[Asked] = (
    bytes(range(0, 256, 4)),
    bytes(range(HEAD_BYTES >> 8)),
    b"\0",
    b"\0",
)  # a file's first bytes
OPAQUE: Final = "opaque"  # a table whose fields are not looked at


@dataclass(frozen=True, slots=True)
class Number:
    """A scalar of so many bytes."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Text:
    """A string."""


@dataclass(frozen=True, slots=True)
class Texts:
    """A vector of strings."""


@dataclass(frozen=True, slots=True)
class Items:
    """A vector of scalars."""

    item_bytes: int


@dataclass(frozen=True, slots=True)
class One:
    """A table of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Many:
    """A vector of tables of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Union:
    """A table whose name the byte in the field before tells; others are opaque.

    Attributes:
        names: of the tables, by that byte.
        structs: of what is no table, but so many bytes.
    """

    names: tuple[tuple[int, str], ...] = ()
    structs: tuple[tuple[int, int], ...] = ()


Kind: TypeAlias = Number | Text | Texts | Items | One | Many | Union
Schema: TypeAlias = Mapping[str, tuple[Kind, ...]]
"""The fields of each table, in the order of their ids."""


@dataclass(frozen=True, slots=True)
class Vector:
    """Where a vector's items lie."""

    offset_bytes: int
    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One table: its own bytes, where each field lies in them (0: absent), and its children by field id."""

    name: str
    offset_bytes: int
    raw: bytes
    places: tuple[int, ...]
    texts: dict[int, str] = field(default_factory=dict)
    lists: dict[int, list[str]] = field(default_factory=dict)
    vectors: dict[int, Vector] = field(default_factory=dict)
    children: dict[int, list[Table | None]] = field(default_factory=dict)

    def place(self, number: int) -> int:
        """Return where field `number` lies in the table, 0 when it is absent."""
        return self.places[number] if number < len(self.places) else 0

    def number(self, number: int, size_bytes: int, *, default: int = 0, signed: bool = False) -> int:
        """Return an integer field, `default` when it is absent."""
        place = self.place(number)
        if not place:
            return default
        return int.from_bytes(self.raw[place : place + size_bytes], "little", signed=signed)

    def text(self, number: int) -> str:
        """Return a string field, "" when it is absent."""
        return self.texts.get(number, "")

    def strings(self, number: int) -> list[str]:
        """Return the strings of a field, none when it is absent."""
        return self.lists.get(number, [])

    def slots(self, number: int) -> list[Table | None]:
        """Return the tables of a field in their places; None stands for a broken one."""
        return self.children.get(number, [])

    def many(self, number: int) -> list[Table]:
        """Return the tables of a field, none when it is absent; broken ones are left out."""
        return [table for table in self.slots(number) if table is not None]

    def one(self, number: int) -> Table | None:
        """Return the table of a field."""
        return next(iter(self.many(number)), None)


class FlatBuffer:
    """Reads all tables that can be reached from the root.

    Attributes:
        end_bytes: the largest end met so far.
        faults: what broke, in the order met, the first few; a broken child does not stop the others.
        cut: whether something lies past the end of the window.
    """

    def __init__(self, window: Window, schema: Schema) -> None:
        self.window = window
        self.schema = schema
        self.end_bytes = 0
        self.faults: list[MalformedError] = []
        self.cut = False
        self._followed = 0
        self._spans: list[tuple[int, int]] = []
        self._vtables: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._used: dict[tuple[str, tuple[int, ...]], int] = {}
        self._seen: dict[tuple[str, int], Table | None] = {}

    def root(self, name: str) -> Table | None:
        """Return the root table, None when it is broken; see `faults`."""
        return self._child(name, 0)

    def items(self, vector: Vector | None, dtype: str, *, limit: int) -> tuple[int, ...]:
        """Return the first `limit` items of a vector as Python integers."""
        if vector is None:
            return ()
        item_bytes = np.dtype(dtype).itemsize
        raw = self.window.read_at(vector.offset_bytes, min(vector.count, limit) * item_bytes)
        return tuple(np.frombuffer(raw[: len(raw) // item_bytes * item_bytes], dtype=dtype).tolist())

    @property
    def tables(self) -> int:
        """How many tables were read without a fault in themselves."""
        return sum(table is not None for table in self._seen.values())

    def overlap(self) -> int | None:
        """Return where one object begins inside another, None when all lie apart as writers place them."""
        if not self._spans:
            return None
        spans = np.unique(np.array(self._spans, dtype=np.int64), axis=0)  # what is shared was met more than once
        reach = np.maximum.accumulate(spans[:-1, 1])
        inside = np.flatnonzero(spans[1:, 0] < reach)
        return int(spans[1 + inside[0], 0]) if len(inside) else None

    @property
    def stands(self) -> bool:
        """Whether enough tables are whole, beside those that are broken, to tell a file from chance."""
        return self.tables >= MIN_TABLES * (1 + len(self._breaks()))

    def refusal(self) -> Verdict:
        """Return what is said of a buffer that does not stand, or whose root lacks something."""
        first = next(iter(self._breaks()), None)
        return rejected("few-tables", at_bytes=0) if first is None else rejected(first.code, at_bytes=first.at_bytes)

    def findings(self) -> list[Finding]:
        """Return what is wrong with the buffer itself; that it is cut is the format's to tell."""
        detail = "the table, vector or string here is broken"
        found = [Finding(code=fault.code, offset_bytes=fault.at_bytes, detail=detail) for fault in self._breaks()]
        overlap = self.overlap()
        if overlap is not None:
            found.append(Finding(code="overlap", offset_bytes=overlap, detail="one object begins inside another"))
        return found

    def _breaks(self) -> list[MalformedError]:
        return [fault for fault in self.faults if fault.code != "cut-short"]

    def _child(self, name: str, at_bytes: int) -> Table | None:
        """Follow the offset at `at_bytes` to a table; a fault there is kept, and None returned."""
        self._count(1)
        try:
            return self._table(name, self._follow(at_bytes))
        except MalformedError as fault:
            self._keep(fault)
            return None

    def _count(self, offsets: int) -> None:
        self._followed += offsets
        if self._followed > MAX_OFFSETS:
            raise BudgetExceeded(f"more than {MAX_OFFSETS} offsets to tables")

    def _keep(self, fault: MalformedError) -> None:
        self.cut = self.cut or isinstance(fault, CutShortError)
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(fault)

    def _read(self, at_bytes: int, size_bytes: int) -> bytes:
        """Return exactly these bytes and count them as part of the file."""
        end_bytes = at_bytes + size_bytes
        if end_bytes > MAX_BUFFER_BYTES:
            raise MalformedError("offset", at_bytes)
        if end_bytes > self.end_bytes:
            self.end_bytes = end_bytes
        raw = self.window.read_at(at_bytes, size_bytes)
        if len(raw) < size_bytes:
            raise CutShortError("cut-short", self.window.size_bytes)
        return raw

    def _follow(self, at_bytes: int) -> int:
        return _target(at_bytes, int.from_bytes(self._read(at_bytes, 4), "little"))

    def _table(self, name: str, at_bytes: int) -> Table | None:
        key = (name, at_bytes)
        if key in self._seen:
            return self._seen[key]
        if len(self._seen) >= MAX_TABLES:
            raise BudgetExceeded(f"more than {MAX_TABLES} tables")
        self._seen[key] = None
        if at_bytes % 4:
            raise MalformedError("alignment", at_bytes)
        table_bytes, places = self._vtable(at_bytes)
        used_bytes = self._used_bytes(name, places)
        table = Table(name, at_bytes, self._read(at_bytes, max(table_bytes, used_bytes)), places)
        self._spans.append((at_bytes, at_bytes + used_bytes))
        self._seen[key] = table
        for number, (place, kind) in enumerate(zip(places, self.schema.get(name, ()), strict=False)):
            if place and not isinstance(kind, Number):  # scalars stay in the table's bytes
                self._whole_field(table, number, kind)
        return table

    def _used_bytes(self, name: str, places: tuple[int, ...]) -> int:
        """Return where a table's last field ends.

        The size in its vtable may be another table's, a few bytes longer or shorter: Python's writer shares vtables
        that differ in it alone.
        """
        if (name, places) not in self._used:
            kinds = self.schema.get(name, ())
            sizes = [kind.size_bytes if isinstance(kind, Number) else 4 for kind in kinds] + [1] * len(places)
            ends = (place + sizes[number] for number, place in enumerate(places) if place)
            self._used[name, places] = max(ends, default=4)
        return self._used[name, places]

    def _vtable(self, table_at_bytes: int) -> tuple[int, tuple[int, ...]]:
        """Return the table's size and its fields' places, each of which must lie inside the table."""
        back = int.from_bytes(self._read(table_at_bytes, 4), "little", signed=True)
        at_bytes = table_at_bytes - back
        if at_bytes in self._vtables:
            return self._vtables[at_bytes]
        if at_bytes < 4 or at_bytes % 2:
            raise MalformedError("vtable", table_at_bytes)
        vtable_bytes, table_bytes = struct.unpack("<2H", self._read(at_bytes, 4))
        if not 4 <= vtable_bytes <= MAX_VTABLE_BYTES or vtable_bytes % 2 or table_bytes < 4:
            raise MalformedError("vtable", at_bytes)
        places = struct.unpack(f"<{vtable_bytes // 2 - 2}H", self._read(at_bytes + 4, vtable_bytes - 4))
        if any(place and not 4 <= place < table_bytes for place in places):
            raise MalformedError("vtable", at_bytes)
        self._spans.append((at_bytes, at_bytes + vtable_bytes))
        self._vtables[at_bytes] = (table_bytes, places)
        return table_bytes, places

    def _whole_field(self, table: Table, number: int, kind: Kind) -> None:
        """Read one field; a text past the window's end leaves the table as it is, for many writers place texts last."""
        try:
            self._field(table, number, kind)
        except CutShortError as fault:
            if not isinstance(kind, Text | Texts):
                raise
            self._keep(fault)

    def _field(self, table: Table, number: int, kind: Kind) -> None:
        """Read one field that is there."""
        at_bytes = table.offset_bytes + table.place(number)
        if isinstance(kind, Text):
            table.texts[number] = self._text(self._follow(at_bytes))
        elif isinstance(kind, Items):
            table.vectors[number] = self._vector(self._follow(at_bytes), kind.item_bytes)
        elif isinstance(kind, Many):
            table.children[number] = list(self._children(kind.name, self._follow(at_bytes)))
        elif isinstance(kind, Texts):
            table.lists[number] = list(self._strings(self._follow(at_bytes)))
        elif isinstance(kind, One):
            table.children[number] = [self._child(kind.name, at_bytes)]
        elif isinstance(kind, Union):
            self._union(table, number, kind)

    def _union(self, table: Table, number: int, kind: Union) -> None:
        at_bytes, tag = table.offset_bytes + table.place(number), table.number(number - 1, 1)
        struct_bytes = dict(kind.structs).get(tag)
        if struct_bytes is None:
            table.children[number] = [self._child(dict(kind.names).get(tag, OPAQUE), at_bytes)]
            return
        place = self._follow(at_bytes)
        self._read(place, struct_bytes)
        self._spans.append((place, place + struct_bytes))

    def _text(self, at_bytes: int) -> str:
        size_bytes = int.from_bytes(self._read(at_bytes, 4), "little")
        if size_bytes > MAX_TEXT_BYTES:
            raise MalformedError("text-length", at_bytes)
        raw = self._read(at_bytes + 4, size_bytes + 1)
        if raw[-1]:
            raise MalformedError("text-end", at_bytes + 4 + size_bytes)
        self._spans.append((at_bytes, at_bytes + 5 + size_bytes))
        return raw[:-1].decode(errors="replace")

    def _vector(self, at_bytes: int, item_bytes: int) -> Vector:
        """Return where a vector lies; its items are not read, and it may end past the window."""
        count = int.from_bytes(self._read(at_bytes, 4), "little")
        end_bytes = at_bytes + 4 + count * item_bytes
        if at_bytes % 4 or end_bytes > MAX_BUFFER_BYTES:
            raise MalformedError("vector", at_bytes)
        self.end_bytes = max(self.end_bytes, end_bytes)
        self._spans.append((at_bytes, end_bytes))
        self.cut = self.cut or end_bytes > self.window.size_bytes
        return Vector(at_bytes + 4, count, count * item_bytes)

    def _strings(self, at_bytes: int) -> Iterable[str]:
        vector = self._vector(at_bytes, 4)
        if vector.count > MAX_CHILDREN:
            raise MalformedError("vector", at_bytes)
        for index in range(vector.count):
            yield self._text(self._follow(vector.offset_bytes + 4 * index))

    def _children(self, name: str, at_bytes: int) -> Iterable[Table | None]:
        vector = self._vector(at_bytes, 4)
        if vector.count > MAX_CHILDREN:
            raise MalformedError("vector", at_bytes)
        offsets = self.items(vector, "<u4", limit=vector.count)  # fewer when it is cut
        self._count(len(offsets))
        for place, offset in enumerate(offsets):
            at_bytes = vector.offset_bytes + 4 * place
            if len(self.faults) == MAX_FAULTS and self._leads_nowhere(at_bytes + offset, offset):
                yield None
                continue
            try:
                yield self._table(name, _target(at_bytes, offset))
            except MalformedError as fault:
                self._keep(fault)
                yield None

    def _leads_nowhere(self, place: int, offset: int) -> bool:
        """Tell without a read that no table is there: of a wrong vector hardly any is, of a hundred thousand."""
        if offset < 4 or place % 4 or place >= MAX_BUFFER_BYTES:
            return True
        if place > self.window.size_bytes - 4:
            self.cut = True
            self.end_bytes = max(self.end_bytes, place + 4)
            return True
        return False


def _target(at_bytes: int, offset: int) -> int:
    """Return where the offset at `at_bytes` leads."""
    if offset < 4 or at_bytes + offset >= MAX_BUFFER_BYTES:
        raise MalformedError("offset", at_bytes)
    return at_bytes + offset


def read_root_table(read_at: Callable[[int, int], bytes]) -> tuple[bytes, tuple[int, ...]] | None:
    """Return the root table's bytes and its fields' places by two or three short reads; None when it is none.

    Args:
        read_at: reads the file at (offset, size), both in bytes.
    """
    head = read_at(0, HEAD_BYTES)
    root: int = int.from_bytes(head[:4], "little")
    if len(head) < 8 or root % 4 or not 4 <= root <= len(head) - 4:
        return None
    vtable = root - struct.unpack_from("<i", head, root)[0]
    if vtable % 2 or not 4 <= vtable < MAX_BUFFER_BYTES:
        return None
    raw = read_at(vtable, MAX_VTABLE_BYTES)  # a shared one may lie at the file's end
    vtable_bytes, table_bytes = struct.unpack_from("<2H", raw) if len(raw) >= 4 else (0, 0)
    if vtable_bytes % 2 or not 4 <= vtable_bytes <= min(MAX_VTABLE_BYTES, len(raw)):
        return None
    places = struct.unpack_from(f"<{vtable_bytes // 2 - 2}H", raw, 4)
    if table_bytes > MAX_VTABLE_BYTES * 4 or any(place and not 4 <= place < table_bytes for place in places):
        return None
    return read_at(root, table_bytes), places
