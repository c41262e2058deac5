"""Bench: the scan, beside the rate at which the same bytes can be had at all, and beside other programs.

Run it with `python -m tests.bench.scan [--size-mib 1024] [--folder /dev/shm] [--threads 1 2] [--rounds 7] [--peers]`;
`tests/bench/RESULTS.md` keeps what came out. Images are written first, so they are in the page cache. Contenders run in
turn, round by round, on the same pinned cores; what counts is the median of the ratios within a round, which a busy
machine disturbs less than rates, and least the ratios of processor time. The hits are checked against plain search
before they are timed, and counted again each time.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import operator
import os
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np

from carver.automaton import build
from carver.chunks import blocks, new_buffer, read_into
from carver.scan import CHUNK_BYTES, PIECE_BYTES, scan
from imaging.extent import Extent, span
from imaging.source import RawImage
from signatures import formats
from signatures.format import ANY, Pattern
from tests.bench import scan_peers

MIB = 1 << 20
HOSTILE_MIB = 16  # every hit costs: a small image tells as much
MADV_POPULATE_READ = 22  # linux/mman.h, since 5.14
PLANT_EVERY_MIB = 16
PLANTED = (b"\x89HDF\r\n\x1a\n", b'\0\0\0\0{"', b"PK\x05\x06\0\0\0\0")
WORDS = b"the weights of a model are read from a file and the shapes of all layers are known before it runs, 0.5 {} "
LIMIT, READ_LIMIT = "XOR of a mapping", "XOR of reads"
ALL = list(formats().values())
TABLE = build(ALL).table  # both are put anew where `--without` says so


@numba.njit(nogil=True, cache=True)
def xor_words(words):
    """One XOR an 8-byte word."""
    total = np.uint64(0)
    for i in range(words.shape[0]):
        total ^= words[i]
    return total


def random_piece(source: random.Random) -> bytes:
    return source.randbytes(MIB)


def weights_piece(source: random.Random) -> bytes:
    made = np.random.default_rng(source.randrange(1 << 30)).standard_normal(MIB // 4, dtype=np.float32)
    return (made * np.float32(0.02)).tobytes()


def text_piece(source: random.Random) -> bytes:
    words = WORDS.split()
    return b" ".join(source.choice(words) for _ in range(MIB // 3))[:MIB]


ORDINARY: dict[str, Callable[[random.Random], bytes]] = {
    "random": random_piece,
    "weights": weights_piece,
    "zeros": lambda source: bytes(MIB),
    "text": text_piece,
}
HOSTILE = {
    "all PK34": b"PK\x03\x04",
    "all braces": b'\0\0\0\0{"',
    "every block a header": b"\x89HDF\r\n\x1a\n" + bytes(504),
    "every byte a fingerprint": b"\x12\x08Te",
}


def write_image(path: Path, kind: str, size_mib: int, tree: Path) -> None:
    """Write one kind of image; a few magics are planted in ordinary ones, never in holes."""
    source = random.Random(5)
    if kind == "software":
        os.system(f"tar -cf - {tree} 2>/dev/null | head -c {size_mib * MIB} > {path}")
        return
    with path.open("wb") as made:
        for index in range(size_mib):
            if kind in HOSTILE:
                made.write((HOSTILE[kind] * (MIB // len(HOSTILE[kind]) + 1))[:MIB])
                continue
            piece = ORDINARY[kind](source)
            magic = PLANTED[index % len(PLANTED)] if index % PLANT_EVERY_MIB == 0 else b""
            made.write(magic + piece[len(magic) :])


def mapped_xor(image: RawImage, threads: int) -> None:
    """Read the words of each chunk through a mapping, populated first: the limit the goal is stated against."""

    def one(extent: Extent) -> None:
        mapping = mmap.mmap(image.fileno(), extent.size_bytes, prot=mmap.PROT_READ, offset=extent.offset_bytes)
        data = np.frombuffer(mapping, np.uint8)
        libc.madvise(ctypes.c_void_p(data.ctypes.data), ctypes.c_size_t(len(data)), MADV_POPULATE_READ)
        xor_words(data[: len(data) // 8 * 8].view(np.uint64))

    in_threads(one, image, threads)


def read_xor(image: RawImage, threads: int) -> None:
    """Read the words of each chunk as the scan reads what it cannot map, piece by piece into one buffer."""

    def one(extent: Extent) -> None:
        buffer = new_buffer(PIECE_BYTES)
        for piece in blocks(extent, PIECE_BYTES):
            read_into(buffer, image, piece)
            xor_words(buffer[: piece.size_bytes // 8 * 8].view(np.uint64))

    in_threads(one, image, threads)


libc = ctypes.CDLL(None, use_errno=True)


def in_threads(work: Callable[[Extent], None], image: RawImage, threads: int) -> None:
    extents = list(blocks(span(0, image.size_bytes), CHUNK_BYTES))
    if threads == 1:
        for extent in extents:
            work(extent)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, extents))


def scanned(image: RawImage, threads: int, expected: int, variant: int | None = None) -> None:
    """Scan; stop the bench if the number of hits is wrong."""
    from carver import kernels

    usual = kernels.VARIANTS
    kernels.VARIANTS = usual if variant is None else (variant,)
    try:
        count = sum(len(chunk.hits) for chunk in scan(image, ALL, threads=threads))
    finally:
        kernels.VARIANTS = usual
    if count != expected:
        raise SystemExit(f"{count} hits, expected {expected}")


def check(image: RawImage) -> int:
    """Compare all hits with plain search; return how many there are."""
    data = Path(image.path).read_bytes()
    told = np.sort(np.concatenate([keys_of(chunk.hits) for chunk in scan(image, ALL)]))
    plain = [np.fromiter(found(data, entry), np.int64) << 16 | number for number, (_, entry) in enumerate(TABLE)]
    if not np.array_equal(told, np.sort(np.concatenate(plain))):
        raise SystemExit(f"{image.path}: hits differ from plain search")
    return len(told)


def keys_of(hits: np.ndarray) -> np.ndarray:
    return hits["offset_bytes"] << 16 | hits["pattern"]


def found(data: bytes, entry: object) -> Iterator[int]:
    """Yield each place by `bytes.find`, or by numpy for a probe."""
    if not isinstance(entry, Pattern):
        size = len(entry.allowed)
        sectors = np.arange(0, len(data) - size + 1, 512)
        array = np.frombuffer(data, np.uint8)
        for place, values in enumerate(entry.allowed):
            sectors = sectors[np.isin(array[sectors + place], list(values))]
        yield from sectors.tolist()
        return
    at, end_bytes = data.find(entry.bytes), len(entry.bytes) + len(entry.after)
    around = entry.before + (ANY,) * len(entry.bytes) + entry.after
    while at >= 0:
        first = at - len(entry.before)
        if (
            first >= 0
            and at + end_bytes <= len(data)
            and all(map(operator.contains, around, data[first : at + end_bytes]))
        ):
            yield first
        at = data.find(entry.bytes, at + 1)


def contenders(
    image: RawImage, threads: int, expected: int, peers: bool, hostile: bool
) -> dict[str, Callable[[], object]]:
    from carver.kernels import PORTABLE, VARIANTS

    chosen: dict[str, Callable[[], object]] = {
        LIMIT: lambda: mapped_xor(image, threads),
        READ_LIMIT: lambda: read_xor(image, threads),
        "carver": lambda: scanned(image, threads, expected),
    }
    if threads == 1:
        names = {PORTABLE: "carver, portable"} | dict.fromkeys(VARIANTS[1:-1], "carver, 16 bytes")
        for variant in VARIANTS[1:]:
            chosen[names[variant]] = lambda v=variant: scanned(image, 1, expected, v)
        chosen |= scan_peers.quick(image.path, [e.bytes for _, e in TABLE if isinstance(e, Pattern)])
        if hostile:
            chosen.pop("ripgrep", None)  # takes many minutes where everything is a hit
    if peers:  # each of one thread, however many it may have
        chosen |= scan_peers.slow(image.path)
    return chosen


def measure(path: Path, threads: list[int], rounds: int, peers: bool, hostile: bool) -> None:
    """Time all contenders on one image, in turn."""
    cores = sorted(os.sched_getaffinity(0))
    with RawImage(path) as image:
        expected = check(image)
        print(f"{expected} hits\n\n{HEAD}", flush=True)
        for count in threads:
            os.sched_setaffinity(0, cores[-count:])
            clock: dict[str, list[float]] = {}
            processor: dict[str, list[float]] = {}
            work = contenders(image, count, expected, peers, hostile)
            for turn in range(rounds + 1):
                for name, one in work.items():
                    if name in scan_peers.SLOW and turn > 1:
                        continue
                    begin, begin_processor = time.perf_counter(), processor_seconds()
                    one()
                    if turn:  # the first round warms up
                        clock.setdefault(name, []).append(time.perf_counter() - begin)
                        processor.setdefault(name, []).append(processor_seconds() - begin_processor)
            for name, times in clock.items():
                rate = image.size_bytes / statistics.median(times) / 1e9
                cells = [f"{name}, {count} thread" + "s" * (count > 1), f"{rate:.2f}"]
                cells += [ratio(clock[LIMIT], times), ratio(processor[LIMIT], processor[name])]
                cells += [ratio(processor[READ_LIMIT], processor[name])]
                print(f"| {' | '.join(cells)} |", flush=True)
            os.sched_setaffinity(0, cores)


def processor_seconds() -> float:
    """Return the processor time of this process and of its children that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def ratio(limit: list[float], own: list[float]) -> str:
    """Return the median of the ratios within a round, and their middle half."""
    ratios = sorted(base / time for base, time in zip(limit, own, strict=False))
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    return f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"


HEAD = """| | GB/s | to the mapping, by the clock | by processor time | to reads, by processor time |
|---|---|---|---|---|"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--tree", type=Path, default=Path("/usr/lib"), help="a tree of installed software")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--kinds", nargs="+", default=[*ORDINARY, "software", *HOSTILE])
    parser.add_argument("--peers", action="store_true", help="also PhotoRec, Foremost, Scalpel and binwalk")
    parser.add_argument("--without", nargs="+", default=[], help="formats not to look for")
    chosen = parser.parse_args()
    ALL[:] = [one for one in ALL if one.name not in chosen.without]
    globals()["TABLE"] = build(ALL).table
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {len(TABLE)} patterns and probes")
    for kind in chosen.kinds:
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            path = Path(folder, "image")
            size_mib = min(chosen.size_mib, HOSTILE_MIB) if kind in HOSTILE else chosen.size_mib
            write_image(path, kind, size_mib, chosen.tree)
            print(f"\n### {kind}, {size_mib} MiB, load {os.getloadavg()[0]:.1f}", end=", ", flush=True)
            measure(path, chosen.threads, chosen.rounds, chosen.peers, kind in HOSTILE)


if __name__ == "__main__":
    main()
