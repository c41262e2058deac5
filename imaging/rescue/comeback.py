"""Comeback: a drive that vanished, and how it is found again. A bridge that drops out is not ten million bad sectors.

The drive is known again by its size, its serial number (where no bridge hides it) and by bytes that were read of it,
under whatever name it comes back.
"""

from __future__ import annotations

import hashlib
import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol, TypeAlias

from imaging import block_stack
from imaging.block_stack import SYS
from imaging.device import SAMPLE_BYTES, DeviceInfo, describe, same_identity, sample_offsets, uses_of_number
from imaging.errors import InputError, ReadFault
from imaging.extent import Extent
from imaging.mapfile import BlockStatus, Mapfile
from imaging.reads import ChildDevice, Waiting, open_device
from imaging.source import Source

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
STEP_SECONDS = 0.2

Tell: TypeAlias = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A drive that was there.

    Attributes:
        source: what was read from; it is of no use any more.
        samples: (offset, bytes) of what was read of it, from the image.
    """

    source: Source
    samples: tuple[tuple[int, bytes], ...]


class OnGone(Protocol):
    """What to do when the drive is gone; image and map are saved."""

    def __call__(self, gone: Gone, tell: Tell) -> Source | None:
        """Return the same drive, opened anew, or None to end the rescue.

        Args:
            gone: the drive.
            tell: to be called with the seconds waited so far, a few times a second.

        Raises:
            Interrupted: `tell` said that the user wants an end.
        """


class WaitForReturn:
    """Waits for the drive, and takes it when exactly one device is it."""

    def __init__(
        self,
        source: Source,
        *,
        wait_seconds: float,
        reopen: Callable[[Path, Callable[[Waiting], bool]], Source] | None = None,
        sys_root: Path = SYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Note how to know the drive again.

        Args:
            source: the drive, while it is there.
            wait_seconds: how long to wait for it.
            reopen: opens a device; `open_device` with its default deadline when None.
            sys_root: where the system's devices are described.
            clock: seconds, monotonic.
        """
        self._info = describe(source.locator, sys_root=sys_root)
        self._wait_seconds = wait_seconds
        self._reopen = reopen or (lambda path, watcher: open_device(path, watcher=watcher))
        self._sys_root = sys_root
        self._clock = clock

    def __call__(self, gone: Gone, tell: Tell) -> Source | None:
        """Return the drive when it is back, None when it has not come in time; see `OnGone`."""
        if isinstance(gone.source, ChildDevice):
            gone.source.close()
        since = self._clock()
        while (waited := self._clock() - since) < self._wait_seconds:

            def watch(waiting: Waiting) -> bool:
                tell(self._clock() - since)
                return True

            found = self._find(gone, watch)
            if found is not None:
                return found
            while self._clock() - since < waited + LOOK_SECONDS:
                tell(self._clock() - since)
                time.sleep(STEP_SECONDS)
        return None

    def _find(self, gone: Gone, watcher: Callable[[Waiting], bool]) -> Source | None:
        found: list[Source] = []
        for number in _numbers(self._sys_root):
            folder = block_stack.folder_of(number, sys_root=self._sys_root)
            sectors = block_stack.read_text(folder / "size") if folder else None
            if int(sectors or 0) * 512 != gone.source.size_bytes or uses_of_number(number, sys_root=self._sys_root):
                continue
            path = Path(block_stack.name_of(number, sys_root=self._sys_root))
            with suppress(InputError):  # not ready yet, or gone again
                candidate = self._reopen(path, watcher)
                reason = self._unlike(gone, candidate)
                if reason is None:
                    found.append(candidate)
                else:
                    log.info("%s is not the drive that is waited for: %s", path, reason)
                    _close([candidate])
        if len(found) == 1:
            return found[0]
        _close(found)
        return None

    def _unlike(self, gone: Gone, candidate: Source) -> str | None:
        """Return why a device is not the drive; None when it is."""
        info = describe(candidate.locator, sys_root=self._sys_root)
        read_again = [(at, _read(candidate, at, len(data))) for at, data in gone.samples]
        ours = _identity(gone.source.size_bytes, self._info, gone.samples)
        if reason := same_identity(ours, _identity(candidate.size_bytes, info, read_again)):
            return reason
        contents = [data for _, data in read_again if data]
        if not contents and gone.samples:
            return "nothing that was read before can be read again"
        known = self._info.serial is not None and self._info.serial == info.serial
        if not known and not any(data.strip(data[:1]) for data in contents):  # one byte over and over tells nothing
            return "neither its serial number nor its contents are known"
        return None


def samples_of(mapfile: Mapfile, read_back: Callable[[Extent], bytes]) -> tuple[tuple[int, bytes], ...]:
    """Return (offset, bytes) at a few places of what was read of a drive.

    Args:
        mapfile: what was read.
        read_back: gives the image's bytes.
    """
    blocks = [block for block in mapfile.extents(BlockStatus.FINISHED) if block.size_bytes >= SAMPLE_BYTES]
    ends = list(accumulate(block.size_bytes for block in blocks))
    samples = []
    for place in sample_offsets(ends[-1]) if ends else ():
        index = bisect_right(ends, place)
        start = min(blocks[index].end_bytes - ends[index] + place, blocks[index].end_bytes - SAMPLE_BYTES)
        samples.append((start, read_back(Extent(offset_bytes=start, size_bytes=SAMPLE_BYTES))))
    return tuple(samples)


def _numbers(sys_root: Path) -> Iterator[str]:
    """Yield "major:minor" of every block device."""
    with suppress(OSError):
        yield from sorted(entry.name for entry in (sys_root / "dev" / "block").iterdir())


def _identity(size_bytes: int, info: DeviceInfo, samples: Sequence[tuple[int, bytes | None]]) -> dict[str, object]:
    digests = [[at, None if data is None else hashlib.sha256(data).hexdigest()] for at, data in samples]
    return {"size_bytes": size_bytes, "serial": info.serial, "model": info.model, "samples": digests}


def _read(source: Source, offset_bytes: int, size_bytes: int) -> bytes | None:
    try:
        return source.read_at(offset_bytes, size_bytes)
    except ReadFault:
        return None


def _close(sources: Sequence[Source]) -> None:
    for source in sources:
        if isinstance(source, ChildDevice):
            source.close()
