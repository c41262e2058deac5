"""A TensorFlow graph inside a protobuf: nodes, functions, and the constants that carry their bytes.

Field numbers: TensorFlow's meta_graph.proto, graph.proto, node_def.proto, function.proto, tensor.proto.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

from imaging.extent import span
from signatures._protobuf import FIXED32, LENGTH, VARINT, MalformedError, Wire
from signatures._tf_bundle import DTYPES
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade

MAX_NAME_BYTES: Final = 4096
MAX_RANK: Final = 254
MAX_TENSORS: Final = 200_000
MAX_FINDINGS: Final = 100
META_INFO, GRAPH, SIGNATURE = 1, 2, 5
META_FIELDS: Final = frozenset(range(1, 8))
GRAPH_FIELDS: Final = frozenset(range(1, 6))


class GraphWalk:
    """Walks the meta graphs of a saved model.

    Attributes:
        tensors: constants with their bytes in the file, named by function and node.
        tags, versions, signatures: what the meta graphs tell.
        nodes, functions: how many there are, in all graphs.
        operators: how often each operator stands in them.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.tensors: list[Tensor] = []
        self.findings: list[Finding] = []
        self.tags: list[str] = []
        self.versions: set[str] = set()
        self.signatures: list[str] = []
        self.nodes = 0
        self.functions = 0
        self.operators: Counter[str] = Counter()

    def meta_graph(self, start: int, end: int) -> None:
        """Walk one MetaGraphDef.

        Raises:
            MalformedError: it breaks the grammar, or is another message.
        """
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if number not in META_FIELDS or wire != LENGTH:
                raise MalformedError("meta-graph", body)
            if number == META_INFO:
                self._meta_info(body, stop)
            elif number == GRAPH:
                self._graph(body, stop)
            elif number == SIGNATURE:
                self._signature(body, stop)

    def _text(self, start: int, end: int) -> str:
        return self.wire.text(start, end, limit_bytes=MAX_NAME_BYTES)

    def _meta_info(self, start: int, end: int) -> None:
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if number > 8 or wire != (VARINT if number == 7 else LENGTH):
                raise MalformedError("meta-info", body)
            if number == 4 and len(self.tags) < 64:
                self.tags.append(self._text(body, stop))
            elif number == 5:
                self.versions.add(self._text(body, stop))

    def _signature(self, start: int, end: int) -> None:
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if number == 1 and wire == LENGTH and len(self.signatures) < 256:
                self.signatures.append(self._text(body, stop))

    def _graph(self, start: int, end: int) -> None:
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if number not in GRAPH_FIELDS or wire != (VARINT if number == 3 else LENGTH):
                raise MalformedError("graph", body)
            if number == 1:
                self._node("", body, stop)
            elif number == 2:
                self._library(body, stop)

    def _library(self, start: int, end: int) -> None:
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if number == 1 and wire == LENGTH:
                self._function(body, stop)

    def _function(self, start: int, end: int) -> None:
        self.functions += 1
        name = ""
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if number == 1 and wire == LENGTH:
                parts = self.wire.fields(body, stop)
                name = next((self._text(at, to) for part, _, _, at, to in parts if part == 1), "")
            elif number == 3 and wire == LENGTH:
                self._node(f"{name}/", body, stop)

    def _node(self, prefix: str, start: int, end: int) -> None:
        """Read a NodeDef: every node has a name and an operator."""
        self.nodes += 1
        name = operator = ""
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if number > 7 or wire != LENGTH:
                raise MalformedError("node", body)
            if number == 1:
                name = self._text(body, stop)
            elif number == 2:
                operator = self._text(body, stop)
            elif number == 5 and operator == "Const":
                self._attribute(prefix + name, body, stop)
        if not name or not operator:
            raise MalformedError("node", start)
        self.operators[operator] += 1

    def _attribute(self, name: str, start: int, end: int) -> None:
        key = ""
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if number == 1 and wire == LENGTH:
                key = self._text(body, stop)
            elif number == 2 and wire == LENGTH and key == "value":
                for kind, inner, _, at, to in self.wire.fields(body, stop):
                    if kind == 8 and inner == LENGTH:
                        self._tensor(name, at, to)

    def _tensor(self, name: str, start: int, end: int) -> None:
        """Read a TensorProto; one with its values in typed fields (a splat, texts) has no bytes of its own."""
        code, shape, content = 0, tuple[int, ...](), (0, 0)
        for number, wire, value, body, stop in self.wire.fields(start, end):
            if number == 1 and wire == VARINT:
                code = value
            elif number == 2 and wire == LENGTH:
                shape = self._shape(body, stop)
            elif number == 4 and wire == LENGTH:
                content = (body, stop)
            elif wire == FIXED32:
                raise MalformedError("tensor", body)
        size_bytes = content[1] - content[0]
        if not size_bytes or len(self.tensors) >= MAX_TENSORS:
            return
        dtype, item_bytes = DTYPES.get(code, ("unknown", 0))
        grade = Grade.TRUNCATED if content[1] > self.wire.size_bytes else Grade.CONSISTENT
        if item_bytes and (min(shape, default=0) < 0 or math.prod(shape) * item_bytes != size_bytes):
            grade = Grade.DAMAGED
            if len(self.findings) < MAX_FINDINGS:
                detail = f"{name[:200]!r} has {size_bytes} bytes, which is not {dtype} {shape}"[:400]
                self.findings.append(Finding(code="tensor-size", offset_bytes=content[0], detail=detail))
        self.tensors.append(Tensor(name=name, dtype=dtype, shape=shape, layout=(span(*content),), grade=grade.value))

    def _shape(self, start: int, end: int) -> tuple[int, ...]:
        shape: list[int] = []
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if number == 2 and wire == LENGTH and len(shape) < MAX_RANK:
                sizes = (
                    value for part, kind, value, _, _ in self.wire.fields(body, stop) if (part, kind) == (1, VARINT)
                )
                extent = next(sizes, 0)
                shape.append(extent if extent < 1 << 50 else -1)
        return tuple(shape)
