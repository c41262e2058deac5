"""Watched: the image as hits look at it before they are candidates; whoever stops the run stops a long look, too.

Most looks are a few bytes around a hit. A data file that nothing but its index tells of is searched for over gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable

from imaging.errors import Interrupted
from imaging.laid_over import LaidOver
from imaging.source import Source


class Watched(LaidOver):
    """A source that is read only as long as nobody stops it.

    Args:
        source: what is read.
        stop: asked before each read.
    """

    def __init__(self, source: Source, stop: Callable[[], bool]) -> None:
        super().__init__(source)
        self._stop = stop

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return the bytes there.

        Raises:
            Interrupted: the run was stopped.
            ReadFault: from the source.
        """
        if self._stop():
            raise Interrupted("stopped while judging; the same command goes on from here")
        return self._source.read_at(offset_bytes, size_bytes)
