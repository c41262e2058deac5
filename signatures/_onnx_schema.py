"""The messages of onnx.proto (onnx-ml, IR versions 3 to 14) as tables: field number -> what it holds.

Kinds: "int" a varint; "f32"; "ints" and "floats" repeated, packed or not; "name" short text that names something;
"definition" and "use" the name of a value where it is made and where it is needed; "op" a node's operator; "doc" text
that nobody checks; "bytes"; and with a capital letter another message.
Source: onnx/onnx.proto of onnx 1.23.
"""

from __future__ import annotations

from collections.abc import Mapping

KNOWN_IR_VERSION = 14  # later ones may have fields that are not in these tables
MODEL: Mapping[int, str] = {
    1: "int", 2: "name", 3: "name", 4: "name", 5: "int", 6: "doc", 7: "Graph", 8: "OperatorSet",
    14: "Entry", 20: "Training", 25: "Function", 26: "Configuration",
}  # fmt: skip
IR_VERSION, PRODUCER_NAME, PRODUCER_VERSION, MODEL_DOMAIN, GRAPH, OPSET, METADATA = 1, 2, 3, 4, 7, 8, 14

GRAPH_NAME, GRAPH_INITIALIZER, GRAPH_SPARSE = 2, 5, 15

MESSAGES: Mapping[str, Mapping[int, str]] = {
    "Graph": {
        1: "Node", 2: "name", 5: "Tensor", 10: "doc", 11: "Input", 12: "Output", 13: "ValueInfo",
        14: "Annotation", 15: "Sparse", 16: "Entry",
    },
    "Node": {
        1: "use", 2: "definition", 3: "name", 4: "op", 5: "Attribute", 6: "doc", 7: "name", 8: "name", 9: "Entry",
        10: "NodeConfiguration",
    },
    "Attribute": {
        1: "name", 2: "f32", 3: "int", 4: "bytes", 5: "Tensor", 6: "Graph", 7: "floats", 8: "ints", 9: "bytes",
        10: "Tensor", 11: "Graph", 13: "doc", 14: "Type", 15: "Type", 20: "int", 21: "name", 22: "Sparse",
        23: "Sparse",
    },
    "Sparse": {1: "Tensor", 2: "Tensor", 3: "ints"},
    "Segment": {1: "int", 2: "int"},
    "Input": {1: "definition", 2: "Type", 3: "doc", 4: "Entry"},
    "Output": {1: "use", 2: "Type", 3: "doc", 4: "Entry"},
    "ValueInfo": {1: "name", 2: "Type", 3: "doc", 4: "Entry"},
    "Type": {
        1: "TensorType", 4: "ElementType", 5: "MapType", 6: "name", 7: "Opaque", 8: "TensorType", 9: "ElementType",
    },
    "TensorType": {1: "int", 2: "Shape"},
    "ElementType": {1: "Type"},
    "MapType": {1: "int", 2: "Type"},
    "Opaque": {1: "name", 2: "name"},
    "Shape": {1: "Dimension"},
    "Dimension": {1: "int", 2: "name", 3: "name"},
    "Entry": {1: "name", 2: "doc"},
    "Annotation": {1: "name", 2: "Entry"},
    "OperatorSet": {1: "name", 2: "int"},
    "Function": {
        1: "name", 2: "int", 3: "int", 4: "definition", 5: "use", 6: "name", 7: "Node", 8: "doc", 9: "OperatorSet",
        10: "name", 11: "Attribute", 12: "ValueInfo", 13: "name", 14: "Entry",
    },
    "Training": {1: "Graph", 2: "Graph", 3: "Entry", 4: "Entry"},
    "Configuration": {1: "name", 2: "int", 3: "name"},
    "NodeConfiguration": {1: "name", 2: "Sharding", 3: "int"},
    "Sharding": {1: "name", 2: "ints", 3: "DeviceGroup", 4: "ShardedDimension"},
    "DeviceGroup": {1: "int", 2: "ints"},
    "ShardedDimension": {1: "int", 2: "SimpleSharding"},
    "SimpleSharding": {1: "int", 2: "name", 3: "int"},
}  # fmt: skip

REQUIRED: Mapping[str, frozenset[int]] = {
    "Node": frozenset((4,)),
    "Attribute": frozenset((1,)),
    "Entry": frozenset((1,)),
    "OperatorSet": frozenset((2,)),
    "Function": frozenset((1,)),
    "Configuration": frozenset((1,)),
}

# TensorProto.DataType -> (numpy's or ml_dtypes' name, bits an element)
DATA_TYPES: Mapping[int, tuple[str, int]] = {
    1: ("float32", 32), 2: ("uint8", 8), 3: ("int8", 8), 4: ("uint16", 16), 5: ("int16", 16), 6: ("int32", 32),
    7: ("int64", 64), 8: ("string", 0), 9: ("bool", 8), 10: ("float16", 16), 11: ("float64", 64), 12: ("uint32", 32),
    13: ("uint64", 64), 14: ("complex64", 64), 15: ("complex128", 128), 16: ("bfloat16", 16),
    17: ("float8_e4m3fn", 8), 18: ("float8_e4m3fnuz", 8), 19: ("float8_e5m2", 8), 20: ("float8_e5m2fnuz", 8),
    21: ("uint4", 4), 22: ("int4", 4), 23: ("float4_e2m1fn", 4), 24: ("float8_e8m0fnu", 8), 25: ("uint2", 2),
    26: ("int2", 2), 27: ("float6_e2m3fn", 6), 28: ("float6_e3m2fn", 6),
}  # fmt: skip
STRING, COMPLEX64, COMPLEX128 = 8, 14, 15
