"""Heads of files and records that stand at sector edges where a tensor's bytes should be."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

SECTOR_BYTES: Final = 512
MAX_FOUND: Final = 64
SIGNATURES: Final = {
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
    b"\x93NUM": "a NumPy array",
    b"PK\3\4": "a zip's record",
    b"\x7fELF": "a program",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff\xe0": "a JPEG image",
    b"\xff\xd8\xff\xe1": "a JPEG image",
    b"%PDF": "a PDF document",
    b"\x1f\x8b\x08\0": "a gzip stream",
    b"\x28\xb5\x2f\xfd": "a Zstandard stream",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"SQLi": "an SQLite database",
    b"RIFF": "a RIFF file",
    b"OggS": "an Ogg page",
    b"FILE": "an NTFS file record",
    b"INDX": "an NTFS index record",
}
_WORDS: Final = np.array(sorted(int.from_bytes(head, "little") for head in SIGNATURES), dtype=np.uint32)


def find_signatures(data: npt.NDArray[np.uint8], offset_bytes: int, skip: int) -> list[tuple[int, str]]:
    """Return (offset, what it is) of each head at a sector's edge; 4 bytes of each 512 are read.

    Args:
        data: uint8, shape (n,).
        offset_bytes: where `data` begins in the file.
        skip: how many bytes before the first sector's edge.
    """
    sectors = (len(data) - skip) // SECTOR_BYTES
    if sectors <= 0:
        return []
    heads = data[skip : skip + sectors * SECTOR_BYTES].reshape(sectors, SECTOR_BYTES)[:, :4]
    words = np.ascontiguousarray(heads).view("<u4").ravel()
    found = _WORDS[np.minimum(np.searchsorted(_WORDS, words), len(_WORDS) - 1)] == words
    return [
        (offset_bytes + skip + number * SECTOR_BYTES, SIGNATURES[int(words[number]).to_bytes(4, "little")])
        for number in np.flatnonzero(found)[:MAX_FOUND].tolist()
    ]
