"""Damaged: a source that answers like a drive with a given damage map, so that a rescue can be tried without a drive.

Any read that touches a byte which the map does not call finished fails whole with EIO, as direct reads of a real drive
do and as GNU ddrescue's --test-mode has it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from imaging.errors import ReadFault
from imaging.extent import Extent, ExtentSet
from imaging.laid_over import LaidOver
from imaging.mapfile import BlockStatus, Mapfile
from imaging.source import Source


class DamagedSource(LaidOver):
    """`source`, but with the damage of a map.

    Args:
        source: where the good bytes are.
        damage: what is finished in it can be read; everything else, also what lies outside the map, cannot.
        physical_sector_bytes: what the simulated drive claims to read inside; its logical sector when None.
        on_read: is told the extent of each read, before it is answered.

    Attributes:
        reads: how many reads were asked of it.
        read_errors: how many of them failed.
    """

    def __init__(
        self,
        source: Source,
        damage: Mapfile,
        *,
        physical_sector_bytes: int | None = None,
        on_read: Callable[[Extent], None] | None = None,
    ) -> None:
        super().__init__(source)
        self._readable = damage.extents(BlockStatus.FINISHED)
        self._physical_sector_bytes = physical_sector_bytes or source.sector_bytes
        self._on_read = on_read
        self.reads = 0
        self.read_errors = 0

    @property
    def physical_sector_bytes(self) -> int:
        """The simulated drive's physical sector in bytes."""
        return self._physical_sector_bytes

    @property
    def unread(self) -> ExtentSet | None:
        """A drive, even a simulated one, comes without a mapfile: not known."""
        return None

    def present_bytes(self) -> int:
        """The simulated drive never goes away."""
        return self._source.size_bytes

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return the bytes there; fewer only at the end of the source.

        Raises:
            ReadFault: with EIO, when one of them is damaged.
        """
        size_bytes = max(0, min(size_bytes, self.size_bytes - offset_bytes))
        extent = Extent(offset_bytes=offset_bytes, size_bytes=size_bytes)
        self.reads += 1
        if self._on_read is not None:
            self._on_read(extent)
        if not self._readable.covers(extent):
            self.read_errors += 1
            raise ReadFault(
                f"{self.locator}: cannot read {size_bytes} bytes at {offset_bytes:#x}: {os.strerror(errno.EIO)}",
                offset_bytes=offset_bytes,
                size_bytes=size_bytes,
                errno=errno.EIO,
            )
        return self._source.read_at(offset_bytes, size_bytes)
