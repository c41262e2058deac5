"""ONNX ModelProto: the top level, field by field, up to where the file ends.

Nearly all writers put the fields in ascending order, the graph (7) being almost the whole file; after it come operator
sets (8) and a few others. Some keep the order of onnx.proto, and protobuf allows any. There is no length: the file ends
where no field that may still come, well formed, goes on. What that leaves open is for `_onnx_end`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from signatures._onnx_end import MAX_IR_VERSION, MIN_TEXT, Tail, begins_text, is_sure
from signatures._onnx_graph import GraphWalk
from signatures._onnx_schema import GRAPH, IR_VERSION, KNOWN_IR_VERSION, MESSAGES, METADATA, MODEL, OPSET
from signatures._protobuf import LENGTH, VARINT, CutShortError, Field, MalformedError, Wire

MAX_OPSET_VERSION = 1 << 16
MAX_GRAPH_BYTES = 1 << 31  # protobuf's own limit for one message
MAX_TEXT_BYTES = 1024
MAX_DOC_BYTES = 1 << 24
OPSET_SINCE_IR = 3
UNBOUNDED = 1 << 62


@dataclass(slots=True)
class ModelRead:
    """The top level, as far as it was read.

    Attributes:
        numbers: varint fields by number.
        texts: short texts by field number.
        opsets: operator set version by domain.
        tail: what stands behind the graph, and how sure it is.
        end: where the last good field ends; at last, where the file does.
        graph_end: where the graph says that it ends; 0 before there is one.
        other_ends: where the file may also end.
        cut: the window ends inside.
    """

    wire: Wire
    walk: GraphWalk
    numbers: dict[int, int] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    tail: Tail = field(default_factory=Tail)
    graph_end: int = 0
    end: int = 0
    other_ends: list[int] = field(default_factory=list)
    cut: bool = False
    _kept: list[tuple[int, dict[Any, Any], int | str]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything that a model must have was seen."""
        has_opset = bool(self.opsets) or self.numbers.get(IR_VERSION, 0) < OPSET_SINCE_IR
        return self.graph_end > 0 and IR_VERSION in self.numbers and has_opset

    def read(self) -> MalformedError | None:
        """Read to the end of the file; return the fault that shows that there is no model at all, or None."""
        fault = self._read_fields()
        if fault is None and self.graph_end and not self.cut:
            self._end_here()
        return fault

    def _read_fields(self) -> MalformedError | None:
        try:
            for entry in self.wire.fields(0, UNBOUNDED):
                self._take(entry)
        except CutShortError as fault:
            return self._stopped(fault)
        except MalformedError as fault:
            return fault if not self.graph_end or not self.walk.proven else None
        return None

    def _stopped(self, fault: CutShortError) -> MalformedError | None:
        """The window ended: inside the model, or just behind it in what looks like one more of its fields."""
        if not self.graph_end or (self.cut and not self.walk.proven):
            return fault
        if not self.complete:
            self.cut = True
        elif self.end < self.wire.size_bytes:
            self.other_ends.append(self.wire.size_bytes)
        return None

    def _end_here(self) -> None:
        """Settle where the file ends, and forget what was read behind that."""
        self.end, other_end = self.tail.ends(self.wire)
        if other_end:
            self.other_ends.insert(0, other_end)
        for start, held, key in self._kept:
            if start >= self.end:
                held.pop(key, None)

    def _take(self, entry: Field) -> None:
        """Check one field of the top level and keep what it says.

        Raises:
            MalformedError: no model has such a field here.
            CutShortError: it goes on after the window.
        """
        number, kind, value, body, stop = entry
        holds = MODEL.get(number, "")
        if not holds or kind != (VARINT if holds == "int" else LENGTH):
            raise MalformedError("top-level-tag", body)
        if number in self.numbers or number in self.texts or (number == GRAPH and self.graph_end):
            raise MalformedError("repeated-field", body)
        complete, sure = self.complete, True
        if holds == "int":
            self._take_number(number, value, body)
            sure = number == IR_VERSION
        elif number == GRAPH:
            self._take_graph(body, stop)
        elif holds in MESSAGES:
            self._take_message(number, holds, body, stop)
        else:
            sure = self._take_text(number, holds, body, stop)
        self.tail.take(number, stop, sure=sure or not self.graph_end, complete=complete)
        self.end = stop

    def _keep(self, held: dict[Any, Any], key: int | str, value: object) -> None:
        """Keep what a field says, and since when it is known."""
        if self.graph_end:
            self._kept.append((self.end, held, key))
        held[key] = value

    def _take_number(self, number: int, value: int, body: int) -> None:
        if number == IR_VERSION and not 0 < value <= MAX_IR_VERSION:
            raise MalformedError("ir-version", body)
        self._keep(self.numbers, number, value)
        self.walk.lenient = self.numbers.get(IR_VERSION, 0) > KNOWN_IR_VERSION

    def _take_text(self, number: int, holds: str, body: int, stop: int) -> bool:
        """Keep a text; return whether it is surely one."""
        if self.complete and stop > self.wire.size_bytes and not begins_text(self.wire, body):
            raise MalformedError("text-encoding", body)
        text = self.wire.text(body, stop, limit_bytes=MAX_TEXT_BYTES if holds == "name" else MAX_DOC_BYTES)
        if holds == "name" and not (text.isprintable() or not text):
            raise MalformedError("producer-text", body)
        self._keep(self.texts, number, text if holds == "name" else "")
        least = MIN_TEXT if self.tail.in_order else 0
        return len(text) >= least and is_sure(self.wire, number, text, body, stop)

    def _take_graph(self, body: int, stop: int) -> None:
        if stop - body > MAX_GRAPH_BYTES:
            raise MalformedError("graph-length", body)
        self.graph_end = self.end = stop
        try:
            self.walk.main_graph(body, stop)
        except CutShortError:
            self.cut = True
            raise
        except MalformedError:
            if not self.walk.proven:  # else a damaged model: its length still leads to what follows
                raise

    def _take_message(self, number: int, holds: str, body: int, stop: int) -> None:
        if body == stop:
            raise MalformedError("empty-message", body)
        self.walk.message(holds, body, stop)
        if number == OPSET:
            self._take_opset(body, stop)
        elif number == METADATA:
            self._say(self.metadata, *self._pair(body, stop))

    def _take_opset(self, body: int, stop: int) -> None:
        domain, version = "", 0
        for number, _, value, first, last in self.wire.fields(body, stop):
            if number == 1:
                domain = self.wire.text(first, last, limit_bytes=MAX_TEXT_BYTES)
            elif number == 2:
                version = value
        if not 0 < version <= MAX_OPSET_VERSION or not (domain.isprintable() or not domain):
            raise MalformedError("opset", body)
        self._say(self.opsets, domain, version)

    def _say(self, held: dict[Any, Any], key: str, value: object) -> None:
        """Keep one of several things; no writer says one twice: that may be another file's tail, left in the slack."""
        if key not in held:
            self._keep(held, key, value)
        elif self.graph_end and not self.tail.repeat_at:
            self.tail.repeat_at = self.end

    def _pair(self, body: int, stop: int) -> tuple[str, str]:
        """Return key and value of an entry, cut to what a report shows."""
        texts = {1: "", 2: ""}
        for number, _, _, first, last in self.wire.fields(body, stop):
            shown = self.wire.bytes_at(first, min(last, first + MAX_TEXT_BYTES))
            texts[number] = shown.decode(errors="replace")
        return texts[1], texts[2]
