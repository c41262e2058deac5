"""Acquired: how the image that is carved came about, as its acquisition record tells, for the reports."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from imaging.acquisition_record import TEST_MODE, load, record_of, record_path
from imaging.acquisition_text import Row, rows
from imaging.errors import InputError
from imaging.image import MappedImage

SAID_ELSEWHERE = ("Case", "Not read at")  # in the report's head, and in its list of ranges

log = logging.getLogger(__name__)


def acquisition_of(image: MappedImage) -> dict[str, Any] | None:
    """Return the record beside the image, but for its list of unread ranges, which the map has; None without one.

    One that cannot be read is told, and left out: it hinders no recovery.
    """
    path = image.source.path
    try:
        record = load(record_path(path, image.map_path or path))
    except InputError as fault:
        log.warning("%s; the report goes without it", fault)
        return None
    if record is None:
        return None
    document = asdict(record)
    if record.result is not None:
        del document["result"]["unread_ranges"]  # an empty list would say that there are none
    return document


def acquisition_rows(run: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Return the rows of the record that a run keeps, by section; nothing where it keeps none that can be read."""
    document = run.get("acquisition")
    if document is None:
        return {}
    try:
        result = document["result"] and {"unread_ranges": (), **document["result"]}
        found = rows(record_of({**document, "result": result}))
    except (ValueError, TypeError, KeyError, AttributeError) as fault:
        log.warning("the acquisition record in this case is of another version and is left out (%s)", fault)
        return {}
    sections: dict[str, list[Row]] = {}
    for row in found:
        if row[0] not in SAID_ELSEWHERE and row[1] not in SAID_ELSEWHERE:
            sections.setdefault(row[0], []).append(row)
    return sections


def simulation_map(acquisition: Mapping[str, Any] | None) -> str | None:
    """Return the map that told what fails, where any session was in test mode; None: what was read is no simulation."""
    sessions = (acquisition or {}).get("sessions") or ()
    return next((str(each["options"][TEST_MODE]) for each in sessions if each.get("options", {}).get(TEST_MODE)), None)


def image_digests(run: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the hashes of the whole image that the record in a run has, by algorithm; empty where it has none."""
    acquisition = run.get("acquisition") or {}
    return (acquisition.get("result") or {}).get("digests") or {}
