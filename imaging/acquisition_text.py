"""Acquisition text: the acquisition record for people: rows for a report, and plain text that a lab can sign.

rows(record) -> ((section, label, value), …)       values are single lines, safe to print
as_text(record) -> str
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from imaging.acquisition_record import AcquisitionRecord, Result, Session
from imaging.failure_rates import BACKBLAZE_ATTRIBUTES

Row: TypeAlias = tuple[str, str, str]

SHOWN_RANGES = 200
LABEL_WIDTH, VALUE_WIDTH = 26, 84
STATUSES = {"?": "not tried", "*": "not trimmed", "/": "not scraped", "-": "bad sector"}
CASE_LABELS = ("case", "evidence", "examiner", "organisation", "notes")
DRIVE_LABELS = {
    "path": "Source",
    "model": "Model",
    "serial": "Serial number",
    "firmware": "Firmware",
    "smart_model": "Model by SMART",
    "smart_serial": "Serial number by SMART",
    "smart_firmware": "Firmware by SMART",
    "transport": "Connected by",
    "logical_sector_bytes": "Logical sector, bytes",
    "physical_sector_bytes": "Physical sector, bytes",
}
NOT_TOLD = "not told"


def rows(record: AcquisitionRecord) -> tuple[Row, ...]:
    """Return the record as (section, label, value), in the order in which a report shows it."""
    found = [*_case(record), *_drive(record.drive), *_image(record)]
    for number, session in enumerate(record.sessions, start=1):
        found += [(f"Session {number}", label, value) for label, value in _session(session)]
    if record.result is not None:
        found += [("Result", label, value) for label, value in _result(record.result)]
    found += [("Verification", *_verification(each)) for each in record.verifications]
    return tuple((section, label, _plain(value)) for section, label, value in found)


def as_text(record: AcquisitionRecord) -> str:
    """Return the record as plain text with a place for signatures."""
    lines, section = ["ACQUISITION RECORD"], ""
    for here, label, value in rows(record):
        if here != section:
            lines += ["", here, "-" * len(here)]
            section = here
        lines += _wrapped(label, value)
    blank = "_" * 30
    lines += ["", "Signed", "------"]
    lines += [f"{label + ':':<{LABEL_WIDTH}} {blank}" for label in ("Name", "Date", "Signature")]
    return "\n".join([*lines, "", "End of the acquisition record", ""])


def _wrapped(label: str, value: str) -> list[str]:
    """Return the lines of a row; paths and digests are never broken."""
    parts = textwrap.wrap(value, VALUE_WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
    first = f"{label + ':':<{LABEL_WIDTH}} {parts[0]}".rstrip()
    return [first, *(" " * (LABEL_WIDTH + 1) + part for part in parts[1:])]


def _case(record: AcquisitionRecord) -> Iterator[Row]:
    for key in CASE_LABELS:
        yield "Case", key.capitalize(), record.case.get(key, "")


def _drive(drive: Mapping[str, Any]) -> Iterator[Row]:
    for key, label in DRIVE_LABELS.items():
        if drive.get(key) is not None or not key.startswith("smart"):
            yield "Drive", label, _told(drive.get(key))
    size_bytes = drive.get("size_bytes")
    yield "Drive", "Capacity", NOT_TOLD if size_bytes is None else f"{size_bytes} bytes"
    hidden = drive.get("hidden_areas") or {}
    yield "Drive", "HPA, DCO", _told(hidden.get("note"))
    yield "Drive", "TRIM", _flag(drive.get("discard"), "possible; whether it ran is not known", "no")


def _image(record: AcquisitionRecord) -> Iterator[Row]:
    image = record.image
    yield "Image", "File", _told(image.get("path"))
    yield "Image", "Map", _told(image.get("map"))
    yield "Image", "Format", f"{image.get('format', 'raw')}, {image.get('segments', 1)} segment"
    yield from (("Image", "Filled", words) for words in record.fillings)
    if image.get("shift_bytes"):
        yield "Image", "Position", f"the drive's first byte would lie at {image['shift_bytes']} in the image"


def _session(session: Session) -> Iterator[tuple[str, str]]:
    yield "Started (UTC)", session.started
    yield "Ended (UTC)", session.ended or NOT_TOLD
    yield "Outcome", session.outcome
    yield "Tool", f"{session.tool} {session.version}"
    yield "Command", shlex.join(session.command)
    yield "Host, system, user", f"{session.host}, {session.system}, {session.user or NOT_TOLD}"
    yield "Source", session.source
    yield "Write protection", _protection(session.write_protection)
    yield from (("Changed for this run", change) for change in session.kernel_changes)
    yield from (("Option", f"{name} = {value}") for name, value in session.options.items())
    yield "Retry passes", "without end" if session.retry_passes < 0 else str(session.retry_passes)
    yield "SMART before", _health(session.health_before)
    yield "SMART after", _health(session.health_after)
    if session.highest_celsius is not None:
        yield "Highest temperature", f"{session.highest_celsius} °C"
    if session.reads is not None:
        yield "Reads, failed reads", f"{session.reads}, {session.read_errors}"
        yield "Read in this session", f"{session.rescued_bytes} bytes in {session.seconds} s"
    if session.hung:
        yield "Reads that hung", f"{len(session.hung)}, the first at {session.hung[0][0]:#x}"
    if session.blank_after_errors_bytes:
        yield "Suspect", f"{session.blank_after_errors_bytes} bytes of one repeated sector right after errors"
    yield from (("Event", event) for event in session.events)


def _result(result: Result) -> Iterator[tuple[str, str]]:
    yield "State of (UTC)", result.at
    yield "Finished", "yes" if result.finished else "no"
    yield "Image", f"{result.image_bytes} bytes"
    yield "Read from the drive", f"{result.rescued_bytes} bytes"
    yield "Not read", f"{result.unread_bytes} bytes, {_ranges_told(result.unread_range_count)}"
    if result.unread_range_count:
        yield "Fill of what is not read", result.fill
    yield from _ranges(result)
    yield "Map, SHA-256", result.map_sha256
    for name, digest in result.digests.items():
        yield f"Image, {_algorithm(name)}", digest
    if not result.digests:
        yield "Image, hash", "not computed"
    yield from _hashes(result.hashes)


def _ranges_told(count: int) -> str:
    return "1 range" if count == 1 else f"{count} ranges"


def _ranges(result: Result) -> Iterator[tuple[str, str]]:
    for offset_bytes, size_bytes, status in result.unread_ranges[:SHOWN_RANGES]:
        yield "Not read at", f"{offset_bytes:#x}+{size_bytes:#x} ({STATUSES.get(status, status)})"
    more = result.unread_range_count - min(len(result.unread_ranges), SHOWN_RANGES)
    if more > 0:
        yield "Not read at", f"and {more} more ranges; the map has them all"


def _hashes(hashes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not hashes:
        return
    yield "Hashed in pieces", f"{hashes['pieces']}, of these {hashes['from_drive']} as they came from the drive"
    for offset_bytes, size_bytes in hashes["differing"][:SHOWN_RANGES]:
        yield (
            "DIFFERS",
            f"{offset_bytes:#x}+{size_bytes:#x} is not as it was hashed: the image was changed or is damaged",
        )
    if hashes["fault"]:
        yield "Hashing failed", hashes["fault"]


def _verification(found: Mapping[str, Any]) -> tuple[str, str]:
    if not found["finished"]:
        verdict = "not finished"
    elif found["clean"]:
        verdict = "the image is as it was hashed"
    elif found["differing"]:
        places = ", ".join(f"{at:#x}+{size:#x}" for at, size in found["differing"][:SHOWN_RANGES])
        verdict = f"THE IMAGE DIFFERS from what was hashed at {places}"
    elif found["image_agrees"] is False:
        verdict = "THE IMAGE DIFFERS from its hash"
    else:
        verdict = f"{found['unhashed_bytes']} bytes were never hashed; the rest is as it was hashed"
    digests = "; ".join(f"{_algorithm(name)} {digest}" for name, digest in found["digests"].items())
    return found["at"], f"{verdict} ({found['checked_pieces']} pieces compared){'; ' if digests else ''}{digests}"


def _health(health: Mapping[str, Any] | None) -> str:
    """Return one line; the record may have been read from JSON, so keys of attributes are text or numbers."""
    if health is None:
        return "not asked"
    attributes = {int(number): value for number, value in (health.get("attributes") or {}).items()}
    if health.get("passed") is None and not attributes and health.get("critical_warning") is None:
        return f"not told ({health.get('note')})"
    parts = [_flag(health.get("passed"), "passed", "FAILED")]
    parts += [f"{BACKBLAZE_ATTRIBUTES.get(number, number)} {value}" for number, value in attributes.items()]
    for key, unit in (
        ("critical_warning", ""),
        ("media_errors", ""),
        ("percentage_used", " %"),
        ("temperature_celsius", " °C"),
    ):
        if health.get(key) is not None:
            parts.append(f"{key.rsplit('_celsius')[0].replace('_', ' ')} {health[key]}{unit}")
    risk = health.get("risk")
    if risk:
        rate = risk.get("failures_a_year_percent")
        figure = f", {rate:g} % of drives with such a value failed in a year" if rate is not None else ""
        parts.append(f"risk {risk['band']} ({risk['reason']}{figure}; {risk['source']})")
    return "; ".join(parts)


def _protection(protection: Mapping[str, Any]) -> str:
    kernel = _flag(protection.get("kernel_read_only"), "on", "off")
    uses: Sequence[str] = protection.get("in_use") or ()
    use = "; ".join(uses) or "not in use"
    return (
        f"opened read-only; the kernel's read-only flag (BLKROGET): {kernel}; {use}. {protection.get('statement', '')}"
    )


def _algorithm(name: str) -> str:
    return {"sha256": "SHA-256", "md5": "MD5"}.get(name, name)


def _flag(value: object, yes: str, no: str) -> str:
    return yes if value is True else no if value is False else NOT_TOLD


def _told(value: object) -> str:
    return NOT_TOLD if value is None else str(value)


def _plain(text: str) -> str:
    """Return one line without control characters: a drive's serial number may hold anything."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text))
