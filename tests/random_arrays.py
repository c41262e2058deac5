"""Random GGUF files, NumPy arrays and archives of arrays, written by their own libraries, told by a seed."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np

WORDS = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "c8", "c16", "?", "S7", "U5", "V9"]
WORDS += ["M8[ns]", "m8[D]", "g", "G"]
EMPTY = ["S0", "U0"]


def write_gguf(seed: int, folder: Path) -> Path:
    """Write a GGUF file with keys and tensors of every type, either order of bytes, and any alignment."""
    import gguf

    chance = random.Random(seed)
    path = folder / f"random-{seed}.gguf"
    order = gguf.GGUFEndian.BIG if chance.random() < 0.3 else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, chance.choice(["llama", "qwen3", "gemma"]), endianess=order)
    if chance.random() < 0.4:
        writer.add_custom_alignment(chance.choice([8, 16, 64, 256, 4096]))
    for number in range(chance.randrange(12)):
        _add_key(writer, chance, f"test.key_{number}")
    for number in range(1 + chance.randrange(20)):
        _add_tensor(writer, chance, f"blk.{number}.{chance.choice(['attn_q', 'ffn_up', 'слой'])}.weight")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_key(writer: Any, chance: random.Random, key: str) -> None:
    numbers = [chance.randrange(100) for _ in range(chance.randrange(1, 9))]
    ways: list[tuple[str, Any]] = [
        ("uint8", 7), ("int8", -7), ("uint16", 700), ("int16", -700), ("uint32", 1 << 31), ("int32", -(1 << 31)),
        ("uint64", 1 << 63), ("int64", -(1 << 63)), ("float32", 0.5), ("float64", float("nan")), ("bool", True),
        ("string", "text" * chance.randrange(90)), ("string", "слово\0"), ("array", numbers),
        ("array", ["a" * number for number in numbers]), ("array", [0.5] * len(numbers)), ("array", [True, False]),
        ("array", [numbers, [1], [2, 3]]), ("array", [["a", "bc"], ["d"]]),
    ]  # fmt: skip
    kind, value = chance.choice(ways)
    getattr(writer, f"add_{kind}")(key, value)


def _add_tensor(writer: Any, chance: random.Random, name: str) -> None:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    rows = [chance.choice((1, 2, 3, 5, 8)) for _ in range(chance.randrange(4))]
    kind = chance.choice([kind for kind in GGMLQuantizationType if kind.name != "Q8_1"])  # whose size is an old one
    plain = {"F32": "f4", "F16": "f2", "F64": "f8", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8"}
    if kind.name in plain:
        shape = (*rows, chance.randrange(1, 50))
        raw = chance.randbytes(int(np.prod(shape)) * int(plain[kind.name][1]))
        writer.add_tensor(name, np.frombuffer(raw, dtype=plain[kind.name]).reshape(shape))
        return
    shape = (*rows, chance.randrange(1, 4) * GGML_QUANT_SIZES[kind][1])
    raw = chance.randbytes(int(np.prod(shape)))
    writer.add_tensor(name, np.frombuffer(raw, dtype=np.uint8).reshape(shape), raw_dtype=kind)


def array(chance: random.Random, *, holes: bool) -> np.ndarray:
    """An array of any type, order and shape, also without elements or without axes; records may have unused bytes."""
    dtype = _dtype(chance, 0, holes=holes)
    shape = tuple(chance.choice((0, 1, 1, 2, 3, 5, 9)) for _ in range(chance.randrange(5)))
    count = int(np.prod(shape, dtype=np.int64))
    if dtype.itemsize:
        raw = bytes(byte & 1 for byte in chance.randbytes(count * dtype.itemsize))  # every bool is one of two bytes
        made = np.frombuffer(raw, dtype=dtype, count=count).reshape(shape)
    else:
        made = np.zeros(shape, dtype=dtype)
    return np.asfortranarray(made) if chance.random() < 0.3 else made


def _dtype(chance: random.Random, depth: int, *, holes: bool) -> np.dtype[Any]:
    if depth < 3 and chance.random() < 0.25:
        fields: list[Any] = []
        for number in range(chance.randrange(1, 5)):
            inner = _dtype(chance, depth + 1, holes=holes)
            name = chance.choice([f"f{number}", f"поле{number}", f"a b'{number}"])
            fields.append((name, inner, (2, 3)) if chance.random() < 0.3 else (name, inner))
        return np.dtype(fields, align=holes and chance.random() < 0.3)
    return np.dtype(chance.choice("<>") + chance.choice(WORDS + ([] if depth else EMPTY)))


def write_array(seed: int, folder: Path) -> Path:
    """Write a .npy in the version that NumPy chooses, or in one asked for."""
    chance = random.Random(seed)
    path, made = folder / f"random-{seed}.npy", array(chance, holes=True)
    held = io.BytesIO()
    try:
        np.lib.format.write_array(held, made, version=chance.choice([None, None, (1, 0), (2, 0), (3, 0)]))
    except ValueError:  # version 1 and 2 take no names beyond Latin-1
        held = io.BytesIO()
        np.save(held, made)
    path.write_bytes(held.getvalue())
    return path


def write_archive(seed: int, folder: Path) -> Path:
    """Write a .npz, packed or not; of unused bytes in records NumPy itself reads back others than were written."""
    chance = random.Random(seed)
    path = folder / f"random-{seed}.npz"
    names = ["weight", "arr_0", "a/b", "поле", "x.npy", "layer 1"]
    held = {name: array(chance, holes=False) for name in chance.sample(names, 1 + chance.randrange(len(names)))}
    if chance.random() < 0.5:
        np.savez(path, **held)
    else:
        np.savez_compressed(path, **held)
    return path
