"""Reports: views of one Recovery record. Every module `as_*` here that has a `REPORT` is one; no list names them."""

from __future__ import annotations

import errno
import importlib
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from carver.recovery import Recovery
from imaging.errors import DestinationFullError, OutputError
from imaging.ownership import give_to_caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One kind of report.

    Attributes:
        file_name: what it is called in the case folder.
        render: the whole text; pure, so that it can be written anew at any time.
    """

    file_name: str
    render: Callable[[Recovery], str]


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
    temporary = folder / f".{report.file_name}.part"
    content = report.render(recovery).encode("utf-8", errors="backslashreplace")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        give_to_caller(temporary)
        temporary.replace(path)
    except OSError as fault:
        temporary.unlink(missing_ok=True)
        kind = DestinationFullError if fault.errno in (errno.ENOSPC, errno.EDQUOT) else OutputError
        raise kind(f"cannot write {path}: {os.strerror(fault.errno or 0)}") from fault
    return path
