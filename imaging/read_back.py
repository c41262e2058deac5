"""Read back: an image read again for its digests, and compared with those that it had.

    verify(image, log_path(image, map), stop=…, on_progress=…) -> Verification

A verification reads from the disk that holds the image, not from memory, as far as the system lets us say so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from imaging.direct import is_device
from imaging.errors import InputError
from imaging.extent import Extent, span
from imaging.hash_lane import Running
from imaging.hash_log import Hashed, Hashes, read_hashes
from imaging.source import RawImage

READ_BYTES = 4 << 20

OnProgress: TypeAlias = Callable[[int, int], None]  # bytes done, of bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What re-reading an image showed.

    Attributes:
        finished: all of it was read; False: stopped.
        checked_pieces: how many were compared with the log.
        differing: those that are not as they were hashed.
        unhashed_bytes: of how many bytes the log has no piece that counts.
        digests: of the whole image as it is now; empty where not all was read.
        image_agrees: whether they are those in the log; None where it has none that count.
    """

    finished: bool
    checked_pieces: int
    differing: tuple[Extent, ...]
    unhashed_bytes: int
    digests: dict[str, str]
    image_agrees: bool | None

    @property
    def clean(self) -> bool:
        """Whether the whole image is as it was hashed."""
        vouched = self.unhashed_bytes == 0 or self.image_agrees is True
        return self.finished and vouched and not self.differing and self.image_agrees is not False


def verify(
    image_path: Path,
    log_path: Path,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_progress: OnProgress = lambda done_bytes, of_bytes: None,
) -> Verification:
    """Read an image again, piece by piece, and compare it with what was hashed of it; nothing is written.

    Raises:
        InputError: there is no log, or it or the image cannot be read.
    """
    hashes = read_hashes(log_path)
    if not hashes.piece_bytes:
        raise InputError(f"there are no hashes beside {image_path} ({log_path}): it was not hashed while it was read")
    if hashes.open:
        hashes.distrust()
    with RawImage(image_path) as image:
        _forget_cached(image)
        return _verify(image, _end_of(image, hashes), hashes, stop, on_progress)


def _end_of(image: RawImage, hashes: Hashes) -> int:
    """Return where the image ends: a file with its last byte, on a device where what was hashed ends."""
    if not is_device(image.path):
        return image.size_bytes
    known = [*hashes.pieces.values(), *([hashes.image] if hashes.image else [])]
    return max((held.extent.end_bytes for held in known), default=image.size_bytes)


def _verify(
    image: RawImage, end_bytes: int, hashes: Hashes, stop: Callable[[], bool], on_progress: OnProgress
) -> Verification:
    whole = Running(0, hashes.image.digests if hashes.image is not None else [hashes.algorithm])
    checked, unhashed_bytes, differing = 0, 0, []
    gone = [held.extent for held in hashes.pieces.values() if held.extent.offset_bytes >= end_bytes]
    for piece in cut(0, end_bytes, hashes.piece_bytes):
        held = hashes.pieces.get(piece.offset_bytes // hashes.piece_bytes)
        running = None if held is None else Running(piece.offset_bytes, [hashes.algorithm])
        read_back(image, piece, [each for each in (running, whole) if each is not None], stop)
        if stop():
            break
        if held is None or running is None:
            unhashed_bytes += piece.size_bytes
        else:
            checked += 1
            if (held.extent, held.digests) != (piece, running.digests()):
                differing.append(held.extent)
        on_progress(piece.end_bytes, end_bytes)
    finished = whole.end_bytes == end_bytes
    return Verification(
        finished=finished,
        checked_pieces=checked,
        differing=(*differing, *gone) if finished else tuple(differing),
        unhashed_bytes=unhashed_bytes,
        digests=whole.digests() if finished else {},
        image_agrees=_agrees(hashes.image, end_bytes, whole) if finished else None,
    )


def _agrees(held: Hashed | None, size_bytes: int, whole: Running) -> bool | None:
    return None if held is None else (held.extent.size_bytes, held.digests) == (size_bytes, whole.digests())


def read_back(image: RawImage, piece: Extent, runnings: Sequence[Running], stop: Callable[[], bool]) -> int:
    """Feed a piece of the image to those that have not had it yet; return how many bytes were read.

    Raises:
        ReadFault: the image cannot be read there.
        InputError: it ends early.
    """
    behind = [running for running in runnings if running.end_bytes < piece.end_bytes]
    if not behind:
        return 0
    start_bytes = at_bytes = min(running.end_bytes for running in behind)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="hashing") as beside:
        while at_bytes < piece.end_bytes and not stop():
            data = memoryview(image.read_at(at_bytes, min(READ_BYTES, piece.end_bytes - at_bytes)))
            if not data:
                raise InputError(f"{image.locator} ends at {at_bytes:#x}: it was cut short while it was read")
            work = [beside.submit(_feed, running, at_bytes, data) for running in behind[1:]]
            _feed(behind[0], at_bytes, data)
            for done in work:
                done.result()
            at_bytes += len(data)
    return at_bytes - start_bytes


def cut(start_bytes: int, end_bytes: int, piece_bytes: int) -> Iterator[Extent]:
    """Yield the range in parts that end where pieces do."""
    while start_bytes < end_bytes:
        until_bytes = min((start_bytes // piece_bytes + 1) * piece_bytes, end_bytes)
        yield span(start_bytes, until_bytes)
        start_bytes = until_bytes


def _feed(running: Running, at_bytes: int, data: memoryview) -> None:
    running.update(data[max(running.end_bytes - at_bytes, 0) :])


def _forget_cached(image: RawImage) -> None:
    """Ask the system to read from the disk what it may still have in memory."""
    with suppress(OSError):
        os.fsync(image.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(image.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
