"""Laid over: the base of sources that change how another one is read, and little else."""

from __future__ import annotations

from imaging.extent import ExtentSet
from imaging.source import Source


class LaidOver:
    """What a source over another does not answer by itself, that other answers.

    Args:
        source: what lies beneath.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def locator(self) -> str:
        """How the user named it."""
        return self._source.locator

    @property
    def size_bytes(self) -> int:
        """Its length in bytes."""
        return self._source.size_bytes

    @property
    def sector_bytes(self) -> int:
        """Its logical sector in bytes."""
        return self._source.sector_bytes

    @property
    def unread(self) -> ExtentSet | None:
        """The ranges never read from the drive; None when that is not known."""
        return self._source.unread
