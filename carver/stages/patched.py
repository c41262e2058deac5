"""Patched: an image that can be searched although parts of it were never read from the drive, or cannot be read now.

Such bytes are zeros here, which speak neither for nor against anything, as long as `was_read` is asked before something
is taken for told.
"""

from __future__ import annotations

import logging
from typing import Final

import numpy as np

from imaging.errors import ReadFault
from imaging.extent import Extent, ExtentSet, span
from imaging.source import Source

log = logging.getLogger(__name__)

LEAST_BYTES: Final = 4096  # a page of the system's: less than that fails or answers as a whole


class Patched:
    """A source with zeros where its bytes are not known.

    Args:
        source: the image.
        unread: what is known to be unread so far; more is found out by reading.
    """

    def __init__(self, source: Source, unread: ExtentSet) -> None:
        self._source = source
        self.unread = unread

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""
        return self._source.size_bytes

    def was_read(self, extent: Extent) -> bool:
        """Tell whether all these bytes are those of the drive, as far as is known."""
        number = int(np.searchsorted(self.unread.ends, extent.offset_bytes, side="right"))
        return number == len(self.unread) or int(self.unread.starts[number]) >= extent.end_bytes

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return the bytes there; fewer only at the end of the image. It raises no fault: see `was_read`."""
        end_bytes = min(offset_bytes + size_bytes, self.size_bytes)
        if offset_bytes >= end_bytes:
            return b""
        wanted = span(offset_bytes, end_bytes)
        if self.was_read(wanted):
            return self._read(wanted)
        held = bytearray(wanted.size_bytes)
        for part in self.unread.complement(wanted):
            first = part.offset_bytes - offset_bytes
            held[first : first + part.size_bytes] = self._read(part)
        return bytes(held)

    def _read(self, extent: Extent) -> bytes:
        """Read a range; of what fails ever smaller parts, down to pages that are lost."""
        try:
            return self._source.read_at(extent.offset_bytes, extent.size_bytes).ljust(extent.size_bytes, b"\0")
        except ReadFault as fault:
            middle = (extent.offset_bytes + extent.end_bytes) // 2 // LEAST_BYTES * LEAST_BYTES
            if extent.offset_bytes < middle < extent.end_bytes:
                lower, upper = span(extent.offset_bytes, middle), span(middle, extent.end_bytes)
                return self._read(lower) + self._read(upper)
            log.warning("skipped, nothing is looked for there: %s", fault)
            self.unread |= ExtentSet((extent,))
            return bytes(extent.size_bytes)
