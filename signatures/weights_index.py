"""Index of sharded weights (`*.index.json`): which shard holds which tensor.

Written by transformers and diffusers beside `model-00001-of-00005.safetensors`, and by Keras (`*.weights.json`), where
a layer's value is a list. The facts keep of each shard its name and the digest of its tensor names, so that a file that
lost its name can be known by its tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from imaging.window import Window
from signatures._json_text import probes, read_object, whole_number
from signatures._ntfs_resident import PATTERNS, resident
from signatures.format import Format
from signatures.tensors import names_digest
from signatures.verdict import Grade, Verdict, rejected

MAX_SHARDS = 4096
MAX_NAME_CHARACTERS = 255
NUMBERED = re.compile(r"(?P<stem>.+?)[-_][0-9]{5}(?:-of-[0-9]{5})?(?P<suffix>(?:\.[A-Za-z0-9]+)+)")


def validate(window: Window) -> Verdict:
    """Judge an index that would begin at the window's start."""
    read = read_object(window, lambda look: '"weight_map"' in look)
    if isinstance(read, str):
        return rejected(read, at_bytes=0)
    shards = _shards(read.value.get("weight_map"))
    if not shards:
        return rejected("weight-map", at_bytes=0)
    facts: dict[str, object] = {
        "kind": "weights index",
        "shards": [
            {"name": name, "tensors": len(tensors), "names_sha256": names_digest(tensors)}
            for name, tensors in sorted(shards.items())
        ],
    }
    metadata = read.value.get("metadata")
    if isinstance(metadata, Mapping):
        for key in ("total_size", "total_parameters"):
            if (number := whole_number(metadata.get(key))) is not None:
                facts[key] = number
    if stem := _stem(list(shards)):
        facts |= {"name": stem, "name_source": "shard names"}
    return Verdict(grade=Grade.CONSISTENT, size_bytes=read.size_bytes, facts=facts)


def _shards(weight_map: Any) -> dict[str, list[str]]:  # noqa: ANN401 - a JSON value
    """Return each shard's tensor names; nothing where it is no map of tensors to files."""
    shards: dict[str, list[str]] = {}
    for tensor, files in weight_map.items() if isinstance(weight_map, dict) else ():
        for name in files if isinstance(files, list) else (files,):
            if not isinstance(name, str) or not _is_file_name(name):
                return {}
            shards.setdefault(name, []).append(tensor)
            if len(shards) > MAX_SHARDS:
                return {}
    return shards


def _is_file_name(text: str) -> bool:
    return 0 < len(text) <= MAX_NAME_CHARACTERS and text.isprintable() and "." in text


def _stem(names: list[str]) -> str:
    """Return `model.safetensors` for `model-00001-of-00002.safetensors` and its fellows."""
    stems = {met["stem"] + met["suffix"] if (met := NUMBERED.fullmatch(name)) else "" for name in names}
    return stems.pop() if len(stems) == 1 else ""


FORMAT = Format(
    name="weights_index",
    suffix=".index.json",
    title="Index of sharded weights (side file)",
    patterns=PATTERNS,
    probes=probes(b"mw", b"e", b"ti"),  # metadata, weight_map,
    layouts=resident(lambda head: head.startswith(b"{")),
    validate=validate,
    proves="nothing; it names each shard and its tensors",
    side=True,
)
