"""Scanning: the image to hits on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from carver.automaton import build
from carver.case import Case
from carver.hits import HitStore, unreadable
from carver.scan import scan
from carver.stages import Choices, Hooks, digest
from imaging.errors import Interrupted
from imaging.extent import ExtentSet
from imaging.image import MappedImage
from imaging.mapfile import BlockStatus
from signatures.format import Format


def scan_image(
    case: Case, image: MappedImage, formats: Mapping[str, Format], choices: Choices, hooks: Hooks
) -> HitStore:
    """Scan the image, or what is left of it.

    Raises:
        Interrupted: stopped; the chunks done are kept.
        OutputError: the case folder cannot be written.
    """
    chosen = [formats[name] for name in choices.formats]
    store = HitStore(case.folder, _scan_key(image, formats, choices))
    if store.finished:
        return store
    domain = None if choices.domain is None else ExtentSet((choices.domain,))
    found = scan(
        image.source,
        chosen,
        domain=domain,
        threads=choices.threads,
        resume_at_bytes=store.resume_at_bytes,
        on_progress=lambda done, total: hooks.on_progress("scanning", done, total),
        stop=hooks.stop,
    )
    try:
        for chunk in found:
            store.append(chunk)
    finally:
        store.commit()
    if hooks.stop():
        raise Interrupted("stopped while scanning; the same command goes on from here")
    store.finish()
    return store


def never_read(image: MappedImage, folder: Path) -> tuple[tuple[int, int, str], ...] | None:
    """Return (offset, size, status) of what was never read: by the map, and of the image while it was scanned.

    None where neither tells of any, and there is no map.
    """
    blocks = image.unread_blocks()
    missing = unreadable(folder) - (image.source.unread or ExtentSet())
    if not missing:
        return blocks
    bad = ((extent.offset_bytes, extent.size_bytes, BlockStatus.BAD_SECTOR.value) for extent in missing)
    return tuple(sorted((*(blocks or ()), *bad)))


def _scan_key(image: MappedImage, formats: Mapping[str, Format], choices: Choices) -> dict[str, object]:
    unread = image.source.unread
    table = [f"{name}/{entry.name}" for name, entry in build([formats[n] for n in choices.formats]).table]
    return {
        "image_bytes": image.source.size_bytes,
        "unread": None if unread is None else digest([unread.starts.tolist(), unread.ends.tolist()]),
        "patterns": table,
        "domain": None if choices.domain is None else [choices.domain.offset_bytes, choices.domain.end_bytes],
    }
