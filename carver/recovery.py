"""Recovery: the one record of what a case found; every report is a view of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imaging.extent import Layout
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Finding, Grade, LayoutBasis

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseMetadata:
    """What a lab writes on the folder; from `case.toml` or options, all optional."""

    case: str = ""
    evidence: str = ""
    examiner: str = ""
    organisation: str = ""
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """What was examined.

    Attributes:
        locator: the device or image as the user named it.
        size_bytes: its length.
        identity: size, serial, model where known, and the digest of sampled content.
        unread: (offset, size, mapfile status) of what was never read; None when there is no mapfile to tell.
    """

    locator: str
    size_bytes: int
    identity: Mapping[str, object]
    unread: tuple[tuple[int, int, str], ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CarvedFile:
    """One recovered (or kept undecided) file.

    Attributes:
        path: where it was written, relative to the case folder, with "/".
        parent: the path of the container it lies in, or None.
        layout: where its bytes lie in the image, in file order.
        name_source: where the name comes from ("zip root", "graph name", "offset").
        sha256: of the bytes as written.
        md5: likewise, only when asked for.
        facts: what the format knows; JSON-ready.
        side: whether it is no model file but a small one that tells of them.
    """

    path: str
    format: str
    grade: Grade
    layout_basis: LayoutBasis
    data_evidence: DataEvidence
    size_bytes: int
    sha256: str
    layout: Layout
    parent: str | None = None
    name_source: str = "offset"
    findings: tuple[Finding, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    md5: str | None = None
    side: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingFile:
    """A file that a small one on the source names, and that was not found.

    Attributes:
        name: where it is told, else "".
        size_bytes: likewise, else None.
        sha256: likewise, else None.
        learnt_from: paths of the small files.
        same_size: paths of recovered files of that length and another hash: one of the two was changed.
    """

    name: str
    size_bytes: int | None
    sha256: str | None
    learnt_from: tuple[str, ...]
    same_size: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """A whole run.

    Attributes:
        tool: name, version and the versions of what it stands on.
        run: what differs from run to run (times, host, command); the only block that may.
        case: what the lab wrote.
        source: what was examined.
        files: in order of their first byte in the image, containers before what is in them.
        rejected: how many candidates were no such file, by reason code.
        side_files: small files that tell of models, in order likewise.
        missing: files that those name and that were not found.
    """

    tool: Mapping[str, object]
    run: Mapping[str, object]
    case: CaseMetadata
    source: SourceRecord
    files: tuple[CarvedFile, ...]
    rejected: Mapping[str, int]
    side_files: tuple[CarvedFile, ...] = ()
    missing: tuple[MissingFile, ...] = ()
