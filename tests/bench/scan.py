"""Bench: the scan beside the rate at which the same mapping can be read at all, and beside `dd`.

Run it with `python -m tests.bench.scan [--size-mib 1024] [--folder /dev/shm] [--threads 1 2] [--repeat 5]`. The images
are written first, so they are in the page cache. The number of hits is checked against plain search before it is timed.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np

from carver.chunks import cut, load
from carver.scan import CHUNK_BYTES, scan
from imaging.extent import span
from imaging.source import RawImage
from signatures import formats
from signatures.format import Format
from tests.carver.scanning import MAGICS, a_format

MIB = 1 << 20
WORDS = b"the weights of a model are read from a file and the shapes of all layers are known before it runs "


@numba.njit(nogil=True)
def xor_words(words):
    """The read limit: one XOR an 8-byte word."""
    total = np.uint64(0)
    for i in range(words.shape[0]):
        total ^= words[i]
    return total


def pieces(kind: str, size_mib: int) -> Iterator[bytes]:
    """One MiB at a time; a magic lies at every 64th."""
    source = random.Random(5)
    words = WORDS.split()
    text = b" ".join(source.choice(words) for _ in range(1 << 19))
    for index in range(size_mib):
        if kind == "all-pk":
            yield b"PK\x03\x04" * (MIB // 4)
            continue
        at = source.randrange(len(text) - MIB)
        piece = {"random": lambda: source.randbytes(MIB), "zeros": lambda: bytes(MIB)}.get(
            kind, lambda a=at: text[a : a + MIB]
        )()
        yield MAGICS[1] + piece[len(MAGICS[1]) :] if index % 64 == 0 else piece


def read_limit(image: RawImage, threads: int) -> int:
    """XOR the words of the chunks that the scan would take, mapped as it maps them."""

    def one(extent):
        data, _ = load(image, extent)
        return int(xor_words(data[: len(data) // 8 * 8].view(np.uint64)))

    found = [chunk.extent for chunk in cut(image, chunk_bytes=CHUNK_BYTES, reach_bytes=0)]
    with ThreadPoolExecutor(threads) as pool:
        return len(list(pool.map(one, found)))


def scanned(image: RawImage, wanted: list[Format], threads: int) -> int:
    """Scan, and return how many hits there are."""
    return sum(len(chunk.hits) for chunk in scan(image, wanted, threads=threads))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Medians of some runs: by the clock, and of this process's processors, which a busy machine disturbs less."""

    wall_seconds: float
    cpu_seconds: float
    spread: float


def timed(work: Callable[[], object], repeat: int) -> Timing:
    """Run `work` once to warm up, then time it."""
    work()
    wall, cpu = [], []
    for _ in range(repeat):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - begin_cpu)
    middle = statistics.median(wall)
    spread = (max(wall) - min(wall)) / middle
    return Timing(wall_seconds=middle, cpu_seconds=statistics.median(cpu), spread=spread)


def report(name: str, timing: Timing, size_bytes: int, limit: Timing) -> None:
    rate = size_bytes / timing.wall_seconds / 1e9
    wall_ratio = limit.wall_seconds / timing.wall_seconds
    cpu_ratio = limit.cpu_seconds / timing.cpu_seconds if timing.cpu_seconds > 0.001 else float("nan")
    print(f"  {name:24} {rate:7.2f} GB/s {wall_ratio:6.2f} {cpu_ratio:6.2f} {timing.spread:8.0%}", flush=True)


def measure(path: Path, wanted: list[Format], threads: list[int], repeat: int) -> None:
    """Time all contenders on one image, in turn."""
    dd = ["dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none"]
    toys = [a_format(magics=MAGICS)]
    with RawImage(path) as image:
        data, _ = load(image, span(0, image.size_bytes))
        if scanned(image, toys, 1) != sum(bytes_count(data, magic) for magic in MAGICS):
            raise SystemExit(f"{path}: hits differ from plain search")
        del data
        for count in threads:
            limit = timed(lambda n=count: read_limit(image, n), repeat)
            report(f"XOR of words, threads {count}", limit, image.size_bytes, limit)
            timing = timed(lambda n=count: scanned(image, toys, n), repeat)
            report(f"4 magics, threads {count}", timing, image.size_bytes, limit)
            timing = timed(lambda n=count: scanned(image, wanted, n), repeat)
            report(f"all formats, threads {count}", timing, image.size_bytes, limit)
        report("dd bs=1M", timed(lambda: subprocess.run(dd, check=True), repeat), image.size_bytes, limit)


def bytes_count(data: np.ndarray, magic: bytes) -> int:
    """Occurrences of a magic that cannot overlap itself."""
    return bytes(data.data).count(magic)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=["random", "zeros", "text", "all-pk"])
    chosen = parser.parse_args()
    wanted = list(formats().values())
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {chosen.size_mib} MiB")
    print(f"formats: {', '.join(f.name for f in wanted)}")
    for kind in chosen.kinds:
        with tempfile.NamedTemporaryFile(dir=chosen.folder) as made:
            # every hit of a hostile image costs: a smaller one tells as much
            size_mib = min(chosen.size_mib, 64) if kind == "all-pk" else chosen.size_mib
            for piece in pieces(kind, size_mib):
                made.write(piece)
            made.flush()
            print(f"{kind}: rate, share of the read limit by the clock and by processor time, spread")
            measure(Path(made.name), wanted, chosen.threads, chosen.repeat)


if __name__ == "__main__":
    main()
