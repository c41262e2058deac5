"""Missing: files that others on the source name, and that were not found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from carver.identify.hints import INDEX, POINTER
from carver.recovery import CarvedFile, MissingFile
from signatures.tensors import names_digest
from signatures.verdict import DataEvidence

MAX_SAME_SIZE = 16  # a missing file


def missing_files(files: Sequence[CarvedFile], side_files: Sequence[CarvedFile]) -> tuple[MissingFile, ...]:
    """Return what is named and not among the recovered files, in the order in which the source tells it."""
    return (*_by_pointers((*files, *side_files), side_files), *_by_indices(files, side_files), *_external(files))


def _by_pointers(files: Iterable[CarvedFile], side_files: Iterable[CarvedFile]) -> Iterator[MissingFile]:
    named: dict[tuple[str, int], list[str]] = {}
    for side in side_files:
        if side.format == POINTER:
            key = (side.facts["names_sha256"], side.facts["names_size_bytes"])
            named.setdefault(key, []).append(side.path)  # type: ignore[arg-type]
    found: set[str] = set()
    by_size: dict[int, list[str]] = {}
    for file in files if named else ():
        found.add(file.sha256)
        if file.data_evidence is not DataEvidence.HASH:
            by_size.setdefault(file.size_bytes, []).append(file.path)
    for (sha256, size_bytes), paths in named.items():
        if sha256 not in found and size_bytes:
            same_size = tuple(by_size.get(size_bytes, ())[:MAX_SAME_SIZE])
            yield MissingFile(
                name="", size_bytes=size_bytes, sha256=sha256, learnt_from=tuple(paths), same_size=same_size
            )


def _by_indices(files: Iterable[CarvedFile], side_files: Iterable[CarvedFile]) -> Iterator[MissingFile]:
    named: dict[tuple[str, str], list[str]] = {}
    for side in side_files:
        if side.format == INDEX:
            for shard in side.facts["shards"]:  # type: ignore[attr-defined]
                named.setdefault((shard["name"], shard["names_sha256"]), []).append(side.path)
    found = {names_digest(tensor.name for tensor in file.tensors) for file in files if file.tensors} if named else set()
    for (name, digest), paths in named.items():
        if digest not in found:
            yield MissingFile(name=name, size_bytes=None, sha256=None, learnt_from=tuple(paths))


def _external(files: Iterable[CarvedFile]) -> Iterator[MissingFile]:
    """Yield the files that hold the weights of ONNX models: they have no head by which they could be found."""
    for file in files:
        sizes = file.facts.get("external_files")
        for name, least_bytes in sizes.items() if isinstance(sizes, dict) else ():
            if name:
                yield MissingFile(name=name, size_bytes=least_bytes, sha256=None, learnt_from=(file.path,))
