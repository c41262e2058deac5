"""Closing: what holds something that must be given back, and gives it back at the end of a `with`."""

from __future__ import annotations

from typing import Self


class Closing:
    """A base for classes with a `close` that may be called more than once."""

    __slots__ = ()

    def close(self) -> None:
        """Give back what is held."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
