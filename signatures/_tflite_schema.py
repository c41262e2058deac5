"""The tables of a TFLite model that are walked; options of operators are opaque. Source: TensorFlow's schema.fbs."""

from __future__ import annotations

from typing import Final

from signatures._flatbuffer import Items, Many, Number, One, Schema, Text, Union

_BYTE, _WORD, _LONG = Number(1), Number(4), Number(8)
_INDEX_VECTOR = Union(names=((1, "Int32Vector"), (2, "Uint16Vector"), (3, "Uint8Vector")))

SCHEMA: Final[Schema] = {
    "Model": (
        _WORD, Many("OperatorCode"), Many("SubGraph"), Text(), Many("Buffer"), Items(4), Many("Metadata"),
        Many("SignatureDef"),
    ),
    "OperatorCode": (_BYTE, Text(), _WORD, _WORD),
    "SubGraph": (Many("Tensor"), Items(4), Items(4), Many("Operator"), Text(), _WORD),
    "Tensor": (
        Items(4), _BYTE, _WORD, Text(), One("Quantization"), _BYTE, One("Sparsity"), Items(4), _BYTE,
        Many("VariantSubType"),
    ),
    "Quantization": (Items(4), Items(4), Items(4), Items(8), _BYTE, Union(), _WORD),
    "Sparsity": (Items(4), Items(4), Many("Dimension")),
    "Dimension": (_BYTE, _WORD, _BYTE, _INDEX_VECTOR, _BYTE, _INDEX_VECTOR),
    "Int32Vector": (Items(4),),
    "Uint16Vector": (Items(2),),
    "Uint8Vector": (Items(1),),
    "VariantSubType": (Items(4), _BYTE, _BYTE),
    "Operator": (
        _WORD, Items(4), Items(4), _BYTE, Union(), Items(1), _BYTE, Items(1), Items(4), _LONG, _LONG, _BYTE, Union(),
    ),
    "Buffer": (Items(1), _LONG, _LONG),
    "Metadata": (Text(), _WORD),
    "SignatureDef": (Many("TensorMap"), Many("TensorMap"), Text(), _WORD, _WORD),
    "TensorMap": (Text(), _WORD),
}  # fmt: skip

# field numbers
VERSION, OPERATOR_CODES, SUBGRAPHS, DESCRIPTION, BUFFERS, METADATA, SIGNATURES = 0, 1, 2, 3, 4, 6, 7
TENSORS, OPERATORS, SUBGRAPH_NAME = 0, 3, 4
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME, TENSOR_SPARSITY = 0, 1, 2, 3, 6
BUFFER_DATA, BUFFER_OFFSET, BUFFER_SIZE = 0, 1, 2
OPERATOR_CODE, CUSTOM_OPTIONS, LARGE_OPTIONS_OFFSET, LARGE_OPTIONS_SIZE = 0, 5, 9, 10
CUSTOM_CODE, METADATA_NAME, METADATA_BUFFER, SIGNATURE_KEY = 1, 0, 1, 2

DTYPES: Final = {  # (dtype, bits an element; 0: not fixed)
    0: ("float32", 32), 1: ("float16", 16), 2: ("int32", 32), 3: ("uint8", 8), 4: ("int64", 64), 5: ("string", 0),
    6: ("bool", 8), 7: ("int16", 16), 8: ("complex64", 64), 9: ("int8", 8), 10: ("float64", 64),
    11: ("complex128", 128), 12: ("uint64", 64), 13: ("resource", 0), 14: ("variant", 0), 15: ("uint32", 32),
    16: ("uint16", 16), 17: ("int4", 4), 18: ("bfloat16", 16),
}  # fmt: skip
