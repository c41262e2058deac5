"""Contact: the line to the drive. It tells a bad sector from a drive that is gone, and finds the drive again."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from enum import Enum, auto

from imaging.errors import InputError, ReadFault
from imaging.extent import Extent
from imaging.mapstore import MapStore
from imaging.pump import Piece, Pump, Reading
from imaging.reads import Drive, PatientDrive, Watcher
from imaging.rescue.comeback import Gone, OnGone, Tell, samples_of
from imaging.rescue.plan import Read
from imaging.rescue.storm import Storm, known_good
from imaging.source import Source

log = logging.getLogger(__name__)

GONE = (errno.ENXIO, errno.ENODEV, errno.ENOENT, errno.ENOMEDIUM, errno.ENOTCONN, errno.ESTALE)
OURS = (errno.EINVAL, errno.EBADF, errno.EFAULT, errno.EPERM, errno.EACCES, errno.ENOMEM)  # says nothing of a sector


class Word(Enum):
    """What a read says."""

    OF_SECTORS = auto()  # what came is good, and what failed is bad
    OF_THE_END = auto()  # the source ends before the size that it had claimed
    OF_NOTHING = auto()  # the drive was gone, and is back


class Contact:
    """Reads one drive for a rescue, also when it vanishes and comes back under another name.

    Attributes:
        source_end_bytes: where the source ended before the size that it had claimed; None while it did not.
        returned_as: the names under which the drive came back, in order.
    """

    def __init__(
        self,
        source: Source,
        pump: Pump,
        store: MapStore,
        *,
        storm: Storm,
        read_back: Callable[[Extent], bytes],
        save: Callable[[], None],
        watch: Watcher,
        on_gone: OnGone | None,
        tell_gone: Tell,
    ) -> None:
        """Begin with `source`.

        Args:
            source: the drive.
            pump: reads it, and hands on what a storm takes back.
            store: its map.
            storm: counts failures in a row.
            read_back: returns what the image holds of an extent of the drive.
            save: saves image and map; called before the drive is waited for.
            watch: is told while a read waits (see `PatientDrive`).
            on_gone: finds the drive again; None: nobody does.
            tell_gone: is told while it is looked for.
        """
        self._pump, self._store, self._storm = pump, store, storm
        self._read_back, self._save = read_back, save
        self._watch, self._on_gone, self._tell_gone = watch, on_gone, tell_gone
        self.source_end_bytes: int | None = None
        self.returned_as: list[str] = []
        self._turn_to(source)

    def let_go(self) -> None:
        """Watch the source no longer: who reads from it later has nothing to save."""
        if self._patient is not None:
            self._patient.watcher = lambda waiting: True

    def read(self, read: Read) -> Reading:
        """Read, with what comes next read ahead where the drive can."""
        if self._patient is not None:
            self._patient.expect(read.next_extent)
        return self._pump.read(read.extent)

    def take_late(self) -> list[tuple[int, bytes]]:
        """Return (offset, bytes) of what came after its deadline, once; never beyond the source's size."""
        if self._patient is None:
            return []
        size_bytes = self._source.size_bytes
        return [(offset, data[: max(size_bytes - offset, 0)]) for offset, data in self._patient.take_late()]

    def judge(self, read: Read, reading: Reading) -> Word:
        """Tell a bad sector from a drive that is gone, a source that ended, and a fault of our own.

        Raises:
            InputError: the drive is gone for good, or nothing can be read for a reason of our own.
            Interrupted: the user does not wait for the drive any longer.
        """
        end_bytes = read.extent.offset_bytes + len(reading.data)
        if end_bytes >= read.extent.end_bytes:
            return Word.OF_SECTORS
        present_bytes = None if self._drive is None else self._drive.present_bytes()
        code = reading.fault.errno if reading.fault else None
        if present_bytes == 0 or code in GONE:
            self._lose(f"the drive is gone: {self._source.locator} stopped answering at {end_bytes:#x}", reading.fault)
            return Word.OF_NOTHING
        if reading.fault is not None:
            if code in OURS:
                raise reading.fault
            return Word.OF_SECTORS
        if present_bytes is not None and present_bytes > end_bytes:
            return Word.OF_SECTORS
        log.warning(
            "%s ends at %#x, before the %d bytes it claimed", self._source.locator, end_bytes, self._source.size_bytes
        )
        self.source_end_bytes = end_bytes
        return Word.OF_THE_END

    def recheck(self, read: Read, fault: ReadFault) -> Word:
        """After a storm of errors, read what was read before: is the drive still there, and is it this drive?

        Raises:
            InputError: it answers other bytes than before, or it is gone for good.
            Interrupted: the user does not wait for it any longer.
        """
        if self._patient is None:
            return Word.OF_SECTORS  # a file that stands for a drive
        sectors = known_good(self._store.mapfile, read.position_bytes, self._source.sector_bytes)
        for sector in sectors:
            data = self._pump.read(sector).data
            if len(data) < sector.size_bytes:
                continue
            if data != self._read_back(sector):
                raise InputError(
                    f"{self._source.locator} answers other bytes at {sector.offset_bytes:#x} than it did before: it or "
                    "its bridge gives wrong data, or something writes to it. What was read is saved; connect it "
                    "another way (without the USB bridge, say) before you run the same command again"
                )
            self._storm.endure()
            return Word.OF_SECTORS
        if not sectors:
            return Word.OF_SECTORS
        self._lose(
            f"{self._source.locator} reads nothing since {read.extent.offset_bytes:#x}, not even what it has "
            "read before: the drive is gone, or has failed as a whole",
            fault,
        )
        return Word.OF_NOTHING

    def reopen(self) -> None:
        """Open the drive anew before the next read, where it is a device."""
        if self._patient is not None:
            self._patient.reopen()

    def _turn_to(self, source: Source) -> None:
        self._source = source
        self._drive = source if isinstance(source, Drive) else None
        self._patient = source if isinstance(source, PatientDrive) else None
        if self._patient is not None:
            self._patient.watcher = self._watch
            for sector in known_good(self._store.mapfile, source.size_bytes, source.sector_bytes)[:1]:
                self._patient.know_good(sector)
        self._pump.turn_to(source)

    def _lose(self, reason: str, fault: ReadFault | None) -> None:
        """The drive is gone: take the storm's marks back, save, and wait for the drive where that is wished.

        Args:
            reason: the first sentence for the user.
            fault: what was raised last.

        Raises:
            InputError: it is not waited for, or does not come back.
            Interrupted: the user does not wait any longer.
        """
        for extent, status in self._storm.take_back():
            self._pump.publish(Piece(extent=extent, status=status))
        self._save()
        found = None
        if self._on_gone is not None:
            samples = samples_of(self._store.mapfile, self._read_back)
            found = self._on_gone(Gone(source=self._source, samples=samples), self._tell_gone)
        if found is None:
            raise InputError(
                f"{reason}. What was read is saved. Check its cable and power, look with `lsblk` under which name it "
                "comes back, and run the same command again"
            ) from fault
        log.warning("%s is back as %s", self._source.locator, found.locator)
        self.returned_as.append(found.locator)
        self._turn_to(found)
