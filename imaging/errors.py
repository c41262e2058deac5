"""Errors: one exception tree; each class carries the exit code that the command line ends with.

A bad *candidate* is a value (`signatures.verdict.rejected`); these are for a bad *world*.
"""

from __future__ import annotations

from typing import ClassVar


class CarverError(Exception):
    """Anything the user must be told in one plain line."""

    exit_code: ClassVar[int] = 1


class UsageError(CarverError):
    """The command was put together wrongly."""

    exit_code = 2


class InputError(CarverError):
    """The source, image, map or case cannot be used as it is (missing, refused, mounted, not raw)."""

    exit_code = 3


class MapfileError(InputError):
    """A mapfile breaks its grammar, or belongs to something else."""


class ReadFault(InputError):  # noqa: N818 - the field's word
    """Bytes of a source could not be read.

    Attributes:
        offset_bytes: where the failing read began.
        size_bytes: how many bytes were asked for.
        errno: the system's error number (5, EIO, is a bad sector), or None.
        prefix: the bytes that came before the fault, from `offset_bytes` on; nothing where the read failed whole.
    """

    def __init__(
        self, message: str, *, offset_bytes: int, size_bytes: int, errno: int | None = None, prefix: bytes = b""
    ) -> None:
        super().__init__(message)
        self.offset_bytes = offset_bytes
        self.size_bytes = size_bytes
        self.errno = errno
        self.prefix = prefix


class ReadTimeout(ReadFault):
    """The drive did not answer in time: the read hangs in the kernel, and says nothing of the sectors it asked for."""


class OutputError(CarverError):
    """A result could not be written (no space, no permission, would overwrite)."""

    exit_code = 4


class DestinationFullError(OutputError):
    """The destination has no room left: everything done so far is saved."""


class StrictShortfall(CarverError):  # noqa: N818 - not a fault, a bar that was not reached
    """With `--strict`: unread sectors or damaged files remain, or a score is below its bar."""

    exit_code = 10


class LimitReached(CarverError):  # noqa: N818 - the user's wish, not a fault
    """A limit that the user has set ended the imaging (-X, -e, -E, -T …); all is saved, the same command goes on."""

    exit_code = 11


class Interrupted(CarverError):  # noqa: N818 - the user's wish, not a fault
    """Stopped by a signal; state is saved and the same command goes on."""

    exit_code = 130


class BudgetExceeded(CarverError):  # noqa: N818 - a limit, made a verdict by judge
    """A Window was asked for more bytes or steps than its candidate may cost."""
