"""Bytes without models, streamed from memory through scanner and judge: what is called good, the oracle must accept.

    python -m tests.false_alarms random GIB [SEED]      random and adversarial bytes, none of them ever on a disk
    python -m tests.false_alarms software FOLDER...     the files that are there, each at a sector's start
    python -m tests.false_alarms mutated FORMAT COUNT   samples of a format, mutated as in `tests.fuzz`

prints one line of JSON: bytes, candidates, verdicts by format and grade (UNDECIDED with its reason), in which files of
the software good ones lie, and every good file that its library refuses (kept in the folder that `CARVER_KEEP` names).
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path

import numpy as np

import signatures
from carver.automaton import build
from carver.candidates import candidates
from carver.judge import judge
from carver.scan import scan
from imaging.extent import span
from imaging.source import RawImage
from imaging.window import Window
from signatures.format import Pattern
from tests.fuzz.mutation import mutated
from tests.fuzz.run import Memory as InMemory
from tests.fuzz.run import seeds_of
from tests.oracle import STRUCTURE

BLOCK_BYTES = 256 << 20
SECTOR_BYTES = 512
TRAPS_PER_MIB = 4  # in every eighth block
ASK_FILES, ASK_BYTES = 4000, 1 << 30  # a library's process for so many
KEEP = os.environ.get("CARVER_KEEP", "")
GOOD = ("INTACT", "CONSISTENT")
ORACLE_SECONDS = 3600
WORDS = b" the of and to a in is that for it as was with be by on not he i this are or his from at which but have an"
FORMATS = signatures.formats()
Good = tuple[str, str, bytes]
"""(format, grade, the bytes)"""
Places = list[tuple[int, str]]
"""(where a file begins in its block, its path)"""


class Memory:
    """A file without a disk, for one block at a time."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("block")
        self.path = Path(f"/proc/self/fd/{self._descriptor}")

    def fill(self, content: np.ndarray | bytes) -> None:
        os.ftruncate(self._descriptor, 0)
        view, at = memoryview(content).cast("B"), 0
        while at < len(view):
            at += os.pwrite(self._descriptor, view[at:], at)


def judged(memory: Memory, counts: Counter[str]) -> Iterator[tuple[int, Good]]:
    """Yield what is called good in the block, with its offset, and count all."""
    table = build(FORMATS.values()).table
    with RawImage(memory.path) as image:
        hits = (chunk.hits for chunk in scan(image, list(FORMATS.values())))
        for candidate in candidates(image, hits, table, FORMATS):
            verdict = judge(image, candidate, FORMATS)
            counts["candidates"] += 1
            if verdict.grade.value != "REJECTED":
                reason = f" {verdict.findings[0].code}" if verdict.grade.value == "UNDECIDED" else ""
                counts[f"{candidate.format} {verdict.grade.value}{reason}"] += 1
            if verdict.grade.value in GOOD and not FORMATS[candidate.format].side:
                raw = image.read_at(candidate.start_bytes, verdict.size_bytes)
                yield candidate.start_bytes, (candidate.format, verdict.grade.value, raw)


def traps(seed: int) -> list[bytes]:
    """Return what looks like the head of a file and is none: cut samples, and every pattern in its place."""
    chance, made = random.Random(seed), []
    for name, form in FORMATS.items():
        for entry in form.patterns:
            if isinstance(entry, Pattern) and entry.offset_bytes < 1 << 12:
                made += [chance.randbytes(entry.offset_bytes) + entry.bytes]
        for sample in importlib.import_module(f"fixtures.formats.{name}").samples(seed):
            cuts = (min(1 << 16, int(share * len(sample.content))) for share in (0.05, 0.3, 0.7, 0.98))
            made += [sample.content[:cut] for cut in cuts]
    return made


def block(seed: int, held: list[bytes]) -> np.ndarray:
    """Return a block of random bytes; every eighth is full of traps, every eighth of text and zeros."""
    rng = np.random.Generator(np.random.SFC64(seed))
    content = rng.integers(0, 1 << 64, BLOCK_BYTES // 8, dtype=np.uint64).view(np.uint8)
    if seed % 8 == 7:
        for start in rng.integers(0, BLOCK_BYTES >> 20, 96) << 20:
            kind = int(rng.integers(0, 3))
            fill = (np.zeros(1, np.uint8), np.frombuffer(WORDS, np.uint8), np.array([255], np.uint8))[kind]
            content[start : start + (1 << 20)] = np.tile(fill, (1 << 20) // len(fill) + 1)[: 1 << 20]
    if seed % 8 in (3, 7):
        for _ in range(TRAPS_PER_MIB * (BLOCK_BYTES >> 20)):
            trap = bytearray(held[int(rng.integers(0, len(held)))])
            for _ in range(int(rng.integers(0, 3))):  # flipped here and there
                if trap:
                    trap[int(rng.integers(0, len(trap)))] ^= 1 << int(rng.integers(0, 8))
            at = int(rng.integers(0, (BLOCK_BYTES - len(trap)) // SECTOR_BYTES)) * SECTOR_BYTES
            content[at : at + len(trap)] = np.frombuffer(bytes(trap), np.uint8)
    return content


def software(folders: Iterable[Path], places: Places | None = None) -> Iterator[bytes]:
    """Yield blocks of the files below the folders, each at a sector's start; larger ones are cut into blocks.

    `places` is made anew for each block.
    """
    held = bytearray()
    places = [] if places is None else places
    for folder in folders:
        for parent, below, names in os.walk(folder):
            below.sort()
            for path in (Path(parent) / name for name in sorted(names)):
                for content in pieces(path):
                    places.append((len(held), str(path)))
                    held += content + bytes(-len(content) % SECTOR_BYTES)
                    if len(held) >= BLOCK_BYTES:
                        yield bytes(held)
                        held.clear()
                        places.clear()
    yield bytes(held)


def pieces(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes, at most a block at a time; nothing of what is no file or cannot be read."""
    if path.is_symlink() or not path.is_file():
        return
    try:
        with path.open("rb") as file:
            while content := file.read(BLOCK_BYTES):
                yield content
    except OSError:
        return


def refusals(good: list[Good]) -> list[str]:
    """Return what the libraries refuse, in words; files of formats without one are not asked about."""
    told = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:  # memory, not a disk
        for name in sorted({form for form, _, _ in good} & STRUCTURE.keys()):
            paths = []
            for number, (form, grade, raw) in enumerate(good):
                if form == name:
                    paths.append((Path(folder) / f"{number}{FORMATS[name].suffix}", grade))
                    paths[-1][0].write_bytes(raw)
            command = [sys.executable, "-m", "tests.oracle", "--refusals", name, *(str(path) for path, _ in paths)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=ORACLE_SECONDS)
            answers = [json.loads(line) for line in done.stdout.splitlines()]
            answers += [f"the library's process ended: {done.returncode}"] * (len(paths) - len(answers))
            for (path, grade), answer in zip(paths, answers, strict=True):
                if answer:
                    told.append(f"{name} {grade} of {path.stat().st_size} bytes: {answer}")
                    if KEEP:
                        shutil.copy(path, Path(KEEP) / f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.{name}")
                path.unlink()
    return told


def run(blocks: Iterable[np.ndarray | bytes], places: Places | None = None) -> dict[str, object]:
    """Return the counts of a whole run, and what is called good in which file of `places`."""
    memory, counts, false, seen = Memory(), Counter[str](), list[str](), 0
    found: list[tuple[str, str, int, str]] = []
    unasked: list[Good] = []
    for content in blocks:
        seen += len(content)
        if len(content):
            memory.fill(content)
            for start_bytes, good in judged(memory, counts):
                unasked.append(good)
                if places:
                    at_bytes, path = places[bisect_right(places, start_bytes, key=itemgetter(0)) - 1]
                    found.append((*good[:2], start_bytes - at_bytes, path))
        if len(unasked) > ASK_FILES or sum(len(raw) for _, _, raw in unasked) > ASK_BYTES:
            false += refusals(unasked)
            unasked = []
        print(f"{seen >> 20} MiB, {len(false)} false", file=sys.stderr, flush=True)
    false += refusals(unasked)
    return {"bytes": seen, "counts": dict(sorted(counts.items())), "good": found, "false": false}


def run_mutated(name: str, count: int) -> dict[str, object]:
    """Return the counts of mutated samples that are still called good, and what the library refuses of them."""
    counts, good, seeds = Counter[str](), list[Good](), seeds_of(name)
    for number in range(count):
        content = mutated(random.Random(number), seeds)
        verdict = FORMATS[name].validate(Window(InMemory(content), (span(0, len(content)),)))
        counts[verdict.grade.value] += 1
        if verdict.grade.value in GOOD:
            good.append((name, verdict.grade.value, content[: verdict.size_bytes]))
    return {"counts": dict(sorted(counts.items())), "false": refusals(good)}


def random_blocks(gib: float, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield blocks for so many GiB."""
    held = traps(seed)
    return (block(number, held) for number in range(seed, seed + max(1, int(gib * (1 << 30) / BLOCK_BYTES))))


if __name__ == "__main__":
    if sys.argv[1] == "random":
        chosen = random_blocks(float(sys.argv[2]), *map(int, sys.argv[3:4]))
        print(json.dumps(run(chosen)))
    elif sys.argv[1] == "mutated":
        print(json.dumps(run_mutated(sys.argv[2], int(sys.argv[3]))))
    else:
        named: Places = []
        print(json.dumps(run(software(map(Path, sys.argv[2:]), named), named)))
