"""Scan: chunks of an image in, the places where patterns lie out, in order.

The hits depend on the image and the formats alone: not on the size of chunks, the number of threads, or where an
interrupted scan went on; nor on what is known from a scan of the same bytes while the image was made
(`carver.following`). A hit counts only when all its bytes were read.

A chunk full of hits is told in parts, so that memory stays bounded whatever the image holds: a part ends after the
piece in which its hits became too many, and the rest of the chunk is scanned when the part was taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from carver.automaton import PATTERN_BITS, PROBE_STEP_BYTES, RESUME_FIELDS, Automaton, Bytes, Numbers, build
from carver.chunks import Chunk, Feed, blocks, cut
from imaging.extent import Extent, ExtentSet, span
from imaging.source import RawImage
from signatures.format import Format

# where the first byte that was asked of the pattern lies, and its number
HIT_DTYPE = np.dtype([("offset_bytes", "<i8"), ("pattern", "<u2")])
Hits: TypeAlias = npt.NDArray[np.void]

CHUNK_BYTES = 64 << 20
LOOK_AHEAD_CHUNKS = 2  # a thread: one under way, one waiting
PIECE_BYTES = 16 << 20  # scanned at a time (each costs 0.1 ms in Python), and read where that cannot be mapped
PART_HITS = 1 << 20  # a part ends when it has so many
BUFFER_HITS = 1 << 14
JOIN_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkHits:
    """What one chunk holds, or one part of it.

    Attributes:
        chunk: where the hits start; a scan can resume at its end.
        hits: HIT_DTYPE, shape (n,), ascending by offset, then pattern number.
        unread: what was to be read and could not be, up to the automaton's reach past the chunk.
    """

    chunk: Extent
    hits: Hits
    unread: ExtentSet


Known: TypeAlias = Callable[[Chunk], tuple[ChunkHits, Chunk | None] | None]


def scan(
    image: RawImage,
    formats: Sequence[Format],
    *,
    domain: ExtentSet | None = None,
    threads: int = 1,
    chunk_bytes: int = CHUNK_BYTES,
    resume_at_bytes: int = 0,
    known: Known | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[ChunkHits]:
    """Yield the hits of all patterns and probes of `formats`, chunk by chunk in ascending order.

    Pattern numbers index the table of `carver.automaton.build(formats)`. Chunks with nothing stored are left out.

    Args:
        image: what to scan; ranges it says are unread are skipped, and hits that touch them dropped.
        formats: what to look for.
        domain: where hits may start (None: anywhere).
        threads: how many chunks are scanned at a time.
        chunk_bytes: size of a chunk.
        resume_at_bytes: hits before are not told: the end of the last chunk that was.
        known: asked for each chunk first, whether its hits are known.
        on_progress: called when a chunk's hits were taken, with (bytes behind us, size of the image).
        stop: asked between chunks; the scan ends where it says True.
    """
    automaton = build(formats)
    chunks = cut(
        image,
        chunk_bytes=chunk_bytes,
        reach_bytes=automaton.reach_bytes,
        domain=domain,
        resume_at_bytes=resume_at_bytes,
        skip_holes=not automaton.matches_zeros,
    )
    if stop is not None and stop():
        return
    for found in _in_order(image, automaton, chunks, threads, known):
        yield found
        if on_progress is not None:
            on_progress(found.chunk.end_bytes, image.size_bytes)
        if stop is not None and stop():
            return
    if on_progress is not None:
        on_progress(image.size_bytes, image.size_bytes)


def _in_order(
    image: RawImage, automaton: Automaton, chunks: Iterator[Chunk], threads: int, known: Known | None
) -> Iterator[ChunkHits]:
    idle: deque[Scanner] = deque()

    def one(chunk: Chunk) -> tuple[ChunkHits, Chunk | None]:
        told = known(chunk) if known is not None else None
        if told is not None:
            return told
        try:
            scanner = idle.pop()
        except IndexError:
            scanner = Scanner(automaton, image)  # no more are made than there are threads
        try:
            return scanner.part(chunk)
        finally:
            idle.append(scanner)

    if threads <= 1:
        for chunk in chunks:
            rest: Chunk | None = chunk
            while rest is not None:
                part, rest = one(rest)
                yield part
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="scan") as pool:
        ahead: deque[Future[tuple[ChunkHits, Chunk | None]]] = deque()
        try:
            while True:
                for chunk in islice(chunks, max(0, threads * LOOK_AHEAD_CHUNKS - len(ahead))):
                    ahead.append(pool.submit(one, chunk))
                if not ahead:
                    return
                part, rest = ahead.popleft().result()
                if rest is not None:
                    ahead.appendleft(pool.submit(one, rest))
                yield part
        finally:
            for future in ahead:
                future.cancel()


def _told(
    image: RawImage, automaton: Automaton, hits: Hits, starts: ExtentSet, faults: ExtentSet, part: Extent
) -> Hits:
    """Drop the hits that start where none was wanted, and those with a byte that was not read."""
    if len(starts) > 1:
        hits = hits[_inside(hits["offset_bytes"], starts)]
    reached = span(part.offset_bytes, part.end_bytes + automaton.reach_bytes)
    unread = faults | (image.unread or ExtentSet()).within(reached)
    return _readable(hits, automaton, unread) if unread else hits


def _runs(starts: ExtentSet) -> ExtentSet:
    """Join what lies near: scanning a small gap is cheaper than another read for what follows it."""
    joined = ExtentSet.from_arrays(starts.starts, starts.ends + JOIN_BYTES)
    return ExtentSet.from_arrays(joined.starts, joined.ends - JOIN_BYTES)


class Scanner:
    """The kernels, with the tables and arrays that they take; one a thread, as arrays are written to.

    Args:
        automaton: what to look for.
        image: where.
        may_map: whether the image may be mapped: not while it is being written.
    """

    def __init__(self, automaton: Automaton, image: RawImage, *, may_map: bool = True) -> None:
        from carver.kernels import BATCH_BLOCKS, PORTABLE, VARIANTS  # here: numba takes most of a second to import

        self.automaton = automaton
        self._image = image
        prints = automaton.fingerprints
        self.feed = Feed(image, PIECE_BYTES + automaton.reach_bytes, may_map=may_map)
        self._found = np.empty(max(BUFFER_HITS, len(automaton.table)), dtype=np.int64)
        self._resume = np.zeros(RESUME_FIELDS, dtype=np.int64)
        self._tables = (
            automaton.next_states,
            automaton.depths,
            automaton.out_first,
            automaton.out_numbers,
            automaton.ends,
            automaton.asked_first,
            automaton.asked_places,
            automaton.asked_allowed,
            prints.nibbles,
            prints.pairs,
            prints.walks,
            automaton.tails,
            VARIANTS[0] if prints.plain else PORTABLE,
            np.zeros(BATCH_BLOCKS, dtype=np.uint64),
            automaton.probe_numbers,
            automaton.probe_masks,
            automaton.probe_order,
        )

    def part(self, chunk: Chunk) -> tuple[ChunkHits, Chunk | None]:
        """Return the hits that start in `chunk.starts`, or in its beginning, and the rest of the chunk if any."""
        found: list[Numbers] = [np.zeros(0, np.int64)]
        faults = ExtentSet()
        end_bytes = chunk.extent.end_bytes
        pieces = ((piece, run.end_bytes) for run in _runs(chunk.starts) for piece in blocks(run, PIECE_BYTES))
        with closing(self.feed):
            for piece, run_end_bytes in pieces:
                if sum(map(len, found)) >= PART_HITS:
                    end_bytes = piece.offset_bytes
                    break
                keys, missing = self.keys_of(piece, run_end_bytes)
                if missing:
                    faults |= missing
                if len(keys):
                    found.append(keys)
        part = span(chunk.extent.offset_bytes, end_bytes)
        hits = _told(self._image, self.automaton, _as_hits(np.concatenate(found)), chunk.starts, faults, part)
        return ChunkHits(chunk=part, hits=hits, unread=faults), chunk.behind(end_bytes)

    def keys_of(self, piece: Extent, run_end_bytes: int) -> tuple[Numbers, ExtentSet]:
        """Return the hits that start in `piece`, as `keys` does, and what could not be read."""
        end_bytes, run_end_bytes = (
            min(end + self.automaton.reach_bytes, self._image.size_bytes) for end in (piece.end_bytes, run_end_bytes)
        )
        needed = span(piece.offset_bytes, end_bytes)
        data, missing = self.feed.get(needed, run_end_bytes)
        keys = self.keys(data, piece)
        if self.feed.torn():
            data, missing = self.feed.read(needed)
            keys = self.keys(data, piece)
        return keys, missing

    def keys(self, data: Bytes, piece: Extent) -> Numbers:
        """Return the hits that start in `piece`, whose bytes `data` begins with: `start << 16 | pattern`."""
        from carver.kernels import scan_piece

        first = -piece.offset_bytes % PROBE_STEP_BYTES
        told: list[Numbers] = []
        self._resume[:] = 0
        while self._resume[0] >= 0:
            count = scan_piece(
                data, piece.size_bytes, first, PROBE_STEP_BYTES, *self._tables, self._found, self._resume
            )
            told.append(self._found[:count].copy())
        keys = np.concatenate(told)
        keys.sort()
        keys += piece.offset_bytes << PATTERN_BITS
        return keys


def _as_hits(keys: Numbers) -> Hits:
    hits = np.empty(len(keys), dtype=HIT_DTYPE)
    hits["offset_bytes"] = keys >> PATTERN_BITS
    hits["pattern"] = keys & ((1 << PATTERN_BITS) - 1)
    return hits


def _inside(offsets: Numbers, wanted: ExtentSet) -> npt.NDArray[np.bool_]:
    index = np.searchsorted(wanted.starts, offsets, side="right") - 1
    return (index >= 0) & (offsets < wanted.ends[index])


def _readable(hits: Hits, automaton: Automaton, unread: ExtentSet) -> Hits:
    """Drop the hits with a byte in `unread`."""
    starts: Numbers = hits["offset_bytes"]
    next_gap = np.searchsorted(unread.ends, starts, side="right")
    gap_starts = np.append(unread.starts, np.iinfo(np.int64).max)
    whole = starts + automaton.lengths[hits["pattern"]] <= gap_starts[next_gap]
    return np.compress(whole, hits)
