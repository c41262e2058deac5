"""Opening: what can be told of a source from its path alone, before anything is opened."""

from __future__ import annotations

import stat
from pathlib import Path

from carver.destinations import own_paths_notices
from carver.preflight import refuse
from imaging.encodings import Caution, recognise_path
from imaging.errors import InputError


def check_path(path: Path) -> None:
    """Refuse what would answer an open with the wrong words, or never, and a source that we ourselves would write to.

    Raises:
        InputError: a bundle folder, the first of several pieces, a pipe.
        OutputError: the temporary folder or the cache of compiled code lies on the source.
    """
    try:
        is_pipe = stat.S_ISFIFO(path.stat().st_mode)
    except OSError:
        return  # opening it says why
    refuse(own_paths_notices(path))
    recognition = recognise_path(path)
    if recognition is not None and recognition.verdict is Caution.REFUSE:
        raise InputError(f"{recognition.message}; {recognition.advice}")
    if is_pipe:
        raise InputError(
            f"{path} is a pipe, and carver reads back and forth; save what comes out of it to a file first"
        )
