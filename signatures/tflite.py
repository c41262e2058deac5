"""TFLite: a flatbuffer without length or checksum. Its end is the largest end of all that its root reaches.

Every table, vector and string must lie apart from every other, and each constant tensor must have exactly the bytes
that its type and shape ask for. Models over 2 GB keep buffers after the flatbuffer, at offsets that the tables tell;
those compiled for an accelerator keep its program there, at an offset in the options of the operators that call it
(LiteRT's dispatch_op_schema), or earlier in a metadata's text (LiteRT's byte_code_util).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from imaging.extent import Extent
from imaging.source import Source
from imaging.window import Window
from signatures._flat_model import FlatModel
from signatures._flatbuffer import ROOT_ADDRESS, FlatBuffer, Table, read_root_table
from signatures._flexbuffer import map_integers
from signatures._tflite_schema import (
    BUFFER_DATA,
    BUFFER_OFFSET,
    BUFFER_SIZE,
    BUFFERS,
    CUSTOM_CODE,
    CUSTOM_OPTIONS,
    DESCRIPTION,
    DTYPES,
    LARGE_OPTIONS_OFFSET,
    LARGE_OPTIONS_SIZE,
    METADATA,
    METADATA_BUFFER,
    METADATA_NAME,
    OPERATOR_CODE,
    OPERATOR_CODES,
    OPERATORS,
    SCHEMA,
    SIGNATURE_KEY,
    SIGNATURES,
    SUBGRAPHS,
    TENSOR_BUFFER,
    TENSOR_NAME,
    TENSOR_SHAPE,
    TENSOR_SPARSITY,
    TENSOR_TYPE,
    TENSORS,
    VERSION,
)
from signatures.format import Format, Pattern
from signatures.tensors import Tensor
from signatures.verdict import Grade, Verdict, rejected

MAGIC = b"TFL3"
MODEL_VERSION = 3
MAX_RANK = 64
MAX_FILE_BYTES = 1 << 42
MAX_NAMES = 64  # of each kind, kept as facts
MAX_OPTIONS_BYTES = 1 << 16
DISPATCH = "DISPATCH_OP"  # calls a program of an accelerator
APPENDED = re.compile(rb"<npu_byte_code>[\[*]*([0-9]{1,10})[\0,*]+([0-9]{1,10})[\]\0]*")  # its offset and size
MAX_APPENDED_BYTES = 64


class _Model(FlatModel):
    """What was read of one model."""

    def __init__(self, window: Window, root: Table, flat: FlatBuffer) -> None:
        super().__init__(window, root, flat)
        self.end_bytes = -(-flat.end_bytes // 4) * 4  # the writer pads strings to 4
        self.flat_end_bytes = self.end_bytes
        self.subgraphs = root.many(SUBGRAPHS)
        self.buffers = [self._place(buffer) for buffer in root.slots(BUFFERS)]
        self.custom = [code.text(CUSTOM_CODE) if code else "" for code in root.slots(OPERATOR_CODES)]
        for subgraph in self.subgraphs:
            for operator in subgraph.many(OPERATORS):
                self._outside(operator, LARGE_OPTIONS_OFFSET, LARGE_OPTIONS_SIZE)
                self._program(operator)
        for one in root.many(METADATA):
            self._appended_program(one)
        self.tensors = tuple(t for s in self.subgraphs for table in s.many(TENSORS) if (t := self._tensor(table)))

    def _place(self, buffer: Table | None) -> Extent | None:
        """Return where a buffer's bytes lie; None when it is broken or empty."""
        if buffer is None:
            return None
        outside = self._outside(buffer, BUFFER_OFFSET, BUFFER_SIZE)
        vector = buffer.vectors.get(BUFFER_DATA)
        if outside is None and vector is not None and vector.count:
            return Extent(offset_bytes=vector.offset_bytes, size_bytes=vector.size_bytes)
        return outside

    def _outside(self, table: Table, offset_field: int, size_field: int) -> Extent | None:
        """Return what a table says lies after the flatbuffer."""
        return self._behind(table, table.number(offset_field, 8), table.number(size_field, 8))

    def _program(self, operator: Table) -> None:
        """Take in the accelerator's program that an operator calls."""
        index, options = operator.number(OPERATOR_CODE, 4), operator.vectors.get(CUSTOM_OPTIONS)
        if options is None or index >= len(self.custom) or self.custom[index] != DISPATCH:
            return
        told = map_integers(self.window.read_at(options.offset_bytes, min(options.size_bytes, MAX_OPTIONS_BYTES)))
        self._behind(operator, told.get("bytecode_offset", 0), told.get("bytecode_size", 0))

    def _appended_program(self, metadata: Table) -> None:
        """Take in the accelerator's program that a metadata's text places behind the flatbuffer."""
        index = metadata.number(METADATA_BUFFER, 4)
        place = self.buffers[index] if index < len(self.buffers) else None
        if place is None or place.size_bytes > MAX_APPENDED_BYTES:
            return
        told = APPENDED.fullmatch(self.window.read_at(place.offset_bytes, place.size_bytes))
        if told is not None:
            self._behind(metadata, int(told[1]), int(told[2]))

    def _behind(self, table: Table, offset_bytes: int, size_bytes: int) -> Extent | None:
        """Return this place after the flatbuffer; offsets of 0 and 1 mean nothing is there."""
        if offset_bytes <= 1 or size_bytes == 0:
            return None
        if offset_bytes < self.flat_end_bytes or offset_bytes + size_bytes > MAX_FILE_BYTES:
            self.note("buffer-offset", table.offset_bytes, f"{size_bytes} bytes at {offset_bytes:#x} cannot be there")
            return None
        self.end_bytes = max(self.end_bytes, offset_bytes + size_bytes)
        return Extent(offset_bytes=offset_bytes, size_bytes=size_bytes)

    def _tensor(self, table: Table) -> Tensor | None:
        """Return a tensor that has bytes in the file, None for those computed at run time."""
        index = table.number(TENSOR_BUFFER, 4)
        if index >= len(self.buffers) > 0:
            self.note("buffer-index", table.offset_bytes, f"{table.text(TENSOR_NAME)!r} is in buffer {index}: none")
        extent = self.buffers[index] if index < len(self.buffers) else None
        if extent is None:
            return None
        shape = self.flat.items(table.vectors.get(TENSOR_SHAPE), "<i4", limit=MAX_RANK)
        dtype, bits = DTYPES.get(table.number(TENSOR_TYPE, 1), ("unknown", 0))
        grade = Grade.CONSISTENT
        if dtype == "unknown":
            self.note("unknown-dtype", table.offset_bytes, f"{table.text(TENSOR_NAME)!r} is of an unknown type")
        elif bits and not table.place(TENSOR_SPARSITY) and not _fits(shape, bits, extent.size_bytes):
            grade = Grade.DAMAGED
            what = f"{table.text(TENSOR_NAME)!r} has {extent.size_bytes} bytes, which is not {dtype} {shape}"
            self.note("tensor-size", table.offset_bytes, what)
        if extent.end_bytes > self.window.size_bytes:
            grade = Grade.TRUNCATED
        return Tensor(name=table.text(TENSOR_NAME), dtype=dtype, shape=shape, layout=(extent,), grade=grade.value)


def _fits(shape: tuple[int, ...], bits: int, size_bytes: int) -> bool:
    return all(extent >= 0 for extent in shape) and -(-math.prod(shape) * bits // 8) == size_bytes


def validate(window: Window) -> Verdict:
    """Judge a model that would begin at the window's start.

    Raises:
        BudgetExceeded, ReadFault: from the window, or for more tables than any model has.
    """
    if window.read_at(4, 4) != MAGIC:
        return rejected("magic", at_bytes=4)
    if not _is_model(read_root_table(window.read_at)):
        return rejected("root-table", at_bytes=0)
    flat = FlatBuffer(window, SCHEMA)
    root = flat.root("Model")
    if root is None or not flat.stands or not root.place(SUBGRAPHS):
        return flat.refusal()
    model = _Model(window, root, flat)
    if not model.subgraphs and not flat.cut:
        model.note("no-subgraph", None, "the model has no subgraph")
    return model.verdict(_facts(model))


def _facts(model: _Model) -> dict[str, object]:
    root = model.root
    custom = sorted({code.text(CUSTOM_CODE) for code in root.many(OPERATOR_CODES)} - {""})
    return {
        "description": root.text(DESCRIPTION)[:200],
        "subgraphs": len(model.subgraphs),
        "operators": sum(len(subgraph.many(OPERATORS)) for subgraph in model.subgraphs),
        "custom_operators": custom[:MAX_NAMES],
        "metadata": [one.text(METADATA_NAME)[:200] for one in root.many(METADATA)][:MAX_NAMES],
        "signatures": [one.text(SIGNATURE_KEY)[:200] for one in root.many(SIGNATURES)][:MAX_NAMES],
    }


def _is_model(root: tuple[bytes, tuple[int, ...]] | None) -> bool:
    """Tell whether a root table can be a model's: version 3, with operator codes, subgraphs and buffers."""
    if root is None:
        return False
    raw, places = root
    if len(places) <= BUFFERS or not all(places[field] for field in (VERSION, SUBGRAPHS, BUFFERS)):
        return False
    version = raw[places[VERSION] : places[VERSION] + 4]
    return len(version) == 4 and int.from_bytes(version, "little") == MODEL_VERSION


def starts(source: Source, hit_offset_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the file's start when the root table before and after the magic is a model's."""
    start = hit_offset_bytes - pattern.offset_bytes
    if start >= 0 and _is_model(read_root_table(lambda at, size: source.read_at(start + at, size))):
        yield start


FORMAT = Format(
    name="tflite",
    suffix=".tflite",
    title="TFLite model",
    patterns=(Pattern(bytes=MAGIC, offset_bytes=4, before=ROOT_ADDRESS),),
    validate=validate,
    starts=starts,
    proves="nothing: TFLite has no checksums; all tables and the size of every tensor are checked",
)
