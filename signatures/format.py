"""Format and Pattern: what one format's module declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from imaging.extent import Layout
from imaging.source import Source
from imaging.window import Window
from signatures.verdict import Verdict

ANY = bytes(range(256))
"""A byte that may have any value; it must be there, though."""
Asked: TypeAlias = tuple[bytes, ...]
"""For each of some bytes, the values that it may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A byte string that tells of a file.

    Attributes:
        bytes: the constant, at least 4 bytes.
        offset_bytes: where in the file it lies; the file's start is its place minus this.
        name: short, unique within the format; kept with the hit.
        alignment_bytes: the file's start must be a multiple of this (1: anywhere).
        before: the bytes right before it; the scan asks for them before it tells of a hit.
        after: those right behind it, likewise.
        anchor: whether it tells of a piece from the inside of a file, not of where that starts: it is found with the
            others and kept for putting files together, and makes no candidate.
    """

    bytes: bytes
    offset_bytes: int = 0
    name: str = "head"
    alignment_bytes: int = 1
    before: Asked = ()
    after: Asked = ()
    anchor: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SectorProbe:
    """For formats without a magic: which bytes a file may begin with, tested at sector starts only.

    Attributes:
        allowed: for each of the first bytes, the set of values it may have.
        name: short, unique within the format.
    """

    allowed: tuple[bytes, ...]
    name: str = "probe"


Starts: TypeAlias = Callable[[Source, int, Pattern], Iterable[int]]
Layouts: TypeAlias = Callable[[Source, int, Pattern], Iterable[Layout]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One file format.

    Attributes:
        name: equal to the module's name.
        suffix: with its dot; a verdict's facts may give a better one.
        title: for people, e.g. "PyTorch zip (torch.save, TorchScript)".
        patterns: what the scanner looks for.
        probes: what it looks for at sector starts.
        validate: judges a Window that starts at the supposed start of a file and runs on as far as the source does.
        starts: yields the possible file starts for a hit, where that is more than `hit - pattern.offset_bytes` (a
            pattern at the tail, a user block), or yields none to drop a hit by a cheap look at a few bytes around it.
        layouts: for a file that nothing but another file tells of: yields for a hit in that one what its own window is,
            the file's bytes first; then `starts` is not asked.
        proves: one sentence: which contents a checksum of this format covers.
        container: whether whole files of other formats are stored inside by design (a zip).
        side: whether it is a small file that tells of models (an index, a configuration) and is none itself.
        parts: the format of whose files it is several, one right behind the other; the first of them begins where it
            does and is no file of its own.
    """

    name: str
    suffix: str
    title: str
    patterns: tuple[Pattern, ...]
    validate: Callable[[Window], Verdict]
    proves: str
    probes: tuple[SectorProbe, ...] = ()
    starts: Starts | None = None
    layouts: Layouts | None = None
    container: bool = False
    side: bool = False
    parts: str = ""
