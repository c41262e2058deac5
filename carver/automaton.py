"""Automaton: every format's patterns as one Aho-Corasick automaton, in tables that a kernel can walk.

pyahocorasick builds the automaton; this room copies it into dense arrays, and does the same for the sector probes.
`carver.fingerprints` chooses what the prefilter looks for; `carver.kernels` tells how all is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import ahocorasick
import numpy as np
import numpy.typing as npt

from carver.fingerprints import FINGERPRINT_BYTES, Fingerprints, choose
from signatures.format import Format, Pattern, SectorProbe

PatternTable: TypeAlias = tuple[tuple[str, Pattern | SectorProbe], ...]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Flags: TypeAlias = npt.NDArray[np.bool_]
Masks: TypeAlias = npt.NDArray[np.uint64]
States: TypeAlias = npt.NDArray[np.int32]
Numbers: TypeAlias = npt.NDArray[np.int64]

PROBE_STEP_BYTES = 512  # the smallest sector in use: 4,096-byte sectors start at multiples of it too
PATTERN_BITS = 16  # of a hit, for its pattern's number
MAX_PATTERNS = 1 << PATTERN_BITS
RESUME_FIELDS = 3  # a kernel's place: block, place in it, sector; -1 first when it is done
MAX_PROBES = 63
AFTER_THE_END = 256  # stands for a byte behind the end of the data


@dataclass(frozen=True, slots=True, kw_only=True)
class Automaton:
    """The patterns of all formats, ready to scan with.

    Attributes:
        table: (format name, pattern or probe), indexed by a hit's pattern number.
        lengths: bytes that pattern number i spans, with what is asked around it, int64, shape (patterns,).
        ends: bytes from there to the end of the constant, int64, shape (patterns,).
        asked_first: around pattern number i the bytes `asked_first[i]:asked_first[i + 1]` of the next two are asked,
            int64, shape (patterns + 1,).
        asked_places: how far from the hit they lie, int64.
        asked_allowed: which values they may have, and not `AFTER_THE_END`; bool, shape (asked, 257).
        next_states: the state after a byte, int32, shape (states, 256); state 0 is the root.
        depths: how many bytes of a pattern's beginning a state stands for, int32, shape (states,).
        out_first: state s ends the patterns `out_numbers[out_first[s]:out_first[s + 1]]`, int64, shape (states + 1,).
        out_numbers: pattern numbers, int64.
        keys: the byte strings of all patterns.
        probe_numbers: pattern numbers of the probes, int64, shape (probes,).
        probe_masks: which probes (bits) allow a value at a place; a probe allows all at places it has not, and only
            there `AFTER_THE_END`; uint64, shape (places, 257).
        probe_order: all places, those first that rule out most, int64, shape (places,).
    """

    table: PatternTable
    lengths: Numbers
    ends: Numbers
    asked_first: Numbers
    asked_places: Numbers
    asked_allowed: Flags
    next_states: States
    depths: States
    out_first: Numbers
    out_numbers: Numbers
    keys: tuple[bytes, ...]
    probe_numbers: Numbers
    probe_masks: Masks
    probe_order: Numbers

    @property
    def digest(self) -> str:
        """What hits depend on, of all that is declared."""
        return hashlib.sha256(repr(self.table).encode()).hexdigest()[:16]

    @property
    def fingerprints(self) -> Fingerprints:
        """What the prefilter looks for; chosen when first asked for, as only a scan needs it."""
        return choose(self.keys)

    @property
    def tails(self) -> Numbers:
        """How many bytes each pattern has from its fingerprint on; 0 for a probe; int64."""
        behind = {key: len(key) - place for key, place in zip(self.keys, self.fingerprints.places, strict=True)}
        sizes = [behind[entry.bytes] if isinstance(entry, Pattern) else 0 for _, entry in self.table]
        return np.array(sizes, dtype=np.int64)

    @property
    def reach_bytes(self) -> int:
        """How far a hit can run on after the byte it starts at."""
        return max(int(self.lengths.max(initial=1)) - 1, 0)

    @property
    def matches_zeros(self) -> bool:
        """Whether a run of zeros alone can hold a hit, so that holes must be scanned too."""
        patterns = (entry for _, entry in self.table if isinstance(entry, Pattern))
        probes = (entry for _, entry in self.table if isinstance(entry, SectorProbe))
        return any(not any(p.bytes) for p in patterns) or any(all(0 in s for s in p.allowed) for p in probes)


def build(formats: Iterable[Format]) -> Automaton:
    """Build the automaton of all patterns and probes of `formats`.

    Numbers follow the order of format names, then pattern names, so that they do not depend on the order given.

    Raises:
        ValueError: a format declares a pattern under 4 bytes or an empty probe; or there are more than 65,536 of all,
            or 63 probes.
    """
    return _built(_number(formats))


@lru_cache(maxsize=8)  # each stage asks for it anew
def _built(table: PatternTable) -> Automaton:
    by_bytes: dict[bytes, list[int]] = {}
    for number, (_, entry) in enumerate(table):
        if isinstance(entry, Pattern):
            by_bytes.setdefault(entry.bytes, []).append(number)
    next_states, depths, out_first, out_numbers = _flatten(by_bytes)
    asked_first, asked_places, asked_allowed = _asked(table)
    probe_numbers, probe_masks = _probe_tables(table)
    return Automaton(
        table=table,
        lengths=np.array([_size_bytes(entry) for _, entry in table], dtype=np.int64),
        ends=np.array([_end_bytes(entry) for _, entry in table], dtype=np.int64),
        asked_first=asked_first,
        asked_places=asked_places,
        asked_allowed=asked_allowed,
        next_states=next_states,
        depths=depths,
        out_first=out_first,
        out_numbers=out_numbers,
        keys=tuple(by_bytes),
        probe_numbers=probe_numbers,
        probe_masks=probe_masks,
        probe_order=_telling_order(probe_masks, len(probe_numbers)),
    )


def _number(formats: Iterable[Format]) -> PatternTable:
    table: list[tuple[str, Pattern | SectorProbe]] = []
    for declared in sorted(formats, key=lambda f: f.name):
        entries: list[Pattern | SectorProbe] = [*declared.patterns, *declared.probes]
        table += [(declared.name, entry) for entry in sorted(entries, key=lambda e: e.name)]
    for name, entry in table:
        if len(entry.bytes) < FINGERPRINT_BYTES if isinstance(entry, Pattern) else not entry.allowed:
            raise ValueError(f"{name}: pattern {entry.name!r} is too short to scan for")
    if len(table) > MAX_PATTERNS:
        raise ValueError(f"{len(table)} patterns, at most {MAX_PATTERNS}")
    if sum(isinstance(entry, SectorProbe) for _, entry in table) > MAX_PROBES:
        raise ValueError(f"more than {MAX_PROBES} probes")
    return tuple(table)


def _end_bytes(entry: Pattern | SectorProbe) -> int:
    return len(entry.before) + len(entry.bytes) if isinstance(entry, Pattern) else len(entry.allowed)


def _size_bytes(entry: Pattern | SectorProbe) -> int:
    return _end_bytes(entry) + (len(entry.after) if isinstance(entry, Pattern) else 0)


def _asked(table: PatternTable) -> tuple[Numbers, Numbers, Flags]:
    """Return (asked_first, asked_places, asked_allowed)."""
    first, places, sets = [0], list[int](), list[bytes]()
    for _, entry in table:
        if isinstance(entry, Pattern):
            end_bytes = _end_bytes(entry)
            places += [*range(len(entry.before)), *range(end_bytes, end_bytes + len(entry.after))]
            sets += [*entry.before, *entry.after]
        first.append(len(places))
    allowed = np.zeros((len(sets), AFTER_THE_END + 1), dtype=np.bool_)
    for row, values in enumerate(sets):
        allowed[row, list(values)] = True
    return np.array(first, dtype=np.int64), np.array(places, dtype=np.int64), allowed


def _flatten(by_bytes: dict[bytes, list[int]]) -> tuple[States, States, Numbers, Numbers]:
    """Return (next_states, depths, out_first, out_numbers) of the automaton that pyahocorasick builds of these keys."""
    if not by_bytes:
        return np.zeros((1, 256), np.int32), np.zeros(1, np.int32), np.zeros(2, np.int64), np.zeros(0, np.int64)
    children, fails = _dump(by_bytes)
    next_states = np.zeros((len(children), 256), dtype=np.int32)
    depths = np.zeros(len(children), dtype=np.int32)
    own = _own_outputs(by_bytes, children)
    outputs: list[list[int]] = [[] for _ in children]
    # parents first: what a state inherits from the (shallower) state it fails to is complete when it is copied
    for state in _breadth_first(children):
        if state != 0:
            next_states[state] = next_states[fails[state]]
        for value, child in children[state].items():
            next_states[state, value] = child
            depths[child] = depths[state] + 1
        outputs[state] = sorted(own.get(state, []) + (outputs[fails[state]] if state != 0 else []))
    out_first = np.cumsum([0, *map(len, outputs)], dtype=np.int64)
    return next_states, depths, out_first, np.array([n for numbers in outputs for n in numbers], dtype=np.int64)


def _dump(by_bytes: dict[bytes, list[int]]) -> tuple[list[dict[int, int]], list[int]]:
    """Return each state's children by byte, and the state it fails to; the root is state 0."""
    machine = ahocorasick.Automaton()
    for key in by_bytes:
        machine.add_word(key.decode("latin-1"), True)  # the published wheel takes text keys only
    machine.make_automaton()
    nodes, edges, fail_links = machine.dump()
    has_parent = {child for _, _, child in edges}
    # ids are pieces of pointers: only good for telling nodes apart
    ids = sorted((node for node, _ in nodes), key=lambda node: node in has_parent)
    numbers = {node: state for state, node in enumerate(ids)}
    children: list[dict[int, int]] = [{} for _ in ids]
    for node, label, child in edges:
        children[numbers[node]][label[0]] = numbers[child]
    fails = [0] * len(ids)
    for node, target in fail_links:
        fails[numbers[node]] = numbers[target]
    return children, fails


def _own_outputs(by_bytes: dict[bytes, list[int]], children: list[dict[int, int]]) -> dict[int, list[int]]:
    """Return the pattern numbers that end in a state; the dump keeps no values, so each key is walked."""
    own: dict[int, list[int]] = {}
    for key, numbers in by_bytes.items():
        state = 0
        for value in key:
            state = children[state][value]
        own[state] = numbers
    return own


def _breadth_first(children: list[dict[int, int]]) -> list[int]:
    order = [0]
    for state in order:  # grows as it is walked: a tree, so every state comes once
        order += children[state].values()
    return order


def _probe_tables(table: PatternTable) -> tuple[Numbers, Masks]:
    probes = [(n, entry) for n, (_, entry) in enumerate(table) if isinstance(entry, SectorProbe)]
    places = max((len(probe.allowed) for _, probe in probes), default=0)
    masks = np.zeros((places, AFTER_THE_END + 1), dtype=np.uint64)
    for row, (_, probe) in enumerate(probes):
        bit = np.uint64(1 << row)
        for place, values in enumerate(probe.allowed):
            masks[place, list(values)] |= bit
        masks[len(probe.allowed) :] |= bit
    return np.array([n for n, _ in probes], dtype=np.int64), masks


def _telling_order(probe_masks: Masks, probes: int) -> Numbers:
    """Order the places so that few are looked at before no probe is left, if bytes are random or zeros."""
    bits = np.uint64(1) << np.arange(probes, dtype=np.uint64)
    allowed = (probe_masks[:, :AFTER_THE_END, None] & bits) != 0
    random, zeros = allowed.mean(axis=1), allowed[:, 0].astype(float)
    order: list[int] = []
    left = np.ones((2, probes))
    while len(order) < len(probe_masks):
        rest = [place for place in range(len(probe_masks)) if place not in order]
        place = min(rest, key=lambda p: float(left[0] @ random[p] + left[1] @ zeros[p]))
        order.append(place)
        left *= np.stack((random[place], zeros[place]))
    return np.array(order, dtype=np.int64)
