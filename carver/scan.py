"""Scan: chunks of an image in, the places where patterns lie out, in order.

The hits depend on the image and the formats alone: not on the size of chunks, the number of threads, or where an
interrupted scan went on. A hit counts only when all its bytes were read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from carver.automaton import PATTERN_BITS, PROBE_STEP_BYTES, RESUME_FIELDS, Automaton, Bytes, Numbers, build
from carver.chunks import Chunk, cut, load
from imaging.extent import Extent, ExtentSet, span
from imaging.source import RawImage
from signatures.format import Format

HIT_DTYPE = np.dtype([("offset_bytes", "<i8"), ("pattern", "<u2")])
Hits: TypeAlias = npt.NDArray[np.void]

CHUNK_BYTES = 64 << 20
LOOK_AHEAD_CHUNKS = 2  # a thread: one under way, one waiting
BUFFER_HITS = 1 << 16
JOIN_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkHits:
    """What one chunk holds.

    Attributes:
        chunk: where its hits start; a scan can resume at its end.
        hits: HIT_DTYPE, shape (n,), ascending by offset, then pattern number.
        unread: what was to be read and could not be, up to the automaton's reach past the chunk.
    """

    chunk: Extent
    hits: Hits
    unread: ExtentSet


def scan(
    image: RawImage,
    formats: Sequence[Format],
    *,
    domain: ExtentSet | None = None,
    threads: int = 1,
    chunk_bytes: int = CHUNK_BYTES,
    resume_at_bytes: int = 0,
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
    for found in _in_order(image, automaton, chunks, threads):
        yield found
        if on_progress is not None:
            on_progress(found.chunk.end_bytes, image.size_bytes)
        if stop is not None and stop():
            return
    if on_progress is not None:
        on_progress(image.size_bytes, image.size_bytes)


def _in_order(image: RawImage, automaton: Automaton, chunks: Iterator[Chunk], threads: int) -> Iterator[ChunkHits]:
    if threads <= 1:
        yield from (scan_chunk(image, automaton, chunk) for chunk in chunks)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="scan") as pool:
        ahead: deque[Future[ChunkHits]] = deque()
        try:
            while True:
                for chunk in islice(chunks, threads * LOOK_AHEAD_CHUNKS - len(ahead)):
                    ahead.append(pool.submit(scan_chunk, image, automaton, chunk))
                if not ahead:
                    return
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def scan_chunk(image: RawImage, automaton: Automaton, chunk: Chunk) -> ChunkHits:
    """Return the hits that start in `chunk.starts`."""
    keys: list[Numbers] = []
    faults = ExtentSet()
    for run in _runs(chunk.starts):
        needed = span(run.offset_bytes, min(run.end_bytes + automaton.reach_bytes, image.size_bytes))
        data, missing = load(image, needed)
        faults |= missing
        for found in (*_pattern_keys(automaton, data, run.size_bytes), *_probe_keys(automaton, data, run)):
            found += run.offset_bytes << PATTERN_BITS
            keys.append(found)
    joined = np.concatenate([np.zeros(0, np.int64), *keys])
    keys.clear()  # a hostile chunk has many millions
    joined.sort()
    hits = _as_hits(joined)
    if len(chunk.starts) > 1:
        hits = hits[_inside(hits["offset_bytes"], chunk.starts)]
    unread = faults | (image.unread or ExtentSet()).within(_reach(chunk, automaton))
    if unread:
        hits = _readable(hits, automaton, unread)
    return ChunkHits(chunk=chunk.extent, hits=hits, unread=faults)


def _runs(starts: ExtentSet) -> ExtentSet:
    """Join what lies near: scanning a small gap is cheaper than a mapping of its own for what follows it."""
    joined = ExtentSet.from_arrays(starts.starts, starts.ends + JOIN_BYTES)
    return ExtentSet.from_arrays(joined.starts, joined.ends - JOIN_BYTES)


def _reach(chunk: Chunk, automaton: Automaton) -> Extent:
    return span(chunk.extent.offset_bytes, chunk.extent.end_bytes + automaton.reach_bytes)


def _pattern_keys(automaton: Automaton, data: Bytes, limit: int) -> Iterator[Numbers]:
    from carver.kernels import MASKED, PORTABLE, VARIANTS, scan_patterns  # here: numba takes most of a second to import

    prints = automaton.fingerprints
    variant = VARIANTS[0] | (MASKED if prints.masked and VARIANTS[0] != PORTABLE else 0)
    tables = (
        automaton.next_states,
        automaton.depths,
        automaton.out_first,
        automaton.out_numbers,
        automaton.lengths,
        prints.nibbles,
        prints.pairs,
        prints.spans,
        prints.lead_bytes,
        variant,
    )
    return _until_done(automaton, lambda found, resume: scan_patterns(data, limit, *tables, found, resume))


def _probe_keys(automaton: Automaton, data: Bytes, run: Extent) -> Iterator[Numbers]:
    from carver.kernels import scan_probes  # here: numba takes most of a second to import

    first = -run.offset_bytes % PROBE_STEP_BYTES
    where = (first, run.size_bytes, PROBE_STEP_BYTES)
    tables = (automaton.probe_numbers, automaton.probe_masks, automaton.probe_order)
    return _until_done(automaton, lambda found, resume: scan_probes(data, *where, *tables, found, resume))


def _until_done(automaton: Automaton, kernel: Callable[[Numbers, Numbers], int]) -> Iterator[Numbers]:
    """Call `kernel` with an empty array until it has told all its hits."""
    found = np.empty(max(BUFFER_HITS, len(automaton.table)), dtype=np.int64)
    resume = np.zeros(RESUME_FIELDS, dtype=np.int64)
    while resume[0] >= 0:
        count = kernel(found, resume)
        yield found[:count].copy()


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
