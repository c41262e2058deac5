"""Steps: how far a checkpoint was trained, by what it counts itself, its metadata, or its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

NAMED = re.compile(
    r"(?:^|[-_. ])(?P<what>global_?step|checkpoint|ckpt|steps?|iter(?:ation)?|epoch)[-_=]?"
    r"(?P<count>[0-9]{1,12})(?![0-9])",
    re.IGNORECASE,
)
METADATA_KEYS: Final = ("ss_steps", "global_step", "step", "ss_epoch", "epoch")  # ss_: kohya's scripts
STEPS: Final = "steps"
UNITS: Final = {"epoch": "epochs", "ss_epoch": "epochs", "save_counter": "saves"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How far a checkpoint was trained.

    Attributes:
        count: in its unit.
        unit: "steps", "epochs" or "saves": those of different units cannot be put in an order.
        source: what tells so, for people.
    """

    count: int
    unit: str
    source: str


def told_step(facts: Mapping[str, object]) -> Step | None:
    """Return the step that a file's facts tell; what a checkpoint counts itself is believed before its name."""
    counted = facts.get("counters")
    if isinstance(counted, Mapping) and counted:
        path, count = next(iter(counted.items()))  # the finest first
        return Step(count=count, unit=_unit(re.split(r"[./]", path)[-1]), source=f"{path} in the checkpoint")
    metadata = facts.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    for key in METADATA_KEYS:
        told = metadata.get(key)
        if isinstance(told, str) and re.fullmatch(r"[0-9]{1,12}", told):
            return Step(count=int(told), unit=_unit(key), source=f"{key} in its metadata")
    name = facts.get("name")
    named = list(NAMED.finditer(name)) if isinstance(name, str) else []
    if not named:
        return None
    source = str(facts.get("name_source", "contents"))
    return Step(count=int(named[-1]["count"]), unit=_unit(named[-1]["what"].lower()), source=source)


def _unit(word: str) -> str:
    return UNITS.get(word, STEPS)
