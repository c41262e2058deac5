"""Claims: which verdict owns contested bytes.

Candidates are judged each for itself, so several may claim the same bytes. The rules, in this order:

1. Of several verdicts on one start the best grade stands; a general container (a zip) yields to a format proper, and
   the first of the parts of which a file is several (`Format.parts`) to that file if its end is known.
2. What lies wholly inside a good file: a good file there is its child; one that is not good is an echo of it (a zip
   read from its third record) or chance, and is dropped, as is what begins inside proven bytes and is not good; what
   could not be decided is kept as its child. A damaged container owns what is in it like a good one.
3. A good file that begins on a sector edge inside another one's *unproven* bytes contradicts that other file: it was
   overwritten there, or it lies in pieces. The inner file is no child, and the outer one is DAMAGED from there on.
4. Files that overlap in part are settled like 3, in favour of the one that is proven, else of the one that starts
   later: its head would not be there if the earlier file's bytes still were.

Small files that tell of models (`Format.side`) own nothing and are settled after the others, by `settle_beside`.

What an INTACT file contains is proven with it. Cost: O(n log n) for n claims, however many overlap (times the 512
places of a sector, were a disk laid out to make it so).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from signatures.verdict import Grade

SECTOR_BYTES = 512
_RANK = {grade: rank for rank, grade in enumerate(Grade)}
_KNOWN_END = (Grade.INTACT, Grade.CONSISTENT, Grade.DAMAGED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What claims need to know of a judged candidate; the verdict itself stays in the log.

    Attributes:
        start_bytes: where it begins in the image.
        size_bytes: how many bytes of the image it claims.
        container: whether its format stores whole files of others.
        parts: the format of whose files it is several, or "".
        log_position: where its verdict stands.
    """

    start_bytes: int
    size_bytes: int
    format: str
    grade: Grade
    container: bool
    log_position: tuple[int, int]
    parts: str = ""

    @property
    def end_bytes(self) -> int:
        """First byte after it."""
        return self.start_bytes + self.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """A claim that stands.

    Attributes:
        parent: index of its container among the owned, or None.
        contested_at_bytes: image offset from which on its bytes belong to another file, or None.
        contested_by: that file's format.
    """

    claim: Claim
    parent: int | None = None
    contested_at_bytes: int | None = None
    contested_by: str = ""


def settle(claims: Iterable[Claim], explained: Callable[[Claim], Sequence[int]] = lambda claim: ()) -> list[Owned]:
    """Return the claims that stand, by first byte, containers before what is in them.

    The outcome does not depend on the order in which the claims come.

    Args:
        claims: every judged candidate but the rejected ones.
        explained: the image offsets of signatures that a claim owns itself; asked only of claims with others inside.
    """
    settling = _Settling(explained)
    for claim in _best_by_start(claims):
        settling.add(claim)
    return settling.standing


def _best_by_start(claims: Iterable[Claim]) -> Iterator[Claim]:
    """Yield the best claim on each start, by start."""
    for _, found in groupby(sorted(claims, key=_start), key=_start):
        rivals = list(found)
        several = [one for one in rivals if one.parts and one.grade in _KNOWN_END]
        yield min((one for one in rivals if not _is_first_part(one, several)), key=_preference)


def _start(claim: Claim) -> int:
    return claim.start_bytes


def _is_first_part(claim: Claim, several: Iterable[Claim]) -> bool:
    return any(one.parts == claim.format and one.size_bytes > claim.size_bytes for one in several)


def _preference(claim: Claim) -> tuple[int, bool, int, str, tuple[int, int]]:
    return (_RANK[claim.grade], claim.container, -claim.size_bytes, claim.format, claim.log_position)


def _reach(claim: Claim) -> int:
    """Return the end that an owner must have; of a claim without a known length its first byte counts."""
    return max(claim.end_bytes, claim.start_bytes + 1)


class _Innermost:
    """Claims by ascending start; finds the last one that reaches a given end.

    One that ends no later than its successor is never the answer again and is let go, so ends descend.
    """

    def __init__(self) -> None:
        self._negative_ends: list[int] = []
        self._indices: list[int] = []

    def push(self, index: int, end_bytes: int) -> None:
        while self._negative_ends and self._negative_ends[-1] >= -end_bytes:
            self._negative_ends.pop()
            self._indices.pop()
        self._negative_ends.append(-end_bytes)
        self._indices.append(index)

    def reaching(self, end_bytes: int) -> int | None:
        """Return the last one that ends at `end_bytes` or later."""
        place = bisect_right(self._negative_ends, -end_bytes)
        return self._indices[place - 1] if place else None


class _Settling:
    """The rules applied to claims in the order of their starts; every step is amortised over all claims."""

    def __init__(self, explained: Callable[[Claim], Sequence[int]]) -> None:
        self.standing: list[Owned] = []
        self._explained = explained
        self._proven = _Innermost()  # every byte is what it was
        self._is_proven = bytearray()  # of each that stands
        self._owning = _Innermost()  # whatever lies inside is a child
        self._off_grid = _Innermost()  # what begins elsewhere in a sector is a child; see _parent
        self._off_grid_by_place: dict[int, _Innermost] = {}
        self._contestable: list[tuple[int, int]] = []  # (index, end of the farthest good file up to here)
        self._proven_end_bytes = 0
        self._unasked: list[Claim] = []
        self._explained_until: tuple[dict[int, int], dict[int, int]] = ({}, {})  # by any claim; with a known end
        self._explained_end_bytes = 0  # of the last of these claims

    def add(self, claim: Claim) -> None:
        self._ask_explained(claim.start_bytes)
        if self._is_echo(claim):
            return
        parent = self._parent(claim)
        proven = self._proven.reaching(claim.start_bytes + 1)
        after = -1 if parent is None else parent
        if claim.grade is Grade.INTACT or proven is None or proven <= after or self._lies_in_proven(parent):
            owned = Owned(claim=claim, parent=parent)
        else:  # it runs over the end of a proven file: its own head is not its own
            by = self.standing[proven].claim.format
            owned = Owned(claim=claim, parent=parent, contested_at_bytes=claim.start_bytes, contested_by=by)
        if claim.grade.good and owned.contested_at_bytes is None:
            self._contest(claim, after)
        self._keep(owned)

    def _ask_explained(self, start_bytes: int) -> None:
        """Learn which signatures belong to the claims that reach `start_bytes`; each is asked once."""
        if self._explained_end_bytes <= start_bytes:
            for until in self._explained_until:
                until.clear()
        for owner in self._unasked:
            if owner.end_bytes <= start_bytes:
                continue
            self._explained_end_bytes = max(self._explained_end_bytes, owner.end_bytes)
            for offset_bytes in self._explained(owner):
                for until in self._explained_until[: 1 + (owner.grade in _KNOWN_END)]:
                    until[offset_bytes] = max(until.get(offset_bytes, 0), owner.end_bytes)
        self._unasked.clear()

    def _is_echo(self, claim: Claim) -> bool:
        """Tell whether `claim` is only a part of an earlier one seen as a file of its own."""
        until = self._explained_until[claim.grade.good]
        if until.get(claim.start_bytes, -1) >= _reach(claim):
            return True
        if claim.grade.good or claim.grade is Grade.UNDECIDED:
            return False
        good_end_bytes = self._contestable[-1][1] if self._contestable else 0
        return good_end_bytes >= claim.end_bytes or self._proven_end_bytes > claim.start_bytes

    def _parent(self, claim: Claim) -> int | None:
        """Return the innermost claim that owns this one, rather than being contradicted by it.

        A file of unproven bytes owns what does not begin on the sector grid, its own or the image's: a file system
        would not have put it there.
        """
        found = (self._owning.reaching(_reach(claim)), self._off_grid_owner(claim))
        return max((index for index in found if index is not None), default=None)

    def _off_grid_owner(self, claim: Claim) -> int | None:
        nearest = self._off_grid.reaching(_reach(claim))
        place = claim.start_bytes % SECTOR_BYTES
        if nearest is None or claim.grade is Grade.UNDECIDED:
            return nearest
        if place == 0:
            return None
        if self.standing[nearest].claim.start_bytes % SECTOR_BYTES != place:
            return nearest
        others = (inner.reaching(_reach(claim)) for other, inner in self._off_grid_by_place.items() if other != place)
        return max((index for index in others if index is not None), default=None)

    def _lies_in_proven(self, parent: int | None) -> bool:
        return parent is not None and bool(self._is_proven[parent])

    def _contest(self, claim: Claim, after: int) -> None:
        """Mark the unproven claims behind index `after` that run on into a good one."""
        while self._contestable and self._contestable[-1][0] > after:
            index, _ = self._contestable.pop()
            owned = self.standing[index]
            if owned.claim.end_bytes > claim.start_bytes:
                self.standing[index] = Owned(
                    claim=owned.claim,
                    parent=owned.parent,
                    contested_at_bytes=claim.start_bytes,
                    contested_by=claim.format,
                )

    def _keep(self, owned: Owned) -> None:
        claim, index = owned.claim, len(self.standing)
        proven = claim.grade is Grade.INTACT or self._lies_in_proven(owned.parent)
        self._is_proven.append(proven)
        self.standing.append(owned)
        self._unasked.append(claim)
        if proven:
            self._proven.push(index, claim.end_bytes)
            self._proven_end_bytes = max(self._proven_end_bytes, claim.end_bytes)
        elif owned.contested_at_bytes is None:
            before = self._contestable[-1][1] if self._contestable else 0
            self._contestable.append((index, max(before, claim.end_bytes if claim.grade.good else 0)))
        if proven or (claim.container and claim.grade in _KNOWN_END):
            self._owning.push(index, claim.end_bytes)
        elif claim.grade.good or claim.container:
            place = claim.start_bytes % SECTOR_BYTES
            self._off_grid.push(index, claim.end_bytes)
            self._off_grid_by_place.setdefault(place, _Innermost()).push(index, claim.end_bytes)


def settle_beside(side: Iterable[Claim], standing: Sequence[Owned]) -> tuple[list[Owned], dict[int, Claim]]:
    """Return the small files that stand beside the models, and where they stand inside one.

    What lies in a proven file or a container is a part of it, and so is what does not begin on a sector edge of the
    image in any other good file. On an edge inside unproven bytes it stands: the file around it may be overwritten
    there, which its tensors must tell.

    Args:
        side: claims of formats that are side files, in any order.
        standing: what `settle` returned for the others.

    Returns:
        The side files that stand, by first byte; and by index of a standing file around some the first of them.
    """
    found: list[Owned] = []
    inside: dict[int, Claim] = {}
    swallowed_until = unproven_from = 0
    unproven: list[tuple[int, int]] = []  # (index, end) of the good files that may reach the next claim
    for claim in _best_by_start(side):
        while unproven_from < len(standing) and standing[unproven_from].claim.start_bytes <= claim.start_bytes:
            owner = standing[unproven_from].claim
            if owner.grade is Grade.INTACT or (owner.container and owner.grade in _KNOWN_END):
                swallowed_until = max(swallowed_until, owner.end_bytes)
            elif owner.grade.good:
                unproven.append((unproven_from, _own_end(standing[unproven_from])))
            unproven_from += 1
        unproven = [(index, end) for index, end in unproven if end > claim.start_bytes]
        if claim.start_bytes < swallowed_until or (unproven and claim.start_bytes % SECTOR_BYTES):
            continue
        for index, _ in unproven:
            inside.setdefault(index, claim)
        found.append(Owned(claim=claim))
        swallowed_until = claim.end_bytes  # an object inside an object is no file
    return found, inside


def _own_end(owned: Owned) -> int:
    contested = owned.contested_at_bytes
    return owned.claim.end_bytes if contested is None else min(contested, owned.claim.end_bytes)
