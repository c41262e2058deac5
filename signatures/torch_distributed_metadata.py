"""Metadata of a PyTorch distributed checkpoint (`.metadata`): without it no `.distcp` file loads.

A pickle of torch.distributed.checkpoint.metadata.Metadata; read as opcodes and never loaded. It tells of every tensor
in which file it lies, and at which offset; so the facts keep each file's name and length.
"""

from __future__ import annotations

from collections.abc import Iterator

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
        grade = Grade.TRUNCATED if fault == "pickle-cut" else Grade.DAMAGED
        detail = "the pickle does not reach its end"
        findings.append(Finding(code=fault or "pickle-broken", offset_bytes=len(raw), detail=detail))
    unsafe = [name for name in pickle.unsafe if name not in HARMLESS][:MAX_UNSAFE]
    findings += [Finding(code="unsafe-global", detail=f"loading it would import {name}") for name in unsafe]
    return Verdict(grade=grade, size_bytes=len(raw), findings=tuple(findings), facts=_facts(pickle.value.state, unsafe))


def _facts(state: object, unsafe: list[str]) -> dict[str, object]:
    told = dict(_named(state))
    files, tensors = _files(told.get("storage_data")), told.get("state_dict_metadata")
    facts: dict[str, object] = {"kind": "distributed checkpoint metadata", "files": files}
    if isinstance(tensors, Node):
        facts["objects"] = len(tensors.pairs)
    if unsafe:
        facts["unsafe_globals"] = unsafe
    return facts


def _files(storage_data: object) -> list[dict[str, object]]:
    """Return each file's name and length: as far as its last object reaches."""
    sizes: dict[str, int] = {}
    for _, info in each_pair(storage_data) if isinstance(storage_data, Node) else ():
        told = dict(_named(info.state if isinstance(info, Node) else None))
        name, offset, length = (told.get(key) for key in ("relative_path", "offset", "length"))
        if not isinstance(name, str) or not isinstance(offset, int) or not isinstance(length, int):
            continue
        if 0 <= offset < MAX_OFFSET_BYTES and 0 <= length < MAX_OFFSET_BYTES and len(name) <= MAX_NAME_CHARACTERS:
            sizes[name] = max(sizes.get(name, 0), offset + length)
    return [{"name": name, "size_bytes": size} for name, size in sorted(sizes.items())[:MAX_FILES]]


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
