"""Bounded: what a stage holds does not grow by more than so many bytes a file."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import signatures
from carver import verdict_json
from carver.case import Case
from carver.identify import companions
from carver.identify.models import assemble
from carver.recover import load_recovery
from carver.report import as_html, write_reports
from carver.stagelog import StageLog
from carver.stages import Choices
from carver.stages.claiming import plan_files
from carver.stages.gathering import gather_models
from carver.verdict_json import carved_to_json, verdict_to_json
from imaging.extent import span
from imaging.image import open_image
from signatures.verdict import DataEvidence, Grade, Verdict
from tests.carver.made_models import WIDTH, WORDS, a_file, llama, tensors

FEW, MANY = 100, 400
LOADED_BYTES = 700  # a file: paths, hashes and outlines, while models are put together
PLANNED_BYTES = 900  # a file: its claim and its plan, and the claim of a part of it
SPACE_BYTES = 8192
SPECS = tuple((f"{name}.{n}", (n + 1, 3)) for n in range(4) for name in ("weight", "bias"))


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most that was held while `work` ran, above what was before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bytes_a_file(work: Callable[[int], object]) -> float:
    work(FEW)  # what is loaded once is loaded
    few, many = (peak_bytes(lambda count=count: work(count)) for count in (FEW, MANY))  # type: ignore[misc]
    return (many - few) / (MANY - FEW)


def a_zip(number: int) -> dict[str, object]:
    """Return what the log tells of a checkpoint; no two have tensors of the same shapes."""
    held = tensors((*SPECS, ("own.weight", (number + 1, 2))))
    facts = {"name": f"run-{number}", "versions": ["3"], "members": [f"data/{n}" for n in range(9)]}
    file = a_file(f"files/run-{number}.pt", held, form="pytorch_zip", at_bytes=number * SPACE_BYTES, facts=facts)
    return carved_to_json(file)


def a_case(folder: Path, files: int) -> Case:
    case = Case.create(folder, locator="/dev/sdx", identity={"size_bytes": files * SPACE_BYTES})
    with StageLog(folder / "files.jsonl", {}) as log:
        for number in range(files):
            log.append(a_zip(number))
        log.finish()
    source = {"size_bytes": files * SPACE_BYTES, "unread": None}
    case.note(run={"started": ""}, carved={"source": source, "rejected": {}})
    return case


def test_files_models_and_reports_hold_little_of_each_file(tmp_path, monkeypatch):
    monkeypatch.setattr(verdict_json, "HELD_BYTES", 0)
    monkeypatch.setattr(as_html, "MAX_FILES", FEW // 2)
    monkeypatch.setattr(as_html, "MAX_MODELS", FEW // 2)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    cases = {count: a_case(tmp_path / str(count), count) for count in (FEW, MANY)}

    def work(count: int) -> None:
        recovery = load_recovery(cases[count])
        gather_models(recovery, cases[count].folder)
        write_reports(recovery, cases[count].folder)
        assert len(recovery.files) == len(recovery.models) == count

    assert bytes_a_file(work) < LOADED_BYTES
    for case in cases.values():
        case.close()


def the_verdicts(count: int) -> Iterator[dict[str, Any]]:
    """Yield batches: each file has a record inside that was taken for a file of its own."""
    for number in range(count):
        start_bytes = number * SPACE_BYTES
        outer = Verdict(
            grade=Grade.INTACT,
            size_bytes=4096,
            tensors=tensors(SPECS),
            data_evidence=DataEvidence.CHECKSUM,
            explained=tuple(range(64, 4096, 64)),
        )
        inner = Verdict(grade=Grade.TRUNCATED, size_bytes=2 * SPACE_BYTES)
        pairs = ((start_bytes, outer), (start_bytes + 64, inner))
        entries = [{"format": "pytorch_zip", "start_bytes": at, **verdict_to_json(one)} for at, one in pairs]
        yield {"through": 2 * number, "rejected": {}, "verdicts": entries}


def test_settling_and_planning_hold_little_of_each_file(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    (tmp_path / "image").write_bytes(b"")
    with (tmp_path / "image").open("r+b") as file:
        file.truncate((MANY + 9) * SPACE_BYTES)
    image = open_image(tmp_path / "image", None)
    logs = {}
    for count in (FEW, MANY):
        logs[count] = StageLog(tmp_path / f"{count}.jsonl", {})
        logs[count].append(*the_verdicts(count))

    def work(count: int) -> None:
        planned = plan_files(image, logs[count], signatures.formats(), Choices(formats=("pytorch_zip",)))
        assert len(planned) == count
        assert planned[1].layout == (span(SPACE_BYTES, SPACE_BYTES + 4096),)

    assert bytes_a_file(work) < PLANNED_BYTES
    for log in logs.values():
        log.close()


@pytest.mark.parametrize("missing", [False, True])
def test_a_configuration_is_not_held_against_every_model_of_its_size(monkeypatch, missing):
    """Else ten thousand configurations and checkpoints of one kind would take hours."""
    asked = []

    def counted(model: object, facts: Any) -> bool:
        asked.append(model)
        return has_sizes(model, facts)

    has_sizes = companions.has_sizes
    monkeypatch.setattr(companions, "has_sizes", counted)
    specs = llama(range(2), last=not missing)
    files = [
        a_file(f"f{n}", tensors(specs, "float32" if n % 2 else "float16"), at_bytes=n * SPACE_BYTES) for n in range(40)
    ]
    facts = {"kind": "config.json", "hidden_size": WIDTH, "num_hidden_layers": 2}
    side = [
        a_file(f"s{n}", form="model_json", side=True, facts={**facts, "vocab_size": WORDS + n % 2}) for n in range(40)
    ]
    assert len(assemble(files, side)) == 40
    assert len(asked) < 6 * len(side)
