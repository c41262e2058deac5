"""Weights inside a Core ML model: of neural network layers, and of an ML program's constants.

Field numbers: coremltools' NeuralNetwork.proto and MIL.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from imaging.extent import span
from signatures._protobuf import FIXED32, LENGTH, VARINT, MalformedError, Wire
from signatures.tensors import Tensor
from signatures.verdict import Grade

MAX_NAME_BYTES: Final = 4096
MAX_RANK: Final = 64
MAX_DEPTH: Final = 16
MAX_OFFSET_BYTES: Final = 1 << 42

_WEIGHTS_BIAS = {20: "weights", 21: "bias"}
_LSTM: Final = {
    1: "inputGateWeightMatrix", 2: "forgetGateWeightMatrix", 3: "blockInputWeightMatrix", 4: "outputGateWeightMatrix",
    20: "inputGateRecursionMatrix", 21: "forgetGateRecursionMatrix", 22: "blockInputRecursionMatrix",
    23: "outputGateRecursionMatrix", 40: "inputGateBiasVector", 41: "forgetGateBiasVector",
    42: "blockInputBiasVector", 43: "outputGateBiasVector", 60: "inputGatePeepholeVector",
    61: "forgetGatePeepholeVector", 62: "outputGatePeepholeVector",
}  # fmt: skip
_GRU: Final = {
    30: "updateGateWeightMatrix", 31: "resetGateWeightMatrix", 32: "outputGateWeightMatrix",
    50: "updateGateRecursionMatrix", 51: "resetGateRecursionMatrix", 52: "outputGateRecursionMatrix",
    70: "updateGateBiasVector", 71: "resetGateBiasVector", 72: "outputGateBiasVector",
}  # fmt: skip
LAYER_WEIGHTS: Final[dict[int, dict[int, str]]] = {
    100: {90: "weights", 91: "bias"}, 140: _WEIGHTS_BIAS, 150: _WEIGHTS_BIAS,
    160: {15: "gamma", 16: "beta", 17: "mean", 18: "variance"}, 245: {2: "scale", 5: "bias"}, 250: {2: "bias"},
    290: {2: "data"}, 400: {30: "weightMatrix", 31: "recursionMatrix", 32: "biasVector"}, 410: _GRU,
    500: {20: "weights"}, 1040: _WEIGHTS_BIAS, 1045: {8: "weights", 9: "bias"}, 1070: {2: "data"},
    1350: {3: "gamma", 4: "beta"}, 1471: {60: "weights", 61: "bias"},
}  # fmt: skip
NESTED_LAYERS: Final = {420: {20: _LSTM}, 430: {20: _LSTM}, 130: {25: {1: "alpha"}, 71: {1: "alpha", 2: "beta"}}}
RAW_DTYPES: Final = {1: ("float32", 4), 2: ("float16", 2), 30: ("uint8", 1), 31: ("int8", 1)}
MIL_DTYPES: Final = {
    1: "bool", 10: "float16", 11: "float32", 12: "float64", 13: "bfloat16", 21: "int8", 22: "int16", 23: "int32",
    24: "int64", 25: "int4", 31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64", 35: "uint4", 36: "uint2",
    37: "uint1", 38: "uint6", 39: "uint3", 40: "float8_e4m3fn", 41: "float8_e5m2",
}  # fmt: skip


class LayerWalk:
    """Walks the layers of a neural network or the operations of an ML program.

    Attributes:
        tensors: with their bytes; those of an ML program's blob file have none here.
        blobs: (name, file, offset in bytes) of each tensor in another file.
        operations: how many layers or operations there are.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.tensors: list[Tensor] = []
        self.blobs: list[tuple[str, str, int]] = []
        self.operations = 0

    def network(self, start: int, end: int) -> None:
        """Walk a NeuralNetwork, its classifier or its regressor."""
        for body, stop in self._bodies(start, end, 1):
            self._layer(body, stop)

    def _bodies(self, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
        """Yield where the messages of one field lie; the other fields need only keep the grammar."""
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if number == wanted:
                if wire != LENGTH:
                    raise MalformedError("wire-type", body)
                yield body, stop

    def _text(self, start: int, end: int) -> str:
        return self.wire.text(start, end, limit_bytes=MAX_NAME_BYTES)

    def _layer(self, start: int, end: int) -> None:
        self.operations += 1
        name = ""
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if number == 1 and wire == LENGTH:
                name = self._text(body, stop)
            elif number in LAYER_WEIGHTS and wire == LENGTH:
                self._weights(name, LAYER_WEIGHTS[number], body, stop)
            elif number in NESTED_LAYERS and wire == LENGTH:
                for inner, names in NESTED_LAYERS[number].items():
                    for at, to in self._bodies(body, stop, inner):
                        self._weights(name, names, at, to)

    def _weights(self, layer: str, names: dict[int, str], start: int, end: int) -> None:
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if number not in names or wire != LENGTH:
                continue
            for kind, inner, _, at, to in self.wire.fields(body, stop):
                if kind in RAW_DTYPES and inner == LENGTH and to > at:
                    dtype, item_bytes = RAW_DTYPES[kind]
                    if (to - at) % item_bytes:
                        raise MalformedError("tensor-size", at)
                    self._tensor(f"{layer}/{names[number]}", dtype, ((to - at) // item_bytes,), at, to)
                elif kind == 1 and inner not in (LENGTH, FIXED32):
                    raise MalformedError("wire-type", at)

    def _tensor(self, name: str, dtype: str, shape: tuple[int, ...], start: int, end: int) -> None:
        grade = Grade.TRUNCATED if end > self.wire.size_bytes else Grade.CONSISTENT
        layout = (span(start, end),) if end > start else ()
        self.tensors.append(Tensor(name=name, dtype=dtype, shape=shape, layout=layout, grade=grade.value))

    def program(self, start: int, end: int) -> None:
        """Walk an ML program: functions, their blocks, and the operations in them."""
        for entry in self._bodies(start, end, 2):
            for function in self._bodies(*entry, 2):
                for special in self._bodies(*function, 3):
                    for block in self._bodies(*special, 2):
                        self._block(*block, 0)

    def _block(self, start: int, end: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise MalformedError("nesting", start)
        for operation in self._bodies(start, end, 3):
            self._operation(*operation, depth)

    def _operation(self, start: int, end: int, depth: int) -> None:
        """Read an operation, the blocks of conditions and loops included."""
        self.operations += 1
        kind, name, values = "", "", list[tuple[int, int]]()
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if wire != LENGTH:
                raise MalformedError("wire-type", body)
            if number == 1:
                kind = self._text(body, stop)
            elif number == 3 and not name:
                name = next((self._text(*at) for at in self._bodies(body, stop, 1)), "")
            elif number == 4:
                self._block(body, stop, depth + 1)
            elif number == 5 and kind == "const":
                values.append((body, stop))
        for body, stop in values:
            self._attribute(name, body, stop)

    def _attribute(self, name: str, start: int, end: int) -> None:
        """Read a constant's attribute "val"; others are names."""
        key, value = "", (0, 0)
        for number, _, _, body, stop in self.wire.fields(start, end):
            if number == 1:
                key = self._text(body, stop)
            elif number == 2:
                value = (body, stop)
        if key != "val":
            return
        dtype, shape = "unknown", tuple[int, ...]()
        blob: tuple[str, int] | None = None
        for number, wire, _, body, stop in self.wire.fields(*value):
            if number == 2 and wire == LENGTH:
                dtype, shape = self._type(body, stop)
            elif number == 5 and wire == LENGTH:
                blob = self._blob(body, stop)
        if blob is not None:
            self.blobs.append((name, *blob))
            self._tensor(name, dtype, shape, 0, 0)

    def _blob(self, start: int, end: int) -> tuple[str, int]:
        """Return the file and the record's offset of a BlobFileValue."""
        file, offset_bytes = "", 0
        for number, wire, value, body, stop in self.wire.fields(start, end):
            if number == 1 and wire == LENGTH:
                file = self._text(body, stop)
            elif number == 2 and wire == VARINT:
                offset_bytes = value
        if offset_bytes > MAX_OFFSET_BYTES:
            raise MalformedError("blob-offset", start)
        return file, offset_bytes

    def _type(self, start: int, end: int) -> tuple[str, tuple[int, ...]]:
        """Return dtype and shape of a ValueType that is a tensor's; unknown dimensions are -1."""
        dtype, shape = "unknown", list[int]()
        for tensor in self._bodies(start, end, 1):
            for number, wire, value, body, stop in self.wire.fields(*tensor):
                if number == 1 and wire == VARINT:
                    dtype = MIL_DTYPES.get(value, "unknown")
                elif number == 3 and wire == LENGTH and len(shape) < MAX_RANK:
                    shape.append(self._dimension(body, stop))
        if math.prod(max(0, extent) for extent in shape) > MAX_OFFSET_BYTES:
            raise MalformedError("shape", start)
        return dtype, tuple(shape)

    def _dimension(self, start: int, end: int) -> int:
        for body, stop in self._bodies(start, end, 1):
            for number, wire, value, _, _ in self.wire.fields(body, stop):
                if number == 1 and wire == VARINT:
                    return value
        return -1
