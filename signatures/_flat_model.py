"""The model in a flatbuffer: what was read of it, what is wrong with it, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from imaging.window import Window
from signatures._flatbuffer import FlatBuffer, Table
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade, Verdict

MAX_FINDINGS: Final = 100
MAX_DETAIL_LENGTH: Final = 300
UNKNOWN: Final = frozenset({"unknown-dtype", "unknown-value"})  # may be a later version's: nothing is known to be wrong


class FlatModel:
    """What was read of one model, and what is wrong with it; each format reads its own tables.

    Attributes:
        end_bytes: where the file ends, as its tables tell.
        tensors: those that have bytes in the file.
        grade: the worst that the findings so far make of it, those that were not kept included.
    """

    def __init__(self, window: Window, root: Table, flat: FlatBuffer) -> None:
        self.window = window
        self.root = root
        self.flat = flat
        self.end_bytes = flat.end_bytes
        self.tensors: tuple[Tensor, ...] = ()
        self.findings: list[Finding] = []
        self.grade = Grade.CONSISTENT

    def note(self, code: str, at_bytes: int | None, detail: str) -> None:
        """Add a finding; past `MAX_FINDINGS` only the first ones are kept, but all of them count."""
        if code not in UNKNOWN:
            self.grade = Grade.DAMAGED
        elif self.grade is Grade.CONSISTENT:
            self.grade = Grade.UNDECIDED
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(code=code, offset_bytes=at_bytes, detail=detail[:MAX_DETAIL_LENGTH]))

    def verdict(self, facts: Mapping[str, object], *, noun: str = "model", cut: bool | None = None) -> Verdict:
        """Return the verdict, with what is wrong with the buffer itself.

        Args:
            facts: what the format tells of it.
            noun: what it is called.
            cut: whether it goes on past the window by an unknown length; None for whether a table does.
        """
        for finding in self.flat.findings():
            self.note(finding.code, finding.offset_bytes, finding.detail)
        size_bytes = self.end_bytes
        if cut is None:
            cut = self.flat.cut
        if cut:
            size_bytes = max(size_bytes, self.window.size_bytes + 1)
        truncated = size_bytes > self.window.size_bytes
        if truncated:
            self.note("cut-short", self.window.size_bytes, f"the {noun} goes on to {size_bytes:#x}, or further")
        return Verdict(
            grade=Grade.TRUNCATED if truncated else self.grade,
            size_bytes=size_bytes,
            findings=tuple(self.findings),
            tensors=self.tensors,
            facts=dict(facts),
        )
