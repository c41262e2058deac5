"""Extracting: the planned files written, with their hashes, and logged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path

from carver import __version__
from carver.case import Case
from carver.claims import Owned
from carver.extract import Written, extract
from carver.identify import stem_of, suffix_of
from carver.output import PARTIAL_SUFFIX, make_folder
from carver.recovery import CarvedFile
from carver.stagelog import StageLog
from carver.stages import Choices, Hooks, digest
from carver.stages.claiming import Planned, verdict_entry
from carver.verdict_json import carved_from_json, carved_to_json, verdict_from_json
from imaging.extent import ExtentSet, layout_bytes, span
from imaging.image import MappedImage
from signatures.format import Format
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Finding, Grade, LayoutBasis, Verdict


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
    files = StageLog(case.folder / "files.jsonl", key)
    if files.finished:
        return files
    total_bytes = sum(layout_bytes(plan.layout) for plan in planned)
    written = list(carved_files(files))
    done_bytes = sum(file.size_bytes for file in written)
    taken = {file.path for file in written}
    for plan in planned[len(written) :]:
        verdict = final_verdict(verdict_from_json(verdict_entry(verdicts, plan.owned.claim)), plan.owned)
        stem, name_source = stem_of(verdict.facts, plan.owned.claim.format, plan.owned.claim.start_bytes)
        suffix = suffix_of(verdict.facts, formats[plan.owned.claim.format].suffix)
        names = partial(_names, stem, suffix, plan.owned.claim.start_bytes)
        file = extract(
            image.source,
            plan.layout,
            case.folder / f"file{PARTIAL_SUFFIX}",
            partial(_paths, case.folder, verdict, names, taken),
            with_md5=choices.with_md5,
            on_bytes=_progress(hooks, done_bytes, total_bytes),
            stop=hooks.stop,
        )
        parent = None if plan.owned.parent is None else written[plan.owned.parent].path
        verdict = _with_unreadable(verdict, file.unreadable)
        carved = _carved(plan, verdict, file, _relative(file.path, case.folder), parent, name_source)
        files.append(carved_to_json(carved))
        written.append(carved)
        taken.add(carved.path)
        done_bytes += file.size_bytes
    files.finish()
    return files


def carved_files(files: StageLog) -> Iterator[CarvedFile]:
    """Yield the files that were written, in order."""
    return (carved_from_json(entry) for entry in files.entries())


def _paths(
    folder: Path, verdict: Verdict, names: Callable[[], Iterator[str]], taken: Container[str], unreadable: ExtentSet
) -> Iterator[Path]:
    """Yield where a file may go: the room of its final grade, and no name that another file of this run has."""
    grade = _with_unreadable(verdict, unreadable).grade
    room = folder / ("files" if grade.good else grade.value.lower())
    make_folder(room)
    return (room / name for name in names() if _relative(room / name, folder) not in taken)


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


def _carved(
    plan: Planned, verdict: Verdict, file: Written, path: str, parent: str | None, name_source: str
) -> CarvedFile:
    return CarvedFile(
        path=path,
        format=plan.owned.claim.format,
        grade=verdict.grade,
        layout_basis=LayoutBasis.PROVEN if verdict.grade is Grade.INTACT else LayoutBasis.CONTIGUOUS,
        data_evidence=verdict.data_evidence,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        md5=file.md5,
        layout=plan.layout,
        parent=parent,
        name_source=name_source,
        findings=verdict.findings,
        tensors=verdict.tensors,
        facts=verdict.facts,
    )


def final_verdict(verdict: Verdict, owned: Owned) -> Verdict:
    """Return a verdict as it stands after claims: what lies behind a foreign file's head is not its own."""
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
