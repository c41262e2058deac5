"""What the pickles of a legacy torch file tell: its head, and every storage that its object refers to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from imaging.window import Window
from signatures._pickle import Node, Persistent, Pickle, read_pickle
from signatures._pickle_globals import Global
from signatures._pickle_span import pickle_at
from signatures._torch_pickle import DTYPE_BYTES, STORAGE_DTYPES

MAGIC_NUMBER: Final = 0x1950A86A20F9469CFC6C  # torch.serialization
PROTOCOL_VERSION: Final = 1001
PROTO: Final = 0x80  # a pickle's first opcode, then its protocol
PROTOCOLS: Final = (2, 3, 4, 5)
MAX_ELEMENTS: Final = 1 << 56


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The three pickles before the object."""

    protocol: int
    little_endian: bool
    end_bytes: int
    unsafe: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A storage as the object's pickle names it; `item_bytes` is None where its type is not known."""

    key: str
    numel: int
    item_bytes: int | None


def read_front(window: Window) -> Front | str:
    """Return the head of the file, or the code of why it has none."""
    head = window.read_at(0, 2)
    if len(head) < 2 or head[0] != PROTO or head[1] not in PROTOCOLS:
        return "magic"
    at_bytes = 0
    values: list[Any] = []
    unsafe: list[str] = []
    for code in ("magic", "protocol-version", "sys-info"):
        raw, fault = pickle_at(window, at_bytes)
        if fault:
            return code
        read = read_pickle(raw)
        values.append(read.value)
        unsafe += read.unsafe
        at_bytes += len(raw)
        if (code, values[-1]) in (("magic", MAGIC_NUMBER), ("protocol-version", PROTOCOL_VERSION)):
            continue
        if code != "sys-info":
            return code
    told = dict(_text_pairs(values[2]))
    if not {"protocol_version", "little_endian", "type_sizes"} <= told.keys():
        return "sys-info"
    little_endian = told["little_endian"] is not False
    return Front(protocol=head[1], little_endian=little_endian, end_bytes=at_bytes, unsafe=tuple(unsafe))


def _text_pairs(value: object) -> list[tuple[str, Any]]:
    pairs = value.pairs if isinstance(value, Node) else []
    return [(key, told) for key, told in pairs if isinstance(key, str)]


def storages_of(value: object) -> tuple[dict[str, Storage], list[str]]:
    """Return every storage below `value` by its key, and whole modules' source files; each object is visited once."""
    storages: dict[str, Storage] = {}
    sources: dict[str, None] = {}
    seen: set[int] = set()
    pending: list[Any] = [value]
    while pending:
        thing = pending.pop()
        if not isinstance(thing, tuple | Node | Persistent) or id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, tuple):
            pending.extend(thing)
        elif isinstance(thing, Node):
            pending.extend((thing.head, thing.args, thing.state, *thing.items))
            for key, child in thing.pairs:
                pending.extend((key, child))
        elif (storage := _storage(thing.pid)) is not None:
            storages.setdefault(storage.key, storage)
        elif isinstance(thing.pid, tuple) and len(thing.pid) >= 4 and thing.pid[0] == "module":
            if isinstance(thing.pid[2], str):
                sources[thing.pid[2][:200]] = None
            pending.append(thing.pid[1])
    return storages, list(sources)


def _storage(pid: object) -> Storage | None:
    """Read ("storage", type, key, location, number of elements, view)."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[2], str):
        return None
    if not isinstance(pid[4], int) or not 0 <= pid[4] <= MAX_ELEMENTS:
        return None
    dtype = STORAGE_DTYPES.get(pid[1].name) if isinstance(pid[1], Global) else None
    return Storage(key=pid[2], numel=pid[4], item_bytes=DTYPE_BYTES[dtype] if dtype else None)


def keys_of(pickle: Pickle) -> list[str] | None:
    """Return the list of storage keys; None when the pickle is none."""
    value = pickle.value
    if not pickle.complete or not isinstance(value, Node) or value.kind != "list":
        return None
    keys = value.items
    return keys if all(isinstance(key, str) for key in keys) and len(set(keys)) == len(keys) else None
