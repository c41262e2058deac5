"""Shards: which files are pieces of one model, and which pieces are missing.

In this order, a file taken by one is not asked again: an index file that names the tensors of each; the metadata of a
distributed checkpoint; GGUF's own split numbers; numbers in the names inside; and at last layers: files of one format,
family, dtype and width whose tensors have no name in common and whose layers go on from each other. Where two files fit
one place (two versions of a model lie on the source), none is put there: mixed shards would load and be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from carver.identify import checkpoints
from carver.identify.family_table import DECODERS
from carver.identify.hints import INDEX, may_be_called
from carver.identify.parts import Part, tensor_names
from carver.recovery import CarvedFile

NUMBERED = re.compile(r"(?P<stem>.+?)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})")
MAX_COUNT = 4096
MAX_MISSING = 200  # names listed of one model
DECODER_FAMILIES = frozenset(rule.family for rule in DECODERS)
FIRST = re.compile(r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|tok_embeddings|embed_in)\.weight$")
LAST = re.compile(
    r"(?:^|\.)(?:lm_head\.weight|ln_f\.weight|output\.weight|embed_out\.weight)$|^(?:model\.)?norm\.weight$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Files of one model.

    Attributes:
        name: what the files are called but for their numbers; "" when nothing tells.
        parts: in order.
        count: how many there should be; None when nothing tells.
        basis: why they are one model's.
        missing: names of those that are not there, or what they held.
        index: path of the index file that tells so, or None.
    """

    name: str
    parts: tuple[Part, ...]
    count: int | None
    basis: str
    missing: tuple[str, ...]
    index: str | None = None


def named_digests(side_files: Iterable[CarvedFile]) -> frozenset[str]:
    """Return the digests of tensors' names that indices give for their shards."""
    facts = (side.facts for side in side_files if side.format == INDEX)
    return frozenset(shard["names_sha256"] for one in facts for shard in one["shards"])  # type: ignore[attr-defined]


def may_be_shard(part: Part, named: Container[str]) -> bool:
    """Tell whether a part may belong to others; what may not be stays a model by itself and need not be held."""
    by_numbers = isinstance(part.file.facts.get("split_count"), int) or _numbered_name(part) is not None
    in_checkpoint = "checkpoint_files" in part.file.facts
    return by_numbers or in_checkpoint or part.names_sha256 in named or _may_go_on(part)


def alone(part: Part) -> Group:
    """Return a part as a group of its own."""
    return Group(name="", parts=(part,), count=None, basis="", missing=())


def groups(parts: Iterable[Part], side_files: Iterable[CarvedFile]) -> Iterator[Group]:
    """Yield the groups, and then the parts that are in none, each alone.

    Args:
        parts: those that may be shards (`may_be_shard`).
        side_files: of the record.
    """
    left = {part.number: part for part in parts}
    for finder in (_by_index, _by_metadata, _by_split, _by_names, _by_layers):
        for found in finder(tuple(left.values()), side_files):
            yield found
            for part in found.parts:
                left.pop(part.number, None)
    yield from map(alone, left.values())


def _by_index(parts: Sequence[Part], side_files: Iterable[CarvedFile]) -> Iterator[Group]:
    fitting: dict[str, list[Part]] = {}
    for part in parts:
        fitting.setdefault(part.names_sha256, []).append(part)
    seen: set[tuple[tuple[str, str], ...]] = set()
    for side in side_files:
        if side.format != INDEX:
            continue
        shards = tuple((shard["name"], shard["names_sha256"]) for shard in side.facts["shards"])  # type: ignore[attr-defined]
        if shards not in seen:
            seen.add(shards)
            yield from _of_index(side, shards, fitting)


def _of_index(
    side: CarvedFile, shards: Sequence[tuple[str, str]], fitting: Mapping[str, list[Part]]
) -> Iterator[Group]:
    fit = {
        name: [part for part in fitting.get(digest, ()) if may_be_called(name, part.file.format)]
        for name, digest in shards
    }
    held = {parts[0].file.path: parts[0] for parts in fit.values() if len(parts) == 1}
    missing = (_missing_word(name, len(parts)) for name, parts in fit.items())
    if held:
        yield Group(
            name=str(side.facts.get("name", "")).partition(".")[0],
            parts=tuple(held.values()),
            count=len(shards),
            basis="index file",
            missing=bounded(missing),
            index=side.path,
        )


def _missing_word(name: str, fitting: int) -> str:
    return "" if fitting == 1 else name if fitting == 0 else f"{name} (which of {fitting} files cannot be told)"


def bounded(words: Iterable[str]) -> tuple[str, ...]:
    """Return the words that say something, the first of them only where a file claims that thousands are missing."""
    said = [word for word in words if word]
    more = (f"… and {len(said) - MAX_MISSING:,} more",) if len(said) > MAX_MISSING else ()
    return (*said[:MAX_MISSING], *more)


def _by_metadata(parts: Sequence[Part], side_files: Iterable[CarvedFile]) -> Iterator[Group]:
    """Distributed checkpoints: what fits the metadata of two (of two steps, mostly) is in neither."""
    ours = [part for part in parts if "checkpoint_files" in part.file.facts]
    seen: set[tuple[tuple[str, int], ...]] = set()
    for side in side_files if ours else ():
        if side.format != checkpoints.METADATA:
            continue
        told = checkpoints.slots(side.facts)
        files = tuple((name, slot.size_bytes) for slot in told for name in slot.names)
        checkpoints.fill(told, side.layout[0].offset_bytes, ((part, part.file.facts) for part in ours))
        held = sorted((part for slot in told for part in slot.held), key=lambda part: part.number)
        if held and files not in seen:
            seen.add(files)
            yield Group(
                name=str(side.facts.get("name", "")),
                parts=tuple(held),
                count=len(files),
                basis=checkpoints.BASIS,
                missing=bounded(word for slot in told for word in slot.missing()),
                index=side.path,
            )


def _by_split(parts: Sequence[Part], side_files: Iterable[CarvedFile]) -> Iterator[Group]:
    """GGUF: only the first part has the model's name; the tensors of all must come to the number that each tells."""
    families: dict[tuple[int, object], list[tuple[int, Part]]] = {}
    for part in parts:
        count, number = part.file.facts.get("split_count"), part.file.facts.get("split_number")
        if isinstance(count, int) and isinstance(number, int) and count <= MAX_COUNT:
            families.setdefault((count, part.file.facts.get("split_tensors")), []).append((number, part))
    for (count, _), numbered in families.items():
        named = (str(part.file.facts["name"]) for _, part in sorted(numbered, key=_number) if "name" in part.file.facts)
        stem = next((met["stem"] for name in named if (met := NUMBERED.fullmatch(name))), "")
        yield from _numbered(stem, count, numbered, "split numbers", ".gguf")


def _by_names(parts: Sequence[Part], side_files: Iterable[CarvedFile]) -> Iterator[Group]:
    families: dict[tuple[str, int, str, str], list[tuple[int, Part]]] = {}
    for part in parts:
        met = _numbered_name(part)
        if met is not None:
            suffix = "".join(re.findall(r"\.[A-Za-z0-9]+$", part.file.path))
            key = (met["stem"], int(met["count"]), part.file.format, suffix)
            families.setdefault(key, []).append((int(met["number"]), part))
    for (stem, count, _, suffix), numbered in families.items():
        yield from _numbered(stem, count, numbered, "numbered names", suffix)


def _numbered_name(part: Part) -> re.Match[str] | None:
    met = NUMBERED.fullmatch(str(part.file.facts.get("name", "")))
    return met if met and 0 < int(met["number"]) <= int(met["count"]) <= MAX_COUNT else None


def _number(pair: tuple[int, Part]) -> int:
    return pair[0]


def _numbered(stem: str, count: int, numbered: Sequence[tuple[int, Part]], basis: str, suffix: str) -> Iterator[Group]:
    slots: dict[int, list[Part]] = {}
    for number, part in numbered:
        slots.setdefault(number, []).append(part)
    held = [slots[number][0] for number in sorted(slots) if len(slots[number]) == 1]
    names = ((f"{stem or 'part'}-{number:05d}-of-{count:05d}{suffix}", number) for number in range(1, count + 1))
    missing = (_missing_word(name, len(slots.get(number, ()))) for name, number in names)
    if held:
        yield Group(name=stem, parts=tuple(held), count=count, basis=basis, missing=bounded(missing))


def _by_layers(parts: Sequence[Part], side_files: Iterable[CarvedFile]) -> Iterator[Group]:
    families: dict[tuple[object, ...], list[Part]] = {}
    for part in parts:
        anatomy = part.anatomy
        if _may_go_on(part):
            key = (part.file.format, anatomy.family, part.width, max(anatomy.dtypes, key=lambda d: anatomy.dtypes[d]))
            families.setdefault(key, []).append(part)
    for together in families.values():
        together.sort(key=lambda part: part.anatomy.layers)
        if len(together) > 1 and len(tensor_names(together)) == sum(part.tensor_count for part in together):
            yield Group(
                name="", parts=tuple(together), count=None, basis="layers", missing=bounded(_missing_layers(together))
            )


def _may_go_on(part: Part) -> bool:
    """Tell whether a part holds some layers of a model whose files go on from each other."""
    return part.anatomy.family in DECODER_FAMILIES and bool(part.anatomy.layers) and not _whole(part)


def _whole(part: Part) -> bool:
    names = [tensor.name for tensor in part.tensors()]
    return any(map(FIRST.search, names)) and any(map(LAST.search, names)) and not list(_gaps(part.anatomy.layers))


def _missing_layers(parts: Sequence[Part]) -> Iterator[str]:
    names = tensor_names(parts)
    if not any(map(FIRST.search, names)):
        yield "the token embedding"
    for first, last in _gaps(tuple(sorted({layer for part in parts for layer in part.anatomy.layers}))):
        yield f"layer {first}" if first == last else f"layers {first} to {last}"
    if not any(map(LAST.search, names)):
        yield "what follows the last layer found"


def _gaps(layers: Sequence[int]) -> Iterator[tuple[int, int]]:
    expected = 0
    for layer in layers:
        if layer > expected:
            yield expected, layer - 1
        expected = layer + 1
