"""Claiming: verdicts to the files that will be written, each byte settled."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carver.claims import Claim, Owned, settle, settle_beside
from carver.stagelog import StageLog
from carver.stages import Choices
from carver.verdict_json import layout_from_pairs
from imaging.extent import Layout, span
from imaging.image import MappedImage
from signatures.format import Format
from signatures.verdict import Grade

UNDECIDED_KEEP_BYTES = 64 << 20  # how much of a candidate without a known end is kept for a person to look at


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A file that is to be written.

    Attributes:
        owned: the claim that stands.
        end_bytes: where its bytes end in the image.
        pieces: where they lie, if that is not all from its start to there.
    """

    owned: Owned
    end_bytes: int
    pieces: Layout = ()

    @property
    def layout(self) -> Layout:
        """Where its bytes lie; made anew, since there may be a million plans."""
        return self.pieces or (span(self.owned.claim.start_bytes, self.end_bytes),)


def plan_files(
    image: MappedImage, verdicts: StageLog, formats: Mapping[str, Format], choices: Choices
) -> list[Planned]:
    """Settle who owns which bytes, and leave out models smaller than the user wants."""
    size_bytes = image.source.size_bytes
    models: list[Claim] = []
    side: list[Claim] = []
    pieces: dict[tuple[int, int], Layout] = {}
    for claim in _claims(verdicts, formats, size_bytes, pieces):
        if not formats[claim.format].side:
            models.append(claim)
        elif claim.grade.good:  # of what is small nothing is kept to look at
            side.append(claim)
    owned = settle(models, lambda claim: _explained(verdicts, claim))
    beside, inside = settle_beside(side, owned)
    for index, intruder in inside.items():
        owned[index] = _invaded(verdicts, owned[index], intruder)
    ends = [_end_of(index, owned, size_bytes) for index in range(len(owned))]
    kept = [i for i, end in enumerate(ends) if end - owned[i].claim.start_bytes >= choices.min_size_bytes]
    kept += range(len(owned), len(owned) + len(beside))  # small as they are
    owned += beside
    ends += (one.claim.end_bytes for one in beside)
    kept.sort(key=lambda index: owned[index].claim.start_bytes)
    moved = array("q", [-1]) * len(owned)
    for new, old in enumerate(kept):
        moved[old] = new
    return [
        Planned(
            owned=_reparented(owned[index], moved),
            end_bytes=ends[index],
            pieces=pieces.get(owned[index].claim.log_position, ()),
        )
        for index in kept
    ]


def _invaded(verdicts: StageLog, owned: Owned, intruder: Claim) -> Owned:
    """Return a file as contested from where a small file lies in it, if that is in one of its tensors.

    Elsewhere (a tokenizer in a header's metadata) it may be the file's own.
    """
    offset_bytes = intruder.start_bytes - owned.claim.start_bytes
    for _, _, _, layout, _ in verdict_entry(verdicts, owned.claim)["tensors"]:
        if any(start <= offset_bytes < start + size for start, size in layout):
            return dataclasses.replace(owned, contested_at_bytes=intruder.start_bytes, contested_by=intruder.format)
    return owned


def _reparented(one: Owned, moved: Sequence[int]) -> Owned:
    if one.parent is None:
        return one
    parent = moved[one.parent]
    return dataclasses.replace(one, parent=None if parent < 0 else parent)


def _claims(
    verdicts: StageLog,
    formats: Mapping[str, Format],
    image_bytes: int,
    pieces: dict[tuple[int, int], Layout],
) -> Iterator[Claim]:
    """Yield what every verdict claims; `pieces` gets where small files lie that are not in one piece."""
    for offset_bytes, entry in verdicts.offsets():
        for index, verdict in enumerate(entry["verdicts"]):
            start_bytes = verdict["start_bytes"]
            if len(verdict.get("pieces", ())) > 1 and formats[verdict["format"]].side:
                pieces[offset_bytes, index] = layout_from_pairs(verdict["pieces"])
            yield Claim(
                start_bytes=start_bytes,
                size_bytes=min(verdict["size_bytes"], image_bytes - start_bytes),
                format=verdict["format"],
                grade=Grade(verdict["grade"]),
                container=formats[verdict["format"]].container,
                log_position=(offset_bytes, index),
                parts=formats[verdict["format"]].parts,
            )


def verdict_entry(verdicts: StageLog, claim: Claim) -> dict[str, Any]:
    """Return the logged verdict behind a claim."""
    offset_bytes, index = claim.log_position
    entry: dict[str, Any] = verdicts.read_entry(offset_bytes)["verdicts"][index]
    return entry


def _explained(verdicts: StageLog, claim: Claim) -> list[int]:
    return [claim.start_bytes + offset for offset in verdict_entry(verdicts, claim)["explained"]]


def _end_of(index: int, owned: Sequence[Owned], image_bytes: int) -> int:
    """Return where a file's bytes end.

    What could not be decided is kept up to the next file, bounded. What lacks its end goes no farther than to a foreign
    file, so that a few lost heads on a large image do not fill the destination.
    """
    one, claim = owned[index], owned[index].claim
    end_bytes = claim.end_bytes
    if claim.grade is Grade.UNDECIDED and claim.size_bytes == 0:
        ends = [claim.start_bytes + UNDECIDED_KEEP_BYTES, image_bytes]
        ends += [following.claim.start_bytes for following in owned[index + 1 : index + 2]]
        ends += [] if one.parent is None else [owned[one.parent].claim.end_bytes]
        end_bytes = min(ends)
    elif claim.grade is Grade.TRUNCATED and one.contested_at_bytes is not None:
        end_bytes = one.contested_at_bytes
    return end_bytes
