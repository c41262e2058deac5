"""Failure rates: what SMART values have meant in a large fleet: a band with its source, no chance for this drive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

BACKBLAZE_ATTRIBUTES: Mapping[int, str] = MappingProxyType(
    {
        5: "reallocated sectors",
        187: "reported uncorrectable errors",
        188: "command timeouts",
        197: "sectors pending reallocation",
        198: "uncorrectable sectors",
    }
)
# attribute -> (from this raw value on, so many of a hundred drives failed in a year); the last band is open
FAILURES_A_YEAR: Mapping[int, tuple[tuple[int, float], ...]] = MappingProxyType(
    {
        5: ((0, 2.5), (4, 7.5), (16, 24.0), (70, 36.0)),
        187: ((0, 2.8), (1, 34.0)),
        188: ((0, 2.5), (101, 10.0)),
        197: ((0, 2.6), (1, 34.0), (2, 68.0)),
        198: ((0, 2.9), (1, 81.0)),
    }
)
BACKBLAZE_SOURCE = "Backblaze's drive statistics, in the bands that Scrutiny publishes"
NVME_SOURCE = "the drive's own health log"
RAISED_PERCENT, HIGH_PERCENT = 5.0, 20.0
WORN_PERCENT = 100  # percentage used: the maker's estimate of the drive's whole life
CRITICAL_WARNINGS = (  # NVM Express base specification, SMART / Health Information log, byte 0
    "its spare is below the threshold",
    "its temperature is outside the thresholds",
    "its reliability is degraded",
    "its media is read-only",
    "the backup of its volatile memory has failed",
    "its persistent memory is read-only or unreliable",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """A band, and where it comes from.

    Attributes:
        band: "low", "raised" or "high".
        reason: the value that decides.
        failures_a_year_percent: of drives with such a value; None where no statistics say so.
        source: whose statistics.
    """

    band: str
    reason: str
    failures_a_year_percent: float | None
    source: str


def attribute_risk(attributes: Mapping[int, int]) -> Risk | None:
    """Return the worst band of Backblaze's five attributes; None where none of them is told."""
    rates = {number: _rate(number, value) for number, value in attributes.items() if number in FAILURES_A_YEAR}
    if not rates:
        return None
    worst = max(rates, key=lambda number: rates[number])
    return Risk(
        band="high" if rates[worst] >= HIGH_PERCENT else "raised" if rates[worst] >= RAISED_PERCENT else "low",
        reason=f"{BACKBLAZE_ATTRIBUTES[worst]} (attribute {worst}): {attributes[worst]}",
        failures_a_year_percent=rates[worst],
        source=BACKBLAZE_SOURCE,
    )


def nvme_risk(
    *,
    critical_warning: int | None,
    media_errors: int | None,
    available_spare_percent: int | None,
    spare_threshold_percent: int | None,
    percentage_used: int | None,
) -> Risk | None:
    """Return the band that an NVMe drive's own health log speaks for; None where there is no such log."""
    if critical_warning is None:
        return None
    warnings = [text for bit, text in enumerate(CRITICAL_WARNINGS) if critical_warning & 1 << bit]
    if critical_warning:
        band, reason = "high", "; ".join(warnings) or f"critical warning {critical_warning:#x}"
    elif media_errors:
        band, reason = "high", f"media errors: {media_errors}"
    elif None not in (available_spare_percent, spare_threshold_percent) and (
        (available_spare_percent or 0) < (spare_threshold_percent or 0)
    ):
        band, reason = "high", f"spare left: {available_spare_percent} %, below {spare_threshold_percent} %"
    elif (percentage_used or 0) >= WORN_PERCENT:
        band, reason = "raised", f"percentage used: {percentage_used} % of its rated life"
    else:
        band, reason = "low", "no critical warning, no media errors"
    return Risk(band=band, reason=reason, failures_a_year_percent=None, source=NVME_SOURCE)


def _rate(number: int, value: int) -> float:
    return max(percent for low, percent in FAILURES_A_YEAR[number] if value >= low)
