"""Watched: the image as hits look at it before they are candidates; whoever stops the run stops a long look, too.

Most looks are a few bytes around a hit. A data file that nothing but its index tells of is searched for over gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from imaging.errors import Interrupted
from imaging.extent import ExtentSet
from imaging.source import Source


@dataclass(slots=True, eq=False, weakref_slot=True)
class Watched:
    """A source that is read only as long as nobody stops it.

    Attributes:
        source: what is read.
        stop: asked before each read.
    """

    source: Source
    stop: Callable[[], bool]

    @property
    def locator(self) -> str:
        """How the user named it."""
        return self.source.locator

    @property
    def size_bytes(self) -> int:
        """Its length in bytes."""
        return self.source.size_bytes

    @property
    def sector_bytes(self) -> int:
        """Its logical sector in bytes."""
        return self.source.sector_bytes

    @property
    def unread(self) -> ExtentSet | None:
        """The ranges never read from the drive; None when that is not known."""
        return self.source.unread

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return the bytes there.

        Raises:
            Interrupted: the run was stopped.
            ReadFault: from the source.
        """
        if self.stop():
            raise Interrupted("stopped while judging; the same command goes on from here")
        return self.source.read_at(offset_bytes, size_bytes)
