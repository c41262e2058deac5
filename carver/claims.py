"""Claims: which verdict owns contested bytes.

Candidates are judged each for itself, so several may claim the same bytes. The rules, in this order:

1. Of several verdicts on one start the best grade stands; a general container (a zip) yields to a format proper.
2. What lies wholly inside a good file: a good file there is its child; a file of the same sort that is not good is an
   echo of it (a zip read from its third record) and is dropped; what could not be decided is kept as its child.
3. A good file that begins on a sector edge inside another one's *unproven* bytes contradicts that other file: it was
   overwritten there, or it lies in pieces. The inner file is no child, and the outer one is DAMAGED from there on.
4. Files that overlap in part are settled like 3, in favour of the one that is proven, else of the one that starts
   later: its head would not be there if the earlier file's bytes still were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from signatures.verdict import Grade

SECTOR_BYTES = 512
_RANK = {grade: rank for rank, grade in enumerate(Grade)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What claims need to know of a judged candidate; the verdict itself stays in the log.

    Attributes:
        start_bytes: where it begins in the image.
        size_bytes: how many bytes of the image it claims.
        container: whether its format stores whole files of others.
        log_position: where its verdict stands.
    """

    start_bytes: int
    size_bytes: int
    format: str
    grade: Grade
    container: bool
    log_position: tuple[int, int]

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

    Args:
        claims: every judged candidate but the rejected ones.
        explained: the image offsets of signatures that a claim owns itself; asked only of claims with others inside.
    """
    standing: list[Owned] = []
    reaching: list[int] = []  # those that run on past the current start, outermost first
    for claim in _best_by_start(claims):
        reaching = [i for i in reaching if standing[i].claim.end_bytes > claim.start_bytes]
        owners = [i for i in reaching if standing[i].claim.end_bytes >= claim.end_bytes]
        if any(_is_echo(standing[i].claim, claim, explained) for i in owners):
            continue
        parent = next((i for i in reversed(owners) if _may_own(standing[i].claim, claim)), None)
        proven = next((standing[i].claim for i in reaching if standing[i].claim.grade is Grade.INTACT), None)
        if parent is not None or proven is None or claim.grade is Grade.INTACT:
            standing.append(Owned(claim=claim, parent=parent))
        else:  # it runs over the end of a proven file: its own head is not its own
            standing.append(Owned(claim=claim, contested_at_bytes=claim.start_bytes, contested_by=proven.format))
        if parent is None and claim.grade.good:
            for index in reaching:
                standing[index] = _contested(standing[index], claim)
        reaching.append(len(standing) - 1)
    return standing


def _best_by_start(claims: Iterable[Claim]) -> list[Claim]:
    """Sort by start and size (larger first), keeping the best claim on each start."""
    best: dict[int, Claim] = {}
    for claim in claims:
        held = best.get(claim.start_bytes)
        if held is None or _preference(claim) < _preference(held):
            best[claim.start_bytes] = claim
    return [best[start] for start in sorted(best)]


def _preference(claim: Claim) -> tuple[int, bool, int, str]:
    return (_RANK[claim.grade], claim.container, -claim.size_bytes, claim.format)


def _is_echo(owner: Claim, claim: Claim, explained: Callable[[Claim], Sequence[int]]) -> bool:
    """Tell whether `claim` is only a part of `owner` seen as a file of its own."""
    if claim.grade.good or claim.grade is Grade.UNDECIDED:
        return claim.start_bytes in explained(owner)
    return owner.grade.good or claim.start_bytes in explained(owner)


def _may_own(owner: Claim, claim: Claim) -> bool:
    """Tell whether `claim` is a child of `owner` rather than a contradiction to it."""
    if owner.container or owner.grade is Grade.INTACT:
        return True
    off_the_grid = claim.start_bytes % SECTOR_BYTES and (claim.start_bytes - owner.start_bytes) % SECTOR_BYTES
    return owner.grade.good and (bool(off_the_grid) or claim.grade is Grade.UNDECIDED)


def _contested(owned: Owned, claim: Claim) -> Owned:
    """Return an earlier claim as it stands after a later good one took bytes of it."""
    if owned.claim.grade is Grade.INTACT or owned.contested_at_bytes is not None:
        return owned
    return Owned(
        claim=owned.claim, parent=owned.parent, contested_at_bytes=claim.start_bytes, contested_by=claim.format
    )
