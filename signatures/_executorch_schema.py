"""The tables of an ExecuTorch program that are walked. Source: ExecuTorch's program.fbs and scalar_type.fbs."""

from __future__ import annotations

from typing import Final

from signatures._flatbuffer import Items, Many, Number, One, Schema, Text, Union

_BYTE, _WORD, _LONG = Number(1), Number(4), Number(8)
_VALUES = Union(
    names=(
        (1, "Null"), (2, "Int"), (3, "Bool"), (4, "Double"), (5, "Tensor"), (6, "String"), (7, "LongList"),
        (8, "LongList"), (9, "BoolList"), (10, "IntList"), (11, "IntList"),
    )
)  # fmt: skip
_INSTRUCTIONS = Union(names=((1, "Call"), (2, "Call"), (3, "Move"), (4, "Move"), (5, "Free")))

SCHEMA: Final[Schema] = {
    "Program": (
        _WORD, Many("Plan"), Many("Buffer"), Many("Buffer"), Many("Segment"), One("Offsets"), Many("Offsets"),
        Many("NamedData"),
    ),
    "Plan": (
        Text(), One("ContainerMetadata"), Many("Value"), Items(4), Items(4), Many("Chain"), Many("Operator"),
        Many("Delegate"), Items(8), Many("BufferDevice"),
    ),
    "ContainerMetadata": (Text(), Text()),
    "Value": (_BYTE, _VALUES),
    "Null": (),
    "Int": (_LONG,),
    "Bool": (_BYTE,),
    "Double": (_LONG,),
    "String": (Text(),),
    "LongList": (Items(8),),
    "BoolList": (Items(1),),
    "IntList": (Items(4),),
    "Tensor": (
        _BYTE, _WORD, Items(4), Items(1), _BYTE, _WORD, One("Allocation"), _BYTE, _BYTE, One("ExtraInfo"),
    ),
    "Allocation": (_WORD, _WORD, _WORD),
    "ExtraInfo": (_LONG, Text(), _BYTE, _BYTE, _BYTE),
    "Chain": (Items(4), Items(4), Many("Instruction"), Many("FrameList")),
    "Instruction": (_BYTE, _INSTRUCTIONS),
    "Call": (_WORD, Items(4)),
    "Move": (_WORD, _WORD),
    "Free": (_WORD,),
    "FrameList": (Many("Frame"),),
    "Frame": (Text(), _WORD, Text(), Text()),
    "Operator": (Text(), Text()),
    "Delegate": (Text(), One("DataReference"), Many("CompileSpec")),
    "DataReference": (_BYTE, _WORD),
    "CompileSpec": (Text(), Items(1)),
    "BufferDevice": (_WORD, _BYTE, _BYTE),
    "Buffer": (Items(1),),
    "Segment": (_LONG, _LONG),
    "Offsets": (_WORD, Items(8)),
    "NamedData": (Text(), _WORD),
}  # fmt: skip

# field numbers
VERSION, PLANS, CONSTANT_BUFFER, SEGMENTS, CONSTANT_SEGMENT, NAMED_DATA = 0, 1, 2, 4, 5, 7
PLAN_NAME, PLAN_VALUES, PLAN_OPERATORS, PLAN_DELEGATES = 0, 2, 6, 7
VALUE_TABLE = 1
SCALAR_TYPE, SIZES, BUFFER_INDEX, ALLOCATION, EXTRA = 0, 2, 5, 6, 9
EXTRA_NAME, EXTRA_LOCATION = 1, 2
SEGMENT_OFFSET, SEGMENT_SIZE = 0, 1
OFFSETS_SEGMENT, OFFSETS = 0, 1

DTYPES: Final = {  # (dtype, bytes an element)
    0: ("uint8", 1), 1: ("int8", 1), 2: ("int16", 2), 3: ("int32", 4), 4: ("int64", 8), 5: ("float16", 2),
    6: ("float32", 4), 7: ("float64", 8), 11: ("bool", 1), 12: ("qint8", 1), 13: ("quint8", 1), 14: ("qint32", 4),
    15: ("bfloat16", 2), 22: ("bits16", 2), 23: ("float8_e5m2", 1), 24: ("float8_e4m3fn", 1),
    25: ("float8_e5m2fnuz", 1), 26: ("float8_e4m3fnuz", 1), 27: ("uint16", 2), 28: ("uint32", 4), 29: ("uint64", 8),
}  # fmt: skip
