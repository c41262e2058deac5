"""Extract: verdict -> file and hashes. Outputs never overwrite, and get their name only when they are whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from carver.output import PARTIAL_SUFFIX, output_error
from imaging.errors import Interrupted
from imaging.extent import Layout
from imaging.ownership import give_to_caller
from imaging.source import RawImage

CHUNK_BYTES = 8 << 20  # a multiple of any file system's block, so that in-kernel copies can share blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written.

    Attributes:
        path: the file.
        size_bytes: its length.
        sha256: of its bytes.
        md5: likewise; None unless asked for.
    """

    path: Path
    size_bytes: int
    sha256: str
    md5: str | None


def extract(
    image: RawImage,
    layout: Layout,
    paths: Iterator[Path],
    *,
    with_md5: bool = False,
    on_bytes: Callable[[int], None] = lambda done_bytes: None,
    stop: Callable[[], bool] = lambda: False,
) -> Written:
    """Write the bytes that `layout` names to the first of `paths` that is free, or holds just these bytes already.

    The bytes are hashed as they are read; where the system has an in-kernel copy it moves them without a second trip
    (and shares the blocks on file systems that can).

    Raises:
        OutputError: it cannot be written.
        DestinationFullError: no room; nothing is left behind.
        Interrupted: `stop` said so; nothing is left behind.
    """
    path = next(paths)
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    hashes = [hashlib.sha256()] + ([hashlib.md5(usedforsecurity=False)] if with_md5 else [])
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            size_bytes = 0
            for extent in layout:
                for offset_bytes in range(extent.offset_bytes, extent.end_bytes, CHUNK_BYTES):
                    if stop():
                        raise Interrupted("stopped while writing files; the same command goes on from here")
                    piece = image.read_at(offset_bytes, min(CHUNK_BYTES, extent.end_bytes - offset_bytes))
                    for digest in hashes:
                        digest.update(piece)
                    _put(image.fileno(), offset_bytes, descriptor, size_bytes, piece)
                    size_bytes += len(piece)
                    on_bytes(size_bytes)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        give_to_caller(partial)
        while not _settle(partial, path, hashes[0].hexdigest()):
            path = next(paths)
    except OSError as fault:
        partial.unlink(missing_ok=True)
        raise output_error(path, fault) from fault
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return Written(
        path=path,
        size_bytes=size_bytes,
        sha256=hashes[0].hexdigest(),
        md5=hashes[1].hexdigest() if with_md5 else None,
    )


def _put(source: int, source_offset_bytes: int, target: int, target_offset_bytes: int, piece: bytes) -> None:
    """Write `piece`, which stands in `source` at its offset, to `target`."""
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
        with path.open("rb") as there:
            if hashlib.file_digest(there, "sha256").hexdigest() != sha256:
                return False
    except OSError:  # no hard links here (FAT, some network mounts)
        if path.exists():
            return False
        partial.rename(path)
        return True
    partial.unlink()
    return True
