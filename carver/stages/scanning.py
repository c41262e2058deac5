"""Scanning: the image to hits on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from carver.automaton import Automaton, build
from carver.case import Case
from carver.following import Follower, Grid, KnownHits, follow_key
from carver.hits import HitStore, unreadable
from carver.scan import CHUNK_BYTES, scan
from carver.stages import Choices, Hooks, digest
from carver.stages.cut_short import note_if_cut_short
from imaging.errors import Interrupted
from imaging.extent import ExtentSet, span
from imaging.image import MappedImage
from imaging.mapfile import BlockStatus
from imaging.mapstore import MapStore
from signatures.format import Format

log = logging.getLogger(__name__)


def scan_image(
    case: Case, image: MappedImage, formats: Mapping[str, Format], choices: Choices, hooks: Hooks
) -> HitStore:
    """Scan the image, or what is left of it.

    Raises:
        Interrupted: stopped; the chunks done are kept.
        OutputError: the case folder cannot be written.
    """
    chosen = [formats[name] for name in choices.formats]
    store = HitStore(case.folder, _scan_key(case, image, formats, choices))
    if store.finished:
        return store
    if case.earlier_cuts and not store.resume_at_bytes:
        log.warning("the image was cut short under an earlier run: nothing that it saw is trusted, all is done anew")
    domain = None if choices.domain is None else ExtentSet((choices.domain,))
    found = scan(
        image.source,
        chosen,
        domain=domain,
        threads=choices.threads,
        resume_at_bytes=store.resume_at_bytes,
        known=_known_hits(case.folder, image, build(chosen), domain),
        on_progress=lambda done, total: hooks.on_progress("scanning", done, total),
        stop=hooks.stop,
    )
    try:
        for chunk in found:
            note_if_cut_short(case, image)
            store.append(chunk)
    finally:
        store.commit()
    if hooks.stop():
        raise Interrupted("stopped while scanning; the same command goes on from here")
    store.finish()
    return store


def follow(
    case: Case,
    image_path: Path,
    formats: Mapping[str, Format],
    choices: Choices,
    *,
    map_path: Path,
    image_bytes: int,
    stop: Callable[[], bool],
) -> Follower:
    """Return a subscriber for the read pump that scans the image while it is made; `scan_image` takes it from there.

    Args:
        case: where it keeps what it finds.
        image_path: the image that is being made.
        formats: all there are.
        choices: which of them, and where.
        map_path: its map, if an earlier run began it.
        image_bytes: length of the drive.
        stop: whether to leave what is left for later.

    Raises:
        OutputError: the case folder cannot be written.
        MapfileError: the map breaks its grammar.
    """
    finished = ExtentSet()
    if map_path.is_file():
        finished = MapStore.read_snapshot(map_path).extents(BlockStatus.FINISHED)
    return Follower(
        case.folder,
        image_path,
        [formats[name] for name in choices.formats],
        image_bytes=image_bytes,
        finished=finished,
        domain=None if choices.domain is None else ExtentSet((choices.domain,)),
        stop=stop,
    )


def _known_hits(folder: Path, image: MappedImage, automaton: Automaton, domain: ExtentSet | None) -> KnownHits | None:
    """Return what was found while the image was made; without a map nobody knows what of that holds."""
    unread = image.source.unread
    if unread is None:
        return None
    size_bytes = image.source.size_bytes
    grid = Grid(image_bytes=size_bytes, cell_bytes=CHUNK_BYTES, reach_bytes=automaton.reach_bytes)
    return KnownHits(folder, follow_key(automaton, grid, domain), grid, unread)


def never_read(image: MappedImage, folder: Path) -> tuple[tuple[int, int, str], ...] | None:
    """Return (offset, size, status) of what was never read: by the map, and of the image while it was carved.

    None where neither tells of any, and there is no map.
    """
    blocks = image.unread_blocks()
    cut_off = ExtentSet((span(image.source.present_bytes(), image.source.size_bytes),))
    missing = (unreadable(folder) | cut_off) - (image.source.unread or ExtentSet())
    if not missing:
        return blocks
    bad = ((extent.offset_bytes, extent.size_bytes, BlockStatus.BAD_SECTOR.value) for extent in missing)
    return tuple(sorted((*(blocks or ()), *bad)))


def _scan_key(case: Case, image: MappedImage, formats: Mapping[str, Format], choices: Choices) -> dict[str, object]:
    unread = image.source.unread
    cuts = {"cut_short": case.earlier_cuts} if case.earlier_cuts else {}  # cases of earlier versions go on
    return {
        **cuts,
        "image_bytes": image.source.size_bytes,
        "unread": None if unread is None else digest([unread.starts.tolist(), unread.ends.tolist()]),
        "patterns": build([formats[name] for name in choices.formats]).digest,
        "domain": None if choices.domain is None else [choices.domain.offset_bytes, choices.domain.end_bytes],
    }
