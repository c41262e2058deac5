"""Extract: verdict -> file and hashes. Outputs never overwrite, and get their name only when they are whole.

Where the image itself cannot be read (a bad disk under it, or it was cut short meanwhile) the file gets zeros in place,
and `Written` tells where: a short or shifted file would lose what comes after.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from carver.output import discard, output_error, sync_folder
from imaging.errors import Interrupted, ReadFault
from imaging.extent import Extent, ExtentSet, Layout, span
from imaging.ownership import give_to_caller
from imaging.source import RawImage

log = logging.getLogger(__name__)

PATCH_BYTES = 4096  # what is lost of the image at a fault: a page, and a sector of most drives
CHUNK_BYTES = 8 << 20  # a multiple of any file system's block, so that in-kernel copies can share blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written, still under its partial name and not yet durable.

    Attributes:
        partial: the file.
        size_bytes: its length.
        sha256: of its bytes.
        md5: likewise; None unless asked for.
        unreadable: where in the file there are zeros because the image could not be read.
    """

    partial: Path
    size_bytes: int
    sha256: str
    md5: str | None
    unreadable: ExtentSet


def write_partial(
    image: RawImage,
    layout: Layout,
    partial: Path,
    *,
    with_md5: bool = False,
    on_bytes: Callable[[int], None] = lambda done_bytes: None,
    on_piece: Callable[[int, bytes], None] = lambda offset_bytes, piece: None,
    stop: Callable[[], bool] = lambda: False,
) -> Written:
    """Write the bytes that `layout` names, in file order, to `partial`; `name_all` makes a file of it.

    The bytes are hashed as they are read; where the system has an in-kernel copy it moves them without a second trip
    (and shares the blocks on file systems that can).

    Args:
        image: where the bytes are.
        layout: in file order.
        partial: what the file is called until it is whole; on the same file system as its name.
        with_md5: whether MD5 is computed too.
        on_bytes: called with the bytes of the file written so far.
        on_piece: called with each piece of the file and its offset, in order.
        stop: asked every few MiB.

    Raises:
        OutputError: it cannot be written.
        DestinationFullError: no room; nothing is left behind.
        Interrupted: `stop` said so; nothing is left behind.
    """
    hashes = [hashlib.sha256()] + ([hashlib.md5(usedforsecurity=False)] if with_md5 else [])
    unreadable: list[Extent] = []
    try:
        partial.unlink(missing_ok=True)  # never written over: after a kill it may be another name of a finished file
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            size_bytes = 0
            for chunk in _chunks(layout):
                if stop():
                    raise Interrupted("stopped while writing files; the same command goes on from here")
                piece, missing = _read(image, chunk)
                for digest in hashes:
                    digest.update(piece)
                on_piece(size_bytes, piece)
                _put(image.fileno(), chunk.offset_bytes, descriptor, size_bytes, piece, in_kernel=not missing)
                unreadable += [span(size_bytes + low, size_bytes + high) for low, high in missing]
                size_bytes += len(piece)
                on_bytes(size_bytes)
        finally:
            os.close(descriptor)
        give_to_caller(partial)
    except OSError as fault:
        discard(partial)
        raise output_error(partial, fault) from fault
    except BaseException:
        discard(partial)
        raise
    return Written(
        partial=partial,
        size_bytes=size_bytes,
        sha256=hashes[0].hexdigest(),
        md5=hashes[1].hexdigest() if with_md5 else None,
        unreadable=ExtentSet(unreadable),
    )


def name_all(files: Iterable[tuple[Written, Iterator[Path]]]) -> Iterator[Path]:
    """Make files durable, then give each the first of its names that is free, or that holds just these bytes already.

    Many at a time, since the first wait for the disk makes the others short. Each name is yielded as it is given, so
    that the next file's names can take it into account; when all are told, the names are durable too.

    Raises:
        OutputError: one cannot be made durable or named; the partial files are gone.
    """
    files = list(files)
    folders = set()
    path = Path()
    try:
        for written, _ in files:
            path = written.partial
            _sync(path)
        for written, names in files:
            for path in names:
                if _settle(written.partial, path, written.sha256):
                    break
            folders.add(path.parent)
            yield path
        for path in folders:
            sync_folder(path)
    except OSError as fault:
        for written, _ in files:
            discard(written.partial)
        raise output_error(path, fault) from fault


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _chunks(layout: Layout) -> Iterator[Extent]:
    for extent in layout:
        for offset_bytes in range(extent.offset_bytes, extent.end_bytes, CHUNK_BYTES):
            yield span(offset_bytes, min(offset_bytes + CHUNK_BYTES, extent.end_bytes))


def _read(image: RawImage, chunk: Extent) -> tuple[bytes, list[tuple[int, int]]]:
    """Return the bytes of `chunk`, and (first, end) of what could not be read and is zeros."""
    whole = _read_or_nothing(image, chunk.offset_bytes, chunk.size_bytes)
    if len(whole) == chunk.size_bytes:
        return whole, []
    log.warning("%s: %s cannot be read whole", image.locator, chunk)
    filled, missing = bytearray(chunk.size_bytes), []
    for first in range(0, chunk.size_bytes, PATCH_BYTES):
        wanted_bytes = min(PATCH_BYTES, chunk.size_bytes - first)
        patch = _read_or_nothing(image, chunk.offset_bytes + first, wanted_bytes)
        filled[first : first + len(patch)] = patch
        if len(patch) < wanted_bytes:
            missing.append((first + len(patch), first + wanted_bytes))
    return bytes(filled), missing


def _read_or_nothing(image: RawImage, offset_bytes: int, size_bytes: int) -> bytes:
    try:
        return image.read_at(offset_bytes, size_bytes)
    except ReadFault:
        return b""


def _put(
    source: int, source_offset_bytes: int, target: int, target_offset_bytes: int, piece: bytes, *, in_kernel: bool
) -> None:
    """Write `piece` to `target`; `in_kernel` where it stands in `source` as it is."""
    done_bytes = 0
    if in_kernel:
        done_bytes = _copy_in_kernel(source, source_offset_bytes, target, target_offset_bytes, len(piece))
    while done_bytes < len(piece):
        done_bytes += os.pwrite(target, piece[done_bytes:], target_offset_bytes + done_bytes)


def _copy_in_kernel(source: int, source_offset_bytes: int, target: int, target_offset_bytes: int, size: int) -> int:
    """Return how many bytes the kernel copied by itself: 0 where it cannot."""
    if not hasattr(os, "copy_file_range"):
        return 0
    done_bytes = 0
    try:
        while done_bytes < size:
            copied = os.copy_file_range(
                source, target, size - done_bytes, source_offset_bytes + done_bytes, target_offset_bytes + done_bytes
            )
            if copied == 0:
                break
            done_bytes += copied
    except OSError:  # another file system, a device, an old kernel: the plain write tells of real errors
        pass
    return done_bytes


def _settle(partial: Path, path: Path, sha256: str) -> bool:
    """Give the whole file its name if that is free, or drop it if an earlier run of ours left the same bytes there."""
    try:
        os.link(partial, path)
    except FileExistsError:
        if not _holds(path, sha256):
            return False
    except OSError:  # no hard links here (FAT, some network mounts)
        if not os.path.lexists(path):
            partial.rename(path)
            return True
        if not _holds(path, sha256):
            return False
    partial.unlink()
    return True


def _holds(path: Path, sha256: str) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as there:
        return hashlib.file_digest(there, "sha256").hexdigest() == sha256
