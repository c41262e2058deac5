"""Data files of a TensorFlow checkpoint: which bytes the index asks for, and where on a drive they are.

A data file has no magic and no header. Its index tells each tensor's place, length and masked CRC-32C, so a file's
start is where a small tensor has the right checksum; others confirm it. Strings are under a checksum of their own kind
(tensor_bundle.cc, WriteStringTensor): over the lengths as 32-bit numbers, the lengths' checksum, and the bytes. Of a
string by itself, as each object graph is, the index's length tells the first bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from imaging.extent import span
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
STRING_CRC_BYTES = 4  # of the lengths, before the first string
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
    if not MIN_PROBE_BYTES <= entry.size_bytes <= MAX_PROBE_BYTES:
        return False
    if not entry.item_bytes:
        return bool(_string_head(entry))
    return unmask(entry.masked_crc32c) != crc32c_of([bytes(entry.size_bytes)])


def _string_head(entry: BundleEntry) -> bytes:
    """Return what a string by itself begins with: its length, and that length's checksum; nothing for other tensors."""
    if entry.dtype != "string" or math.prod(entry.shape) != 1:
        return b""
    for varint_bytes in range(1, 5):
        length = entry.size_bytes - varint_bytes - STRING_CRC_BYTES
        if length >= 0 and max(1, -(-length.bit_length() // 7)) == varint_bytes:
            groups = [length >> 7 * at & 0x7F | 0x80 for at in range(varint_bytes)]
            checked = mask(crc32c_of([length.to_bytes(4, "little")]))
            return bytes([*groups[:-1], groups[-1] & 0x7F]) + checked.to_bytes(STRING_CRC_BYTES, "little")
    return b""


def crc32c_of(pieces: Iterable[bytes], so_far: int = 0) -> int:
    """Return the CRC-32C of all pieces, one behind the other."""
    from signatures.kernels.checksums import crc32c

    for piece in pieces:
        so_far = crc32c(np.frombuffer(piece, dtype=np.uint8), so_far)
    return so_far


def find_data(source: Source, probes: Sequence[BundleEntry], low: int, high: int) -> Iterator[tuple[int, int]]:
    """Yield where in `[low, high)` a data file may start, at sectors, and how many probes fit there.

    The first one does, and one more if there are more. Reads 4 bytes to 1 MiB a sector, by pieces of 8 MiB.
    """
    first = probes[0]
    low = -(-low // SECTOR_BYTES) * SECTOR_BYTES
    for start in range(low, high, PIECE_BYTES):
        end = min(high, start + PIECE_BYTES - SECTOR_BYTES + 1)
        piece = source.read_at(start + first.offset_bytes, end - start + first.size_bytes)
        for at in _places(np.frombuffer(piece, dtype=np.uint8), first).tolist():
            fitting = sum(_fits(source, start + at, probe) for probe in probes)
            if fitting >= min(2, len(probes)):
                yield start + at, fitting


def _places(data: npt.NDArray[np.uint8], probe: BundleEntry) -> npt.NDArray[np.int64]:
    """Return at which sectors a tensor seems to lie: numbers with its checksum, strings with the length's."""
    from signatures.kernels.checksums import find_crc32c

    head = _string_head(probe)
    if not head:
        found = np.zeros(MAX_FOUND, dtype=np.int64)
        wanted = unmask(probe.masked_crc32c)
        return found[: find_crc32c(data, probe.size_bytes, wanted, SECTOR_BYTES, found)]
    sectors = np.flatnonzero(data[: max(0, len(data) - len(head) + 1) : SECTOR_BYTES] == head[0]) * SECTOR_BYTES
    for at, byte in enumerate(head):
        sectors = sectors[data[sectors + at] == byte]
    return sectors[:MAX_FOUND]


def _fits(source: Source, start: int, entry: BundleEntry) -> bool:
    file = Window(source, (span(start, max(start, source.size_bytes)),))
    return entry.offset_bytes + entry.size_bytes <= file.size_bytes and is_proven(file, entry) is True


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
