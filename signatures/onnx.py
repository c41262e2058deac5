"""ONNX: a protobuf without magic, length or checksum. Delimited by its own grammar, walked to the last field."""

from __future__ import annotations

import re

from imaging.window import Window
from signatures._onnx_data_plan import least_sizes
from signatures._onnx_graph import GraphWalk
from signatures._onnx_model import ModelRead
from signatures._onnx_probes import PROBES
from signatures._onnx_schema import IR_VERSION, MODEL_DOMAIN, PRODUCER_NAME, PRODUCER_VERSION
from signatures._onnx_starts import PATTERNS, model_starts
from signatures._protobuf import Wire
from signatures.format import Format
from signatures.verdict import Finding, Grade, Verdict, rejected

TOP_OPERATORS = 10
MAX_METADATA_KEYS = 64
GENERIC_NAMES = frozenset(
    (
        *("", "main_graph", "torch_jit", "torch-jit-export", "graph", "spox_graph", "paddle-onnx", "tf2onnx", "main"),
        "Model from PaddlePaddle.",
    )
)
DATA_SUFFIX = re.compile(r"([._]onnx)?[._](data|bin|weights?|pb|onnx)$")


def validate(window: Window) -> Verdict:
    """Judge a model that would begin at the window's start."""
    wire = Wire(window)
    model = ModelRead(wire=wire, walk=GraphWalk(wire))
    fault = model.read()
    if fault:
        return rejected(fault.code, at_bytes=fault.at_bytes)
    if not model.graph_end or not model.walk.proven:
        return rejected("empty-graph")
    if IR_VERSION not in model.numbers and not model.cut:
        return rejected("ir-version")
    damage, remarks = _damage(model), _remarks(model)
    unknown = any(finding.code in ("unknown-field", "unknown-dtype") for finding in remarks)
    grade = Grade.DAMAGED if damage else Grade.UNDECIDED if unknown else Grade.CONSISTENT
    if model.cut:
        grade = Grade.TRUNCATED
        detail = f"the model goes on to {max(model.end, model.graph_end):#x} and further"
        damage.append(Finding(code="cut-short", offset_bytes=wire.size_bytes, detail=detail))
    return Verdict(
        grade=grade,
        size_bytes=model.end,
        findings=(*damage, *remarks),
        tensors=tuple(model.walk.tensors),
        facts=_facts(model),
    )


def _damage(model: ModelRead) -> list[Finding]:
    """Return what speaks against the file."""
    walk = model.walk
    broken = "the graph is broken here"
    found = [Finding(code=fault.code, offset_bytes=fault.at_bytes, detail=broken) for fault in walk.breaks]
    if _has_damaged_tensor(walk):
        found += walk.troubles
    if model.cut:
        return found
    dangling = walk.dangling()
    if dangling and not found:  # what is broken explains names that are missing
        found.append(dangling)
    if not model.complete:
        detail = "no operator set follows the graph, and none stands before it"
        found.append(Finding(code="missing-opset", offset_bytes=model.end, detail=detail))
    return found


def _remarks(model: ModelRead) -> list[Finding]:
    """Return what the user should know of a file that may be whole."""
    walk = model.walk
    found: list[Finding] = []
    if not _has_damaged_tensor(walk):
        found += walk.troubles
    if walk.unknown_fields:
        detail = f"{len(walk.unknown_fields)} fields of a later IR version"
        found.append(Finding(code="unknown-field", offset_bytes=walk.unknown_fields[0], detail=detail))
    if walk.external:
        detail = f"{len(walk.external)} tensors are kept in other files: {', '.join(least_sizes(walk.external))[:200]}"
        found.append(Finding(code="external-data", detail=detail))
    if model.other_ends:
        detail = "the file may also end here: the order of its fields does not tell which of them are its own"
        found.append(Finding(code="ambiguous-end", offset_bytes=model.other_ends[0], detail=detail))
    return found


def _has_damaged_tensor(walk: GraphWalk) -> bool:
    return any(tensor.grade == Grade.DAMAGED for tensor in walk.tensors)


def _facts(model: ModelRead) -> dict[str, object]:
    walk = model.walk
    facts: dict[str, object] = {
        "ir_version": model.numbers.get(IR_VERSION, 0),
        "producer": model.texts.get(PRODUCER_NAME, ""),
        "producer_version": model.texts.get(PRODUCER_VERSION, ""),
        "domain": model.texts.get(MODEL_DOMAIN, ""),
        "opsets": model.opsets,
        "graph_name": walk.name,
        "nodes": walk.nodes,
        "operators": dict(walk.operators.most_common(TOP_OPERATORS)),
        "parameters": walk.parameters,
        "nested_tensors": walk.nested_tensors,
        "nested_tensor_bytes": walk.nested_bytes,
    }
    if model.metadata:
        facts["metadata"] = dict(list(model.metadata.items())[:MAX_METADATA_KEYS])
    if walk.external:
        facts["external_data"] = walk.external
        facts["external_files"] = least_sizes(walk.external)
    return facts | _name(model)


def _name(model: ModelRead) -> dict[str, object]:
    """Return name and name_source: the exporters name the data file after the model's own file."""
    locations = list(least_sizes(model.walk.external))
    stem = DATA_SUFFIX.sub("", re.split(r"[/\\]", locations[0])[-1]) if len(locations) == 1 else ""
    if stem:
        return {"name": stem, "name_source": "external data location"}
    if model.walk.name not in GENERIC_NAMES:
        return {"name": model.walk.name, "name_source": "graph name"}
    return {}


FORMAT = Format(
    name="onnx",
    suffix=".onnx",
    title="ONNX model",
    patterns=PATTERNS,
    probes=PROBES,
    validate=validate,
    starts=model_starts,
    proves="nothing: ONNX has no checksums; structure and the size of every tensor are checked",
)
