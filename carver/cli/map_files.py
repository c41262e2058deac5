"""Map files: mapfiles and block lists read, from a path or standard input, and new maps written."""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

from carver.cli import screen
from imaging.errors import InputError, OutputError
from imaging.mapfile import BlockStatus, Mapfile, parse_loose
from imaging.mapstore import HEADING, MapStore
from imaging.ownership import give_to_caller

STANDARD = Path("-")  # standard input, or output
# a leading 0 is refused: ddrescuelog reads octal there, others decimal
_BLOCK_NUMBER = re.compile(rb"0x[0-9a-fA-F]{1,99}|0|[1-9][0-9]{0,98}")


def load(path: Path) -> Mapfile:
    """Read a map, with the journal of whoever is still writing it."""
    if path == STANDARD:
        return Mapfile.parse(sys.stdin.buffer.read().decode("latin-1"), name="standard input")
    return MapStore.read_snapshot(path.resolve())


def load_loosely(path: Path, fill: BlockStatus = BlockStatus.NON_TRIED) -> Mapfile:
    """Read a map made by hand."""
    try:
        content = sys.stdin.buffer.read() if path == STANDARD else path.read_bytes()
    except OSError as fault:
        raise InputError(f"cannot read the mapfile {path}: {os.strerror(fault.errno or 0)}") from fault
    return parse_loose(content.decode("latin-1"), fill, name="standard input" if path == STANDARD else str(path))


def block_numbers(content: bytes) -> Iterator[int]:
    """Yield the numbers of a block list: one after the other, decimal or 0x…, between white space.

    Raises:
        InputError: a word is no number.
    """
    for position, word in enumerate(content.split(), start=1):
        if not _BLOCK_NUMBER.fullmatch(word):
            shown = word[:40].decode("latin-1")
            raise InputError(f"standard input, word {position}: {shown!r} is no block number")
        yield int(word, 16 if word.startswith(b"0x") else 10)


def put_map(mapfile: Mapfile, options: Namespace) -> int:
    """Put a new map on standard output, as a mapfile or as JSON; that is success."""
    if options.json:
        screen.put_json(as_json(mapfile))
    else:
        write_out([text_of(mapfile, options)])
    return 0


def text_of(mapfile: Mapfile, options: Namespace) -> bytes:
    """Return the mapfile, which tells in its head how it was made."""
    return mapfile.to_text(comments(options)).encode(errors="surrogateescape")


def comments(options: Namespace) -> tuple[str, str]:
    """Return the lines of a new map's head; no time, so that the same command makes the same bytes."""
    return HEADING, f"Command line: {options.command_line}"


def as_json(mapfile: Mapfile) -> dict[str, object]:
    """Return a map for machines; a block is its offset, its size, and its status as in the mapfile."""
    return {
        "position_bytes": mapfile.position_bytes,
        "current_status": mapfile.current_status,
        "current_pass": mapfile.current_pass,
        "blocks": [[extent.offset_bytes, extent.size_bytes, status.value] for extent, status in mapfile.blocks()],
    }


def write_out(parts: Iterable[bytes]) -> None:
    """Write to standard output; a full disk there is told as such, not as a map that differs."""
    try:
        for part in parts:
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as fault:
        raise _unwritten("standard output", fault) from fault


def write_new(path: Path, content: bytes) -> None:
    """Write a file that must not be there yet."""
    try:
        file = path.open("xb")
    except FileExistsError as fault:
        raise OutputError(f"{path} exists, and nothing is ever written over: give another name") from fault
    except OSError as fault:
        raise _unwritten(path, fault) from fault
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        give_to_caller(path)
    except OSError as fault:
        path.unlink(missing_ok=True)
        raise _unwritten(path, fault) from fault


def _unwritten(what: object, fault: OSError) -> OutputError:
    # no DestinationFullError, after which the command is run again: what came from standard input is gone
    return OutputError(f"cannot write {what}: {os.strerror(fault.errno or 0)}; mend that, or name another place")
