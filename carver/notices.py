"""Notices: what the user is told before a run begins, and what ends it there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imaging import block_stack
from imaging.encodings import Caution


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing to tell the user before the run.

    Attributes:
        code: short, kebab-case; those that begin with "destination-" or "writes-" are about outputs.
        level: whether it ends the run, warns, or only tells.
        message: what is so, in one plain sentence.
        advice: what to do; may be empty.
    """

    code: str
    level: Caution
    message: str
    advice: str = ""

    @property
    def line(self) -> str:
        """The message, and what to do."""
        return f"{self.message}; {self.advice}" if self.advice else self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Where the kernel's trees are; a test lays out its own."""

    sys: Path = block_stack.SYS
    proc: Path = block_stack.PROC
