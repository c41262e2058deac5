"""Extracting: the planned files written, with their hashes, and logged."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from time import monotonic

from carver import __version__
from carver.case import Case
from carver.claims import Owned
from carver.extract import Written, name_all, write_partial
from carver.identify.checkpoints import LOOSE, with_names
from carver.identify.hints import Hints, Told, gather, named, proven
from carver.identify.loose_objects import Zip, loose_objects, with_place
from carver.identify.naming import safe_name, stem_of, suffix_of
from carver.output import PARTIAL_SUFFIX, make_folder
from carver.recovery import CarvedFile
from carver.stagelog import StageLog, read_log
from carver.stages import Choices, Hooks, digest
from carver.stages.claiming import Planned, verdict_entry
from carver.stages.cut_short import note_if_cut_short
from carver.verdict_json import carved_to_json, verdict_from_json
from imaging.extent import ExtentSet, layout_bytes, span
from imaging.image import MappedImage
from imaging.window import Window
from signatures.format import Format
from signatures.plausibility import Plausibility
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Finding, Grade, LayoutBasis, Verdict

log = logging.getLogger(__name__)

SUPERSEDED = "superseded"
BEHIND_CODES = frozenset(("bytes-after-end",))  # findings about what follows a file
SYNC_EVERY_FILES = 256
SYNC_EVERY_BYTES = 1 << 30
SYNC_EVERY_SECONDS = 1.0


def extract_files(
    case: Case,
    image: MappedImage,
    verdicts: StageLog,
    planned: Sequence[Planned],
    formats: Mapping[str, Format],
    choices: Choices,
    hooks: Hooks,
) -> StageLog:
    """Write every planned file, or what is left of them; the log has a line a file.

    Raises:
        Interrupted: stopped; the files done are kept.
        OutputError: a file cannot be written (DestinationFullError: no room).
    """
    choices_key = {"min_size_bytes": choices.min_size_bytes, "with_md5": choices.with_md5}
    key = {"judge": digest(verdicts.key), "tool": __version__, **choices_key}
    path = case.folder / "files.jsonl"
    missing = _missing(case.folder, path)
    if missing is not None:
        log.warning("%s is not as it was written: the files are written again where they are missing", missing)
    files = StageLog(path, key, anew=missing is not None)
    if files.finished:
        return files
    for leftover in case.folder.glob(f"file-*{PARTIAL_SUFFIX}"):
        leftover.unlink()
    total_bytes = sum(layout_bytes(plan.layout) for plan in planned)
    batch = _Batch(case.folder, files)
    hints = gather(_told(verdicts, planned, formats))
    loose = loose_objects(_zips(planned), hints.checkpoints)
    try:
        for plan in planned[len(batch.paths) :]:
            verdict = final_verdict(verdict_from_json(verdict_entry(verdicts, plan.owned.claim)), plan.owned)
            looked_at = _looked_at(verdict, plan, planned)
            unread = Window(image.source, plan.layout).unread_within(0, layout_bytes(plan.layout))
            seen = Plausibility(looked_at, start_bytes=plan.owned.claim.start_bytes, unread=unread)
            written = write_partial(
                image.source,
                plan.layout,
                case.folder / f"file-{len(batch.waiting)}{PARTIAL_SUFFIX}",
                with_md5=choices.with_md5,
                on_bytes=_progress(hooks, batch.done_bytes, total_bytes),
                on_piece=seen.take if seen.wanted else _pass_by,
                stop=hooks.stop,
            )
            verdict = _with_unreadable(_with_evidence(verdict, seen), written.unreadable)
            verdict = with_names(proven(verdict, written.sha256, written.size_bytes, hints), hints.checkpoints)
            verdict = with_place(verdict, loose.get(plan.owned.claim.start_bytes))
            batch.add(_waiting(plan, verdict, written, formats[plan.owned.claim.format], hints))
            if batch.due():
                note_if_cut_short(case, image)
                batch.flush()
    finally:
        note_if_cut_short(case, image)
        batch.flush()  # whatever ended it: the files that are whole are kept
    _set_aside(case.folder, batch.taken)
    files.finish()
    return files


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A file that is written but not yet named."""

    plan: Planned
    verdict: Verdict
    written: Written
    stem: str
    suffix: str
    name_source: str
    side: bool


def _waiting(plan: Planned, verdict: Verdict, written: Written, form: Format, hints: Hints) -> _Waiting:
    """Choose the name: what other files on the source call this one, else what the contents give."""
    stem, source = stem_of(verdict.facts, form.name, plan.owned.claim.start_bytes)
    suffix = suffix_of(verdict.facts, form.suffix)
    told = named(verdict.tensors, form.name, written.sha256, hints)
    if told is not None and safe_name(told[0]):
        stem, suffix, source = safe_name(told[0]), suffix_of({"suffix": told[1]}, suffix), told[2]
    return _Waiting(
        plan=plan, verdict=verdict, written=written, stem=stem, suffix=suffix, name_source=source, side=form.side
    )


def _told(verdicts: StageLog, planned: Sequence[Planned], formats: Mapping[str, Format]) -> Iterator[Told]:
    """Yield what the small files among the planned ones tell."""
    for claim in (plan.owned.claim for plan in planned):
        if formats[claim.format].side:
            facts = verdict_entry(verdicts, claim)["facts"]
            yield Told(format=claim.format, start_bytes=claim.start_bytes, facts=facts)


def _zips(planned: Iterable[Planned]) -> Iterator[Zip]:
    """Yield the torch zips among the planned files."""
    for claim in (plan.owned.claim for plan in planned):
        if claim.format == LOOSE and claim.grade is not Grade.UNDECIDED:
            yield Zip(start_bytes=claim.start_bytes, size_bytes=claim.size_bytes)


class _Batch:
    """Files on their way to their names and to the log.

    Attributes:
        paths: of the files in the log, in order.
        waiting: those still to be named.
        done_bytes: bytes of both.
        taken: the same paths, as a set.
    """

    def __init__(self, folder: Path, files: StageLog) -> None:
        self._folder, self._files = folder, files
        self.paths: list[str] = []
        self.waiting: list[_Waiting] = []
        self.done_bytes = 0
        for entry in files.entries():
            self.paths.append(entry["path"])
            self.done_bytes += entry["verdict"]["size_bytes"]
        self.taken = set(self.paths)
        self._stale = set(_earlier_paths(folder)) - self.taken
        self._flushed_bytes, self._flushed_seconds = self.done_bytes, monotonic()

    def add(self, waiting: _Waiting) -> None:
        self.waiting.append(waiting)
        self.done_bytes += waiting.written.size_bytes

    def due(self) -> bool:
        return (
            len(self.waiting) >= SYNC_EVERY_FILES
            or self.done_bytes - self._flushed_bytes >= SYNC_EVERY_BYTES
            or monotonic() - self._flushed_seconds >= SYNC_EVERY_SECONDS
        )

    def flush(self) -> None:
        """Make the waiting files durable under their names, then note them."""
        waiting, self.waiting = self.waiting, []
        lines = []
        named = name_all((one.written, self._paths(one)) for one in waiting)
        for one, path in zip(waiting, named, strict=True):
            name = _relative(path, self._folder)
            parent = one.plan.owned.parent
            lines.append(carved_to_json(_carved(one, name, None if parent is None else self.paths[parent])))
            self.taken.add(name)
            self.paths.append(name)
        if lines:
            self._files.append(*lines)
        self._flushed_bytes, self._flushed_seconds = self.done_bytes, monotonic()

    def _paths(self, one: _Waiting) -> Iterator[Path]:
        """Yield where a file may go: the room of its grade, and no name that another file of this run has.

        A name that an earlier run gave to other bytes is had by moving these out of the way.
        """
        grade = one.verdict.grade
        room = self._folder / ("files" if grade.good else grade.value.lower())
        make_folder(room)
        for name in _names(one.stem, one.suffix, one.plan.owned.claim.start_bytes):
            relative = _relative(room / name, self._folder)
            if relative in self.taken:
                continue
            yield room / name
            if relative in self._stale:  # asked again: other bytes have it
                self._stale.discard(relative)
                _move_aside(self._folder, room / name)
                yield room / name


def _missing(folder: Path, path: Path) -> str | None:
    """Return a file of the log that is no longer there at its length; the case's report must not list it."""
    if not path.is_file():
        return None
    for _, entry in read_log(path):
        file = folder / entry["path"]
        if not file.is_file() or file.stat().st_size != entry["verdict"]["size_bytes"]:
            return str(entry["path"])
    return None


def _set_aside(folder: Path, standing: Container[str]) -> None:
    """Move what earlier runs on another map or other choices wrote, and this one did not, out of the user's way."""
    for relative in _earlier_paths(folder):
        if relative not in standing:
            _move_aside(folder, folder / relative)


def _earlier_paths(folder: Path) -> Iterator[str]:
    for earlier in sorted(folder.glob("files.*.jsonl")):
        for _, entry in read_log(earlier):
            yield str(entry["path"])


def _move_aside(folder: Path, path: Path) -> None:
    if not path.is_file():
        return
    room = folder / SUPERSEDED
    make_folder(room)
    names = (f"{path.stem}-{number}{path.suffix}" for number in count(2))
    path.rename(next(room / name for name in chain([path.name], names) if not (room / name).exists()))


def _progress(hooks: Hooks, base_bytes: int, total_bytes: int) -> Callable[[int], None]:
    return lambda done_bytes: hooks.on_progress("writing", base_bytes + done_bytes, total_bytes)


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _names(stem: str, suffix: str, start_bytes: int) -> Iterator[str]:
    """Yield names until one is free: the offset tells two of one name apart."""
    yield f"{stem}{suffix}"
    yield f"{stem}@{start_bytes:#x}{suffix}"
    for number in count(2):
        yield f"{stem}@{start_bytes:#x}-{number}{suffix}"


def _carved(one: _Waiting, path: str, parent: str | None) -> CarvedFile:
    verdict, written = one.verdict, one.written
    return CarvedFile(
        path=path,
        format=one.plan.owned.claim.format,
        grade=verdict.grade,
        layout_basis=_layout_basis(verdict),
        data_evidence=verdict.data_evidence,
        size_bytes=written.size_bytes,
        sha256=written.sha256,
        md5=written.md5,
        layout=one.plan.layout,
        parent=parent,
        name_source=one.name_source,
        findings=verdict.findings,
        tensors=verdict.tensors,
        facts=verdict.facts,
        side=one.side,
    )


def _layout_basis(verdict: Verdict) -> LayoutBasis:
    return LayoutBasis.PROVEN if verdict.grade is Grade.INTACT else verdict.layout_basis or LayoutBasis.CONTIGUOUS


def final_verdict(verdict: Verdict, owned: Owned) -> Verdict:
    """Return a verdict as it stands after claims: what lies behind a foreign file's head is not its own.

    Of a file inside another one nothing is told about the bytes behind it: they are its owner's.
    """
    if owned.parent is not None and any(finding.code in BEHIND_CODES for finding in verdict.findings):
        inside = tuple(finding for finding in verdict.findings if finding.code not in BEHIND_CODES)
        verdict = dataclasses.replace(verdict, findings=inside)
    if owned.contested_at_bytes is None:
        return verdict
    at_bytes = owned.contested_at_bytes - owned.claim.start_bytes
    finding = Finding(
        code="foreign-file-inside" if at_bytes else "overlaps-proven-file",
        offset_bytes=at_bytes,
        detail=f"another file ({owned.contested_by}) lies here: this one was overwritten or lies in pieces",
    )
    return dataclasses.replace(
        verdict,
        grade=Grade.DAMAGED if verdict.grade.good else verdict.grade,
        tensors=_lowered(verdict.tensors, ExtentSet((span(at_bytes, owned.claim.size_bytes),))),
        findings=(*verdict.findings, finding),
        data_evidence=DataEvidence.NONE,
    )


def _looked_at(verdict: Verdict, plan: Planned, planned: Sequence[Planned]) -> tuple[Tensor, ...]:
    """Return the tensors whose bytes no checksum vouches for, of this file or of what it lies in."""
    parent = plan.owned.parent
    while parent is not None:
        if planned[parent].owned.claim.grade is Grade.INTACT:
            return ()
        parent = planned[parent].owned.parent
    return () if verdict.grade in (Grade.INTACT, Grade.UNDECIDED) else verdict.tensors


def _pass_by(offset_bytes: int, piece: bytes) -> None:
    """Look at nothing."""


def _with_evidence(verdict: Verdict, seen: Plausibility) -> Verdict:
    """Return a verdict as it stands once its bytes were looked at; what looks as it should never raises a grade."""
    if not seen.wanted:
        return verdict
    evidence = seen.conclude()
    data_evidence = verdict.data_evidence
    if evidence.plausible and verdict.grade is Grade.CONSISTENT:
        data_evidence = DataEvidence.PLAUSIBLE
    elif evidence.lost:
        data_evidence = DataEvidence.NONE
    return dataclasses.replace(
        verdict,
        grade=Grade.DAMAGED if evidence.lost and verdict.grade.good else verdict.grade,
        tensors=_lowered(verdict.tensors, evidence.lost),
        findings=(*verdict.findings, *(finding for finding in evidence.findings if not _is_told(finding, verdict))),
        facts={**verdict.facts, "plausibility": evidence.facts},
        data_evidence=data_evidence,
    )


def _is_told(finding: Finding, verdict: Verdict) -> bool:
    """Whether the format itself told of these zeros at the file's end."""
    if finding.code != "tensor-zero-run":
        return False
    tails = (one.offset_bytes for one in verdict.findings if one.code == "zero-tail")
    return any(tail is not None and finding.offset_bytes == tail for tail in tails)


def _with_unreadable(verdict: Verdict, unreadable: ExtentSet) -> Verdict:
    """Return a verdict as it stands after writing: zeros where the image could not be read are not the file's."""
    if not unreadable:
        return verdict
    finding = Finding(
        code="unreadable-image",
        offset_bytes=next(iter(unreadable)).offset_bytes,
        detail=f"{unreadable.total_bytes} bytes of it could not be read from the image and are zeros here",
    )
    return dataclasses.replace(
        verdict,
        grade=Grade.DAMAGED if verdict.grade.good else verdict.grade,
        tensors=_lowered(verdict.tensors, unreadable),
        findings=(*verdict.findings, finding),
        data_evidence=DataEvidence.NONE,
    )


def _lowered(tensors: tuple[Tensor, ...], lost: ExtentSet) -> tuple[Tensor, ...]:
    """Grade as damaged whatever has a byte in `lost`."""
    return tuple(
        dataclasses.replace(tensor, grade=Grade.DAMAGED.value) if any(map(lost.touches, tensor.layout)) else tensor
        for tensor in tensors
    )
