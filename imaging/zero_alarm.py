"""Zero alarm: reads that succeed without data. Some bridges, once their drive has failed, answer zeros or old bytes.

A subscriber of the pump. It counts bytes that are one sector over and over (zeros mostly), or the very bytes of the
piece before, and that come after an error with nothing else in between. Empty parts of a healthy drive do not count,
and an erased zone behind a real bad sector counts too: it is a warning, no proof.
"""

from __future__ import annotations

from imaging.mapfile import BlockStatus
from imaging.pump import Piece

SECTOR_BYTES = 512
ALARM_BYTES = 1 << 20  # less is what any file system leaves empty


class ZeroAlarm:
    """Counts what may never have come from the medium.

    Attributes:
        blank_bytes: bytes of one repeated sector, or repeated as a whole, since an error; in this run.
    """

    def __init__(self) -> None:
        self.blank_bytes = 0
        self._after_error = False
        self._before = b""

    @property
    def ringing(self) -> bool:
        """Whether it is worth a warning."""
        return self.blank_bytes >= ALARM_BYTES

    def __call__(self, piece: Piece) -> None:
        """Look at a piece; costs next to nothing while the drive reads without errors."""
        if piece.status is not BlockStatus.FINISHED:
            self._after_error = True
            return
        if not self._after_error:
            return
        data = piece.data[: piece.extent.size_bytes]
        if _repeats(data) or data == self._before:
            self.blank_bytes += len(data)
        else:
            self._after_error = False
        self._before = data if self._after_error else b""


def _repeats(data: bytes) -> bool:
    """Tell whether the data is its first sector over and over; one sector alone, whether it is one byte."""
    unit = data[:SECTOR_BYTES] if len(data) > SECTOR_BYTES else data[:1]
    if data[-len(unit) :] != unit:  # nearly always, and cheap
        return False
    return data == (unit * -(-len(data) // max(len(unit), 1)))[: len(data)]
