"""The tables of an ONNX Runtime model that are walked. Source: onnxruntime/core/flatbuffers/schema/ort.fbs."""

from __future__ import annotations

from typing import Final

from signatures._flatbuffer import Items, Many, Number, One, Schema, Text, Texts, Union

_WORD, _LONG = Number(4), Number(8)
_BYTES = Items(1)  # a string that may be longer than any text
_PLACES = Items(4)  # of strings: vocabularies, which may be many and are not read
_EDGE_ENDS = Items(12)
_TYPES = Union(names=((1, "TensorType"), (2, "SequenceType"), (3, "MapType")))

SCHEMA: Final[Schema] = {
    "Session": (Text(), One("Model"), One("SessionState"), One("TypeResolver")),
    "Model": (
        _LONG, Many("OperatorSet"), Text(), Text(), Text(), _LONG, Text(), One("Graph"), Text(), Many("Property"),
    ),
    "OperatorSet": (Text(), _LONG),
    "Property": (Text(), _BYTES),
    "Graph": (
        Many("Tensor"), Many("ValueInfo"), Many("Node"), _WORD, Many("NodeEdge"), Texts(), Texts(),
        Many("SparseTensor"), One("Optimizations"),
    ),
    "Tensor": (Text(), Text(), Items(8), _WORD, Items(1), _PLACES, _LONG),
    "SparseTensor": (One("Tensor"), One("Tensor"), Items(8)),
    "ValueInfo": (Text(), Text(), One("Type")),
    "Type": (Text(), Number(1), _TYPES),
    "TensorType": (_WORD, One("Shape")),
    "SequenceType": (One("Type"),),
    "MapType": (_WORD, One("Type")),
    "Shape": (Many("Dimension"),),
    "Dimension": (One("DimensionValue"), Text()),
    "DimensionValue": (Number(1), _LONG, Text()),
    "Node": (
        Text(), Text(), Text(), _WORD, _WORD, Text(), _WORD, Text(), Texts(), Texts(), Many("Attribute"), Items(4),
        Texts(),
    ),
    "NodeEdge": (_WORD, _EDGE_ENDS, _EDGE_ENDS),
    "Attribute": (
        Text(), Text(), _WORD, _WORD, _LONG, _BYTES, One("Tensor"), One("Graph"), Items(4), Items(8), _PLACES,
        Many("Tensor"), Many("Graph"),
    ),
    "Optimizations": (Many("OptimizerEntry"),),
    "OptimizerEntry": (Text(), Many("Optimization")),
    "Optimization": (Text(), One("NodesToOptimize"), Many("NodeHash"), Texts()),
    "NodesToOptimize": (Items(4), _WORD, _WORD, Number(1), Number(1), _WORD, _WORD),
    "NodeHash": (_WORD, _LONG),
    "SessionState": (One("Kernels"), Many("SubgraphState")),
    "Kernels": (Items(4), Items(8)),
    "SubgraphState": (Text(), One("SessionState")),
    "TypeResolver": (Many("OperatorTypes"),),
    "OperatorTypes": (Text(), Many("TypeArguments")),
    "TypeArguments": (Text(), Many("Argument")),
    "Argument": (Number(1), _WORD),
}  # fmt: skip

# field numbers
SESSION_VERSION, SESSION_MODEL = 0, 1
IR_VERSION, OPERATOR_SETS, PRODUCER, PRODUCER_VERSION, DOMAIN, GRAPH, PROPERTIES = 0, 1, 2, 3, 4, 7, 9
SET_DOMAIN, SET_VERSION, PROPERTY_KEY = 0, 1, 0
INITIALIZERS, NODES, INPUTS, OUTPUTS, SPARSE_INITIALIZERS = 0, 2, 5, 6, 7
TENSOR_NAME, TENSOR_DIMS, TENSOR_TYPE, TENSOR_DATA, TENSOR_STRINGS, TENSOR_EXTERNAL = 0, 2, 3, 4, 5, 6
SPARSE_VALUES, SPARSE_INDICES = 0, 1
NODE_DOMAIN, NODE_OPERATOR, NODE_ATTRIBUTES = 2, 5, 10
ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS = 6, 11
