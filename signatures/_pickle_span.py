"""Where a pickle ends that lies loose in a file: found by walking its opcodes, never by searching for its last byte."""

from __future__ import annotations

from typing import Final

from imaging.window import Window
from signatures._pickle_opcodes import MAX_PICKLE_BYTES, OverlongError, opcodes

FIRST_BYTES: Final = 1 << 16
GROWTH: Final = 16


def pickle_at(window: Window, at_bytes: int) -> tuple[bytes, str]:
    """Return a pickle's bytes, STOP included, and ""; or what there is and why it has no end.

    The reasons: "pickle-cut" (the window ends first), "pickle-broken" (a byte is no opcode), "pickle-length" (longer
    than is read).
    """
    limit_bytes = FIRST_BYTES
    while True:
        raw = window.read_at(at_bytes, limit_bytes)
        end, fault = _walk(raw)
        if end or fault:
            return raw[:end] if end else raw, fault
        if len(raw) < limit_bytes:
            return raw, "pickle-cut"
        if limit_bytes >= MAX_PICKLE_BYTES:
            return raw, "pickle-length"
        limit_bytes = min(limit_bytes * GROWTH, MAX_PICKLE_BYTES)


def _walk(raw: bytes) -> tuple[int, str]:
    """Return where the pickle ends, or 0 and why no more bytes help, or 0 and ""."""
    try:
        for name, _, end in opcodes(raw):
            if name == "STOP":
                return end, ""
    except KeyError:
        return 0, "pickle-broken"
    except OverlongError:
        return 0, "pickle-length"
    except (ValueError, IndexError):  # an argument that is cut, or no number: more bytes tell
        return 0, ""
    return 0, ""
