"""ONNX graphs, walked to the last field: nodes, initializers, subgraphs, functions. No payload is read.

The lengths of the nested messages are redundant (graph, initializer, raw_data), so bytes that are not the file's own
break the chain of tags soon. A break inside one child of the main graph is noted and the walk goes on behind it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace

from signatures._onnx_schema import GRAPH_INITIALIZER, GRAPH_NAME, GRAPH_SPARSE, MESSAGES, REQUIRED
from signatures._onnx_tensor import MAX_NAME_BYTES, StoredTensor
from signatures._protobuf import FIXED32, LENGTH, PAGE_BYTES, VARINT, CutShortError, MalformedError, Wire
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade

MAX_DEPTH = 100
MAX_OPERATOR_BYTES = 512
MAX_BREAKS = 8
PROVING_CHILDREN = 2
MAX_RESUME_BYTES = 1 << 20
MAX_TRIALS = 20_000
CHILD_TAG = re.compile(rb"[\x0a\x12\x2a\x52\x5a\x62\x6a\x72\x7a]")  # fields 1 to 15 of a graph
RUN_FIELDS = 16  # from here on a run of numbers is worth a vectorised look
WIRES = {"int": (VARINT,), "f32": (FIXED32,), "ints": (VARINT, LENGTH), "floats": (FIXED32, LENGTH)}
TEXTS = frozenset(("name", "use", "definition"))


@dataclass(slots=True)
class GraphWalk:
    """The state of one walk.

    Attributes:
        wire: where the bytes are.
        lenient: whether what the tables do not know is let through (a later IR version).
        breaks: what is wrong in the main graph, in file order.
        troubles: tensors whose type or amount of data is odd.
        unknown_fields: where fields were let through.
        whole: good children of the main graph.
        definitions: the values that some graph, node or function makes.
        uses: the values that are needed -> where first.
    """

    wire: Wire
    lenient: bool = False
    name: str = ""
    operators: Counter[str] = field(default_factory=Counter)
    tensors: list[Tensor] = field(default_factory=list)
    external: list[dict[str, object]] = field(default_factory=list)
    troubles: list[Finding] = field(default_factory=list)
    breaks: list[MalformedError] = field(default_factory=list)
    unknown_fields: list[int] = field(default_factory=list)
    definitions: set[str] = field(default_factory=lambda: {""})
    uses: dict[str, int] = field(default_factory=dict)
    parameters: int = 0
    whole: int = 0
    nodes: int = 0
    nested_tensors: int = 0
    nested_bytes: int = 0
    trials_left: int = MAX_TRIALS

    @property
    def proven(self) -> bool:
        """Whether enough of the main graph was read to say that it is one."""
        return self.whole >= PROVING_CHILDREN and (self.nodes > 0 or bool(self.tensors))

    def main_graph(self, start: int, end: int) -> None:
        """Walk the main graph `[start, end)`, collecting its tensors.

        Raises:
            CutShortError: the window ends inside.
            MalformedError: it breaks before anything is proven, or too often.
        """
        at = start
        while at < end:
            at = self._chain(at, end)

    def _chain(self, start: int, end: int) -> int:
        """Walk the children of the main graph from `start` on; return `end`, or where to go on behind a break."""
        tensor_end = -1
        try:
            for number, kind, _, body, stop in self.wire.fields(start, end):
                self._child(number, kind, body, stop)
                tensor_end = stop if number == GRAPH_INITIALIZER else -1
        except CutShortError:
            raise
        except MalformedError as fault:
            if fault.at_bytes == tensor_end and self.tensors:  # no tag behind a tensor: the break lies inside it
                self.tensors[-1] = replace(self.tensors[-1], grade=Grade.DAMAGED)
            self._note(fault)
            return self._resume(fault.at_bytes, end)
        return end

    def _resume(self, start: int, end: int) -> int:
        """Return where the next two good children in a row begin, or `end`: behind an unread sector, a lost block."""
        end_bytes = min(end, start + MAX_RESUME_BYTES)
        for first in range(start, end_bytes, PAGE_BYTES):
            piece = self.wire.window.read_at(first, min(PAGE_BYTES, end_bytes - first))
            for found in CHILD_TAG.finditer(piece):
                self.trials_left -= 1
                if self.trials_left < 0:
                    return end
                if self._goes_on(first + found.start(), end):
                    return first + found.start()
        return end

    def _goes_on(self, start: int, end: int) -> bool:
        """Tell whether good children of a graph begin at `start`: two, or one that ends with the graph."""
        trial = GraphWalk(wire=self.wire, lenient=self.lenient)
        try:
            for number, kind, _, body, stop in self.wire.fields(start, end):
                if body == stop:
                    return False
                trial._child(number, kind, body, stop)
                if trial.whole >= PROVING_CHILDREN or stop == end:
                    return True
        except MalformedError:
            return False
        return False

    def message(self, name: str, start: int, end: int, depth: int = 0) -> None:
        """Walk any message by its table.

        Raises:
            CutShortError: the window ends inside.
            MalformedError: it is no such message.
        """
        if depth > MAX_DEPTH:
            raise MalformedError("depth", start)
        table, missing = MESSAGES[name], set(REQUIRED.get(name, ()))
        at, run = start, 0
        while at < end:
            for number, kind, _, body, stop in self.wire.fields(at, end):
                holds = table.get(number, "")
                self._field(holds, kind, body, stop, depth)
                missing.discard(number)
                at = stop
                run = run + 1 if kind != LENGTH and holds in ("ints", "floats") else 0
                if run >= RUN_FIELDS:
                    at, run = self.wire.run_end(number << 3 | kind, kind, stop, end), 0
                    break
        if missing:
            raise MalformedError("required-field", start)

    def dangling(self) -> Finding | None:
        """Return the finding that a value is needed which nothing makes: a name is damaged, or a node missing."""
        lost = [name for name in self.uses if name not in self.definitions]
        if not lost:
            return None
        detail = f"{len(lost)} values are used that nothing makes, first {lost[0]!r}"
        return Finding(code="dangling-input", offset_bytes=self.uses[lost[0]], detail=detail)

    def _field(self, holds: str, kind: int, body: int, stop: int, depth: int) -> None:
        if not holds:
            self._unknown(body)
        elif kind not in WIRES.get(holds, (LENGTH,)):
            raise MalformedError("wire-type", body)
        elif holds in TEXTS:
            self._text(holds, body, stop)
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
        """Keep a fault of the main graph; raise it where the graph is not proven, or broken too often."""
        if self.breaks[-1:] == [fault]:
            raise fault
        self.breaks.append(fault)
        if not self.proven or len(self.breaks) > min(self.whole, MAX_BREAKS):
            raise fault

    def _text(self, holds: str, body: int, stop: int) -> None:
        text = self.wire.text(body, stop, limit_bytes=MAX_NAME_BYTES)
        if "\0" in text:  # no exporter's name has one, an unread sector has nothing else
            raise MalformedError("name-zeros", body)
        if holds == "definition":
            self.definitions.add(text)
        elif holds == "use":
            self.uses.setdefault(text, body)

    def _operator(self, body: int, stop: int) -> None:
        operator = self.wire.text(body, stop, limit_bytes=MAX_OPERATOR_BYTES)
        if not operator or not operator.isprintable():
            raise MalformedError("operator", body)
        self.operators[operator] += 1
        self.nodes += 1

    def _initializer(self, body: int, stop: int) -> None:
        """Read a tensor of the main graph; what was learnt of it is kept even when it is cut or broken."""
        stored, grade = StoredTensor(), Grade.DAMAGED
        try:
            stored.read(self.wire, body, stop, self.message)
            if not stored.name or "\0" in stored.name:
                raise MalformedError("name-zeros" if stored.name else "tensor-without-name", body)
            grade = self._grade(stored, body)
        except CutShortError:
            grade = Grade.TRUNCATED
            raise
        finally:
            self._keep(stored, grade)

    def _grade(self, stored: StoredTensor, body: int) -> Grade:
        code = stored.problem()
        if not code:
            return Grade.CONSISTENT
        detail = f"tensor {stored.name!r} of type {stored.data_type} and shape {stored.dims}"
        self.troubles.append(Finding(code=code, offset_bytes=body, detail=detail))
        if code == "tensor-without-data":  # left out on purpose in models that are shipped without weights
            return Grade.CONSISTENT
        return Grade.UNDECIDED if code == "unknown-dtype" and self.lenient else Grade.DAMAGED

    def _keep(self, stored: StoredTensor, grade: Grade) -> None:
        if not stored.name:
            return
        self.tensors.append(stored.as_tensor(grade))
        self.definitions.add(stored.name)
        self.parameters += stored.elements
        if stored.is_external:
            self.external.append(stored.told)

    def _sparse(self, body: int, stop: int) -> None:
        """Read a SparseTensorProto: the name and type of its values, its own (dense) shape."""
        values, shape = StoredTensor(), StoredTensor()
        for number, kind, value, first, last in self.wire.fields(body, stop):
            if number == 1 and kind == LENGTH:
                values.read(self.wire, first, last, self.message)
            elif number == 3:
                shape.take_dims(self.wire, kind, value, first, last)
            else:
                self._field(MESSAGES["Sparse"].get(number, ""), kind, first, last, 1)
        if not values.name:
            raise MalformedError("tensor-without-name", body)
        grade = self._grade(values, body)
        values.dims = shape.dims
        self._keep(values, grade)

    def _nested_tensor(self, body: int, stop: int, depth: int) -> None:
        """Check a tensor that is not the main graph's: a constant in an attribute, an initializer of a subgraph."""
        stored = StoredTensor()
        stored.read(self.wire, body, stop, lambda name, first, last: self.message(name, first, last, depth + 1))
        if stored.problem() == "tensor-size":
            raise MalformedError("tensor-size", body)
        self.definitions.add(stored.name)
        if stored.is_external:
            self.external.append(stored.told)
        self.nested_tensors += 1
        self.nested_bytes += stored.stored_bytes

    def _unknown(self, body: int) -> None:
        if not self.lenient:
            raise MalformedError("unknown-field", body)
        self.unknown_fields.append(body)
