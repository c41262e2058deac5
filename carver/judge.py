"""Judge: candidate -> verdict. The one broad `except` of the product: a validator that fails makes it UNDECIDED."""

from __future__ import annotations

import dataclasses
import logging
import traceback
from collections.abc import Mapping

from carver.candidates import Candidate
from imaging.errors import BudgetExceeded, ReadFault
from imaging.extent import ExtentSet
from imaging.source import Source
from imaging.window import Budget, Window
from signatures.format import Format
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade, Verdict

log = logging.getLogger(__name__)

TRACE_LINES = 6
MAX_STEPS = 40_000_000  # reads; a distributed checkpoint takes some 75 an object, and may have 100,000 and more


def judge(source: Source, candidate: Candidate, formats: Mapping[str, Format]) -> Verdict:
    """Judge one candidate; whatever its bytes do to the validator, the answer is a verdict."""
    window = Window(source, candidate.layout, budget=Budget(steps_left=MAX_STEPS))
    try:
        verdict = formats[candidate.format].validate(window)
        return with_unread(window, verdict)
    except BudgetExceeded as fault:
        return undecided("budget", str(fault))
    except ReadFault as fault:
        return undecided("read-fault", str(fault))
    except MemoryError:
        return undecided("memory", "the validator ran out of its memory limit")
    except Exception:  # noqa: BLE001 - the one place: a validator that fails must not end the run
        trace = traceback.format_exc()
        log.warning("validator %s failed at %#x:\n%s", candidate.format, candidate.start_bytes, trace)
        return undecided("validator-failed", " | ".join(trace.strip().splitlines()[-TRACE_LINES:]))


def undecided(code: str, detail: str) -> Verdict:
    """Return the verdict "could not be judged", which is kept and listed."""
    return Verdict(grade=Grade.UNDECIDED, size_bytes=0, findings=(Finding(code=code, detail=detail),))


def with_unread(window: Window, verdict: Verdict) -> Verdict:
    """Lower what rests on bytes that were never read from the drive, unless a checksum proved them all the same."""
    if verdict.grade is Grade.REJECTED:
        return verdict
    unread = window.unread_within(0, verdict.size_bytes)
    if not unread or verdict.grade is Grade.INTACT:
        return verdict
    tensors = tuple(_lowered(tensor, unread) for tensor in verdict.tensors)
    hit = sum(1 for before, after in zip(verdict.tensors, tensors, strict=True) if before is not after)
    finding = Finding(
        code="unread",
        offset_bytes=next(iter(unread)).offset_bytes,
        detail=f"{unread.total_bytes} bytes of it were never read from the drive; {hit} tensors are hit",
    )
    grade = Grade.DAMAGED if verdict.grade.good else verdict.grade
    return dataclasses.replace(verdict, grade=grade, tensors=tensors, findings=(*verdict.findings, finding))


def _lowered(tensor: Tensor, unread: ExtentSet) -> Tensor:
    if tensor.grade == Grade.INTACT or not any(unread.touches(extent) for extent in tensor.layout):
        return tensor
    return dataclasses.replace(tensor, grade=Grade.DAMAGED.value)
