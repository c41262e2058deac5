"""Models: the recovered files as checkpoints, not as a heap. One file or the shards of one, with all told of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from carver.identify.anatomy import Anatomy, examine
from carver.identify.companions import companions, has_sizes
from carver.identify.family_table import MODEL_TYPES
from carver.identify.parts import Part, parts_of
from carver.identify.shards import NUMBERED, Group, group
from carver.recovery import CarvedFile, Companion, Model
from signatures.verdict import Grade

STEP = re.compile(
    r"(?:^|[-_. ])(?:global_?step|checkpoint|ckpt|steps?|iter(?:ation)?|epoch)[-_=]?([0-9]{1,12})(?![0-9])", re.I
)
MIN_TELLING_TENSORS = 8  # of an unknown family: files of a few tensors look alike without being versions of one model
REFINED = frozenset(("Llama-like", "BERT", "BERT-like", "RoBERTa"))
VERSIONS_EACH_WAY = 16  # that a model lists: with thousands of checkpoints, all of all would be too many
GRADES = list(Grade)
DULL_NAMES = frozenset(("model", "pytorch_model", "diffusion_pytorch_model", "adapter_model", "consolidated"))


def assemble(files: Sequence[CarvedFile], side_files: Sequence[CarvedFile]) -> tuple[Model, ...]:
    """Return the models that the recovered files make up, by the place of their first files."""
    parts = parts_of(files)
    groups, alone = group(parts, side_files)
    groups += [Group(name="", parts=(part,), count=None, basis="", missing=()) for part in alone]
    order = {part.file.path: number for number, part in enumerate(parts)}
    groups.sort(key=lambda one: min(order[part.file.path] for part in one.parts))
    models = [_model(one) for one in groups]
    indices = {number: one.index for number, one in enumerate(groups) if one.index is not None}
    found = companions(models, side_files, indices, {file.path: file.layout for file in (*files, *side_files)})
    by_path = {side.path: side for side in side_files}
    models = [_with_companions(model, found.get(number, []), by_path) for number, model in enumerate(models)]
    return tuple(_with_versions(models, groups))


def _model(one: Group) -> Model:
    first = one.parts[0]
    anatomy = first.anatomy if len(one.parts) == 1 else _joined(one)
    step, step_source = _told_step(first)
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
        step=step,
        step_source=step_source,
        files=tuple(part.file.path for part in one.parts),
        grade=max((part.file.grade for part in one.parts), key=GRADES.index),
        shards=one.count,
        shard_basis=one.basis,
        missing_shards=one.missing,
        same_content=tuple(path for part in one.parts for path in part.copies),
    )


def _joined(one: Group) -> Anatomy:
    """Return the anatomy of all shards together; each file's own place of a tensor means nothing to the others'."""
    told = [part.anatomy for part in one.parts]
    facts = next(
        (part.file.facts for part in one.parts if part.file.facts.get("architecture")), one.parts[0].file.facts
    )
    whole = examine(tuple(tensor for part in one.parts for tensor in part.file.tensors), facts)
    dtypes: Counter[str] = Counter()
    for anatomy in told:
        dtypes.update(anatomy.dtypes)
    return replace(whole, parameters=sum(anatomy.parameters for anatomy in told), dtypes=dict(sorted(dtypes.items())))


def _name(part: Part) -> str:
    name = part.file.facts.get("name")
    stem = name if isinstance(name, str) and name else PurePosixPath(part.file.path).stem
    met = NUMBERED.fullmatch(stem)
    return met["stem"] if met else stem


def _told_step(part: Part) -> tuple[int | None, str]:
    """Return the training step that a checkpoint counts itself, or that its own name tells (a zip root, mostly)."""
    counted = part.file.facts.get("counters")
    if isinstance(counted, dict) and counted:
        key, step = next(iter(counted.items()))  # the finest first
        return step, f"{key} in the checkpoint"
    name = part.file.facts.get("name")
    steps = STEP.findall(name) if isinstance(name, str) else []
    return (int(steps[-1]), str(part.file.facts.get("name_source", "contents"))) if steps else (None, "")


def _with_companions(model: Model, found: Sequence[Companion], side_files: Mapping[str, CarvedFile]) -> Model:
    """Return a model with its small files, and what these tell of it."""
    model = replace(model, companions=tuple(found))
    for companion in found:
        facts = side_files[companion.path].facts
        step = facts.get("global_step")
        if facts.get("kind") == "trainer_state.json" and isinstance(step, int) and model.step is None:
            model = replace(model, step=step, step_source=f"trainer_state.json ({companion.why})")
        kind = facts.get("model_type")
        if model.family in REFINED and isinstance(kind, str) and kind in MODEL_TYPES and has_sizes(model, facts):
            model = replace(model, family=MODEL_TYPES[kind], family_source="config.json")
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


def _with_versions(models: Sequence[Model], groups: Sequence[Group]) -> list[Model]:
    """Tell of each model which others have the same tensors and other values, by step where all steps are known."""
    builds = [tuple(part.build_sha256 for part in one.parts) for one in groups]
    alike: dict[tuple[str, ...], list[int]] = {}
    for number, (model, build) in enumerate(zip(models, builds, strict=True)):
        if model.family or sum(len(part.file.tensors) for part in groups[number].parts) >= MIN_TELLING_TENSORS:
            alike.setdefault(build, []).append(number)
    told = list(models)
    for numbers in alike.values():
        steps = [models[number].step for number in numbers]
        if None not in steps:
            numbers.sort(key=lambda number: (models[number].step, number))
        for place, number in enumerate(numbers):
            others = (*numbers[max(0, place - VERSIONS_EACH_WAY) : place], *numbers[place + 1 :][:VERSIONS_EACH_WAY])
            told[number] = replace(models[number], versions=tuple(models[other].files[0] for other in others))
    return told
