"""Hashes: an image hashed while it is read, in pieces, so that hashing survives any order of reading and any end.

    with Hasher(log_path(image, map), image_bytes=…, mapfile=map or None, algorithms=("sha256",)) as hasher:
        rescue(…, subscribers=(hasher,))
        hashing = hasher.complete(image, mapfile, stop=…, on_progress=…)      once nothing more is read

Of each piece, the bytes that come in order are hashed as they come; what comes otherwise is read back from the image
at the end. The whole image is hashed alongside as far as it is read from 0 on without a gap, and from there to its end
by reading back. Nothing here ends a rescue: a log that cannot be written is told (`Hasher.fault`), and hashing stops.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imaging.closing import Closing
from imaging.direct import is_device
from imaging.errors import CarverError
from imaging.extent import Extent, ExtentSet, span
from imaging.hash_lane import HashLane, Running
from imaging.hash_log import Hashed, HashLog, piece_bytes_for
from imaging.mapfile import BlockStatus, Mapfile
from imaging.pump import Piece
from imaging.read_back import OnProgress, cut, read_back
from imaging.source import RawImage

log = logging.getLogger(__name__)

BATCH_BYTES = 1 << 20
MAX_OPEN_PIECES = 1024  # begun and not yet whole; of more, the one that waits longest is read back at the end
DEFAULT_ALGORITHMS = ("sha256",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashing:
    """What became of the hashes of an image.

    Attributes:
        finished: every piece and the image are hashed; False: stopped, or hashing failed (`fault`).
        pieces: how many are hashed.
        from_drive: how many of them as they came from the drive.
        read_back_bytes: how much of the image was read again for it.
        image: of the whole image; None where it was not hashed.
        differing: pieces whose bytes in the image are not those that were hashed before.
        fault: why hashing ended; "" where it did not.
    """

    finished: bool
    pieces: int
    from_drive: int
    read_back_bytes: int = 0
    image: Hashed | None = None
    differing: tuple[Extent, ...] = ()
    fault: str = ""


class Hasher(Closing):
    """A subscriber of the pump that hashes what is read.

    Attributes:
        log: where the digests go.
    """

    def __init__(
        self,
        path: Path,
        *,
        image_bytes: int,
        mapfile: Mapfile | None,
        algorithms: Sequence[str] = DEFAULT_ALGORITHMS,
        whole_image: bool = True,
        piece_bytes: int | None = None,
        shift_bytes: int = 0,
    ) -> None:
        """Open the log, and drop from it what the map does not bear out.

        Args:
            path: the log.
            image_bytes: how long the image will be.
            mapfile: what of the drive is in the image already; None: the image is begun now.
            algorithms: for the whole image; pieces are hashed with SHA-256 where it is among them, else the first.
            whole_image: whether to hash the image as one too, which may mean to read it back at the end.
            piece_bytes: how long pieces are, in a new log; None: as `piece_bytes_for` says.
            shift_bytes: where in the image the drive's first byte lies.

        Raises:
            InputError: another process writes the log, or it cannot be read.
            OutputError: it cannot be written.
        """
        self.log = HashLog(path)
        try:
            known = self.log.hashes
            if mapfile is None or not known.piece_bytes:
                self.log.begin(
                    piece_bytes=piece_bytes or piece_bytes_for(image_bytes), algorithm=_for_pieces(algorithms)
                )
            self.log.begin_session()
            self._shift_bytes = shift_bytes
            if mapfile is not None:
                finished = self._finished(mapfile)
                known_pieces = list(self.log.hashes.pieces.values())
                self.log.void(piece.extent for piece in known_pieces if not _borne_out(piece, finished))
        except BaseException:
            self.log.close()
            raise
        self._image_bytes = image_bytes
        self._open: OrderedDict[int, Running] = OrderedDict()
        self._algorithms, self._whole_image = tuple(algorithms), whole_image
        self._whole: Running | None = Running(0, self._algorithms)
        self._batch: list[tuple[int, bytes]] = []
        self._batch_bytes = 0
        work = (self._hash_pieces, self._hash_whole) if whole_image else (self._hash_pieces,)
        self._lanes = tuple(HashLane(each) for each in work)

    @property
    def fault(self) -> str:
        """Why hashing ended early; "" where it did not."""
        return "; ".join(str(lane.fault) for lane in self._lanes if lane.fault is not None)

    def __call__(self, piece: Piece) -> None:
        """Take a piece; waits only where hashing is behind by some 16 MiB."""
        if piece.status is not BlockStatus.FINISHED or not piece.data:
            return
        self._batch.append((piece.extent.offset_bytes + self._shift_bytes, piece.data))
        self._batch_bytes += len(piece.data)
        if self._batch_bytes >= BATCH_BYTES:
            self._hand_on()

    def complete(
        self,
        image_path: Path,
        mapfile: Mapfile,
        *,
        stop: Callable[[], bool] = lambda: False,
        on_progress: OnProgress = lambda done_bytes, of_bytes: None,
    ) -> Hashing:
        """Hash what is not hashed yet, by reading it back from the image; what is hashed is compared on the way.

        Call it once, when nothing is read any more.

        Args:
            image_path: the image, closed by its writer.
            mapfile: what of the drive is in it.
            stop: is asked some times a second; what was hashed by then is kept.
            on_progress: gets the bytes done, and of how many.
        """
        self._end_lanes()
        if self.fault:
            return self._hashing(finished=False)
        try:
            with RawImage(image_path) as image:
                return self._complete(image, self._end_of(image), mapfile, stop, on_progress)
        except CarverError as fault:
            return self._hashing(finished=False, fault=str(fault))

    def close(self) -> None:
        """End in order: what was hashed counts the next time as well. A session that failed stays open in the log."""
        self._end_lanes()
        try:
            if not self.fault:
                self.log.end_session()
        except CarverError as fault:
            log.warning("the hashes of this run count only in part: %s", fault)
        finally:
            self.log.close()

    def _finished(self, mapfile: Mapfile) -> ExtentSet:
        return mapfile.extents(BlockStatus.FINISHED).shifted(self._shift_bytes)

    def _hand_on(self) -> None:
        for lane in self._lanes:
            lane.put(self._batch)
        self._batch, self._batch_bytes = [], 0

    def _end_lanes(self) -> None:
        if self._batch:
            self._hand_on()
        for lane in self._lanes:
            lane.close()

    def _hash_whole(self, offset_bytes: int, data: bytes) -> None:
        if self._whole is None or offset_bytes > self._whole.end_bytes:
            return
        if offset_bytes == self._whole.end_bytes:
            self._whole.update(data)
        else:
            self._whole = None  # written anew behind us

    def _hash_pieces(self, offset_bytes: int, data: bytes) -> None:
        known = self.log.hashes
        view = memoryview(data)
        for part in cut(offset_bytes, offset_bytes + len(data), known.piece_bytes):
            index = part.offset_bytes // known.piece_bytes
            if known.image is not None or index in known.pieces:
                self.log.void([part])
            self._hash_part(index, part, view[part.offset_bytes - offset_bytes : part.end_bytes - offset_bytes])

    def _hash_part(self, index: int, part: Extent, data: memoryview) -> None:
        """Hash a part of a piece that is next in it; what is not is left to be read back."""
        piece = self._piece(index, self._image_bytes)
        running = self._open.get(index)
        if running is None or part.offset_bytes < running.end_bytes:
            self._open.pop(index, None)
            if part.offset_bytes != piece.offset_bytes:
                return
            running = self._open[index] = Running(piece.offset_bytes, [self.log.hashes.algorithm])
            if len(self._open) > MAX_OPEN_PIECES:
                self._open.popitem(last=False)
        elif part.offset_bytes > running.end_bytes:
            return
        running.update(data)
        self._open.move_to_end(index)
        if running.end_bytes == piece.end_bytes:
            del self._open[index]
            self.log.add_piece(Hashed(extent=piece, unread_bytes=0, basis="drive", digests=running.digests()))

    def _piece(self, index: int, image_bytes: int) -> Extent:
        piece_bytes = self.log.hashes.piece_bytes
        return span(index * piece_bytes, min((index + 1) * piece_bytes, image_bytes))

    def _complete(
        self,
        image: RawImage,
        end_bytes: int,
        mapfile: Mapfile,
        stop: Callable[[], bool],
        on_progress: OnProgress,
    ) -> Hashing:
        known, finished = self.log.hashes, self._finished(mapfile)
        whole = self._unhashed_whole()
        basis = "drive" if whole is not None and whole.end_bytes == end_bytes else "image"
        read_bytes = 0
        differing: list[Extent] = []
        for piece in cut(0, end_bytes, known.piece_bytes):
            index = piece.offset_bytes // known.piece_bytes
            before = known.pieces.get(index)
            hashed_before = before is not None and before.extent == piece
            running = self._running(index, piece, whole, hashed_before=hashed_before)
            read_bytes += read_back(image, piece, [each for each in (running, whole) if each is not None], stop)
            if stop():
                return self._hashing(finished=False, read_bytes=read_bytes, differing=differing)
            if running is not None:
                unread_bytes = piece.size_bytes - finished.within(piece).total_bytes
                hashed = Hashed(extent=piece, unread_bytes=unread_bytes, basis="image", digests=running.digests())
                if before is None or not hashed_before:
                    self.log.add_piece(hashed)
                elif before.digests != hashed.digests:
                    differing.append(piece)
            on_progress(piece.end_bytes, end_bytes)
        if whole is not None:
            extent = span(0, end_bytes)
            unread_bytes = extent.size_bytes - finished.within(extent).total_bytes
            self.log.add_image(Hashed(extent=extent, unread_bytes=unread_bytes, basis=basis, digests=whole.digests()))
        return self._hashing(finished=True, read_bytes=read_bytes, differing=differing)

    def _unhashed_whole(self) -> Running | None:
        """Return what hashes the image as one; None where that is not wished for, or done."""
        done = self.log.hashes.image
        if not self._whole_image or (done is not None and set(self._algorithms) <= set(done.digests)):
            return None
        return self._whole or Running(0, self._algorithms)

    def _end_of(self, image: RawImage) -> int:
        """Return where the image ends: a file with its last byte, on a device where the drive's does."""
        return min(image.size_bytes, self._image_bytes) if is_device(image.path) else image.size_bytes

    def _running(self, index: int, piece: Extent, whole: Running | None, *, hashed_before: bool) -> Running | None:
        """Return what hashes a piece that is read back; None where it needs no hashing."""
        if not hashed_before:
            return self._open.pop(index, None) or Running(piece.offset_bytes, [self.log.hashes.algorithm])
        if whole is not None and whole.end_bytes <= piece.offset_bytes:
            return Running(piece.offset_bytes, [self.log.hashes.algorithm])  # it is read anyway: compare
        return None

    def _hashing(
        self, *, finished: bool, read_bytes: int = 0, differing: Sequence[Extent] = (), fault: str = ""
    ) -> Hashing:
        pieces = self.log.hashes.pieces.values()
        return Hashing(
            finished=finished,
            pieces=len(pieces),
            from_drive=sum(piece.basis == "drive" for piece in pieces),
            read_back_bytes=read_bytes,
            image=self.log.hashes.image,
            differing=tuple(differing),
            fault=fault or self.fault,
        )


def _borne_out(piece: Hashed, finished: ExtentSet) -> bool:
    """Tell whether the map knows as much of a piece as was read when it was hashed."""
    if piece.unread_bytes is None:
        return False
    return finished.within(piece.extent).total_bytes == piece.extent.size_bytes - piece.unread_bytes


def _for_pieces(algorithms: Sequence[str]) -> str:
    return DEFAULT_ALGORITHMS[0] if DEFAULT_ALGORITHMS[0] in algorithms else algorithms[0]
