"""External data: the files that hold a model's weights for it, set beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from carver.identify.missing import DATA
from carver.recovery import CarvedFile, Companion, Model
from signatures.verdict import Grade

GRADES = list(Grade)
WHY = "data"


def with_data(models: Iterable[Model], files: Iterable[CarvedFile]) -> Iterator[Model]:
    """Yield the models with the data files that were found for them, each no better than these."""
    held: dict[int, list[tuple[str, Grade]]] = {}  # by where the model begins
    starts: dict[str, int] = {}
    for file in files:
        told = file.facts.get("model_starts")
        if file.format == DATA and isinstance(told, list):
            for start in told:
                held.setdefault(start, []).append((file.path, file.grade))
        elif "external_files" in file.facts and file.layout:
            starts[file.path] = file.layout[0].offset_bytes
    return (_with(model, held.get(starts.get(model.files[0], -1), [])) for model in models)


def _with(model: Model, data: Sequence[tuple[str, Grade]]) -> Model:
    if not data:
        return model
    companions = (*(Companion(path=path, why=WHY) for path, _ in data), *model.companions)
    grade = max((model.grade, *(grade for _, grade in data)), key=GRADES.index)
    return replace(model, companions=companions, grade=grade)
