"""ONNX external data: tensors of a model in a file of their own, without a head; the model tells where each lies.

It is found by way of its model (`_onnx_data_search`), once all other files are known, and judged together with it: the
window goes on with the model where the data ends. Where the model tells the file's SHA-1, that proves it; else nothing
does, and the file is called probable.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from imaging.extent import ExtentSet, span
from imaging.window import Window
from signatures import onnx
from signatures._onnx_data_place import MARKS_NEEDED, Place, Weigher, proven_size, zeros_from
from signatures._onnx_data_plan import DataFile, data_files
from signatures._onnx_data_probes import EXPONENTS
from signatures._onnx_starts import AFTER_IR_VERSION
from signatures.format import Format
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Finding, Grade, LayoutBasis, Verdict, rejected

MODEL_HEAD = re.compile(b"\x08[\x01-\x20][" + re.escape(AFTER_IR_VERSION) + b"]")
MAX_HEADS = 64  # supposed models behind the data that are read
CHUNK_BYTES = 1 << 20


def validate(window: Window) -> Verdict:
    """Judge a data file that would begin at the window's start; its model ends the window or follows somewhere.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    found = _model_behind(window)
    if found is None:
        return rejected("no-model")
    files, data_bytes = found
    short: DataFile | None = None
    for file in files:
        if file.refused:
            continue
        if file.size_bytes > data_bytes:
            short = file
            continue
        proven_bytes = proven_size(window.part(0, data_bytes), 0, file) if file.sha1 else 0
        if proven_bytes:
            return verdict_on(file, None, proven_bytes)
        weigher = Weigher(source=window, file=file, claimed=_behind(window, data_bytes))
        if not file.sha1 and weigher.fits(0) and (place := weigher.weigh(0)).marks >= MARKS_NEEDED:
            return verdict_on(file, place, zeros_bytes=zeros_from(window, 0, file))
    return rejected("no-data-fits") if short is None else _cut(short, data_bytes)


def verdict_on(
    file: DataFile, place: Place | None, proven_bytes: int = 0, *, zeros_bytes: int | None = None
) -> Verdict:
    """Return the verdict on a data file that was found.

    Args:
        file: what its model tells.
        place: what speaks for the place; None where the SHA-1 does.
        proven_bytes: its length by its SHA-1, else 0.
        zeros_bytes: where the zeros begin that end it, and that cover whole matrices; None: none do.
    """
    grade = Grade.INTACT if proven_bytes else Grade.CONSISTENT if zeros_bytes is None else Grade.DAMAGED
    findings = [] if proven_bytes or place is None else [_probable(place)]
    tensors = _tensors(file, Grade.INTACT if proven_bytes else Grade.CONSISTENT)
    if zeros_bytes is not None and not proven_bytes:
        detail = "from here on it is nothing but zeros, whole matrices of them: overwritten, erased or never written"
        findings.insert(0, Finding(code="zero-tail", offset_bytes=zeros_bytes, detail=detail))
        tensors = _lowered(tensors, zeros_bytes, Grade.DAMAGED)
    weights = any(piece.dtype in EXPONENTS for piece in file.pieces)
    unproven = DataEvidence.PLAUSIBLE if weights else DataEvidence.NONE
    return Verdict(
        grade=grade,
        size_bytes=proven_bytes or file.size_bytes,
        findings=tuple(findings),
        tensors=tensors,
        facts=_facts(file),
        data_evidence=DataEvidence.HASH if proven_bytes else unproven if grade.good else DataEvidence.NONE,
        layout_basis=None if proven_bytes else LayoutBasis.PROBABLE,
    )


def _cut(file: DataFile, data_bytes: int) -> Verdict:
    """Return the verdict on a data file whose model follows too early."""
    detail = f"{file.size_bytes - data_bytes} bytes are missing at the end"
    return Verdict(
        grade=Grade.TRUNCATED,
        size_bytes=file.size_bytes,
        findings=(Finding(code="cut-short", offset_bytes=data_bytes, detail=detail),),
        tensors=_lowered(_tensors(file, Grade.CONSISTENT), data_bytes, Grade.TRUNCATED),
        facts=_facts(file),
        layout_basis=LayoutBasis.PROBABLE,
    )


def _probable(place: Place) -> Finding:
    traces = [
        f"{place.gaps} paddings between tensors that are zeros where the model tells" if place.gaps else "",
        f"{place.numbers} tensors of whole numbers between floats" if place.numbers else "",
        f"{place.steps} borders of tensors where the numbers change in size" if place.steps else "",
        "its start, right behind a file, zeros or what no weights are" if place.at_edge else "",
        "its end, right before such things" if place.ends else "",
    ]
    told = "; ".join(trace for trace in traces if trace)
    detail = (
        f"no checksum tells that these are the model's tensors, this does: {told}. No other place nearby fits; the "
        "data of another version of the model would fit as well"
    )
    return Finding(code="found-by-traces", detail=detail)


def _tensors(file: DataFile, grade: Grade) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(
            name=piece.name or f"constant at {piece.offset_bytes:#x}",
            dtype=piece.dtype,
            shape=piece.shape,
            layout=(span(piece.offset_bytes, piece.end_bytes),),
            grade=grade.value,
        )
        for piece in file.pieces
    )


def _lowered(tensors: tuple[Tensor, ...], from_bytes: int, grade: Grade) -> tuple[Tensor, ...]:
    """Grade so whatever reaches beyond `from_bytes`."""
    return tuple(
        replace(tensor, grade=grade.value) if tensor.layout[-1].end_bytes > from_bytes else tensor for tensor in tensors
    )


def _facts(file: DataFile) -> dict[str, object]:
    """Return name and suffix as the model's own path tells them, and that path."""
    facts: dict[str, object] = {"location": file.location}
    stem, dot, suffix = re.split(r"[/\\]", file.location)[-1].rpartition(".")
    named = {"name": stem or suffix, "name_source": "external data location"}
    return facts | named | ({"suffix": dot + suffix} if stem else {})


def _model_behind(window: Window) -> tuple[list[DataFile], int] | None:
    """Return the data files of the first model in the window that has some, and where it begins."""
    for at in _heads(window):
        verdict = onnx.validate(window.part(at, window.size_bytes - at))
        external: Any = verdict.facts.get("external_data")
        if verdict.grade.good and external:
            return data_files(external), at
    return None


def _heads(window: Window) -> list[int]:
    """Return where models may begin: at the last piece of a layout, or at any byte of a window in one piece."""
    if len(window.layout) > 1:
        return [window.size_bytes - window.layout[-1].size_bytes]
    found: list[int] = []
    for at in range(0, window.size_bytes, CHUNK_BYTES):
        piece = window.read_at(at, CHUNK_BYTES + 2)
        found += (at + met.start() for met in MODEL_HEAD.finditer(piece) if met.start() < CHUNK_BYTES)
        if len(found) >= MAX_HEADS:
            break
    return found[:MAX_HEADS]


def _behind(window: Window, data_bytes: int) -> ExtentSet:
    return ExtentSet((span(data_bytes, window.size_bytes),))


FORMAT = Format(
    name="onnx_external_data",
    suffix=".data",
    title="ONNX external data, by its model",
    patterns=(),
    validate=validate,
    proves="all of it where the model tells its SHA-1; else nothing, and the place itself is probable",
)
