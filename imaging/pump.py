"""Pump: the one place where a rescue reads its drive; everyone who wants the bytes subscribes.

Subscribers are called in the order given, with each piece once its fate is known. The image's writer comes first and
the map's recorder last, so that the map never knows of bytes that no writer has taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from imaging.errors import ReadFault
from imaging.extent import Extent
from imaging.mapfile import BlockStatus
from imaging.reads import PatientDrive
from imaging.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What became of some bytes of the drive.

    Attributes:
        extent: where they are.
        status: what is known of them now.
        data: all of them where the status is finished, nothing where it is not.
    """

    extent: Extent
    status: BlockStatus
    data: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one read of the drive gave.

    Attributes:
        data: the bytes that came, from the start of the extent.
        fault: what ended them early; None also at the end of the source.
        seconds: how long the drive took, measured as near to it as can be.
    """

    data: bytes
    fault: ReadFault | None
    seconds: float = 0.0


Subscriber: TypeAlias = Callable[[Piece], None]
OnRead: TypeAlias = Callable[[Extent, int, float], None]  # what was asked for, bytes that came, seconds that it took


class Pump:
    """Reads a source once for all of its subscribers.

    Attributes:
        reads: how many reads were asked of the source.
        read_errors: how many of them failed.
    """

    def __init__(
        self,
        source: Source,
        subscribers: Sequence[Subscriber],
        *,
        on_read: OnRead | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.turn_to(source)
        self._on_read, self._clock = on_read, clock
        self._subscribers = tuple(subscribers)
        self.reads = 0
        self.read_errors = 0

    def turn_to(self, source: Source) -> None:
        """Read from another source from now on: the same drive, under another name."""
        self._source = source
        self._timed = source if isinstance(source, PatientDrive) else None

    def read(self, extent: Extent) -> Reading:
        """Read the extent; a fault is told, not raised, since on a failing drive it is the news of the day."""
        reading = self._read(extent)
        if self._on_read is not None:
            self._on_read(extent, len(reading.data), reading.seconds)
        return reading

    def _read(self, extent: Extent) -> Reading:
        self.reads += 1
        begin_seconds = self._spent_seconds()
        try:
            data = self._source.read_at(extent.offset_bytes, extent.size_bytes)
        except ReadFault as fault:
            self.read_errors += 1
            seconds = self._spent_seconds() - begin_seconds
            return Reading(data=fault.prefix[: extent.size_bytes], fault=fault, seconds=seconds)
        return Reading(data=data[: extent.size_bytes], fault=None, seconds=self._spent_seconds() - begin_seconds)

    def _spent_seconds(self) -> float:
        return self._clock() if self._timed is None else self._timed.read_seconds

    def publish(self, piece: Piece) -> None:
        """Hand a piece to every subscriber, in order; what one raises keeps it from those behind."""
        for subscriber in self._subscribers:
            subscriber(piece)
