"""Peers of the scan: Hyperscan's binding, dd and ripgrep, and carvers that search for their own signatures.

Each is a function without arguments that does the work once; what is not installed is left out.
"""

from __future__ import annotations

import mmap
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

SLOW = ("ripgrep", "photorec", "foremost", "scalpel", "binwalk")
CHUNK_BYTES = 64 << 20
HEADERS_OF_SCALPEL = r"""
hdf5 y 1000 \x89HDF\x0d\x0a\x1a\x0a
zip y 1000 PK\x03\x04
safe y 1000 \x00\x00\x00\x00{"
onnx y 1000 \x12\x07pytorch
"""


def quick(image: Path, patterns: Sequence[bytes]) -> dict[str, Callable[[], object]]:
    """Return what is timed in each round."""
    found: dict[str, Callable[[], object]] = {"dd bs=1M": lambda: run("dd", f"if={image}", "of=/dev/null", "bs=1M")}
    if hyperscan := hyperscan_of(image, patterns):
        found["Hyperscan"] = hyperscan
    if shutil.which("rg"):
        joined = "(?-u)" + "|".join(escaped(pattern) for pattern in sorted(set(patterns)))
        found["ripgrep"] = lambda: run("rg", "-U", "--text", "--count-matches", "-e", joined, str(image))
    return found


def slow(image: Path) -> dict[str, Callable[[], object]]:
    """Return the carvers that are installed; they write what they find into a folder that is thrown away."""
    commands: dict[str, Callable[[str], list[str]]] = {
        "photorec": lambda out: ["photorec", "/log", "/d", f"{out}/found", "/cmd", str(image), "partition_none,search"],
        "foremost": lambda out: ["foremost", "-w", "-o", f"{out}/found", "-i", str(image)],
        "scalpel": lambda out: ["scalpel", "-p", "-c", f"{out}/conf", "-o", f"{out}/found", str(image)],
        "binwalk": lambda out: ["binwalk", "-q", str(image)],
    }
    return {name: lambda made=made: in_folder(made) for name, made in commands.items() if shutil.which(made("")[0])}


def in_folder(command: Callable[[str], list[str]]) -> None:
    with tempfile.TemporaryDirectory() as out:
        Path(out, "conf").write_text(HEADERS_OF_SCALPEL)
        run(*command(out), cwd=out)


def run(*command: str, cwd: str | None = None) -> None:
    done = subprocess.run(command, check=False, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if done.returncode not in (0, 1):  # 1: ripgrep found nothing
        raise SystemExit(f"{command[0]} ended with {done.returncode}")


def escaped(pattern: bytes) -> str:
    return "".join(f"\\x{value:02x}" for value in pattern)


def hyperscan_of(image: Path, patterns: Sequence[bytes]) -> Callable[[], object] | None:
    """Return a scan of the image, mapped chunk by chunk, by Hyperscan's block mode with a callback a match."""
    try:
        import hyperscan
    except ImportError:
        return None
    database = hyperscan.Database()
    distinct = sorted(set(patterns))
    database.compile(
        expressions=[escaped(pattern).encode() for pattern in distinct],
        ids=list(range(len(distinct))),
        elements=len(distinct),
        flags=[hyperscan.HS_FLAG_DOTALL] * len(distinct),
    )

    def one() -> int:
        found: list[int] = []
        size_bytes = image.stat().st_size
        with image.open("rb") as file:
            for at in range(0, size_bytes, CHUNK_BYTES):
                length = min(CHUNK_BYTES, size_bytes - at)
                with mmap.mmap(file.fileno(), length, prot=mmap.PROT_READ, offset=at) as mapping:
                    database.scan(mapping, match_event_handler=lambda number, *rest: found.append(number))
        return len(found)

    return one
