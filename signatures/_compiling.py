"""Compiling: numba's functions compiled at once for known types, kept where there is a place, and told of.

It is only the modules of kernels that import this: numba takes most of a second to load.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba.core import event

Bytes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]
BYTES = numba.types.Array(numba.types.uint8, 1, "C", readonly=True)  # a writable array passes as well
MUTABLE = numba.types.Array(numba.types.uint8, 1, "C")
COUNTS = numba.types.Array(numba.types.int64, 1, "C")
COUNTS_2D = numba.types.Array(numba.types.int64, 2, "C")

log = logging.getLogger(__name__)


class Compiler(event.Listener):  # type: ignore[misc]
    """Makes decorators that compile; says once that it compiles: numba's event comes only where nothing fits.

    Args:
        what: is compiled, in the words of the message.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._said = self._said_unkept = False

    def __call__(self, result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # noqa: ANN401
        """Return a decorator that compiles for these types of numba's, and keeps the outcome if there is a place."""

        def compile_now(function: Callable[..., Any]) -> Callable[..., Any]:
            with event.install_listener("numba:compile", self):
                try:
                    kept: Callable[..., Any] = numba.njit(result(*arguments), nogil=True, cache=True)(function)
                    return kept
                except (RuntimeError, OSError) as fault:  # no folder can be written, or the disk is full
                    self._tell_unkept(fault)
                    unkept: Callable[..., Any] = numba.njit(result(*arguments), nogil=True)(function)
                    return unkept

        return compile_now

    def on_start(self, event: object) -> None:
        """Say that something is compiled."""
        if not self._said:
            log.info("compiling %s for this processor: some seconds, once", self._what)
            self._said = True

    def on_end(self, event: object) -> None:
        """Say nothing more."""

    def _tell_unkept(self, fault: Exception) -> None:
        if not self._said_unkept:
            advice = "name a folder that can be written in NUMBA_CACHE_DIR, and the next run starts at once"
            log.info("what is compiled cannot be kept (%s); %s", fault, advice)
            self._said_unkept = True
