"""Datatypes: the datatype message, and the name we give it (file format specification, IV.A.2.d)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from signatures._hdf5.space import Fields

MAX_NESTING = 16
MAX_MEMBERS = 1 << 16
MAX_RANK = 32
MAX_NUMBER_BYTES = 64

FIXED, FLOAT, TIME, STRING, BITFIELD, OPAQUE, COMPOUND, REFERENCE, ENUM, VLEN, ARRAY, COMPLEX = range(12)

_PLAIN_NAMES = {
    TIME: "time",
    BITFIELD: "bitfield",
    OPAQUE: "opaque",
    REFERENCE: "reference",
    STRING: "string",
    ARRAY: "array",
}
# (size in bytes, exponent bits, mantissa bits) of floats that have a name
_FLOAT_NAMES = {
    (2, 5, 10): "float16",
    (2, 8, 7): "bfloat16",
    (4, 8, 23): "float32",
    (8, 11, 52): "float64",
    (1, 4, 3): "float8_e4m3",
    (1, 5, 2): "float8_e5m2",
    (12, 15, 64): "float96",
    (16, 15, 64): "float128",
    (16, 15, 112): "float128",
}
_VLEN_IS_STRING = 1
_TO_OBJECT = 0  # a reference that is an address; those to regions and attributes lie in a heap


@dataclass(frozen=True, slots=True, kw_only=True)
class Datatype:
    """What one element is.

    Attributes:
        kind: the class number.
        size_bytes: of one element in the file.
        name: numpy's name where it has one, else "compound", "vlen", "string", "opaque", "enum", "reference",
            "bitfield", "time" or "array".
        big_endian: whether its numbers are.
        elsewhere: whether the elements only point to their bytes (variable length, or a member that has).
        base_bytes: of variable length, how long one part of a value is.
    """

    kind: int
    size_bytes: int
    name: str
    big_endian: bool = False
    elsewhere: bool = False
    base_bytes: int = 0

    @property
    def is_vlen_string(self) -> bool:
        """Whether it is a string of variable length."""
        return self.kind == VLEN and self.name == "string"


def read_datatype(fields: Fields, *, depth: int = 0) -> Datatype:
    """Take one datatype, its members included.

    Raises:
        Damage: it is none.
    """
    fields.expect(depth < MAX_NESTING, "datatype-nesting", "a datatype is nested too deeply")
    head, bits, size_bytes = fields.number(1), fields.number(3), fields.number(4)
    kind, version = head & 0x0F, head >> 4
    fields.expect(1 <= version <= 5 and kind <= COMPLEX, "datatype", f"no datatype has class {kind}, version {version}")
    fields.expect(size_bytes > 0, "datatype", "a datatype of no size")
    big_endian = bool(bits & 1) and kind in (FIXED, FLOAT, BITFIELD)
    elsewhere, base_bytes = False, 0
    if kind in (FIXED, BITFIELD):
        first, precision = fields.number(2), fields.number(2)
        fields.expect(precision > 0 and first + precision <= 8 * size_bytes, "datatype", "its bits lie outside it")
        fields.expect(size_bytes <= MAX_NUMBER_BYTES, "datatype", f"a number of {size_bytes} bytes")
        name = _PLAIN_NAMES.get(kind) or _integer_name(size_bytes, signed=bool(bits & 8))
    elif kind == FLOAT:
        name = _read_float(fields, bits, size_bytes)
    elif kind == TIME:
        fields.raw(2)
        name = _PLAIN_NAMES[kind]
    elif kind == OPAQUE:
        fields.raw(bits & 0xFF)
        name = _PLAIN_NAMES[kind]
    elif kind == COMPOUND:
        name, elsewhere = _read_compound(fields, version, bits & 0xFFFF, size_bytes, depth)
    elif kind == ENUM:
        name = _read_enum(fields, version, bits & 0xFFFF, depth)
    elif kind == VLEN:
        base_bytes = read_datatype(fields, depth=depth + 1).size_bytes
        name, elsewhere = ("string" if bits & 0x0F == _VLEN_IS_STRING else "vlen"), True
    elif kind == ARRAY:
        elsewhere = _read_array(fields, version, depth).elsewhere
        name = _PLAIN_NAMES[kind]
    elif kind == COMPLEX:
        name = _complex_name(read_datatype(fields, depth=depth + 1).name)
    else:
        name, elsewhere = _PLAIN_NAMES[kind], kind == REFERENCE and bits & 0x0F != _TO_OBJECT
    return Datatype(
        kind=kind, size_bytes=size_bytes, name=name, big_endian=big_endian, elsewhere=elsewhere, base_bytes=base_bytes
    )


def _integer_name(size_bytes: int, *, signed: bool) -> str:
    return f"{'int' if signed else 'uint'}{8 * size_bytes}"


def _read_float(fields: Fields, bits: int, size_bytes: int) -> str:
    """Take where a float's parts lie; they must lie in it and apart."""
    first, precision, exponent_at, exponent_bits = (fields.number(width) for width in (2, 2, 1, 1))
    mantissa_at, mantissa_bits = fields.number(1), fields.number(1)
    bias = fields.number(4)
    sound = size_bytes <= MAX_NUMBER_BYTES and 0 < first + precision <= 8 * size_bytes
    sign_at = bits >> 8 & 0xFF
    sound = sound and exponent_bits > 0 and mantissa_bits > 0 and bias > 0 and sign_at < precision
    sound = sound and not exponent_at <= sign_at < exponent_at + exponent_bits
    sound = sound and not mantissa_at <= sign_at < mantissa_at + mantissa_bits
    sound = sound and exponent_at + exponent_bits <= precision and mantissa_at + mantissa_bits <= precision
    apart = exponent_at >= mantissa_at + mantissa_bits or mantissa_at >= exponent_at + exponent_bits
    fields.expect(sound and apart, "datatype", "a float's parts lie outside it or over each other")
    return _FLOAT_NAMES.get((size_bytes, exponent_bits, mantissa_bits), f"float{8 * size_bytes}_custom")


def _complex_name(part: str) -> str:
    return {"float32": "complex64", "float64": "complex128", "float128": "complex256"}.get(part, "compound")


def _read_compound(fields: Fields, version: int, count: int, size_bytes: int, depth: int) -> tuple[str, bool]:
    """Take the members; tell the name and whether any of them points elsewhere."""
    fields.expect(0 < count <= MAX_MEMBERS, "datatype", "a compound without members")
    members: list[tuple[bytes, Datatype]] = []
    taken: list[tuple[int, int]] = []
    offset_size = max(1, (size_bytes.bit_length() + 7) // 8)
    for _ in range(count):
        name = fields.text_to_zero(pad_to=1 if version >= 3 else 8)
        offset = fields.number(offset_size if version >= 3 else 4)
        times = _old_array_elements(fields) if version == 1 else 1
        member = read_datatype(fields, depth=depth + 1)
        taken.append((offset, offset + times * member.size_bytes))
        fields.expect(taken[-1][1] <= size_bytes, "datatype", "a compound's member lies outside it")
        members.append((name, member))
    taken.sort()
    apart = all(before[1] <= after[0] for before, after in pairwise(taken))
    fields.expect(apart, "datatype", "two members of a compound lie over each other")
    elsewhere = any(member.elsewhere for _, member in members)
    if [name for name, _ in members] == [b"r", b"i"] and members[0][1] == members[1][1]:  # h5py's complex numbers
        return _complex_name(members[0][1].name), elsewhere
    return "compound", elsewhere


def _old_array_elements(fields: Fields) -> int:
    """Take a version-1 member's rank, permutation and four dimensions: arrays before they were a class."""
    rank = fields.number(1)
    fields.raw(11)
    sizes = [fields.number(4) for _ in range(4)]
    fields.expect(rank <= len(sizes), "datatype", "an array of impossible rank")
    return math.prod(sizes[:rank])


def _read_enum(fields: Fields, version: int, count: int, depth: int) -> str:
    base = read_datatype(fields, depth=depth + 1)
    fields.expect(base.kind == FIXED, "datatype", "an enumeration of something else than integers")
    names = [fields.text_to_zero(pad_to=1 if version >= 3 else 8) for _ in range(count)]
    values = fields.raw(count * base.size_bytes)
    is_bool = base.size_bytes == 1 and dict(zip(names, values, strict=True)) == {b"FALSE": 0, b"TRUE": 1}
    return "bool" if is_bool else "enum"  # numpy's bool, as h5py and PyTables write it


def _read_array(fields: Fields, version: int, depth: int) -> Datatype:
    rank = fields.number(1)
    fields.expect(0 < rank <= MAX_RANK, "datatype", "an array of impossible rank")
    fields.raw(3 if version < 3 else 0)
    fields.raw(4 * rank * (2 if version < 3 else 1))
    return read_datatype(fields, depth=depth + 1)
