"""Loose objects: torch zips right behind each other, objects of a distributed checkpoint's file that is cut.

Alone, each is a tensor without a name. A metadata tells the name by the lengths of all of them; without one it is the
place where the first lies, and the object's number from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from carver.identify.checkpoints import BASIS, DATA, LONE, SUFFIX, Files
from signatures.verdict import Verdict

PLACE: Final = "place among the objects"
SECTOR_BYTES: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Zip:
    """A torch zip on the image.

    Attributes:
        size_bytes: its length, also if not all of it is there.
    """

    start_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Loose:
    """What an object that stands for itself is called.

    Attributes:
        number: of the object in its file.
        stem: of the file that it is written to.
        tensor: the name of its tensor, if it holds just one.
        source: what tells the names.
    """

    number: int
    stem: str
    tensor: str
    source: str


def loose_objects(zips: Iterable[Zip], files: Files) -> dict[int, Loose]:
    """Return what the objects among some torch zips are called, by where they begin.

    Args:
        zips: in the order of the image.
        files: what is known of checkpoints.
    """
    named: dict[int, Loose] = {}
    for run in _runs(zips):
        told = list(_told(run, files))
        for part in [run] if told else _at_edges(run):
            if len(part) > 1:
                names = told or _counted(part)
                named |= {one.start_bytes: name for one, name in zip(part, names, strict=False)}
    return named


def _runs(zips: Iterable[Zip]) -> Iterator[list[Zip]]:
    """Yield those that follow each other, where they are several."""
    run: list[Zip] = []
    for one in zips:
        if run and one.start_bytes != run[-1].start_bytes + run[-1].size_bytes:
            if len(run) > 1:
                yield run
            run = []
        run.append(one)
    if len(run) > 1:
        yield run


def _at_edges(run: Iterable[Zip]) -> list[list[Zip]]:
    """Return the parts of a run, which begin on a sector's edge: a file may begin there."""
    parts: list[list[Zip]] = [[]]
    for one in run:
        if one.start_bytes % SECTOR_BYTES == 0:
            parts.append([])
        parts[-1].append(one)
    return parts


def _told(run: Sequence[Zip], files: Files) -> Iterator[Loose]:
    """Yield the names that a metadata tells; none where it tells of no such file, or of several with other objects."""
    lengths = tuple(one.size_bytes for one in run)
    told, first, _ = files.place(lengths)
    if not told:
        told, first, _ = files.place(lengths[:-1])  # the last one may be cut where its length was not told any more
    names = sorted({entry.name for entry in told})
    head = f"{names[0].removesuffix(SUFFIX)}-" if len(names) == 1 else ""
    holds = {entry.holds for entry in told}
    for number, held in enumerate(holds.pop() if len(holds) == 1 else ()):
        if number >= first:
            yield Loose(number=number, stem=f"{head}{held}", tensor=held, source=BASIS)


def _counted(part: Sequence[Zip]) -> Iterator[Loose]:
    for number in range(len(part)):
        stem = f"{DATA}-{part[0].start_bytes:#x}-object-{number}"
        yield Loose(number=number, stem=stem, tensor=str(number), source=PLACE)


def with_place(verdict: Verdict, loose: Loose | None) -> Verdict:
    """Return the verdict on a torch zip with the name that it has as an object, unless it tells a name itself."""
    if loose is None or "name" in verdict.facts:
        return verdict
    return replace(
        verdict,
        facts={**verdict.facts, "object": loose.number, "name": loose.stem, "name_source": loose.source},
        tensors=tuple(replace(one, name=loose.tensor) if one.name == LONE else one for one in verdict.tensors),
    )
