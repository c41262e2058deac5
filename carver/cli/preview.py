"""Preview: a few lines of the data read last, in hex and ASCII (--data-preview)."""

from __future__ import annotations

from imaging.pump import Piece

LINE_BYTES = 16


class Preview:
    """Keeps the start of the latest piece that was read; a subscriber of the pump."""

    def __init__(self, lines: int) -> None:
        """Begin; 0 lines: nothing is kept."""
        self._kept_bytes = lines * LINE_BYTES
        self._offset_bytes, self._data = 0, b""

    def __call__(self, piece: Piece) -> None:
        """Take a piece."""
        if piece.data:
            self._offset_bytes, self._data = piece.extent.offset_bytes, bytes(piece.data[: self._kept_bytes])

    def lines(self) -> list[str]:
        """Return it, 16 bytes a line."""
        return [
            _line(self._offset_bytes + at, self._data[at : at + LINE_BYTES])
            for at in range(0, len(self._data), LINE_BYTES)
        ]


def _line(offset_bytes: int, data: bytes) -> str:
    shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
    return f"{offset_bytes:012x}  {data.hex(' '):<{3 * LINE_BYTES - 1}}  {shown}"
