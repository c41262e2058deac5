"""Record of a download by huggingface_hub (`.cache/huggingface/download/*.metadata`): the hash of a file beside it.

Source of the facts: huggingface_hub, _local_folder.py: the commit, the etag and a timestamp, a line each. The etag of a
file in Git LFS is its SHA-256; of others it is Git's own hash, which tells nothing here.
"""

from __future__ import annotations

import re

from imaging.window import Window
from signatures._ntfs_resident import PATTERNS, resident
from signatures.format import Format, SectorProbe
from signatures.verdict import Grade, Verdict, rejected

MAX_BYTES = 200
HEX = b"0123456789abcdef"
GRAMMAR = re.compile(rb"(?P<commit>[0-9a-f]{40})\n(?P<etag>[0-9a-f]{64})\n[0-9]{9,11}(?:\.[0-9]{1,12})?\n")


def validate(window: Window) -> Verdict:
    """Judge a record that would begin at the window's start."""
    met = GRAMMAR.match(window.read_at(0, MAX_BYTES))
    if met is None:
        return rejected("grammar", at_bytes=0)
    facts = {"kind": "download record", "commit": met["commit"].decode(), "names_sha256": met["etag"].decode()}
    return Verdict(grade=Grade.CONSISTENT, size_bytes=met.end(), facts=facts)


FORMAT = Format(
    name="huggingface_download",
    suffix=".metadata",
    title="Record of a Hugging Face download (side file)",
    patterns=PATTERNS,
    probes=(SectorProbe(allowed=(*(HEX,) * 40, b"\n", *(HEX,) * 8)),),
    layouts=resident(lambda head: head[40:41] == b"\n" and not head[:40].strip(HEX)),
    validate=validate,
    proves="nothing of its own; a recovered file of its SHA-256 is proven",
    side=True,
)
