"""Verdict: what a validator says of a candidate. A bad candidate is a value, never an exception."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from signatures.tensors import Tensor


class Grade(StrEnum):
    """How far a file (or a tensor) is proven, best first.

    INTACT: structure complete, and every tensor byte is under a checksum that was computed and agrees (or the whole
    file under a known hash). CONSISTENT: structure complete, contents unproven. DAMAGED: parts are known to be wrong or
    were never read. TRUNCATED: the end is missing. UNDECIDED: the validator failed or ran out of budget. REJECTED: not
    such a file.
    """

    INTACT = "INTACT"
    CONSISTENT = "CONSISTENT"
    DAMAGED = "DAMAGED"
    TRUNCATED = "TRUNCATED"
    UNDECIDED = "UNDECIDED"
    REJECTED = "REJECTED"

    @property
    def good(self) -> bool:
        """Whether the file is whole as far as its format can tell."""
        return self in (Grade.INTACT, Grade.CONSISTENT)


class LayoutBasis(StrEnum):
    """Why we believe that these bytes, in this order, are the file."""

    PROVEN = "proven"  # a checksum over the data, or a known hash
    MAPPED = "mapped"  # extents from file-system metadata
    CONTIGUOUS = "contiguous"  # one run
    PROBABLE = "probable"  # statistics


class DataEvidence(StrEnum):
    """What speaks for the contents, apart from the structure."""

    HASH = "hash"
    CHECKSUM = "checksum"
    PLAUSIBLE = "plausible"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fact that the user should know about a file.

    Attributes:
        code: a short kebab-case reason, e.g. "crc-mismatch"; every code has a test.
        offset_bytes: where in the file, or None when it is about the whole.
        detail: one plain sentence for a person, without a final dot.
    """

    code: str
    offset_bytes: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A judged candidate.

    Attributes:
        grade: see `Grade`.
        size_bytes: the exact length where the format tells it; for TRUNCATED the length it should have had.
        findings: what speaks against it, and what the user should know.
        tensors: every tensor found, with its own grade.
        facts: JSON-ready facts: "name" (best file stem from the contents) and "name_source", "suffix" (when it
            differs from the format's), "missing_head_bytes", and whatever the format knows (versions, producers).
        data_evidence: CHECKSUM only if every tensor byte was proven.
        layout_basis: why these bytes are the file; None: they are one run from its head, proven where it is INTACT.
        explained: file offsets of signatures that belong to this very file (a zip's own local headers), so that no
            candidate of its own starts there.
    """

    grade: Grade
    size_bytes: int
    findings: tuple[Finding, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    facts: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    data_evidence: DataEvidence = DataEvidence.NONE
    explained: tuple[int, ...] = ()
    layout_basis: LayoutBasis | None = None


def rejected(code: str, *, at_bytes: int | None = None, detail: str = "") -> Verdict:
    """Return the verdict "not such a file", with the code that is counted."""
    finding = Finding(code=code, offset_bytes=at_bytes, detail=detail)
    return Verdict(grade=Grade.REJECTED, size_bytes=0, findings=(finding,))
