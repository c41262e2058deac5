"""How fast checksums and statistics run, one core each: `python -m tests.bench.kernels [--size-mib N]`.

Printed in GB/s of processor time, the median of some rounds; isal's CRC-32 too, where it is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import statistics
import time
import zlib
from collections.abc import Callable

import numpy as np

from signatures.kernels.checksums import crc32c, find_crc32c, fletcher32, lookup3
from signatures.kernels.surveys import find_runs, survey_blocks, survey_packed

ROUNDS = 7


def rate(work: Callable[[], object], size_bytes: int) -> float:
    """Return GB/s."""
    taken = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return size_bytes / statistics.median(taken) / 1e9


def measure(size_mib: int) -> dict[str, float]:
    """Return the rates by name."""
    count = (size_mib << 20) // 4
    weights = np.random.default_rng(1).normal(scale=0.02, size=count).astype("<f4")
    data, half = weights.view(np.uint8), weights.astype("<f2").view(np.uint8)
    steps = np.clip(weights * 2000, -127, 127).astype(np.int8).view(np.uint8)
    raw = data.tobytes()
    noise = np.random.default_rng(2).integers(0, 256, len(data), dtype=np.uint8)
    tallies, runs = np.zeros((2, 256), dtype=np.int64), np.zeros((4096, 3), dtype=np.int64)
    classes, found = np.zeros(len(data) // 4096, dtype=np.uint8), np.zeros(16, dtype=np.int64)
    works: dict[str, tuple[Callable[[], object], int]] = {
        "SHA-256": (lambda: hashlib.sha256(raw).digest(), len(raw)),
        "CRC-32, zlib": (lambda: zlib.crc32(raw), len(raw)),
        "Adler-32, zlib": (lambda: zlib.adler32(raw), len(raw)),
        "CRC-32C": (lambda: crc32c(data, 0), len(data)),
        "CRC-32C of 64 bytes a sector": (lambda: find_crc32c(data, 64, 5, 512, found), len(data)),
        "lookup3": (lambda: lookup3(data), len(data)),
        "Fletcher-32": (lambda: fletcher32(data, 0), len(data)),
        "runs of one byte": (lambda: find_runs(data, -1, runs), len(data)),
        "blocks of float32 weights": (lambda: survey_blocks(data, 0, 4, 0x80, classes, tallies), len(data)),
        "blocks of float16 weights": (
            lambda: survey_blocks(half, 0, 2, -1, classes[: len(half) // 4096], tallies),
            len(half),
        ),
        "blocks of 8-bit weights": (
            lambda: survey_packed(steps, classes[: len(steps) // 4096], tallies),
            len(steps),
        ),
        "blocks of random bytes": (lambda: survey_blocks(noise, 0, 4, 0x80, classes, tallies), len(noise)),
    }
    if importlib.util.find_spec("isal"):
        from isal import isal_zlib

        works["CRC-32, isal"] = (lambda: isal_zlib.crc32(raw), len(raw))
        works["Adler-32, isal"] = (lambda: isal_zlib.adler32(raw), len(raw))
    return {name: rate(work, size_bytes) for name, (work, size_bytes) in works.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=64)
    for name, value in measure(parser.parse_args().size_mib).items():
        print(f"{name:<32} {value:6.2f} GB/s")
