"""Missing: files that others on the source name, and that were not found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from carver.amounts import human_size
from carver.identify import checkpoints
from carver.identify.hints import INDEX, SUMS, Sum, sums_of
from carver.recovery import CarvedFile, MissingFile
from signatures.tensors import names_digest
from signatures.verdict import DataEvidence

DATA = "onnx_external_data"
TENSORFLOW_INDEX, TENSORFLOW_DATA = "tf_checkpoint_index", "tf_checkpoint_data"
NOT_LOOKED_FOR = {
    "files": "its model tells of too many files, of which only the largest are looked for where they lie apart",
    "searches": "too many models tell of such files, and the others came first",
}
MAX_SAME_SIZE = 16  # a missing file
WEIGHTS_SUFFIXES = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".gguf", ".h5", ".hdf5", ".keras", ".npz", ".npy"),
    *(".tflite", ".pb", ".pte", ".mlmodel", ".msgpack", ".pt2", ".ptl", ".model", ".onnx.data"),
)


def missing_files(
    files: Sequence[CarvedFile], side_files: Sequence[CarvedFile], sought: Iterable[Mapping[str, Any]] = ()
) -> tuple[MissingFile, ...]:
    """Return what is named and not among the recovered files, in the order in which the source tells it.

    Args:
        files: the models' files.
        side_files: the small ones.
        sought: what came of the search for data files of ONNX models, as `carver.stages.seeking` logs it.
    """
    return (
        *_by_hashes(chain(files, side_files), side_files),
        *_by_indices(files, side_files),
        *_by_metadata(files, side_files),
        *_tensorflow(files),
        *_external(files, sought),
    )


def missing_line(file: MissingFile) -> str:
    """Return one missing file in a line."""
    words = [file.name] if file.name else []
    words += [human_size(file.size_bytes)] if file.size_bytes is not None else []
    words += [f"SHA-256 {file.sha256}"] if file.sha256 else []
    words += [file.looked_for] if file.looked_for else []
    return ", ".join(words)


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


def _by_metadata(files: Iterable[CarvedFile], side_files: Iterable[CarvedFile]) -> Iterator[MissingFile]:
    """Yield the files of distributed checkpoints that no recovered file fits."""
    told = [(side, checkpoints.slots(side.facts)) for side in side_files if side.format == checkpoints.METADATA]
    ours = [(file.path, file.facts) for file in files if "checkpoint_files" in file.facts] if told else []
    runs = checkpoints.loose_runs(files) if told else []
    for side, slots in told:
        checkpoints.fill(slots, side.layout[0].offset_bytes, ours)
        for slot in slots:
            pieces = checkpoints.in_pieces(slot.names, side.facts, runs)
            for name in slot.missing() if len(slot.found) < len(slot.names) else ():
                yield MissingFile(
                    name=name, size_bytes=slot.size_bytes, sha256=None, learnt_from=(side.path,), looked_for=pieces
                )


def _tensorflow(files: Iterable[CarvedFile]) -> Iterator[MissingFile]:
    """Yield the data files of TensorFlow checkpoints; they are told by the index's name, number and length.

    A file that is not whole may be shorter than its index tells: its length is not asked.
    """
    named: dict[tuple[object, str, int], list[str]] = {}
    found: set[tuple[object, ...]] = set()
    for file in files:
        name, sizes = file.facts.get("name"), file.facts.get("data_files")
        if file.format == TENSORFLOW_DATA:
            key = (name, file.facts.get("suffix"))
            found.add((*key, file.size_bytes) if file.grade.good else key)
        elif file.format == TENSORFLOW_INDEX and isinstance(sizes, dict):
            for suffix, size_bytes in sizes.items():
                named.setdefault((name, f".{suffix}", size_bytes), []).append(file.path)
    for (name, suffix, size_bytes), paths in named.items():
        if size_bytes and found.isdisjoint({(name, suffix, size_bytes), (name, suffix)}):
            told = f"{name or ''}{suffix}"
            yield MissingFile(name=told, size_bytes=size_bytes, sha256=None, learnt_from=tuple(paths))


def _external(files: Iterable[CarvedFile], sought: Iterable[Mapping[str, Any]]) -> Iterator[MissingFile]:
    """Yield the files that hold the weights of ONNX models, and that were not found.

    What no copy of a model has is missing once: file systems that copy on write leave dozens of a small model.
    """
    told = {(one["model_start_bytes"], one["location"]): one for one in sought}
    named: dict[tuple[str, str, int], list[CarvedFile]] = {}  # model's sum, name, least bytes
    found: set[tuple[int, object]] = set()
    for file in files:
        if file.format == DATA:
            found.update(models_of(file.facts))
        sizes = file.facts.get("external_files")
        if isinstance(sizes, dict):
            small = replace(file, tensors=(), findings=(), facts={})
            for name, size in sizes.items():
                if name:
                    named.setdefault((file.sha256, name, size), []).append(small)
    for (_, name, least_bytes), models in named.items():
        starts = [_start_of(model) for model in models]
        if not any((start, name) in found for start in starts):
            searches = [told[start, name] for start in starts if (start, name) in told]
            yield MissingFile(
                name=name,
                size_bytes=least_bytes,
                sha256=None,
                learnt_from=tuple(model.path for model in models),
                looked_for=_looked_for(searches[0]) if searches else _not_looked_for(models[0]),
            )


def _start_of(model: CarvedFile) -> int:
    return model.layout[0].offset_bytes if model.layout else -1


def models_of(facts: Mapping[str, object]) -> list[tuple[int, object]]:
    """Return where each model begins that a data file was found for, and what it calls the file."""
    starts, names = facts.get("model_starts"), facts.get("model_locations")
    if not isinstance(starts, list):
        return []
    return list(zip(starts, names if isinstance(names, list) else [facts.get("location")] * len(starts), strict=True))


def _not_looked_for(model: CarvedFile) -> str:
    """Return why there was no search for a model's data."""
    if model.parent is not None:
        return f"it was not looked for: its model lies inside {model.parent}, which may hold it, too"
    if not model.grade.good:
        return "it was not looked for: its model is not whole, so what it tells of its data is not certain"
    return "it is not on record whether it was looked for: too many models tell of such files"


def _looked_for(one: Mapping[str, Any]) -> str:
    """Return what was looked for and where it could be, in a sentence without a final dot."""
    places = ", ".join(f"{place:#x}" for place in one["places"])
    around = f"it was looked for up to {max(1, one['searched_bytes'] >> 20):,} MiB around the model"
    outcomes = {
        "refused": f"it cannot be looked for, as its model contradicts itself: {one['why']}",
        "not-looked-for": f"it was not looked for: {NOT_LOOKED_FOR.get(one['why'], 'too many others came first')}",
        "nowhere": f"{around}, in what no other file holds, and no place stands out as its own",
        "in-part": f"{around}: a part of it may lie at {places}, with other bytes among it",
        "doubtful": f"{around}: it could lie at {places}, but too little speaks for it",
        "several": f"{around}: it could lie at {places}, and which is right cannot be told",
        "shared": f"{around}: what lies at {places} would do for it and for another file of the same model",
        "crowded": f"{around}: too many places would do for this one, first {places or 'none'}",
        "unlike-sum": f"{around}: what is like it at {places} has not the SHA-1 that its model tells: damaged, or "
        "another's",
        "found": f"it was found at {places}, but no file of it was written: it is smaller than was asked for, or its "
        "bytes are another file's",
    }
    unread = one.get("unread_bytes", 0)
    skipped = f"; {unread:,} bytes of that range were never read, and were skipped" if unread else ""
    return outcomes[one["outcome"]] + skipped if one["outcome"] in outcomes else ""
