"""Anchors: HDF5's structures by their signatures and version bytes, wherever they lie in a file.

Source: "HDF5 File Format Specification Version 3.0", sections III and IV: each begins with four letters, most go on
with a version, and a type where it says what is listed. Left out is what lies beside one of these: the inner nodes of
trees and heaps, and the index arrays of chunks, to which an object header leads.
"""

from __future__ import annotations

from typing import Final

from signatures.format import ANY, Asked, Pattern

_VERSION_0: Final = b"\0"
_TREE_TYPES: Final = bytes(range(1, 12))
_MESSAGE_TYPES: Final = bytes(range(0x19))


def _anchor(name: str, constant: bytes, *after: bytes) -> Pattern:
    asked: Asked = after
    return Pattern(bytes=constant, name=f"anchor {name}", after=asked, anchor=True)


ANCHORS: Final = (
    _anchor("group tree", b"TREE\0", bytes(range(32)), ANY, ANY),  # level, then entries used
    _anchor("chunk tree", b"TREE\1", bytes(range(32)), ANY, ANY),
    _anchor("symbol table node", b"SNOD\1\0", ANY, ANY),
    _anchor("local heap", b"HEAP\0\0\0\0", ANY),
    _anchor("global heap collection", b"GCOL\1\0\0\0", bytes(range(0, 256, 8))),  # of a multiple of 8 bytes
    _anchor("object header", b"OHDR\2", bytes(range(64)), ANY),
    _anchor("object header continuation", b"OCHK", _MESSAGE_TYPES, ANY, ANY, bytes(range(128))),
    _anchor("fractal heap", b"FRHP\0", ANY, bytes(range(17))),  # bytes of an identifier: 7 to 4,096
    _anchor("fractal heap block", b"FHDB\0", ANY, ANY),
    _anchor("tree", b"BTHD\0", _TREE_TYPES, ANY),
    _anchor("tree leaf", b"BTLF\0", _TREE_TYPES, ANY),
)
