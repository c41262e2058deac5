"""Bench: validating one large file of each format, beside its SHA-256, which writing it out costs anyway.

Run it with `python -m tests.bench.validation [--size-mib 1024] [--folder /dev/shm] [--rounds 3]`. Files are written by
the formats' own libraries, are in the page cache, and are read through the same window by the validator and by the
hash, in turn, on one core. The ratio is the validator's processor time to the hash's: below 1 validation is the faster.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from carver.candidates import Candidate
from carver.judge import judge
from imaging.extent import Extent
from imaging.source import RawImage
from imaging.window import Window
from signatures import formats
from signatures.verdict import Verdict

MIB = 1 << 20
TENSORS = 16
READ_BYTES = 1 << 20


def weights(size_bytes: int) -> dict[str, np.ndarray]:
    """Return float32 tensors that come to `size_bytes`, with the spread of trained weights."""
    numbers = np.random.default_rng(1)
    count = size_bytes // 4 // TENSORS // 1024
    return {f"layer.{i}.weight": numbers.standard_normal((count, 1024), dtype=np.float32) / 50 for i in range(TENSORS)}


def write_torch(path: Path, tensors: dict[str, np.ndarray]) -> None:
    torch.save({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, path)


def write_npz(path: Path, tensors: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:  # a file, since np.savez puts a suffix to a name
        np.savez(file, allow_pickle=False, **tensors)


def write_hdf5(path: Path, tensors: dict[str, np.ndarray], **storage: object) -> None:
    with h5py.File(path, "w") as file:
        for name, tensor in tensors.items():
            file.create_dataset(name, data=tensor, **storage)


def write_onnx(path: Path, tensors: dict[str, np.ndarray]) -> None:
    held = [
        helper.make_tensor(name, TensorProto.FLOAT, tensor.shape, tensor.tobytes(), raw=True)
        for name, tensor in tensors.items()
    ]
    output = helper.make_tensor_value_info(held[0].name, TensorProto.FLOAT, held[0].dims)
    onnx.save(helper.make_model(helper.make_graph([], "bench", [], [output], held)), path)


WRITERS: dict[str, tuple[str, Callable[[Path, dict[str, np.ndarray]], None]]] = {
    "safetensors": ("safetensors", lambda path, tensors: save_file(tensors, path)),
    "PyTorch zip (CRC-32)": ("pytorch_zip", write_torch),
    "ONNX": ("onnx", write_onnx),
    "NumPy .npz (CRC-32)": ("npz", write_npz),
    "HDF5, contiguous": ("hdf5", write_hdf5),
    "HDF5, Fletcher-32": ("hdf5", lambda path, tensors: write_hdf5(path, tensors, chunks=(256, 1024), fletcher32=True)),
    "HDF5, deflate": (
        "hdf5",
        lambda path, tensors: write_hdf5(path, tensors, chunks=(256, 1024), compression="gzip", compression_opts=1),
    ),
}


def hashed(source: RawImage) -> str:
    """Return the SHA-256 of a whole file, read as the extractor reads it."""
    whole = Window(source, (Extent(offset_bytes=0, size_bytes=source.size_bytes),))
    digest = hashlib.sha256()
    for offset in range(0, source.size_bytes, READ_BYTES):
        digest.update(whole.read_at(offset, min(READ_BYTES, source.size_bytes - offset)))
    return digest.hexdigest()


def judged(source: RawImage, format_name: str) -> Verdict:
    """Return the verdict on a whole file."""
    layout = (Extent(offset_bytes=0, size_bytes=source.size_bytes),)
    return judge(source, Candidate(format=format_name, layout=layout, hits=()), formats())


def seconds_of(work: Callable[[], object]) -> tuple[float, object]:
    """Return the processor seconds that it took, and what came of it."""
    since = time.process_time()
    result = work()
    return time.process_time() - since, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    tensors = weights(options.size_mib * MIB)
    print(f"load {os.getloadavg()[0]:.1f}\n\n| file | MiB | grade | GB/s | time to SHA-256's |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for title, (format_name, write) in WRITERS.items():
            path = Path(name) / "file"
            write(path, tensors)
            source = RawImage(path)
            ratios, rates = [], []
            for _ in range(options.rounds + 1):  # the first round warms what is compiled
                hash_seconds, _ = seconds_of(partial(hashed, source))
                judge_seconds, verdict = seconds_of(partial(judged, source, format_name))
                ratios.append(judge_seconds / hash_seconds)
                rates.append(source.size_bytes / judge_seconds / 1e9)
            assert isinstance(verdict, Verdict)
            spread = f"{statistics.median(ratios[1:]):.3f} ({min(ratios[1:]):.3f} to {max(ratios[1:]):.3f})"
            rate = statistics.median(rates[1:])
            print(
                f"| {title} | {source.size_bytes // MIB} | {verdict.grade.value} | {rate:.2f} | {spread} |", flush=True
            )
            path.unlink()


if __name__ == "__main__":
    main()
