"""Keras 3 .keras: a zip of metadata.json, config.json and the weights as HDF5, which is judged as a child."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from imaging.source import Source
from imaging.window import Window
from signatures._zip_grade import explained, grade_of, judge_records, size_of
from signatures._zip_records import record_contents
from signatures._zip_starts import from_name, whole_source
from signatures._zip_survey import Survey, survey_zip
from signatures.format import Format, Pattern
from signatures.verdict import DataEvidence, Grade, Verdict, rejected

MAX_JSON_BYTES = 16 << 20
METADATA_NAME = b"metadata.json"
WEIGHTS_SUFFIXES = (".weights.h5", ".weights.npz", ".weights.json")


def validate(window: Window) -> Verdict:
    """Judge a window that starts where a .keras file is supposed to start.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    survey = survey_zip(window, root="")
    names = {record.name for record in survey.records}
    if "metadata.json" not in names:
        return rejected("not-keras", at_bytes=0, detail="no metadata.json")
    if survey.missing_head_bytes:
        return rejected("starts-earlier", at_bytes=0, detail="an inner member of a longer zip")
    metadata = _json(window, survey, "metadata.json")
    if "config.json" not in names and "keras_version" not in metadata:
        return rejected("not-keras", at_bytes=0, detail="metadata.json is not Keras's")
    config = _json(window, survey, "config.json")
    judge_records(window, survey)
    weights = sorted(name for name in names if name.endswith(WEIGHTS_SUFFIXES))
    if not weights:
        survey.note("no-weights", None, "the file holds no weights")
    grade = grade_of(window, survey)
    return Verdict(
        grade=grade,
        size_bytes=size_of(window, survey),
        findings=tuple(survey.findings),
        facts=_facts(metadata, config, weights),
        data_evidence=DataEvidence.CHECKSUM if grade is Grade.INTACT else DataEvidence.NONE,
        explained=explained(window, survey),
    )


def _json(window: Window, survey: Survey, name: str) -> Mapping[str, object]:
    """Return a JSON member, {} when it is damaged or no object; of two of one name the last, as zipfile does."""
    record = next((record for record in reversed(survey.records) if record.name == name), None)
    raw = record_contents(window, record, limit_bytes=MAX_JSON_BYTES) if record is not None else None
    try:
        value = json.loads(raw) if raw is not None else {}
    except (ValueError, RecursionError):
        survey.note("bad-json", record.data_offset_bytes if record else None, f"{name} is not valid JSON")
        value = {}
    return value if isinstance(value, dict) else {}


def _facts(metadata: Mapping[str, object], config: Mapping[str, object], weights: list[str]) -> dict[str, object]:
    facts: dict[str, object] = {"weights": weights}
    for key in ("keras_version", "date_saved"):
        if isinstance(metadata.get(key), str):
            facts[key] = str(metadata[key])[:100]
    inner = config.get("config")
    name = inner.get("name") if isinstance(inner, dict) else None
    if isinstance(config.get("class_name"), str):
        facts["class_name"] = str(config["class_name"])[:100]
    if isinstance(name, str) and name:
        facts |= {"name": name[:200], "name_source": "config name"}
    return facts


def keras_starts(source: Source, hit_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the start of the zip that has a member of exactly this name."""
    return from_name(whole_source(source), hit_bytes, pattern.bytes, exact=True)


FORMAT = Format(
    name="keras",
    suffix=".keras",
    title="Keras 3 model (.keras)",
    patterns=(Pattern(bytes=METADATA_NAME, offset_bytes=30, name="metadata"),),
    validate=validate,
    proves="every member, the weights file included, is under a CRC-32 that was computed",
    starts=keras_starts,
    container=True,
)
