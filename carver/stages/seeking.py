"""Seeking: data files that only a model tells of (ONNX external data), once it is known what all other files hold.

It is the last step of judging: what is found is logged as one more verdict, and for each file what came of the search.
What the image has not, or does not give back, is skipped and told.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from carver.hits import unreadable
from carver.judge import with_unread
from carver.stagelog import StageLog
from carver.stages import Choices, Hooks
from carver.stages.claiming import plan_files, verdict_entry
from carver.stages.patched import Patched
from carver.verdict_json import verdict_to_json
from imaging.extent import Extent, ExtentSet, span
from imaging.image import MappedImage
from imaging.window import Window
from signatures._onnx_data_place import MARKS_NEEDED, Place, zeros_from
from signatures._onnx_data_plan import DataFile, data_files, starts_of, strung
from signatures._onnx_data_search import Found, Search
from signatures.format import Format
from signatures.onnx_external_data import verdict_on
from signatures.verdict import Finding, Grade, Verdict

MODEL, DATA = "onnx", "onnx_external_data"
SOUGHT = b'"sought":['
MARK = b'"external_data":['  # in the log, of models that tell of data files
MAX_SOUGHT = 512  # searches, and models with data that are no copies, a case; the others are told as not looked for
MAX_NOTED = 4096  # outcomes on record
MAX_ALONE = 16  # of a model, once its files do not lie in a row: the proven ones first, then the largest
MAX_VAIN_BYTES = 128 << 30  # searched in all; after that only near models:
NEAR_BYTES = 16 << 20
NEIGHBOURHOOD_BYTES = 256 << 20  # copies of one model within so much are looked around once
DEAR = 16  # times, where only floats can be looked at
BLOCKS_BYTES = (4096, 512)  # what files that were written one after the other may begin at


def seek_data(
    image: MappedImage, verdicts: StageLog, formats: Mapping[str, Format], choices: Choices, hooks: Hooks
) -> dict[str, Any] | None:
    """Return an entry for the log of verdicts: the data files found, and what was sought; None where none is told of.

    Raises:
        Interrupted: stopped; the search begins anew.
    """
    if MODEL not in choices.formats or not _any_told(verdicts):
        return None
    planned = plan_files(image, verdicts, formats, replace(choices, min_size_bytes=0))
    claimed = ExtentSet(extent for plan in planned if plan.owned.claim.grade.good for extent in plan.layout)
    unread = (image.source.unread or ExtentSet()) | unreadable(verdicts.path.parent)
    seeking = _Seeking(image, claimed, hooks, unread)
    copies: dict[tuple[DataFile, ...], list[Extent]] = {}
    for plan in planned:
        claim = plan.owned.claim
        if claim.format == MODEL and claim.grade.good and plan.owned.parent is None:
            files = tuple(data_files(verdict_entry(verdicts, claim)["facts"].get("external_data", ())))
            if files and (files in copies or len(copies) < MAX_SOUGHT):
                copies.setdefault(files, []).append(plan.layout[0])
    searches = [(near, files) for files, models in copies.items() for near in _neighbourhoods(models)]
    for number, (near, files) in enumerate(searches):
        hooks.on_progress("seeking", number, len(searches))
        seeking.seek(near, files)
    return {"verdicts": [_entry(start, one) for start, one in sorted(seeking.found.items())], "sought": seeking.sought}


def _neighbourhoods(models: Iterable[Extent]) -> Iterator[list[Extent]]:
    """Yield copies of one model that lie near each other: a search around them all is as good as one around each.

    A file system that copies on write (btrfs), or that keeps a journal, leaves dozens of a small model.
    """
    near: list[Extent] = []
    for model in sorted(models, key=lambda one: one.offset_bytes):
        if near and model.end_bytes - near[0].offset_bytes > NEIGHBOURHOOD_BYTES:
            yield near
            near = []
        near.append(model)
    yield near


def _any_told(verdicts: StageLog) -> bool:
    with verdicts.path.open("rb") as lines:
        return any(MARK in line for line in lines)


@dataclass(slots=True)
class _FoundData:
    """A data file that was found, and the models that tell of it: where each begins, and what it calls it."""

    verdict: Verdict
    models: list[tuple[int, str]]


def _entry(start: int, one: _FoundData) -> dict[str, Any]:
    starts, locations = ([pair[place] for pair in one.models] for place in (0, 1))
    told = {"model_starts": starts, "model_locations": locations}
    verdict = replace(one.verdict, facts={**one.verdict.facts, **told})
    if len(set(starts)) > 1 and verdict.grade is not Grade.INTACT:
        detail = f"{len(set(starts))} models tell of such a file: copies, or versions, of which it belongs to one"
        verdict = replace(verdict, findings=(*verdict.findings, Finding(code="data-of-several", detail=detail)))
    return {"format": DATA, "start_bytes": start, **verdict_to_json(verdict)}


class _Seeking:
    """The search for all data files of a case.

    Attributes:
        found: by start.
        sought: what was told of, and what came of the search, JSON-ready.
    """

    def __init__(self, image: MappedImage, claimed: ExtentSet, hooks: Hooks, unread: ExtentSet) -> None:
        self._image, self._claimed, self._hooks = image.source, claimed, hooks
        self._source = Patched(image.source, unread)
        self._searches, self._searched_bytes = 0, 0
        self.found: dict[int, _FoundData] = {}
        self.sought: list[dict[str, Any]] = []

    def seek(self, models: Sequence[Extent], files: Sequence[DataFile]) -> None:
        """Look for the data files of one model: as one run if there are several, then each for itself.

        Args:
            models: where it lies, and its copies; ascending, near each other.
            files: what it tells of.
        """
        open_files = [file for file in files if not file.refused]
        for file in files:
            if file.refused:
                self._note(models, file, "refused", why=file.refused)
        if len(open_files) > 1 and self._seek_run(models, open_files):
            return
        worth = {file.location for file in sorted(open_files, key=_worth)[:MAX_ALONE]}
        results = [(file, self._search(models, file) if file.location in worth else None) for file in open_files]
        takers = Counter(
            found.taken.start_bytes for _, found in results if found is not None and found.taken is not None
        )
        for file, found in results:
            if found is None:
                self._note(models, file, "not-looked-for", why="searches" if file.location in worth else "files")
            elif found.taken is None:
                self._note(models, file, _outcome(found), found=found)
            elif takers[found.taken.start_bytes] > 1 and not found.proven_bytes:  # one place is not two files
                self._note(models, file, "shared", found=replace(found, places=(found.taken,)))
            else:
                self._keep(models, file, found, found.taken)

    def _seek_run(self, models: Sequence[Extent], files: Sequence[DataFile]) -> bool:
        """Look for files that were written one after the other; tell whether they were found so."""
        for block_bytes in BLOCKS_BYTES if not any(file.sha1 for file in files) else ():
            found = self._search(models, strung(files, block_bytes))
            if found is not None and found.taken is not None:
                for file, at in zip(files, starts_of(files, block_bytes), strict=True):
                    place = replace(found.taken, start_bytes=found.taken.start_bytes + at)
                    self._keep(models, file, found, place)
                return True
        return False

    def _search(self, models: Sequence[Extent], file: DataFile) -> Found | None:
        if self._searches >= MAX_SOUGHT:
            return None
        self._searches += 1
        around = span(models[0].offset_bytes, models[-1].end_bytes)
        search = Search(
            source=self._source,
            file=file,
            model=around,
            claimed=self._claimed,
            stop=self._hooks.stop,
            was_read=self._source.was_read,
        )
        found = search.find(*(() if self._searched_bytes < MAX_VAIN_BYTES else (NEAR_BYTES,)))
        self._searched_bytes += 2 * found.searched_bytes * (1 if search.is_cheap else DEAR)
        return found

    def _keep(self, models: Sequence[Extent], file: DataFile, found: Found, place: Place) -> None:
        verdict = self._verdict(file, place, found.proven_bytes)
        held = self.found.get(place.start_bytes)
        told = [*(held.models if held is not None else ()), *((model.offset_bytes, file.location) for model in models)]
        if held is not None and held.verdict.size_bytes >= verdict.size_bytes:
            verdict = held.verdict
        self.found[place.start_bytes] = _FoundData(verdict=verdict, models=told)
        self._note(models, file, "found", found=replace(found, places=(place,)))

    def _verdict(self, file: DataFile, place: Place, proven_bytes: int) -> Verdict:
        start, end = place.start_bytes, place.start_bytes + file.size_bytes
        zeros_bytes = None if proven_bytes else zeros_from(self._source, start, file)
        if zeros_bytes is not None and not self._source.was_read(span(start + zeros_bytes, end)):
            zeros_bytes = None  # they are no zeros of the drive's
        verdict = verdict_on(file, place, proven_bytes, zeros_bytes=zeros_bytes)
        return with_unread(Window(self._image, (span(start, start + verdict.size_bytes),)), verdict)

    def _note(
        self, models: Sequence[Extent], file: DataFile, outcome: str, *, why: str = "", found: Found | None = None
    ) -> None:
        searched_bytes = 0 if found is None else found.searched_bytes
        low = max(0, models[0].offset_bytes - file.size_bytes - searched_bytes)
        domain = span(low, models[-1].end_bytes + searched_bytes + file.size_bytes)
        for model in models[: max(0, MAX_NOTED - len(self.sought))]:
            self.sought.append(
                {
                    "model_start_bytes": model.offset_bytes,
                    "location": file.location,
                    "outcome": outcome,
                    "why": why,
                    "searched_bytes": searched_bytes,
                    "unread_bytes": self._source.unread.within(domain).total_bytes if searched_bytes else 0,
                    "places": [] if found is None else [place.start_bytes for place in found.places],
                }
            )


def _worth(file: DataFile) -> tuple[bool, int]:
    return not file.sha1, -file.size_bytes


def _outcome(found: Found) -> str:
    if found.unlike_sum:
        return "unlike-sum"
    if found.crowded:
        return "crowded"
    if not found.places:
        return "nowhere"
    if found.in_part:
        return "in-part"
    return "several" if found.places[0].marks >= MARKS_NEEDED else "doubtful"


def sought_data(verdicts: StageLog) -> list[dict[str, Any]]:
    """Return what was looked for, and what came of it, as the log of verdicts has it."""
    with verdicts.path.open("rb") as lines:  # few of them are worth reading as JSON
        return [one for line in lines if SOUGHT in line for one in json.loads(line).get("sought", ())]
