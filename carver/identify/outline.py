"""Outline: of a model just what linking it to others takes, small enough to be held of a million."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_

from carver.identify import checkpoints
from carver.identify.shards import Group
from carver.identify.steps import STEPS, told_step
from carver.recovery import Model

MIN_TELLING_TENSORS = 8  # of an unknown family: files of a few tensors look alike without being versions of one model


@dataclass(slots=True, kw_only=True)
class Outline:
    """A model without what only the reports want.

    Attributes:
        number: of its first file in the record.
        path: of its first file.
        build: of its files, names, dtypes and shapes: equal for versions of one model; empty where few tensors tell
            nothing.
        step: as of the model; a small file beside it may tell it later.
        step_unit: what is counted: steps and epochs cannot be put in one order.
        is_adapter: whether its names tell that it is laid over another model.
        extents: a bit for each extent of its tensors (`extent_bit`).
        hidden_size: as of the model.
        layers: likewise.
        vocabulary: likewise.
        missing_shards: whether there are any.
        index: path of the index file that grouped it, or None.
        edges: where its files begin and end in the source.
    """

    number: int
    path: str
    build: bytes
    step: int | None
    step_unit: str
    is_adapter: bool
    extents: int
    hidden_size: int | None
    layers: int
    vocabulary: int | None
    missing_shards: bool
    index: str | None
    edges: tuple[int, ...]


def outline(one: Group, model: Model) -> Outline:
    """Return the outline of a model that was made of a group."""
    tensors = sum(part.tensor_count for part in one.parts)
    told = told_step(one.parts[0].file.facts)
    is_rank = one.parts[0].file.format == checkpoints.DATA and one.basis != checkpoints.BASIS  # all ranks look alike
    tells = not is_rank and (bool(model.family) or tensors >= MIN_TELLING_TENSORS)
    layouts = [part.file.layout for part in one.parts if part.file.layout]
    return Outline(
        number=min(part.number for part in one.parts),
        path=model.files[0],
        build=b"".join(part.build for part in one.parts) if tells else b"",
        step=model.step,
        step_unit=told.unit if told is not None else STEPS,
        is_adapter=_is_adapter(model.family),
        extents=reduce(or_, (part.extents for part in one.parts)),
        hidden_size=model.hidden_size,
        layers=model.layers,
        vocabulary=model.vocabulary,
        missing_shards=bool(model.missing_shards),
        index=one.index,
        edges=tuple(edge for layout in layouts for edge in (layout[0].offset_bytes, layout[-1].end_bytes)),
    )


def _is_adapter(family: str) -> bool:
    return "adapter" in family.lower() or "(PEFT)" in family
