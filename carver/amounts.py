"""Amounts: numbers with their units, as people read them."""

from __future__ import annotations


def human_size(size_bytes: int) -> str:
    """Return a size in binary units, e.g. "1.2 MiB"; never rounded up into a unit it does not reach."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    exponent = min((size_bytes.bit_length() - 1) // 10, 6)
    tenths = size_bytes * 10 >> 10 * exponent
    return f"{tenths // 10:,}.{tenths % 10} {'KMGTPE'[exponent - 1]}iB"
