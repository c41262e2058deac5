"""ONNX TensorProto: where a tensor's bytes are, and whether their number fits its type and shape."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from imaging.extent import span
from signatures._onnx_schema import COMPLEX64, COMPLEX128, DATA_TYPES, STRING
from signatures._protobuf import FIXED32, FIXED64, LENGTH, VARINT, MalformedError, Wire
from signatures.tensors import Tensor
from signatures.verdict import Grade

MAX_NAME_BYTES = 1 << 16
MAX_DIMENSIONS = 64
MAX_DATA_TYPE = 255
MAX_EXTERNAL_TEXT_BYTES = 1 << 12
NUMBER = re.compile(r"[0-9]{0,19}")  # of bytes; left out where the whole file is the tensor's
RAW = 9
ELEMENT_BYTES = {4: 4, 10: 8}  # float_data, double_data: fixed width when packed
VARINT_DATA = frozenset((5, 7, 11))  # int32_data, int64_data, uint64_data
STRING_DATA = 6
CheckMessage = Callable[[str, int, int], None]


@dataclass(slots=True)
class StoredTensor:
    """What was read of one TensorProto; stays usable when the reading stopped half way.

    Attributes:
        data: field number -> [first byte, end, elements] of what holds the values; raw_data counts bytes.
        external: the entries "location", "offset", "length" where the values are in another file.
    """

    name: str = ""
    data_type: int = 0
    dims: list[int] = field(default_factory=list)
    data: dict[int, list[int]] = field(default_factory=dict)
    external: dict[str, str] = field(default_factory=dict)
    is_external: bool = False

    def read(self, wire: Wire, start: int, end: int, check: CheckMessage) -> None:
        """Read the message `[start, end)`; `check` walks the messages inside that are not data.

        Raises:
            MalformedError: no such message.
            CutShortError: it goes on after the window.
        """
        for number, kind, value, body, stop in wire.fields(start, end):
            if number == 1:
                self.take_dims(wire, kind, value, body, stop)
            elif number == 2 and kind == VARINT and value <= MAX_DATA_TYPE:
                self.data_type = value
            elif number == 8 and kind == LENGTH:
                self.name = wire.text(body, stop, limit_bytes=MAX_NAME_BYTES)
            elif number == 14 and kind == VARINT and value <= 1:
                self.is_external = value == 1
            elif number == 13 and kind == LENGTH:
                self._read_external(wire, body, stop)
            elif number in (3, 16) and kind == LENGTH:
                check("Segment" if number == 3 else "Entry", body, stop)
            elif number != 12 or kind != LENGTH:  # 12: doc_string
                self._read_data(wire, number, kind, body, stop)

    @property
    def elements(self) -> int:
        """How many elements the shape has."""
        return math.prod(self.dims)

    @property
    def told(self) -> dict[str, object]:
        """What the file tells of a tensor that is kept in another one."""
        dtype = DATA_TYPES.get(self.data_type, (f"onnx_{self.data_type}", 0))[0]
        return {**self.external, "tensor": self.name, "dtype": dtype, "shape": list(self.dims)}

    @property
    def stored_bytes(self) -> int:
        """How many bytes of the file hold values."""
        return sum(end - start for start, end, _ in self.data.values())

    def problem(self) -> str:
        """Return the code of what is wrong with the amount of data, or ""."""
        if self.data_type not in DATA_TYPES:
            return "unknown-dtype"
        if self.is_external:
            told = [self.external.get(key, "") for key in ("offset", "length")]
            return "" if all(NUMBER.fullmatch(text) for text in told) else "external-data-entry"
        if not self.data and self.elements > 0:
            return "tensor-without-data"
        fits = all(held[2] == self._expected(number) for number, held in self.data.items())
        return "" if fits else "tensor-size"

    def as_tensor(self, grade: Grade) -> Tensor:
        """Return the public value."""
        dtype = DATA_TYPES.get(self.data_type, (f"onnx_{self.data_type}", 0))[0]
        held = self.data.get(RAW) or next(iter(self.data.values()), None)
        layout = (span(held[0], held[1]),) if held and held[1] > held[0] else ()
        return Tensor(name=self.name, dtype=dtype, shape=tuple(self.dims), layout=layout, grade=grade)

    def _expected(self, number: int) -> int:
        """Return how many elements (raw_data: bytes) field `number` must hold; onnx.proto, TensorProto."""
        bits = DATA_TYPES[self.data_type][1]
        if number == RAW:
            return -1 if self.data_type == STRING else (self.elements * bits + 7) // 8
        if number in ELEMENT_BYTES:
            return self.elements * (2 if self.data_type in (COMPLEX64, COMPLEX128) else 1)
        if number == 5 and bits in (2, 4):  # several to an entry; 6-bit floats have one each
            return (self.elements * bits + 7) // 8
        return self.elements

    def take_dims(self, wire: Wire, kind: int, value: int, body: int, stop: int) -> None:
        """Add what one field of dims holds: a single size, or packed ones.

        Raises:
            MalformedError: too many, or negative.
        """
        if kind == VARINT:
            self.dims.append(value)
        elif kind == LENGTH:
            self.dims += wire.varints(body, stop, limit_bytes=10 * MAX_DIMENSIONS)
        else:
            raise MalformedError("wire-type", body)
        if len(self.dims) > MAX_DIMENSIONS or self.dims[-1:] > [(1 << 63) - 1]:
            raise MalformedError("dims", body)

    def _read_external(self, wire: Wire, body: int, stop: int) -> None:
        texts = {1: "", 2: ""}
        for number, kind, _, first, last in wire.fields(body, stop):
            if kind != LENGTH or number not in texts:
                raise MalformedError("external-data-entry", first)
            texts[number] = wire.text(first, last, limit_bytes=MAX_EXTERNAL_TEXT_BYTES)
        self.external[texts[1]] = texts[2]

    def _read_data(self, wire: Wire, number: int, kind: int, body: int, stop: int) -> None:
        """Take a field that holds values, packed or one by one, without reading fixed-width ones."""
        width = ELEMENT_BYTES.get(number, 0)
        if kind == LENGTH and number == RAW:
            count = stop - body
        elif kind == LENGTH and number == STRING_DATA:
            count = 1
        elif kind == LENGTH and width and (stop - body) % width == 0:
            count = (stop - body) // width
        elif kind == LENGTH and number in VARINT_DATA:
            count = wire.count_varints(body, stop)
        elif (kind == VARINT and number in VARINT_DATA) or (kind, width) in ((FIXED32, 4), (FIXED64, 8)):
            count = 1
        else:
            raise MalformedError("unknown-field", body)
        held = self.data.setdefault(number, [body, stop, 0])
        held[1] = stop
        held[2] = held[2] + count if number != RAW else count
        if number == RAW:
            held[0] = body
