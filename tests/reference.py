"""Reference: the tensors of a file as the library that wrote it reads them. Run in a child process with limits.

`python -m tests.reference [--own-files] FORMAT FILE...` prints a line of JSON a file: a list of tensors, or a text that
says why the library gives none. The bytes are hashed as they are stored; for chunked HDF5 those of the chunks, by
their place in the file, since only the place of filtered chunks can be compared.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import resource
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LIBRARIES = {
    "hdf5": "h5py",
    "safetensors": "safetensors",
    "onnx": "onnx",
    "pytorch_zip": "torch",
    "pytorch_legacy": "torch",
    "gguf": "gguf",
    "numpy_array": "numpy",
    "npz": "numpy",
}
MEMORY_BYTES = 16 << 30
CPU_SECONDS = 600
OWN_FILES = False  # whether the files were written by the very test that asks

Told = dict[str, Any]  # name, dtype, shape, size_bytes, sha256, and offset_bytes in what is packed


UNTOLD = None  # the library keeps the stored bytes to itself


def told(name: str, dtype: str, shape: Any, raw: Any, *, offset_bytes: int = 0) -> Told:
    """One tensor; `raw` is b"" where its bytes are not in the file."""
    size_bytes, sha256 = 0, "" if raw is not UNTOLD else None
    if raw is not UNTOLD and len(raw):
        size_bytes, sha256 = len(raw), hashlib.sha256(raw).hexdigest()
    shape = [int(extent) for extent in shape]
    return {
        "name": name, "dtype": dtype, "shape": shape, "size_bytes": size_bytes, "sha256": sha256,
        "offset_bytes": offset_bytes,
    }  # fmt: skip


def hdf5(path: Path) -> Iterator[Told]:
    import h5py

    with h5py.File(path, "r") as file:
        found: list[str] = []
        file.visititems(lambda name, held: found.append(name) if isinstance(held, h5py.Dataset) else None)
        for name in found:
            held = file[name]
            shape = (0,) if held.shape is None else held.shape
            yield told(name, _hdf5_dtype(held), shape, _hdf5_bytes(path, held))


def _hdf5_dtype(held: Any) -> str:
    import h5py
    from h5py import h5t

    kind = held.id.get_type().get_class()
    names = {
        h5t.STRING: "string", h5t.COMPOUND: "compound", h5t.VLEN: "vlen", h5t.ENUM: "enum", h5t.OPAQUE: "opaque",
        h5t.REFERENCE: "reference", h5t.ARRAY: "array", h5t.BITFIELD: "bitfield", h5t.TIME: "time",
    }  # fmt: skip
    if h5py.check_string_dtype(held.dtype):
        return "string"
    if kind in names and held.dtype.kind not in "bc":  # booleans are enumerations, complex numbers compounds
        return names[kind]
    return str(held.dtype.name)


def _hdf5_bytes(path: Path, held: Any) -> bytes | None:
    import numpy as np
    from h5py import h5d

    layout = held.id.get_create_plist().get_layout()
    if held.shape is None or held.external or layout == h5d.VIRTUAL:
        return b""
    if layout == h5d.CHUNKED:
        places = sorted(
            (chunk.byte_offset, chunk.size)
            for chunk in (held.id.get_chunk_info(number) for number in range(held.id.get_num_chunks()))
        )
        with path.open("rb") as file:
            return b"".join(file.seek(at) * b"" + file.read(size) for at, size in places)
    if layout == h5d.CONTIGUOUS:
        at = held.id.get_offset()
        with path.open("rb") as file:
            return b"" if at is None else file.seek(at) * b"" + file.read(held.id.get_storage_size())
    return bytes(np.asarray(held[()]).tobytes()) if held.dtype.kind != "O" else UNTOLD


def safetensors(path: Path) -> Iterator[Told]:
    from safetensors import deserialize

    small = {"F8_E4M3": "f8_e4m3fn", "F8_E8M0": "f8_e8m0fnu", "F4": "f4_e2m1fn", "F6_E2M3": "f6_e2m3fn"}
    small["F6_E3M2"] = "f6_e3m2fn"
    words = {"f": "float", "bf": "bfloat", "i": "int", "u": "uint", "c": "complex", "bool": "bool"}
    for name, held in deserialize(path.read_bytes()):
        word = small.get(held["dtype"], held["dtype"].lower())
        letters = re.match("[a-z]+", word)[0]
        yield told(name, words[letters] + word[len(letters) :], held["shape"], held["data"])


def onnx(path: Path) -> Iterator[Told]:
    import onnx as library

    for tensor in library.load(path, load_external_data=False).graph.initializer:
        yield told(tensor.name, _onnx_dtype(tensor.data_type), tensor.dims, _onnx_bytes(tensor))


def _onnx_dtype(number: int) -> str:
    from onnx import TensorProto, helper

    return "string" if number == TensorProto.STRING else str(helper.tensor_dtype_to_np_dtype(number).name)


def _onnx_bytes(tensor: Any) -> bytes | None:
    """Return raw_data, or what a typed field holds when it is written packed, as all writers but old ones do."""
    from onnx import TensorProto

    if tensor.data_location == TensorProto.EXTERNAL:
        return b""
    if tensor.HasField("raw_data"):
        return bytes(tensor.raw_data)
    for name in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        values = getattr(tensor, name)
        if len(values):
            raw = TensorProto(**{name: values}).SerializeToString()
            at = 1
            while raw[at] & 0x80:
                at += 1
            return bytes(raw[at + 1 :])
    return UNTOLD if len(tensor.string_data) else b""


def pytorch_zip(path: Path) -> Iterator[Told]:
    import torch

    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in names:
        yield from _torch_tensors((), torch.jit.load(path, map_location="cpu").state_dict())
    elif "data.pkl" in names:
        yield from _torch_tensors((), _torch_loaded(path))
    else:
        raise ValueError("torch.load does not read .pt2")


def _torch_legacy(path: Path) -> Iterator[Told]:
    yield from _torch_tensors((), _torch_loaded(path))


def _torch_loaded(path: Path) -> Any:
    """Load without running anything; what the safe loader does not know, only from files that we wrote ourselves."""
    import torch

    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError:
        if not OWN_FILES:
            raise
        return torch.load(path, weights_only=False, map_location="cpu")


def _torch_tensors(names: tuple[str, ...], value: Any) -> Iterator[Told]:
    import torch

    if isinstance(value, torch.Tensor):
        yield from _torch_tensor(names, value)
    elif isinstance(value, dict | list | tuple):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            told_key = (str(key),) if isinstance(key, str | int | float) else ()
            yield from _torch_tensors((*names, *told_key), below)


def _torch_parts(tensor: Any) -> dict[str, Any]:
    """Return the tensors that one is made of, if it has no storage of its own."""
    import torch

    compressed = {torch.sparse_csr: ("crow", "col"), torch.sparse_csc: ("ccol", "row")}
    compressed |= {torch.sparse_bsr: ("crow", "col"), torch.sparse_bsc: ("ccol", "row")}
    if tensor.layout is torch.jagged:
        return {"values": tensor._values, "offsets": tensor._offsets}
    if tensor.is_nested:
        sizes, strides = tensor._nested_tensor_size(), tensor._nested_tensor_strides()
        offsets = tensor._nested_tensor_storage_offsets()
        return {"values": tensor.values(), "sizes": sizes, "strides": strides, "offsets": offsets}
    if tensor.layout is torch.sparse_coo:
        return {"indices": tensor._indices(), "values": tensor._values()}
    if tensor.layout in compressed:
        names = [f"{name}_indices" for name in compressed[tensor.layout]]
        return {name: getattr(tensor, name)() for name in (*names, "values")}
    return {}


def _torch_tensor(names: tuple[str, ...], tensor: Any) -> Iterator[Told]:
    import torch

    parts = _torch_parts(tensor)
    if not parts:
        dtype, name = str(tensor.dtype).removeprefix("torch."), ".".join(names) or "tensor"
        if tensor.device.type == "meta":
            yield told(name, dtype, tensor.shape, b"")
            return
        item_bytes = tensor.element_size()
        reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
        first = tensor.storage_offset() * item_bytes
        size_bytes = (reach + 1) * item_bytes if tensor.numel() else 0
        stored = torch.tensor([], dtype=torch.uint8).set_(tensor.untyped_storage())
        raw = stored[first : first + size_bytes].numpy().tobytes()
        yield told(name, dtype, tensor.shape, raw, offset_bytes=first)
        if tensor.is_quantized and tensor.qscheme() is torch.per_channel_affine:
            parts = {"scales": tensor.q_per_channel_scales(), "zero_points": tensor.q_per_channel_zero_points()}
    for name, part in parts.items():
        yield from _torch_tensor((*names, name), part)


def gguf(path: Path) -> Iterator[Told]:
    from gguf import GGUFReader

    words = {"F32": "float32", "F16": "float16", "F64": "float64", "BF16": "bfloat16"}
    words |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}
    for tensor in GGUFReader(path).tensors:
        kind = tensor.tensor_type.name
        yield told(tensor.name, words.get(kind, kind.lower()), tensor.shape[::-1], tensor.data.tobytes())


def numpy_array(path: Path) -> Iterator[Told]:
    import numpy as np

    yield _array("array", np.load(path, allow_pickle=False), 0)


def npz(path: Path) -> Iterator[Told]:
    import numpy as np

    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()}
    with np.load(path, allow_pickle=False) as held:
        for name in held.files:
            array = held[name]
            yield _array(name, array, sizes[name] - array.nbytes)


def _array(name: str, array: Any, offset_bytes: int) -> Told:
    raw = array.tobytes("F" if array.flags.fnc else "C")
    dtype = "record" if array.dtype.names else array.dtype.name
    return told(name, dtype, array.shape, raw, offset_bytes=offset_bytes)


REFERENCES: dict[str, Callable[[Path], Iterator[Told]]] = {
    function.__name__: function for function in (hdf5, safetensors, onnx, pytorch_zip, gguf, numpy_array, npz)
} | {"pytorch_legacy": _torch_legacy}


def main(name: str, paths: list[str]) -> None:
    """Print what the library reads; a library's own refusal is an answer, and so it is caught whatever it is."""
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, resource.RLIM_INFINITY if OWN_FILES else 0),  # some imports of torch write files
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    for path in paths:
        try:
            print(json.dumps(list(REFERENCES[name](Path(path)))), flush=True)
        except Exception as refusal:  # noqa: BLE001 - any library, any reason
            print(json.dumps(f"{type(refusal).__name__}: {str(refusal)[:300]}"), flush=True)


if __name__ == "__main__":
    OWN_FILES = sys.argv[1] == "--own-files"
    main(sys.argv[1 + OWN_FILES], sys.argv[2 + OWN_FILES :])
