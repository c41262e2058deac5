"""ONNX graphs, walked to the last field: nodes, initializers, subgraphs, functions. No payload is read.

The lengths of the nested messages are redundant (graph, initializer, raw_data), so bytes that are not the file's own
break the chain of tags soon. A break inside one child of the main graph is noted and the walk goes on behind it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from signatures._onnx_schema import (
    GRAPH_INITIALIZER,
    GRAPH_NAME,
    GRAPH_SPARSE,
    MESSAGES,
    REQUIRED,
)
from signatures._onnx_tensor import MAX_NAME_BYTES, StoredTensor
from signatures._protobuf import FIXED32, FIXED64, LENGTH, VARINT, CutShortError, MalformedError, Wire
from signatures.tensors import Tensor
from signatures.verdict import Grade

MAX_DEPTH = 100
MAX_OPERATOR_BYTES = 512
MAX_BREAKS = 8
PROVING_CHILDREN = 2
WIRES = {
    "int": (VARINT,),
    "f32": (FIXED32,),
    "ints": (VARINT, LENGTH),
    "floats": (FIXED32, LENGTH),
}


@dataclass(slots=True)
class GraphWalk:
    """The state of one walk.

    Attributes:
        wire: where the bytes are.
        lenient: whether fields that the tables do not know are let through (a later IR version).
        breaks: what is wrong in the main graph, in file order.
        troubles: (code, name) of tensors whose amount of data is odd.
        whole: good children of the main graph.
    """

    wire: Wire
    lenient: bool = False
    name: str = ""
    operators: Counter[str] = field(default_factory=Counter)
    tensors: list[Tensor] = field(default_factory=list)
    external: list[dict[str, str]] = field(default_factory=list)
    troubles: list[tuple[str, str, int]] = field(default_factory=list)
    breaks: list[MalformedError] = field(default_factory=list)
    unknown_fields: list[int] = field(default_factory=list)
    parameters: int = 0
    whole: int = 0
    nodes: int = 0
    nested_tensors: int = 0
    nested_bytes: int = 0

    @property
    def proven(self) -> bool:
        """Whether enough of the main graph was read to say that it is one."""
        return self.whole >= PROVING_CHILDREN and (self.nodes > 0 or bool(self.tensors))

    def main_graph(self, start: int, end: int) -> None:
        """Walk the main graph `[start, end)`, collecting its tensors.

        Raises:
            CutShortError: the window ends inside.
            MalformedError: it breaks before anything is proven.
        """
        last_tensor_end = -1
        try:
            for number, kind, _, body, stop in self.wire.fields(start, end):
                self._child(number, kind, body, stop)
                last_tensor_end = stop if number == GRAPH_INITIALIZER else -1
        except CutShortError:
            raise
        except MalformedError as fault:
            self._note(fault)
            if last_tensor_end == fault.at_bytes and self.tensors:  # what follows a tensor is no tag: it is cut inside
                self.tensors[-1] = _regraded(self.tensors[-1], Grade.DAMAGED)

    def message(self, name: str, start: int, end: int, depth: int = 0) -> None:
        """Walk any message by its table.

        Raises:
            CutShortError: the window ends inside.
            MalformedError: it is no such message.
        """
        if depth > MAX_DEPTH:
            raise MalformedError("depth", start)
        table, missing = MESSAGES[name], set(REQUIRED.get(name, ()))
        for number, kind, _, body, stop in self.wire.fields(start, end):
            self._field(table.get(number, ""), kind, body, stop, depth)
            missing.discard(number)
        if missing:
            raise MalformedError("required-field", start)

    def _field(self, holds: str, kind: int, body: int, stop: int, depth: int) -> None:
        if not holds:
            self._unknown(body)
        elif kind not in WIRES.get(holds, (LENGTH,)):
            raise MalformedError("wire-type", body)
        elif holds == "name":
            self.wire.text(body, stop, limit_bytes=MAX_NAME_BYTES)
        elif holds == "op":
            self._operator(body, stop)
        elif holds == "Tensor":
            self._nested_tensor(body, stop, depth)
        elif holds in MESSAGES:
            self.message(holds, body, stop, depth + 1)

    def _child(self, number: int, kind: int, body: int, stop: int) -> None:
        """Walk one field of the main graph; note its faults, as its own length still leads to the next one."""
        try:
            if number == GRAPH_INITIALIZER and kind == LENGTH:
                self._initializer(body, stop)
            elif number == GRAPH_SPARSE and kind == LENGTH:
                self._sparse(body, stop)
            else:
                self._field(MESSAGES["Graph"].get(number, ""), kind, body, stop, 1)
                if number == GRAPH_NAME:
                    self.name = self.wire.text(body, stop, limit_bytes=MAX_NAME_BYTES)
            self.whole += 1
        except CutShortError:
            raise
        except MalformedError as fault:
            self._note(fault)

    def _note(self, fault: MalformedError) -> None:
        self.breaks.append(fault)
        if not self.proven or len(self.breaks) > self.whole:
            raise fault
        if len(self.breaks) > MAX_BREAKS:
            raise fault

    def _operator(self, body: int, stop: int) -> None:
        operator = self.wire.text(body, stop, limit_bytes=MAX_OPERATOR_BYTES)
        if not operator or not operator.isprintable():
            raise MalformedError("operator", body)
        self.operators[operator] += 1
        self.nodes += 1

    def _initializer(self, body: int, stop: int) -> None:
        stored = StoredTensor()
        grade = Grade.DAMAGED
        try:
            stored.read(self.wire, body, stop, self.message)
            problem = stored.problem() if stored.name else "tensor-without-name"
            if problem:
                self.troubles.append((problem, stored.name, body))
            grade = Grade.DAMAGED if problem == "tensor-size" else Grade.CONSISTENT
        except CutShortError:
            grade = Grade.TRUNCATED
            raise
        finally:
            if stored.name and stored.data_type:
                self.tensors.append(stored.as_tensor(grade))
                self.parameters += stored.elements
                if stored.is_external:
                    self.external.append({"tensor": stored.name, **stored.external})

    def _sparse(self, body: int, stop: int) -> None:
        """Read a SparseTensorProto: its values' name and type, its own (dense) shape."""
        values, dims = StoredTensor(), StoredTensor()
        for number, kind, value, first, last in self.wire.fields(body, stop):
            if number == 1 and kind == LENGTH:
                values.read(self.wire, first, last, self.message)
            elif number == 3:
                dims.take_dims(self.wire, kind, value, first, last)
            else:
                self._field(MESSAGES["Sparse"].get(number, ""), kind, first, last, 1)
        if values.problem() == "tensor-size":
            raise MalformedError("tensor-size", body)
        values.dims = dims.dims
        self.tensors.append(values.as_tensor(Grade.CONSISTENT))
        self.parameters += values.elements

    def _nested_tensor(self, body: int, stop: int, depth: int) -> None:
        stored = StoredTensor()
        stored.read(self.wire, body, stop, lambda name, first, last: self.message(name, first, last, depth + 1))
        if stored.problem() == "tensor-size":
            raise MalformedError("tensor-size", body)
        self.nested_tensors += 1
        self.nested_bytes += stored.stored_bytes

    def _unknown(self, body: int) -> None:
        if not self.lenient:
            raise MalformedError("unknown-field", body)
        self.unknown_fields.append(body)


def _regraded(tensor: Tensor, grade: Grade) -> Tensor:
    return Tensor(name=tensor.name, dtype=tensor.dtype, shape=tensor.shape, layout=tensor.layout, grade=grade)
