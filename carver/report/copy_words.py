"""Copy words: what the report says of damaged files whose tensors other files have, or no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from carver.recovery import Elsewhere, OtherCopy, Recovery
from carver.report.wording import plural

LISTED = 6  # tensors in a sentence
GONE = (
    "sectors that were never read may still come with another pass, but what was overwritten or encrypted there does "
    "not come back from this source; look in backups for an older copy"
)


def by_path(recovery: Recovery) -> dict[str, Elsewhere]:
    """Return what is elsewhere, by the damaged file's path."""
    return {one.path: one for one in recovery.elsewhere}


def sources(one: Elsewhere | None) -> Mapping[str, str]:
    """Return in which file each tensor that is hit is whole."""
    return {} if one is None else dict(one.sources)


def lines(one: Elsewhere | None) -> list[str]:
    """Return what a person should know who wants the lost tensors back, a sentence a line."""
    if one is None:
        return []
    if not one.copies:
        return [f"No other recovered file has the tensors that are hit: {GONE}."]
    said = [_copy(copy, one) for copy in one.copies]
    rest = one.hit - one.found
    if rest:
        verb = "is" if rest == 1 else "are"
        hit = plural(rest, "tensor that is hit", "tensors that are hit")
        said.append(f"{hit} {verb} whole in no recovered file ({_listed(one.nowhere)}): {GONE}.")
    said.append(
        "Nothing was put together: take a tensor from another file only if it is a copy, or if a mix of two versions "
        "is what you want."
    )
    return said


def _copy(copy: OtherCopy, one: Elsewhere) -> str:
    offers = f"{copy.offers:,} of the {plural(one.hit, 'tensor', 'tensors')} hit here {_verb(copy.offers)} whole there"
    if not copy.compared:
        relation = "a file with the same tensors; whether it is a copy or another version cannot be told"
    elif copy.identical == copy.compared:
        same = plural(copy.compared, "tensor that is whole in both is", "tensors that are whole in both are")
        relation = f"a copy, as far as can be told: {same} byte for byte the same"
    elif 2 * copy.identical > copy.compared:
        differ = copy.compared - copy.identical
        relation = (
            f"a copy or a close version: {copy.identical:,} of {copy.compared:,} tensors that are whole in both are "
            f"the same byte for byte; the other {differ:,} ({_listed(copy.differing)}) were changed on purpose, or are "
            "damaged in one of the two unseen"
        )
    elif copy.identical:
        relation = (
            f"another version, older or newer: {copy.identical:,} of {copy.compared:,} tensors that are whole in both "
            "are byte for byte the same"
        )
    else:
        relation = "another version, older or newer: the same tensors, and none that is whole in both is the same"
    return f"{copy.path} ({copy.grade.value}) is {relation}; {offers}."


def _verb(count: int) -> str:
    return "is" if count == 1 else "are"


def _listed(names: Sequence[str]) -> str:
    more = ", …" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
