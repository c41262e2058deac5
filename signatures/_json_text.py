"""JSON files: one whole object and its exact end, by bounded reads. Shared by formats; not a format itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from imaging.window import Window
from signatures.format import SectorProbe

LOOK_BYTES: Final = 64 << 10
READ_BYTES: Final = (LOOK_BYTES, 1 << 20, 8 << 20, 64 << 20)  # tokenizer.json of 256,000 words takes some 35 MiB
ANY_TEXT: Final = bytes([*b"\t\n\r", *range(0x20, 0x100)])
STYLES: Final = (  # how writers begin an object: on one line, or indented by so many blanks
    ("line", b""),
    ("indent-1", b"\n "),
    ("indent-2", b"\n  "),
    ("indent-4", b"\n    "),
    ("tab", b"\n\t"),
    ("windows", b"\r\n  "),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonText:
    """A whole JSON object.

    Attributes:
        value: it, as Python has it.
        size_bytes: its text, with one line end behind it where there is one.
    """

    value: dict[str, Any]
    size_bytes: int


def probes(*letters: bytes) -> tuple[SectorProbe, ...]:
    """Return probes for objects whose first key begins with one of these letters, then one of these, and so on."""
    key = letters + (ANY_TEXT,) * (3 - len(letters))
    return tuple(
        SectorProbe(allowed=(b"{", *(bytes((blank,)) for blank in blanks), b'"', *key), name=name)
        for name, blanks in STYLES
    )


def read_object(window: Window, wanted: Callable[[str], bool]) -> JsonText | str:
    """Return the JSON object at the window's start, or the code of why there is none.

    Args:
        window: runs on as far as the source does.
        wanted: asked about the first 64 KiB before more is read: whether they can belong to a file looked for.
    """
    text = _read_text(window, LOOK_BYTES)
    if text[:1] != b"{":
        return "not-json"
    if not wanted(text.decode("utf-8", errors="replace")):
        return "no-known-keys"
    for limit_bytes in READ_BYTES:  # most are short, and what follows them may be text, too
        text = _read_text(window, limit_bytes)
        parsed = _parse(text, cut=len(text) == limit_bytes)
        if parsed != "cut":
            return parsed
    return "too-long"


def _parse(text: bytes, *, cut: bool) -> JsonText | str:
    """Return the object that begins the text, or a code; "cut" where the text may go on and the object with it."""
    decoded = text.decode("utf-8", errors="surrogateescape")  # what follows the object need not be text
    try:
        value, end = json.JSONDecoder().raw_decode(decoded)
        size_bytes = len(decoded[:end].encode())
    except RecursionError:
        return "too-deep"
    except UnicodeEncodeError:
        return "not-utf-8"
    except json.JSONDecodeError as fault:
        near_end = fault.pos + LOOK_BYTES > len(decoded) or fault.msg.startswith("Unterminated string")
        return "cut" if cut and near_end else "not-json"
    except ValueError:  # a number of too many digits
        return "not-json"
    return JsonText(value=value, size_bytes=size_bytes + _line_end_bytes(text, size_bytes))


def _read_text(window: Window, limit_bytes: int) -> bytes:
    """Return the bytes from the start up to a zero, which JSON never holds, or to the limit."""
    pieces = []
    for piece in window.chunks(0, limit_bytes, chunk_bytes=min(limit_bytes, 1 << 20)):
        text, zero, _ = piece.partition(b"\0")
        pieces.append(text)
        if zero:
            break
    return b"".join(pieces)


def _line_end_bytes(text: bytes, at: int) -> int:
    return 2 if text[at : at + 2] == b"\r\n" else int(text[at : at + 1] == b"\n")


def whole_number(value: object) -> int | None:
    """Return a JSON number that is a size or a count, also where it was written as 5.0; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 63:
        return None
    return int(value)
