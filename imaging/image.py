"""Image: a raw image together with the mapfile that tells which of its bytes were really read from the drive."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from imaging.errors import InputError, MapfileError
from imaging.extent import ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore, journal_path
from imaging.maptool import shifted
from imaging.placement import recorded_shift
from imaging.source import RawImage

MAP_SUFFIXES = (".map", ".mapfile", ".log")
GUESS_BYTES = 4096
MOVED = "If ddrescue wrote it with -o, first move the map: `carver map --shift`"


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedImage:
    """An opened image and its map (None: unread sectors unknown); positions are those of the image.

    They differ from the drive's where the image was made with another output position, which the map's head tells.

    Attributes:
        drive_start_bytes: where the drive's first byte lies; what is before it belongs to no drive.
    """

    source: RawImage
    mapfile: Mapfile | None
    map_path: Path | None
    drive_start_bytes: int = 0

    def unread_blocks(self) -> tuple[tuple[int, int, str], ...] | None:
        """Return (offset, size, status) of each block of the drive that is not finished, within the image.

        None without a map.
        """
        if self.mapfile is None:
            return None
        blocks = []
        whole = span(min(self.drive_start_bytes, self.source.size_bytes), self.source.size_bytes)
        before = (span(0, self.mapfile.start_bytes), BlockStatus.NON_TRIED)  # a map may begin later
        for extent, status in (before, *self.mapfile.blocks()):
            if status is BlockStatus.FINISHED:
                continue
            blocks += [(e.offset_bytes, e.size_bytes, status.value) for e in ExtentSet((extent,)).within(whole)]
        return tuple(blocks)


def find_map(image_path: Path) -> Path | None:
    """Return the mapfile beside an image: IMAGE.map, .mapfile or .log, or the same with the image's suffix replaced.

    Other programs write `.log` files too, so one that does not look like a mapfile is passed over.
    """
    if not image_path.name:  # `.` or `/`, which is no image
        return None
    names = [image_path.with_name(image_path.name + suffix) for suffix in MAP_SUFFIXES]
    names += [image_path.with_suffix(suffix) for suffix in MAP_SUFFIXES if image_path.suffix]
    for path in names:
        if path != image_path and path.is_file() and (path.suffix != ".log" or _looks_like_a_map(path)):
            return path
    return None


def open_image(image_path: Path, map_path: Path | None = None) -> MappedImage:
    """Open an image and the map that was named, or the one beside it.

    Raises:
        InputError: the image is missing, unreadable or empty, or was cut short under its map.
        MapfileError: the map breaks its grammar or is for something of another size.
    """
    size_bytes = _image_bytes(image_path)
    map_path = map_path or find_map(image_path)
    mapfile = _load_map(map_path) if map_path else None
    unread = None
    if mapfile is not None:
        if image_path.is_block_device():
            size_bytes = min(size_bytes, mapfile.end_bytes)  # behind is what was on the device before
        _check_fit(image_path, size_bytes, map_path, mapfile)
        finished = mapfile.extents(BlockStatus.FINISHED)
        unread = finished.complement(span(0, size_bytes))
    source = RawImage(image_path, unread=unread, end_bytes=size_bytes)
    moved_bytes = (recorded_shift(map_path) or 0) if map_path else 0
    return MappedImage(source=source, mapfile=mapfile, map_path=map_path, drive_start_bytes=max(moved_bytes, 0))


def _load_map(map_path: Path) -> Mapfile:
    """Return a map; with its journal, where a rescue of ours was killed before it wrote the whole map."""
    mapfile = MapStore.read_snapshot(map_path) if journal_path(map_path).is_file() else Mapfile.load(map_path)
    shift_bytes = recorded_shift(map_path)
    return shifted(mapfile, shift_bytes) if shift_bytes else mapfile


def _image_bytes(image_path: Path) -> int:
    with RawImage(image_path) as image:
        size_bytes = image.size_bytes
    if size_bytes == 0:
        raise InputError(f"{image_path} is empty: there is nothing to read; check the path, or image the drive again")
    return size_bytes


def _check_fit(image_path: Path, size_bytes: int, map_path: Path | None, mapfile: Mapfile) -> None:
    """Refuse a map of something else.

    One that goes on behind the image is none: GNU ddrescue writes no bytes for an end that it could not read, and
    where it does not know the drive's size its map ends at 2^63 - 1.
    """
    finished = mapfile.extents(BlockStatus.FINISHED)
    finished_end = int(finished.ends[-1]) if finished else 0
    if finished_end > size_bytes:
        raise InputError(
            f"{image_path} was cut short: its map {map_path} has data up to {finished_end:#x}, the image ends at "
            f"{size_bytes:#x}; copy the image again, or name the map that belongs to it. {MOVED}"
        )
    map_end = mapfile.start_bytes + mapfile.size_bytes
    if map_end == 0:
        raise MapfileError(
            f"{map_path} is empty: it does not tell what of {image_path} was read; name the right map, or remove it"
        )
    if map_end < size_bytes:
        raise MapfileError(
            f"{map_path} is for another size: it covers {map_end} bytes, {image_path} has {size_bytes}; name the map "
            f"that belongs to this image. {MOVED}"
        )


def _looks_like_a_map(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(GUESS_BYTES).decode("utf-8", errors="replace")
    except OSError as fault:
        raise InputError(f"cannot read {path}, which may be the map: {os.strerror(fault.errno or 0)}") from fault
    lines = [line for line in head.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return bool(lines) and lines[0].lstrip().startswith("0x") and len(lines[0].split()) in (2, 3)
