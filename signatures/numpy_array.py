"""NumPy .npy: a magic, a header that is a Python dict as text, then one array. No checksum; the length is exact.

Arrays of objects are pickles: their end is found by their opcodes, and they are never loaded. Facts: NEP 1 and
numpy.lib.format (versions 1.0, 2.0, 3.0).
"""

from __future__ import annotations

import math
import re

from imaging.extent import span
from imaging.window import Window
from signatures._npy import MAGIC, MAX_HEADER_BYTES, ArrayHeader, read_array_header
from signatures._pickle import read_pickle
from signatures._pickle_span import pickle_at
from signatures.format import Format, Pattern
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade, Verdict, rejected

NAME = "array"  # the file has none
HEAD_BYTES = 12
MAX_UNSAFE = 16
MAX_FILE_BYTES = 1 << 60


def validate(window: Window) -> Verdict:
    """Judge a file that would begin at the window's start.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    raw = window.read_at(0, HEAD_BYTES + MAX_HEADER_BYTES)
    if not raw.startswith(MAGIC):
        return rejected("magic", at_bytes=0)
    header = read_array_header(raw)
    if header is None:
        return rejected("header", at_bytes=len(MAGIC))
    facts: dict[str, object] = {
        "version": raw[6],
        "fortran_order": header.fortran_order,
        "header_bytes": header.data_offset_bytes,
        "parameters": math.prod(header.shape),
    }
    if header.dtype == "object":
        return _objects(window, header, facts)
    if header.size_bytes is None:
        return _unknown(header, facts)
    return _verdict(window, header, header.size_bytes, facts)


def _verdict(window: Window, header: ArrayHeader, size_bytes: int, facts: dict[str, object]) -> Verdict:
    """Grade a file by its length, which is all that can be checked."""
    if size_bytes > MAX_FILE_BYTES:
        return rejected("size", at_bytes=len(MAGIC))
    grade = Grade.CONSISTENT
    findings: tuple[Finding, ...] = ()
    if window.size_bytes < size_bytes:
        detail = f"{size_bytes - window.size_bytes} bytes are missing at the end"
        grade = Grade.TRUNCATED
        findings = (Finding(code="cut-short", offset_bytes=window.size_bytes, detail=detail),)
    tensors = (_tensor(header, size_bytes, grade),)
    return Verdict(grade=grade, size_bytes=size_bytes, findings=findings, tensors=tensors, facts=facts)


def _unknown(header: ArrayHeader, facts: dict[str, object]) -> Verdict:
    """An item's size is believed where the dtype ends in one, as "<f1" does; numpy alone cannot read it."""
    digits = re.fullmatch(r"[<>|=]?[A-Za-z]([0-9]{1,6})", header.dtype)
    size_bytes = header.data_offset_bytes + math.prod(header.shape) * (int(digits[1]) if digits else 0)
    if size_bytes > MAX_FILE_BYTES:
        return rejected("size", at_bytes=len(MAGIC))
    detail = f"dtype {header.dtype!r} is not known"
    finding = Finding(code="unknown-dtype", offset_bytes=len(MAGIC), detail=detail)
    tensor = _tensor(header, size_bytes, Grade.UNDECIDED)
    return Verdict(grade=Grade.UNDECIDED, size_bytes=size_bytes, findings=(finding,), tensors=(tensor,), facts=facts)


def _objects(window: Window, header: ArrayHeader, facts: dict[str, object]) -> Verdict:
    """Judge an array of objects by the opcodes of its pickle."""
    start = header.data_offset_bytes
    detail = "an array of Python objects: a pickle, which is never loaded"
    findings = [Finding(code="object-array", offset_bytes=start, detail=detail)]
    raw, fault = pickle_at(window, start)
    grades = {"": Grade.CONSISTENT, "pickle-cut": Grade.TRUNCATED, "pickle-length": Grade.UNDECIDED}
    grade = grades.get(fault, Grade.DAMAGED)
    pickle = read_pickle(raw)
    if not fault and not pickle.complete:
        fault, grade = "pickle-broken", Grade.DAMAGED
    end_bytes = start + (len(raw) if fault in ("", "pickle-cut", "pickle-length") else pickle.size_bytes)
    if fault:
        findings.append(Finding(code=fault, offset_bytes=end_bytes, detail="the pickle does not reach its end"))
    findings += [
        Finding(code="unsafe-global", offset_bytes=start, detail=f"loading it would import {name}")
        for name in pickle.unsafe[:MAX_UNSAFE]
    ]
    if pickle.unsafe:
        facts["unsafe_globals"] = list(pickle.unsafe)
    tensor = _tensor(header, end_bytes, grade)
    return Verdict(grade=grade, size_bytes=end_bytes, findings=tuple(findings), tensors=(tensor,), facts=facts)


def _tensor(header: ArrayHeader, end_bytes: int, grade: Grade) -> Tensor:
    extent = span(header.data_offset_bytes, end_bytes)
    layout = (extent,) if extent.size_bytes else ()
    return Tensor(name=NAME, dtype=header.dtype, shape=header.shape, layout=layout, grade=grade.value)


FORMAT = Format(
    name="numpy_array",
    suffix=".npy",
    title="NumPy array (.npy)",
    patterns=(
        Pattern(bytes=MAGIC + b"\x01\x00", name="version-1"),
        Pattern(bytes=MAGIC + b"\x02\x00", name="version-2"),
        Pattern(bytes=MAGIC + b"\x03\x00", name="version-3"),
    ),
    validate=validate,
    proves="nothing: .npy has no checksums; the header tells the exact length",
)
