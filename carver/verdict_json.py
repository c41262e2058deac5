"""Verdicts, files and models as JSON and back: what the stages log and the workers send."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from carver.recovery import CarvedFile, Companion, Elsewhere, Model, OtherCopy
from carver.stagelog import read_log
from carver.stored import Stored, store
from imaging.extent import Extent, Layout
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Finding, Grade, LayoutBasis, Verdict

HELD_BYTES = 8 << 20  # of a log


def layout_pairs(layout: Layout) -> list[list[int]]:
    """Return a layout as [[offset, size], …]."""
    return [[extent.offset_bytes, extent.size_bytes] for extent in layout]


def layout_from_pairs(pairs: Iterable[tuple[int, int]]) -> Layout:
    """Return the layout of [[offset, size], …]."""
    return tuple(Extent(offset_bytes=offset, size_bytes=size) for offset, size in pairs)


def verdict_to_json(verdict: Verdict) -> dict[str, object]:
    """Return a verdict as JSON-ready values."""
    return {
        "grade": verdict.grade.value,
        "size_bytes": verdict.size_bytes,
        "findings": [[f.code, f.offset_bytes, f.detail] for f in verdict.findings],
        "tensors": [[t.name, t.dtype, list(t.shape), layout_pairs(t.layout), t.grade] for t in verdict.tensors],
        "facts": dict(verdict.facts),
        "data_evidence": verdict.data_evidence.value,
        "explained": list(verdict.explained),
        "layout_basis": None if verdict.layout_basis is None else verdict.layout_basis.value,
    }


def verdict_from_json(entry: Mapping[str, Any]) -> Verdict:
    """Return the verdict that `verdict_to_json` wrote."""
    basis = entry.get("layout_basis")
    return Verdict(
        grade=Grade(entry["grade"]),
        size_bytes=entry["size_bytes"],
        findings=tuple(Finding(code=c, offset_bytes=o, detail=d) for c, o, d in entry["findings"]),
        tensors=tuple(
            Tensor(name=n, dtype=d, shape=tuple(s), layout=layout_from_pairs(p), grade=g)
            for n, d, s, p, g in entry["tensors"]
        ),
        facts=entry["facts"],
        data_evidence=DataEvidence(entry["data_evidence"]),
        explained=tuple(entry["explained"]),
        layout_basis=None if basis is None else LayoutBasis(basis),
    )


def carved_to_json(file: CarvedFile) -> dict[str, object]:
    """Return a recovered file as JSON-ready values."""
    verdict = Verdict(
        grade=file.grade,
        size_bytes=file.size_bytes,
        findings=file.findings,
        tensors=file.tensors,
        facts=file.facts,
        data_evidence=file.data_evidence,
    )
    return {
        "path": file.path,
        "format": file.format,
        "layout_basis": file.layout_basis.value,
        "sha256": file.sha256,
        "md5": file.md5,
        "layout": layout_pairs(file.layout),
        "parent": file.parent,
        "name_source": file.name_source,
        "side": file.side,
        "verdict": verdict_to_json(verdict),
    }


def carved_from_json(entry: Mapping[str, Any]) -> CarvedFile:
    """Return the recovered file that `carved_to_json` wrote."""
    verdict = verdict_from_json(entry["verdict"])
    return CarvedFile(
        path=entry["path"],
        format=entry["format"],
        grade=verdict.grade,
        layout_basis=LayoutBasis(entry["layout_basis"]),
        data_evidence=verdict.data_evidence,
        size_bytes=verdict.size_bytes,
        sha256=entry["sha256"],
        layout=layout_from_pairs(entry["layout"]),
        parent=entry["parent"],
        name_source=entry["name_source"],
        findings=verdict.findings,
        tensors=verdict.tensors,
        facts=verdict.facts,
        md5=entry["md5"],
        side=entry.get("side", False),  # not in cases of earlier versions
    )


def carved_files(path: Path) -> tuple[Sequence[CarvedFile], Sequence[CarvedFile]]:
    """Return the models' files and the small ones that a log of the extracting stage lists.

    Those of a short log are held; of a long one they stay on disk, since they take ten times as much in memory.
    """
    offsets, side_offsets = array("q"), array("q")
    for offset_bytes, entry in read_log(path):
        (side_offsets if entry.get("side", False) else offsets).append(offset_bytes)
    files = Stored.in_file(path, offsets, carved_from_json)
    side_files = Stored.in_file(path, side_offsets, carved_from_json)
    return (tuple(files), tuple(side_files)) if path.stat().st_size <= HELD_BYTES else (files, side_files)


def kept_models(folder: Path, models: Iterable[Model]) -> Stored[Model]:
    """Return models as they come, kept on disk in `folder` as long as they are used."""
    return store(models, folder, encode=model_to_json, decode=_model_from_json)


def model_to_json(model: Model) -> dict[str, Any]:
    """Return a model as JSON-ready values."""
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    return {**fields, "companions": [{"path": one.path, "why": one.why} for one in model.companions]}


def _model_from_json(entry: dict[str, Any]) -> Model:
    lists = {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
    companions = tuple(Companion(**one) for one in entry["companions"])
    return Model(**{**entry, **lists, "grade": Grade(entry["grade"]), "companions": companions})


def elsewhere_from_json(entries: Iterable[Mapping[str, Any]]) -> tuple[Elsewhere, ...]:
    """Return what `dataclasses.asdict` and JSON made of it."""
    return tuple(
        Elsewhere(
            path=entry["path"],
            hit=entry["hit"],
            copies=tuple(
                OtherCopy(**{**copy, "grade": Grade(copy["grade"]), "differing": tuple(copy["differing"])})
                for copy in entry["copies"]
            ),
            found=entry["found"],
            sources=tuple((name, path) for name, path in entry["sources"]),
            nowhere=tuple(entry["nowhere"]),
        )
        for entry in entries
    )
