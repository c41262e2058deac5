"""Bench: carving an image of very many small PyTorch zips. What each stage holds in memory, and its time, a file.

Run it with `python -m tests.bench.many_files [2000 20000 100000] [--folder /dev/shm]`; `tests/bench/RESULTS.md` keeps
what came out. Each number of files is carved in a process of its own, by the same code as `carver carve`; the bytes a
file are the growth of what the process itself holds, between the smallest and the largest number.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import carver.recover
import signatures
from carver.case import Case
from carver.stages import Choices, Hooks
from fixtures.formats import pytorch_zip
from fixtures.images import PlacedFile, build_plain
from imaging.device import describe, identity
from imaging.image import open_image
from tests.bench.memory import Spent, spending, worker_peak_bytes

STAGES = (
    "scan_image",
    "judge_hits",
    "plan_files",
    "extract_files",
    "load_recovery",
    "gather_models",
    "write_reports",
)
DTYPES = ("float32", "float16", "int64")
MIB = 1 << 20


def build_image(path: Path, files: int) -> None:
    """Write an image of that many PyTorch zips, each with other names, shapes and contents."""
    build_plain(path, _zips(files), seed=1, decoys=False)


def _zips(files: int) -> Iterator[PlacedFile]:
    for number in range(files):
        sample = pytorch_zip.build(number, root=f"run-{number % 977}-step-{number}", dtypes=DTYPES)
        yield sample.name, "pytorch_zip", sample.content


def carve(image_path: Path, folder: Path) -> dict[str, Any]:
    """Carve as the command does, and return what each stage took; for a process of its own."""
    told: dict[str, Spent] = {}
    for name in STAGES:
        setattr(carver.recover, name, _measured(name, getattr(carver.recover, name), told))
    image = open_image(image_path, None)
    source = identity(image.source, describe(image_path))
    choices = Choices(formats=tuple(sorted(signatures.formats())), threads=2)
    with Case.create(folder, locator=str(image_path), identity=source) as case:
        recovery = carver.recover.recover(case, image, signatures.formats(), choices, Hooks(), command="bench")
    stages = {name: dataclasses.asdict(spent) for name, spent in told.items()}
    return {"files": len(recovery.files), "stages": stages, "worker_bytes": worker_peak_bytes()}


def _measured(name: str, stage: Callable[..., Any], told: dict[str, Spent]) -> Callable[..., Any]:
    @wraps(stage)
    def measured(*arguments: object, **named: object) -> object:
        with spending() as told[name]:
            return stage(*arguments, **named)

    return measured


def _in_child(files: int, room: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="many-", dir=room) as made:
        image, case = Path(made) / "image", Path(made) / "case"
        build_image(image, files)
        command = [sys.executable, "-m", "tests.bench.many_files", "--child", str(image), str(case)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        told: dict[str, Any] = json.loads(done.stdout)
        told["report_bytes"] = {path.name: path.stat().st_size for path in case.glob("*.*") if path.is_file()}
    if told["files"] != files:
        raise SystemExit(f"{told['files']} files came back of {files}")
    return told


def main() -> None:
    """Measure and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=int, nargs="*", default=[2_000, 20_000, 100_000])
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--child", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(carve(*options.child)))
        return
    told = {}
    for files in sorted(options.files):
        told[files] = _in_child(files, options.folder)
        print(json.dumps({files: told[files]}), file=sys.stderr, flush=True)  # 100,000 take a while
    _print_peaks(told)


def _print_peaks(told: dict[int, dict[str, Any]]) -> None:
    counts = list(told)
    heads = [f"{count:,} files: own MiB | resident MiB | processor ms a file" for count in counts]
    print(f"| stage | {' | '.join(heads)} | own bytes a file |\n| --- |{' --- | --- | --- |' * len(counts)} --- |")
    for name in STAGES:
        cells = []
        for count in counts:
            spent = told[count]["stages"][name]
            cells += [f"{spent['own_bytes'] / MIB:,.0f}", f"{spent['peak_bytes'] / MIB:,.0f}"]
            cells += [f"{1000 * spent['processor_seconds'] / count:.2f}"]
        own = [told[count]["stages"][name]["own_bytes"] for count in counts]
        growth = (own[-1] - own[0]) / max(counts[-1] - counts[0], 1)
        print(f"| {name} | {' | '.join(cells)} | {growth:,.0f} |")
    for count in counts:
        print(f"\n{count:,} files: a worker held {told[count]['worker_bytes'] / MIB:,.0f} MiB at most;", end=" ")
        print(", ".join(f"{name} {size:,} bytes" for name, size in sorted(told[count]["report_bytes"].items())))


if __name__ == "__main__":
    main()
