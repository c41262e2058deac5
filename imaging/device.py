"""Device: what a source is (sizes, sectors, model, serial), whether the system is using it, and how to know it again.

Nothing here writes, and describing a drive on Linux does not even open it. macOS is served by `diskutil`, best effort
and untested.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from imaging import block_stack, mac_disks
from imaging.block_stack import PROC, SYS, SYS_SECTOR_BYTES, read_integer, read_text
from imaging.errors import ReadFault
from imaging.extent import Extent
from imaging.source import Source

RUN = Path("/run")
SAMPLES = 16
SAMPLE_BYTES = 4096
MAX_SAMPLING_SECONDS = 3  # a drive that stalls on each read is better imaged than looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """What is known of a source; None where the system does not say.

    Attributes:
        path: as the user named it.
        kind: "device" or "file".
        size_bytes: its length.
        logical_sector_bytes: the smallest read that it takes.
        physical_sector_bytes: what the drive reads and writes inside.
        model: as the drive reports it (a USB bridge may report its own).
        serial: likewise.
        firmware: its revision.
        transport: "usb", "ata", "nvme", "virtio", ….
        rotational: whether it spins.
        read_only: whether the kernel refuses to write to it; for a file, whether this user may not write it.
        discard: whether TRIM is possible (not whether it ran).
        internal_mac: whether it is the built-in drive of a Mac, which is encrypted in hardware on T2 and Apple silicon.
    """

    path: str
    kind: str
    size_bytes: int | None = None
    logical_sector_bytes: int | None = None
    physical_sector_bytes: int | None = None
    model: str | None = None
    serial: str | None = None
    firmware: str | None = None
    transport: str | None = None
    rotational: bool | None = None
    read_only: bool | None = None
    discard: bool | None = None
    internal_mac: bool | None = None


def describe(path: Path | str, *, sys_root: Path = SYS, run_root: Path = RUN) -> DeviceInfo:
    """Return what the system knows of a source, without opening a device.

    A path that does not exist gives an info without facts; opening it gives the message.
    """
    path = Path(path)
    try:
        status = path.stat()
    except OSError:
        return DeviceInfo(path=str(path), kind="file")
    if sys.platform == "darwin" and not stat.S_ISREG(status.st_mode):
        return _describe_mac(path)
    if not stat.S_ISBLK(status.st_mode):
        read_only = not os.access(path, os.W_OK)
        return DeviceInfo(path=str(path), kind="file", size_bytes=status.st_size, read_only=read_only)
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return describe_number(number, path=path, sys_root=sys_root, run_root=run_root)


def describe_number(number: str, *, path: Path, sys_root: Path = SYS, run_root: Path = RUN) -> DeviceInfo:
    """Return what /sys and udev know of the block device "major:minor"."""
    folder = block_stack.folder_of(number, sys_root=sys_root)
    disk = block_stack.disk_folder_of(number, sys_root=sys_root)
    if folder is None or disk is None:
        return DeviceInfo(path=str(path), kind="device")
    udev = _udev(run_root / "udev" / "data" / f"b{read_text(disk / 'dev') or number}")
    sectors = read_integer(folder / "size")
    discard_bytes = read_integer(disk / "queue" / "discard_max_bytes")
    return DeviceInfo(
        path=str(path),
        kind="device",
        size_bytes=None if sectors is None else sectors * SYS_SECTOR_BYTES,
        logical_sector_bytes=read_integer(disk / "queue" / "logical_block_size"),
        physical_sector_bytes=read_integer(disk / "queue" / "physical_block_size"),
        model=read_text(disk / "device" / "model") or udev.get("ID_MODEL"),
        serial=_serial(disk, udev),
        firmware=read_text(disk / "device" / "firmware_rev") or read_text(disk / "device" / "rev"),
        transport=udev.get("ID_BUS") or _transport(disk),
        rotational=_flag(disk / "queue" / "rotational"),
        read_only=_flag(folder / "ro"),
        discard=None if discard_bytes is None else discard_bytes > 0,
    )


def in_use(path: Path | str, *, sys_root: Path = SYS, proc_root: Path = PROC) -> tuple[str, ...]:
    """Return plain reasons why a source is busy: mounted (also read-only), swap, part of an array or a mapping.

    A disk is busy by its partitions and by all that stands on them; a partition also by its whole disk; an image file
    by the loop devices on it. Empty where nothing is known to use it.
    """
    if sys.platform == "darwin":
        return mac_disks.uses(path)
    number = block_stack.number_of(path)
    if number is None:
        loops = block_stack.loops_on(path, sys_root=sys_root)
        reasons = [reason for loop in loops for reason in _loop_reasons(loop, path, sys_root, proc_root)]
        swap = (f"{path} is in use as swap" for name in block_stack.swaps(proc_root=proc_root) if name == str(path))
        return tuple(dict.fromkeys([*reasons, *swap]))
    return uses_of_number(number, sys_root=sys_root, proc_root=proc_root)


def uses_of_number(number: str, *, sys_root: Path = SYS, proc_root: Path = PROC) -> tuple[str, ...]:
    """Return plain reasons why the block device "major:minor" is busy, itself or as another of the same bytes."""
    reasons = _uses_of_itself(number, sys_root, proc_root)
    name = block_stack.name_of(number, sys_root=sys_root)
    for other in block_stack.beside(number, sys_root=sys_root):
        alike = f"{block_stack.name_of(other, sys_root=sys_root)} holds the same bytes as {name}"
        theirs = _uses_of_itself(other, sys_root, proc_root)
        reasons += tuple(f"{alike}, and {reason}" for reason in theirs if reason not in reasons)
    return reasons


def _uses_of_itself(number: str, sys_root: Path, proc_root: Path) -> tuple[str, ...]:
    involved = list(block_stack.above(number, sys_root=sys_root))
    if (parent := block_stack.parent_disk_of(number, sys_root=sys_root)) is not None:
        involved.append(parent)
    reasons: list[str] = []
    mounts, swaps = block_stack.mounts(proc_root=proc_root), block_stack.swaps(proc_root=proc_root)
    for here in involved:
        name = block_stack.name_of(here, sys_root=sys_root)
        reasons += [
            f"{name} is mounted at {mount.point} ({'read-only' if mount.read_only else 'read-write'})"
            for mount in mounts
            if mount.number == here or mount.device == name or block_stack.device_of(mount) == here
        ]
        holders = block_stack.holders_of(here, sys_root=sys_root)
        reasons += [f"{name} is part of {_holder_title(holder, sys_root)}" for holder in holders]
        if (uuid := block_stack.btrfs_of(here, sys_root=sys_root)) is not None:
            reasons.append(f"{name} is part of the btrfs file system {uuid}, which is in use")
        reasons += [
            f"{name} is in use as swap" for swap in swaps if swap == name or block_stack.number_of(swap) == here
        ]
    return tuple(dict.fromkeys(reasons))


def identity(source: Source, info: DeviceInfo) -> dict[str, object]:
    """Return what tells this source from another, JSON-ready.

    "samples" holds `[offset_bytes, sha256]` of 4 KiB blocks at places that depend on the size alone; the digest is null
    where the block cannot be read, or was not read from the drive yet, or where earlier ones took too long. So a
    failing drive still has an identity, and is not asked for more than it can give.
    """
    until = monotonic() + MAX_SAMPLING_SECONDS
    offsets = sample_offsets(source.size_bytes)
    samples = [[offset, _sample(source, offset) if monotonic() < until else None] for offset in offsets]
    return {
        "size_bytes": source.size_bytes,
        "model": info.model,
        "serial": info.serial,
        "sample_bytes": SAMPLE_BYTES,
        "samples": samples,
    }


def sample_offsets(size_bytes: int, *, count: int = SAMPLES) -> tuple[int, ...]:
    """Return where to look: the first block, and one at a pseudo-random place in each of the other parts."""
    blocks = -(-size_bytes // SAMPLE_BYTES)
    if blocks <= count:
        return tuple(block * SAMPLE_BYTES for block in range(blocks))
    offsets = [0]
    for index in range(1, count):
        low, high = index * blocks // count, (index + 1) * blocks // count
        digest = hashlib.sha256(f"{size_bytes}:{count}:{index}".encode()).digest()
        offsets.append((low + int.from_bytes(digest[:8], "big") % (high - low)) * SAMPLE_BYTES)
    return tuple(offsets)


def same_identity(one: Mapping[str, object], other: Mapping[str, object]) -> str | None:
    """Return a plain reason why two identities are of different sources, or None when nothing speaks against it.

    The model counts only where no serial number decides: bridges put their own in its place. Samples are compared where
    both could be read.
    """
    if one.get("size_bytes") != other.get("size_bytes"):
        return f"its size is {other.get('size_bytes')} bytes, not {one.get('size_bytes')}"
    serials = one.get("serial"), other.get("serial")
    if all(serials) and serials[0] != serials[1]:
        return f"its serial number is {serials[1]}, not {serials[0]}"
    models = one.get("model"), other.get("model")
    if not all(serials) and all(models) and models[0] != models[1]:
        return f"its model is {models[1]}, not {models[0]}"
    theirs = dict(_samples_of(other))
    for offset_bytes, digest in _samples_of(one):
        if digest is not None and theirs.get(offset_bytes) not in (None, digest):
            return f"its contents at {offset_bytes:#x} are different"
    return None


def _samples_of(record: Mapping[str, object]) -> Iterator[tuple[int, str | None]]:
    samples = record.get("samples")
    for pair in samples if isinstance(samples, list) else []:
        if isinstance(pair, list | tuple) and len(pair) == 2:
            yield pair[0], pair[1]


def _sample(source: Source, offset_bytes: int) -> str | None:
    block = Extent(offset_bytes=offset_bytes, size_bytes=min(SAMPLE_BYTES, source.size_bytes - offset_bytes))
    if source.unread is not None and source.unread.touches(block):
        return None
    try:
        data = source.read_at(block.offset_bytes, block.size_bytes)
    except ReadFault:
        return None
    return hashlib.sha256(data).hexdigest() if len(data) == block.size_bytes else None


def _loop_reasons(loop: str, path: Path | str, sys_root: Path, proc_root: Path) -> Iterator[str]:
    folder = block_stack.folder_of(loop, sys_root=sys_root)
    name = block_stack.name_of(loop, sys_root=sys_root)
    for reason in _uses_of_itself(loop, sys_root, proc_root):  # first: it tells what to unmount
        yield f"{path} is behind {name}, and {reason}"
    if folder and not _flag(folder / "ro"):
        yield f"{path} can be written to through {name}"


def _holder_title(number: str, sys_root: Path) -> str:
    folder = block_stack.folder_of(number, sys_root=sys_root)
    given = read_text(folder / "dm" / "name") if folder else None
    name = block_stack.name_of(number, sys_root=sys_root)
    return f"{name} ({given})" if given else name


def _serial(disk: Path, udev: Mapping[str, str]) -> str | None:
    """Return the serial number: NVMe and virtio publish it as text, SCSI and ATA as VPD page 0x80 (SPC-4, 7.8.15)."""
    for place in (disk / "device" / "serial", disk / "serial"):
        if (text := read_text(place)) is not None:
            return text
    if short := udev.get("ID_SERIAL_SHORT") or udev.get("ID_SCSI_SERIAL"):
        return short
    try:
        page = (disk / "device" / "vpd_pg80").read_bytes()
    except OSError:
        return None
    return page[4:].decode("ascii", "replace").strip("\0 ") or None


def _transport(disk: Path) -> str | None:
    """Return the bus, as the device's place in /sys shows it."""
    parts = disk.resolve().parts
    for word in ("usb", "nvme", "virtio", "ata", "mmc", "nbd", "loop"):
        if any(part.rstrip("0123456789-.:") == word or part.startswith(f"{word}0") for part in parts):
            return word
    return None


def _udev(path: Path) -> dict[str, str]:
    lines = (read_text(path) or "").splitlines()
    return dict(line[2:].split("=", 1) for line in lines if line.startswith("E:") and "=" in line)


def _flag(path: Path) -> bool | None:
    value = read_integer(path)
    return None if value is None else value != 0


def _describe_mac(path: Path) -> DeviceInfo:
    """Ask `diskutil info -plist` (untested: keys as Apple's own output names them)."""
    facts: dict[str, Any] = mac_disks.info(path)
    solid = facts.get("SolidState")
    return DeviceInfo(
        path=str(path),
        kind="device",
        size_bytes=facts.get("TotalSize") or facts.get("Size"),
        logical_sector_bytes=facts.get("DeviceBlockSize"),
        model=facts.get("MediaName") or None,
        transport=facts.get("BusProtocol") or None,
        rotational=None if solid is None else not solid,
        read_only=None if facts.get("WritableMedia") is None else not facts["WritableMedia"],
        internal_mac=bool(facts.get("Internal")) and bool(solid),
    )
