"""Where an ONNX model may start, seen from a hit: a producer's name, or the operator of the graph's first node.

A model has no magic. On a sector's start its first bytes are probed; anywhere else (in an archive, an app's package,
a database) it is found by a string that stands near its start. Not every writer leaves its name, but nearly every
graph begins with a node, and fields are written in ascending order: between the IR version and the node's operator lie
a few short texts only, so that the way back is walked, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from imaging.source import Source
from signatures._onnx_model import MAX_IR_VERSION
from signatures.format import Pattern

PRODUCERS: Final = (
    "pytorch", "tf2onnx", "keras2onnx", "skl2onnx", "OnnxMLTools", "onnx-caffe2", "caffe2", "PaddlePaddle", "ML.NET",
    "WinMLTools", "tflite2onnx", "sclblonnx", "onnx.quantize", "onnx.utils.extract_model",
    "onnx.compose.merge_models", "onnx-typecast", "onnxruntime", "OnnxRuntime", "onnxruntime-tools",
    "onnxruntime.transformers", "onnxruntime-genai", "onnxruntime.quant", "optimum-onnx", "vai_q_onnx",
    "customvision", "pmml2onnx", "backend-test", "MATLAB Deep Learning Toolbox Converter for ONNX Model Format",
    "MVTec Software", "Tencent YouTu", "TensorRT", "Kneron", "spox", "model",
)  # fmt: skip
FIRST_OPERATORS: Final = (  # what graphs often begin with; each one more makes the scan's prefilter coarser
    "Constant", "ConstantOfShape", "Conv", "Identity", "Shape", "Cast", "Gather", "Gemm", "MatMul", "Transpose",
)  # fmt: skip
IR_VERSIONS: Final = bytes(range(1, MAX_IR_VERSION + 1))
AFTER_IR_VERSION: Final = b"\x12\x1a\x22\x28\x32\x3a\x42"  # tags of the fields 2 to 8
TEXT_TAGS: Final = b"\x12\x1a\x22\x32"  # producer, its version, domain, doc string
NODE_TAGS: Final = b"\x0a\x12\x1a"  # a node's inputs, outputs and name come before its operator
MODEL_VERSION_TAG, GRAPH_TAG, NODE_TAG, OPERATOR_TAG = 0x28, 0x3A, 0x0A, 0x22
LOOK_BACK_BYTES = 1024
VARINT_BYTES = 10


def _producer(name: str) -> Pattern:
    """The IR version must stand before it, which begins the file, and a known field behind it."""
    constant = b"\x12" + bytes((len(name),)) + name.encode()
    return Pattern(bytes=constant, offset_bytes=2, name=name, before=(b"\x08", IR_VERSIONS), after=(AFTER_IR_VERSION,))


def _operator(name: str) -> Pattern:
    return Pattern(bytes=bytes((OPERATOR_TAG, len(name))) + name.encode(), name=f"first-{name}")


PATTERNS: Final = (*map(_producer, PRODUCERS), *map(_operator, FIRST_OPERATORS))


def model_starts(source: Source, hit_offset_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the file's start for a hit of one of `PATTERNS`, when what must stand around it does."""
    if pattern.bytes[0] == OPERATOR_TAG:
        return _before_operator(source, hit_offset_bytes)
    return (hit_offset_bytes - pattern.offset_bytes,)


def _before_operator(source: Source, hit_bytes: int) -> Iterator[int]:
    """Yield each start from which the fields lead to a first node whose operator stands at the hit."""
    first = max(0, hit_bytes - LOOK_BACK_BYTES)
    look = source.read_at(first, hit_bytes - first)
    at = look.find(b"\x08")
    while at >= 0:
        if _leads_to_end(look, at):
            yield first + at
        at = look.find(b"\x08", at + 1)


def _leads_to_end(look: bytes, start: int) -> bool:
    """Tell whether IR version, short texts, graph, node and the node's names follow each other to the end exactly."""
    if not 0 < _byte(look, start + 1) <= MAX_IR_VERSION:
        return False
    at = _behind(look, start + 2, TEXT_TAGS)
    if _byte(look, at) == MODEL_VERSION_TAG:
        at = _behind(look, _varint(look, at + 1)[1], TEXT_TAGS)
    if _byte(look, at) != GRAPH_TAG:
        return False
    graph_bytes, at = _varint(look, at + 1)
    if _byte(look, at) != NODE_TAG:
        return False
    node_bytes, body = _varint(look, at + 1)
    reached = _behind(look, body, NODE_TAGS)
    return reached == len(look) and reached < body + node_bytes <= at + graph_bytes


def _behind(look: bytes, at: int, tags: bytes) -> int:
    """Return where the fields with a length and one of these tags end that begin at `at`."""
    while at < len(look) and look[at] in tags:
        size_bytes, body = _varint(look, at + 1)
        at = body + size_bytes
    return at


def _byte(look: bytes, at: int) -> int:
    return look[at] if at < len(look) else -1


def _varint(look: bytes, at: int) -> tuple[int, int]:
    """Return the number at `at` and the place behind it; the place is past the end where there is no number."""
    value = 0
    for index, byte in enumerate(look[at : at + VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    return 0, len(look) + 1
