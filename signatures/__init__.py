"""Signatures: what a format is. Every public module here that has a `FORMAT` is a format; no list names them."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from signatures.format import Format

COMPILED = "kernels"  # no format, and its import takes a second, or several where it compiles


@cache
def formats() -> dict[str, Format]:
    """Return every format by name, in the order of names."""
    found: dict[str, Format] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        if module.name.startswith("_") or module.name == COMPILED:
            continue
        declared = getattr(importlib.import_module(f"{__name__}.{module.name}"), "FORMAT", None)
        if isinstance(declared, Format):
            found[declared.name] = declared
    return found
