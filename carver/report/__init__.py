"""Reports: views of one Recovery record. Every module `as_*` here that has a `REPORT` is one; no list names them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from carver.output import write_pieces
from carver.recovery import Recovery


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One kind of report.

    Attributes:
        file_name: what it is called in the case folder.
        render: yields the text piece by piece, since a million files make gigabytes; pure, so that it can be written
            anew at any time.
    """

    file_name: str
    render: Callable[[Recovery], Iterator[str]]


@cache
def reports() -> tuple[Report, ...]:
    """Return every kind of report, in the order of their modules' names."""
    found = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        if module.name.startswith("as_"):
            declared = getattr(importlib.import_module(f"{__name__}.{module.name}"), "REPORT", None)
            if isinstance(declared, Report):
                found.append(declared)
    return tuple(found)


def write_reports(recovery: Recovery, folder: Path) -> list[Path]:
    """Write every report into `folder`; each appears whole or not at all, and replaces its older self.

    Raises:
        DestinationFullError: no room is left.
        OutputError: the folder cannot be written.
    """
    return [write_report(report, recovery, folder) for report in reports()]


def write_report(report: Report, recovery: Recovery, folder: Path) -> Path:
    """Write one report (see `write_reports`) and return its path."""
    path = folder / report.file_name
    write_pieces(path, (piece.encode("utf-8", errors="backslashreplace") for piece in report.render(recovery)))
    return path
