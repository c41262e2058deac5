"""Oracle: open a recovered file with the library that its users open it with. Run in a child process, with a timeout.

`python -m tests.oracle FORMAT FILE` prints how many tensors the library read.
"""

from __future__ import annotations

import sys
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


ORACLES: dict[str, Callable[[Path], int]] = {f.__name__: f for f in (hdf5, safetensors, onnx, pytorch_zip)}

if __name__ == "__main__":
    for name in sys.argv[2:]:
        print(ORACLES[sys.argv[1]](Path(name)))
