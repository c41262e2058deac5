"""ExecuTorch program (.pte): a flatbuffer with a header that tells its length, then segments of constants.

The header ("eh00") gives the flatbuffer's length and where the segments begin; a later one also how long they are,
an earlier one leaves that to the program's list of segments. A program without segments has no header: its end is the
largest end of all that its root reaches. Facts: ExecuTorch's program.fbs and its serializer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from construct import Bytes, Const, Int32ul, Int64ul, Struct

from imaging.extent import Extent
from imaging.source import Source
from imaging.window import Window
from signatures._executorch_schema import (
    ALLOCATION,
    BUFFER_INDEX,
    CONSTANT_BUFFER,
    CONSTANT_SEGMENT,
    DTYPES,
    EXTRA,
    EXTRA_LOCATION,
    EXTRA_NAME,
    NAMED_DATA,
    OFFSETS,
    OFFSETS_SEGMENT,
    PLAN_DELEGATES,
    PLAN_NAME,
    PLAN_OPERATORS,
    PLAN_VALUES,
    PLANS,
    SCALAR_TYPE,
    SCHEMA,
    SEGMENT_OFFSET,
    SEGMENT_SIZE,
    SEGMENTS,
    SIZES,
    VALUE_TABLE,
    VERSION,
)
from signatures._flat_model import FlatModel
from signatures._flatbuffer import ROOT_ADDRESS, FlatBuffer, Table, read_root_table
from signatures.format import Format, Pattern
from signatures.tensors import Tensor
from signatures.verdict import Grade, Verdict, rejected

DIGITS = b"0123456789"
IDENTIFIER = re.compile(rb"ET[0-9]{2}")
HEADER_MAGIC = b"eh00"
SHORT_HEADER_BYTES, LONG_HEADER_BYTES = 24, 32
HEAD_BYTES = 8 + LONG_HEADER_BYTES
MAX_HEADER_BYTES = 4096
MAX_FILE_BYTES = 1 << 42
MAX_RANK = 64
MAX_CONSTANTS = 1_000_000
MAX_NAMES = 64

HEADER = Struct(
    "root" / Int32ul,
    "identifier" / Bytes(4),
    "magic" / Const(HEADER_MAGIC),
    "header_bytes" / Int32ul,
    "program_bytes" / Int64ul,
    "segment_base_bytes" / Int64ul,
    "segment_data_bytes" / Int64ul,
).compile()


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the header tells; None where there is none, or it is too old to tell."""

    program_bytes: int | None = None
    segment_base_bytes: int = 0
    segment_data_bytes: int | None = 0


def read_header(raw: bytes) -> Header | None:
    """Return the header in a file's first `HEAD_BYTES`, an empty one where it has none; None when it is no program."""
    if len(raw) < HEAD_BYTES or not IDENTIFIER.fullmatch(raw[4:8]):
        return None
    if raw[8:12] != HEADER_MAGIC:
        return Header()
    told = HEADER.parse(raw)
    if not SHORT_HEADER_BYTES <= told.header_bytes <= MAX_HEADER_BYTES:
        return None
    if not HEAD_BYTES <= told.program_bytes <= MAX_FILE_BYTES:
        return None
    has_segments = told.segment_base_bytes != 0
    if has_segments and not told.program_bytes <= told.segment_base_bytes <= MAX_FILE_BYTES:
        return None
    known = told.header_bytes >= LONG_HEADER_BYTES
    if known and told.segment_data_bytes > (MAX_FILE_BYTES if has_segments else 0):
        return None
    return Header(
        program_bytes=told.program_bytes,
        segment_base_bytes=told.segment_base_bytes,
        segment_data_bytes=told.segment_data_bytes if known else None,
    )


class _Program(FlatModel):
    """What was read of one program."""

    def __init__(self, window: Window, header: Header, root: Table, flat: FlatBuffer) -> None:
        super().__init__(window, root, flat)
        self.header = header
        self.end_bytes = header.program_bytes or -(-flat.end_bytes // 4) * 4  # the writer pads strings to 4
        if header.segment_base_bytes:
            self.end_bytes = header.segment_base_bytes + (header.segment_data_bytes or 0)
        self.segments = [self._segment(table) for table in root.slots(SEGMENTS)]
        self.constants = self._constants()
        self.plans = root.many(PLANS)
        self.names: set[str] = set()
        self.tensors = tuple(self._tensors())

    def _segment(self, table: Table | None) -> Extent | None:
        """Return where a segment lies in the file; None when it cannot be there."""
        if table is None:
            return None
        offset_bytes, size_bytes = table.number(SEGMENT_OFFSET, 8), table.number(SEGMENT_SIZE, 8)
        data_bytes = self.header.segment_data_bytes
        if offset_bytes + size_bytes > (MAX_FILE_BYTES if data_bytes is None else data_bytes):
            self.note("segment-range", table.offset_bytes, f"{size_bytes} bytes at {offset_bytes:#x} of the segments")
            return None
        found = Extent(offset_bytes=self.header.segment_base_bytes + offset_bytes, size_bytes=size_bytes)
        self.end_bytes = max(self.end_bytes, found.end_bytes)
        return found

    def _constants(self) -> list[Extent | None]:
        """Return where each constant may lie: inside the program, or from its offset to the next one's."""
        inline = [
            Extent(offset_bytes=v.offset_bytes, size_bytes=v.size_bytes)
            if table is not None and (v := table.vectors.get(0)) is not None
            else None
            for table in self.root.slots(CONSTANT_BUFFER)
        ]
        table = self.root.one(CONSTANT_SEGMENT)
        offsets = self.flat.items(table.vectors.get(OFFSETS) if table else None, "<u8", limit=MAX_CONSTANTS)
        if table is None or not offsets:
            return inline
        index = table.number(OFFSETS_SEGMENT, 4)
        segment = self.segments[index] if index < len(self.segments) else None
        if segment is None:
            self.note("segment-index", table.offset_bytes, f"constants are in segment {index}, which is not there")
            return []
        found: list[Extent | None] = []
        for start, end in zip(offsets, (*offsets[1:], segment.size_bytes), strict=True):
            fits = start <= end <= segment.size_bytes
            place = Extent(offset_bytes=segment.offset_bytes + start, size_bytes=end - start) if fits else None
            found.append(place)
            if not fits:
                self.note("constant-offset", table.offset_bytes, f"a constant from {start:#x} to {end:#x}")
        return found

    def _tensors(self) -> Iterable[Tensor]:
        for plan in self.plans:
            for value in plan.many(PLAN_VALUES):
                table = value.one(VALUE_TABLE)
                if table is not None and table.name == "Tensor":
                    tensor = self._tensor(table)
                    if tensor is not None:
                        yield tensor

    def _tensor(self, table: Table) -> Tensor | None:
        """Return a constant tensor, each once; None for those computed at run time or kept in other files."""
        index, extra = table.number(BUFFER_INDEX, 4), table.one(EXTRA)
        external = extra is not None and extra.number(EXTRA_LOCATION, 1) == 1
        if index == 0 or external or table.place(ALLOCATION):
            return None
        name = (extra.text(EXTRA_NAME) if extra else "") or f"constant_{index}"
        if name in self.names:
            return None
        self.names.add(name)
        shape = self.flat.items(table.vectors.get(SIZES), "<i4", limit=MAX_RANK)
        dtype, item_bytes = DTYPES.get(table.number(SCALAR_TYPE, 1), ("unknown", 0))
        if not item_bytes:
            self.note("unknown-dtype", table.offset_bytes, f"{name} is of an unknown type")
        room = self.constants[index] if index < len(self.constants) else None
        size_bytes = math.prod(shape) * item_bytes
        if room is None or min(shape, default=0) < 0 or size_bytes > room.size_bytes:
            self.note("tensor-size", table.offset_bytes, f"{name} {dtype} {shape} does not fit where it should be")
            return Tensor(name=name, dtype=dtype, shape=shape, layout=(), grade=Grade.DAMAGED.value)
        extent = Extent(offset_bytes=room.offset_bytes, size_bytes=size_bytes)
        grade = Grade.TRUNCATED if extent.end_bytes > self.window.size_bytes else Grade.CONSISTENT
        return Tensor(name=name, dtype=dtype, shape=shape, layout=(extent,) if size_bytes else (), grade=grade.value)


def validate(window: Window) -> Verdict:
    """Judge a program that would begin at the window's start.

    Raises:
        BudgetExceeded, ReadFault: from the window, or for more tables than any program has.
    """
    header = read_header(window.read_at(0, HEAD_BYTES))
    if header is None:
        return rejected("header", at_bytes=0)
    if not _is_program(read_root_table(window.read_at)):
        return rejected("root-table", at_bytes=0)
    flat = FlatBuffer(window, SCHEMA)
    root = flat.root("Program")
    if root is None or not flat.stands:
        return flat.refusal()
    program = _Program(window, header, root, flat)
    if header.program_bytes is not None and flat.end_bytes > header.program_bytes:
        program.note("program-size", 16, f"the program goes on to {flat.end_bytes:#x}, past what the header tells")
    return program.verdict(_facts(program), noun="program", cut=header.program_bytes is None and flat.cut)


def _facts(program: _Program) -> dict[str, object]:
    plans, root = program.plans, program.root
    operators = sorted({one.text(0) for plan in plans for one in plan.many(PLAN_OPERATORS)})
    named: list[dict[str, object]] = []
    for one in root.many(NAMED_DATA)[:MAX_NAMES]:
        index = one.number(1, 4)
        place = program.segments[index] if index < len(program.segments) else None
        named.append(
            {
                "key": one.text(0)[:200],
                "offset_bytes": place.offset_bytes if place else None,
                "size_bytes": place.size_bytes if place else None,
            }
        )
    return {
        "version": root.number(VERSION, 4),
        "methods": [plan.text(PLAN_NAME)[:200] for plan in plans][:MAX_NAMES],
        "backends": sorted({one.text(0)[:200] for plan in plans for one in plan.many(PLAN_DELEGATES)})[:MAX_NAMES],
        "operators": [name[:200] for name in operators[:MAX_NAMES]],
        "segments": len(program.segments),
        "named_data": named,
    }


def _is_program(root: tuple[bytes, tuple[int, ...]] | None) -> bool:
    """Tell whether a root table can be a program's: execution plans, and a version that is 0 or small."""
    if root is None:
        return False
    raw, places = root
    if len(places) <= PLANS or not places[PLANS]:
        return False
    version = raw[places[VERSION] : places[VERSION] + 4] if places[VERSION] else b""
    return int.from_bytes(version, "little") < 256


def starts(source: Source, hit_offset_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the file's start when the header, if there is one, is whole and the root table is a program's."""
    start = hit_offset_bytes - pattern.offset_bytes
    if start < 0 or read_header(source.read_at(start, HEAD_BYTES)) is None:
        return
    if _is_program(read_root_table(lambda at, size: source.read_at(start + at, size))):
        yield start


FORMAT = Format(
    name="executorch",
    suffix=".pte",
    title="ExecuTorch program",
    patterns=(
        Pattern(bytes=HEADER_MAGIC, offset_bytes=8, name="header", before=(*ROOT_ADDRESS, b"E", b"T", DIGITS, DIGITS)),
        Pattern(bytes=b"ET12", offset_bytes=4, name="identifier", before=ROOT_ADDRESS),
    ),
    validate=validate,
    starts=starts,
    proves="nothing: there are no checksums; all tables, segments and the size of every constant are checked",
)
