"""Ownership: what a run through sudo creates belongs to the user who typed the command, not to root."""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


def give_to_caller(path: Path) -> None:
    """Hand a file or folder that this run created to the user behind sudo; without sudo, do nothing.

    A symbolic link itself is handed over, never what it points to. A file system that keeps no owners (FAT, some
    network shares) is no error: the file stays as it is.
    """
    caller = _caller()
    if caller is None:
        return
    try:
        os.chown(path, *caller, follow_symlinks=False)
    except OSError as fault:
        log.info("%s stays with root: %s", path, fault.strerror)


def _caller() -> tuple[int, int] | None:
    """Return the user and group behind sudo, or None when there is no sudo or its variables are no numbers."""
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() != 0 or not (user.isdecimal() and group.isdecimal()):
        return None
    return int(user), int(group)
