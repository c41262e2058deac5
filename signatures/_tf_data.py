"""Data files of a TensorFlow checkpoint: which bytes the index asks for, and where on a drive they are.

A data file has no magic and no header. Its index tells each tensor's place, length and masked CRC-32C, so a file's
start is where a small tensor has the right checksum; a second tensor confirms it. Strings are under a checksum of
their own kind (tensor_bundle.cc, WriteStringTensor): over the lengths as 32-bit numbers, the lengths' checksum, and
the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from imaging.source import Source
from imaging.window import Window
from signatures._table import TableError, mask, read_varint, unmask
from signatures._tf_bundle import BundleEntry

SECTOR_BYTES = 512
PIECE_BYTES = 8 << 20
MAX_FOUND = 1024  # places a piece that fit the first tensor
MIN_PROBE_BYTES = 4
GOOD_PROBE_BYTES = 16  # a counter of 8 bytes looks the same in many places
MAX_PROBE_BYTES = 1 << 20
MAX_PROBES = 8
MAX_STRINGS = 1 << 20
MAX_STRING_BYTES = 1 << 30


def shard_bytes(entries: Iterable[BundleEntry]) -> dict[int, int]:
    """Return how long each data file is, by its number."""
    sizes: dict[int, int] = {}
    for entry in entries:
        sizes[entry.shard] = max(sizes.get(entry.shard, 0), entry.offset_bytes + entry.size_bytes)
    return {shard: size for shard, size in sizes.items() if size}


def probes_of(entries: Iterable[BundleEntry], shard: int) -> list[BundleEntry]:
    """Return the tensors of a data file that are best to look for: small, and not zeros, which are everywhere."""
    fitting = [entry for entry in entries if entry.shard == shard and _is_probe(entry)]
    fitting.sort(key=lambda entry: (entry.size_bytes < GOOD_PROBE_BYTES, entry.size_bytes, entry.offset_bytes))
    return fitting[:MAX_PROBES]


def _is_probe(entry: BundleEntry) -> bool:
    if not entry.item_bytes or not MIN_PROBE_BYTES <= entry.size_bytes <= MAX_PROBE_BYTES:
        return False
    return unmask(entry.masked_crc32c) != crc32c_of([bytes(entry.size_bytes)])


def crc32c_of(pieces: Iterable[bytes], so_far: int = 0) -> int:
    """Return the CRC-32C of all pieces, one behind the other."""
    from signatures.kernels import crc32c

    for piece in pieces:
        so_far = crc32c(np.frombuffer(piece, dtype=np.uint8), so_far)
    return so_far


def find_data(source: Source, probes: Sequence[BundleEntry], low: int, high: int) -> Iterator[int]:
    """Yield where in `[low, high)` a data file starts, at sectors: its first probe fits, and one more if it has more.

    Reads 4 bytes to 1 MiB a sector, by pieces of 8 MiB.
    """
    from signatures.kernels import find_crc32c

    first, found = probes[0], np.zeros(MAX_FOUND, dtype=np.int64)
    wanted = unmask(first.masked_crc32c)
    low = -(-low // SECTOR_BYTES) * SECTOR_BYTES
    for start in range(low, high, PIECE_BYTES):
        end = min(high, start + PIECE_BYTES - SECTOR_BYTES + 1)
        piece = source.read_at(start + first.offset_bytes, end - start + first.size_bytes)
        data = np.frombuffer(piece, dtype=np.uint8)
        count = find_crc32c(data, first.size_bytes, wanted, SECTOR_BYTES, found)
        for at in found[:count].tolist():
            if len(probes) == 1 or any(_fits(source, start + at, probe) for probe in probes[1:]):
                yield start + at


def _fits(source: Source, start: int, entry: BundleEntry) -> bool:
    raw = source.read_at(start + entry.offset_bytes, entry.size_bytes)
    return len(raw) == entry.size_bytes and crc32c_of([raw]) == unmask(entry.masked_crc32c)


def is_proven(window: Window, entry: BundleEntry) -> bool | None:
    """Tell whether a tensor's bytes agree with its checksum; None where the kind of checksum is not known.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    if entry.dtype == "string":
        return _strings_proven(window, entry)
    if not entry.item_bytes:
        return None
    return crc32c_of(window.chunks(entry.offset_bytes, entry.size_bytes)) == unmask(entry.masked_crc32c)


def _strings_proven(window: Window, entry: BundleEntry) -> bool:
    """Check strings: varint lengths, the lengths' masked checksum, the strings one behind the other."""
    count = math.prod(entry.shape)
    if count > MAX_STRINGS or entry.size_bytes > MAX_STRING_BYTES:
        return False
    raw = window.read_at(entry.offset_bytes, entry.size_bytes)
    at, lengths = 0, list[int]()
    try:
        for _ in range(count):
            length, at = read_varint(raw, at)
            lengths.append(length)
    except TableError:
        return False
    if at + 4 + sum(lengths) != len(raw):
        return False
    numbers = b"".join(length.to_bytes(4 if length < 1 << 32 else 8, "little") for length in lengths)
    of_lengths = crc32c_of([numbers])
    told = raw[at : at + 4]
    if mask(of_lengths) != int.from_bytes(told, "little"):
        return False
    return crc32c_of([told, raw[at + 4 :]], of_lengths) == unmask(entry.masked_crc32c)
