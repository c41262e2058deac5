"""The integers of a FlexBuffers map, as options of TFLite operators hold them.

The last two bytes tell the root's type and width; offsets point backwards. Facts: FlexBuffers' "Internals"
(flatbuffers.dev).
"""

from __future__ import annotations

from typing import Final

MAX_KEYS: Final = 64
MAX_KEY_BYTES: Final = 64
INT, UINT, MAP = 1, 2, 9  # types: the upper six bits of a type's byte, the lower two its width
WIDTHS: Final = (1, 2, 4, 8)


class _OutsideError(Exception):
    """An offset leads out of the bytes."""


def map_integers(raw: bytes) -> dict[str, int]:
    """Return the unsigned integers of the map that is the root, by their keys; none when it is no map."""
    if len(raw) < 3 or raw[-1] not in WIDTHS or raw[-2] >> 2 != MAP:
        return {}
    try:
        place = len(raw) - 2 - raw[-1]
        return _integers(raw, place - _number(raw, place, raw[-1]), WIDTHS[raw[-2] & 3])
    except _OutsideError:
        return {}


def _integers(raw: bytes, values: int, width: int) -> dict[str, int]:
    """Return the integers of the map whose values begin there: before them their count, and where the keys are."""
    count = _number(raw, values - width, width)
    key_width = _number(raw, values - 2 * width, width)
    keys = values - 3 * width - _number(raw, values - 3 * width, width)
    if count > MAX_KEYS or key_width not in WIDTHS:
        return {}
    found = {}
    for index in range(count):
        place = keys + index * key_width
        start = place - _number(raw, place, key_width)
        kind = _number(raw, values + count * width + index, 1) >> 2
        if start >= 0 and kind in (INT, UINT):
            key = raw[start : start + MAX_KEY_BYTES].partition(b"\0")[0].decode(errors="replace")
            found[key] = _number(raw, values + index * width, width)
    return found


def _number(raw: bytes, at: int, width: int) -> int:
    if not 0 <= at <= len(raw) - width:
        raise _OutsideError
    return int.from_bytes(raw[at : at + width], "little")
