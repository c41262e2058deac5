"""Configured: what a config.json beside a model says that it is, held against what its tensors' names say.

A configuration of the model's very sizes is hardly another model's; one that only lies next to it may be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from carver.identify.companions import has_sizes
from carver.identify.family_table import GGUF_ARCHITECTURES, MODEL_TYPES, REFINED
from carver.recovery import Model

BY_NAMES_AND_SIZES: Final = "config.json"
BY_SIZES_ALONE: Final = "config.json alone"


def with_configuration(model: Model, facts: Mapping[str, object], why: str) -> Model:
    """Return a model with what a configuration says of it, if it is one; the first that does counts.

    Its family is that of the configuration where the names say none, or the same less closely, and the sizes fit.

    Args:
        model: as the tensors' names tell it.
        facts: of a small file that belongs to it.
        why: what tells that it does, as `Companion.why`.
    """
    kind, family = _text(facts.get("model_type")), _family(facts)
    if facts.get("kind") != "config.json" or not family or model.configured:
        return model
    model = replace(model, configured=_said(family, _classes(facts)), configured_why=why)
    if not has_sizes(model, facts):
        return model
    if not model.family:
        return replace(model, family=family, family_source=BY_SIZES_ALONE)
    if model.family in REFINED and kind in MODEL_TYPES:
        return replace(model, family=family, family_source=BY_NAMES_AND_SIZES)
    return model


def agrees(model: Model) -> bool:
    """Tell whether what the configuration says is, or may be, the family that is told: "Llama" is "Llama-like"."""
    told, said = _plain(model.family), _plain(model.configured.partition(" (")[0])
    return bool(told and said) and (said in told or told in said)


def _family(facts: Mapping[str, object]) -> str:
    kind = _text(facts.get("model_type"))
    known = MODEL_TYPES.get(kind) or GGUF_ARCHITECTURES.get(kind)
    return known or kind or _text(facts.get("_class_name")) or _classes(facts)


def _classes(facts: Mapping[str, object]) -> str:
    architectures = facts.get("architectures")
    return ", ".join(map(_text, architectures)) if isinstance(architectures, list | tuple) else ""


def _said(family: str, classes: str) -> str:
    return f"{family} ({classes})" if classes and classes != family else family


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]|like$", "", text.lower())
