"""Preflight: what to tell, and what to refuse, before the first hour is spent on a source.

`examine` looks and returns notices, worst first; `refuse` turns the refusals among them into the error that ends the
command. Nothing here writes, and only a few hundred small reads are made; none where an image was begun already, since
a drive that dies must not pay for them at each start.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import carver
from imaging import block_stack, mac_disks
from imaging.device import DeviceInfo, in_use
from imaging.direct import is_claimed, is_device
from imaging.encodings import Caution, Recognition, recognise_path
from imaging.errors import InputError, OutputError
from imaging.impatient import Impatient
from imaging.reads import ChildDevice
from imaging.sampling import Sampling, sample
from imaging.source import RawImage, Source
from imaging.volumes import recognise

MIN_READ_SAMPLES = 16
MOSTLY = 0.9
LITTLE_ROOM_BYTES = 1 << 30
MAX_FILE_BYTES = {  # the largest file; ext with its usual 4 KiB blocks
    "vfat": (1 << 32) - 1,
    "msdos": (1 << 32) - 1,
    "ext2": 2 << 40,
    "ext3": 2 << 40,
    "ext4": 16 << 40,
}
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing to tell the user before the run.

    Attributes:
        code: short, kebab-case; those that begin with "destination-" or "writes-" are about outputs.
        level: whether it ends the run, warns, or only tells.
        message: what is so, in one plain sentence.
        advice: what to do; may be empty.
    """

    code: str
    level: Caution
    message: str
    advice: str = ""

    @property
    def line(self) -> str:
        """The message, and what to do."""
        return f"{self.message}; {self.advice}" if self.advice else self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Where the kernel's trees are; a test lays out its own."""

    sys: Path = block_stack.SYS
    proc: Path = block_stack.PROC


def examine(
    path: Path,
    *,
    source: Source | None,
    info: DeviceInfo,
    image: Path | None = None,
    map_path: Path | None = None,
    folder: Path | None = None,
    image_bytes: int | None = None,
    files_bytes: int | None = None,
    allow_mounted: bool = False,
    roots: Roots | None = None,
) -> tuple[Notice, ...]:
    """Return what the user should know, refusals first.

    Args:
        path: the source as the user named it.
        source: its bytes; None to look only at what needs no reads.
        info: what `imaging.device.describe` knows of it.
        image: the image that would be written, for a device: a file, or a device (whose room the rescue looks at).
        map_path: its mapfile, where it does not lie beside it.
        folder: the folder that would get files (a case, or where the image goes).
        image_bytes: how much of the source the image takes; None: all of it.
        files_bytes: how much the recovered files need, where that is known.
        allow_mounted: the user has said that a busy source is meant.
        roots: the kernel's trees.
    """
    roots = roots or Roots()
    notices = [
        *_path_notices(path),
        *_destination_notices(path, image or folder, roots),  # first: these no option overrides
        *_destination_notices(path, map_path, roots),
        *_busy_notices(path, source, allow_mounted, roots),
        *own_paths_notices(path, roots),
    ]
    if source is not None:
        file = None if image is not None and image.is_block_device() else image
        notices += _limit_notices(file, folder, source.size_bytes, roots)
        taken_bytes = source.size_bytes if image_bytes is None else min(image_bytes, source.size_bytes)
        notices += _room_notices(file, folder, taken_bytes, files_bytes)
        # a busy drive is not read in vain, and one that an earlier run looked at before it began to image is spared
        if not any(notice.level is Caution.REFUSE for notice in notices) and not _is_begun(image, map_path):
            notices += _content_notices(Impatient(source), info)
    notices += _hardware_notices(info)
    order = list(Caution)
    return tuple(sorted(notices, key=lambda notice: order.index(notice.level)))


def refuse(notices: Iterable[Notice]) -> None:
    """End the run where a notice refuses it.

    Raises:
        OutputError: the first refusal is about an output.
        InputError: it is about the source.
    """
    for notice in notices:
        if notice.level is Caution.REFUSE:
            raise (OutputError if notice.code.startswith(("destination-", "writes-")) else InputError)(notice.line)


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


def _path_notices(path: Path) -> Iterator[Notice]:
    if (recognition := recognise_path(path)) is not None:
        yield _of_recognition(recognition)


def _busy_notices(path: Path, source: Source | None, allow_mounted: bool, roots: Roots) -> Iterator[Notice]:
    reasons = in_use(path, sys_root=roots.sys, proc_root=roots.proc)
    if not reasons and _is_held(path, source):
        reasons = (f"{path} is in use: something holds it (a file system of another container, an array, a mapping)",)
    for reason in reasons:
        if allow_mounted:
            advice = "what it writes meanwhile can overwrite what you look for, and make the image disagree with itself"
            yield Notice(code="source-busy", level=Caution.WARN, message=reason, advice=advice)
        else:
            advice = (
                "unmount or stop it first (even a read-only mount replays a journal), or say --allow-mounted-source"
            )
            yield Notice(code="source-busy", level=Caution.REFUSE, message=reason, advice=advice)


def _is_held(path: Path, source: Source | None) -> bool:
    """Tell whether the kernel knows of a holder that its trees do not show us."""
    if isinstance(source, ChildDevice):
        return source.claimed
    return isinstance(source, RawImage) and is_device(path) and is_claimed(path)


def _destination_notices(path: Path, output: Path | None, roots: Roots) -> Iterator[Notice]:
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


def _content_notices(source: Source, info: DeviceInfo) -> Iterator[Notice]:
    if source.size_bytes == 0:
        message = f"{source.locator} is empty"
        advice = "check the path; a card reader without a card also looks so"
        yield Notice(code="source-empty", level=Caution.REFUSE, message=message, advice=advice)
        return
    recognitions = recognise(source, device=info.kind == "device")
    yield from map(_of_recognition, recognitions)
    if any(one.verdict is Caution.REFUSE for one in recognitions):
        return
    sampling = sample(source)
    if sampling.read < MIN_READ_SAMPLES:
        return
    yield from _zero_notices(sampling, info)
    if not recognitions and sampling.random == sampling.read:
        yield Notice(
            code="looks-encrypted",
            level=Caution.WARN,
            message=f"all {sampling.read} sampled blocks look like random bytes, and no file system was recognised",
            advice="an encrypted drive (VeraCrypt, a self-encrypting disk, a Mac's own) must be opened before carving",
        )


def _zero_notices(sampling: Sampling, info: DeviceInfo) -> Iterator[Notice]:
    if sampling.zero < MOSTLY * sampling.read:
        return
    message = f"{sampling.zero} of {sampling.read} sampled blocks hold only zeros"
    if info.discard or info.rotational is False:
        yield Notice(
            code="zeros-trim",
            level=Caution.WARN,
            message=f"{message}, and this drive can TRIM: what was deleted before a TRIM is most likely gone for good",
            advice="hope for files that still exist, and for backups or images from before; a new drive also looks so",
        )
    else:
        yield Notice(
            code="zeros",
            level=Caution.INFO,
            message=f"{message}: it was hardly ever written, was wiped or TRIMmed, or the image was never filled",
        )


def _limit_notices(image: Path | None, folder: Path | None, size_bytes: int, roots: Roots) -> Iterator[Notice]:
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


def _room_notices(
    image: Path | None, folder: Path | None, size_bytes: int, files_bytes: int | None
) -> Iterator[Notice]:
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
        # an image begun before may be sparse: what it still needs is then less than it seems
        level = Caution.WARN if held_bytes else Caution.REFUSE
        advice = stops if held_bytes else f"make {_gib(needed_bytes - free_bytes)} of room, or choose another drive"
        message = f"{where}, but {_gib(needed_bytes)} are needed"
        yield Notice(code="destination-room", level=level, message=message, advice=advice)
    elif files_bytes is None and folder is not None and free_bytes - image_bytes < LITTLE_ROOM_BYTES:
        message = f"{where}, which leaves {_gib(free_bytes - image_bytes)} for recovered files"
        yield Notice(code="destination-little-room", level=Caution.WARN, message=message, advice=stops)


def _hardware_notices(info: DeviceInfo) -> Iterator[Notice]:
    if info.internal_mac:
        yield Notice(
            code="internal-mac",
            level=Caution.WARN,
            message="a Mac's built-in drive: with a T2 chip or Apple silicon it is encrypted in hardware and TRIMmed",
            advice="deleted files cannot be carved from it; look for backups (Time Machine, local snapshots)",
        )
    if info.kind == "device" and info.read_only is False:
        yield Notice(
            code="no-write-blocker",
            level=Caution.INFO,
            message="the drive is opened read-only, but the system could write to it: no write blocker",
            advice=f"`blockdev --setro {info.path}` makes the kernel refuse writes",
        )


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


def _of_recognition(recognition: Recognition) -> Notice:
    return Notice(
        code=recognition.code, level=recognition.verdict, message=recognition.message, advice=recognition.advice
    )


def _is_begun(image: Path | None, map_path: Path | None) -> bool:
    """Tell whether an earlier run began this image, which it only did after it had looked at the source."""
    return image is not None and map_path is not None and all(_bytes_of(path) for path in (image, map_path))


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _held_bytes(image: Path | None) -> int:
    """Return how much room an image begun before already takes."""
    try:
        return image.stat().st_blocks * 512 if image is not None else 0
    except OSError:
        return 0


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB else f"{size_bytes / (1 << 20):.1f} MiB"
