"""Candidates: hits become supposed files. What is dropped here costs nothing later; what is told twice, a judgement.

Hits are taken in the order of the scan, hundreds of millions of them, and nothing is kept but the candidates of the
last stretch (several patterns of one file lie close together) and the names of recent ones. What comes out depends on
the hits and their order alone, not on how they are cut into arrays.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np

from carver.automaton import PatternTable
from carver.scan import Hits
from imaging.errors import BudgetExceeded, ReadFault
from imaging.extent import Layout, span
from imaging.source import Source
from signatures.format import Format, Pattern, SectorProbe

log = logging.getLogger(__name__)

MERGE_BYTES = 1 << 20  # a candidate waits this long for more hits of its own
MAX_WAITING = 1 << 14
MAX_HITS_KEPT = 16  # a candidate
MAX_RECENT = 1 << 16  # a zip's tail names the start that its head named long ago
MAX_STARTS = 256  # a hit
BATCH_HITS = 1 << 14  # made Python numbers at a time

Start: TypeAlias = tuple[int, str]  # offset, format
Told: TypeAlias = Start | tuple[Layout, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A supposed file.

    Attributes:
        format: its name.
        layout: where its bytes lie; from its start to the end of the source, until a validator knows better.
        hits: (offset, pattern name) that speak for it, ascending, the first few.
    """

    format: str
    layout: Layout
    hits: tuple[tuple[int, str], ...]

    @property
    def start_bytes(self) -> int:
        """Where the file starts in the source."""
        return self.layout[0].offset_bytes


def candidates(
    source: Source, hits: Iterable[Hits], table: PatternTable, formats: Mapping[str, Format]
) -> Iterator[Candidate]:
    """Yield a candidate for each supposed start of a file, in the order of their first hits.

    Hits for the same start are merged, if they follow within 1 MiB; later ones are dropped as long as the start is
    among the 65,536 seen last. After that the same candidate can be told again.

    Args:
        source: asked by `Format.starts` for a few bytes around a hit.
        hits: arrays of `carver.scan.HIT_DTYPE`, ascending.
        table: what pattern numbers mean.
        formats: by name; hits of others are dropped.
    """
    waiting: OrderedDict[Start, list[tuple[int, str]]] = OrderedDict()
    recent: OrderedDict[Told, None] = OrderedDict()
    for offset_bytes, number in _possible(hits, table, formats):
        while waiting and _ripe(waiting, offset_bytes):
            start, known = waiting.popitem(last=False)
            _remember(recent, start)
            yield _candidate(source, start, known)
        name, entry = table[number]
        for layout in _layouts(source, offset_bytes, entry, formats[name]):
            if (layout, name) not in recent:  # two of them may begin at one place and differ in length
                _remember(recent, (layout, name))
                yield Candidate(format=name, layout=layout, hits=((offset_bytes, entry.name),))
        for start_bytes in _starts(source, offset_bytes, entry, formats[name]):
            start = (start_bytes, name)
            if start in recent:
                recent.move_to_end(start)
                continue
            known = waiting.setdefault(start, [])
            if len(known) < MAX_HITS_KEPT:
                known.append((offset_bytes, entry.name))
    for start, known in waiting.items():
        yield _candidate(source, start, known)


def _possible(hits: Iterable[Hits], table: PatternTable, formats: Mapping[str, Format]) -> Iterator[tuple[int, int]]:
    """Yield (place of the constant, number) of each hit, but for anchors, and what the place alone rules out."""
    wanted = np.array([name in formats and not _is_anchor(entry) for name, entry in table], dtype=bool)
    befores = np.array([len(e.before) if isinstance(e, Pattern) else 0 for _, e in table], dtype=np.int64)
    # a format with `starts` computes its own, and a probe starts where it holds: nothing to rule out here
    plain = [(e if isinstance(e, Pattern) and n in formats and formats[n].starts is None else None) for n, e in table]
    offsets = np.array([0 if entry is None else entry.offset_bytes for entry in plain], dtype=np.int64)
    alignments = np.array([1 if entry is None else entry.alignment_bytes for entry in plain], dtype=np.int64)
    for array in hits:
        for first in range(0, len(array), BATCH_HITS):
            numbers = array["pattern"][first : first + BATCH_HITS]
            places = array["offset_bytes"][first : first + BATCH_HITS] + befores[numbers]
            starts = places - offsets[numbers]
            kept = wanted[numbers] & (starts >= 0) & (starts % alignments[numbers] == 0)
            yield from zip(places[kept].tolist(), numbers[kept].tolist(), strict=True)


def _is_anchor(entry: Pattern | SectorProbe) -> bool:
    return isinstance(entry, Pattern) and entry.anchor


def _ripe(waiting: OrderedDict[Start, list[tuple[int, str]]], offset_bytes: int) -> bool:
    """Tell whether the oldest has waited long enough, or too many wait."""
    oldest = next(iter(waiting.values()))
    return oldest[0][0] + MERGE_BYTES < offset_bytes or len(waiting) > MAX_WAITING


def _remember(recent: OrderedDict[Told, None], told: Told) -> None:
    recent[told] = None
    if len(recent) > MAX_RECENT:
        recent.popitem(last=False)


def _candidate(source: Source, start: Start, known: list[tuple[int, str]]) -> Candidate:
    start_bytes, name = start
    return Candidate(format=name, layout=(span(start_bytes, source.size_bytes),), hits=tuple(sorted(known)))


def _layouts(source: Source, offset_bytes: int, entry: Pattern | SectorProbe, declared: Format) -> list[Layout]:
    """Return the windows of files that one hit in another file tells of."""
    if declared.layouts is None or isinstance(entry, SectorProbe):
        return []
    try:
        return list(islice(declared.layouts(source, offset_bytes, entry), MAX_STARTS))
    except (BudgetExceeded, ReadFault) as fault:
        log.warning("%s: hit %s at %#x dropped: %s", declared.name, entry.name, offset_bytes, fault)
        return []


def _starts(source: Source, offset_bytes: int, entry: Pattern | SectorProbe, declared: Format) -> list[int]:
    """Return where a file can start, by one hit: inside the source, and aligned as the pattern wants."""
    if isinstance(entry, SectorProbe):
        return [offset_bytes]
    if declared.layouts is not None:
        return []
    found = [offset_bytes - entry.offset_bytes]
    if declared.starts is not None:
        try:
            found = list(islice(declared.starts(source, offset_bytes, entry), MAX_STARTS))
        except (BudgetExceeded, ReadFault) as fault:
            log.warning("%s: hit %s at %#x dropped: %s", declared.name, entry.name, offset_bytes, fault)
            return []
    return [s for s in found if 0 <= s < source.size_bytes and s % entry.alignment_bytes == 0]
