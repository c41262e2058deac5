"""Hints: what small files on the same source tell of the others. Lengths and hashes, names of shards.

A hint proves nothing by itself: a file is proven only by the SHA-256 of its own bytes, computed when it was written,
being the one a pointer names, at the length it names. Whoever could make that false could break SHA-256.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from signatures.tensors import Tensor, names_digest
from signatures.verdict import DataEvidence, Finding, Grade, Verdict

POINTER, INDEX = "git_lfs_pointer", "weights_index"
CONTESTED_CODES = frozenset(("foreign-file-inside", "overlaps-proven-file"))  # guesses that a hash refutes
MAX_SUFFIX_CHARACTERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A small file that tells of others: its format, where it begins in the image, its facts."""

    format: str
    start_bytes: int
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What all of them tell.

    Attributes:
        hashes: by (SHA-256, length), the image offset of the first pointer that names it.
        shards: by digest of the tensor names, the names that indices give to a file that holds just these.
    """

    hashes: Mapping[tuple[str, int], int] = field(default_factory=dict)
    shards: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def gather(told: Iterable[Told]) -> Hints:
    """Return the hints of small files, in the order of the image."""
    hashes: dict[tuple[str, int], int] = {}
    shards: dict[str, tuple[str, ...]] = {}
    for one in told:
        if one.format == POINTER:
            hashes.setdefault((one.facts["names_sha256"], one.facts["names_size_bytes"]), one.start_bytes)
        elif one.format == INDEX:
            for shard in one.facts["shards"]:
                names = shards.get(shard["names_sha256"], ())
                if shard["name"] not in names:
                    shards[shard["names_sha256"]] = (*names, shard["name"])
    return Hints(hashes=hashes, shards=shards)


def proven(verdict: Verdict, sha256: str, size_bytes: int, hints: Hints) -> Verdict:
    """Return the verdict on a file as written, INTACT as a whole where a pointer names its hash and its length."""
    pointer_bytes = hints.hashes.get((sha256, size_bytes))
    if pointer_bytes is None:
        return verdict
    finding = Finding(
        code="hash-known",
        detail=f"every byte is right: a Git LFS pointer (at {pointer_bytes:#x}) names this SHA-256 and length",
    )
    return dataclasses.replace(
        verdict,
        grade=Grade.INTACT,
        data_evidence=DataEvidence.HASH,
        findings=(finding, *(f for f in verdict.findings if f.code not in CONTESTED_CODES)),
        tensors=tuple(dataclasses.replace(tensor, grade=Grade.INTACT.value) for tensor in verdict.tensors),
    )


def named_shard(tensors: Iterable[Tensor], hints: Hints) -> tuple[str, str] | None:
    """Return (stem, suffix) of the one name that indices give to a file of these tensors; None for none or several."""
    names = hints.shards.get(names_digest(tensor.name for tensor in tensors), ()) if hints.shards else ()
    if len(names) != 1:
        return None
    stem, dot, suffix = names[0].rpartition(".")
    return (stem, dot + suffix) if stem else None
