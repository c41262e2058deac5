"""TensorFlow saved_model.pb: a protobuf of a version and one or more meta graphs, the last of which ends the file.

The variables lie beside it in a checkpoint; what this file holds itself are the constants of its graphs.
"""

from __future__ import annotations

from imaging.window import Window
from signatures._protobuf import LENGTH, CutShortError, MalformedError, Wire
from signatures._tf_graph import GraphWalk
from signatures.format import Format, SectorProbe
from signatures.verdict import Finding, Grade, Verdict, rejected

HEAD = b"\x08\x01"  # field 1: schema version 1
META_GRAPH = 2
MAX_FILE_BYTES = 1 << 31  # protobuf's own limit
MAX_META_GRAPHS = 64
TOP_OPERATORS = 10
_CONTINUED, _SHORT = bytes(range(0x80, 0x100)), bytes(range(0x01, 0x80))
_LENGTHS = {size: (_CONTINUED,) * (size - 1) + (_SHORT,) for size in (1, 2, 3, 4)}
_FIRST_TAGS = b"\x0a\x2a\x32\x3a"  # the information; where fields go down: signatures, assets or the object graph
_INNER_TAGS = b"\x0a\x12\x1a\x22\x2a\x32\x38\x42"  # of the information; the others' are among them


def validate(window: Window) -> Verdict:
    """Judge a saved model that would begin at the window's start.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    if window.read_at(0, len(HEAD)) != HEAD:
        return rejected("version", at_bytes=0)
    wire = Wire(window)
    walk = GraphWalk(wire)
    end, graphs, fault = _walk_graphs(wire, walk, len(HEAD))
    if graphs == 0 or walk.nodes == 0:
        return rejected(fault.code if fault else "no-graph", at_bytes=fault.at_bytes if fault else end)
    findings = list(walk.findings)
    if fault is not None and not isinstance(fault, CutShortError):
        detail = "the meta graph breaks the grammar here"
        findings.append(Finding(code=fault.code, offset_bytes=fault.at_bytes, detail=detail))
    grade = Grade.DAMAGED if findings else Grade.CONSISTENT
    if end > window.size_bytes:
        grade = Grade.TRUNCATED
        detail = f"{end - window.size_bytes} bytes are missing at the end"
        findings.append(Finding(code="cut-short", offset_bytes=window.size_bytes, detail=detail))
    return Verdict(
        grade=grade,
        size_bytes=end,
        findings=tuple(findings),
        tensors=tuple(walk.tensors),
        facts={
            "meta_graphs": graphs,
            "tags": walk.tags,
            "tensorflow_versions": sorted(walk.versions),
            "signatures": walk.signatures,
            "nodes": walk.nodes,
            "functions": walk.functions,
            "operators": dict(walk.operators.most_common(TOP_OPERATORS)),
            "name": "saved_model",
            "name_source": "format",
        },
    )


def _walk_graphs(wire: Wire, walk: GraphWalk, start: int) -> tuple[int, int, MalformedError | None]:
    """Walk meta graphs as long as they follow each other; return (end of the last, how many, what broke in one)."""
    end, graphs = start, 0
    while graphs < MAX_META_GRAPHS:
        try:
            number, kind, _, body, stop = next(wire.fields(end, MAX_FILE_BYTES))
        except MalformedError as fault:
            return end, graphs, None if graphs else fault
        if number != META_GRAPH or kind != LENGTH:
            return end, graphs, None if graphs else MalformedError("meta-graph", end)
        seen = walk.nodes
        try:
            walk.meta_graph(body, stop)
        except MalformedError as fault:
            if graphs and walk.nodes == seen:
                return end, graphs, None  # what follows only looks like another one
            return stop, graphs + 1, fault
        end, graphs = stop, graphs + 1
    return end, graphs, None


def _probe(graph: int, first: int) -> SectorProbe:
    """Return the probe for a meta graph and its first field whose lengths take so many bytes."""
    allowed = (HEAD[:1], HEAD[1:], b"\x12", *_LENGTHS[graph], _FIRST_TAGS, *_LENGTHS[first], _INNER_TAGS)
    return SectorProbe(allowed=allowed, name=f"graph-{graph}-first-{first}")


FORMAT = Format(
    name="saved_model",
    suffix=".pb",
    title="TensorFlow SavedModel (saved_model.pb)",
    patterns=(),
    probes=tuple(_probe(graph, first) for graph in (2, 3, 4) for first in (1, 2, 3)),
    validate=validate,
    proves="nothing: there are no checksums; every node and the size of every constant are checked",
)
