"""Bench: scanning sparse images of 1 GiB to 4 TiB. The peak of memory, and time beside the bytes that are stored.

Run it with `python -m tests.bench.sparse_images [--folder FOLDER] [--gib 1 64 1024 4096] [--stored-mib 256 1024]`, on a
file system that has holes and files so long (ext4: 16 TiB; not tmpfs); `tests/bench/RESULTS.md` keeps what came out.
Each image has pieces of 4 MiB of random bytes, each with a PyTorch zip, spread evenly over its length. It is scanned
for all formats, and the candidates are made of the hits, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import signatures
from carver.automaton import build
from carver.candidates import candidates
from carver.scan import scan
from fixtures.formats import pytorch_zip
from imaging.source import RawImage
from tests.bench.memory import spending

MIB, GIB = 1 << 20, 1 << 30
PIECE_BYTES = 4 * MIB


def build_image(path: Path, size_bytes: int, stored_bytes: int) -> None:
    """Write an image of which only some pieces are stored."""
    pieces = stored_bytes // PIECE_BYTES
    with path.open("wb") as image:
        image.truncate(size_bytes)
        for number in range(pieces):
            image.seek(number * (size_bytes // pieces) // PIECE_BYTES * PIECE_BYTES)
            held = pytorch_zip.build(number).content
            image.write(held + random.Random(number).randbytes(PIECE_BYTES - len(held)))


def look(path: Path) -> dict[str, float]:
    """Scan an image and make candidates of the hits; for a process of its own."""
    formats = signatures.formats()
    chosen = list(formats.values())
    with RawImage(path) as image, spending() as spent:
        hits = (chunk.hits for chunk in scan(image, chosen))
        found = sum(one.format == "pytorch_zip" for one in candidates(image, hits, build(chosen).table, formats))
    return {"zips": found, "peak_bytes": spent.peak_bytes, "processor_seconds": spent.processor_seconds}


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--gib", type=int, nargs="+", default=[1, 64, 1024, 4096])
    parser.add_argument("--stored-mib", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(look(options.child)))
        return
    print("| length | stored | PyTorch zips | peak | processor time |\n| --- | --- | --- | --- | --- |")
    for stored_mib in options.stored_mib:
        for gib in options.gib:
            told = _in_child(options.folder, gib * GIB, stored_mib * MIB)
            cells = (
                f"{gib:,} GiB",
                f"{stored_mib:,} MiB",
                f"{told['zips']:,.0f}",
                f"{told['peak_bytes'] / MIB:,.0f} MiB",
            )
            print(f"| {' | '.join(cells)} | {told['processor_seconds']:.2f} s |", flush=True)


def _in_child(folder: Path, size_bytes: int, stored_bytes: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="sparse-", dir=folder) as room:
        image = Path(room) / "image"
        build_image(image, size_bytes, stored_bytes)
        command = [sys.executable, "-m", "tests.bench.sparse_images", "--child", str(image)]
        told: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    if told["zips"] < stored_bytes // PIECE_BYTES:
        raise SystemExit(f"{told['zips']:.0f} candidates of {stored_bytes // PIECE_BYTES} PyTorch zips")
    return told


if __name__ == "__main__":
    main()
