"""Impatient: looks at a drive before it is imaged, at the cost of a few seconds where it is slow or hangs.

A look wants blocks from all over the drive, imaging wants the good parts first. So a place that is known to hang is not
looked at, and after one read that takes too long, or many that take long together, nothing is looked at any more: all
the rest counts as unanswered. The user may end it at any moment, as the drive's watcher says.
"""

from __future__ import annotations

from errno import ETIMEDOUT
from time import monotonic

from imaging.errors import Interrupted, ReadTimeout
from imaging.extent import ExtentSet
from imaging.laid_over import LaidOver
from imaging.reads import PatientDrive, Waiting
from imaging.source import Source

FIRST_LOOK_SECONDS = 10.0  # a drive that sleeps may need so long to spin up
LOOK_SECONDS = 5.0
ALL_LOOKS_SECONDS = 5.0


class Impatient(LaidOver):
    """A source for looking at.

    Args:
        source: what is looked at; only one whose reads may hang is looked at otherwise than it is read.
        spare: where it is known to hang.
        seconds: how long a read may take.
        first_seconds: how long the first one may take.
        all_seconds: how long all others may take together.
    """

    def __init__(
        self,
        source: Source,
        *,
        spare: ExtentSet | None = None,
        seconds: float = LOOK_SECONDS,
        first_seconds: float = FIRST_LOOK_SECONDS,
        all_seconds: float = ALL_LOOKS_SECONDS,
    ) -> None:
        super().__init__(source)
        self._patient = source if isinstance(source, PatientDrive) else None
        self._spare = spare or ExtentSet()
        self._seconds, self._later_seconds = first_seconds, seconds
        self._left_seconds = all_seconds
        self._is_first = True
        self._hangs = False

    @property
    def unread(self) -> ExtentSet | None:
        """What was never read, and what is spared; None when nothing is known."""
        if self._source.unread is None:
            return self._spare or None
        return self._source.unread | self._spare

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return the bytes there; fewer only at the end of the source.

        Raises:
            ReadFault: some of them cannot be read.
            ReadTimeout: not so soon, or an earlier read was not answered so soon.
            Interrupted: the user wants an end.
        """
        since = monotonic()
        try:
            if self._left_seconds > 0:
                if self._patient is None:
                    return self._source.read_at(offset_bytes, size_bytes)
                if not self._hangs:
                    return self._read(self._patient, offset_bytes, size_bytes)
        except Interrupted:
            if not self._hangs:
                raise
        finally:
            if not self._is_first:
                self._left_seconds -= monotonic() - since
            self._is_first = False
            self._seconds = self._later_seconds
        raise ReadTimeout(
            f"{self.locator}: no answer from {offset_bytes:#x} so soon, and a look is not worth the wait",
            offset_bytes=offset_bytes,
            size_bytes=size_bytes,
            errno=ETIMEDOUT,
        )

    def _read(self, patient: PatientDrive, offset_bytes: int, size_bytes: int) -> bytes:
        """Read under a watcher that ends the wait early.

        Raises:
            Interrupted: it took too long, or the user wants an end (also where the drive answers at once).
        """
        given = patient.watcher

        def watch(waiting: Waiting) -> bool:
            self._hangs = waiting.seconds >= self._seconds
            return not self._hangs and given(waiting)

        if not given(Waiting(position_bytes=offset_bytes, seconds=0.0, hung=False)):
            raise Interrupted(f"stopped while {self.locator} was looked at; nothing was changed")
        patient.watcher = watch
        try:
            return patient.read_at(offset_bytes, size_bytes)
        finally:
            patient.watcher = given
