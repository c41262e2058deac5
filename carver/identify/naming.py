"""Naming: the name that a recovered file gets, from what is inside it, made safe for any file system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import PurePosixPath

MAX_NAME_BYTES = 120  # leaves room for a suffix and a distinguishing offset under the usual limit of 255
MAX_SUFFIX_CHARACTERS = 16
MAX_DEPTH = 8  # folders
SAFE = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+=@ ")
OWN_LEAD = re.compile("__[0-9A-Za-z]")
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "123456789¹²³")}


def safe_name(text: str) -> str:
    """Return `text` as a file name: letters and digits of any script stay, everything else becomes "_".

    No separators, control or format characters (bidi overrides), no leading dots or dashes, no trailing dots or
    spaces, no names that Windows reserves, bounded in UTF-8 bytes; "" when nothing is left. Two leading underscores
    stay: torch looks for `__0_0.distcp`.
    """
    kept = "".join(c if c in SAFE or _is_word(c) else "_" for c in unicodedata.normalize("NFC", text))
    kept = kept.encode("utf-8", errors="replace")[:MAX_NAME_BYTES].decode("utf-8", errors="ignore")
    kept = ("__" if OWN_LEAD.match(text) else "") + kept.lstrip(".-_ ").rstrip(". ")
    return f"_{kept}" if kept.split(".")[0].rstrip().lower() in RESERVED else kept


def _is_word(character: str) -> bool:
    return ord(character) > 127 and unicodedata.category(character)[0] in "LN"


def stem_of(facts: Mapping[str, object], format_name: str, start_bytes: int) -> tuple[str, str]:
    """Return (stem, name source): the name the contents give, or the format and the offset in the image."""
    name = facts.get("name")
    if isinstance(name, str) and (stem := safe_name(name)):
        return stem, str(facts.get("name_source", "contents"))
    return f"{format_name}-{start_bytes:#x}", "offset"


def suffix_of(facts: Mapping[str, object], default: str) -> str:
    """Return the file suffix the contents ask for, or the format's own."""
    suffix = facts.get("suffix")
    if isinstance(suffix, str) and 1 < len(suffix) <= MAX_SUFFIX_CHARACTERS and suffix[0] == ".":
        return suffix if safe_name(suffix[1:]) == suffix[1:] else default
    return default


def safe_path(text: str) -> str:
    """Return a path below a folder that is safe just as it stands, in its shortest form; "" where it is not."""
    path = PurePosixPath(text)
    harmless = path.parts and len(path.parts) <= MAX_DEPTH and all(safe_name(part) == part for part in path.parts)
    return path.as_posix() if harmless else ""
