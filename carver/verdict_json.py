"""Verdicts as JSON and back: what the judging stage logs and the workers send."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from imaging.extent import Extent, Layout
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Finding, Grade, Verdict


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
    }


def verdict_from_json(entry: Mapping[str, Any]) -> Verdict:
    """Return the verdict that `verdict_to_json` wrote."""
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
    )
