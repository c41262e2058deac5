"""Metadata of a PyTorch distributed checkpoint (`.metadata`): without it no `.distcp` file loads.

A pickle of torch.distributed.checkpoint.metadata.Metadata; read as opcodes and never loaded. It tells of every tensor
in which file it lies, and at which offset; so the facts keep each file's name and length, and the names and lengths of
the objects in it, in order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

from imaging.window import Window
from signatures._pickle import Node, each_pair, read_pickle
from signatures._pickle_globals import Global
from signatures._pickle_span import pickle_at
from signatures.format import Format, Pattern
from signatures.verdict import Finding, Grade, Verdict, rejected

MODULE = "torch.distributed.checkpoint.metadata"
FRAMED = b"\x8c%" + MODULE.encode() + b"\x94\x8c\x08Metadata\x94\x93"  # behind PROTO and FRAME
PLAIN = b"c" + MODULE.encode() + b"\nMetadata\n"
OWN = "Metadata MetadataIndex TensorStorageMetadata BytesStorageMetadata ChunkStorageMetadata TensorProperties"
OTHERS = ("torch.distributed.checkpoint.filesystem._StorageInfo", "pathlib.PosixPath", "pathlib._local.PosixPath")
HARMLESS = frozenset((*(f"{MODULE}.{name}" for name in (*OWN.split(), "StorageMeta", "_MEM_FORMAT_ENCODING")), *OTHERS))
MAX_FILES = 4096
MAX_UNSAFE = 64
MAX_NAME_CHARACTERS = 255
MAX_OFFSET_BYTES = 1 << 56

_Stored: TypeAlias = tuple[int, int, str, int]  # offset, length, name, number of the piece


def validate(window: Window) -> Verdict:
    """Judge a pickle that would begin at the window's start.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    raw, fault = pickle_at(window, 0)
    pickle = read_pickle(raw)
    head = pickle.value.head if isinstance(pickle.value, Node) else None
    if head != Global(MODULE, "Metadata"):
        return rejected("not-metadata", at_bytes=0)
    findings: list[Finding] = []
    grade = Grade.CONSISTENT
    if fault or not pickle.complete:
        grade = {"pickle-cut": Grade.TRUNCATED, "pickle-length": Grade.UNDECIDED}.get(fault, Grade.DAMAGED)
        detail = "the pickle does not reach its end"
        findings.append(Finding(code=fault or "pickle-broken", offset_bytes=len(raw), detail=detail))
    unsafe = [name for name in pickle.unsafe if name not in HARMLESS][:MAX_UNSAFE]
    findings += [Finding(code="unsafe-global", detail=f"loading it would import {name}") for name in unsafe]
    return Verdict(grade=grade, size_bytes=len(raw), findings=tuple(findings), facts=_facts(pickle.value.state, unsafe))


def _facts(state: object, unsafe: list[str]) -> dict[str, object]:
    told = dict(_named(state))
    files, tensors = _files(told.get("storage_data")), told.get("state_dict_metadata")
    facts: dict[str, object] = {"kind": "distributed checkpoint metadata", "files": files}
    if name := _checkpoint_name(told.get("storage_meta")):
        facts |= {"name": name, "name_source": "checkpoint's folder"}
    if isinstance(tensors, Node):
        facts["objects"] = len(tensors.pairs)
    if unsafe:
        facts["unsafe_globals"] = unsafe
    return facts


def _files(storage_data: object) -> list[dict[str, object]]:
    """Return each file's name, its length (as far as its last object reaches), and what it holds."""
    held: dict[str, list[_Stored]] = {}
    for index, info in each_pair(storage_data) if isinstance(storage_data, Node) else ():
        told = dict(_named(info.state if isinstance(info, Node) else None))
        name, offset, length = (told.get(key) for key in ("relative_path", "offset", "length"))
        if not isinstance(name, str) or not isinstance(offset, int) or not isinstance(length, int):
            continue
        if 0 <= offset < MAX_OFFSET_BYTES and 0 <= length < MAX_OFFSET_BYTES and len(name) <= MAX_NAME_CHARACTERS:
            key = dict(_named(index.state if isinstance(index, Node) else None))
            number = key.get("index")
            held.setdefault(name, []).append(
                (offset, length, _text(key.get("fqn")), number if isinstance(number, int) else 0)
            )
    return [_file(name, stored) for name, stored in sorted(held.items())[:MAX_FILES]]


def _file(name: str, stored: list[_Stored]) -> dict[str, object]:
    """Return what is told of one file; what it holds only where its objects lie one behind the other."""
    stored.sort(key=lambda one: one[:2])
    end_bytes, gapless = 0, True
    for offset, length, _, _ in stored:
        gapless = gapless and offset == end_bytes
        end_bytes = max(end_bytes, offset + length)
    told: dict[str, object] = {"name": name, "size_bytes": end_bytes}
    if gapless:
        told |= {"holds": _names(stored), "object_bytes": [length for _, length, _, _ in stored]}
    return told


def _names(stored: list[_Stored]) -> list[str]:
    """Return the name of each object; the pieces of one tensor in one file have their numbers behind it."""
    counts = Counter(name for _, _, name, _ in stored)
    return [f"{name}[{number}]" if counts[name] > 1 else name for _, _, name, number in stored]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _checkpoint_name(storage_meta: object) -> str:
    """Return the name of the folder that the checkpoint was written to, where it is told; torch 2.3 and later do."""
    told = dict(_named(storage_meta.state if isinstance(storage_meta, Node) else None)).get("checkpoint_id")
    parts = told.args if isinstance(told, Node) else (told,)  # a path's parts, or a text
    last = _text(parts[-1]) if parts else ""
    return re.split(r"[/\\]", last.rstrip("/\\"))[-1][:MAX_NAME_CHARACTERS]


def _named(state: object) -> Iterator[tuple[str, object]]:
    """Yield the attributes of an object by their names."""
    if isinstance(state, Node):
        yield from ((key, value) for key, value in each_pair(state) if isinstance(key, str))


FORMAT = Format(
    name="torch_distributed_metadata",
    suffix=".metadata",
    title="Metadata of a PyTorch distributed checkpoint (.metadata, side file)",
    patterns=(
        Pattern(bytes=PLAIN, offset_bytes=2, name="plain"),
        Pattern(bytes=FRAMED, offset_bytes=11, name="framed"),
    ),
    validate=validate,
    proves="nothing; it names each .distcp file, its length and its tensors",
    side=True,
)
