"""Git LFS pointer: the length and SHA-256 of a file that lies elsewhere, in some 130 bytes.

Source of the facts: git-lfs/docs/spec.md. Keys after `version` are sorted; each line ends with one line feed; the whole
is under 1,024 bytes. What stands in the middle of other text (a manual's example) is no pointer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from imaging.source import Source
from imaging.window import Window
from signatures.format import Format, Pattern
from signatures.verdict import Grade, Verdict, rejected

MAX_BYTES = 1024  # docs/spec.md: "must be less than 1024 bytes"
SECTOR_BYTES = 512
HEAD = b"version https://git-lfs.github.com/spec/v1\n"
GRAMMAR = re.compile(
    re.escape(HEAD)
    + rb"(?:ext-[0-9]-[A-Za-z0-9._-]+ sha256:[0-9a-f]{64}\n)*"
    + rb"oid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>0|[1-9][0-9]{0,18})\n"
)


def validate(window: Window) -> Verdict:
    """Judge a pointer that would begin at the window's start."""
    met = GRAMMAR.match(window.read_at(0, MAX_BYTES))
    if met is None:
        return rejected("grammar", at_bytes=0)
    facts = {"kind": "pointer", "names_sha256": met["oid"].decode(), "names_size_bytes": int(met["size"])}
    return Verdict(grade=Grade.CONSISTENT, size_bytes=met.end(), facts=facts)


def starts(source: Source, hit_offset_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the hit, at the start of a sector or behind a zero (a small file inside a file system's own record)."""
    if hit_offset_bytes % SECTOR_BYTES == 0 or source.read_at(hit_offset_bytes - 1, 1) == b"\0":
        yield hit_offset_bytes


FORMAT = Format(
    name="git_lfs_pointer",
    suffix=".pointer",
    title="Git LFS pointer (side file)",
    patterns=(Pattern(bytes=HEAD),),
    validate=validate,
    starts=starts,
    proves="nothing of its own; a recovered file of its SHA-256 and length is proven",
    side=True,
)
