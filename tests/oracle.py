"""Oracle: open a recovered file with the library that its users open it with. Run in a child process, with a timeout.

`python -m tests.oracle FORMAT FILE` prints how many tensors the library read.
`python -m tests.oracle --refusals FORMAT FILE...` prints a line of JSON a file: "" or why the library refuses it. The
structure counts here, so nothing is unpickled, and of a zip every record is read, whose CRC-32 the library checks.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path


def hdf5(path: Path) -> int:
    import h5py

    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda name, held: names.append(name) if isinstance(held, h5py.Dataset) else None)
        for name in names:
            if not file[name].external:  # its bytes were in another file, which carving does not join
                file[name][()]
        return len(names)


def safetensors(path: Path) -> int:
    from safetensors import deserialize  # numpy's loader knows no bfloat16

    return len(deserialize(path.read_bytes()))


def onnx(path: Path) -> int:
    import onnx as library

    model = library.load(path, load_external_data=False)
    return len(model.graph.initializer)


def pytorch_zip(path: Path) -> int:
    import torch

    loaded = torch.load(path, weights_only=True, map_location="cpu")
    return sum(isinstance(value, torch.Tensor) for value in loaded.values()) if isinstance(loaded, dict) else 1


def zip_records(path: Path) -> int:
    """Read every record to its end; a CRC-32 of 0 means that torch was asked to write none."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as record:
                if entry.CRC == 0:
                    record._expected_crc = None
                while record.read(1 << 20):
                    pass
        return len(archive.namelist())


def torch_distributed(path: Path) -> int:
    """Read each of the zips that follow each other; their own reader sees the last one only."""
    raw, at, count = path.read_bytes(), 0, 0
    while at < len(raw):
        end = at
        while end == at or not zipfile.is_zipfile(io.BytesIO(raw[at:end])):
            end = raw.index(b"PK\x05\x06", end) + 22
            end += int.from_bytes(raw[end - 2 : end], "little")  # of a comment
        with zipfile.ZipFile(io.BytesIO(raw[at:end])) as archive:
            if archive.testzip() is not None or archive.infolist()[0].header_offset:
                raise ValueError("a record's CRC-32 is wrong")
        at, count = end, count + 1
    return count


def gguf(path: Path) -> int:
    from gguf import GGUFReader

    return len(GGUFReader(path).tensors)


def numpy_array(path: Path) -> int:
    import numpy as np

    np.load(path, allow_pickle=False)
    return 1


ORACLES: dict[str, Callable[[Path], int]] = {f.__name__: f for f in (hdf5, safetensors, onnx, pytorch_zip)}
STRUCTURE: dict[str, Callable[[Path], int]] = {f.__name__: f for f in (hdf5, safetensors, onnx, gguf, numpy_array)}
STRUCTURE["torch_distributed"] = torch_distributed
STRUCTURE |= dict.fromkeys(("pytorch_zip", "npz", "keras", "zip_archive"), zip_records)
EXEMPT = (  # what says of the library, not of the file, that it cannot read it
    "plugin", "filter", "is already open for write", "file is already open", "Object arrays cannot be loaded",
    "No NumPy equivalent", "Insufficient precision", "not a valid GGMLQuantizationType", "Unable to allocate",
    "memory allocation failed",  # a dimension without limit may be huge: legal, and little of it stored
)  # fmt: skip
MEMORY_BYTES = 16 << 30
CPU_SECONDS = 1800


def refusal(name: str, path: Path) -> str:
    """Return why the library refuses a file, "" when it does not."""
    try:
        STRUCTURE[name](path)
    except Exception as reason:  # noqa: BLE001 - any library, any reason
        told = f"{type(reason).__name__}: {str(reason)[:300]}"
        return "" if any(word in told for word in EXEMPT) else told
    return ""


def refuse_all(name: str, paths: list[str]) -> None:
    for limit, most in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CPU, CPU_SECONDS)):
        resource.setrlimit(limit, (most, most))
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    for path in paths:
        print(json.dumps(refusal(name, Path(path))), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--refusals":
        refuse_all(sys.argv[2], sys.argv[3:])
    else:
        for name in sys.argv[2:]:
            print(ORACLES[sys.argv[1]](Path(name)))
