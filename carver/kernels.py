"""Kernels: the scan of bytes, compiled by numba and run without the GIL.

How bytes are searched for all patterns at once
-----------------------------------------------
The truth is the Aho-Corasick automaton: one table look-up a byte (`next_states[state, byte]`), and whenever the state
reached has outputs, patterns end at this byte. Each look-up needs the state that the one before gave, so the processor
waits for its cache on every byte: some 0.3 GB/s, whatever the data. Nearly every byte of a disk is far from any
pattern, so three sieves, each finer and slower than the one before, decide where to walk at all.

1. *The prefilter* looks at 64 places, a block, at a time. `carver.fingerprints` chose four bytes of each pattern and
   put them in eight buckets; for each of the four bytes there is a table of 16 entries that tells by the low nibble
   which buckets (bits of a byte) allow it, and for the first byte one more for the high nibble. A table of 16 bytes is
   one vector register, and one instruction (`pshufb` on x86-64, `tbl` on arm64) looks up 16 or 32 bytes in it. For 32
   places:

       bytes at p, p+1, …     P  K  3  4  .  .  .      four loads, one byte apart
       low[0][byte at p]      01 80 01 00 …            which buckets allow it as first byte
       low[1][byte at p+1]    01 01 00 …               … as second, and so on
       high[0][byte at p]     81 01 …
       AND of all             01 00 …                  bucket 0 may have a fingerprint at the first place

   Where anything is left, a bit is set in the word of the block; whether its word has any (whether it is *dirty*) is a
   bit in one word for 64 blocks. It is wrong now and then, as buckets mix the nibbles of their fingerprints; it never
   misses one. There is no branch until all 64 blocks are done: the processor could not foresee it, and would begin anew
   each time, which costs more than the block. Memory answers slower than this asks (and the processor's own reading
   ahead ends with each page), so a page ahead is asked for all the time.
2. *The hash*. The four bytes at each place that passed are hashed into a table of the fingerprints; nearly all of what
   was wrong ends here. The table also tells where patterns with this fingerprint lie around it: how many bytes before
   it at most and at least, and how many from it on.
3. *The walk*. The automaton walks from the root, from where the longest lead begins, to where the longest tail ends:

       |------ clean ------|-- fingerprint --|------ clean ------|
                   <=======^=========>  walked at most
                   ^ most  ^ least of the bytes before it

   or less far: as soon as the longest prefix that the state stands for begins after the last place where a pattern with
   this fingerprint can begin, none is left. A wrong place is left so after a byte or two.

Walks of neighbouring places overlap, and one meets the patterns of another. A hit is told by the walk of its own
fingerprint alone, once; which that is, `tails` says. What is found is therefore exactly what the automaton finds in the
whole; the sieves can only cost time. On hostile data, where every place passes, that is the hash and a walk for each
byte, no longer than what looks like a pattern there: a bounded factor.

What a format declares of the bytes around a pattern (`Pattern.before`, `Pattern.after`) is asked where the pattern was
found, so that what is plainly none never leaves here. A hit starts with the first byte that was asked: nothing of it
lies before, so that a piece of the image must be known beyond its end only.

The prefilter is written once, as LLVM IR inside numba intrinsics, for vectors of 32 bytes (AVX2) and of 16 (SSSE3,
NEON). `VARIANTS` says which of them the processor that numba compiles for can run; `PORTABLE` needs no vectors and asks
a table of 65,536 marks about byte pairs at even places instead: a fingerprint at an even place begins and ends with a
pair at an even place (the rarer one is marked), one at an odd place has one in its middle. The tests run the NEON form
in an emulator (QEMU); on hardware it was never tried.

Formats without a magic are probed at the starts of sectors, right behind the prefilter, while the bytes are still in
the processor's cache: a pass of its own over memory would cost half as much as the whole search.

Hits are written as `start << 16 | pattern` into an array that the caller owns. When the next byte could overflow it,
the kernel saves its place in `resume` and returns; the caller empties the array and calls again.

What is called in the inner loops are intrinsics, not functions: numba's functions count references to their arrays at
each call, which cost more than all the rest of a block that did not stay clean.

numba keeps compiled kernels on disk and looks at this file alone to see whether they are stale: so all is in one file.
Importing it compiles, once on a machine; where nothing can be kept, each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from carver.automaton import AFTER_THE_END, PATTERN_BITS, Bytes, Flags, Masks, Numbers, States
from carver.fingerprints import FINGERPRINT_BYTES, HASH_BITS, HASH_FACTOR, LEAD_BITS
from signatures._compiling import Compiler

BLOCK_BYTES = 64  # as many places as a word has bits
PAIR_BYTES = 2 * BLOCK_BYTES  # sieved in one go
BATCH_BLOCKS = 64  # sieved before any is looked at: as many as a word has bits
BATCH_PAIRS = BATCH_BLOCKS // 2
STRETCH_BYTES = 128 << 10  # probed after it was searched: fits the nearest cache but one
AHEAD_BYTES = 4096  # asked of memory before it is needed
PORTABLE, VECTOR_16, VECTOR_32 = 0, 1, 2
LANES = {VECTOR_32: 32, VECTOR_16: 16}
NEEDED = {"x86_64": {VECTOR_32: "+avx2", VECTOR_16: "+ssse3"}, "aarch64": {VECTOR_16: "+neon"}}
LOOK_UP = {
    ("x86_64", 32): "llvm.x86.avx2.pshuf.b",
    ("x86_64", 16): "llvm.x86.ssse3.pshuf.b.128",
    ("aarch64", 16): "llvm.aarch64.neon.tbl1.v16i8",
}

COMPILED_IN = (4, 13, 0x9E3779B1, 8, 16, 256)
if COMPILED_IN != (FINGERPRINT_BYTES, HASH_BITS, HASH_FACTOR, LEAD_BITS, PATTERN_BITS, AFTER_THE_END):
    raise ImportError(
        "a number that is compiled into kernels changed: change it in kernels.py too, so that none is stale"
    )

Words = npt.NDArray[np.uint64]
I8, I16, I32, I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)


def _target() -> tuple[str, set[str]]:
    """Return the processor family and features that numba compiles for: this machine's, or what NUMBA_CPU_NAME says."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    family = triple.split("-")[0]
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(family, family), set(features.split(","))


FAMILY, _FEATURES = _target()
VARIANTS = (*(v for v, feature in NEEDED.get(FAMILY, {}).items() if feature in _FEATURES), PORTABLE)
"""What can run here, fastest first."""


def suspects(builder: ir.IRBuilder, family: str, lanes: int, base: ir.Value, tables: ir.Value) -> ir.Value:
    """Build the prefilter of `lanes` places from `base` on: a vector of the buckets that may have a fingerprint there.

    `base` and `tables` (`Fingerprints.nibbles`) are pointers to bytes; reads `lanes + 3` bytes.
    """
    vector, table = ir.VectorType(I8, lanes), ir.VectorType(I8, 16)
    halves = ir.VectorType(ir.IntType(16), lanes // 2)
    kind = ir.FunctionType(vector, [vector, vector])
    look_up = cgutils.get_or_insert_function(builder.module, kind, LOOK_UP[family, lanes])
    low_nibble, four = ir.Constant(vector, [15] * lanes), ir.Constant(halves, [4] * (lanes // 2))
    repeated = ir.Constant(ir.VectorType(I32, lanes), [i % 16 for i in range(lanes)])

    def allowed(row: int, index: ir.Value) -> ir.Value:
        entries = _load(builder, tables, 16 * row, table)
        return builder.call(
            look_up, [builder.shuffle_vector(entries, ir.Constant(table, ir.Undefined), repeated), index]
        )

    first = _load(builder, base, 0, vector)
    shifted = builder.bitcast(builder.lshr(builder.bitcast(first, halves), four), vector)
    found = allowed(FINGERPRINT_BYTES, builder.and_(shifted, low_nibble))
    for place in range(FINGERPRINT_BYTES):
        values = _load(builder, base, place, vector)
        if place == 0:
            values = builder.and_(values, low_nibble)
        elif family != "x86_64":  # `tbl` answers nothing from 16 on, `pshufb` from 0x80 on
            values = builder.and_(values, ir.Constant(vector, [0x8F] * lanes))
        found = builder.and_(found, allowed(place, values))
    return found


def _load(builder: ir.IRBuilder, pointer: ir.Value, offset: int, kind: ir.Type) -> ir.Value:
    place = builder.gep(pointer, [I64(offset)])
    loaded = builder.load(builder.bitcast(place, kind.as_pointer()))
    loaded.align = 1
    return loaded


def suspect_bits(builder: ir.IRBuilder, family: str, lanes: int, base: ir.Value, tables: ir.Value) -> ir.Value:
    """Build the places of a block as an i64, the first in the lowest bit."""
    bits = I64(0)
    for first in range(0, BLOCK_BYTES, lanes):
        found = suspects(builder, family, lanes, builder.gep(base, [I64(first)]), tables)
        passed = builder.icmp_unsigned("!=", found, ir.Constant(found.type, [0] * lanes))
        part = builder.zext(builder.bitcast(passed, ir.IntType(lanes)), I64)
        bits = builder.or_(bits, builder.shl(part, I64(first)))
    return bits


def paired_bits(builder: ir.IRBuilder, base: ir.Value, pair_marks: ir.Value) -> ir.Value:
    """Build the places of a block without vectors: a mark is three bits, for places up to two before the pair."""
    bits = I64(0)
    for first in range(0, BLOCK_BYTES + 2, 2):
        mark = builder.zext(_mark(builder, base, first, pair_marks), I64)
        place = builder.lshr(mark, I64(2)) if first == 0 else builder.shl(mark, I64(first - 2))
        bits = builder.or_(bits, place)
    return bits


def _mark(builder: ir.IRBuilder, base: ir.Value, offset: int, pair_marks: ir.Value) -> ir.Value:
    pair = builder.zext(_load(builder, base, offset, I16), I64)
    return builder.load(builder.gep(pair_marks, [pair]))


def _fetch_ahead(builder: ir.IRBuilder, base: ir.Value) -> None:
    """Ask memory for the two blocks a page ahead; where nothing is mapped, nothing happens."""
    kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    for line in range(0, PAIR_BYTES, 64):
        builder.call(fetch, [builder.gep(base, [I64(AHEAD_BYTES + line)]), I32(0), I32(3), I32(1)])


@intrinsic
def sieve_pair(
    context: Any,  # noqa: ANN401 - numba's own
    data: Any,  # noqa: ANN401
    position: Any,  # noqa: ANN401
    nibbles: Any,  # noqa: ANN401
    pair_marks: Any,  # noqa: ANN401
    variant: Any,  # noqa: ANN401
    words: Any,  # noqa: ANN401
    index: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Write the places of two blocks as `words[index]` and the next; bit 0 tells if the first has any, 1 the second."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:  # noqa: ANN401
        bytes_, tables, marks, written = (
            context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2, 3, 5)
        )
        base, written = builder.gep(bytes_, [args[1]]), builder.gep(written, [args[6]])
        _fetch_ahead(builder, base)
        answer = cgutils.alloca_once(builder, I64)
        done = builder.append_basic_block("done")
        otherwise = builder.append_basic_block("pairs")
        choice = builder.switch(args[4], otherwise)

        def sieve(bits_of: Callable[[ir.Value], ir.Value]) -> None:
            dirty = I64(0)
            for block in range(2):
                bits = bits_of(builder.gep(base, [I64(block * BLOCK_BYTES)]))
                builder.store(bits, builder.gep(written, [I64(block)]))
                any_ = builder.zext(builder.icmp_unsigned("!=", bits, I64(0)), I64)
                dirty = builder.or_(dirty, builder.shl(any_, I64(block)))
            builder.store(dirty, answer)
            builder.branch(done)

        for number in VARIANTS[:-1]:
            block = builder.append_basic_block("vectors")
            choice.add_case(I64(number), block)
            builder.position_at_end(block)
            lanes = LANES[number]
            sieve(lambda start, lanes=lanes: suspect_bits(builder, FAMILY, lanes, start, tables))  # type: ignore[misc]
        builder.position_at_end(otherwise)
        sieve(lambda start: paired_bits(builder, start, marks))
        builder.position_at_end(done)
        return builder.load(answer)

    return types.uint64(data, types.int64, nibbles, pair_marks, types.int64, words, types.int64), generate


_compiled = Compiler("the scan")


def _array(kind: types.Type, dimensions: int = 1) -> types.Array:
    return types.Array(kind, dimensions, "C", readonly=True)  # a writable one passes as well


_HITS = types.Array(types.int64, 1, "C")


@intrinsic
def _lowest(context: Any, bits: Any) -> Any:  # noqa: ANN401
    """Tell the place of the lowest bit that is set, of one or more."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:  # noqa: ANN401
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def _four_bytes(context: Any, data: Any, place: Any) -> Any:  # noqa: ANN401
    """Return the four bytes at a place as one number, the first lowest."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:  # noqa: ANN401
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return _load(builder, builder.gep(array.data, [args[1]]), 0, I32)

    return types.uint32(data, types.int64), generate


_PATTERN_TABLES = (
    _array(types.int32, 2),
    _array(types.int32),
    _array(types.int64),
    _array(types.int64),
    _array(types.int64),
    _array(types.int64),
    _array(types.int64),
    _array(types.boolean, 2),
    _array(types.uint8, 2),
    _array(types.uint8),
    _array(types.int32),
    _array(types.int64),
    types.int64,
    types.Array(types.uint64, 1, "C"),
)
_PROBE_TABLES = (_array(types.int64), _array(types.uint64, 2), _array(types.int64))


@_compiled(types.int64, _array(types.uint8), types.int64, types.int64, *_PATTERN_TABLES, _HITS, _HITS)
def scan_patterns(
    data: Bytes,
    stop: int,
    limit: int,
    next_states: States,
    depths: States,
    out_first: Numbers,
    out_numbers: Numbers,
    ends: Numbers,
    asked_first: Numbers,
    asked_places: Numbers,
    asked_allowed: Flags,
    nibbles: Bytes,
    pair_marks: Bytes,
    walks: States,
    tails: Numbers,
    variant: int,
    words: Words,
    hits: Numbers,
    resume: Numbers,
) -> int:
    """Write the hits of blocks that begin below `stop`, if they start below `limit`, and return how many.

    `resume[0]` is where to go on: at `stop` or behind it, or else the array is full; `resume[1]` is the place then.

    Cost: 15 to 20 GB/s on clean data, portable half a table look-up a byte; some 10 to 20 ns more a dirty block, some
    4 ns more a byte where every byte is walked (tests/bench/scan.py); reads each byte once, a few times near
    fingerprints; allocates nothing.

    Args:
        data: the bytes, with what hits below `limit` need after it.
        stop: where to return; at most where four bytes are left of the data.
        limit: hits that start here or later are not told.
        next_states: see `carver.automaton.Automaton`, as for the tables that follow.
        depths: likewise.
        out_first: likewise.
        out_numbers: likewise.
        ends: likewise.
        asked_first: likewise.
        asked_places: likewise.
        asked_allowed: likewise.
        nibbles: see `carver.fingerprints.Fingerprints`, as for the tables that follow.
        pair_marks: likewise (`pairs`).
        walks: likewise.
        tails: see `carver.automaton.Automaton`.
        variant: one of `VARIANTS`.
        words: written, `BATCH_BLOCKS` of them: scratch.
        hits: written; must have room for all patterns.
        resume: zeros at first; then as it was left.
    """
    size = data.shape[0]
    last = size - PAIR_BYTES - FINGERPRINT_BYTES + 1
    capacity = hits.shape[0]
    position, begin = resume[0], resume[1]
    count = 0
    lead_mask = np.int64((1 << LEAD_BITS) - 1)
    nothing, everything = np.uint64(0), np.uint64(0xFFFF_FFFF_FFFF_FFFF)
    while position < stop:
        # first which blocks of a batch are dirty, all without a branch: none could be foreseen
        dirty = nothing
        pairs = min((stop - position + PAIR_BYTES - 1) // PAIR_BYTES, BATCH_PAIRS)
        sieved = max(min((last - position) // PAIR_BYTES + 1, pairs), 0)
        for pair in range(sieved):
            found = sieve_pair(data, position + pair * PAIR_BYTES, nibbles, pair_marks, variant, words, 2 * pair)
            dirty |= found << np.uint64(2 * pair)
        for pair in range(sieved, pairs):
            dirty |= np.uint64(3) << np.uint64(2 * pair)
            words[2 * pair] = words[2 * pair + 1] = everything
        while dirty != nothing:
            index = _lowest(dirty)
            dirty &= dirty - np.uint64(1)
            block = position + index * BLOCK_BYTES
            places = words[index]
            if block < begin:
                places &= everything << np.uint64(begin - block)
            while places != nothing:
                place = block + _lowest(places)
                places &= places - np.uint64(1)
                if place + FINGERPRINT_BYTES > size:
                    break
                window = np.uint32(_four_bytes(data, place) * np.uint32(HASH_FACTOR))
                walk = np.int64(walks[np.uint64(window >> np.uint32(32 - HASH_BITS))])
                if walk == 0:
                    continue
                walked = max(place - (walk & lead_mask), 0)
                last_start = place - (walk >> LEAD_BITS & lead_mask)
                end = min(place + (walk >> 2 * LEAD_BITS), size)
                state = np.int64(0)
                told = count
                while walked < end and walked - depths[np.uint64(state)] <= last_start:
                    following = next_states[np.uint64(state), np.uint64(data[np.uint64(walked)])]
                    first, behind = out_first[np.uint64(following)], out_first[np.uint64(following) + np.uint64(1)]
                    walked += 1
                    for i in range(first, behind):
                        number = out_numbers[i]
                        start = walked - ends[number]
                        if walked - tails[number] != place or start < 0 or start >= limit:
                            continue
                        asked, behind_asked = asked_first[number], asked_first[number + 1]
                        while asked < behind_asked:
                            at = start + asked_places[asked]
                            if not asked_allowed[asked, np.int64(data[at]) if at < size else AFTER_THE_END]:
                                break
                            asked += 1
                        if asked == behind_asked:
                            if count == capacity:
                                resume[0], resume[1] = block, place
                                return told
                            hits[count] = start << PATTERN_BITS | number
                            count += 1
                    state = np.int64(following)
        position += pairs * PAIR_BYTES
    resume[0] = position
    return count


@_compiled(
    types.int64, _array(types.uint8), types.int64, types.int64, types.int64, *_PROBE_TABLES, _HITS, types.int64, _HITS
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
    count: int,
    resume: Numbers,
) -> int:
    """Write the probes that hold at `first`, `first + step`, … below `limit`, behind the `count` hits that are there.

    Returns how many hits there are then; `resume[2]` is the sector to go on with.

    Cost: some 3 ns a sector in cache, for all probes together; reads only the first bytes of sectors; allocates
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
        count: hits that are there.
        resume: zeros at first; then as it was left.
    """
    size = data.shape[0]
    probes = probe_numbers.shape[0]
    places = probe_order.shape[0]
    everyone = (np.uint64(1) << np.uint64(probes)) - np.uint64(1)
    sector = max(first, resume[2])
    one, other = np.uint64(probe_order[0] if places > 1 else 0), np.uint64(probe_order[1] if places > 1 else 0)
    early = min(limit, size - places + 1) if places > 1 else 0  # up to here two places are asked at once
    room = hits.shape[0] - probes
    while sector < limit and count <= room:
        while sector < early:
            at = np.uint64(sector)
            if probe_masks[one, np.uint64(data[at + one])] & probe_masks[other, np.uint64(data[at + other])] != 0:
                break
            sector += step
        if sector >= limit:
            break
        holding, asked = everyone, 0
        while holding != 0 and asked < places:
            place = probe_order[asked]
            value = np.int64(data[sector + place]) if sector + place < size else AFTER_THE_END
            holding &= probe_masks[place, value]
            asked += 1
        while holding != 0:
            probe = _lowest(holding)
            holding &= holding - np.uint64(1)
            hits[count] = sector << PATTERN_BITS | probe_numbers[probe]
            count += 1
        sector += step
    resume[2] = sector
    return count


@_compiled(
    types.int64,
    _array(types.uint8),
    types.int64,
    types.int64,
    types.int64,
    *_PATTERN_TABLES,
    *_PROBE_TABLES,
    _HITS,
    _HITS,
)
def scan_piece(
    data: Bytes,
    limit: int,
    first: int,
    step: int,
    next_states: States,
    depths: States,
    out_first: Numbers,
    out_numbers: Numbers,
    ends: Numbers,
    asked_first: Numbers,
    asked_places: Numbers,
    asked_allowed: Flags,
    nibbles: Bytes,
    pair_marks: Bytes,
    walks: States,
    tails: Numbers,
    variant: int,
    words: Words,
    probe_numbers: Numbers,
    probe_masks: Masks,
    probe_order: Numbers,
    hits: Numbers,
    resume: Numbers,
) -> int:
    """Write the hits of patterns and probes that start below `limit`, in no order; done when `resume[0] < 0`.

    Arguments, cost and room needed: those of `scan_patterns` and `scan_probes`, stretch by stretch.
    """
    count = 0
    end = data.shape[0] - FINGERPRINT_BYTES + 1
    while True:
        stop = min((resume[0] // STRETCH_BYTES + 1) * STRETCH_BYTES, end)
        if resume[0] < stop:
            count += scan_patterns(
                data, stop, limit, next_states, depths, out_first, out_numbers, ends, asked_first, asked_places,
                asked_allowed, nibbles, pair_marks, walks, tails, variant, words, hits[count:], resume,
            )  # fmt: skip
            if resume[0] < stop:
                return int(count)
        behind = min(limit, resume[0]) if resume[0] < end else limit
        count = scan_probes(data, first, behind, step, probe_numbers, probe_masks, probe_order, hits, count, resume)
        if resume[2] < behind:
            return int(count)
        if resume[0] >= end:
            resume[0] = -1
            return int(count)
