"""Stages: scan, judge, claim and extract as resumable steps of one case, each with its log.

    hits.bin, scan.jsonl -> verdicts.jsonl -> files/, files.jsonl -> reports

A stage's log begins with the key of everything its outcome depends on; the key of the stage before is part of it. So
the same command goes on where it was, and another image, map or choice of formats begins anew, the old logs set aside.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from carver.workers import Limits
from imaging.extent import Extent


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the user chose; part of the stages' keys where it changes what is found.

    Attributes:
        formats: names of the formats to look for.
        domain: where files may start; None: anywhere.
        min_size_bytes: smaller files are left out.
        with_md5: whether MD5 is computed beside SHA-256.
        threads: scanning threads and judging processes.
        limits: what judging one candidate may cost.
    """

    formats: tuple[str, ...]
    domain: Extent | None = None
    min_size_bytes: int = 0
    with_md5: bool = False
    threads: int = 1
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """How a stage talks to whoever runs it.

    Attributes:
        on_progress: called with (stage, done, total): bytes of the image, of the files while extracting, hits
            while judging, models while seeking.
        stop: asked often; True ends the stage with `Interrupted` after it has saved.
    """

    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None
    stop: Callable[[], bool] = lambda: False


def digest(value: object) -> str:
    """Return the SHA-256 of a JSON-ready value: how one stage's key names the one before."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
