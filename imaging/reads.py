"""Reads: how bytes come off a device that may hang: direct aligned reads in a child process, with a deadline.

A read that hangs in the kernel cannot be killed, so this process never opens the device. It asks a child and waits
in small steps, telling a watcher, which may save, show and give up. When the deadline passes, the child is left with
its read, and the next read finds out whether the drive answers anyone:

- a new child reads what is known to be good. If that is answered, the drive serves in parallel, and only what hung is
  lost for now (NVMe, or one platter of an array);
- if it is not, the drive (or the queue of its host adapter) is frozen, and hanging says nothing of the range asked
  for: there is no deadline then, and the wait lasts until any child comes back, or until the watcher gives up.

What a child brings after its deadline is kept (`take_late`). A child that still hangs at the end is killed and not
waited for; the kernel ends it when the read returns.

The deadline. Linux gives up a SCSI or ATA command after 30 s (`/sys/block/*/device/timeout`), NVMe likewise; then it
aborts, resets and asks again, five times at most. Below 30 s we would give up reads that the kernel is about to
answer. `READ_TIMEOUT_SECONDS` is twice that: a command that timed out once and whose abort or reset went well is
answered by then, with bytes or with an error, and is no hang. Waiting for all six rounds, 180 s, would gain only time
lost. A deadline that is too short loses no bytes: late answers count, and what hung is read again at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from errno import ENODEV, ETIMEDOUT
from os import strerror
from pathlib import Path
from select import POLLIN, poll
from time import monotonic
from typing import Protocol, TypeAlias, runtime_checkable

from imaging import block_stack
from imaging.child import Answer, Child, Greeting, Question
from imaging.direct import BUFFER_BYTES, AlignedDevice, UnansweredError, is_device
from imaging.errors import InputError, Interrupted
from imaging.extent import Extent
from imaging.source import RawImage, Source

READ_TIMEOUT_SECONDS = 60.0
OPEN_TIMEOUT_SECONDS = 60.0  # opening reads too: the partition table, and on some drives the medium's state
STEP_SECONDS = 0.1  # how often the watcher is told
SILENT_SECONDS = 3.0  # a new child needs some of this to start; later it is the drive that does not answer
MAX_CHILDREN = 8  # when so many hang, more would hang as well
MAX_DEATHS = 3
SYS_SECTOR_BYTES = 512  # /sys/dev/block/*/size counts these whatever the drive's sector is


@runtime_checkable
class Drive(Source, Protocol):
    """A source that knows what a drive knows beyond its bytes."""

    @property
    def physical_sector_bytes(self) -> int:
        """What the drive reads and loses as one, in bytes."""

    def present_bytes(self) -> int:
        """Return the size that the drive has now; 0 when it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A read that is not answered yet.

    Attributes:
        position_bytes: where it reads.
        seconds: how long it has taken.
        hung: the deadline has passed for an earlier read, and the drive answers nobody.
    """

    position_bytes: int
    seconds: float
    hung: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    """What the system knows a device by: another may get its number, but never its sequence (Linux 5.15)."""

    number: str | None
    folder: Path | None
    sequence: str | None


Watcher: TypeAlias = Callable[[Waiting], bool]


@runtime_checkable
class PatientDrive(Drive, Protocol):
    """A drive whose reads may take long, and end without an answer.

    Attributes:
        watcher: is told several times a second while a read waits; False ends the wait.
        read_seconds: how long it has taken for all that it answered, measured beside the drive: reading ahead hides
            nothing of it.
    """

    watcher: Watcher
    read_seconds: float

    def expect(self, extent: Extent | None) -> None:
        """Say what is asked for next if all of the coming read is had: it may be read ahead, and nothing else."""

    def know_good(self, extent: Extent) -> None:
        """Name bytes that were read of it before: they show whether it answers at all."""

    def take_late(self) -> list[tuple[int, bytes]]:
        """Return (offset, bytes) of what came after its deadline, once."""

    def reopen(self) -> None:
        """Open the drive anew for the next read."""


class ChildDevice(AlignedDevice):
    """A block device, read by child processes.

    Attributes:
        watcher: is told several times a second while a read waits; False ends the wait with `Interrupted`.
        read_seconds: how long it has taken for all that it answered.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
        open_timeout_seconds: float = OPEN_TIMEOUT_SECONDS,
        watcher: Watcher = lambda waiting: True,
        command: Sequence[str] | None = None,
    ) -> None:
        """Use `open_device`; `command` is another program that reads (see `Child`)."""
        self.path = Path(path)
        self.watcher = watcher
        self._timeout_seconds = read_timeout_seconds
        self._command = command
        self._children: list[Child] = []
        self._poll = poll()
        self._current: Child | None = None
        self._ahead: Question | None = None
        self._deaths = 0
        self.read_seconds = 0.0
        self._good: tuple[int, int] | None = None
        self._expected: tuple[int, int] | None = None
        self._late: list[tuple[int, bytes]] = []
        try:
            self._identity = _identity(self.path)
            self._greeting = self._begin(open_timeout_seconds)
        except BaseException:
            self.close()
            raise
        self._size_bytes = self._present_bytes = self._greeting.size_bytes
        self._sector_bytes = self._greeting.sector_bytes
        self._physical_sector_bytes = self._greeting.physical_sector_bytes

    @property
    def claimed(self) -> bool:
        """Whether something in this system held it for itself when it was opened (see `direct.is_claimed`)."""
        return self._greeting.claimed

    def present_bytes(self) -> int:
        """Return the size that the device has now; 0 when its node or the drive behind it is gone or another."""
        identity = _identity(self.path)
        if identity != self._identity or not self.path.exists():
            return 0
        if identity.folder is None:
            return self._present_bytes  # no /sys here: only a child can tell
        sectors = block_stack.read_text(identity.folder / "size")
        return min(self._present_bytes, int(sectors or 0) * SYS_SECTOR_BYTES)

    def expect(self, extent: Extent | None) -> None:
        """Say what is asked for next if all of the coming read is had; see `PatientDrive`."""
        self._expected = None
        if extent is None or not 0 < extent.size_bytes <= BUFFER_BYTES or extent.end_bytes > self._size_bytes:
            return
        if extent.offset_bytes % self._sector_bytes == extent.size_bytes % self._sector_bytes == 0:
            self._expected = extent.offset_bytes, extent.size_bytes

    def know_good(self, extent: Extent) -> None:
        """Name whole sectors that were read before; see `PatientDrive`."""
        if extent.offset_bytes % self._sector_bytes == extent.size_bytes % self._sector_bytes == 0:
            self._good = extent.offset_bytes, min(extent.size_bytes, BUFFER_BYTES)

    def fill(self, position_bytes: int, size_bytes: int) -> memoryview:
        """Have a child read once; see `AlignedDevice.fill`.

        Raises:
            OSError: the drive answers with an error, or (`UnansweredError`) not in time.
            Interrupted: the watcher gave up.
            InputError: children end by themselves.
        """
        expected, self._expected = self._expected, None
        while True:
            child = self._current = self._current or self._find_answering(position_bytes)
            ahead, self._ahead = self._ahead, None
            if ahead and (ahead.position_bytes, ahead.size_bytes) == (position_bytes, size_bytes):
                question = ahead
            else:
                question = child.ask(position_bytes, size_bytes)
                expected = None if ahead else expected  # what was read ahead in vain has the other half of the memory
            if expected is not None:
                self._ahead = child.ask(*expected, depends=True)
            answer = self._await(child, question)
            if answer is not None:
                return self._judge(answer)

    def take_late(self) -> list[tuple[int, bytes]]:
        """Return (offset, bytes) of what came after its deadline, once."""
        if self._children != [self._current]:  # nobody else could be late
            self._hear(0)
        late, self._late = self._late, []
        return late

    def reopen(self) -> None:
        """Have the next read done by a new child, which opens the device anew."""
        if self._current is not None and not self._current.idle:
            self._hear(STEP_SECONDS)  # what was to be read ahead is called off, after an error
        if self._current is not None and self._current.idle:
            self._poll.unregister(self._current.fileno())
            self._children.remove(self._current)
            self._current.end(patient=True)
            self._leave()

    def close(self) -> None:
        """End the children; one that hangs is left behind."""
        for child in self._children:
            child.end(patient=child.idle)
        self._children.clear()
        self._current = None

    def _begin(self, timeout_seconds: float) -> Greeting:
        """Start the first child, and return what it says of the device.

        Raises:
            InputError: it cannot be opened, or not in time.
        """
        child, since = self._start(), monotonic()
        while child.greeting is None:
            if child.refusal is not None:
                raise InputError(child.refusal)
            if child.dead:
                raise InputError(f"the process that should read {self.path} could not be started")
            if monotonic() - since >= timeout_seconds:
                raise InputError(
                    f"{self.path} does not answer: it could not be opened within {timeout_seconds:.0f} s. Check "
                    "its cable and power, and run the same command again"
                )
            self._step(0, since, hung=False)
        self._current = child
        return child.greeting

    def _await(self, child: Child, question: Question) -> Answer | None:
        """Return the answer; None where the child died instead.

        Raises:
            UnansweredError: the deadline passed.
            Interrupted: the watcher gave up.
        """
        since = monotonic()
        try:
            while True:
                while child.answers:
                    answer = child.answers.popleft()
                    if answer.question is question:
                        self._deaths = 0
                        return answer
                if child.dead:
                    self._count_death()
                    self._leave()
                    return None
                if monotonic() - since >= self._timeout_seconds:
                    raise UnansweredError(ETIMEDOUT, f"no answer within {self._timeout_seconds:.0f} s")
                self._step(question.position_bytes, since, hung=False)
        except BaseException:
            self._leave()
            raise

    def _judge(self, answer: Answer) -> memoryview:
        """Return the bytes of an answer.

        Raises:
            OSError: it is an error.
        """
        self.read_seconds += answer.seconds
        if answer.errno:
            self._ahead = None  # the child has dropped it
            self._present_bytes = answer.present_bytes
            raise OSError(answer.errno, strerror(answer.errno))
        if len(answer.view) < answer.question.size_bytes:
            self._ahead = None
        if len(answer.view) >= self._sector_bytes:
            self._good = answer.question.position_bytes, self._sector_bytes
        return answer.view

    def _leave(self) -> None:
        """Go on without the current child; if it comes back, it is heard."""
        self._current = self._ahead = None

    def _find_answering(self, position_bytes: int) -> Child:
        """Return a child whose drive answers: one that came back, or a new one that has read what is known as good.

        Raises:
            OSError: the drive is gone.
            Interrupted: the watcher gave up.
        """
        since = monotonic()
        newcomer: Child | None = None
        probed = False
        while True:
            for child in self._children:
                if child.idle and child is not newcomer:
                    return child
            if newcomer is None and len(self._children) < MAX_CHILDREN:
                if self.present_bytes() == 0:
                    raise OSError(ENODEV, strerror(ENODEV))
                newcomer = self._start()
            if newcomer is not None and newcomer.idle:
                if newcomer.greeting != self._greeting:
                    raise OSError(ENODEV, "another drive answers under its name")
                if probed or self._good is None or len(self._children) == 1:
                    return newcomer
                newcomer.ask(*self._good)
                probed = True
            elif newcomer is not None and newcomer.refusal is not None:
                raise OSError(ENODEV, newcomer.refusal)
            elif newcomer is not None and newcomer.dead:
                self._count_death()
                newcomer = None
            silent = monotonic() - since >= SILENT_SECONDS
            self._step(position_bytes, since, hung=silent and len(self._children) > 1)

    def _count_death(self) -> None:
        self._deaths += 1
        if self._deaths >= MAX_DEATHS:
            raise InputError(f"the processes that read {self.path} end by themselves; is the machine out of memory?")

    def _step(self, position_bytes: int, since: float, *, hung: bool) -> None:
        """Listen for a moment; where nobody says anything, tell the watcher.

        Raises:
            Interrupted: the watcher gave up.
        """
        if self._hear(STEP_SECONDS):
            return
        waiting = Waiting(position_bytes=position_bytes, seconds=monotonic() - since, hung=hung)
        if not self.watcher(waiting):
            raise Interrupted(f"stopped while waiting for {self.path} to answer; the same command goes on")

    def _hear(self, seconds: float) -> bool:
        """Take what the children say within this time; return whether that was anything."""
        ready = dict(self._poll.poll(seconds * 1000))
        for child in [child for child in self._children if ready and child.fileno() in ready]:
            child.listen()
            while child is not self._current and child.answers:
                self._keep(child.answers.popleft())
            if child.dead or child.refusal is not None:
                self._poll.unregister(child.fileno())
                self._children.remove(child)
                child.end(patient=True)
        return bool(ready)

    def _keep(self, answer: Answer) -> None:
        where = answer.question.position_bytes, answer.question.size_bytes
        if not answer.errno and answer.view and where != self._good:  # which was asked for to see whether it answers
            self._late.append((where[0], bytes(answer.view)))

    def _start(self) -> Child:
        child = Child(self.path, self._command)
        self._children.append(child)
        self._poll.register(child.fileno(), POLLIN)
        return child


def open_device(
    path: Path | str, *, read_timeout_seconds: float = READ_TIMEOUT_SECONDS, watcher: Watcher = lambda waiting: True
) -> ChildDevice:
    """Open a block device for direct reading by child processes; it is never opened for writing.

    Args:
        path: its node.
        read_timeout_seconds: how long a read may take before the rescue goes elsewhere.
        watcher: is told several times a second while a read waits; False ends the wait.

    Raises:
        InputError: it does not exist, may not be read, is no block device, has no medium, does not answer, or refuses
            direct reads.
        Interrupted: the watcher gave up.
    """
    return ChildDevice(path, read_timeout_seconds=read_timeout_seconds, watcher=watcher)


def open_source(
    path: Path | str, *, read_timeout_seconds: float = READ_TIMEOUT_SECONDS, watcher: Watcher = lambda waiting: True
) -> RawImage | ChildDevice:
    """Open what a rescue reads from: a block device as `open_device` does, anything else as a raw image file.

    Raises:
        InputError: it does not exist, may not be read, or is neither.
        Interrupted: the watcher gave up.
    """
    path = Path(path)
    if not is_device(path):
        return RawImage(path)
    return open_device(path, read_timeout_seconds=read_timeout_seconds, watcher=watcher)


def _identity(path: Path) -> _Identity:
    number = block_stack.number_of(path)
    disk = block_stack.disk_folder_of(number) if number else None
    return _Identity(
        number=number,
        folder=block_stack.folder_of(number) if number else None,
        sequence=block_stack.read_text(disk / "diskseq") if disk else None,
    )
