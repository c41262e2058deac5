"""Drive model: what each read of a simulated failing drive costs, in simulated seconds.

The drive is one turning platter in address order: the place of a byte on its track is its offset modulo the track. A
read costs, one after the other,

- the command: `command_seconds`, and the way to the host at `interface_rate_bytes` a second;
- where it does not go on behind the read before it: a seek, `settle_seconds` plus a share of the full stroke that grows
  with the square root of the distance, and then the turn until its first byte comes round;
- the medium at `media_rate_bytes` a second. The drive reads ahead, so a read that goes on behind the last one costs
  the larger of medium and interface, and one inside what was just read or read ahead costs no turn at all. It keeps
  nothing that lies before what was asked for: reading backwards costs a turn for each read;
- `slow_seconds` for each weak sector it touches: the drive tries those again and again, and then has them;
- `error_seconds` where it touches a bad sector: the drive tries for so long, then the whole read fails. Where the
  platter is by then is as good as random.

`DISK` is a desktop hard disk on a good cable. `FLASH` has no seek and no turn, and gives up after a tenth of a second.
"""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt

from fixtures.failing_drive import SECTOR_BYTES, Damage
from imaging.errors import ReadFault
from imaging.extent import ExtentSet

CACHE_BYTES = 2 << 20  # what it reads ahead, and keeps of what was read


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanics:
    """The times of one kind of drive."""

    command_seconds: float
    interface_rate_bytes: float
    media_rate_bytes: float
    turn_seconds: float
    settle_seconds: float
    stroke_seconds: float
    error_seconds: float

    @property
    def track_bytes(self) -> int:
        """What passes under the head in one turn."""
        return int(self.media_rate_bytes * self.turn_seconds)


DISK = Mechanics(
    command_seconds=0.0002,
    interface_rate_bytes=300e6,
    media_rate_bytes=150e6,
    turn_seconds=1 / 120,
    settle_seconds=0.001,
    stroke_seconds=0.016,
    error_seconds=3.0,
)
FLASH = Mechanics(
    command_seconds=0.0002,
    interface_rate_bytes=300e6,
    media_rate_bytes=150e6,
    turn_seconds=0.0,
    settle_seconds=0.0,
    stroke_seconds=0.0,
    error_seconds=0.1,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weakness:
    """Sectors that are read, but slowly.

    Attributes:
        areas: (offset, size) of each weak area, ascending and apart.
        slow_seconds: what each sector of them costs.
    """

    areas: tuple[tuple[int, int], ...] = ()
    slow_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What is wrong with a drive.

    Attributes:
        damage: what cannot be read.
        weakness: what is read slowly.
        physical_sector_bytes: what fails as one.
    """

    damage: Damage
    weakness: Weakness = field(default_factory=Weakness)
    physical_sector_bytes: int = SECTOR_BYTES


class _Areas:
    """Ranges, looked up by binary search in plain lists: quicker than numpy for one at a time."""

    def __init__(self, areas: tuple[tuple[int, int], ...]) -> None:
        self._starts = [offset for offset, _ in areas]
        self._ends = [offset + size for offset, size in areas]

    def first_in(self, start: int, end: int) -> int | None:
        """Return the first byte of [start, end) that one of them has."""
        index = bisect_right(self._ends, start)
        if index == len(self._ends) or self._starts[index] >= end:
            return None
        return max(self._starts[index], start)

    def shared_bytes(self, start: int, end: int) -> int:
        """Return how many bytes of [start, end) they have."""
        index, shared = bisect_right(self._ends, start), 0
        while index < len(self._ends) and self._starts[index] < end:
            shared += min(self._ends[index], end) - max(self._starts[index], start)
            index += 1
        return shared


class SimulatedDrive:
    """One drive and its clock.

    Attributes:
        seconds: the simulated time.
    """

    def __init__(self, mechanics: Mechanics, condition: Condition) -> None:
        self._mechanics = mechanics
        self._size_bytes = condition.damage.size_bytes
        self._slow_seconds = condition.weakness.slow_seconds
        self._bad = _Areas(condition.damage.bad)
        self._weak = _Areas(condition.weakness.areas)
        self.seconds = 0.0
        self._head = 0
        self._kept = 0  # from here up to the head, and what is read ahead of it, the drive has in its cache

    def read(self, offset_bytes: int, size_bytes: int) -> bool:
        """Let the time pass that this read takes; return whether it gives its bytes."""
        end = offset_bytes + size_bytes
        bad = self._bad.first_in(offset_bytes, end)
        reached = end if bad is None else bad
        self.seconds += self._travel(offset_bytes, reached)
        if self._slow_seconds:
            self.seconds += self._weak.shared_bytes(offset_bytes, reached) / SECTOR_BYTES * self._slow_seconds
        self._head = reached
        if bad is None:
            return True
        self.seconds += self._mechanics.error_seconds
        self._kept = reached
        return False

    def _travel(self, start: int, end: int) -> float:
        """Return what it takes to reach the bytes and have them."""
        costs = self._mechanics
        transfer = costs.command_seconds + (end - start) / costs.interface_rate_bytes
        if self._kept <= start <= self._head + CACHE_BYTES and start < end:
            self._kept = max(self._kept, end - CACHE_BYTES)
            medium = max(end - self._head, 0) / costs.media_rate_bytes
            if start <= self._head:
                return max(transfer, medium)
            # what lies between passes under the head; waiting for it is never longer than going there
            return min(max(transfer, medium), self._go(start, end))
        self._kept = start
        return self._go(start, end)

    def _go(self, start: int, end: int) -> float:
        costs = self._mechanics
        seek = costs.settle_seconds + costs.stroke_seconds * sqrt(abs(start - self._head) / self._size_bytes)
        arrival = costs.command_seconds + seek
        turn = 0.0
        if costs.turn_seconds:
            angle = (self.seconds + arrival) / costs.turn_seconds % 1.0
            turn = (start / costs.track_bytes - angle) % 1.0 * costs.turn_seconds
        return arrival + turn + (end - start) / costs.media_rate_bytes


class SimulatedSource:
    """A simulated drive as a rescue's source; it holds nothing but zeros, or what `contents` makes.

    Attributes:
        drive: what passes the time; give the rescue `lambda: source.drive.seconds` as its clock.
        on_read: is told (offset, size, whether it came) of every read.
    """

    locator = "simulated drive"
    sector_bytes = SECTOR_BYTES
    unread: ExtentSet | None = None

    def __init__(self, mechanics: Mechanics, condition: Condition) -> None:
        self.drive = SimulatedDrive(mechanics, condition)
        self.size_bytes = condition.damage.size_bytes
        self.physical_sector_bytes = condition.physical_sector_bytes
        self.on_read: Callable[[int, int, bool], None] = lambda offset_bytes, size_bytes, came: None
        self._zeros = bytes(1 << 20)

    def present_bytes(self) -> int:
        return self.size_bytes

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        size_bytes = max(0, min(size_bytes, self.size_bytes - offset_bytes))
        came = self.drive.read(offset_bytes, size_bytes)
        self.on_read(offset_bytes, size_bytes, came)
        if came:
            return self._zeros if size_bytes == len(self._zeros) else bytes(size_bytes)
        raise ReadFault("bad sector", offset_bytes=offset_bytes, size_bytes=size_bytes, errno=errno.EIO)
