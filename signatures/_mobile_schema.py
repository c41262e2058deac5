"""The tables of a PyTorch mobile module (PTMF). Source: torch/csrc/jit/serialization/mobile_bytecode.fbs."""

from __future__ import annotations

from typing import Final

from signatures._flatbuffer import Items, Many, Number, One, Schema, Text, Texts, Union

_BYTE, _WORD, _LONG = Number(1), Number(4), Number(8)
_INDICES = Items(4)

TENSOR, OBJECT, FUNCTION = 5, 10, 16  # kinds of values
_VALUES = Union(
    names=(
        (TENSOR, "Tensor"), (6, "String"), (7, "List"), (8, "Tuple"), (9, "Dict"), (OBJECT, "Object"),
        (11, "LongList"), (12, "LongList"), (13, "BoolList"), (14, "String"), (15, "Enum"), (FUNCTION, "Function"),
    ),
    structs=((1, 8), (2, 1), (3, 8), (4, 16)),
)  # fmt: skip
MAX_VALUE_KIND: Final = 16

SCHEMA: Final[Schema] = {
    "Module": (
        _WORD, Many("File"), _INDICES, _WORD, Many("Value"), _WORD, Many("Storage"), Many("Type"), Many("File"),
        _INDICES, _WORD,
    ),
    "File": (Text(), Text()),
    "Value": (_BYTE, _VALUES),
    "Tensor": (_WORD, _BYTE, _WORD, Items(4), Items(4), _BYTE, One("Quantized")),
    "Quantized": (_BYTE, _LONG, _WORD, One("Tensor"), One("Tensor"), _WORD),
    "String": (Text(),),
    "List": (_INDICES, Text()),
    "Tuple": (_INDICES,),
    "Dict": (_INDICES, _INDICES, Text()),
    "LongList": (Items(8),),
    "BoolList": (Items(1),),
    "Enum": (Text(), _WORD),
    "Type": (Text(), _BYTE, Texts()),
    "Object": (_WORD, _WORD, _INDICES, _WORD),
    "Function": (
        Text(), Items(8), Many("Operator"), _INDICES, Texts(), _WORD, One("Schema"), One("Debug"), _WORD,
    ),
    "Operator": (Text(), Text(), _WORD),
    "Schema": (Many("Argument"), Many("Argument")),
    "Argument": (Text(), Text(), _WORD),
    "Debug": (Items(8),),
    "Storage": (Items(1),),
}  # fmt: skip

# field numbers
BYTECODE_VERSION, EXTRA_FILES, METHODS, STATE, VALUES, STORAGE_COUNT, STORAGES, TYPES = range(8)
FILE_NAME, VALUE_KIND, VALUE, TYPE_NAME, ATTRIBUTE_NAMES = 0, 0, 1, 0, 2
STORAGE_INDEX, SCALAR_TYPE, STORAGE_OFFSET, SIZES, STRIDES, QUANTIZED = 0, 1, 2, 3, 4, 6
SCALES, ZERO_POINTS = 3, 4
OBJECT_TYPE, OBJECT_STATE, ATTRIBUTES = 0, 1, 2
FUNCTION_NAME, FUNCTION_OPERATORS, OPERATOR_NAME = 0, 2, 0
ITEMS, DICT_KEYS, DICT_VALUES = 0, 0, 1

DTYPES: Final = {  # c10's ScalarType: (dtype, bytes an element)
    0: ("uint8", 1), 1: ("int8", 1), 2: ("int16", 2), 3: ("int32", 4), 4: ("int64", 8), 5: ("float16", 2),
    6: ("float32", 4), 7: ("float64", 8), 8: ("complex32", 4), 9: ("complex64", 8), 10: ("complex128", 16),
    11: ("bool", 1), 12: ("qint8", 1), 13: ("quint8", 1), 14: ("qint32", 4), 15: ("bfloat16", 2),
    23: ("float8_e5m2", 1), 24: ("float8_e4m3fn", 1),
}  # fmt: skip
