"""Hash log: what was hashed of an image, one JSON line each in `IMAGE.hashes`, only ever added to.

    head      piece_bytes, algorithm of the pieces; what stands before it counts no longer
    session   an imaging run begins; closed: it ended in order
    piece     offset_bytes, size_bytes, unread_bytes, basis, its digest
    void      offset_bytes, size_bytes: the image was changed there, what was hashed of it counts no longer
    image     offset_bytes, size_bytes, unread_bytes, basis, the whole image's digests, one an algorithm

A piece's basis is "drive" where the bytes were hashed as they came from the drive, on their way to the image, and
"image" where they were read back. A run that was killed may have written to the image without a line here. What it
can have written to were bytes that its map does not know as read; so after a session that is not closed, the image's
hash and those of pieces with unread bytes count no longer. For the others the next run asks the map (`Hasher`).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from imaging.closing import Closing
from imaging.disk import failures_named, open_or_create, sync_to_disk
from imaging.errors import InputError
from imaging.extent import Extent
from imaging.map_lines import MAX_OFFSET_BYTES
from imaging.mapstore import lock_exclusively

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
ALGORITHMS = ("sha256", "md5")
PIECE_BYTES = 64 << 20
MAX_PIECES = 1 << 16  # what the log of 4 TiB has; beyond, pieces are longer
MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashed:
    """A range of the image, or all of it, and its digests.

    Attributes:
        unread_bytes: how many of its bytes were not read from the drive (they are fill); None: not known.
        basis: "drive" or "image": where the hashed bytes came from.
        digests: hexadecimal, by algorithm.
    """

    extent: Extent
    unread_bytes: int | None
    basis: str
    digests: Mapping[str, str]


@dataclass(slots=True, kw_only=True)
class Hashes:
    """What counts of a log.

    Attributes:
        piece_bytes: how long pieces are; the image's last may be shorter. 0: there is no log yet.
        algorithm: what pieces are hashed with.
        pieces: by their place in the image (its offset through `piece_bytes`).
        image: of the whole image; None where it was not hashed or has changed since.
        open: the last session did not end in order, or is running.
    """

    piece_bytes: int = 0
    algorithm: str = ""
    pieces: dict[int, Hashed] = field(default_factory=dict)
    image: Hashed | None = None
    open: bool = False

    def take(self, line: Mapping[str, object]) -> None:
        """Take a line of the log; one of another shape raises KeyError, TypeError or ValueError."""
        kind = line["kind"]
        if kind == "head":
            self._begin(line)
        elif kind == "session":
            if self.open:
                self.distrust()
            self.open = True
        elif kind == "closed":
            self.open = False
        elif kind == "piece":
            piece = _hashed(line)
            self.pieces[piece.extent.offset_bytes // self.piece_bytes] = piece
        elif kind == "void":
            self.forget(_extent(line))
        elif kind == "image":
            self.image = _hashed(line)

    def distrust(self) -> None:
        """Forget what a run that was killed may have changed unseen."""
        self.image = None
        self.pieces = {index: piece for index, piece in self.pieces.items() if piece.unread_bytes == 0}

    def forget(self, extent: Extent) -> None:
        """Forget the pieces that the extent touches, and the image."""
        self.image = None
        touched = range(extent.offset_bytes // self.piece_bytes, -(-extent.end_bytes // self.piece_bytes))
        for index in touched if len(touched) < len(self.pieces) else list(self.pieces):
            if index in touched:
                self.pieces.pop(index, None)

    def _begin(self, line: Mapping[str, object]) -> None:
        piece_bytes, algorithm = line["piece_bytes"], line["algorithm"]
        if not isinstance(piece_bytes, int) or piece_bytes <= 0 or algorithm not in ALGORITHMS:
            raise ValueError("a head without its pieces' size and algorithm")
        self.piece_bytes, self.algorithm = piece_bytes, str(algorithm)
        self.pieces, self.image, self.open = {}, None, False


class HashLog(Closing):
    """The log, opened to be added to; locked against a second writer.

    Attributes:
        hashes: what counts now.
    """

    def __init__(self, path: Path) -> None:
        """Open it, or make it.

        Raises:
            InputError: another process writes it, or it cannot be read.
            OutputError: it cannot be made.
        """
        self.path = path
        self._lock = lock_exclusively(path)
        try:
            self.hashes = read_hashes(path)
            with failures_named(path):
                self._descriptor = open_or_create(path)
                self._end_bytes = os.lseek(self._descriptor, 0, os.SEEK_END)
                whole = self._end_bytes == 0 or os.pread(self._descriptor, 1, self._end_bytes - 1) == b"\n"
        except BaseException:
            self._lock.close()
            raise
        self._prefix = b"" if whole else b"\n"  # a torn line stays, for itself

    def begin(self, *, piece_bytes: int, algorithm: str) -> None:
        """Begin anew: nothing that was hashed counts any longer."""
        head = {"schema_version": SCHEMA_VERSION, "piece_bytes": piece_bytes, "algorithm": algorithm}
        self._add({"kind": "head", **head})

    def begin_session(self) -> None:
        """Say that an imaging run begins."""
        self._add({"kind": "session"})

    def end_session(self) -> None:
        """Say that it ended in order, and wait until all of this is on the disk."""
        self._add({"kind": "closed"})
        with failures_named(self.path):
            sync_to_disk(self._descriptor)

    def add_piece(self, hashed: Hashed) -> None:
        """Keep the digest of a piece."""
        self._add({"kind": "piece", **_fields(hashed)})

    def add_image(self, hashed: Hashed) -> None:
        """Keep the digests of the image."""
        self._add({"kind": "image", **_fields(hashed)})

    def void(self, extents: Iterable[Extent]) -> None:
        """Say that the image was changed there."""
        for extent in extents:
            self._add({"kind": "void", "offset_bytes": extent.offset_bytes, "size_bytes": extent.size_bytes})

    def close(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._lock.close()

    def _add(self, line: Mapping[str, object]) -> None:
        """Add a line.

        Raises:
            DestinationFullError: no room; a torn line is written over by the next one.
            OutputError: it cannot be written.
        """
        stamped = {**line, "at": datetime.now(UTC).isoformat(timespec="seconds")}
        content = self._prefix + json.dumps(stamped).encode() + b"\n"
        with failures_named(self.path):
            rest, offset_bytes = memoryview(content), self._end_bytes
            while rest:
                written_bytes = os.pwrite(self._descriptor, rest, offset_bytes)
                offset_bytes += written_bytes
                rest = rest[written_bytes:]
        self._end_bytes, self._prefix = offset_bytes, b""
        self.hashes.take(stamped)


def log_path(image_path: Path, map_path: Path) -> Path:
    """Return where the hashes of an image lie: beside its map, under the image's name."""
    return map_path.with_name(image_path.name + ".hashes")


def piece_bytes_for(image_bytes: int) -> int:
    """Return how long the pieces of an image are: 64 MiB, doubled while there would be more than 65,536."""
    piece_bytes = PIECE_BYTES
    while piece_bytes * MAX_PIECES < image_bytes:
        piece_bytes *= 2
    return piece_bytes


def note_change(path: Path, *, of_read_bytes: bool = False) -> None:
    """Say that the image is about to be changed by something that hashes nothing; without a log, do nothing.

    Args:
        path: the log.
        of_read_bytes: whether also what was read from the drive may change; else only what is in its place.

    Raises:
        InputError: another process writes the log, or it cannot be read.
        OutputError: it cannot be written.
    """
    if not path.exists():
        return
    with HashLog(path) as log_of_image:
        if not log_of_image.hashes.piece_bytes:
            return
        if of_read_bytes:
            log_of_image.void([Extent(offset_bytes=0, size_bytes=MAX_OFFSET_BYTES)])
        log_of_image.begin_session()  # and no end: what it did is not known


def read_hashes(path: Path) -> Hashes:
    """Return what counts of a log, also while it is written; a line that is torn is passed over.

    Raises:
        InputError: it cannot be read.
    """
    hashes = Hashes()
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                _take(line, hashes)
    except FileNotFoundError:
        return hashes
    except OSError as fault:
        raise InputError(f"cannot read {path}: {os.strerror(fault.errno or 0)}") from fault
    return hashes


def _take(line: bytes, hashes: Hashes) -> None:
    try:
        fields = json.loads(line)
        if hashes.piece_bytes or fields["kind"] == "head":
            hashes.take(fields)
    except (ValueError, KeyError, TypeError, RecursionError) as fault:
        log.info("a line of the hash log is passed over: %s", fault)


def _fields(hashed: Hashed) -> dict[str, object]:
    return {
        "offset_bytes": hashed.extent.offset_bytes,
        "size_bytes": hashed.extent.size_bytes,
        "unread_bytes": hashed.unread_bytes,
        "basis": hashed.basis,
        **hashed.digests,
    }


def _extent(line: Mapping[str, object]) -> Extent:
    offset_bytes, size_bytes = line["offset_bytes"], line["size_bytes"]
    if not (isinstance(offset_bytes, int) and isinstance(size_bytes, int)) or min(offset_bytes, size_bytes) < 0:
        raise ValueError(f"no range: {offset_bytes!r}, {size_bytes!r}")
    return Extent(offset_bytes=offset_bytes, size_bytes=size_bytes)


def _hashed(line: Mapping[str, object]) -> Hashed:
    unread_bytes = line["unread_bytes"]
    return Hashed(
        extent=_extent(line),
        unread_bytes=unread_bytes if isinstance(unread_bytes, int) else None,
        basis=str(line["basis"]),
        digests={name: str(line[name]) for name in ALGORITHMS if name in line},
    )
