"""Companions: which small files belong to which model. By what they name, by sizes, and at last by place."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice

from carver.identify.hints import INDEX, WITNESSES
from carver.identify.outline import Outline
from carver.identify.parts import extent_bit
from carver.recovery import CarvedFile, Companion, Model

MAX_DISTANCE_BYTES = 16 << 20
MARKS = 8  # beginnings and ends of models that are looked at on either side of a small file
MAX_PADDING = 1024  # rows of an embedding beyond the tokenizer's words, made to fit the hardware
HIDDEN_KEYS = ("hidden_size", "n_embd", "n_embed", "d_model", "dim")
LAYER_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
CONFIGURATIONS = ("config.json", "params.json")
WHOSE = {"adapter_config.json": True, "config.json": False}  # of an adapter, of a model: never the other's
VOCABULARIES = ("tokenizer.json", "vocab.json")


def companions(models: Sequence[Outline], side_files: Sequence[CarvedFile]) -> dict[int, list[Companion]]:
    """Return the small files of each model, by its index in `models`; of models that have any.

    Args:
        models: outlined, in order.
        side_files: in the order of the source; gone through several times.
    """
    named = ((number, model.index) for number, model in enumerate(models) if model.index is not None)
    found = {number: [Companion(path=path, why="names")] for number, path in named}
    taken = {one.path for held in found.values() for one in held}
    for number, path in _by_sizes(models, side_files):
        found.setdefault(number, []).append(Companion(path=path, why="sizes"))
        taken.add(path)
    rest = (
        side for side in side_files if side.path not in taken and side.format not in WITNESSES and side.format != INDEX
    )
    kinds = {side.path: str(side.facts.get("kind")) for side in side_files}
    known = {(number, kinds[one.path]) for number, held in found.items() for one in held}
    for number, path in _by_place(models, rest, known):
        found.setdefault(number, []).append(Companion(path=path, why="place"))
    return found


def has_sizes(model: Model | Outline, facts: Mapping[str, object]) -> bool:
    """Tell whether a configuration gives a model's very sizes: width and layers, and the vocabulary where both tell.

    Of a model with shards missing only some of the layers are there.
    """
    (width, layers), rows = _sizes(facts), _first_number(facts, ("vocab_size",))
    if width is None or layers is None or width != model.hidden_size:
        return False
    if model.missing_shards:
        return model.layers <= layers and rows == model.vocabulary
    return model.layers == layers and (rows is None or model.vocabulary is None or rows == model.vocabulary)


def _contradicts(model: Outline, facts: Mapping[str, object]) -> bool:
    """Tell whether a small file gives other sizes than the model has: then lying next to it means nothing."""
    (width, layers), words = _sizes(facts), facts.get("vocab_size")
    if facts.get("kind") in VOCABULARIES:
        rows = model.vocabulary
        return rows is not None and isinstance(words, int) and not 0 <= rows - words < MAX_PADDING
    if WHOSE.get(str(facts.get("kind")), model.is_adapter) is not model.is_adapter:
        return True
    if width is not None and model.hidden_size is None and not model.extents & extent_bit(width):
        return True  # no model is without a norm, a bias or a matrix as wide as it is
    if None in (width, model.hidden_size):
        return isinstance(words, int) and model.vocabulary is not None and words != model.vocabulary
    return width != model.hidden_size or (layers is not None and not has_sizes(model, facts))


def _sizes(facts: Mapping[str, object]) -> tuple[int | None, int | None]:
    return _first_number(facts, HIDDEN_KEYS), _first_number(facts, LAYER_KEYS)


def _first_number(facts: Mapping[str, object], keys: Sequence[str]) -> int | None:
    return next((value for key in keys if isinstance(value := facts.get(key), int) and value > 0), None)


class _Sizes:
    """Models by their sizes. A small file goes to the one model that it fits: two of each kind are enough to see it."""

    def __init__(self, models: Sequence[Outline]) -> None:
        self._models = models
        self._whole: dict[tuple[int, int], dict[int | None, list[int]]] = {}  # by width and layers, by vocabulary
        self._in_part: dict[tuple[int, int | None], list[int]] = {}  # by width and vocabulary, the fewest layers
        for number, model in enumerate(models):
            if model.hidden_size is not None and model.missing_shards:
                alike = self._in_part.setdefault((model.hidden_size, model.vocabulary), [])
                alike[:] = sorted([*alike, number], key=lambda one: (models[one].layers, one))[:2]
            elif model.hidden_size is not None:
                rooms = self._whole.setdefault((model.hidden_size, model.layers), {})
                same = rooms.setdefault(model.vocabulary, [])
                same += [number][: 2 - len(same)]

    def fitting(self, facts: Mapping[str, object]) -> list[int]:
        """Return the models that a configuration fits, two at most."""
        (width, layers), rows = _sizes(facts), _first_number(facts, ("vocab_size",))
        if width is None or layers is None:
            return []
        rooms = self._whole.get((width, layers), {})
        whole = rooms.values() if rows is None else (rooms.get(rows, ()), rooms.get(None, ()))
        alike = chain(*whole, self._in_part.get((width, rows), ()))
        return list(islice((number for number in alike if has_sizes(self._models[number], facts)), 2))


def _by_sizes(models: Sequence[Outline], side_files: Iterable[CarvedFile]) -> Iterator[tuple[int, str]]:
    """Give a configuration or a tokenizer to the one model that it fits."""
    by_sizes = _Sizes(models)
    rows = sorted((model.vocabulary, number) for number, model in enumerate(models) if model.vocabulary is not None)
    for side in side_files:
        fitting: list[int] = []
        kind, words = side.facts.get("kind"), side.facts.get("vocab_size")
        if kind in CONFIGURATIONS:
            fitting = by_sizes.fitting(side.facts)
        elif kind in VOCABULARIES and isinstance(words, int) and words > 0:
            low, high = bisect_left(rows, (words, -1)), bisect_left(rows, (words + min(MAX_PADDING, words), -1))
            fitting = [number for _, number in rows[low : min(high, low + 2)]]
        if len(fitting) == 1:
            yield fitting[0], side.path


def _by_place(
    models: Sequence[Outline],
    side_files: Iterable[CarvedFile],
    known: set[tuple[int, str]],
) -> Iterator[tuple[int, str]]:
    """Give what nothing else tells of to the model that lies nearest to it in the source, of each kind the nearest one.

    Of the few that lie nearest those whose sizes are others are passed over.

    Args:
        models: all.
        side_files: those that nothing else tells of.
        known: (model, kind) that needs none.
    """
    marks: list[tuple[int, int]] = []
    nearest: dict[tuple[int, str], tuple[int, str]] = {}
    for side in side_files if models else ():
        marks = marks or sorted((edge, number) for number, model in enumerate(models) for edge in model.edges)
        if not marks:
            break
        place = side.layout[0].offset_bytes
        at = bisect_left(marks, (place, -1))
        around = sorted((abs(offset - place), number) for offset, number in marks[max(0, at - MARKS) : at + MARKS])
        fitting = (one for one in around if not _contradicts(models[one[1]], side.facts))
        distance, number = next(fitting, (MAX_DISTANCE_BYTES + 1, -1))
        wanted = (number, str(side.facts.get("kind")))
        if distance <= MAX_DISTANCE_BYTES and wanted not in known:
            nearest[wanted] = min(nearest.get(wanted, (distance, side.path)), (distance, side.path))
    yield from ((number, path) for (number, _), (_, path) in nearest.items())
