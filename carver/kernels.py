"""Kernels: the scan of bytes, compiled by numba and run without the GIL.

How a chunk is searched for all patterns at once
------------------------------------------------
The truth is the Aho-Corasick automaton: one table look-up a byte (`next_states[state, byte]`), and whenever the state
reached has outputs, patterns end at this byte. Each look-up needs the state that the one before gave, so the processor
waits for its cache on every byte: some 0.3 GB/s, whatever the data.

Nearly every byte of a disk is far from any pattern, so a *prefilter* decides where to walk at all. It looks at byte
pairs at even places only (0-1, 2-3, 4-5, ...) and asks a table of 65,536 marks whether the pair belongs to a pattern.
These look-ups do not depend on each other, so the processor has many of them under way. A pattern of three bytes or
more that starts at an even place shows its even pairs at even places; one that starts at an odd place shows its odd
pairs there. Marking one pair of each kind, the rarest, thus suffices to never miss a pattern:

    data      .. | .. | .P | K3 | 4. | ..      "PK34" at an odd place is seen by its odd pair "K3"

The data is tested in blocks of 64 bytes. If no pair of a block is marked, the block is done. If one is, each of its
marked pairs is looked at again, and the automaton walks from `lead` bytes before it (no pattern has more before its
marked pair) to where the longest pattern with this pair would end:

    |------ clean ------|----- x marked ----|------ clean ------|
                          <--======-->  walked

Walks of neighbouring pairs would overlap. So the walk remembers up to where it came and in which state, and goes on
from there: no byte is walked twice, and no hit is told twice. Where it jumps ahead, it begins in the root; as the lead
is one for all pairs, walks begin in ascending order, and none goes on from a state that has not seen enough. What is
told is therefore exactly what the automaton tells of the whole; the prefilter can only cost time. On hostile data
(every block marked) that is two table look-ups a pair on top of the walk: a bounded factor.

The last, incomplete block is always walked, so the prefilter never reads past the end.

Hits are written as `start << 16 | pattern` into an array that the caller owns. When the next byte could overflow it,
the kernel saves its place in `resume` and returns; the caller empties the array and calls again.
"""

from __future__ import annotations

import numba
import numpy as np

from carver.automaton import PATTERN_BITS, Bytes, Numbers, Pairs, States

BLOCK_BYTES = 64


@numba.njit(nogil=True, cache=True)
def _marked(pairs: Pairs, first: int, pair_marks: Bytes) -> bool:
    """Tell whether a pair of the block that begins at pair `first` is marked; reads 64 bytes, branches once."""
    found = np.uint8(0)
    for i in range(BLOCK_BYTES // 2):
        # unsigned: a signed index is tested for being negative, which halves the speed
        found |= pair_marks[np.uint64(pairs[np.uint64(first + i)])]
    return bool(found != 0)


@numba.njit(nogil=True, cache=True)
def scan_patterns(
    data: Bytes,
    limit: int,
    next_states: States,
    out_first: Numbers,
    out_numbers: Numbers,
    lengths: Numbers,
    pair_marks: Bytes,
    pair_spans: States,
    lead: int,
    hits: Numbers,
    resume: Numbers,
) -> int:
    """Write the hits that start below `limit` and return how many; the scan is done when `resume[0] < 0`.

    Cost: half a table look-up a byte on clean data, one and a half on data full of pairs (tests/bench/scan.py); reads
    each byte once, twice where it is walked; allocates nothing.

    Args:
        data: the bytes, with what hits below `limit` need after it.
        limit: hits that start here or later are not told.
        next_states: see `carver.automaton.Automaton`, as for the tables that follow.
        out_first: likewise.
        out_numbers: likewise.
        lengths: likewise.
        pair_marks: likewise.
        pair_spans: likewise.
        lead: likewise (`lead_bytes`).
        hits: written; must have room for all outputs of one state.
        resume: zeros at first; then as it was left.
    """
    size = data.shape[0]
    capacity = hits.shape[0]
    pairs = data[: size // 2 * 2].view(np.uint16)  # may lie at an odd address, which x86-64 and arm64 load as well
    block, walked, state = resume[0], resume[1], resume[2]
    count = 0
    while block < size:
        block_end = block + BLOCK_BYTES
        if block_end <= size and not _marked(pairs, block >> 1, pair_marks):
            block = block_end
            continue
        for place in range(block, min(block_end, size), 2):
            end = size
            if block_end <= size:
                end = min(place + pair_spans[np.uint64(pairs[np.uint64(place >> 1)])], size)
                if end == place:
                    continue
            if place - lead > walked:
                walked = place - lead
                state = 0
            while walked < end:
                following = next_states[np.uint64(state), np.uint64(data[np.uint64(walked)])]
                first, last = out_first[np.uint64(following)], out_first[np.uint64(following) + np.uint64(1)]
                if count + last - first > capacity:
                    resume[0], resume[1], resume[2] = block, walked, state
                    return count
                for i in range(first, last):
                    start = walked + 1 - lengths[out_numbers[i]]
                    if start < limit:
                        hits[count] = start << PATTERN_BITS | out_numbers[i]
                        count += 1
                state = following
                walked += 1
        block = block_end
    resume[0] = -1
    return count


@numba.njit(nogil=True, cache=True)
def scan_probes(
    data: Bytes,
    first: int,
    limit: int,
    step: int,
    probe_numbers: Numbers,
    probe_allowed: Bytes,
    lengths: Numbers,
    hits: Numbers,
    resume: Numbers,
) -> int:
    """Write the probes that hold at `first`, `first + step`, … below `limit`; done when `resume[0] < 0`.

    Cost: one look-up a probe and sector where the first byte already speaks against it; reads only the first bytes of
    sectors; allocates nothing.

    Args:
        data: the bytes.
        first: index of the first sector start.
        limit: sectors that start here or later are not told.
        step: distance of sector starts.
        probe_numbers: see `carver.automaton.Automaton`, as for the two tables that follow.
        probe_allowed: likewise.
        lengths: likewise.
        hits: written; must have room for one hit a probe.
        resume: zeros at first; then as it was left.
    """
    size = data.shape[0]
    probes = probe_numbers.shape[0]
    start = max(first, resume[0])
    count = 0
    while start < limit:
        if count + probes > hits.shape[0]:
            resume[0] = start
            return count
        for probe in range(probes):
            length = lengths[probe_numbers[probe]]
            place = 0
            if start + length <= size:
                while place < length and probe_allowed[probe, place, data[start + place]] != 0:
                    place += 1
            if place == length:
                hits[count] = start << PATTERN_BITS | probe_numbers[probe]
                count += 1
        start += step
    resume[0] = -1
    return count
