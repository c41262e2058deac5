"""Preflight: what to tell, and what to refuse, before the first hour is spent on a source.

`examine` looks and returns notices, worst first; `refuse` turns the refusals among them into the error that ends the
command. Nothing here writes, and only a few hundred small reads are made; none where an image was begun already, since
a drive that dies must not pay for them at each start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from carver.destinations import destination_notices, limit_notices, own_paths_notices, room_notices
from carver.notices import Notice, Roots
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
SECTOR_BYTES = 512  # the smallest that drives have


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
    sparse: bool = False,
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
        sparse: zeros take no room in the image.
        allow_mounted: the user has said that a busy source is meant.
        roots: the kernel's trees.
    """
    roots = roots or Roots()
    notices = [
        *_path_notices(path),
        *destination_notices(path, image or folder, roots),  # first: these no option overrides
        *destination_notices(path, map_path, roots),
        *_busy_notices(path, source, allow_mounted, roots),
        *own_paths_notices(path, roots),
    ]
    if source is not None:
        file = None if image is not None and image.is_block_device() else image
        notices += limit_notices(file, folder, source.size_bytes, roots)
        taken_bytes = source.size_bytes if image_bytes is None else min(image_bytes, source.size_bytes)
        notices += room_notices(file, folder, taken_bytes, files_bytes, sparse=sparse)
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
    if info.kind == "file" and source.size_bytes % SECTOR_BYTES:
        yield Notice(
            code="odd-size",
            level=Caution.INFO,
            message=f"{source.locator} is not whole sectors of {SECTOR_BYTES} bytes, as the copy of a drive is",
            advice="if it is one, it was cut short: copy it again",
        )
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
