"""Tensors: what the user came for. Name, dtype, shape and byte ranges inside the file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from imaging.extent import Layout, layout_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One stored array.

    Attributes:
        name: as the format's own reference library names it (HDF5: path without the leading slash).
        dtype: numpy's name where it has one ("float32", "int64", "bool"), else ml_dtypes' ("bfloat16").
        shape: row-major; () for a scalar.
        layout: where its bytes are in the file, in order; more than one extent for chunked data; empty when nothing is
            stored (fill value only, data outside the file).
        grade: a `signatures.verdict.Grade` value as text; "INTACT" only under a checksum that agrees.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: Layout
    grade: str = "CONSISTENT"

    @property
    def offset_bytes(self) -> int | None:
        """Where its first byte is in the file; None when nothing is stored."""
        return self.layout[0].offset_bytes if self.layout else None

    @property
    def size_bytes(self) -> int:
        """How many bytes of the file it takes."""
        return layout_bytes(self.layout)


def names_digest(names: Iterable[str]) -> str:
    """Return the SHA-256 of a set of tensor names: how an index's shard and a file are known to hold the same ones."""
    told = "\0".join(sorted(set(names)))
    return hashlib.sha256(told.encode("utf-8", errors="surrogatepass")).hexdigest()
