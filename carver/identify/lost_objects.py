"""Lost objects: which objects of a distributed checkpoint a stretch was that has neither a head nor an end left.

What is around it tells only how long it is. Where the lengths that a metadata tells fit it and all the others, it falls
apart into those that lay there.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Final

from imaging.extent import span
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade, Verdict

TOLD_OF: Final = re.compile(r"(object )?(\d+)(?=(\.[^:]*)?: )")  # an object, or its tensor


def unfolded(verdict: Verdict, known: Iterable[tuple[int, ...]]) -> Verdict:
    """Return the verdict with each lost stretch as the objects that it was, if one of the files known fits it.

    Args:
        verdict: on a distributed checkpoint's file.
        known: the lengths of the objects of each file that a metadata tells of, all different.
    """
    lost, own = verdict.facts.get("lost_objects"), verdict.facts.get("object_bytes")
    if not isinstance(lost, list) or not isinstance(own, list):
        return verdict
    fits = [(whole, numbers) for whole in known if (numbers := _numbers(own, set(lost), whole)) is not None]
    if len(fits) != 1:
        return verdict
    whole, numbers = fits[0]
    counts = {old: after - new for old, (new, after) in enumerate(pairwise(numbers))}
    offsets = list(accumulate(whole, initial=0))
    damaged = verdict.facts.get("damaged_objects")
    hit = [numbers[old] + more for old in (damaged if isinstance(damaged, list) else ()) for more in range(counts[old])]
    return replace(
        verdict,
        facts={**verdict.facts, "object_bytes": list(whole), "objects": len(whole), "damaged_objects": hit},
        tensors=tuple(_apart(verdict.tensors, numbers, counts, offsets)),
        findings=tuple(_renumbered(finding, numbers, counts) for finding in verdict.findings),
    )


def _numbers(own: Sequence[int], lost: Container[int], whole: Sequence[int]) -> list[int] | None:
    """Return which number each object has in the whole file, and how many there are; None where they do not fit."""
    numbers, at = [], 0
    for old, size_bytes in enumerate(own):
        numbers.append(at)
        left_bytes = size_bytes
        while left_bytes > 0 and at < len(whole) and (old in lost or left_bytes == size_bytes):
            left_bytes -= whole[at]
            at += 1
        if left_bytes:
            return None
    return [*numbers, at] if at == len(whole) else None


def _apart(
    tensors: Iterable[Tensor], numbers: Sequence[int], counts: dict[int, int], offsets: Sequence[int]
) -> Iterator[Tensor]:
    for tensor in tensors:
        number, dot, rest = tensor.name.partition(".")
        old = int(number)
        if counts[old] == 1:
            yield replace(tensor, name=f"{numbers[old]}{dot}{rest}")
            continue
        for new in range(numbers[old], numbers[old] + counts[old]):
            layout = (span(offsets[new], offsets[new + 1]),)
            shape = (layout[0].size_bytes,)
            yield Tensor(name=f"{new}", dtype="uint8", shape=shape, layout=layout, grade=Grade.DAMAGED.value)


def _renumbered(finding: Finding, numbers: Sequence[int], counts: dict[int, int]) -> Finding:
    told = TOLD_OF.match(finding.detail)
    if told is None:
        return finding
    what, old = told[1] or "", int(told[2])
    if old >= len(counts):
        return finding
    last = numbers[old] + counts[old] - 1
    new = f"{what}{last}" if counts[old] == 1 else f"{what}{numbers[old]} to {what}{last}"
    return replace(finding, detail=new + finding.detail[told.end() :])
