"""Checkpoints: what the `.metadata` of a distributed checkpoint tells of its `.distcp` files, which name nothing.

A file is known by the lengths of its objects, in order. Ranks that share every tensor evenly write files of the same
lengths: then what they hold is known, and not which is which. A file that ends early, or was overwritten at its start,
is known by those it has, where these fit one place alone.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from carver.identify.lost_objects import unfolded
from carver.recovery import CarvedFile
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade, Verdict

METADATA: Final = "torch_distributed_metadata"
DATA: Final = "torch_distributed"
LOOSE: Final = "pytorch_zip"
SUFFIX: Final = ".distcp"
BASIS: Final = "checkpoint metadata"
LONE: Final = "tensor"  # how a torch zip of nothing but a tensor calls it
OBJECT: Final = re.compile(r"object (\d+)")
OBJECTS: Final = re.compile(r"object \d+( to object \d+)?")  # as the format's findings begin
MIN_PIECE_OBJECTS: Final = 3
MAX_NAMES_LISTED: Final = 8

Lengths: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file of a checkpoint, as its metadata tells.

    Attributes:
        name: e.g. "__0_0.distcp".
        holds: the names of its objects, in order.
        metadata_start_bytes: where that metadata begins in the image.
    """

    name: str
    holds: tuple[str, ...]
    metadata_start_bytes: int


@dataclass(slots=True)
class Files:
    """The files of all checkpoints whose metadata were found, by the lengths of their objects."""

    by_lengths: dict[Lengths, list[Entry]] = field(default_factory=dict)

    def add(self, facts: Mapping[str, Any], start_bytes: int) -> None:
        """Take what one metadata tells."""
        for file in facts.get("files", ()):
            if "holds" in file:
                entry = Entry(name=file["name"], holds=tuple(file["holds"]), metadata_start_bytes=start_bytes)
                self.by_lengths.setdefault(tuple(file["object_bytes"]), []).append(entry)

    def place(self, lengths: Lengths) -> tuple[list[Entry], int, bool]:
        """Return (the files that some objects are, the first object's number there, whether they are all of it)."""
        whole = self.by_lengths.get(lengths)
        if whole is not None or len(lengths) < MIN_PIECE_OBJECTS:
            return whole or [], 0, True
        places = [(told, at) for known, told in self.by_lengths.items() for at in _found(lengths, known)]
        return (*places[0], False) if len(places) == 1 else ([], 0, False)


def _found(piece: Lengths, whole: Lengths) -> Iterator[int]:
    """Yield where a piece lies in a longer list."""
    last, at = len(whole) - len(piece), -1
    while at < last:
        try:
            at = whole.index(piece[0], at + 1, last + 1)
        except ValueError:
            return
        if whole[at : at + len(piece)] == piece:
            yield at


def object_lengths(tensors: Sequence[Tensor], size_bytes: int, facts: Mapping[str, Any]) -> Lengths:
    """Return the lengths of a file's whole objects; a torch zip of one tensor may be a file of one object."""
    if "object_bytes" in facts:
        return tuple(facts["object_bytes"])
    nameless = "name" not in facts and [tensor.name for tensor in tensors] == [LONE]
    return (size_bytes,) if nameless else ()


def with_names(verdict: Verdict, files: Files) -> Verdict:
    """Return the verdict on a file with its own name and its tensors', where a checkpoint's metadata tells them."""
    verdict = unfolded(verdict, files.by_lengths) if files.by_lengths else verdict
    lengths = object_lengths(verdict.tensors, verdict.size_bytes, verdict.facts) if files.by_lengths else ()
    told, first, whole = files.place(lengths) if lengths else ([], 0, True)
    if not told:
        return verdict
    names = sorted({one.name for one in told})
    held = {one.holds for one in told}
    starts = sorted({one.metadata_start_bytes for one in told})
    facts = {**verdict.facts, "checkpoint_files": names, "checkpoint_metadata_starts": starts, "first_object": first}
    if len(names) == 1 and first == 0:
        facts |= {"name": names[0].removesuffix(SUFFIX), "name_source": BASIS, "suffix": SUFFIX}
    (holds,) = held if len(held) == 1 else ((),)
    findings = tuple(_telling(finding, holds[first:]) for finding in verdict.findings)
    return replace(
        verdict,
        facts=facts,
        tensors=tuple(_renamed(tensor, holds[first:]) for tensor in verdict.tensors),
        findings=findings if whole else (*findings, _piece(names, first, len(lengths), told[0])),
    )


def _telling(finding: Finding, holds: Sequence[str]) -> Finding:
    """Return a finding about an object, or about its tensor, with the name that it has."""
    which, colon, rest = finding.detail.partition(":")
    if not colon:
        return finding
    if OBJECTS.fullmatch(which):
        known = len(holds)
        named = OBJECT.sub(lambda one: f"{one[0]} ({holds[int(one[1])]})" if int(one[1]) < known else one[0], which)
    else:
        named = _name_of(which, holds)
    return replace(finding, detail=f"{named}{colon}{rest}")


def _name_of(numbered: str, holds: Sequence[str]) -> str:
    """Return the name of a tensor that is named by its object's number."""
    number, dot, rest = numbered.partition(".")
    known = number.isdecimal() and int(number) < len(holds)
    return f"{holds[int(number)]}{dot}{rest}" if known else numbered


def _renamed(tensor: Tensor, holds: Sequence[str]) -> Tensor:
    return replace(tensor, name=_name_of("0" if tensor.name == LONE else tensor.name, holds))


def _piece(names: Sequence[str], first: int, count: int, told: Entry) -> Finding:
    return Finding(
        code="part-of-checkpoint-file",
        detail=f"the metadata of a checkpoint (at {told.metadata_start_bytes:#x}) tells of {listed(names)} with "
        f"{len(told.holds)} objects; this holds number {first} to {first + count - 1} of these, by their lengths",
    )


def listed(names: Sequence[str]) -> str:
    """Return the names of files of which one or some are meant."""
    more = f" and {len(names) - MAX_NAMES_LISTED:,} more" if len(names) > MAX_NAMES_LISTED else ""
    return " or ".join(names) if len(names) < 3 else ", ".join(names[:MAX_NAMES_LISTED]) + more


@dataclass(slots=True)
class Slot:
    """Files of one checkpoint that nothing tells apart: mostly a single one.

    Attributes:
        names: what the metadata calls them.
        size_bytes: of each.
        found: the recovered files that fit, by number or path.
    """

    names: list[str]
    size_bytes: int
    found: list[Any] = field(default_factory=list)

    @property
    def held(self) -> list[Any]:
        """Those that are this checkpoint's for certain: none where more fit than it has."""
        return self.found if len(self.found) <= len(self.names) else []

    def missing(self) -> Iterator[str]:
        """Yield what is not there, in words that name it as far as it can be told."""
        if not self.found:
            yield from self.names
        elif len(self.found) > len(self.names):
            yield from (f"{name} (which of {len(self.found)} files cannot be told)" for name in self.names)
        elif len(self.found) < len(self.names):
            yield f"{len(self.names) - len(self.found)} of {listed(self.names)} (which cannot be told)"


def slots(facts: Mapping[str, Any]) -> list[Slot]:
    """Return the files that a metadata tells of, those of the same lengths together."""
    alike: dict[object, Slot] = {}
    for file in facts.get("files", ()):
        key = tuple(file["object_bytes"]) if "holds" in file else file["name"]
        alike.setdefault(key, Slot([], file["size_bytes"])).names.append(file["name"])
    return list(alike.values())


def fill(told: Sequence[Slot], start_bytes: int, files: Iterable[tuple[Any, Mapping[str, Any]]]) -> None:
    """Put the files, given with their facts, where they belong in the checkpoint whose metadata begins there."""
    by_name = {name: slot for slot in told for name in slot.names}
    for one, facts in files:
        names = facts.get("checkpoint_files", ())
        if start_bytes in facts.get("checkpoint_metadata_starts", ()) and facts["first_object"] == 0:
            slot = next((by_name[name] for name in names if name in by_name), None)
            if slot is not None:
                slot.found.append(one)


@dataclass(slots=True)
class Run:
    """Torch zips that lie one behind the other: objects of a `.distcp` that is not whole, recovered each by itself.

    Attributes:
        path: the first one's.
        lengths: of each, in bytes.
        end_bytes: where the last one ends in the image.
    """

    path: str
    lengths: list[int]
    end_bytes: int


def loose_runs(files: Iterable[CarvedFile]) -> list[Run]:
    """Return the runs of several, of files in the order of the image."""
    runs: list[Run] = []
    for file in files:
        if file.format != LOOSE or file.grade is Grade.TRUNCATED or len(file.layout) != 1:
            continue
        if runs and file.layout[0].offset_bytes == runs[-1].end_bytes:
            runs[-1].lengths.append(file.size_bytes)
            runs[-1].end_bytes = file.layout[0].end_bytes
        else:
            if runs and len(runs[-1].lengths) == 1:  # alone: no run, and not kept
                runs.pop()
            runs.append(Run(file.path, [file.size_bytes], file.layout[0].end_bytes))
    return [run for run in runs if len(run.lengths) > 1]


def in_pieces(names: Container[str], facts: Mapping[str, Any], runs: Iterable[Run]) -> str:
    """Return what is there of a file of these names, as files of its objects, in half a sentence; "" for nothing."""
    known = Files()
    known.add(facts, 0)
    said = []
    for run in runs:
        told, first, _ = known.place(tuple(run.lengths))
        if any(entry.name in names for entry in told):
            last = first + len(run.lengths) - 1
            said.append(f"its objects {first} to {last} are there as files of their own, the first {run.path}")
    return "; ".join(said[:MAX_NAMES_LISTED])
