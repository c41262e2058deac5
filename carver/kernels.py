"""Kernels: the scan of bytes, compiled by numba and run without the GIL.

How bytes are searched for all patterns at once
-----------------------------------------------
The truth is the Aho-Corasick automaton: one table look-up a byte (`next_states[state, byte]`), and whenever the state
reached has outputs, patterns end at this byte. Each look-up needs the state that the one before gave, so the processor
waits for its cache on every byte: some 0.3 GB/s, whatever the data. Nearly every byte of a disk is far from any
pattern, so three sieves, each finer and slower than the one before, decide where to walk at all.

1. *The prefilter* looks at 128 places at a time. `carver.fingerprints` chose four bytes of each pattern and put them in
   eight buckets; for each of the four bytes there is a table of 16 entries that tells by the low nibble which buckets
   (bits of a byte) allow it, and for the first byte one more for the high nibble. A table of 16 bytes is one vector
   register, and one instruction (`pshufb` on x86-64, `tbl` on arm64) looks up 16 or 32 bytes in it. For 32 places:

       bytes at p, p+1, …     P  K  3  4  .  .  .      four loads, one byte apart
       low[0][byte at p]      01 80 01 00 …            which buckets allow it as first byte
       low[1][byte at p+1]    01 01 00 …               … as second, and so on
       high[0][byte at p]     81 01 …
       AND of all             01 00 …                  bucket 0 may have a fingerprint at the first place

   Four such vectors are OR-ed and tested with one branch. It is wrong now and then, as buckets mix the nibbles of their
   fingerprints; it never misses one.
2. *The hash*. In a block that did not stay clean the places are told one by one. The four bytes at each are hashed into
   a table of the fingerprints; nearly all of what was wrong ends here. The table also tells how many bytes from here
   the longest pattern with this fingerprint can take.
3. *The walk*. The automaton walks from `lead` bytes before the place (no pattern has more before its fingerprint):

       |------ clean ------|-- fingerprint --|------ clean ------|
                        <==^====>  walked

   to where that longest pattern would end, or less far: as soon as the longest prefix that the state stands for begins
   after the place, no pattern that holds the fingerprint is left.

Walks of neighbouring places would overlap. So the walk remembers up to where it came and in which state, and goes on
from there: no byte is walked twice, and no hit is told twice. Where it jumps ahead it begins in the root; as the lead
is one for all patterns, walks begin in ascending order, and none goes on from a state that has not seen enough. What is
told is therefore exactly what the automaton tells of the whole; the sieves can only cost time. On hostile data, where
every place passes, that is the hash and the walk for each byte: a bounded factor.

The prefilter is written once, as LLVM IR inside numba intrinsics, for vectors of 32 bytes (AVX2) and of 16 (SSSE3,
NEON). `VARIANTS` says which of them the processor that numba compiles for can run; `PORTABLE` needs no vectors and asks
a table of 65,536 marks about byte pairs at even places instead: a fingerprint at an even place ends with a pair at an
even place, one at an odd place has one in its middle. The NEON form was run in an emulator (QEMU), never on hardware.

Hits are written as `start << 16 | pattern` into an array that the caller owns. When the next byte could overflow it,
the kernel saves its place in `resume` and returns; the caller empties the array and calls again.

numba keeps compiled kernels on disk and looks at this file alone to see whether they are stale: so all is in one file.
Importing it compiles, once on a machine; where nothing can be kept, each time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, event
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from carver.automaton import AFTER_THE_END, PATTERN_BITS, Bytes, Masks, Numbers, Pairs, States
from carver.fingerprints import FINGERPRINT_BYTES, HASH_BITS, HASH_FACTOR, HIGH_PLACES

log = logging.getLogger(__name__)

BLOCK_BYTES = 128
HALF_BYTES = 64  # of a block: as many places as a word has bits
PORTABLE, VECTOR_16, VECTOR_32 = 0, 1, 2
MASKED = 4  # added to a vector variant: all low nibbles are masked
NEEDED = {"x86_64": {VECTOR_32: "+avx2", VECTOR_16: "+ssse3"}, "aarch64": {VECTOR_16: "+neon"}}
LOOK_UP = {
    ("x86_64", 32): "llvm.x86.avx2.pshuf.b",
    ("x86_64", 16): "llvm.x86.ssse3.pshuf.b.128",
    ("aarch64", 16): "llvm.aarch64.neon.tbl1.v16i8",
}

COMPILED_IN = (4, (0, 3), 13, 0x9E3779B1, 16, 256)
if COMPILED_IN != (FINGERPRINT_BYTES, HIGH_PLACES, HASH_BITS, HASH_FACTOR, PATTERN_BITS, AFTER_THE_END):
    raise ImportError(
        "a number that is compiled into kernels changed: change it in kernels.py too, so that none is stale"
    )

I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)


def _target() -> tuple[str, set[str]]:
    """Return the processor family and features that numba compiles for: this machine's, or what NUMBA_CPU_NAME says."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    family = triple.split("-")[0]
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(family, family), set(features.split(","))


FAMILY, _FEATURES = _target()
VARIANTS = (*(v for v, feature in NEEDED.get(FAMILY, {}).items() if feature in _FEATURES), PORTABLE)
"""What can run here, fastest first."""


def suspects(
    builder: ir.IRBuilder, family: str, lanes: int, masked: bool, base: ir.Value, tables: ir.Value
) -> ir.Value:
    """Build the prefilter of `lanes` places from `base` on: a vector of the buckets that may have a fingerprint there.

    `base` and `tables` (`Fingerprints.nibbles`) are pointers to bytes; reads `lanes + 3` bytes.
    """
    vector, table = ir.VectorType(I8, lanes), ir.VectorType(I8, 16)
    halves = ir.VectorType(ir.IntType(16), lanes // 2)
    kind = ir.FunctionType(vector, [vector, vector])
    look_up = cgutils.get_or_insert_function(builder.module, kind, LOOK_UP[family, lanes])
    low_nibble, four = ir.Constant(vector, [15] * lanes), ir.Constant(halves, [4] * (lanes // 2))
    repeated = ir.Constant(ir.VectorType(I32, lanes), [i % 16 for i in range(lanes)])

    def load(pointer: ir.Value, offset: int, kind: ir.VectorType) -> ir.Value:
        place = builder.gep(pointer, [I64(offset)])
        loaded = builder.load(builder.bitcast(place, kind.as_pointer()))
        loaded.align = 1
        return loaded

    def allowed(row: int, index: ir.Value) -> ir.Value:
        entries = load(tables, 16 * row, table)
        return builder.call(
            look_up, [builder.shuffle_vector(entries, ir.Constant(table, ir.Undefined), repeated), index]
        )

    found = ir.Constant(vector, [255] * lanes)
    for place in range(FINGERPRINT_BYTES):
        values = load(base, place, vector)
        # `tbl` answers nothing from 16 on, where `pshufb` goes by the low nibble up to 0x80
        all_masked = masked or family != "x86_64" or place == 0
        found = builder.and_(found, allowed(place, builder.and_(values, low_nibble) if all_masked else values))
        if place in HIGH_PLACES and (masked or place == HIGH_PLACES[0]):
            row = FINGERPRINT_BYTES + HIGH_PLACES.index(place)
            shifted = builder.bitcast(builder.lshr(builder.bitcast(values, halves), four), vector)
            found = builder.and_(found, allowed(row, builder.and_(shifted, low_nibble)))
    return found


def any_suspect(
    builder: ir.IRBuilder, family: str, lanes: int, masked: bool, base: ir.Value, tables: ir.Value
) -> ir.Value:
    """Build the test of a block: i1, whether a fingerprint may begin at one of its 128 places."""
    found = ir.Constant(ir.VectorType(I8, lanes), [0] * lanes)
    for first in range(0, BLOCK_BYTES, lanes):
        found = builder.or_(found, suspects(builder, family, lanes, masked, builder.gep(base, [I64(first)]), tables))
    words = builder.bitcast(found, ir.IntType(8 * lanes))
    return builder.icmp_unsigned("!=", words, ir.Constant(words.type, 0))


def suspect_bits(
    builder: ir.IRBuilder, family: str, lanes: int, masked: bool, base: ir.Value, tables: ir.Value
) -> ir.Value:
    """Build the places of half a block as an i64, the first in the lowest bit."""
    bits = I64(0)
    for first in range(0, HALF_BYTES, lanes):
        found = suspects(builder, family, lanes, masked, builder.gep(base, [I64(first)]), tables)
        passed = builder.icmp_unsigned("!=", found, ir.Constant(found.type, [0] * lanes))
        part = builder.zext(builder.bitcast(passed, ir.IntType(lanes)), I64)
        bits = builder.or_(bits, builder.shl(part, I64(first)))
    return bits


def _intrinsic(build: Callable[..., ir.Value], result: types.Type, variant: int) -> Callable[..., np.uint64]:
    """Return `build` as a function (data, position, nibbles) for kernels; an empty one where it cannot run."""
    lanes = 32 if variant & ~MASKED == VECTOR_32 else 16
    can_run = variant & ~MASKED in VARIANTS

    @intrinsic
    def built(context: Any, data: Any, position: Any, nibbles: Any) -> Any:  # noqa: ANN401 - numba's own
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:  # noqa: ANN401
            if not can_run:
                return ir.Constant(context.get_value_type(result), 0)
            array, tables = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2))
            base = builder.gep(array, [args[1]])
            return build(builder, FAMILY, lanes, bool(variant & MASKED), base, tables)

        return result(data, types.int64, nibbles), generate

    return cast(Callable[..., np.uint64], built)


_any_32 = _intrinsic(any_suspect, types.boolean, VECTOR_32)
_any_16 = _intrinsic(any_suspect, types.boolean, VECTOR_16)
_any_32_masked = _intrinsic(any_suspect, types.boolean, VECTOR_32 | MASKED)
_any_16_masked = _intrinsic(any_suspect, types.boolean, VECTOR_16 | MASKED)
_bits_32 = _intrinsic(suspect_bits, types.uint64, VECTOR_32)
_bits_16 = _intrinsic(suspect_bits, types.uint64, VECTOR_16)
_bits_32_masked = _intrinsic(suspect_bits, types.uint64, VECTOR_32 | MASKED)
_bits_16_masked = _intrinsic(suspect_bits, types.uint64, VECTOR_16 | MASKED)


class _Announcer(event.Listener):  # type: ignore[misc]
    """Says once that something is compiled: numba's event comes only where nothing fitting was kept."""

    said = False

    def on_start(self, event: object) -> None:
        if not self.said:
            log.info("compiling the scan for this processor: some seconds, once")
            self.said = True

    def on_end(self, event: object) -> None:
        pass


def _compiled(result: types.Type, *arguments: types.Type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that compiles for these types at once, and keeps what it compiled if there is a place."""

    def compile_now(function: Callable[..., Any]) -> Callable[..., Any]:
        with event.install_listener("numba:compile", _ANNOUNCER):
            try:
                kept: Callable[..., Any] = numba.njit(result(*arguments), nogil=True, cache=True)(function)
                return kept
            except (RuntimeError, OSError) as fault:  # no folder can be written, or the disk is full
                log.info("compiled kernels cannot be kept: %s", fault)
                unkept: Callable[..., Any] = numba.njit(result(*arguments), nogil=True)(function)
                return unkept

    return compile_now


_ANNOUNCER = _Announcer()


def _array(kind: types.Type, dimensions: int = 1) -> types.Array:
    return types.Array(kind, dimensions, "C", readonly=True)  # a writable one passes as well


_HITS = types.Array(types.int64, 1, "C")


@intrinsic
def _lowest(context: Any, bits: Any) -> Any:  # noqa: ANN401
    """Tell the place of the lowest bit that is set, of one or more."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:  # noqa: ANN401
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@numba.njit(nogil=True, inline="always")  # called, it would count references to its arrays
def _any_portable(pairs: Pairs, position: int, pair_marks: Bytes) -> bool:
    """Tell whether a pair is marked that a fingerprint at one of 128 places would end with, or have in its middle."""
    found = np.uint8(0)
    for i in range(1, BLOCK_BYTES // 2 + 1):
        # unsigned: a signed index is tested for being negative, which halves the speed
        found |= pair_marks[np.uint64(pairs[np.uint64((position >> 1) + i)])]
    return bool(found != 0)


@numba.njit(nogil=True, inline="always")  # called, it would count references to its arrays
def _bits_portable(pairs: Pairs, position: int, pair_marks: Bytes) -> np.uint64:
    """Tell the places of half a block: a mark is two bits, for the places one and two bytes before the pair."""
    bits = np.uint64(0)
    for i in range(HALF_BYTES // 2):
        mark = pair_marks[np.uint64(pairs[np.uint64((position >> 1) + 1 + i)])]
        bits |= np.uint64(mark) << np.uint64(2 * i)
    return bits


@numba.njit(nogil=True, inline="always")  # called, it would count references to its arrays
def next_block(data: Bytes, position: int, nibbles: Bytes, pair_marks: Bytes, variant: int) -> int:
    """Return the first block from `position` on that may hold a fingerprint, or the first that is not there whole.

    Cost: 10 to 20 GB/s (16 bytes a cycle and less), portable half a table look-up a byte (tests/bench/scan.py).
    """
    last = data.shape[0] - BLOCK_BYTES - FINGERPRINT_BYTES + 1
    if variant == VECTOR_32:
        while position <= last and not _any_32(data, position, nibbles):
            position += BLOCK_BYTES
    elif variant == VECTOR_16:
        while position <= last and not _any_16(data, position, nibbles):
            position += BLOCK_BYTES
    elif variant == VECTOR_32 | MASKED:
        while position <= last and not _any_32_masked(data, position, nibbles):
            position += BLOCK_BYTES
    elif variant == VECTOR_16 | MASKED:
        while position <= last and not _any_16_masked(data, position, nibbles):
            position += BLOCK_BYTES
    else:
        pairs = data[: data.shape[0] // 2 * 2].view(np.uint16)
        while position <= last and not _any_portable(pairs, position, pair_marks):
            position += BLOCK_BYTES
    return position


@numba.njit(nogil=True, inline="always")  # called, it would count references to its arrays
def places_of_half(data: Bytes, position: int, nibbles: Bytes, pair_marks: Bytes, variant: int) -> np.uint64:
    """Return the places of the half block at `position` where a fingerprint may begin, the first in the lowest bit.

    Where the half is not there whole, all places.
    """
    if position + HALF_BYTES + FINGERPRINT_BYTES - 1 > data.shape[0]:
        return np.uint64(0xFFFF_FFFF_FFFF_FFFF)
    if variant == VECTOR_32:
        return _bits_32(data, position, nibbles)
    if variant == VECTOR_16:
        return _bits_16(data, position, nibbles)
    if variant == VECTOR_32 | MASKED:
        return _bits_32_masked(data, position, nibbles)
    if variant == VECTOR_16 | MASKED:
        return _bits_16_masked(data, position, nibbles)
    return np.uint64(_bits_portable(data[: data.shape[0] // 2 * 2].view(np.uint16), position, pair_marks))


@numba.njit(nogil=True, inline="always")  # called, it would count references to its arrays
def _span_at(data: Bytes, place: int, spans: States) -> int:
    """Return how many bytes from here a pattern with the fingerprint here can take; 0: it is none."""
    at = np.uint64(place)
    window = np.uint32(data[at])
    window |= np.uint32(data[at + np.uint64(1)]) << np.uint32(8)
    window |= np.uint32(data[at + np.uint64(2)]) << np.uint32(16)
    window |= np.uint32(data[at + np.uint64(3)]) << np.uint32(24)
    return int(spans[np.uint64(np.uint32(window * np.uint32(HASH_FACTOR)) >> np.uint32(32 - HASH_BITS))])


@_compiled(
    types.int64,
    _array(types.uint8),
    types.int64,
    _array(types.int32, 2),
    _array(types.int32),
    _array(types.int64),
    _array(types.int64),
    _array(types.int64),
    _array(types.uint8, 2),
    _array(types.uint8),
    _array(types.int32),
    types.int64,
    types.int64,
    _HITS,
    _HITS,
)
def scan_patterns(
    data: Bytes,
    limit: int,
    next_states: States,
    depths: States,
    out_first: Numbers,
    out_numbers: Numbers,
    lengths: Numbers,
    nibbles: Bytes,
    pair_marks: Bytes,
    spans: States,
    lead: int,
    variant: int,
    hits: Numbers,
    resume: Numbers,
) -> int:
    """Write the hits that start below `limit` and return how many; the scan is done when `resume[0] < 0`.

    Cost: that of `next_block` on clean data, some 4 ns more a byte where every byte is walked (tests/bench/scan.py);
    reads each byte once, a few times near fingerprints; allocates nothing.

    Args:
        data: the bytes, with what hits below `limit` need after it.
        limit: hits that start here or later are not told.
        next_states: see `carver.automaton.Automaton`, as for the tables that follow.
        depths: likewise.
        out_first: likewise.
        out_numbers: likewise.
        lengths: likewise.
        nibbles: see `carver.fingerprints.Fingerprints`, as for the tables that follow.
        pair_marks: likewise (`pairs`).
        spans: likewise.
        lead: likewise (`lead_bytes`).
        variant: one of `VARIANTS`, with `MASKED` if the fingerprints are.
        hits: written; must have room for all outputs of one state.
        resume: zeros at first; then as it was left.
    """
    size = data.shape[0]
    capacity = hits.shape[0]
    position, walked, state = resume[0], resume[1], resume[2]
    count = 0
    while position + FINGERPRINT_BYTES <= size:
        position = next_block(data, position, nibbles, pair_marks, variant)
        for half in range(position, position + BLOCK_BYTES, HALF_BYTES):
            bits = places_of_half(data, half, nibbles, pair_marks, variant)
            while bits != 0:
                place = half + _lowest(bits)
                bits &= bits - np.uint64(1)
                if place + FINGERPRINT_BYTES > size:
                    break
                end = min(place + _span_at(data, place, spans), size)
                if end == place:
                    continue
                if place - lead > walked:
                    walked = place - lead
                    state = 0
                while walked < end and walked - depths[np.uint64(state)] <= place:
                    following = next_states[np.uint64(state), np.uint64(data[np.uint64(walked)])]
                    first, last = out_first[np.uint64(following)], out_first[np.uint64(following) + np.uint64(1)]
                    if count + last - first > capacity:
                        resume[0], resume[1], resume[2] = position, walked, state
                        return count
                    for i in range(first, last):
                        start = walked + 1 - lengths[out_numbers[i]]
                        if start < limit:
                            hits[count] = start << PATTERN_BITS | out_numbers[i]
                            count += 1
                    state = following
                    walked += 1
        position += BLOCK_BYTES
    resume[0] = -1
    return count


@_compiled(
    types.int64,
    _array(types.uint8),
    types.int64,
    types.int64,
    types.int64,
    _array(types.int64),
    _array(types.uint64, 2),
    _array(types.int64),
    _HITS,
    _HITS,
)
def scan_probes(
    data: Bytes,
    first: int,
    limit: int,
    step: int,
    probe_numbers: Numbers,
    probe_masks: Masks,
    probe_order: Numbers,
    hits: Numbers,
    resume: Numbers,
) -> int:
    """Write the probes that hold at `first`, `first + step`, … below `limit`; done when `resume[0] < 0`.

    Cost: two or three look-ups a sector, for all probes together; reads only the first bytes of sectors; allocates
    nothing.

    Args:
        data: the bytes.
        first: index of the first sector start.
        limit: sectors that start here or later are not told.
        step: distance of sector starts.
        probe_numbers: see `carver.automaton.Automaton`, as for the two tables that follow.
        probe_masks: likewise.
        probe_order: likewise.
        hits: written; must have room for one hit a probe.
        resume: zeros at first; then as it was left.
    """
    size = data.shape[0]
    probes = probe_numbers.shape[0]
    everyone = (np.uint64(1) << np.uint64(probes)) - np.uint64(1)
    start = max(first, resume[0])
    count = 0
    while start < limit:
        if count + probes > hits.shape[0]:
            resume[0] = start
            return count
        holding = everyone
        for i in range(probe_order.shape[0]):
            place = probe_order[i]
            value = np.int64(data[start + place]) if start + place < size else AFTER_THE_END
            holding &= probe_masks[place, value]
            if holding == 0:
                break
        while holding != 0:
            probe = _lowest(holding)
            holding &= holding - np.uint64(1)
            hits[count] = start << PATTERN_BITS | probe_numbers[probe]
            count += 1
        start += step
    resume[0] = -1
    return count
