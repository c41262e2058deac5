"""External data: the files that hold a model's weights for it, set beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from carver.identify.missing import DATA, models_of
from carver.identify.shards import bounded
from carver.recovery import CarvedFile, Companion, Model
from signatures.verdict import Grade

GRADES = list(Grade)
WHY = "data"


def with_data(models: Iterable[Model], files: Iterable[CarvedFile]) -> Iterator[Model]:
    """Yield the models with the data files that were found for them, each no better than these, and what is missing."""
    held: dict[int, list[tuple[object, str, Grade]]] = {}  # by where the model begins: name, path, grade
    told: dict[str, tuple[int, dict[str, int], int]] = {}  # where a model begins, what it tells of, its own weights
    for file in files:
        sizes = file.facts.get("external_files")
        if file.format == DATA:
            for start, name in models_of(file.facts):
                held.setdefault(start, []).append((name, file.path, file.grade))
        elif isinstance(sizes, dict) and file.layout:
            named = {name: least_bytes for name, least_bytes in sizes.items() if name}
            own_bytes = sum(tensor.size_bytes for tensor in file.tensors)
            told[file.path] = file.layout[0].offset_bytes, named, own_bytes
    return (_with(model, held, *told[model.files[0]]) if model.files[0] in told else model for model in models)


def _with(
    model: Model,
    held: Mapping[int, Sequence[tuple[object, str, Grade]]],
    start: int,
    sizes: Mapping[str, int],
    own_bytes: int,
) -> Model:
    data = held.get(start, ())
    paths = dict.fromkeys(path for _, path, _ in data)  # of a file that it calls by two names one
    companions = (*(Companion(path=path, why=WHY) for path in paths), *model.companions)
    grade = max((model.grade, *(grade for _, _, grade in data)), key=GRADES.index)
    there = {name for name, _, _ in data}
    lost = [name for name in sizes if name not in there]
    lost_bytes = sum(sizes[name] for name in lost)
    held_bytes = own_bytes + sum(sizes.values()) - lost_bytes
    return replace(
        model,
        companions=companions,
        grade=grade,
        missing_shards=(*model.missing_shards, *bounded(lost)),
        weights_missing=bool(lost) and lost_bytes >= held_bytes,  # both are 0 where it tells no length
    )
