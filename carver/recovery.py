"""Recovery: the one record of what a case found; every report is a view of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        size_bytes: likewise, else None; of an ONNX model's data file the least that it must have.
        sha256: likewise, else None.
        learnt_from: paths of the small files.
        same_size: paths of recovered files of that length and another hash: one of the two was changed.
        looked_for: of an ONNX model's data file, where it was looked for and where it could be; of a distributed
            checkpoint's file, which of its objects are there by themselves; else "".
    """

    name: str
    size_bytes: int | None
    sha256: str | None
    learnt_from: tuple[str, ...]
    same_size: tuple[str, ...] = ()
    looked_for: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """A small file that belongs to a model.

    Attributes:
        path: the file's.
        why: what tells so: "names" (it names the model's shards), "data" (the model names it for its weights), "sizes"
            (it tells the model's sizes, and no other's), "place" (it lies next to it on the source: a guess).
    """

    path: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model: one file, or the shards of one.

    Attributes:
        name: from inside its files, or a configuration; else the first file's stem.
        name_source: what tells it: as of its first file, "index file", "config.json" or "offset".
        family: e.g. "Llama-like"; "" when unknown.
        family_source: "tensor names", "general.architecture", "config.json" (and the names), "config.json alone",
            "name", "description"; "" likewise.
        parameters: elements of all weights that are there, shared ones once.
        uncounted: there are more than `parameters` tells: packed, or constants of an ONNX graph's nodes.
        dtypes: elements by dtype.
        layers: how many repeated layers are there.
        hidden_size: columns of the token embedding, where there is one.
        vocabulary: its rows, likewise.
        step: the training step, where one is told; what counts differs (steps, epochs).
        step_source: what tells it.
        files: paths, shards in order.
        grade: the worst of its files.
        shards: how many files it should have; None when nothing tells.
        shard_basis: why these files are one model's: "index file", "checkpoint metadata", "split numbers",
            "numbered names", "layers".
        missing_shards: names of the files that are not there, or what they held.
        weights_missing: whether most of its weights' bytes lie in those, so that it is hardly more than a structure.
        same_content: paths of files that are copies of its files, byte for byte.
        versions: paths of the first files of models with the same tensors and other values: another step, or a
            fine-tune; in the order of their steps where all are known, the nearest 32 where there are more.
        companions: small files that belong to it.
        configured: what a config.json among those says that it is, e.g. "Mistral (MistralForCausalLM)"; "" without.
        configured_why: what tells that this config.json is its own: "sizes" or "place", as a companion's.
    """

    name: str
    name_source: str
    family: str
    family_source: str
    parameters: int
    uncounted: bool
    dtypes: Mapping[str, int]
    layers: int
    hidden_size: int | None
    vocabulary: int | None
    step: int | None
    step_source: str
    files: tuple[str, ...]
    grade: Grade
    shards: int | None = None
    shard_basis: str = ""
    missing_shards: tuple[str, ...] = ()
    weights_missing: bool = False
    same_content: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    companions: tuple[Companion, ...] = ()
    configured: str = ""
    configured_why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherCopy:
    """A recovered file with the tensors of a damaged one.

    Attributes:
        path: the file's.
        grade: the file's.
        offers: how many tensors that are hit in the damaged file are whole in it.
        compared: how many that are whole in both were compared; not all where they are many gigabytes.
        identical: how many of those are the same byte for byte.
        differing: names of the first of the others, where they are the fewer.
    """

    path: str
    grade: Grade
    offers: int
    compared: int
    identical: int
    differing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What of a damaged file is whole in others.

    Attributes:
        path: the damaged file's.
        hit: how many of its tensors are not whole, or have bytes that hardly are weights.
        copies: files that have some of those, the likest first; bounded.
        found: how many of those are whole in another file.
        sources: the first of them: name, and path of the file to take it from.
        nowhere: the first of the others.
    """

    path: str
    hit: int
    copies: tuple[OtherCopy, ...] = ()
    found: int = 0
    sources: tuple[tuple[str, str], ...] = ()
    nowhere: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recovery:
    """A whole run. Its sequences may lie on disk (`carver.stored`), so each time through them costs reading them.

    Attributes:
        tool: name, version and the versions of what it stands on.
        run: what differs from run to run (times, host, command); the only block that may.
        case: what the lab wrote.
        source: what was examined.
        files: in order of their first byte in the image, containers before what is in them.
        rejected: how many candidates were no such file, by reason code.
        side_files: small files that tell of models, in order likewise.
        missing: files that those name and that were not found.
        models: what the files make up, in the order of their first files.
        elsewhere: what of the damaged files is whole in others, in the order of the files.
    """

    tool: Mapping[str, object]
    run: Mapping[str, object]
    case: CaseMetadata
    source: SourceRecord
    files: Sequence[CarvedFile]
    rejected: Mapping[str, int]
    side_files: Sequence[CarvedFile] = ()
    missing: tuple[MissingFile, ...] = ()
    models: Sequence[Model] = ()
    elsewhere: Sequence[Elsewhere] = ()
