"""Tensors named by a torch pickle: names, dtypes, shapes, and where in which storage they lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from signatures._pickle import Node, Persistent, each_pair
from signatures._pickle_globals import Global

MAX_DEPTH = 256  # a pickler of Python gives up not far beyond
MAX_VISITS = 2_000_000
LEAVES_A_VISIT = 32  # numbers and texts, of which a list may have millions
MAX_TENSORS = 1_000_000
MAX_RANK = 64
MAX_KEY_CHARACTERS = 4096
MAX_ELEMENTS = 1 << 60

STORAGE_DTYPES: Final = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QUInt8Storage": "quint8",
    "QInt8Storage": "qint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
}
DTYPE_BYTES: Final = {
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    **dict.fromkeys(("float32", "int32", "uint32", "qint32", "complex32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool", "quint8", "qint8", "quint4x2", "quint2x4"), 1),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"), 1),
    "float4_e2m1fn_x2": 1,
    "complex128": 16,
}
SYNONYMS: Final = {
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "long": "int64",
    "int": "int32",
    "short": "int16",
    "cfloat": "complex64",
    "cdouble": "complex128",
}
INVISIBLE: Final = frozenset(
    {"_parameters", "_buffers", "_modules"}
)  # of a whole pickled module: not in its state dict


SPARSE_PARTS: Final[dict[object, tuple[str, ...]]] = {
    **dict.fromkeys(("torch.sparse_csr", "torch.sparse_bsr"), ("crow_indices", "col_indices", "values")),
    **dict.fromkeys(("torch.sparse_csc", "torch.sparse_bsc"), ("ccol_indices", "row_indices", "values")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor over a storage: the range it covers, in bytes from the storage's first.

    `storage_key` is None where nothing is stored (a tensor on the meta device). `storage_bytes` is how long the storage
    must be; None when its table does not tell.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    storage_key: str | None
    storage_bytes: int | None
    offset_bytes: int
    size_bytes: int


class TensorsOf:
    """Every tensor below a pickled value, by its path of keys and attributes; bounded in depth, visits and number.

    What an object is itself a part of, as a layer that knows its model, is not met again below it.

    Attributes:
        cut: known once all were asked for: whether a bound was met, so that there may be others.
    """

    def __init__(self, value: object, *, max_visits: int | None = None) -> None:
        self._value = value
        self._max_visits = MAX_VISITS if max_visits is None else max_visits
        self.cut = False

    def __iter__(self) -> Iterator[StoredTensor]:
        visits = 0
        found = 0
        pending: list[tuple[tuple[str, ...], Any, tuple[Any, ...]]] = [((), self._value, ())]
        while pending:
            if visits >= self._max_visits or found == MAX_TENSORS:
                self.cut = True
                return
            path, thing, above = pending.pop()
            visits += 1
            tensor = _tensor(".".join(path), thing)
            if tensor is not None:
                found += 1
                yield tensor
            above = (*above, thing)
            below: list[tuple[object, Any]] = []
            for number, (key, child) in enumerate(_children(thing), start=1):
                visits += number % LEAVES_A_VISIT == 0
                if visits + len(pending) + len(below) >= self._max_visits:
                    self.cut = True
                    return
                if _may_hold(child, above):
                    below.append((key, child))
            if len(above) > MAX_DEPTH:
                self.cut = self.cut or bool(below)
                continue
            pending.extend((_join(path, key), child, above) for key, child in reversed(below))


def storage_sizes(value: object, folder: str, *, max_visits: int | None = None) -> dict[str, int]:
    """Return how many bytes each storage below `value` has, by the name of its record.

    None of them where a bound was met: of some only, they would tell a file too short.
    """
    named = TensorsOf(value, max_visits=max_visits)
    sizes = {f"{folder}/{one.storage_key}": one.storage_bytes for one in named if one.storage_bytes is not None}
    return {} if named.cut else sizes


def _may_hold(thing: object, above: tuple[object, ...]) -> bool:
    """Tell whether it is a tensor or may have some below."""
    return isinstance(thing, Node | tuple) and not any(thing is one for one in above)


def _join(path: tuple[str, ...], key: object) -> tuple[str, ...]:
    if isinstance(key, str):
        return path if key in INVISIBLE else (*path, key[:MAX_KEY_CHARACTERS])
    return (*path, str(key)) if isinstance(key, int | float | bool) else path


def _children(thing: object) -> Iterator[tuple[object, object]]:
    if isinstance(thing, tuple):
        yield from enumerate(thing)
    elif isinstance(thing, Node):
        if isinstance(thing.head, Global) and thing.head.name.startswith("_rebuild_"):
            yield from _rebuilt(thing.head.name, thing.args)
            return
        yield from _or_else(each_pair(thing), _arguments(thing))
        yield from enumerate(thing.items)
        yield from _attributes(thing.state)


def _arguments(call: Node) -> Iterator[tuple[object, object]]:
    """Yield what a named tuple, a set or a queue was made of, each by its number, or what TorchScript wraps."""
    if isinstance(call.head, Global) and call.head.name == "restore_type_tag":  # with its type in words
        yield None, call.args[0] if call.args else None
        return
    only = call.args[0] if len(call.args) == 1 else None
    parts = only.items if isinstance(only, Node) and only.kind == "list" else call.args
    yield from enumerate(parts)


def _attributes(state: object) -> Iterator[tuple[object, object]]:
    """Yield what BUILD gives an object: attributes by their names, in dicts; anything else by its number."""
    for index, part in enumerate(state if isinstance(state, tuple) else (state,)):
        yield from _or_else(each_pair(part) if isinstance(part, Node) else iter(()), ((index, part),))


def _or_else(
    pairs: Iterator[tuple[object, object]], others: Iterable[tuple[object, object]]
) -> Iterator[tuple[object, object]]:
    first = next(pairs, None)
    if first is None:
        yield from others
    else:
        yield first
        yield from pairs


def _rebuilt(name: str, args: tuple[Any, ...]) -> Iterator[tuple[object, object]]:
    """Yield what a rebuilding call wraps: a parameter's data, a subclass's tensors, the parts of a sparse tensor."""
    if name.startswith("_rebuild_parameter") and args:
        yield None, args[0]
        yield from _attributes(args[3:4])
    elif name == "_rebuild_from_type_v2" and len(args) >= 3 and isinstance(args[2], tuple):
        yield None, Node("call", args[0], args[2])
        if not (isinstance(args[0], Global) and args[0].name == "_rebuild_njt"):  # whose attributes are its arguments
            yield from _attributes(args[3:4])
    elif name == "_rebuild_qtensor" and len(args) >= 5 and isinstance(args[4], tuple):
        yield from zip(("scales", "zero_points"), (part for part in args[4] if isinstance(part, Node)), strict=False)
    elif name == "_rebuild_nested_tensor":
        yield from zip(("values", "sizes", "strides", "offsets"), args, strict=False)
    elif name == "_rebuild_njt" and args and isinstance(args[0], Node):
        yield from ((key, part) for key, part in each_pair(args[0]) if key in ("values", "offsets", "lengths"))
    elif name == "_rebuild_sparse_tensor" and len(args) == 2 and isinstance(args[1], tuple):
        yield from zip(SPARSE_PARTS.get(_layout(args[0]), ("indices", "values")), args[1], strict=False)
    elif name == "_rebuild_sparse_csr_tensor" and len(args) == 2 and isinstance(args[1], tuple):
        yield from zip(SPARSE_PARTS["torch.sparse_csr"], args[1], strict=False)


def _layout(thing: object) -> object:
    """Return the name of a tensor's layout, which is pickled as a call with it, or as a name."""
    if isinstance(thing, Global):
        return str(thing)
    return thing.args[0] if isinstance(thing, Node) and thing.args and isinstance(thing.args[0], str) else ""


def _tensor(name: str, thing: object) -> StoredTensor | None:
    if not isinstance(thing, Node) or not isinstance(thing.head, Global):
        return None
    call, args = thing.head.name, thing.args
    if call == "_rebuild_meta_tensor_no_storage":
        return _meta_tensor(name, args)
    if call not in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor"):
        return None
    storage = _storage(args[0]) if len(args) >= 4 else None
    if storage is None or not isinstance(args[1], int):
        return None
    key, dtype, storage_bytes = storage
    if call == "_rebuild_tensor_v3" and len(args) >= 7 and isinstance(args[6], Global):
        dtype = SYNONYMS.get(args[6].name, args[6].name)
    shape, strides = _ints(args[2]), _ints(args[3])
    if shape is None or strides is None or len(shape) != len(strides):
        return None
    item_bytes = DTYPE_BYTES.get(dtype, 1)
    reach = reach_elements(shape, strides)
    if reach is None or not 0 <= args[1] < MAX_ELEMENTS:
        return None
    return StoredTensor(
        name=name or "tensor",
        dtype=dtype,
        shape=shape,
        storage_key=key,
        storage_bytes=storage_bytes,
        offset_bytes=args[1] * item_bytes,
        size_bytes=reach * item_bytes,
    )


def _meta_tensor(name: str, args: tuple[Any, ...]) -> StoredTensor | None:
    """Read (dtype, size, stride, requires_grad)."""
    shape = _ints(args[1]) if len(args) >= 2 and isinstance(args[0], Global) else None
    if shape is None:
        return None
    dtype = SYNONYMS.get(args[0].name, args[0].name)
    return StoredTensor(
        name=name or "tensor",
        dtype=dtype,
        shape=shape,
        storage_key=None,
        storage_bytes=None,
        offset_bytes=0,
        size_bytes=0,
    )


def _storage(thing: object) -> tuple[str, str, int] | None:
    """Return (key, dtype, size in bytes) of a storage's persistent id."""
    pid = thing.pid if isinstance(thing, Persistent) else None
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], Global):
        return None
    dtype = STORAGE_DTYPES.get(pid[1].name)
    if dtype is None or not isinstance(pid[2], str | int) or not isinstance(pid[4], int):
        return None
    return str(pid[2])[:MAX_KEY_CHARACTERS], dtype, max(0, min(pid[4], MAX_ELEMENTS)) * DTYPE_BYTES[dtype]


def _ints(thing: object) -> tuple[int, ...] | None:
    if isinstance(thing, Node) and isinstance(thing.head, Global) and thing.head.name == "Size" and thing.args:
        thing = thing.args[0]
    if not isinstance(thing, tuple) or len(thing) > MAX_RANK:
        return None
    if not all(isinstance(v, int) and 0 <= v < MAX_ELEMENTS for v in thing):
        return None
    return thing


def reach_elements(shape: tuple[int, ...], strides: tuple[int, ...]) -> int | None:
    """Return how many elements from the first to the last one used; None when that is absurd."""
    if 0 in shape:
        return 0
    reach = 1 + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
    return reach if reach < MAX_ELEMENTS else None
