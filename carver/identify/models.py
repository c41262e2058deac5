"""Models: the recovered files as checkpoints, not as a heap. One file or the shards of one, with all told of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import PurePosixPath
from typing import TypeAlias

from carver.identify.anatomy import Anatomy, examine
from carver.identify.companions import companions
from carver.identify.configured import with_configuration
from carver.identify.external import with_data
from carver.identify.outline import Outline, outline
from carver.identify.parts import Part, parts_of
from carver.identify.shards import NUMBERED, Group, alone, groups, may_be_shard, named_digests
from carver.identify.steps import STEPS, told_step
from carver.recovery import CarvedFile, Companion, Model
from signatures.verdict import Grade

Keep: TypeAlias = Callable[[Iterable[Model]], Sequence[Model]]

VERSIONS_EACH_WAY = 16  # that a model lists: with thousands of checkpoints, all of all would be too many
GRADES = list(Grade)
DULL_NAMES = frozenset(("model", "pytorch_model", "diffusion_pytorch_model", "adapter_model", "consolidated"))


def assemble(files: Sequence[CarvedFile], side_files: Sequence[CarvedFile], keep: Keep = tuple) -> Sequence[Model]:
    """Return the models that the recovered files make up, by the place of their first files.

    Args:
        files: in order, containers before what is in them; read one by one, and those that may be shards once more.
        side_files: in order; gone through several times.
        keep: what holds models as they come: on disk where there may be a million.
    """
    outlines: list[Outline] = []
    copies: dict[str, list[str]] = {}
    drafts = keep(_drafted(files, side_files, outlines, copies))
    order = sorted(range(len(outlines)), key=lambda place: outlines[place].number)
    outlines = [outlines[place] for place in order]
    found = companions(outlines, side_files)
    by_path = _Facts(side_files)
    _tell_steps(outlines, found, by_path)
    linked = _linked(drafts, order, found, by_path, copies, _versions(outlines))
    return keep(with_data(linked, files))


def _drafted(
    files: Sequence[CarvedFile],
    side_files: Sequence[CarvedFile],
    outlines: list[Outline],
    copies: dict[str, list[str]],
) -> Iterator[Model]:
    """Yield the models, each for itself, and outline them; those of several files last."""
    named = named_digests(side_files)
    waiting: list[Part] = []
    for part in parts_of(files, copies):
        if may_be_shard(part, named):
            waiting.append(part.waiting())
        else:
            yield _outlined(alone(part), outlines)
    for one in groups(waiting, side_files):
        yield _outlined(one, outlines)


def _outlined(one: Group, outlines: list[Outline]) -> Model:
    model = _model(one)
    outlines.append(outline(one, model))
    return model


def _model(one: Group) -> Model:
    first = one.parts[0]
    anatomy = first.anatomy if len(one.parts) == 1 else _joined(one)
    step = told_step(first.file.facts) or told_step({"name": one.name, "name_source": one.basis})
    return Model(
        name=one.name or _name(first),
        name_source=one.basis if one.name else first.file.name_source,
        family=anatomy.family,
        family_source=anatomy.family_source,
        parameters=anatomy.parameters,
        uncounted=anatomy.uncounted,
        dtypes=anatomy.dtypes,
        layers=len(anatomy.layers),
        hidden_size=anatomy.hidden_size,
        vocabulary=anatomy.vocabulary,
        step=step.count if step is not None else None,
        step_source=step.source if step is not None else "",
        files=tuple(part.file.path for part in one.parts),
        grade=max((part.file.grade for part in one.parts), key=GRADES.index),
        shards=one.count,
        shard_basis=one.basis,
        missing_shards=one.missing,
    )


def _joined(one: Group) -> Anatomy:
    """Return the anatomy of all shards together; each file's own place of a tensor means nothing to the others'."""
    told = [part.anatomy for part in one.parts]
    facts = next(
        (part.file.facts for part in one.parts if part.file.facts.get("architecture")), one.parts[0].file.facts
    )
    whole = examine(tuple(tensor for part in one.parts for tensor in part.tensors()), facts)
    dtypes: Counter[str] = Counter()
    for anatomy in told:
        dtypes.update(anatomy.dtypes)
    return replace(whole, parameters=sum(anatomy.parameters for anatomy in told), dtypes=dict(sorted(dtypes.items())))


def _name(part: Part) -> str:
    name = part.file.facts.get("name")
    stem = name if isinstance(name, str) and name else PurePosixPath(part.file.path).stem
    met = NUMBERED.fullmatch(stem)
    return met["stem"] if met else stem


def _linked(
    drafts: Sequence[Model],
    order: Iterable[int],
    found: Mapping[int, Sequence[Companion]],
    side_facts: _Facts,
    copies: Mapping[str, Sequence[str]],
    versions: Callable[[int], tuple[str, ...]],
) -> Iterator[Model]:
    """Yield the models in order, each with its small files, its copies and its versions."""
    for number, place in enumerate(order):
        model = _with_companions(drafts[place], found.get(number, ()), side_facts)
        same = tuple(copy for path in model.files for copy in copies.get(path, ()))
        yield replace(model, same_content=same, versions=versions(number))


class _Facts:
    """The facts of small files by their paths, read when they are asked for."""

    def __init__(self, side_files: Sequence[CarvedFile]) -> None:
        self._side_files = side_files
        self._numbers = {side.path: number for number, side in enumerate(side_files)}

    def __getitem__(self, path: str) -> Mapping[str, object]:
        return self._side_files[self._numbers[path]].facts


def _trained_step(facts: Mapping[str, object]) -> int | None:
    step = facts.get("global_step")
    return step if facts.get("kind") == "trainer_state.json" and isinstance(step, int) else None


def _tell_steps(outlines: Sequence[Outline], found: Mapping[int, Sequence[Companion]], side_facts: _Facts) -> None:
    """Put the steps that small files tell where the models themselves tell none."""
    for number, held in found.items():
        if outlines[number].step is None:
            steps = (_trained_step(side_facts[companion.path]) for companion in held)
            outlines[number].step = next((step for step in steps if step is not None), None)
            outlines[number].step_unit = STEPS


def _with_companions(model: Model, found: Sequence[Companion], side_facts: _Facts) -> Model:
    """Return a model with its small files, and what these tell of it."""
    model = replace(model, companions=tuple(found))
    for companion in found:
        facts = side_facts[companion.path]
        step = _trained_step(facts)
        if step is not None and model.step is None:
            model = replace(model, step=step, step_source=f"trainer_state.json ({companion.why})")
        model = with_configuration(model, facts, companion.why)
        if model.name_source == "offset" or model.name in DULL_NAMES:
            name = _configured_name(facts)
            model = replace(model, name=name, name_source=str(facts["kind"])) if name else model
    return model


def _configured_name(facts: Mapping[str, object]) -> str:
    """Return the name that a configuration gives; an adapter's tells only of what it adapts."""
    own, base = facts.get("_name_or_path"), facts.get("base_model_name_or_path")
    if isinstance(own, str) and _last_part(own):
        return _last_part(own)
    return f"{_last_part(base)}-adapter" if isinstance(base, str) and _last_part(base) else ""


def _last_part(path: str) -> str:
    """Return "llama-7b" of "meta/llama-7b" or "./runs/llama-7b/"."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1].strip()


def _versions(models: Sequence[Outline]) -> Callable[[int], tuple[str, ...]]:
    """Return what tells of each model which others have the same tensors and other values.

    By step where all steps are known, and in one unit.
    """

    def build(number: int) -> bytes:
        return models[number].build

    alike: dict[int, tuple[Sequence[int], int]] = {}  # those of its build, and its place among them
    for _, same in groupby(sorted(filter(build, range(len(models))), key=build), key=build):
        numbers = list(same)
        if len(numbers) > 1:
            steps = [models[number].step for number in numbers]
            if None not in steps and len({models[number].step_unit for number in numbers}) == 1:
                numbers.sort(key=lambda number: (models[number].step, number))
            alike.update((number, (numbers, place)) for place, number in enumerate(numbers))

    def versions(number: int) -> tuple[str, ...]:
        numbers, place = alike.get(number, ((), 0))
        others = (*numbers[max(0, place - VERSIONS_EACH_WAY) : place], *numbers[place + 1 :][:VERSIONS_EACH_WAY])
        return tuple(models[other].path for other in others)

    return versions
