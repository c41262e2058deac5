"""Tensors of a torch.export file (.pt2): named by JSON tables of weights and constants, one record each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

from signatures._torch_pickle import DTYPE_BYTES, MAX_ELEMENTS, MAX_RANK, StoredTensor, reach_elements

MAX_TABLE_BYTES = 64 << 20

# torch/_export/serde/schema.py, ScalarType
DTYPES: Final = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu",
    34: "uint32",
    35: "uint64",
}


def tensors_of_table(raw: bytes) -> Iterator[StoredTensor]:
    """Yield the tensors of one `*_config.json`; the storage key is the record's name in the table's own folder.

    Nothing is yielded for what is no such table, and for entries that are pickled.
    """
    for name, entry in _entries(raw):
        tensor = None if entry.get("use_pickle") else _tensor(name, entry)
        if tensor is not None:
            yield tensor


def pickled_of_table(raw: bytes) -> Iterator[tuple[str, str]]:
    """Yield (name, record in the table's own folder) of each tensor of a subclass, which is a torch zip of its own."""
    for name, entry in _entries(raw):
        path = entry.get("path_name")
        if entry.get("use_pickle") and isinstance(path, str):
            yield name, path


def _entries(raw: bytes) -> Iterator[tuple[str, dict[str, object]]]:
    try:
        table = json.loads(raw)
    except (ValueError, RecursionError):
        return
    config = table.get("config") if isinstance(table, dict) else None
    for name, entry in config.items() if isinstance(config, dict) else ():
        if isinstance(entry, dict):
            yield name, entry


def _tensor(name: str, entry: Mapping[str, object]) -> StoredTensor | None:
    meta, key = entry.get("tensor_meta"), entry.get("path_name")
    if not isinstance(meta, dict) or not isinstance(key, str):
        return None
    code = meta.get("dtype")
    dtype = DTYPES.get(code) if isinstance(code, int) else None
    shape, strides = _ints(meta.get("sizes")), _ints(meta.get("strides"))
    offset = _int(meta.get("storage_offset"))
    if dtype is None or shape is None or strides is None or offset is None or len(shape) != len(strides):
        return None
    reach = reach_elements(shape, strides)
    if reach is None:
        return None
    size_bytes = DTYPE_BYTES[dtype]
    return StoredTensor(
        name=name,
        dtype=dtype,
        shape=shape,
        storage_key=key,
        storage_bytes=None,
        offset_bytes=offset * size_bytes,
        size_bytes=reach * size_bytes,
    )


def _int(thing: object) -> int | None:
    value = thing.get("as_int") if isinstance(thing, dict) else None
    return value if isinstance(value, int) and 0 <= value < MAX_ELEMENTS else None


def _ints(thing: object) -> tuple[int, ...] | None:
    if not isinstance(thing, list) or len(thing) > MAX_RANK:
        return None
    values = tuple(_int(part) for part in thing)
    return None if None in values else tuple(value for value in values if value is not None)
