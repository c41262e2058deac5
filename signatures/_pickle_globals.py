"""What a pickle may import without harm: names that build tensors, storages and plain containers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ALLOWED_NAMES: Final = {
    "collections": {"OrderedDict", "defaultdict", "Counter"},
    "builtins": {"set", "frozenset", "int", "float", "complex", "bool", "str", "bytes", "bytearray", "list", "dict"}
    | {"tuple", "slice", "range", "object"},
    "__builtin__": {"set", "frozenset", "int", "float", "complex", "bool", "bytearray", "list", "dict", "tuple"}
    | {"long", "unicode", "str", "object", "slice", "xrange"},
    "_codecs": {"encode"},
    "_io": {"BytesIO"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"scalar", "_reconstruct"},
    "numpy._core.multiarray": {"scalar", "_reconstruct"},
    "torch": {"Size", "device", "Tensor", "layout", "dtype", "BoolStorage"},
    "torch._utils": {
        "_rebuild_tensor",
        "_rebuild_tensor_v2",
        "_rebuild_tensor_v3",
        "_rebuild_parameter",
        "_rebuild_parameter_with_state",
        "_rebuild_qtensor",
        "_rebuild_sparse_tensor",
        "_rebuild_sparse_csr_tensor",
        "_rebuild_meta_tensor_no_storage",
        "_rebuild_nested_tensor",
        "_rebuild_device_tensor_from_numpy",
        "_rebuild_device_tensor_from_cpu_tensor",
        "_rebuild_wrapper_subclass",
    },
    "torch.nested._internal.nested_tensor": {"_rebuild_njt", "NestedTensor"},
    "torch._dynamo.decorators": {"_DimRange"},  # a mark on sizes that may differ
    "torch._tensor": {"_rebuild_from_type_v2"},
    "torch.storage": {"UntypedStorage", "TypedStorage"},  # not _load_from_bytes: it unpickles its argument
    "torch.nn.parameter": {"Parameter", "Buffer", "UninitializedParameter", "UninitializedBuffer"},
    "torch.serialization": {"_get_layout"},
    "torch.jit._pickle": {
        "build_intlist",
        "build_tensorlist",
        "build_doublelist",
        "build_boollist",
        "build_tensor_from_id",
        "restore_type_tag",
    },
}
TORCH_CLASSES: Final = ("torch", "torch.cuda", "torch.sparse", "torch.cuda.sparse")
TORCH_DTYPES: Final = frozenset(
    [
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "float",
        "half",
        "double",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "short",
        "int",
        "long",
        "bool",
        "complex32",
        "complex64",
        "complex128",
        "cfloat",
        "cdouble",
        "quint8",
        "qint8",
        "qint32",
        "quint4x2",
        "quint2x4",
        "float8_e4m3fn",
        "float8_e5m2",
        "float8_e4m3fnuz",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
        "float4_e2m1fn_x2",
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)),
        *("bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"),
        "strided",
        "sparse_coo",
        "per_tensor_affine",
        "per_channel_affine",
        "per_tensor_symmetric",
        "per_channel_symmetric",
        "per_channel_affine_float_qparams",
        "contiguous_format",
        "channels_last",
        "preserve_format",
    ]
)


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the pickle would import; here only its text."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def is_allowed(name: Global) -> bool:
    """Tell whether loading this name is harmless: tensors, storages, dtypes, plain containers, TorchScript's types."""
    if name.module == "torch" and name.name in TORCH_DTYPES:
        return True
    if name.module in TORCH_CLASSES and _is_class(name.name):
        return True
    if name.module == "__torch__" or name.module.startswith("__torch__."):
        return True
    return name.name in ALLOWED_NAMES.get(name.module, ())


def may_become_allowed(module: str, name: str | None = None) -> bool:
    """Tell whether a name that breaks off, in its module or behind it, is the beginning of one that is allowed."""
    modules = (*ALLOWED_NAMES, *TORCH_CLASSES, "__torch__")
    if name is None:
        return any(one.startswith(module) for one in modules) or module.startswith("__torch__.")
    names = ALLOWED_NAMES.get(module, set())
    return module in TORCH_CLASSES or is_allowed(Global(module, name)) or any(one.startswith(name) for one in names)


def _is_class(name: str) -> bool:
    """Tell whether it is a class of storages or tensors, by type: FloatStorage, LongTensor."""
    return any(name.endswith(kind) and name[: -len(kind)].isalnum() for kind in ("Storage", "Tensor"))
