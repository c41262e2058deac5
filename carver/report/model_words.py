"""Model words: what the reports and the terminal say of models, in plain sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import nsmallest

from carver.identify.configured import BY_SIZES_ALONE, agrees
from carver.identify.family_table import REFINED
from carver.recovery import Model
from carver.report.wording import plural

LISTED = 4  # paths in a sentence
GOOD_ROOM = "files/"  # where files of a good grade are, and no others
FAMILY_SOURCES = {
    "tensor names": "by its tensors' names",
    "general.architecture": "as the file itself says",
    "config.json": "by its tensors' names and a config.json of the same sizes",
    "config.json alone": "by a config.json of the same sizes only",
    "name": "by its own name only",
    "description": "by its own description only",
}
BASES = {
    "index file": "as an index file names them",
    "checkpoint metadata": "as the metadata of a distributed checkpoint tells of them",
    "split numbers": "by the numbers inside the files",
    "numbered names": "by the numbers in their own names",
    "layers": "by layers that go on from each other: a guess",
}
CONFIGURATIONS = {
    "sizes": "a config.json of the same sizes",
    "place": "a config.json that lies next to it (a guess)",
}
WHY = {
    "names": "names its shards",
    "data": "holds its weights, as the model tells",
    "sizes": "tells its sizes",
    "place": "lies next to it: a guess",
}


def human_count(number: int) -> str:
    """Return "22.7 M"; never rounded up into a unit that it does not reach."""
    if number < 1000:
        return str(number)
    exponent = min((len(str(number)) - 1) // 3, 4)
    tenths = number * 10 // 1000**exponent
    return f"{tenths // 10:,}.{tenths % 10} {'KMBT'[exponent - 1]}"


def family(model: Model) -> str:
    """Return the family, or that it is not known."""
    return model.family or "family unknown"


def parameters(model: Model) -> str:
    """Return e.g. "22.7 M parameters"."""
    if not model.parameters:
        return "parameters not counted: constants of a graph's nodes"
    more = "more than " if model.uncounted else ""
    return f"{more}{human_count(model.parameters)} parameters"


def described(model: Model) -> str:
    """Return a model in half a line: family, parameters, layers, types."""
    words = [family(model), parameters(model)]
    if model.layers:
        words.append(plural(model.layers, "layer", "layers"))
    if model.dtypes:
        words.append(max(model.dtypes, key=lambda dtype: model.dtypes[dtype]))
    if model.step is not None:
        words.append(f"step {model.step:,}")
    return ", ".join(words)


def notes(model: Model) -> list[str]:
    """Return what a person should know before loading it, most urgent first."""
    said = []
    if model.missing_shards:
        said.append(f"not there: {_listed(model.missing_shards)}")
    said += _configured(model)
    if model.shards is not None and not model.missing_shards:
        hit = sum(not path.startswith(GOOD_ROOM) for path in model.files)
        said.append(f"all {model.shards} files are there{f', {hit:,} of them not whole' if hit else ''}")
    if model.shard_basis:
        said.append(f"put together {BASES.get(model.shard_basis, model.shard_basis)}")
    whole = [path for path in model.versions if path.startswith(GOOD_ROOM)]
    if whole and not model.grade.good:
        said.append(f"what is damaged in it may be taken from a version that is whole: {_listed(whole)}")
    if model.versions:
        order = ", by training step" if model.step is not None else "; which is newer cannot be told"
        said.append(f"the same tensors with other values: {_listed(model.versions)}{order}")
    if model.same_content:
        said.append(f"the same bytes again: {_listed(model.same_content)}")
    return said


def _configured(model: Model) -> list[str]:
    """Return what a configuration says beside, or against, the family that is told."""
    if not model.configured:
        return []
    source = CONFIGURATIONS.get(model.configured_why, "a config.json")
    if agrees(model) and model.family_source != BY_SIZES_ALONE:
        return [f"{source} agrees: {model.configured}"]
    by_it_alone = not model.family or model.family_source == BY_SIZES_ALONE
    if by_it_alone or model.family in REFINED:  # names that many families share
        return [f"{source} says {model.configured}"]
    return [f"{source} says otherwise: {model.configured}"]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def families_sentence(models: Iterable[Model]) -> str:
    """Return how many models of which families there are, those without their weights apart; "" without any."""
    families: Counter[str] = Counter()
    lacking = 0
    for model in models:
        if model.weights_missing:
            lacking += 1
        else:
            families[model.family] += 1
    holding = families.total()
    said = [_holding(families)] if holding else []
    if lacking:
        who = f"{lacking:,} more" if holding else plural(lacking, "model", "models")
        verb = "lacks its weights" if lacking == 1 else "lack their weights"
        said.append(f"{who} {verb}: they lie in files that were not found.")
    return " ".join(said)


def _holding(families: Counter[str]) -> str:
    """Return how many models hold weights, and of which families they are."""
    count, unknown = families.total(), families[""]
    known = sorted(((name, number) for name, number in families.items() if name), key=lambda pair: (-pair[1], pair[0]))
    words = [f"{number:,} {name}" for name, number in known]
    shown = words[:8] + ([f"{len(words) - 8} more families"] if len(words) > 8 else [])
    shown += [f"{unknown:,} of a family that is not known"] if unknown else []
    verb = "holds weights" if count == 1 else "hold weights"
    told = f": {', '.join(shown)}" if known else ""
    return f"{plural(count, 'model', 'models')} {verb}{told}."


def telling(models: Iterable[Model], count: int) -> list[Model]:
    """Return the first models in the order a reader wants: known families and shards first, then by size."""
    return nsmallest(count, models, key=lambda model: (not is_known(model), -model.parameters))


def is_known(model: Model) -> bool:
    """Tell whether anything but its size can be said of a model."""
    return bool(model.family or model.shard_basis or model.configured)
