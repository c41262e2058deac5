"""Where an ONNX model may start, seen from a hit: a producer's name, or the operator of the graph's first node.

A model has no magic. On a sector's start its first bytes are probed (`_onnx_probes`); anywhere else (in an archive, an
app's package, a database) it is found by a string that stands near its start. Not every writer leaves its name, but
nearly every graph begins with a node. Between the model's start and these strings lie a few small fields, mostly the IR
version and short texts in ascending order, so that the way back is walked, not guessed: field by field, in any order,
to where a file may begin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from imaging.source import Source
from signatures._onnx_end import MAX_IR_VERSION, TEXT_BYTES
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
COMMON_NAME_BYTES: Final = 5  # a producer so short is a word in other files: right behind the IR version it counts
IR_VERSIONS: Final = bytes(range(1, MAX_IR_VERSION + 1))
FIRST_TAGS: Final = b"\x08\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2\xca\xd2"  # first bytes of the tags of a model's fields
AFTER_IR_VERSION: Final = FIRST_TAGS[1:]
AFTER_PRODUCER: Final = FIRST_TAGS.replace(b"\x12", b"")
TEXT_TAGS: Final = b"\x12\x1a\x22\x32"  # producer, its version, domain, doc string
HEAD_TEXTS: Final = {  # what they look like, where they alone tell that a model begins before its IR version
    0x12: re.compile(b"|".join(re.escape(name.encode()) for name in PRODUCERS)),
    0x1A: re.compile(rb"v?\d+\.\d[\w.+-]*"),
    0x22: re.compile(rb"[a-z]\w*(\.[\w-]+)+"),
    0x32: re.compile(rb"[\t\n\r -~\x80-\xff]{3,}"),
}  # fmt: skip
MESSAGES: Final = {  # first byte of the tag -> whether it has a second one, and how the message may begin
    0x42: (0, b"\x0a\x10"), 0x72: (0, b"\x0a"), 0xA2: (1, b"\x0a\x12\x1a\x22"), 0xCA: (1, b"\x0a"), 0xD2: (1, b"\x0a"),
}  # fmt: skip
NODE_TAGS: Final = b"\x0a\x12\x1a"  # a node's inputs, outputs and name come before its operator
IR_VERSION_TAG: Final = b"\x08"
MODEL_VERSION_TAG, GRAPH_TAG, NODE_TAG, OPERATOR_TAG = 0x28, 0x3A, 0x0A, 0x22
FIELD = re.compile(rb"[\x08\x12\x1a\x22\x28\x32\x42\x72]|[\xa2\xca\xd2]\x01")  # all but a graph
LOOK_BACK_BYTES = 1024
SECTOR_BYTES = 512
ZEROS_BYTES = 8
MIN_TEXT_BYTES = 3
VARINT_BYTES = 10


def _producer(name: str) -> Pattern:
    """A field of a model must stand behind it; before a common word, the IR version."""
    constant = b"\x12" + bytes((len(name),)) + name.encode()
    before = (b"\x08", IR_VERSIONS) if len(name) <= COMMON_NAME_BYTES else ()
    return Pattern(bytes=constant, offset_bytes=2, name=name, before=before, after=(AFTER_PRODUCER,))


def _operator(name: str) -> Pattern:
    return Pattern(bytes=bytes((OPERATOR_TAG, len(name))) + name.encode(), name=f"first-{name}")


PATTERNS: Final = (*map(_producer, PRODUCERS), *map(_operator, FIRST_OPERATORS))


def model_starts(source: Source, hit_offset_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the file's possible starts for a hit of one of `PATTERNS`, when what must stand around it does."""
    first = max(0, hit_offset_bytes - LOOK_BACK_BYTES)
    look = source.read_at(first, hit_offset_bytes - first)
    if pattern.bytes[0] == OPERATOR_TAG:
        for graph in _graphs(look):
            yield from _starts(look[:graph], first, GRAPH_TAG)
    else:
        behind = source.read_at(hit_offset_bytes + len(pattern.bytes), 2)
        version = len(behind) == 2 and behind[:1] == IR_VERSION_TAG and behind[1] in IR_VERSIONS
        yield from _starts(look, first, pattern.bytes[0], version=version)


def _graphs(look: bytes) -> Iterator[int]:
    """Yield each graph from which the fields lead to a first node whose operator stands at the end of `look`."""
    at = look.find(GRAPH_TAG)
    while at >= 0:
        if _leads_to_operator(look, at):
            yield at
        at = look.find(GRAPH_TAG, at + 1)


def _leads_to_operator(look: bytes, graph: int) -> bool:
    graph_bytes, at = _varint(look, graph + 1)
    if _byte(look, at) != NODE_TAG:
        return False
    node_bytes, body = _varint(look, at + 1)
    reached = body
    while reached < len(look) and look[reached] in NODE_TAGS:
        size_bytes, start = _varint(look, reached + 1)
        reached = start + size_bytes
    return reached == len(look) and reached < body + node_bytes <= at + graph_bytes


def _starts(look: bytes, first: int, tag: int, *, version: bool = False) -> list[int]:
    """Return where a model may start whose field with this tag stands right behind `look`, which begins at `first`.

    That is at a sector's start, or behind zeros; else at its IR version (`version`: this stands behind that field), or
    at texts before it. No other start is told behind one of these.
    """
    ways = _ways(look, tag)
    sectors = [at for at in ways if (first + at) % SECTOR_BYTES == 0]
    alone = [at for at in ways if _is_sure(look, at) and _behind_zeros(look, at, first)]
    versions = [at for at in ways if look[at : at + 1] == IR_VERSION_TAG] + ([len(look)] if version else [])
    found: list[int] = []
    covered: set[int] = set()
    for at in (*sectors[-1:], *alone[-1:], *versions):
        if at in covered:
            continue
        start = _before_texts(look, ways, at) if at in versions else at
        found.append(first + start)
        while start not in covered:
            covered.add(start)
            start = ways[start]
    return found


def _ways(look: bytes, tag: int) -> dict[int, int]:
    """Return from where fields lead to the end of `look`, nearest first -> where the first of them ends.

    The end, where the field with this tag stands, leads to itself.
    """
    ways, seen = {len(look): len(look)}, {len(look): bytes((tag,))}
    for place in reversed([found.start() for found in FIELD.finditer(look)]):
        behind, single = _behind(look, place), look[place : place + 1]
        if behind in ways and single not in seen[behind]:
            ways[place] = behind
            seen[place] = seen[behind] + (b"" if look[place] in MESSAGES else single)
    return ways


def _behind(look: bytes, at: int) -> int:
    """Return where the field at `at` ends, or -1 where no model has such a field."""
    tag = look[at]
    if tag == IR_VERSION_TAG[0]:
        return at + 2 if look[at + 1 : at + 2] in IR_VERSIONS and at + 2 <= len(look) else -1
    if tag == MODEL_VERSION_TAG:
        return _varint(look, at + 1)[1]
    more, begins = MESSAGES.get(tag, (0, b""))
    size_bytes, body = _varint(look, at + 1 + more)
    end = body + size_bytes
    if end > len(look) or (begins and (not size_bytes or look[body] not in begins)):
        return -1
    return end if begins or b"\0" not in look[body:end] else -1


def _before_texts(look: bytes, ways: Mapping[int, int], at: int) -> int:
    """Return where the texts begin that lead to `at`: only such as no other model's metadata would end with."""
    for place, behind in ways.items():
        if behind == at > place and look[place] in HEAD_TEXTS:
            size_bytes, body = _varint(look, place + 1)
            if look[body - 1] not in TEXT_BYTES and HEAD_TEXTS[look[place]].fullmatch(look[body : body + size_bytes]):
                return _before_texts(look, ways, place)
    return at


def _is_sure(look: bytes, at: int) -> bool:
    """Tell whether the field at `at` is more than a small number or a short text."""
    if at < len(look) and look[at] in TEXT_TAGS:
        return _varint(look, at + 1)[0] >= MIN_TEXT_BYTES
    return look[at : at + 1] != bytes((MODEL_VERSION_TAG,))


def _behind_zeros(look: bytes, at: int, first: int) -> bool:
    before = look[max(0, at - ZEROS_BYTES) : at]
    return not any(before) and (len(before) == ZEROS_BYTES or first == 0)


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
