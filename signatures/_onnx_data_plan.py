"""ONNX external data, as its model tells it: which tensor lies where in which file.

What a model tells is another's word: numbers are bounded, tensors that overlap in part or whose length is not that of
their type and shape make a file that is not looked for, with the reason. Source: onnx's ExternalData.md: `offset` is 0
and `length` the rest of the file where they are not told; `checksum` is the SHA-1 of the whole file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

from signatures._onnx_schema import DATA_TYPES

NUMBER = re.compile(r"[0-9]{1,19}")
SHA1 = re.compile(r"[0-9a-fA-F]{40}")
BITS: Final = dict(DATA_TYPES.values())
MAX_FILE_BYTES = 1 << 46
MAX_DIMENSIONS = 64
MAX_FILES = 4096  # one for each tensor, mostly
BLOCK_BYTES = 4096  # of nearly every file system


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One tensor's place in a data file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int
    size_bytes: int

    @property
    def end_bytes(self) -> int:
        """First byte after it."""
        return self.offset_bytes + self.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A data file, as its model tells it.

    Attributes:
        location: the path beside the model, as it stands there.
        pieces: its tensors, by offset.
        sha1: of the whole file, in lower case, where it is told, else "".
        refused: why it cannot be looked for, else "".
    """

    location: str
    pieces: tuple[Piece, ...]
    sha1: str = ""
    refused: str = ""

    @property
    def size_bytes(self) -> int:
        """The least length that it must have."""
        return max((piece.end_bytes for piece in self.pieces), default=0)


def data_files(external: Iterable[Mapping[str, Any]]) -> list[DataFile]:
    """Return the data files of a model in the order in which it names them.

    Args:
        external: the entries of the fact `external_data`.
    """
    told: dict[str, list[Mapping[str, Any]]] = {}
    for entry in external:
        location = entry.get("location")
        if isinstance(location, str) and (location in told or len(told) < MAX_FILES):
            told.setdefault(location, []).append(entry)
    return [_data_file(location, entries) for location, entries in told.items()]


def least_sizes(external: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return the least length of each data file, by its location."""
    return {file.location: file.size_bytes for file in data_files(external)}


def _data_file(location: str, entries: Sequence[Mapping[str, Any]]) -> DataFile:
    pieces: list[Piece] = []
    refused = "" if location else "it has no name"
    for entry in entries:
        piece = _piece(entry)
        if isinstance(piece, str):
            refused = refused or f"{str(entry.get('tensor'))[:80]!r}: {piece}"
        elif piece.size_bytes:
            pieces.append(piece)
    pieces.sort(key=lambda piece: (piece.offset_bytes, piece.end_bytes))
    sums = {str(entry["checksum"]).lower() for entry in entries if SHA1.fullmatch(str(entry.get("checksum")))}
    return DataFile(
        location=location,
        pieces=tuple(pieces),
        sha1=sums.pop() if len(sums) == 1 else "",
        refused=refused or _overlap(pieces) or ("" if pieces else "no tensor with a length is in it"),
    )


def _piece(entry: Mapping[str, Any]) -> Piece | str:
    """Return a tensor's place, or why it has none."""
    numbers = [str(entry.get(key, "0" if key == "offset" else "")) for key in ("offset", "length")]
    dtype, shape = str(entry.get("dtype")), tuple(entry.get("shape", ()))
    if not NUMBER.fullmatch(numbers[0]) or (numbers[1] and not NUMBER.fullmatch(numbers[1])):
        return "its offset or length is no number"
    if not BITS.get(dtype) or len(shape) > MAX_DIMENSIONS:
        return f"values of type {dtype} have no fixed size"
    expected = (math.prod(shape) * BITS[dtype] + 7) // 8
    size_bytes = int(numbers[1]) if numbers[1] else expected
    if size_bytes != expected:
        return "its length is not that of its type and shape"
    if int(numbers[0]) + size_bytes > MAX_FILE_BYTES:
        return "it would lie beyond the end of any drive"
    return Piece(
        name=str(entry.get("tensor", "")),
        dtype=dtype,
        shape=shape,
        offset_bytes=int(numbers[0]),
        size_bytes=size_bytes,
    )


def _overlap(pieces: Sequence[Piece]) -> str:
    """Return that two tensors share bytes; the very same ones may (tied weights)."""
    for before, piece in pairwise(pieces):
        same = (before.offset_bytes, before.end_bytes) == (piece.offset_bytes, piece.end_bytes)
        if piece.offset_bytes < before.end_bytes and not same:
            return f"its tensors {before.name[:80]!r} and {piece.name[:80]!r} overlap"
    return ""


def strung(files: Sequence[DataFile], block_bytes: int) -> DataFile:
    """Return files that were written one after the other as if they were one, each from a block's start."""
    at, pieces = 0, list[Piece]()
    for file in files:
        pieces += (replace(piece, offset_bytes=at + piece.offset_bytes) for piece in file.pieces)
        at += -(-file.size_bytes // block_bytes) * block_bytes
    return DataFile(location="", pieces=tuple(pieces))


def starts_of(files: Sequence[DataFile], block_bytes: int) -> Iterator[int]:
    """Yield where each of the files begins in what `strung` returns."""
    at = 0
    for file in files:
        yield at
        at += -(-file.size_bytes // block_bytes) * block_bytes
