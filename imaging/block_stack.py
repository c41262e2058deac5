"""Block stack: which block device stands on which, and where the system uses them (Linux, from /sys and /proc).

Read by what the kernel publishes, without opening any device. Folders of both trees are arguments, so that a test can
lay out a machine of its own. On systems without these trees everything answers "nothing known".
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SYS = Path("/sys")
PROC = Path("/proc")
MAX_STACK_DEVICES = 4096
MAX_POSITION_BYTES = 2**63 - 1
SYS_SECTOR_BYTES = 512  # /sys/block/*/size counts these whatever the drive's sector is


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of /proc/self/mountinfo.

    Attributes:
        number: "major:minor" of the mounted file system.
        point: where.
        filesystem: its type, e.g. "ext4".
        device: what was mounted, as the kernel names it ("/dev/sdb1"; for btrfs the only link to the device).
        read_only: whether this mount or its file system is read-only.
    """

    number: str
    point: str
    filesystem: str
    device: str
    read_only: bool


def number_of(path: Path | str) -> str | None:
    """Return "major:minor" of a block device node, or None for anything else."""
    try:
        status = os.stat(path)  # noqa: PTH116 - `path` may be a kernel's name for something else
    except OSError:
        return None
    return _number(status.st_rdev) if stat.S_ISBLK(status.st_mode) else None


def folder_of(number: str, *, sys_root: Path = SYS) -> Path | None:
    """Return the folder under /sys that describes the device, or None."""
    link = sys_root / "dev" / "block" / number
    return link.resolve() if link.exists() else None


def name_of(number: str, *, sys_root: Path = SYS) -> str:
    """Return the kernel's name with its folder ("/dev/sdb1"), or the number where it has none."""
    folder = folder_of(number, sys_root=sys_root)
    return f"/dev/{folder.name.replace('!', '/')}" if folder else number


def disk_folder_of(number: str, *, sys_root: Path = SYS) -> Path | None:
    """Return the folder of the whole disk: the parent of a partition's, a disk's own."""
    folder = folder_of(number, sys_root=sys_root)
    if folder and (folder / "partition").exists():
        return folder.parent
    return folder


def parent_disk_of(number: str, *, sys_root: Path = SYS) -> str | None:
    """Return the number of the disk that a partition is cut from, or None when it is no partition."""
    folder = folder_of(number, sys_root=sys_root)
    if folder is None or not (folder / "partition").exists():
        return None
    return read_text(folder.parent / "dev")


def partitions_of(number: str, *, sys_root: Path = SYS) -> tuple[str, ...]:
    """Return the numbers of a disk's partitions."""
    folder = folder_of(number, sys_root=sys_root)
    if folder is None:
        return ()
    return _numbers(entry.parent for entry in sorted(folder.glob("*/partition")))


def holders_of(number: str, *, sys_root: Path = SYS) -> tuple[str, ...]:
    """Return the numbers of what the kernel has built directly on a device: md arrays, LVM and crypt mappings."""
    folder = folder_of(number, sys_root=sys_root)
    return _numbers(sorted((folder / "holders").glob("*"))) if folder else ()


def btrfs_of(number: str, *, sys_root: Path = SYS) -> str | None:
    """Return the UUID of the btrfs file system in use that a device is a member of: mounts name only one member."""
    for link in (sys_root / "fs" / "btrfs").glob("*/devices/*"):
        if read_text(link / "dev") == number:
            return link.parents[1].name
    return None


def loops_on(path: Path | str, *, sys_root: Path = SYS, proc_root: Path = PROC) -> tuple[str, ...]:
    """Return the numbers of loop devices backed by this file or device.

    Files on other file systems are not even looked at: one that hangs (a dead server, a frozen drive) would hang us.
    """
    mounted = mounts(proc_root=proc_root)
    home = _mount_above(existing(Path(path)), mounted)
    backings = {
        backing.parents[1]: read_text(backing)
        for backing in sorted((sys_root / "block").glob("loop*/loop/backing_file"))
    }
    return _numbers(
        folder
        for folder, name in backings.items()
        if name and _same_file_system(_mount_above(Path(name), mounted), home) and _same_file(name, path)
    )


def beside(number: str, *, sys_root: Path = SYS) -> tuple[str, ...]:
    """Return what else holds bytes of a loop device or of a partition of one: other loops on its file, or its device.

    Loops on other parts of the file (another partition) are left out. Files are compared by the kernel's names for them
    and not looked at: the drive they lie on may hang, or be gone.
    """
    loop = parent_disk_of(number, sys_root=sys_root) or number
    backing = _backing_of(loop, sys_root)
    if backing is None:
        return ()
    start, end = _range_in_backing(number, sys_root)
    found = []
    for other in _numbers(sorted((sys_root / "block").glob("loop*"))):
        first, last = _range_in_backing(other, sys_root)
        if other != loop and _backing_of(other, sys_root) == backing and first < end and start < last:
            found.append(other)
    own = number_of(backing) if Path(backing).is_relative_to("/dev") else None
    return (*found, *([own] if own else []))


def _backing_of(number: str, sys_root: Path) -> str | None:
    folder = folder_of(number, sys_root=sys_root)
    return read_text(folder / "loop" / "backing_file") if folder else None


def _range_in_backing(number: str, sys_root: Path) -> tuple[int, int]:
    """Return where in its file the bytes of a loop device, or of a partition of one, begin and end."""
    folder, disk = folder_of(number, sys_root=sys_root), disk_folder_of(number, sys_root=sys_root)
    if folder is None or disk is None:
        return 0, MAX_POSITION_BYTES
    start = read_integer(disk / "loop" / "offset") or 0
    if folder != disk:
        start += (read_integer(folder / "start") or 0) * SYS_SECTOR_BYTES
    sectors = read_integer(folder / "size")
    return start, MAX_POSITION_BYTES if sectors is None else start + sectors * SYS_SECTOR_BYTES


def above(number: str, *, sys_root: Path = SYS) -> tuple[str, ...]:
    """Return the device and everything that stands on it: partitions, holders, loop devices, and what is on those."""
    found: dict[str, None] = {}
    waiting = [number]
    while waiting and len(found) < MAX_STACK_DEVICES:
        here = waiting.pop(0)
        if here in found:
            continue
        found[here] = None
        waiting += partitions_of(here, sys_root=sys_root)
        waiting += holders_of(here, sys_root=sys_root)
        waiting += loops_on(name_of(here, sys_root=sys_root), sys_root=sys_root)
    return tuple(found)


def beneath(number: str, *, through_files: bool, sys_root: Path = SYS, proc_root: Path = PROC) -> frozenset[str]:
    """Return the device and everything that it stands on: its disk, the members of its array, its volume group.

    Args:
        number: where to begin.
        through_files: whether a loop device's image file leads on to the disk that the file lies on.
        sys_root: the kernel's /sys.
        proc_root: the kernel's /proc.
    """
    found: set[str] = set()
    waiting = [number]
    while waiting and len(found) < MAX_STACK_DEVICES:
        here = waiting.pop()
        folder = folder_of(here, sys_root=sys_root)
        if here in found:
            continue
        found.add(here)
        if folder is None:
            continue
        waiting += [disk] if (disk := parent_disk_of(here, sys_root=sys_root)) else []
        waiting += _numbers((folder / "slaves").glob("*"))
        backing = read_text(folder / "loop" / "backing_file")
        if backing and (through_files or number_of(backing)):
            own = number_of(backing)
            waiting += [own] if own else _mounted_numbers(Path(backing), proc_root=proc_root)
    return frozenset(found)


def under_path(path: Path, *, sys_root: Path = SYS, proc_root: Path = PROC) -> frozenset[str]:
    """Return every block device that a path's bytes lie on (or would lie on), down to the disks."""
    found: set[str] = set()
    for number in _mounted_numbers(path, proc_root=proc_root):
        found |= beneath(number, through_files=True, sys_root=sys_root, proc_root=proc_root)
    return frozenset(found)


def mounts(*, proc_root: Path = PROC) -> tuple[Mount, ...]:
    """Return what is mounted in this process's view (proc(5), /proc/[pid]/mountinfo)."""
    found = []
    for line in (read_text(proc_root / "self" / "mountinfo") or "").splitlines():
        mine, _, theirs = line.partition(" - ")
        fields, tail = mine.split(), theirs.split()
        if len(fields) < 6 or len(tail) < 3:
            continue
        options = set(fields[5].split(",")) | set(tail[2].split(","))
        found.append(
            Mount(
                number=fields[2],
                point=_unescaped(fields[4]),
                filesystem=tail[0],
                device=_unescaped(tail[1]),
                read_only="ro" in options,
            )
        )
    return tuple(found)


def device_of(mount: Mount) -> str | None:
    """Return the number of the device that a mount names, which for btrfs differs from the mount's own."""
    return number_of(mount.device) if mount.device.startswith("/") else None


def mount_of(path: Path, *, proc_root: Path = PROC) -> Mount | None:
    """Return the mount that a path lies in: the longest mount point above it, the last of equals."""
    return _mount_above(existing(path).resolve(), mounts(proc_root=proc_root))


def swaps(*, proc_root: Path = PROC) -> tuple[str, ...]:
    """Return the devices and files in use as swap."""
    lines = (read_text(proc_root / "swaps") or "").splitlines()[1:]
    return tuple(_unescaped(line.split()[0]) for line in lines if line.split())


def existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists and that we may see."""
    path = path.resolve()
    while not _visible(path) and path != path.parent:
        path = path.parent
    return path


def read_text(path: Path) -> str | None:
    """Return a small kernel file without its white space at the ends; None where there is none or it is empty."""
    try:
        return path.read_bytes().decode("utf-8", "replace").strip("\0 \t\r\n") or None
    except OSError:
        return None


def read_integer(path: Path) -> int | None:
    """Return the number in a small kernel file; None where there is none."""
    text = read_text(path)
    return int(text) if text is not None and text.isdigit() else None


def _visible(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False


def _mount_above(real: Path, mounted: Iterable[Mount]) -> Mount | None:
    """Return the mount that a path without links lies in, by its name alone."""
    best: Mount | None = None
    for mount in mounted:
        point = Path(mount.point)
        if real.is_relative_to(point) and (best is None or len(point.parts) >= len(Path(best.point).parts)):
            best = mount
    return best


def _same_file_system(one: Mount | None, other: Mount | None) -> bool:
    """Tell whether two mounts may show the same files; where the system does not tell, they may."""
    return one is None or other is None or one.number == other.number


def _mounted_numbers(path: Path, *, proc_root: Path) -> list[str]:
    found = [_number(existing(path).stat().st_dev)]
    mount = mount_of(path, proc_root=proc_root)
    if mount:  # btrfs: files have a number of no device; the mount's source names the real one
        found += [mount.number] + ([own] if (own := device_of(mount)) else [])
    return found


def _number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _numbers(folders: Iterable[Path]) -> tuple[str, ...]:
    return tuple(number for folder in folders if (number := read_text(folder / "dev")))


def _same_file(one: str | None, other: Path | str) -> bool:
    try:
        return one is not None and Path(one).samefile(other)
    except OSError:
        return False


def _unescaped(text: str) -> str:
    r"""Undo the kernel's octal escapes (`\040` is a space)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
