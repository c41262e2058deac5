"""Parts: the recovered files that hold weights, each with what it takes to tell which belong together."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from carver.identify.anatomy import DATA_PRODUCERS, Anatomy, examine, is_weight
from carver.recovery import CarvedFile
from signatures.tensors import names_digest

ELSEWHERE = frozenset(("tf_checkpoint_index",))  # tells of weights and holds none
PLAIN_ARRAYS = frozenset(("numpy_array", "npz"))  # models only where a family's names are known


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file that holds weights.

    Attributes:
        file: it.
        anatomy: of its tensors.
        names_sha256: digest of its tensors' names.
        build_sha256: digest of names, dtypes and shapes: equal for two versions of one model.
        width: the commonest extent of its weight matrices: a transformer's hidden size; None without matrices.
        copies: paths of other files with the same bytes.
    """

    file: CarvedFile
    anatomy: Anatomy
    names_sha256: str
    build_sha256: str
    width: int | None
    copies: tuple[str, ...] = ()


def parts_of(files: Iterable[CarvedFile]) -> list[Part]:
    """Return the parts among the files that stand by themselves, in order; of equal ones the first."""
    first: dict[str, CarvedFile] = {}
    copies: dict[str, list[str]] = {}
    paths = set()
    for file in files:  # containers come before what is in them
        inside = file.parent in paths
        paths.add(file.path)
        if inside or not file.tensors:
            continue
        held = first.setdefault(file.sha256, file)
        if held is not file:
            copies.setdefault(file.sha256, []).append(file.path)
    examined = (_part(file, tuple(copies.get(sha256, ()))) for sha256, file in first.items())
    return [part for part in examined if part is not None]


def _part(file: CarvedFile, copies: tuple[str, ...]) -> Part | None:
    """Return a file as a part; None where it holds data rather than a model."""
    producer = file.facts.get("producer")
    if file.format in ELSEWHERE:
        return None
    if isinstance(producer, str) and producer.startswith(DATA_PRODUCERS):
        return None
    anatomy = examine(file.tensors, file.facts)
    if not anatomy.parameters and not anatomy.uncounted:
        return None
    if file.format in PLAIN_ARRAYS and not anatomy.family:
        return None
    return Part(
        file=file,
        anatomy=anatomy,
        names_sha256=names_digest(tensor.name for tensor in file.tensors),
        build_sha256=_build(file),
        width=_width(file),
        copies=copies,
    )


def _build(file: CarvedFile) -> str:
    told = sorted((tensor.name, tensor.dtype, tensor.shape) for tensor in file.tensors)
    return hashlib.sha256(json.dumps([file.format, told]).encode()).hexdigest()


def _width(file: CarvedFile) -> int | None:
    extents: Counter[int] = Counter()
    for tensor in file.tensors:
        if len(tensor.shape) == 2 and is_weight(tensor):
            extents.update(set(tensor.shape))
    return max(extents, key=lambda extent: (extents[extent], -extent), default=None)


def tensor_names(parts: Sequence[Part]) -> set[str]:
    """Return the names of all tensors of some parts."""
    return {tensor.name for part in parts for tensor in part.file.tensors}
