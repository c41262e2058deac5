"""Destinations: what to tell of the places that a run writes to.

They must not lie on the source, must take writes and have room, also for one file as large as the image. That goes for
what this program writes by itself, too: temporary files, and the cache of compiled code.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import carver
from carver.notices import Notice, Roots
from imaging import block_stack, mac_disks
from imaging.direct import is_device
from imaging.encodings import Caution

LITTLE_ROOM_BYTES = 1 << 30
MAX_FILE_BYTES = {  # the largest file; ext with its usual 4 KiB blocks
    "vfat": (1 << 32) - 1,
    "msdos": (1 << 32) - 1,
    "ext2": 2 << 40,
    "ext3": 2 << 40,
    "ext4": 16 << 40,
}
GIB = 1 << 30


def destination_notices(path: Path, output: Path | None, roots: Roots) -> Iterator[Notice]:
    """Yield what speaks against writing `output`, a file or folder, while `path` is read."""
    if output is None:
        return
    place = block_stack.existing(output)
    if _same_file(path, output):
        yield Notice(
            code="destination-is-source",
            level=Caution.REFUSE,
            message=f"{output} is the source itself",
            advice="name another output",
        )
    elif _lies_on(path, output, roots):
        yield Notice(
            code="destination-on-source",
            level=Caution.REFUSE,
            message=f"{output} lies on the source {path}: writing there destroys what you want to recover",
            advice="choose a folder on another drive",
        )
    elif _shares_drive(path, output, roots):
        yield Notice(
            code="destination-on-same-drive",
            level=Caution.WARN,
            message=f"{output} lies on another part of the drive that {path} is on",
            advice="if that drive is failing, every write wears it: choose a folder on another drive",
        )
    if _is_read_only(place):
        yield Notice(
            code="destination-read-only",
            level=Caution.REFUSE,
            message=f"{place} is mounted read-only",
            advice="remount it for writing, or choose another drive",
        )
    elif not os.access(place, os.W_OK):
        yield Notice(
            code="destination-not-writable",
            level=Caution.REFUSE,
            message=f"no permission to write in {place}",
            advice="choose another folder, or run the same command with sudo",
        )


def _is_read_only(place: Path) -> bool:
    """Tell whether the file system refuses writes to everybody; a device written to lies in one that may."""
    try:
        return bool(os.statvfs(place).f_flag & os.ST_RDONLY) and not is_device(place)
    except OSError:
        return False


def own_paths_notices(path: Path, roots: Roots | None = None) -> Iterator[Notice]:
    """Yield what this very program would write to, or is read from, on the source.

    Asked before anything is imported that compiles, since that alone fills the cache.
    """
    roots = roots or Roots()
    places = (
        ("writes-temporary", "the temporary folder", temporary_folder(), "TMPDIR=/folder/on/another/drive"),
        (
            "writes-cache",
            "the cache of compiled code",
            numba_cache_folder(),
            "NUMBA_CACHE_DIR=/folder/on/another/drive",
        ),
    )
    for code, title, place, setting in places:
        if _lies_on(path, place, roots):
            message = f"{title} {place} lies on the source {path}, and using it would write there"
            advice = f"set {setting} and run again"
            yield Notice(code=code, level=Caution.REFUSE, message=message, advice=advice)
    for place in dict.fromkeys((Path(sys.prefix), Path(carver.__file__).parent)):
        if _lies_on(path, place, roots):
            message = f"this program itself runs from the source {path} ({place})"
            advice = "better start it from another drive or a live system; as it is, also set PYTHONDONTWRITEBYTECODE=1"
            yield Notice(code="program-on-source", level=Caution.WARN, message=message, advice=advice)


def limit_notices(image: Path | None, folder: Path | None, size_bytes: int, roots: Roots) -> Iterator[Notice]:
    """Yield that the file system there cannot hold one file of `size_bytes`."""
    place = image or folder
    mount = block_stack.mount_of(place, proc_root=roots.proc) if place else None
    limit_bytes = MAX_FILE_BYTES.get(mount.filesystem) if mount else None
    if mount is None or limit_bytes is None or size_bytes <= limit_bytes:
        return
    what = f"the file system at {mount.point} ({mount.filesystem}) cannot hold files of more than {_gib(limit_bytes)}"
    advice = "choose a destination with exFAT, NTFS, ext4, XFS, btrfs or APFS"
    if image is not None:
        message = f"{what}, and the image needs {_gib(size_bytes)}"
        yield Notice(code="destination-file-limit", level=Caution.REFUSE, message=message, advice=advice)
    else:
        yield Notice(
            code="destination-file-limit", level=Caution.WARN, message=what, advice=f"for larger files, {advice}"
        )


def room_notices(
    image: Path | None, folder: Path | None, size_bytes: int, files_bytes: int | None, *, sparse: bool = False
) -> Iterator[Notice]:
    """Yield that there is not room enough, or little.

    Args:
        image: the image that would be written.
        folder: the folder that gets files.
        size_bytes: of the image when it is whole.
        files_bytes: how much the recovered files need; None: not known yet.
        sparse: zeros take no room in the image, and how many there are nobody knows before they are read.
    """
    place = image or folder
    if place is None or _is_read_only(block_stack.existing(place)):
        return
    free_bytes = shutil.disk_usage(block_stack.existing(place)).free
    held_bytes = _held_bytes(image)
    image_bytes = max(0, size_bytes - held_bytes) if image is not None else 0
    needed_bytes = image_bytes + (files_bytes or 0)
    where = f"{place} has {_gib(free_bytes)} free"
    stops = "make room or choose another drive; a run that fills it stops there, saved, and goes on later"
    if needed_bytes > free_bytes:
        # an image begun before may be sparse, too: what it still needs is then less than it seems
        if held_bytes or (sparse and image is not None):
            level, advice = Caution.WARN, stops
        else:
            level = Caution.REFUSE
            advice = f"make {_gib(needed_bytes - free_bytes)} of room, or choose another drive"
        but = ", less what is zeros (-S)" if sparse else ""
        message = f"{where}, but {_gib(needed_bytes)} are needed{but}"
        yield Notice(code="destination-room", level=level, message=message, advice=advice)
    elif files_bytes is None and folder is not None and free_bytes - image_bytes < LITTLE_ROOM_BYTES:
        left = f", which leaves {_gib(free_bytes - image_bytes)}" if image_bytes else ""
        message = f"{where}{left} for recovered files"
        yield Notice(code="destination-little-room", level=Caution.WARN, message=message, advice=stops)


def temporary_folder() -> Path:
    """Return where temporary files go, without trying it out as `tempfile` does: that would write there."""
    named = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    return next((Path(folder) for folder in named if folder and Path(folder).is_dir()), Path("/tmp"))


def numba_cache_folder() -> Path:
    """Return where compiled kernels are kept: NUMBA_CACHE_DIR, or beside the code, or else in the user's cache."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    beside = Path(carver.__file__).parent / "__pycache__"
    if chosen or os.access(block_stack.existing(beside), os.W_OK):
        return Path(chosen) if chosen else beside
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "numba"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _lies_on(path: Path, place: Path, roots: Roots) -> bool:
    """Tell whether the bytes of `place` lie on the block device `path`, or inside the image file (by a loop device)."""
    if sys.platform == "darwin":
        return mac_disks.lies_on(path, block_stack.existing(place))
    number = block_stack.number_of(path)
    own = {number} if number is not None else set(block_stack.loops_on(path, sys_root=roots.sys))
    return bool(own) and bool(own & block_stack.under_path(place, sys_root=roots.sys, proc_root=roots.proc))


def _shares_drive(path: Path, place: Path, roots: Roots) -> bool:
    number = block_stack.number_of(path)
    if number is None:
        return False
    own = block_stack.beneath(number, through_files=False, sys_root=roots.sys, proc_root=roots.proc)
    return bool(own & block_stack.under_path(place, sys_root=roots.sys, proc_root=roots.proc))


def _held_bytes(image: Path | None) -> int:
    """Return how much room an image begun before already takes."""
    try:
        return image.stat().st_blocks * 512 if image is not None else 0
    except OSError:
        return 0


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB else f"{size_bytes / (1 << 20):.1f} MiB"
