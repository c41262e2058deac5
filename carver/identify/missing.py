"""Missing: files that others on the source name, and that were not found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from carver.identify.hints import INDEX, SUMS, Sum, sums_of
from carver.recovery import CarvedFile, MissingFile
from signatures.tensors import names_digest
from signatures.verdict import DataEvidence

MAX_SAME_SIZE = 16  # a missing file
WEIGHTS_SUFFIXES = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".gguf", ".h5", ".hdf5", ".keras", ".npz", ".npy"),
    *(".tflite", ".pb", ".pte", ".mlmodel", ".msgpack", ".pt2", ".ptl", ".model", ".onnx.data"),
)


def missing_files(files: Sequence[CarvedFile], side_files: Sequence[CarvedFile]) -> tuple[MissingFile, ...]:
    """Return what is named and not among the recovered files, in the order in which the source tells it."""
    return (*_by_hashes(chain(files, side_files), side_files), *_by_indices(files, side_files), *_external(files))


def _by_hashes(files: Iterable[CarvedFile], side_files: Iterable[CarvedFile]) -> Iterator[MissingFile]:
    """Yield what is named by its hash; of lists of sums only what is called like a model's file."""
    named: dict[str, list[tuple[Sum, str]]] = {}
    for side in side_files:
        for one in sums_of(side.format, side.facts):
            if side.format != SUMS or one.name.lower().endswith(WEIGHTS_SUFFIXES):
                named.setdefault(one.sha256, []).append((one, side.path))
    by_size: dict[int | None, list[str]] = {one.size_bytes: [] for told in named.values() for one, _ in told}
    for file in files if named else ():
        named.pop(file.sha256, None)
        same_size = by_size.get(file.size_bytes)
        if same_size is not None and len(same_size) < MAX_SAME_SIZE and file.data_evidence is not DataEvidence.HASH:
            same_size.append(file.path)
    for sha256, told in named.items():
        size_bytes = next((one.size_bytes for one, _ in told if one.size_bytes is not None), None)
        if size_bytes != 0:
            yield MissingFile(
                name=next((one.name for one, _ in told if one.name), ""),
                size_bytes=size_bytes,
                sha256=sha256,
                learnt_from=tuple(path for _, path in told),
                same_size=() if size_bytes is None else tuple(by_size[size_bytes]),
            )


def _by_indices(files: Iterable[CarvedFile], side_files: Iterable[CarvedFile]) -> Iterator[MissingFile]:
    named: dict[tuple[str, str], list[str]] = {}
    for side in side_files:
        if side.format == INDEX:
            for shard in side.facts["shards"]:  # type: ignore[attr-defined]
                named.setdefault((shard["name"], shard["names_sha256"]), []).append(side.path)
    lost = {digest for _, digest in named}
    for file in files if named else ():
        if file.tensors:
            lost.discard(names_digest(tensor.name for tensor in file.tensors))
    for (name, digest), paths in named.items():
        if digest in lost:
            yield MissingFile(name=name, size_bytes=None, sha256=None, learnt_from=tuple(paths))


def _external(files: Iterable[CarvedFile]) -> Iterator[MissingFile]:
    """Yield the files that hold the weights of ONNX models: they have no head by which they could be found."""
    for file in files:
        sizes = file.facts.get("external_files")
        for name, least_bytes in sizes.items() if isinstance(sizes, dict) else ():
            if name:
                yield MissingFile(name=name, size_bytes=least_bytes, sha256=None, learnt_from=(file.path,))
