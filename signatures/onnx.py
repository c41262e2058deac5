"""ONNX: a protobuf without magic, length or checksum. Delimited by its own grammar, walked to the last field.

The fields of the top level come in ascending order from every writer seen, the graph (7) being nearly the whole file;
after it only operator sets (8) and a few others can follow. The file ends where no such field, well formed, goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from imaging.source import Source
from imaging.window import Window
from signatures._onnx_graph import GraphWalk
from signatures._onnx_schema import (
    GRAPH,
    IR_VERSION,
    KNOWN_IR_VERSION,
    MESSAGES,
    MODEL,
    MODEL_DOMAIN,
    MODEL_SINGULAR,
    OPSET,
    PRODUCER_NAME,
    PRODUCER_VERSION,
)
from signatures._protobuf import LENGTH, VARINT, CutShortError, MalformedError, Wire
from signatures.format import Format, Pattern, SectorProbe
from signatures.verdict import Finding, Grade, Verdict, rejected

MAX_IR_VERSION = 0x20  # 14 today
MAX_OPSET_VERSION = 1 << 16
MAX_GRAPH_BYTES = 1 << 31  # protobuf's own limit for one message
MAX_HEAD_TEXT_BYTES = 1024
MAX_HEAD_DOC_BYTES = 1 << 24
OPSET_SINCE_IR = 3
UNBOUNDED = 1 << 62
TOP_OPERATORS = 10
GENERIC_NAMES = frozenset(
    ("", "main_graph", "torch_jit", "torch-jit-export", "graph", "spox_graph", "paddle-onnx", "tf2onnx", "main")
)
PRODUCERS = (
    "pytorch", "tf2onnx", "keras2onnx", "skl2onnx", "OnnxMLTools", "onnx-caffe2", "caffe2", "PaddlePaddle", "ML.NET",
    "WinMLTools", "tflite2onnx", "sclblonnx", "onnx.quantize", "onnx.utils.extract_model",
    "onnx.compose.merge_models", "onnx-typecast", "onnxruntime", "OnnxRuntime", "onnxruntime-tools",
    "onnxruntime.transformers", "onnxruntime-genai", "onnxruntime.quant", "optimum-onnx", "vai_q_onnx",
    "customvision", "pmml2onnx", "backend-test", "MATLAB Deep Learning Toolbox Converter for ONNX Model Format",
    "MVTec Software", "Tencent YouTu", "TensorRT", "Kneron",
)  # fmt: skip
AFTER_IR_VERSION = b"\x12\x1a\x22\x28\x32\x3a\x42"  # tags of the fields 2 to 8
GRAPH_TAGS = b"\x0a\x12\x2a\x5a"  # a graph begins with a node, its name, an initializer or an input
CONTINUED, LAST = bytes(range(0x80, 0x100)), bytes(range(0x01, 0x80))
LOOK_BYTES = 80


@dataclass(slots=True)
class _Head:
    """The top level, as far as it was read."""

    wire: Wire
    walk: GraphWalk
    numbers: dict[int, int] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    opsets: list[tuple[str, int]] = field(default_factory=list)
    last_number: int = 0
    ascending: bool = True
    graph_end: int = 0
    end: int = 0
    other_ends: list[int] = field(default_factory=list)
    cut: bool = False
    late_break: MalformedError | None = None

    @property
    def complete(self) -> bool:
        """Whether everything that a model must have was seen."""
        has_opset = bool(self.opsets) or self.numbers.get(IR_VERSION, 0) < OPSET_SINCE_IR
        return self.graph_end > 0 and IR_VERSION in self.numbers and has_opset

    def take(self, number: int, kind: int, value: int, body: int, stop: int) -> None:
        """Check one field of the top level and keep what it says.

        Raises:
            MalformedError: no model has such a field here.
            CutShortError: it goes on after the window.
        """
        holds = MODEL.get(number, "")
        if not holds or kind != (VARINT if holds == "int" else LENGTH):
            raise MalformedError("top-level-tag", body)
        if number in MODEL_SINGULAR and (number in self.numbers or number in self.texts):
            raise MalformedError("repeated-field", body)
        if self.complete and self.ascending and number < self.last_number:
            raise MalformedError("field-order", body)
        if holds == "int":
            self._take_number(number, value, body)
        elif number == GRAPH:
            self._take_graph(body, stop)
        elif number == OPSET:
            self._take_opset(body, stop)
        else:
            self._take_other(number, holds, body, stop)
        self.ascending = self.ascending and number >= self.last_number
        self.last_number = number
        self.end = stop

    def _take_number(self, number: int, value: int, body: int) -> None:
        if number == IR_VERSION and not 0 < value <= MAX_IR_VERSION:
            raise MalformedError("ir-version", body)
        self.numbers[number] = value
        self.walk.lenient = self.numbers.get(IR_VERSION, 0) > KNOWN_IR_VERSION

    def _take_graph(self, body: int, stop: int) -> None:
        if stop - body > MAX_GRAPH_BYTES:
            raise MalformedError("graph-length", body)
        self.texts[GRAPH] = ""
        self.graph_end = self.end = stop
        try:
            self.walk.main_graph(body, stop)
        except CutShortError:
            self.cut = True
            raise

    def _take_opset(self, body: int, stop: int) -> None:
        domain, version = "", 0
        self.walk.message("OperatorSet", body, stop)
        for number, _, value, first, last in self.wire.fields(body, stop):
            if number == 1:
                domain = self.wire.text(first, last, limit_bytes=MAX_HEAD_TEXT_BYTES)
            elif number == 2:
                version = value
        if not 0 < version <= MAX_OPSET_VERSION or not (domain.isprintable() or not domain):
            raise MalformedError("opset", body)
        if any(domain == known for known, _ in self.opsets):
            self.other_ends.append(self.end)
        self.opsets.append((domain, version))

    def _take_other(self, number: int, holds: str, body: int, stop: int) -> None:
        if holds in MESSAGES:
            if body == stop:
                raise MalformedError("empty-message", body)
            self.walk.message(holds, body, stop)
            return
        limit_bytes = MAX_HEAD_TEXT_BYTES if holds == "name" else MAX_HEAD_DOC_BYTES
        text = self.wire.text(body, stop, limit_bytes=limit_bytes)
        if holds == "name" and text and not text.isprintable():
            raise MalformedError("producer-text", body)
        self.texts[number] = text if holds == "name" else ""


def validate(window: Window) -> Verdict:
    """Judge a model that would begin at the window's start."""
    wire = Wire(window)
    head = _Head(wire=wire, walk=GraphWalk(wire))
    try:
        for number, kind, value, body, stop in wire.fields(0, UNBOUNDED):
            try:
                head.take(number, kind, value, body, stop)
            except MalformedError as fault:
                if number != GRAPH or not head.walk.proven or isinstance(fault, CutShortError):
                    raise
                head.late_break = fault
    except MalformedError as fault:
        if not head.graph_end or (number == GRAPH and not head.walk.proven):
            return rejected(fault.code, at_bytes=fault.at_bytes)
        head.cut = head.cut or (isinstance(fault, CutShortError) and not head.complete)
    return _verdict(head)


def _verdict(head: _Head) -> Verdict:
    walk = head.walk
    if not walk.nodes and not walk.tensors:
        return rejected("empty-graph")
    if IR_VERSION not in head.numbers:
        return rejected("ir-version")
    findings = [Finding(code=fault.code, offset_bytes=fault.at_bytes) for fault in walk.breaks]
    grade = Grade.DAMAGED if findings else Grade.CONSISTENT
    if any(code == "tensor-size" for code, _, _ in walk.troubles):
        grade = Grade.DAMAGED
    findings += [Finding(code=code, offset_bytes=at, detail=f"tensor {name!r}") for code, name, at in walk.troubles]
    if not head.complete:
        findings.append(Finding(code="missing-opset", offset_bytes=head.end))
        grade = Grade.DAMAGED
    if head.cut:
        findings.append(Finding(code="cut-short", offset_bytes=head.wire.size_bytes))
        grade = Grade.TRUNCATED
    if walk.external:
        findings.append(Finding(code="external-data"))
    return Verdict(
        grade=grade, size_bytes=head.end, findings=tuple(findings), tensors=tuple(walk.tensors), facts=_facts(head)
    )


def _facts(head: _Head) -> dict[str, object]:
    walk = head.walk
    facts: dict[str, object] = {
        "ir_version": head.numbers.get(IR_VERSION, 0),
        "producer": head.texts.get(PRODUCER_NAME, ""),
        "producer_version": head.texts.get(PRODUCER_VERSION, ""),
        "domain": head.texts.get(MODEL_DOMAIN, ""),
        "opsets": dict(head.opsets),
        "graph_name": walk.name,
        "nodes": walk.nodes,
        "operators": dict(walk.operators.most_common(TOP_OPERATORS)),
        "parameters": walk.parameters,
        "nested_tensors": walk.nested_tensors,
        "nested_tensor_bytes": walk.nested_bytes,
    }
    if walk.external:
        facts["external_data"] = walk.external
    if walk.name not in GENERIC_NAMES:
        facts |= {"name": walk.name, "name_source": "graph name"}
    return facts


def starts(source: Source, hit_offset_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the file's start for a producer's name: the IR version must stand before it, a known field after it."""
    start = hit_offset_bytes - pattern.offset_bytes
    if start < 0:
        return
    look = source.read_at(start, LOOK_BYTES)
    after = pattern.offset_bytes + len(pattern.bytes)
    if len(look) > after and look[0] == 0x08 and 0 < look[1] <= MAX_IR_VERSION and look[after] in AFTER_IR_VERSION:
        yield start


def _producer_pattern(producer: str) -> Pattern:
    constant = b"\x12" + bytes((len(producer),)) + producer.encode()
    return Pattern(bytes=constant, offset_bytes=2, name=producer)


FORMAT = Format(
    name="onnx",
    suffix=".onnx",
    title="ONNX model",
    patterns=tuple(map(_producer_pattern, PRODUCERS)),
    probes=(
        SectorProbe(allowed=(b"\x08", bytes(range(1, MAX_IR_VERSION + 1)), AFTER_IR_VERSION), name="ir-version"),
        SectorProbe(allowed=(b"\x3a", CONTINUED, LAST, GRAPH_TAGS), name="graph-first-2"),
        SectorProbe(allowed=(b"\x3a", CONTINUED, CONTINUED, LAST, GRAPH_TAGS), name="graph-first-3"),
        SectorProbe(allowed=(b"\x3a", CONTINUED, CONTINUED, CONTINUED, LAST, GRAPH_TAGS), name="graph-first-4"),
    ),
    validate=validate,
    starts=starts,
    proves="nothing: ONNX has no checksums; structure and the size of every tensor are checked",
)
