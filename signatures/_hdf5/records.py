"""Records: equal rows of little-endian integers of odd widths, taken apart at numpy's speed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rows(content: bytes, widths: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the rows of `content` as tuples; `widths` are bytes a column, each 1 to 8; a rest is left out."""
    row_bytes = sum(widths)
    count = len(content) // row_bytes
    table = np.frombuffer(content, dtype=np.uint8, count=count * row_bytes).reshape(count, row_bytes)
    columns: list[list[int]] = []
    at = 0
    for width in widths:
        wide = np.zeros((count, 8), dtype=np.uint8)
        wide[:, :width] = table[:, at : at + width]
        columns.append(wide.view("<u8").reshape(count).tolist())
        at += width
    return list(zip(*columns, strict=True))


def width_of(limit: int) -> int:
    """Return how many bytes the library takes to encode numbers up to `limit`."""
    return max(1, (limit.bit_length() + 7) // 8)
