"""Judging: hits to verdicts in a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic

from carver import __version__
from carver.automaton import build
from carver.candidates import Candidate, candidates
from carver.case import Case
from carver.hits import HitStore
from carver.scan import Hits
from carver.stagelog import StageLog
from carver.stages import Choices, Hooks, digest
from carver.stages.cut_short import note_if_cut_short
from carver.stages.seeking import seek_data
from carver.stages.watched import Watched
from carver.verdict_json import layout_pairs, verdict_to_json
from carver.workers import judge_all
from imaging.extent import clip_layout
from imaging.image import MappedImage
from signatures.format import Format
from signatures.verdict import Grade, Verdict

LOG_EVERY_SECONDS = 1.0
LOG_EVERY_VERDICTS = 4096


def judge_hits(
    case: Case, image: MappedImage, store: HitStore, formats: Mapping[str, Format], choices: Choices, hooks: Hooks
) -> StageLog:
    """Judge every candidate, or what is left of them; the log has a line a batch.

    Raises:
        Interrupted: stopped; the batches done are kept.
        OutputError: the case folder cannot be written.
    """
    verdicts = StageLog(case.folder / "verdicts.jsonl", {"scan": digest(store.log.key), "tool": __version__})
    if verdicts.finished:
        return verdicts
    through, sought = 0, False
    for entry in verdicts.entries():
        through, sought = entry["through"], "sought" in entry
    supposed = supposed_files(image, store, formats, choices, hooks)
    judged = judge_all(
        image.source,
        islice(supposed, through, None),
        choices.formats,
        workers=choices.threads,
        limits=choices.limits,
        stop=hooks.stop,
    )
    batch = _VerdictBatch(through=through)
    with closing(judged):
        try:
            for pairs in judged:
                for candidate, verdict in pairs:
                    batch.add(candidate, verdict)
                if batch.due():
                    note_if_cut_short(case, image)
                    verdicts.append(batch.take())
        finally:
            note_if_cut_short(case, image)
            if batch.count:
                verdicts.append(batch.take())
    told = None if sought else seek_data(image, verdicts, formats, choices, hooks)
    if told is not None:
        note_if_cut_short(case, image)
        verdicts.append({"through": batch.through, "rejected": {}, **told})
    verdicts.finish()
    return verdicts


def supposed_files(
    image: MappedImage, store: HitStore, formats: Mapping[str, Format], choices: Choices, hooks: Hooks
) -> Iterator[Candidate]:
    """Yield the candidates of a scan, in the order of their hits."""
    chosen = {name: formats[name] for name in choices.formats}
    table = build(chosen.values()).table
    return candidates(Watched(image.source, hooks.stop), _counted(store, hooks), table, chosen)


def _counted(store: HitStore, hooks: Hooks) -> Iterator[Hits]:
    done = 0
    for block in store.blocks():
        yield block
        done += len(block)
        hooks.on_progress("judging", done, store.count)


@dataclass(slots=True)
class _VerdictBatch:
    """Verdicts on their way to the log: a line is a promise, so it holds whole batches only."""

    through: int
    count: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    verdicts: list[dict[str, object]] = field(default_factory=list)
    since: float = field(default_factory=monotonic)

    def add(self, candidate: Candidate, verdict: Verdict) -> None:
        self.count += 1
        if verdict.grade is Grade.REJECTED:
            self.rejected[f"{candidate.format}:{verdict.findings[0].code}"] += 1
            return
        entry = {"format": candidate.format, "start_bytes": candidate.start_bytes, **verdict_to_json(verdict)}
        if len(candidate.layout) > 1:
            entry["pieces"] = layout_pairs(clip_layout(candidate.layout, 0, verdict.size_bytes))
        self.verdicts.append(entry)

    def due(self) -> bool:
        return self.count >= LOG_EVERY_VERDICTS or monotonic() - self.since > LOG_EVERY_SECONDS

    def take(self) -> dict[str, object]:
        self.through += self.count
        entry = {"through": self.through, "rejected": dict(sorted(self.rejected.items())), "verdicts": self.verdicts}
        self.count, self.rejected, self.verdicts, self.since = 0, Counter(), [], monotonic()
        return entry


def rejected_counts(verdicts: StageLog) -> dict[str, int]:
    """Return how many candidates were rejected, by "format:code"."""
    total: Counter[str] = Counter()
    for entry in verdicts.entries():
        total.update(entry["rejected"])
    return dict(sorted(total.items()))
