"""Labels: who wrote an HDF5 file, what its model is called, and which suffix its users expect."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from signatures._hdf5.attributes import Attribute, texts
from signatures._hdf5.space import Damage, Space
from signatures._hdf5.walk import text
from signatures.tensors import Tensor

MAX_LABEL_CHARACTERS = 1000
MAX_CONFIG_BYTES = 1 << 24
_MATLAB = b"MATLAB 7.3 MAT-file"
_MATLAB_TEXT_BYTES = 116
_ROOT_LABELS: Final[Mapping[str, str]] = {
    "keras_version": "keras_version",
    "backend": "keras_backend",
    "PYTABLES_FORMAT_VERSION": "pytables_format_version",
    "_NCProperties": "netcdf_properties",
    "encoding-type": "encoding_type",
}
_CONFIG = "model_config"
_KERAS_3_VARIABLE = re.compile(r"(^|/)vars/\d+$")
_KERAS_3_ROOT = ("layers", "_layer_checkpoint_dependencies", "vars", "optimizer")
_ANNDATA_ROOT = frozenset(("X", "obs", "var"))
_ANNDATA_MORE = frozenset(("uns", "obsm", "varm", "obsp", "varp", "layers"))
KERAS_3_NAME = ("vars", "name")  # the root's own "vars" group carries the model's name


def is_wanted(path: str, name: str) -> bool:
    """Tell whether an attribute of the object at `path` may become a label."""
    return (path == "" and (name in _ROOT_LABELS or name == _CONFIG)) or (path, name) == KERAS_3_NAME


def label(
    space: Space,
    attributes: Mapping[tuple[str, str], Attribute],
    root_links: Collection[str],
    tensors: Sequence[Tensor],
) -> dict[str, object]:
    """Return the facts that labels tell: producer, versions, name, suffix; JSON-ready.

    Args:
        space: the file.
        attributes: the wanted ones, by path and name.
        root_links: names in the root group.
        tensors: the file's.
    """
    values = {key: _first_text(space, attribute) for key, attribute in attributes.items()}
    facts: dict[str, object] = {}
    for name, fact in _ROOT_LABELS.items():
        value = values.get(("", name))
        if value:
            facts[fact] = text(value)[:MAX_LABEL_CHARACTERS]
    matlab = space.window.read_at(0, _MATLAB_TEXT_BYTES) if space.base_bytes else b""
    if matlab.startswith(_MATLAB):
        facts["matlab_header"] = text(matlab).rstrip("\0 ")
    is_keras_3 = _is_keras_3(root_links, tensors)
    producer, suffix = _producer(facts, root_links, is_keras_3=is_keras_3)
    if producer:
        facts["producer"] = producer
    if suffix:
        facts["suffix"] = suffix
    name, source = model_name(values.get(("", _CONFIG), b"")), "keras model_config"
    if not name and is_keras_3:
        name, source = text(values.get(KERAS_3_NAME, b""))[:MAX_LABEL_CHARACTERS], "keras vars"
    if name:
        facts["name"], facts["name_source"] = name, source
    return facts


def _first_text(space: Space, attribute: Attribute) -> bytes:
    try:
        return next(iter(texts(space, attribute)), b"")
    except Damage as damage:
        space.damage(damage)
        return b""


def _is_keras_3(root_links: Collection[str], tensors: Sequence[Tensor]) -> bool:
    """Whether this is the weights file of Keras 3: variables numbered in groups called "vars"."""
    if not any(name in root_links for name in _KERAS_3_ROOT):
        return False
    return bool(tensors) and all(_KERAS_3_VARIABLE.search(tensor.name) for tensor in tensors)


def _producer(facts: Mapping[str, object], root_links: Collection[str], *, is_keras_3: bool) -> tuple[str, str]:
    """Return the writer in words, and the suffix where it is sure."""
    if "matlab_header" in facts:
        return "MATLAB 7.3", ".mat"
    if "netcdf_properties" in facts:
        return "netCDF-4", ".nc"
    if "keras_version" in facts or "keras_backend" in facts:
        words = ("Keras", facts.get("keras_version"), facts.get("keras_backend"))
        return " ".join(str(word) for word in words if word), ""
    if is_keras_3:
        return "Keras 3 weights", ".weights.h5"
    if "pytables_format_version" in facts:
        return f"PyTables format {facts['pytables_format_version']}", ""
    names = set(root_links)
    if facts.get("encoding_type") == "anndata" or (names >= _ANNDATA_ROOT and names & _ANNDATA_MORE):
        return "AnnData", ".h5ad"
    return "", ""


def model_name(config: bytes) -> str:
    """Return `config.name` of a Keras model_config, "" when there is none; JSON only, nothing in it is run."""
    if not config or len(config) > MAX_CONFIG_BYTES:
        return ""
    try:
        parsed = json.loads(config)
    except (ValueError, RecursionError):
        return ""
    inner = parsed.get("config") if isinstance(parsed, dict) else None
    name = inner.get("name") if isinstance(inner, dict) else None
    return name[:MAX_LABEL_CHARACTERS] if isinstance(name, str) else ""
