"""MapStore: a mapfile that survives a kill, a crash and a power cut, and never runs ahead of the image.

The promise, in this order: the bytes are in the image (`pwrite`), the image is on its disk (`fdatasync`), then a
line in the journal says so, every two seconds at most; now and then the whole map is written to a temporary file,
synced, renamed over the old one, and its folder is synced. So the map on the disk may know less than is true, never
more.

The journal `<map>.journal` lies beside the map. Each of its lines carries the fingerprint of the very map text that it
continues, and a checksum of its own:

    fingerprint position size status checksum        0x prefixed numbers, a status of the map's blocks
    fingerprint position @current_status pass checksum    where the rescue stood

Reading stops at the first line that is torn or continues another map. That makes a checkpoint harmless at any point:
until the new map's name is on the disk, the old map and the journal hold; from then on the journal's lines carry the
wrong fingerprint and count for nothing, whether its truncation reached the disk or not. A map that another tool has
changed (GNU ddrescue, an editor) has another fingerprint as well, and a random word in each map's head tells it from
every map before it, also from one with the same blocks.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import secrets
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from imaging.closing import Closing
from imaging.disk import Disk, LocalDisk, failures_named, open_or_create
from imaging.errors import InputError, MapfileError, OutputError
from imaging.extent import Extent, span
from imaging.mapfile import BlockStatus, Mapfile

log = logging.getLogger(__name__)

COMMIT_SECONDS = 2.0  # what a kill may cost
MIN_JOURNAL_BYTES = 1 << 20  # a journal longer than this and than its map is folded into the map
FINGERPRINT_CHARACTERS = 16
SNAPSHOT_TRIES = 8
LOCK_TRIES, LOCK_PAUSE_SECONDS = 4, 0.01
HEADING = "Mapfile. Created by carver"
REMARK = "Remark: "


class MapStore(Closing):
    """A map in memory, and its promise on the disk. One writer; any number of readers of snapshots.

    Attributes:
        mapfile: the map; change its blocks only through `record` (its position, status and pass directly).
        remarks: lines that the head of every map written holds from now on, and that the next run finds here; GNU
            ddrescue and other tools leave them out.
    """

    def __init__(self, path: Path, *, disk: Disk, lock: ExclusiveLock | None, comments: Sequence[str] = ()) -> None:
        """Use `MapStore.open`."""
        self.path = path
        self.mapfile = Mapfile()
        self.remarks: tuple[str, ...] = ()
        self._disk = disk
        self._lock = lock
        self._comments = (HEADING, *comments)
        self._queue: list[tuple[Extent, BlockStatus]] = []
        self._waiting_since_seconds: float | None = None
        self._position = _position_of(self.mapfile)  # as the disk has it
        self._journal = -1
        self._journal_bytes = 0
        self._map_bytes = 0
        self._fingerprint = ""
        self._commits = 0
        self._image_is_doubtful = False
        self._map_is_doubtful = False

    @classmethod
    def open(cls, path: Path, size_bytes: int, *, comments: Sequence[str] = (), disk: Disk | None = None) -> MapStore:
        """Load the map and its journal, or begin a map of a drive of `size_bytes`, and lock it.

        Args:
            path: the mapfile.
            size_bytes: what the map must cover, from 0.
            comments: lines for the head of every map written (the command line, the start).
            disk: another file system, for tests; it is not locked.

        Raises:
            InputError: another process has it open, or it cannot be read.
            MapfileError: it breaks the grammar, or is of a drive of another size.
            OutputError: it cannot be written.
        """
        path = path.resolve()
        lock = lock_exclusively(journal_path(path)) if disk is None else None
        made = cls(path, disk=disk or LocalDisk(), lock=lock, comments=comments)
        try:
            made._begin(size_bytes)
        except BaseException:
            made.close()
            raise
        return made

    @classmethod
    def read_snapshot(cls, path: Path, *, disk: Disk | None = None) -> Mapfile:
        """Return the map as it is now, with its journal, while another process may be writing it; takes no lock.

        Raises:
            InputError: there is no map, or it cannot be read.
            MapfileError: it breaks the grammar.
        """
        disk = disk or LocalDisk()
        snapshot: Mapfile | None = None
        for _ in range(SNAPSHOT_TRIES):
            snapshot, stable = _load(path, disk)
            if stable:
                break
        if snapshot is None:
            raise InputError(f"there is no mapfile {path}")
        return snapshot

    def record(self, extent: Extent, status: BlockStatus) -> None:
        """Give `extent` a status in memory, and queue the line that will say so; O(log n).

        Raises:
            ValueError: a part of it is outside the map.
        """
        self.mapfile.mark(extent, status)
        if self._queue and self._queue[-1][1] is status:
            last = self._queue[-1][0]
            if last.end_bytes == extent.offset_bytes:
                self._queue[-1] = (span(last.offset_bytes, extent.end_bytes), status)
                return
            if extent.end_bytes == last.offset_bytes:  # backward passes
                self._queue[-1] = (span(extent.offset_bytes, last.end_bytes), status)
                return
        if extent.size_bytes > 0:
            self._queue.append((extent, status))

    def add_comments(self, *comments: str) -> None:
        """Have the head of every map written from now on say this too."""
        self._comments = tuple(dict.fromkeys((*self._comments, *comments)))

    def due(self, now_seconds: float) -> bool:
        """Tell whether to commit: something has waited for `COMMIT_SECONDS` since a call of this first saw it."""
        if not self._queue:
            return False
        if self._waiting_since_seconds is None:
            self._waiting_since_seconds = now_seconds
        return now_seconds - self._waiting_since_seconds >= COMMIT_SECONDS

    def commit(self, sync_data: Callable[[], None]) -> None:
        """Make everything recorded survive a power cut: the image first, then the journal (now and then the map).

        Args:
            sync_data: returns when the image's bytes are on its disk (`fdatasync`).

        Raises:
            DestinationFullError: no room; nothing is lost, and the call may be repeated.
            OutputError: the map cannot be written, or the image could not be synced once.
        """
        if self._checkpoint_is_due():
            self.checkpoint(sync_data)
            return
        self._sync_image(sync_data)
        content = b"".join(self._lines())
        if content:
            # at a position of our own: what failed half way is written over, never continued after its torn line
            with failures_named(self.path):
                self._disk.write_at(self._journal, self._journal_bytes, content)
                self._disk.sync(self._journal)
        self._journal_bytes += len(content)
        self._commits += 1
        self._settled()

    def checkpoint(self, sync_data: Callable[[], None]) -> None:
        """Make everything recorded survive, and write the whole map anew, so that other tools see it.

        Raises:
            DestinationFullError: no room; the old map and journal still hold, and the call may be repeated.
            OutputError: as for `commit`.
        """
        self._sync_image(sync_data)
        self._write_map()
        self._settled()

    def close(self) -> None:
        """Give lock and descriptors back. What was not committed is forgotten (and will be read again)."""
        if self._journal >= 0:
            self._disk.close(self._journal)
            self._journal = -1
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _begin(self, size_bytes: int) -> None:
        loaded, _ = _load(self.path, self._disk)
        self.remarks = read_remarks(self.path, disk=self._disk)
        self.mapfile = loaded if loaded else Mapfile.covering(size_bytes)
        _check_size(self.path, self.mapfile, size_bytes)
        with failures_named(self.path):
            self._journal = self._disk.open(journal_path(self.path))
        self._write_map()  # also ends a torn journal, which could not be continued
        self._settled()

    def _write_map(self) -> None:
        """Replace the map on the disk; only then cut the journal, which the new fingerprint has already made void."""
        remarks = (REMARK + remark for remark in self.remarks)
        comments = (*self._comments, *remarks, f"Generation: {secrets.token_hex(8)}")
        text = self.mapfile.to_text(comments).encode(errors="surrogateescape")
        temporary = self.path.with_name(self.path.name + ".new")
        self._map_is_doubtful = True  # which of the two the disk has, until its folder is synced
        with failures_named(self.path):
            self._disk.write_synced(temporary, text)
            self._disk.rename(temporary, self.path)
            self._disk.sync_folder(self.path.parent)
            self._disk.truncate(self._journal, 0)
        self._map_is_doubtful = False
        self._fingerprint, self._map_bytes = _fingerprint(text), len(text)
        self._commits = self._journal_bytes = 0

    def _sync_image(self, sync_data: Callable[[], None]) -> None:
        """Sync the image; after one failure never again, since the kernel forgets which pages it failed to write."""
        if self._image_is_doubtful:
            raise OutputError(
                "the image could not be written to its disk, so what was read since the last save does not count: "
                "mend the destination and run the same command again"
            )
        try:
            sync_data()
        except (OSError, OutputError):
            self._image_is_doubtful = True
            raise

    def _checkpoint_is_due(self) -> bool:
        """Every 30 seconds and, the more blocks, up to every 5 minutes, as GNU ddrescue saves its map."""
        interval_seconds = 30 + min(270, len(self.mapfile) // 38)
        outgrown = self._journal_bytes > max(MIN_JOURNAL_BYTES, self._map_bytes)
        return self._map_is_doubtful or outgrown or self._commits * COMMIT_SECONDS >= interval_seconds

    def _settled(self) -> None:
        self._queue.clear()
        self._waiting_since_seconds = None
        self._position = _position_of(self.mapfile)

    def _lines(self) -> list[bytes]:
        lines = [
            _line(self._fingerprint, f"{extent.offset_bytes:#x} {extent.size_bytes:#x} {status}")
            for extent, status in self._queue
        ]
        position = _position_of(self.mapfile)
        if position != self._position:
            lines.append(_line(self._fingerprint, f"{position[0]:#x} @{position[1]} {position[2]}"))
        return lines


def journal_path(path: Path) -> Path:
    """Return where the journal of a map lies."""
    return path.with_name(path.name + ".journal")


def read_remarks(path: Path, *, disk: Disk | None = None) -> tuple[str, ...]:
    """Return the remarks in the head of a map; none where there is no map.

    Raises:
        InputError: it cannot be read.
    """
    try:
        text = (disk or LocalDisk()).read(path) or b""
    except OSError as fault:
        raise InputError(f"cannot read the mapfile {path}: {fault.strerror}") from fault
    lines = (line.decode("latin-1").lstrip("# ") for line in text.split(b"\n") if line.startswith(b"#"))
    return tuple(line.removeprefix(REMARK) for line in lines if line.startswith(REMARK))


def _position_of(mapfile: Mapfile) -> tuple[int, str, int]:
    return mapfile.position_bytes, mapfile.current_status, mapfile.current_pass


def _fingerprint(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:FINGERPRINT_CHARACTERS]


def _line(fingerprint: str, fields: str) -> bytes:
    body = f"{fingerprint} {fields}"
    return f"{body} {zlib.crc32(body.encode()):08x}\n".encode()


def _load(path: Path, disk: Disk) -> tuple[Mapfile | None, bool]:
    """Return the map with its journal (None: there is no map), and whether the map stayed the same meanwhile."""
    try:
        text = disk.read(path)
        journal = disk.read(journal_path(path)) or b""
        stable = disk.read(path) == text
    except OSError as fault:
        raise InputError(f"cannot read the mapfile {path}: {fault.strerror}") from fault
    if text is None:
        return None, stable
    mapfile = Mapfile.parse(text.decode("latin-1"), name=str(path))
    _replay(journal, mapfile, _fingerprint(text))
    return mapfile, stable


def _replay(journal: bytes, mapfile: Mapfile, fingerprint: str) -> None:
    """Apply the journal's lines up to the first that is torn or continues another map."""
    for number, line in enumerate(journal.split(b"\n"), start=1):
        body, _, checksum = line.decode("latin-1").rpartition(" ")
        tag, _, fields = body.partition(" ")
        if tag != fingerprint or checksum != f"{zlib.crc32(body.encode('latin-1')):08x}":
            if line:
                log.info("the journal ends at line %d: the rest is torn or of another map", number)
            return
        try:
            _apply(fields, mapfile)
        except ValueError as fault:
            raise MapfileError(f"line {number} of the journal does not fit its map: {fault}") from fault


def _apply(fields: str, mapfile: Mapfile) -> None:
    """Apply one line whose checksum agrees: we wrote it, to continue this very map."""
    first, second, third = fields.split(" ")
    if second.startswith("@"):
        mapfile.position_bytes, mapfile.current_status, mapfile.current_pass = int(first, 16), second[1:], int(third)
        return
    mapfile.mark(Extent(offset_bytes=int(first, 16), size_bytes=int(second, 16)), BlockStatus(third))


def _check_size(path: Path, mapfile: Mapfile, size_bytes: int) -> None:
    if mapfile.start_bytes == 0 and mapfile.end_bytes == size_bytes:
        return
    raise MapfileError(
        f"{path} is the map of bytes {mapfile.start_bytes:#x} to {mapfile.end_bytes:#x}, but the drive has "
        f"{size_bytes:#x}: give the map that belongs to this drive, or another name to begin a new one"
    )


class ExclusiveLock(Closing):
    """A lock on a file, held until closed or until the process ends; a child program does not inherit it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        """Let others have the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def lock_exclusively(path: Path) -> ExclusiveLock:
    """Lock an image or a journal against a second writer; the file is made if it is missing. Readers are free.

    Raises:
        InputError: another process has it locked; the message gives its process id where the system tells.
        OutputError: the file cannot be opened for writing.
    """
    with failures_named(path):
        descriptor = open_or_create(path)
    try:
        _lock(descriptor)
    except OSError as fault:
        holder = lock_holder(descriptor)
        os.close(descriptor)
        if fault.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            log.warning("%s cannot be locked (%s); do not run two carvers on it", path, os.strerror(fault.errno or 0))
            return ExclusiveLock(-1)
        who = f", pid {holder}" if holder else ""
        raise InputError(f"another carver is writing this image ({path}){who}; wait for it, or stop it") from fault
    return ExclusiveLock(descriptor)


def _lock(descriptor: int) -> None:
    """Lock a file; one who only asks (`is_locked`) has it for a moment."""
    for _ in range(LOCK_TRIES):
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_SECONDS)
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(descriptor: int) -> bool:
    """Tell whether another has the file locked as a rescue does; False where the file system cannot tell.

    The file is locked with all other readers for a moment: microseconds, where the list of all locks (`lock_holder`)
    takes the system 8 ms.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as fault:
        return fault.errno == errno.EWOULDBLOCK
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def lock_holder(descriptor: int) -> int | None:
    """Return the process that has the file locked as a rescue does, without touching the lock.

    Linux tells it in /proc/locks, of processes that we may see; None where nobody has it or the system does not tell.
    """
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    with suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if len(fields) < 6 or fields[1] != "FLOCK" or not fields[5].endswith(f":{status.st_ino}"):
                continue
            # btrfs and overlays tell files by other devices than their locks
            if fields[5].startswith(f"{device}:") or _has_open(int(fields[4]), status):
                return int(fields[4])
    return None


def _has_open(process: int, status: os.stat_result) -> bool:
    with suppress(OSError):  # it ended, or is not ours to look at
        return any(os.path.samestat(link.stat(), status) for link in Path(f"/proc/{process}/fd").iterdir())
    return False
