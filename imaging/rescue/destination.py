"""Destination: what an image may be written to. A file that this rescue began, or a device that nothing needs."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imaging import block_stack
from imaging.block_stack import PROC, SYS
from imaging.device import DeviceInfo, describe, uses_of_number
from imaging.errors import InputError, OutputError
from imaging.extent import ExtentSet
from imaging.mapfile import BlockStatus
from imaging.mapstore import MapStore
from imaging.placement import OURS, Placement, head_of, refuse_other_shift

MARK = "Image on device: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Where the kernel's trees are; a test lays out its own."""

    sys: Path = SYS
    proc: Path = PROC


def is_block_device(path: Path) -> bool:
    """Tell whether a path names a block device."""
    try:
        return stat.S_ISBLK(path.stat().st_mode)
    except OSError:
        return False


def check_destination(
    image_path: Path,
    map_path: Path,
    source_path: Path,
    *,
    placement: Placement,
    force: bool = False,
    roots: Roots | None = None,
) -> None:
    """Refuse an image that this rescue did not begin, and a device that is not free to be written over.

    Args:
        image_path: the image, a file or a block device.
        map_path: its map.
        source_path: what is read.
        placement: where the drive's bytes lie in it.
        force: whether the user has said that a device is meant.
        roots: the kernel's trees.

    Raises:
        OutputError: it is there without its map, or would be its own map or source, or is a device that is too small,
            in use, on the source's disk, holds the source or the map, or was not asked for.
        InputError: the map belongs to an image with other positions, or with more in it.
        MapfileError: the map breaks its grammar.
    """
    if image_path.absolute() == map_path.absolute():
        raise OutputError(f"{image_path} cannot be the image and its map at once; name another map")
    if map_path.exists() and not map_path.is_file():
        raise OutputError(f"{map_path} is not a regular file; name a file for the map")
    finished = _finished(map_path).shifted(placement.shift_bytes)
    if finished:
        refuse_other_shift(map_path, placement.shift_bytes)
    try:
        status = image_path.stat()
    except FileNotFoundError:
        check_finished(image_path, 0, finished)
        if _lies_in_memory(image_path):
            raise OutputError(f"there is no device {image_path}; `lsblk` lists the drives of this machine") from None
        return
    except OSError as fault:
        raise OutputError(f"cannot look at {image_path}: {fault.strerror}") from fault
    if source_path.exists() and source_path.samefile(image_path):
        raise OutputError(f"{image_path} is the source itself; name a new image file")
    if stat.S_ISBLK(status.st_mode):
        needed_bytes = placement.needed_bytes
        refuse_device(image_path, map_path, source_path, needed_bytes=needed_bytes, force=force, roots=roots)
        _refuse_other_device(image_path, map_path, finished.total_bytes)
    elif stat.S_ISDIR(status.st_mode):
        raise OutputError(f"{image_path} is a folder; name a new file in it, such as {image_path / 'drive.img'}")
    elif not stat.S_ISREG(status.st_mode):
        raise OutputError(f"{image_path} is not a regular file; name a new image file")
    elif status.st_size and not (map_path.is_file() and MapStore.read_snapshot(map_path).size_bytes):
        what = "is empty" if map_path.is_file() else "does not"
        raise OutputError(
            f"{image_path} exists, but its map {map_path} {what}, so nobody knows what of it was read; it is not "
            "overwritten: name its map, or another image"
        )
    else:
        check_finished(image_path, status.st_size, finished)


def check_finished(path: Path, present_bytes: int, finished: ExtentSet) -> None:
    """Refuse an image that cannot have what its map promises.

    Args:
        path: the image.
        present_bytes: how long it is.
        finished: what the map promises, in the image's positions.

    Raises:
        InputError: it ends before the last of it, or the first would lie before its start.
    """
    if not finished:
        return
    first_bytes, end_bytes = int(finished.starts[0]), int(finished.ends[-1])
    if first_bytes < 0:
        raise InputError(
            f"the map knows of data that would lie {-first_bytes} bytes before the start of {path}: it belongs to "
            "another image, or to another difference between the output and the input position"
        )
    if present_bytes < end_bytes:
        raise InputError(
            f"{path} has {present_bytes} bytes, but its map knows of data up to {end_bytes}: it was cut short or "
            "is missing, or the map is of another image; restore the image, or begin anew under other names"
        )


def refuse_device(
    path: Path,
    map_path: Path,
    source_path: Path | None = None,
    *,
    needed_bytes: int = 0,
    force: bool = False,
    roots: Roots | None = None,
) -> None:
    """Refuse to write to a block device that is needed for anything else; without `force` to any.

    Raises:
        OutputError: what speaks against it, and what to do.
    """
    if sys.platform != "linux":
        raise OutputError(
            f"{path} is a device, and only on Linux can be seen what uses it; name an image file, or start a Linux "
            "live system"
        )
    number = block_stack.number_of(path)
    if number is None:
        raise OutputError(f"{path} is not a regular file or a block device; name a new image file")
    roots = roots or Roots()
    for reason in _hazards(path, number, map_path, source_path, needed_bytes, roots):
        raise OutputError(reason)
    if not force:
        title = title_of(describe(path)) + _parts_told(number, roots)
        raise OutputError(
            f"{path} is a device ({title}), and everything on it would be overwritten. If that is meant, say --force "
            "(-f); if not, name an image file"
        )


def _hazards(
    path: Path, number: str, map_path: Path, source_path: Path | None, needed_bytes: int, roots: Roots
) -> Iterator[str]:
    """Yield what speaks against writing to the device, also when it is asked for; worst first."""
    if source_path is not None:
        yield from _ties_to_source(path, number, source_path, roots)
    if number in block_stack.under_path(map_path, sys_root=roots.sys, proc_root=roots.proc):
        yield f"the map {map_path} lies on {path}, which would be overwritten; name a map on another drive"
    if _lies_in_memory(map_path):
        yield (
            f"the map {map_path} would lie in /dev, in memory only, and be lost when the computer is switched off; "
            "name a map on a drive"
        )
    for reason in uses_of_number(number, sys_root=roots.sys, proc_root=roots.proc):
        yield f"{reason}, so {path} is not overwritten; unmount or stop it first, or name another device"
    info = describe(path, sys_root=roots.sys)
    if info.read_only:
        yield f"the system refuses writes to {path} (`blockdev --setrw {path}` lets it; is it the right device?)"
    if info.size_bytes is not None and info.size_bytes < needed_bytes:
        yield (
            f"{path} is too small: it has {info.size_bytes} bytes, and {needed_bytes} are needed; choose a larger "
            "device, or a part of the drive (-s)"
        )


def _ties_to_source(path: Path, number: str, source_path: Path, roots: Roots) -> Iterator[str]:
    """Yield how the device and the source belong together: one disk, one on the other, or one in the other."""
    source = block_stack.number_of(source_path)
    if source is None:
        if number in block_stack.under_path(source_path, sys_root=roots.sys, proc_root=roots.proc):
            yield f"the source {source_path} lies on {path}, which would be overwritten; choose another device"
        return
    if source == number:
        yield f"{path} is the source itself; choose another device"
    source_stack = block_stack.beneath(source, through_files=False, sys_root=roots.sys, proc_root=roots.proc)
    image_stack = block_stack.beneath(number, through_files=True, sys_root=roots.sys, proc_root=roots.proc)
    if source_stack & image_stack:
        yield f"{path} and the source {source_path} are on the same drive, which is never written to; choose another"
    source_files = block_stack.beneath(source, through_files=True, sys_root=roots.sys, proc_root=roots.proc)
    if number in source_files:
        yield f"the source {source_path} lies on {path}, which would be overwritten; choose another device"


def device_comments(path: Path) -> tuple[str, ...]:
    """Return what the head of the map says of the device that the image is on; nothing for a file."""
    return (MARK + json.dumps(_identity(describe(path)), sort_keys=True),) if is_block_device(path) else ()


def title_of(info: DeviceInfo) -> str:
    """Return what a person knows a device by."""
    size = f"{info.size_bytes} bytes" if info.size_bytes is not None else None
    serial = f"serial number {info.serial}" if info.serial else None
    return ", ".join(part for part in (info.model, serial, size) if part) or "nothing more is known of it"


def _parts_told(number: str, roots: Roots) -> str:
    parts = block_stack.partitions_of(number, sys_root=roots.sys)
    names = [block_stack.name_of(part, sys_root=roots.sys) for part in parts]
    return f", with {', '.join(names)} on it" if names else ""


def _refuse_other_device(path: Path, map_path: Path, finished_bytes: int) -> None:
    """Refuse a device that is not the one that the map's finished bytes were written to.

    Names of devices change when a computer starts. Where GNU ddrescue wrote the map, nothing is known.
    """
    head = head_of(map_path)
    if not finished_bytes or not any(line.startswith(OURS) for line in head):
        return
    recorded = next((line.partition(MARK)[2] for line in head if line.startswith(f"# {MARK}")), None)
    if recorded is None or recorded != json.dumps(_identity(describe(path)), sort_keys=True):
        where = f"on another device, {recorded}" if recorded else "in a file"
        raise OutputError(
            f"{finished_bytes} bytes are finished in {map_path}, and they are {where}, not on {path}. To copy them "
            "over, image what has them to this device, with a new map and this one as the domain (-m); or name the "
            "image that belongs to the map. (If it is the same device on another adapter, correct the line "
            f"'{MARK.strip()}' at the head of the map)"
        )


def _lies_in_memory(path: Path) -> bool:
    """Tell whether a file of this name would lie among the device nodes, which a restart forgets."""
    parents = path.absolute().parents
    return Path("/dev") in parents and Path("/dev/shm") not in parents


def _identity(info: DeviceInfo) -> dict[str, object]:
    return {"model": info.model, "serial": info.serial, "size_bytes": info.size_bytes}


def _finished(map_path: Path) -> ExtentSet:
    if not map_path.is_file():
        return ExtentSet()
    return MapStore.read_snapshot(map_path).extents(BlockStatus.FINISHED)
