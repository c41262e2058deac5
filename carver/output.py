"""Output: folders and files that appear whole or not at all, belong to the calling user, and tell when room ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from imaging.errors import DestinationFullError, OutputError
from imaging.ownership import give_to_caller

FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
PARTIAL_SUFFIX = ".partial"
WRITE_BYTES = 1 << 20


def output_error(path: Path, fault: OSError) -> OutputError:
    """Return the typed error for a failed write, with what to do."""
    if fault.errno in FULL_ERRORS:
        place = f"in {path.parent}" if path.suffix == PARTIAL_SUFFIX else f"for {path}"
        return DestinationFullError(
            f"no room left {place}: everything done so far is saved; free some space and run the same command again"
        )
    return OutputError(f"cannot write {path}: {os.strerror(fault.errno or 0)}; mend that, or name another place")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, owned by the calling user.

    Raises:
        OutputError: it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as fault:
        raise OutputError(f"{folder} cannot be a folder, since a file has that name; name another folder") from fault
    except OSError as fault:
        raise output_error(folder, fault) from fault
    for path in missing:
        give_to_caller(path)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; where the system cannot, that is no error."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def discard(partial: Path) -> None:
    """Remove a file in the making after a fault, which is what is told: a disk that refuses writes keeps the file."""
    with suppress(OSError):
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that may be replaced by its newer self (see `write_pieces`)."""
    write_pieces(path, (content,))


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file that may be replaced by its newer self, piece by piece: whole and durable, or not at all.

    Raises:
        DestinationFullError: no room is left.
        OutputError: it cannot be written.
    """
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    try:
        with partial.open("wb", buffering=WRITE_BYTES) as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        give_to_caller(partial)
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as fault:
        discard(partial)
        raise output_error(path, fault) from fault
    except BaseException:
        discard(partial)
        raise
