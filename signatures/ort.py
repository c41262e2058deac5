"""ONNX Runtime model (.ort): a flatbuffer without length or checksum, with ONNX's initializers inside.

Its end is the largest end of all that its root reaches, up to the alignment of the whole; the version's text, which
is written first, lies last. Each initializer must have exactly the bytes that its type and dimensions ask for. Facts:
ONNX Runtime's ort.fbs and its documentation of the ORT model format.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

from imaging.extent import Extent
from imaging.source import Source
from imaging.window import Window
from signatures._flat_model import FlatModel
from signatures._flatbuffer import ROOT_ADDRESS, FlatBuffer, Table, read_root_table
from signatures._onnx_schema import DATA_TYPES, STRING
from signatures._ort_schema import (
    DOMAIN,
    GRAPH,
    INITIALIZERS,
    INPUTS,
    IR_VERSION,
    NODE_DOMAIN,
    NODE_OPERATOR,
    NODES,
    OPERATOR_SETS,
    OUTPUTS,
    PRODUCER,
    PRODUCER_VERSION,
    PROPERTIES,
    PROPERTY_KEY,
    SCHEMA,
    SESSION_MODEL,
    SESSION_VERSION,
    SET_DOMAIN,
    SET_VERSION,
    SPARSE_INDICES,
    SPARSE_INITIALIZERS,
    SPARSE_VALUES,
    TENSOR_DATA,
    TENSOR_DIMS,
    TENSOR_EXTERNAL,
    TENSOR_NAME,
    TENSOR_STRINGS,
    TENSOR_TYPE,
)
from signatures.format import Format, Pattern
from signatures.tensors import Tensor
from signatures.verdict import Grade, Verdict, rejected

MAGIC = b"ORTM"
ROOT_FIELDS = range(2, 17)  # a version and a model at least; four are known
ALIGN_BYTES = 8  # of the whole: there are 64-bit numbers in every model
MAX_RANK = 64
MAX_NAMES = 64  # of each kind, kept as facts


class _Model(FlatModel):
    """What was read of one model."""

    def __init__(self, window: Window, root: Table, flat: FlatBuffer) -> None:
        super().__init__(window, root, flat)
        self.end_bytes = -(-flat.end_bytes // ALIGN_BYTES) * ALIGN_BYTES
        self.model = root.one(SESSION_MODEL)
        self.graph = self.model.one(GRAPH) if self.model is not None else None
        self.tensors = tuple(self._tensors(self.graph)) if self.graph is not None else ()

    def _tensors(self, graph: Table) -> Iterator[Tensor]:
        """Yield the main graph's initializers; of sparse ones the values by the name and the indices apart."""
        for table in graph.many(INITIALIZERS):
            yield self._tensor(table, table.text(TENSOR_NAME))
        for sparse in graph.many(SPARSE_INITIALIZERS):
            values, indices = sparse.one(SPARSE_VALUES), sparse.one(SPARSE_INDICES)
            name = values.text(TENSOR_NAME) if values is not None else ""
            if values is not None:
                yield self._tensor(values, name)
            if indices is not None:
                yield self._tensor(indices, indices.text(TENSOR_NAME) or f"{name}.indices")

    def _tensor(self, table: Table, name: str) -> Tensor:
        """Return an initializer and where its bytes lie; nowhere for strings and for what another file holds."""
        shape = self.flat.items(table.vectors.get(TENSOR_DIMS), "<i8", limit=MAX_RANK)
        kind = table.number(TENSOR_TYPE, 4)
        dtype, bits = DATA_TYPES.get(kind, ("unknown", 0))
        grade, layout = Grade.CONSISTENT, self._layout(table)
        if dtype == "unknown":
            self.note("unknown-dtype", table.offset_bytes, f"{name!r} is of an unknown type")
        elif not self._fits(table, shape, kind, bits):
            grade = Grade.DAMAGED
            held = table.vectors.get(TENSOR_STRINGS if kind == STRING else TENSOR_DATA)
            unit = "strings" if kind == STRING else "bytes"
            what = f"{name!r} has {held.count if held else 0} {unit}, which is not {dtype} {shape}"
            self.note("tensor-size", table.offset_bytes, what)
        if layout and layout[0].end_bytes > self.window.size_bytes:
            grade = Grade.TRUNCATED
        return Tensor(name=name, dtype=dtype, shape=shape, layout=layout, grade=grade.value)

    def _layout(self, table: Table) -> tuple[Extent, ...]:
        held = table.vectors.get(TENSOR_DATA)
        if held is None or not held.count:
            return ()
        return (Extent(offset_bytes=held.offset_bytes, size_bytes=held.size_bytes),)

    def _fits(self, table: Table, shape: tuple[int, ...], kind: int, bits: int) -> bool:
        """Tell whether an initializer's bytes, or strings, are as many as its dimensions ask for."""
        if table.place(TENSOR_EXTERNAL) and table.number(TENSOR_EXTERNAL, 8, signed=True) >= 0:
            return True
        count = math.prod(shape)
        held = table.vectors.get(TENSOR_STRINGS if kind == STRING else TENSOR_DATA)
        wanted = count if kind == STRING else -(-count * bits // 8)
        return min(shape, default=0) >= 0 and wanted == (held.count if held is not None else 0)


def validate(window: Window) -> Verdict:
    """Judge a model that would begin at the window's start.

    Raises:
        BudgetExceeded, ReadFault: from the window, or for more tables than any model has.
    """
    if window.read_at(4, 4) != MAGIC:
        return rejected("magic", at_bytes=4)
    if not _is_session(read_root_table(window.read_at)):
        return rejected("root-table", at_bytes=0)
    flat = FlatBuffer(window, SCHEMA)
    root = flat.root("Session")
    if root is None or not flat.stands:
        return flat.refusal()
    model = _Model(window, root, flat)
    if model.graph is None and not flat.cut:
        model.note("no-graph", None, "the model has no graph")
    return model.verdict(_facts(model))


def _facts(model: _Model) -> dict[str, object]:
    told, graph = model.model, model.graph
    nodes = graph.many(NODES) if graph is not None else []
    called = Counter(_operator(node) for node in nodes)
    facts: dict[str, object] = {
        "ort_version": model.root.text(SESSION_VERSION)[:200],
        "nodes": len(nodes),
        "operators": dict(sorted(called.items(), key=lambda item: (-item[1], item[0]))[:MAX_NAMES]),
    }
    if told is not None:
        facts |= {
            "ir_version": told.number(IR_VERSION, 8),
            "producer": f"{told.text(PRODUCER)} {told.text(PRODUCER_VERSION)}".strip()[:200],
            "domain": told.text(DOMAIN)[:200],
            "opsets": {one.text(SET_DOMAIN)[:200]: one.number(SET_VERSION, 8) for one in told.many(OPERATOR_SETS)},
            "metadata": [one.text(PROPERTY_KEY)[:200] for one in told.many(PROPERTIES)][:MAX_NAMES],
        }
    if graph is not None:
        facts["inputs"] = [name[:200] for name in graph.strings(INPUTS)[:MAX_NAMES]]
        facts["outputs"] = [name[:200] for name in graph.strings(OUTPUTS)[:MAX_NAMES]]
    return facts


def _operator(node: Table) -> str:
    domain, name = node.text(NODE_DOMAIN), node.text(NODE_OPERATOR)
    return (f"{domain}.{name}" if domain else name)[:200]


def _is_session(root: tuple[bytes, tuple[int, ...]] | None) -> bool:
    """Tell whether a root table can be a session's: a version and a model."""
    if root is None:
        return False
    _, places = root
    return len(places) in ROOT_FIELDS and bool(places[SESSION_VERSION]) and bool(places[SESSION_MODEL])


def starts(source: Source, hit_offset_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the file's start when the root table before and after the magic is a session's."""
    start = hit_offset_bytes - pattern.offset_bytes
    if start >= 0 and _is_session(read_root_table(lambda at, size: source.read_at(start + at, size))):
        yield start


FORMAT = Format(
    name="ort",
    suffix=".ort",
    title="ONNX Runtime model (.ort)",
    patterns=(Pattern(bytes=MAGIC, offset_bytes=4, before=ROOT_ADDRESS),),
    validate=validate,
    starts=starts,
    proves="nothing: there are no checksums; all tables and the size of every initializer are checked",
)
