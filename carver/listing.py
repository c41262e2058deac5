"""Listing: the files that a truth or a report.json lists, as far as a score needs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from carver.json_stream import entries
from carver.recovery import SCHEMA_VERSION
from imaging.errors import InputError
from signatures.verdict import Grade

GRADES = tuple(Grade)
NAMES = {"truth": "truth file (JSON)", "report": "case folder, nor a report.json"}
Runs: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """One file of a truth or a report.

    Attributes:
        path: its name in the truth, or where it was written.
        format: its name.
        good: whether its grade is a good one.
        sha256: of its bytes.
        layout: (offset, size) of its runs in the image, in file order.
        parent: the path of the container it lies in, or None.
    """

    path: str
    format: str
    good: bool
    sha256: str
    layout: Runs
    parent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A truth's files, or a report's with the small ones apart."""

    files: tuple[ListedFile, ...]
    side_files: tuple[ListedFile, ...] = ()


def load_truth(path: Path) -> Listing:
    """Read a truth file.

    Raises:
        InputError: it cannot be read or breaks the schema.
    """
    return _load(path, "truth")


def load_report(path: Path) -> Listing:
    """Read a report.json; of gigabytes no more is held than the score needs.

    Raises:
        InputError: it cannot be read or breaks the schema.
    """
    return _load(path, "report")


def _load(path: Path, kind: str) -> Listing:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return listing(entries(file), kind)
    except OSError as fault:
        raise InputError(f"cannot read {path}: {os.strerror(fault.errno or 0)}") from fault
    except UnicodeDecodeError as fault:
        raise InputError(f"{path} holds bytes that are no text: it is no {NAMES[kind]}") from fault
    except (ValueError, RecursionError) as fault:
        raise InputError(f"{path} is no JSON: {fault}") from fault
    except InputError as fault:
        raise InputError(f"{path}: {fault}") from fault


def listing(document: Iterable[tuple[str, Any]], kind: str) -> Listing:
    """Return what a document lists, "truth" or "report", given by keys and values; lists may be iterators.

    Raises:
        InputError: it breaks the schema.
    """
    version: object = None
    files: tuple[ListedFile, ...] | None = None
    side_files: tuple[ListedFile, ...] = ()  # reports of earlier versions have none
    for key, value in document:
        if key == "schema_version":
            version = value
        elif key == "files" and isinstance(value, list | Iterator):
            files = _files(value, kind, "files")
        elif key == "side_files" and kind == "report":
            if not isinstance(value, list | Iterator):
                raise InputError('this report has "side_files" that are no list')
            side_files = _files(value, kind, "side_files")
    if files is None:
        raise InputError(f'this {kind} has no list "files"')
    if version != SCHEMA_VERSION:
        raise InputError(f"this {kind} has schema_version {version!r}, not {SCHEMA_VERSION}")
    return Listing(files=files, side_files=side_files)


def _files(found: Iterable[object], kind: str, key: str) -> tuple[ListedFile, ...]:
    ungraded = Grade.CONSISTENT.value if kind == "truth" else None  # a true file is good unless it says otherwise
    return tuple(_file(entry, f"{kind} {key}[{index}]", ungraded) for index, entry in enumerate(found))


def _file(entry: object, where: str, ungraded: str | None) -> ListedFile:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} is no object")
    for key in ("path", "format", "sha256"):
        if not isinstance(entry.get(key), str):
            raise InputError(f'{where}: "{key}" must be text')
    parent, grade = entry.get("parent"), entry.get("grade", ungraded)
    if not (parent is None or isinstance(parent, str)):
        raise InputError(f'{where}: "parent" must be a path or null')
    if grade not in GRADES:
        raise InputError(f'{where}: "grade" must be one of {", ".join(Grade)}')
    return ListedFile(
        path=entry["path"],
        format=sys.intern(entry["format"]),  # one text for a million files
        good=Grade(grade).good,
        sha256=entry["sha256"].lower(),
        layout=_runs(entry.get("layout"), where),
        parent=parent,
    )


def _runs(layout: object, where: str) -> Runs:
    """Return the layout with neighbours joined, so that one run written as two is still the same layout."""
    runs: list[tuple[int, int]] = []
    for pair in layout if isinstance(layout, list) else [None]:
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(_is_count(number) for number in pair)):
            raise InputError(f'{where}: "layout" must be a list of [offset, size]')
        start, size = pair
        if runs and sum(runs[-1]) == start:
            runs[-1] = (runs[-1][0], runs[-1][1] + size)
        elif size:
            runs.append((start, size))
    return tuple(runs)


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 62
