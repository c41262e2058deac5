"""Random opcodes, given to Python's own loaders with all imports stubbed: what they would import must have been told.

`python -m tests.random_pickles FIRST LAST` prints how many imports were met, and the first that were missed. In a
process of its own, since hostile opcodes make the loaders allocate, recurse and warn.
"""

from __future__ import annotations

import copyreg
import io
import json
import os
import pickle
import pickletools
import random
import resource
import sys
from typing import Any

from signatures._pickle import read_pickle

NAMES = [
    b"os",
    b"system",
    b"collections",
    b"OrderedDict",
    b"builtins",
    b"eval",
    b"torch",
    b"FloatStorage",
    b"__torch__.os",
]
SIMPLE = list(b"tld]})N\x8f\x90\x91\x85\x86\x87012Rb\x81\x92oaesuQ\x88\x89\x98")
LITERALS = [
    b"K\x01", b"I5\n", b"I01\n", b"L5L\n", b"F1.5\n", b"M\1\0", b"J\1\0\0\0", b"G" + bytes(8), b"\x8a\x01\x05", b"p1\n",
    b"g1\n", b"r\1\0\0\0", b"j\1\0\0\0", b"\x82\x07", b"P1\n", b"B\1\0\0\0x", b"C\1x", b"T\1\0\0\0x", b"U\1x",
    b"\x8d\1" + bytes(7) + b"x", b"\x8e\1" + bytes(7) + b"x",
]  # fmt: skip
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes if opcode.name != "BYTEARRAY8"]
MAX_TOLD = 20
MEMORY_BYTES = 1 << 30


class Stub:
    """What every import gives: anything can be done to it, and nothing happens."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Stub:
        return Stub()

    def __setitem__(self, *_: Any) -> None:
        pass

    def __hash__(self) -> int:
        return 1

    append = extend = add = update = __setstate__ = lambda *_: None


def loaders(told: list[str]) -> list[type]:
    """Return both of Python's loaders; they note in `told` what they would import."""

    def find_class(self: Any, module: str, name: str) -> type:
        told.append(f"{module}.{name}")
        return Stub

    members = {"find_class": find_class, "persistent_load": lambda self, key: Stub()}
    return [type("Told", (base,), members) for base in (pickle._Unpickler, pickle.Unpickler)]


def short(text: bytes) -> bytes:
    return b"\x8c" + bytes((len(text),)) + text


def piece(chance: random.Random) -> bytes:
    """One opcode, or a few that belong together."""
    module, name, slot = chance.choice(NAMES), chance.choice(NAMES), bytes((chance.randrange(6),))
    return chance.choice(
        [
            short(name), short(name) + b"\x94", b"h" + slot, b"q" + slot, b"c" + module + b"\n" + name + b"\n", b"\x93",
            b"(", bytes((chance.choice(SIMPLE),)), b"i" + module + b"\n" + name + b"\n", b"S'" + name + b"'\n",
            b"V" + name + b"\n", b"X" + len(name).to_bytes(4, "little") + name, chance.choice(LITERALS),
            short(module) + short(name) + b"\x93", chance.choice(OPCODES), b"\x80" + slot,
            b"\x95" + bytes((chance.randrange(30),)) + bytes(7),
            short(module) + b"\x94" + short(name) + b"\x94" + chance.choice([b"\x93", b"h\0h\1\x93", b"00h\0h\1\x93"]),
        ]
    )  # fmt: skip


def made(seed: int) -> bytes:
    chance = random.Random(seed)
    body = b"".join(piece(chance) for _ in range(chance.randrange(1, 25))) + b"."
    return b"\x80" + bytes((chance.randrange(6),)) + body if chance.random() < 0.5 else body


def main(first: int, last: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))  # a memo may have four thousand million places
    copyreg.add_extension("os", "system", 7)
    met, missed = 0, list[str]()
    for seed in range(first, last):
        raw = made(seed)
        seen = read_pickle(raw).globals_seen
        unknown = "?.?" in seen or any(name.startswith("copyreg.") for name in seen)
        told: list[str] = []
        for loader in loaders(told):
            try:
                loader(io.BytesIO(raw)).load()
            except Exception:  # noqa: BLE001 - any refusal of hostile opcodes
                continue
        met += len(told)
        told = [name for name in told if not name.endswith(".")]  # a name without an end: nothing can follow it
        known = unknown or set(told) <= {*seen}
        # of a name that breaks off Python takes the last letter off; we tell it as it stands
        missed += [f"{seed}: {name}" for name in told if not known and not any(one.startswith(name) for one in seen)]
    json.dump([met, missed[:MAX_TOLD]], sys.stdout)


if __name__ == "__main__":
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - warnings of objects that were half made
    main(int(sys.argv[1]), int(sys.argv[2]))
