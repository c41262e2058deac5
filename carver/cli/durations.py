"""Durations: lengths of time for people."""

from __future__ import annotations

STEPS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """Return "45 s", "12 min 5 s", "3 h 12 min", "2 d 4 h": the two largest units, the rest cut off."""
    rest = int(max(seconds, 0))
    parts: list[tuple[int, str]] = []
    for size, name in STEPS:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append((count, name))
        if len(parts) == 2:
            break
    return " ".join(f"{count} {name}" for count, name in parts if count) or "0 s"


def roughly(seconds: float) -> str:
    """Return a length that is an estimate: rounded up to two digits' worth, e.g. "40 s", "12 min", "3 h 20 min"."""
    for least, step in ((86400, 3600), (36000, 1800), (3600, 600), (600, 60), (60, 30), (10, 5)):
        if seconds >= least:
            return duration(-(-seconds // step) * step)
    return duration(-(-seconds // 1))
