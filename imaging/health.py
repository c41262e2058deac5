"""Health: what a drive says of itself through SMART, asked with `smartctl --json -x`.

    read_health(device, timeout_seconds=30, stop=…) -> Health      always answers; `note` says why there is nothing
    parse_health(document) -> Health                               smartctl's JSON, already decoded
    describe_health(health) -> tuple[str, ...]                     lines for people

No smartctl, a bridge that passes no SMART, a file instead of a drive: all normal. smartctl runs in a child of its own
with a deadline, since a dying drive may not answer that either. It opens the drive for reading only (7.3 does, by
strace), and what it asks changes no sector.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from imaging import block_stack, programs
from imaging.failure_rates import BACKBLAZE_ATTRIBUTES, Risk, attribute_risk, nvme_risk

TIMEOUT_SECONDS = 30.0
MAX_TEXT = 200
MAX_ATTRIBUTES = 256  # their number is one byte
NVME_LOG = "nvme_smart_health_information_log"
FAILED_TO_ASK = 0b11  # smartctl(8), EXIT STATUS: bit 0 the command line, bit 1 opening the device
EXIT_BITS = {
    2: "a SMART command failed, or a structure's checksum is wrong",
    3: "the drive says that it is failing",
    4: "attributes are at or below their failure threshold",
    5: "attributes were at or below their failure threshold in the past",
    6: "the drive's error log has errors",
    7: "the drive's self-test log has errors",
}
COMMAND_TIMEOUTS = 188  # its raw value is three counters of 16 bits on Seagate's drives: the low one counts all


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What SMART tells; None where it does not.

    Attributes:
        asked: when, UTC.
        note: why there is nothing, or what smartctl remarked; "" where it had nothing to remark.
        protocol: "ATA", "NVMe", "SCSI".
        passed: the drive's own judgement.
        attributes: raw values of the five attributes that Backblaze found to matter, by number (ATA).
        critical_warning: NVMe's bits.
        problems: what smartctl's exit status tells, in words.
        erc_deciseconds: SCT ERC for reading and writing; 0 is off.
        risk: None where nothing tells.
    """

    asked: str
    note: str = ""
    model: str | None = None
    serial: str | None = None
    firmware: str | None = None
    protocol: str | None = None
    capacity_bytes: int | None = None
    temperature_celsius: int | None = None
    power_on_hours: int | None = None
    passed: bool | None = None
    attributes: Mapping[int, int] = field(default_factory=dict)
    critical_warning: int | None = None
    media_errors: int | None = None
    available_spare_percent: int | None = None
    percentage_used: int | None = None
    erc_deciseconds: tuple[int, int] | None = None
    problems: tuple[str, ...] = ()
    risk: Risk | None = None

    @property
    def available(self) -> bool:
        """Whether the drive's health was told at all."""
        return self.passed is not None or bool(self.attributes) or self.critical_warning is not None


def read_health(
    device: Path | str, *, timeout_seconds: float = TIMEOUT_SECONDS, stop: Callable[[], bool] = lambda: False
) -> Health:
    """Ask smartctl; whatever comes in between is told in `note`."""
    found = ask_smartctl(["-x", disk_of(device)], timeout_seconds=timeout_seconds, stop=stop)
    return _nothing(found) if isinstance(found, str) else parse_health(found)


def disk_of(device: Path | str) -> str:
    """Return what smartctl is to be asked of: the whole disk, also where a partition of it is read."""
    number = block_stack.number_of(device)
    disk = block_stack.parent_disk_of(number) if number is not None else None
    return block_stack.name_of(disk) if disk is not None else str(Path(device).absolute())


def ask_smartctl(
    arguments: list[str], *, timeout_seconds: float = TIMEOUT_SECONDS, stop: Callable[[], bool] = lambda: False
) -> dict[str, object] | str:
    """Return smartctl's JSON document, or a plain reason why there is none."""
    smartctl = programs.find("smartctl")
    if smartctl is None:
        return "smartctl is not installed (it is part of smartmontools)"
    try:
        ran = programs.run([smartctl, "--json", *arguments], timeout_seconds=timeout_seconds, stop=stop)
    except OSError as fault:
        return f"smartctl cannot be started: {fault.strerror}"
    if ran.status is None:
        return "stopped before smartctl had answered" if stop() else f"no answer within {timeout_seconds:.0f} s"
    try:
        document = json.loads(ran.output)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return f"smartctl answered no JSON (exit status {ran.status}); is it older than 7.0?"
    return document


def parse_health(document: object) -> Health:
    """Read smartctl's JSON; a value of a shape that is not expected counts as not told."""
    status = _integer(document, "smartctl", "exit_status") or 0
    attributes = _attributes(document)
    health = Health(
        asked=_now(),
        note=messages_of(document),
        model=_text(document, "model_name") or _text(document, "scsi_model_name"),
        serial=_text(document, "serial_number"),
        firmware=_text(document, "firmware_version"),
        protocol=_text(document, "device", "protocol"),
        capacity_bytes=_integer(document, "user_capacity", "bytes"),
        temperature_celsius=_integer(document, "temperature", "current"),
        power_on_hours=_integer(document, "power_on_time", "hours"),
        passed=_flag(document, "smart_status", "passed"),
        attributes=attributes,
        critical_warning=_integer(document, NVME_LOG, "critical_warning"),
        media_errors=_integer(document, NVME_LOG, "media_errors"),
        available_spare_percent=_integer(document, NVME_LOG, "available_spare"),
        percentage_used=_integer(document, NVME_LOG, "percentage_used"),
        erc_deciseconds=erc_of(document),
        problems=() if status & FAILED_TO_ASK else tuple(EXIT_BITS[bit] for bit in EXIT_BITS if status & 1 << bit),
        risk=attribute_risk(attributes) or _nvme_risk(document),
    )
    if health.available or health.note:
        return health
    return replace(health, note="no SMART: the drive, or the bridge before it, tells nothing")


def describe_health(health: Health) -> tuple[str, ...]:
    """Return lines for people; the last word is never a chance for this drive."""
    if not health.available:
        return (f"SMART: not told ({health.note})",)
    judged = {True: "passed", False: "FAILED", None: "not told"}[health.passed]
    facts = [f"SMART: the drive's own judgement: {judged}"]
    if health.temperature_celsius is not None:
        facts.append(f"{health.temperature_celsius} °C")
    if health.power_on_hours is not None:
        facts.append(f"{health.power_on_hours} hours of use")
    lines = [", ".join(facts)]
    lines += [f"{BACKBLAZE_ATTRIBUTES[number]} ({number}): {value}" for number, value in health.attributes.items()]
    if health.critical_warning is not None:
        lines.append(
            f"critical warning {health.critical_warning:#x}, media errors {_told(health.media_errors)}, spare "
            f"{_told(health.available_spare_percent)} %, used {_told(health.percentage_used)} % of its rated life"
        )
    lines += health.problems
    if health.risk is not None:
        lines.append(_risk_line(health.risk))
    return (*lines, f"smartctl: {health.note}") if health.note else tuple(lines)


def erc_of(document: object) -> tuple[int, int] | None:
    """Return SCT ERC (reading, writing) in deciseconds, 0 where it is off; None where the drive tells none."""
    found = []
    for kind in ("read", "write"):
        enabled = _flag(document, "ata_sct_erc", kind, "enabled")
        if enabled is None:
            return None
        found.append((_integer(document, "ata_sct_erc", kind, "deciseconds") or 0) if enabled else 0)
    return found[0], found[1]


def messages_of(document: object) -> str:
    """Return what smartctl remarked."""
    said = _at(document, "smartctl", "messages")
    texts = [_text(message, "string") for message in said[:MAX_ATTRIBUTES]] if isinstance(said, list) else []
    return "; ".join(text for text in texts if text)


def _risk_line(risk: Risk) -> str:
    if risk.failures_a_year_percent is None:
        return f"risk: {risk.band}: {risk.reason} (from {risk.source})"
    return (
        f"risk: {risk.band}: {risk.reason}; of drives with such a value about {risk.failures_a_year_percent:g} % "
        f"failed within a year ({risk.source}; a figure of a fleet, not a chance for this drive)"
    )


def _attributes(document: object) -> dict[int, int]:
    table = _at(document, "ata_smart_attributes", "table")
    found: dict[int, int] = {}
    for row in table[:MAX_ATTRIBUTES] if isinstance(table, list) else []:
        number = _integer(row, "id")
        if number is not None and number in BACKBLAZE_ATTRIBUTES and (value := _raw(row, number)) is not None:
            found[number] = value
    return dict(sorted(found.items()))


def _raw(row: object, number: int) -> int | None:
    """Return a raw value: smartctl's text knows the drive's own way to pack it ("8 (Average 12)")."""
    value = _integer(row, "raw", "value")
    if number == COMMAND_TIMEOUTS:
        return None if value is None else value & 0xFFFF
    leading = re.match(r"\d{1,15}(?=\s|$)", _text(row, "raw", "string") or "")
    return int(leading[0]) if leading else value


def _nvme_risk(document: object) -> Risk | None:
    return nvme_risk(
        critical_warning=_integer(document, NVME_LOG, "critical_warning"),
        media_errors=_integer(document, NVME_LOG, "media_errors"),
        available_spare_percent=_integer(document, NVME_LOG, "available_spare"),
        spare_threshold_percent=_integer(document, NVME_LOG, "available_spare_threshold"),
        percentage_used=_integer(document, NVME_LOG, "percentage_used"),
    )


def _nothing(reason: str) -> Health:
    return Health(asked=_now(), note=reason)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _told(value: int | None) -> str:
    return "?" if value is None else str(value)


def _at(document: object, *keys: str) -> object:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _integer(document: object, *keys: str) -> int | None:
    found = _at(document, *keys)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None


def _text(document: object, *keys: str) -> str | None:
    found = _at(document, *keys)
    return found.strip()[:MAX_TEXT] or None if isinstance(found, str) else None


def _flag(document: object, *keys: str) -> bool | None:
    found = _at(document, *keys)
    return found if isinstance(found, bool) else None
