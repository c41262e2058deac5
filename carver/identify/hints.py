"""Hints: what small files on the same source tell of the others. Lengths and hashes, names of shards.

A hint proves nothing by itself: a file is proven only by the SHA-256 of its own bytes, computed when it was written,
being the one that is named, and its length, where one is named. Whoever could make that false could break SHA-256.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Final

from carver.identify.checkpoints import METADATA, Files
from signatures.tensors import Tensor, names_digest
from signatures.verdict import DataEvidence, Finding, Grade, Verdict

POINTER, INDEX, SUMS, DOWNLOAD = "git_lfs_pointer", "weights_index", "sha256_list", "huggingface_download"
WITNESSES = {POINTER: "a Git LFS pointer", SUMS: "a list of SHA-256 sums", DOWNLOAD: "the record of a download"}
TORCH = ("pytorch_zip", "pytorch_legacy")
READ_AS: Final = {  # what libraries take a shard for, by its name alone
    ".safetensors": ("safetensors",),
    ".h5": ("hdf5",),
    **dict.fromkeys((".bin", ".pt", ".pth", ".ckpt"), TORCH),
}
CONTESTED_CODES = frozenset(("foreign-file-inside", "overlaps-proven-file"))  # guesses that a hash refutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A small file that tells of others: its format, where it begins in the image, its facts."""

    format: str
    start_bytes: int
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """What a small file tells of another: its SHA-256, and its length and name where these are told ("": not)."""

    sha256: str
    size_bytes: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What all of them tell.

    Attributes:
        hashes: by (SHA-256, length or None where it is not told), the first that names it.
        names: by SHA-256, the names that lists of sums give to the file.
        shards: by digest of the tensor names, the names that indices give to a file that holds just these.
        checkpoints: the files of distributed checkpoints whose metadata were found.
    """

    hashes: Mapping[tuple[str, int | None], Told] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shards: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    checkpoints: Files = field(default_factory=Files)


def sums_of(form: str, facts: Mapping[str, Any]) -> Iterator[Sum]:
    """Yield the hashes that a small file names."""
    if form == POINTER:
        yield Sum(sha256=facts["names_sha256"], size_bytes=facts["names_size_bytes"])
    elif form == DOWNLOAD:
        yield Sum(sha256=facts["names_sha256"])
    elif form == SUMS:
        for one in facts["sums"]:
            yield Sum(sha256=one["sha256"], name=PurePosixPath(one["name"].replace("\\", "/")).name)


def gather(told: Iterable[Told]) -> Hints:
    """Return the hints of small files, in the order of the image."""
    hashes: dict[tuple[str, int | None], Told] = {}
    names: dict[str, tuple[str, ...]] = {}
    shards: dict[str, tuple[str, ...]] = {}
    checkpoints = Files()
    for one in told:
        if one.format == METADATA:
            checkpoints.add(one.facts, one.start_bytes)
        for named in sums_of(one.format, one.facts):
            hashes.setdefault((named.sha256, named.size_bytes), replace(one, facts={}))
            if named.name:
                _add(names, named.sha256, named.name)
        for shard in one.facts["shards"] if one.format == INDEX else ():
            _add(shards, shard["names_sha256"], shard["name"])
    return Hints(hashes=hashes, names=names, shards=shards, checkpoints=checkpoints)


def _add(names: dict[str, tuple[str, ...]], key: str, name: str) -> None:
    known = names.get(key, ())
    if name not in known:
        names[key] = (*known, name)


def proven(verdict: Verdict, sha256: str, size_bytes: int, hints: Hints) -> Verdict:
    """Return the verdict on a file as written, INTACT as a whole where its hash is named, with its length or none."""
    witness = hints.hashes.get((sha256, size_bytes)) or hints.hashes.get((sha256, None))
    if witness is None:
        return verdict
    finding = Finding(
        code="hash-known",
        detail=f"every byte is right: {WITNESSES[witness.format]} (at {witness.start_bytes:#x}) names this SHA-256",
    )
    return replace(
        verdict,
        grade=Grade.INTACT,
        data_evidence=DataEvidence.HASH,
        findings=(finding, *(f for f in verdict.findings if f.code not in CONTESTED_CODES)),
        tensors=tuple(map(_proven_tensor, verdict.tensors)),
    )


def _proven_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor of a proven file; one that has no bytes in it, as ONNX's external data, is not proven with it."""
    elsewhere = not tensor.layout and math.prod(tensor.shape) > 0
    return replace(tensor, grade=(Grade.CONSISTENT if elsewhere else Grade.INTACT).value)


def may_be_called(name: str, form: str) -> bool:
    """Tell whether a library would read a file of this format under this name: many models lie in two formats."""
    return form in READ_AS.get(PurePosixPath(name).suffix, (form,))


def named(tensors: Sequence[Tensor], form: str, sha256: str, hints: Hints) -> tuple[str, str, str] | None:
    """Return (stem, suffix, source) of the name that a list gives to the hash, or an index to a file of these tensors.

    None where no name is told, or more than one that a file of this format may have.
    """
    listed = hints.names.get(sha256, ())
    if len(listed) == 1:
        return (*_split(listed[0]), "SHA-256 list")
    told = hints.shards.get(names_digest(tensor.name for tensor in tensors), ()) if tensors and hints.shards else ()
    names = [name for name in told if may_be_called(name, form)]
    return (*_split(names[0]), "index file") if len(names) == 1 else None


def _split(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    return path.stem, path.suffix
