"""Alike: of each file that holds the bytes of another one, or shares some with it, which one that is."""

from __future__ import annotations

from functools import lru_cache

from carver.recovery import Recovery
from carver.report.summary import Summary

KEPT = 4096  # of records that may lie on disk


class Alike:
    """Names the files that are alike; of files that stand by themselves, since children's bytes are their containers'.

    Args:
        recovery: the record.
        summary: of it.
    """

    def __init__(self, recovery: Recovery, summary: Summary) -> None:
        self._copy_of, self._sharing = summary.copy_of, summary.sharing

        @lru_cache(maxsize=KEPT)
        def named(number: int) -> tuple[str, str]:
            file = recovery.files[number]
            return file.path, file.sha256

        self._named = named

    def copy_of(self, number: int, sha256: str) -> str | None:
        """Return the path of the first file with the very bytes of file `number`, if that is another."""
        if number not in self._copy_of:
            return None
        path, theirs = self._named(self._copy_of[number])
        return path if theirs == sha256 else None  # only a part of the hash was compared until now

    def shares_with(self, number: int) -> str | None:
        """Return the path of one file that shares bytes of the source with file `number`."""
        return self._named(self._sharing[number])[0] if number in self._sharing else None
