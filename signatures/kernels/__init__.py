"""Kernels: checksums and surveys that Python is too slow for, compiled by numba without the interpreter's lock.

Import them inside the function that needs them: numba alone takes most of a second to load. The import compiles
everything (or loads it from numba's cache, where there is a place for one) and calls it once: a process that has given
up its privileges since could do neither. Arrays of bytes in, a number out; nothing here allocates. Each
checksum has a plain Python twin in `tests/signatures/test_kernels.py`.
"""

from __future__ import annotations

from signatures.kernels import checksums, surveys

__all__ = ["checksums", "surveys"]
