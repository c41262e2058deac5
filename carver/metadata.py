"""Case metadata: what a lab writes on the folder, kept in `case.toml` where its examiner can edit it."""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from pathlib import Path

from carver.output import write_whole
from carver.recovery import CaseMetadata
from imaging.errors import InputError

MAX_BYTES = 1 << 20
KEYS = tuple(field.name for field in dataclasses.fields(CaseMetadata))

TEMPLATE = """\
# What stands at the head of this case's reports. Every line is optional; edit it at any time,
# then run `carver report` on the case again. Nothing here changes what was found.

# The lab's own number of the case.
case = {case}

# The exhibit or item that was examined, as it is labelled.
evidence = {evidence}

# Who does the examination.
examiner = {examiner}

# The lab or office.
organisation = {organisation}

# Anything a reader of the report should know: condition on receipt, what was asked for.
notes = {notes}
"""


def load(path: Path) -> CaseMetadata:
    """Read a `case.toml`.

    Raises:
        InputError: it cannot be read, is no TOML, or has a key or type that is not expected.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path} is over 1 MiB; a case.toml holds a few lines of text")
        table = tomllib.loads(content.decode("utf-8-sig"))  # editors on Windows put a byte order mark in front
    except OSError as fault:
        raise InputError(f"cannot read {path}: {os.strerror(fault.errno or 0)}") from fault
    except UnicodeDecodeError as fault:
        raise InputError(f"{path} is not UTF-8 text (byte {fault.start}); save it as UTF-8") from fault
    except (tomllib.TOMLDecodeError, RecursionError) as fault:
        raise InputError(f'{path} is no valid TOML: {fault}; lines look like  examiner = "A. Name"') from fault
    for key, value in table.items():
        _check(path, key, value)
    return CaseMetadata(**table)


def _check(path: Path, key: str, value: object) -> None:
    if key not in KEYS:
        raise InputError(f"{path}: unknown key {key!r}; expected are {', '.join(KEYS)}")
    if not isinstance(value, str):
        raise InputError(f'{path}: {key} must be text in quotes, e.g.  {key} = "…"  (it is {type(value).__name__})')


def merge(metadata: CaseMetadata, **options: str | None) -> CaseMetadata:
    """Return `metadata` with every option that was given (is not None) in its place.

    Raises:
        TypeError: an option is no field of CaseMetadata.
    """
    return dataclasses.replace(metadata, **{key: value for key, value in options.items() if value is not None})


def write_template(path: Path, metadata: CaseMetadata) -> bool:
    """Write a commented `case.toml` to edit; what is there already is left as it is.

    Returns:
        Whether it was written.

    Raises:
        OutputError: it cannot be written; nothing of it stays then, and the next run writes it.
    """
    values = {key: _quoted(getattr(metadata, key), multiline=key == "notes") for key in KEYS}
    if os.path.lexists(path):
        return False
    write_whole(path, TEMPLATE.format(**values).encode(errors="replace"))
    return True


def _quoted(text: str, *, multiline: bool) -> str:
    """Return a TOML basic string; JSON's escapes are TOML's, but for DEL."""
    if multiline:
        return '"""\n' + "\n".join(_quoted(line, multiline=False)[1:-1] for line in text.split("\n")) + '"""'
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
