"""Zeros at the end of a safetensors file: the mark of a save that was interrupted.

The reference writer makes the file full-length first and writes the tensors in order, so a save that stopped leaves
the right length and zeros from some point on. Zeros alone prove nothing: biases, LoRA's second matrices and padded
vocabularies are zero by design. So the tensors are called damaged only where design hardly explains it: at least two
tensors and 64 KiB are concerned, and either the zeros set in within a tensor at a sector's edge (where a lost write
ends, and a trained value does not), or two or more whole tensors, a large matrix among them, are nothing but zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imaging.window import Window
from signatures._safetensors_header import Entry

MIN_TAIL_BYTES = 1 << 16
MIN_PARTIAL_BYTES = 4096  # of a tensor that ends in zeros by chance or by padding
FIRST_CHUNK_BYTES = 4096  # most files end in something
ZEROS = bytes(1 << 20)
SECTOR_BYTES = 512
MAX_WORD_BYTES = 16  # a number just before the edge may itself end in zero bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroTail:
    """What the zeros at the end cover.

    Attributes:
        start_bytes: first zero, in the file.
        names: the tensors that are wholly zero, and the one in which the zeros begin.
        interrupted: whether they speak of a save that was interrupted.
    """

    start_bytes: int
    names: frozenset[str]
    interrupted: bool


def find_zero_tail(window: Window, data_start: int, entries: Sequence[Entry]) -> ZeroTail | None:
    """Return the zero tail, or None where it is short or concerns one tensor only; `entries` sorted by offset.

    Reads backwards and stops at the first byte that is not zero.
    """
    size_bytes = data_start + entries[-1].end
    start = _zeros_from(window, data_start, size_bytes)
    if size_bytes - start < MIN_TAIL_BYTES:
        return None
    first = start - data_start
    whole = [entry for entry in entries if entry.begin >= first and entry.end > entry.begin]
    partial = [entry for entry in entries if entry.begin < first <= entry.end - MIN_PARTIAL_BYTES]
    if len(whole) + len(partial) < 2:
        return None
    on_edge = bool(partial) and -start % SECTOR_BYTES < MAX_WORD_BYTES
    matrices = [entry for entry in whole if len(entry.shape) >= 2 and entry.end - entry.begin >= MIN_TAIL_BYTES]
    names = frozenset(entry.name for entry in (*whole, *partial))
    return ZeroTail(start_bytes=start, names=names, interrupted=on_edge or (len(whole) >= 2 and bool(matrices)))


def _zeros_from(window: Window, low: int, high: int) -> int:
    """Return where the zeros begin that end `[low, high)`."""
    chunk_bytes = FIRST_CHUNK_BYTES
    while high > low:
        first = max(low, high - chunk_bytes)
        piece = window.read_at(first, high - first)
        if piece != memoryview(ZEROS)[: len(piece)]:
            return first + len(piece.rstrip(b"\0"))
        high, chunk_bytes = first, len(ZEROS)
    return low
