"""Volumes: what lies at the starts of a drive and its partitions that changes what carving can find there.

Encryption leaves nothing to carve; arrays and logical volumes cut files in stripes; compression hides them. Each is
recognised by its own superblock's magic, and told, never refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import construct

from imaging.encodings import Caution, Glance, Recognition, recognise_container
from imaging.source import Source

MAX_GPT_ENTRIES = 256
MAX_LOGICAL_PARTITIONS = 64
HEAD_BYTES = 8192
PROTECTIVE = 0xEE
EXTENDED = (0x05, 0x0F, 0x85)

MBR_ENTRY = construct.Struct(
    "status" / construct.Int8ul,
    "first_chs" / construct.Bytes(3),
    "kind" / construct.Int8ul,
    "last_chs" / construct.Bytes(3),
    "first_sector" / construct.Int32ul,
    "sectors" / construct.Int32ul,
)
MBR = construct.Struct(
    "code" / construct.Bytes(446), "entries" / MBR_ENTRY[4], "signature" / construct.Const(b"\x55\xaa")
)
GPT_HEADER = construct.Struct(  # UEFI 2.10, table 5.5
    "signature" / construct.Const(b"EFI PART"),
    "revision" / construct.Int32ul,
    "header_bytes" / construct.Int32ul,
    "header_crc" / construct.Int32ul,
    "reserved" / construct.Int32ul,
    "own_sector" / construct.Int64ul,
    "other_sector" / construct.Int64ul,
    "first_usable" / construct.Int64ul,
    "last_usable" / construct.Int64ul,
    "disk" / construct.Bytes(16),
    "entries_sector" / construct.Int64ul,
    "entry_count" / construct.Int32ul,
    "entry_bytes" / construct.Int32ul,
    "entries_crc" / construct.Int32ul,
)
GPT_ENTRY = construct.Struct(
    "kind" / construct.Bytes(16),
    "own" / construct.Bytes(16),
    "first_sector" / construct.Int64ul,
    "last_sector" / construct.Int64ul,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A region that may begin with a superblock: the whole drive, or a partition."""

    offset_bytes: int
    size_bytes: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Superblock:
    """One kind of volume.

    Attributes:
        code: of the recognition.
        title: for people.
        marks: (offset in the volume, bytes) that must all be there.
        message: what carving can and cannot find.
        advice: what to do.
        caution: how it is told.
    """

    code: str
    title: str
    marks: tuple[tuple[int, bytes], ...]
    message: str
    advice: str = ""
    caution: Caution = field(default=Caution.WARN)


_LOCKED = "nothing inside can be carved while it is locked; only what lies outside it"
_COMPRESSED = "files that it stored compressed cannot be carved; the others can"

SUPERBLOCKS = (
    Superblock(
        code="luks",
        title="LUKS encryption",
        marks=((0, b"LUKS\xba\xbe"),),
        message=_LOCKED,
        advice="image it, then `cryptsetup open --readonly IMAGE opened`, and carve /dev/mapper/opened",
    ),
    Superblock(
        code="bitlocker",
        title="BitLocker encryption",
        marks=((3, b"-FVE-FS-"),),
        message=_LOCKED,
        advice="image it first, then `dislocker-file -V IMAGE -p<recovery key> -- opened.raw`, and carve opened.raw",
    ),
    Superblock(
        code="bitlocker",
        title="BitLocker To Go encryption",
        marks=((3, b"MSWIN4.1"), (424, bytes.fromhex("3bd667492e29d84a8399f6a339e3d001"))),
        message=_LOCKED,
        advice="image it first, then `dislocker-file -V IMAGE -p<recovery key> -- opened.raw`, and carve opened.raw",
    ),
    Superblock(
        code="filevault",
        title="CoreStorage (FileVault 2)",
        marks=((4, b"\xff\xff\xff\xff\x01\x00\x10\x00"), (88, b"CS")),
        message=f"usually FileVault: then {_LOCKED}",
        advice="image it first, then unlock the image on a Mac, or with `fvdemount`, and carve the unlocked volume",
    ),
    Superblock(
        code="lvm",
        title="LVM physical volume",
        marks=((512, b"LABELONE"), (536, b"LVM2 001")),
        message="linear logical volumes carve well; striped, thin or cached ones cut files in pieces",
        advice="after imaging, `losetup -r` the image and `vgchange -ay`, then carve the logical volume itself",
    ),
    Superblock(
        code="btrfs",
        title="btrfs",
        marks=((65536 + 64, b"_BHRfS_M"),),
        message=f"{_COMPRESSED}; on more than one drive, files are cut in stripes",
    ),
    Superblock(
        code="ntfs",
        title="NTFS",
        marks=((3, b"NTFS    "),),
        message="files stored compressed or encrypted (EFS) cannot be carved; the others can",
        caution=Caution.INFO,
    ),
    Superblock(
        code="f2fs",
        title="F2FS",
        marks=((1024, b"\x10\x20\xf5\xf2"),),
        message=f"{_COMPRESSED}; it writes in a log, so that changed files lie in pieces",
        caution=Caution.INFO,
    ),
    Superblock(
        code="bcachefs",
        title="bcachefs",
        marks=((4096 + 24, bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef")),),
        message=f"{_COMPRESSED}; with encryption, none",
    ),
    Superblock(
        code="bcache",
        title="bcache",
        marks=((4096 + 24, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")),),
        message="a cache over another drive: the newest data may be on only one of the two",
        advice="image both drives",
    ),
    Superblock(
        code="squashfs",
        title="squashfs",
        marks=((0, b"hsqs"), (28, b"\x04\x00\x00\x00")),
        message="it stores files compressed: almost nothing inside can be carved",
        advice="unpack it: `unsquashfs IMAGE`",
    ),
    Superblock(
        code="erofs",
        title="EROFS",
        marks=((1024, b"\xe2\xe1\xf5\xe0"),),
        message=_COMPRESSED,
    ),
    Superblock(
        code="refs",
        title="ReFS",
        marks=((3, b"ReFS\0\0\0\0"),),
        message="files carve as on other file systems, but copy-on-write leaves changed ones in pieces",
        caution=Caution.INFO,
    ),
    Superblock(
        code="vmfs",
        title="VMFS",
        marks=((0x100000, b"\x0d\xd0\x01\xc0"),),
        message="it holds virtual disks: files in thin ones lie in pieces",
    ),
)


def recognise(source: Source, *, device: bool = False) -> list[Recognition]:
    """Return what a source is, and what lies in it, by signatures; bytes that cannot be read are not recognised.

    Args:
        source: what the user gave.
        device: it is a block device, whose own bytes are raw whatever they look like.
    """
    glance = Glance(source)
    parts = partitions(glance)
    found = list(recognise_container(glance, sectors_for_sure=device or bool(parts)))
    whole = Volume(offset_bytes=0, size_bytes=source.size_bytes, name="the whole of it")
    if any(one.verdict is Caution.REFUSE for one in found):
        return found
    for volume in (whole, *parts):
        found += recognise_volume(glance, volume)
    return [*found, *_cut_short(glance, (whole, *parts))]


def recognise_volume(source: Glance, volume: Volume) -> Iterator[Recognition]:
    """Yield what begins at a volume's start."""
    head = source.read_at(volume.offset_bytes, min(HEAD_BYTES, volume.size_bytes))
    for superblock in SUPERBLOCKS:
        if all(_at(source, volume, head, offset, len(mark)) == mark for offset, mark in superblock.marks):
            yield _told(
                volume, superblock.code, superblock.title, superblock.message, superblock.advice, superblock.caution
            )
    for look in (_apfs, _raid, _zfs, _ext4_features):
        yield from look(source, volume, head)


def partitions(source: Glance) -> tuple[Volume, ...]:
    """Return the partitions that a GPT or MBR names and that lie inside the source."""
    boot = source.read_at(0, 512)
    if len(boot) < 512 or boot[510:512] != b"\x55\xaa":
        return ()
    table = MBR.parse(boot).entries
    entries = [entry for entry in table if entry.kind]
    sane = all(entry.status in (0, 0x80) and entry.first_sector > 0 and entry.sectors > 0 for entry in entries)
    if not entries or not sane:  # a boot sector of a file system has the same signature
        return ()
    for sector_bytes in dict.fromkeys((source.sector_bytes, 512, 4096)):
        if any(entry.kind == PROTECTIVE for entry in entries) and (found := _gpt(source, sector_bytes)):
            return found
    return tuple(_mbr(source, table))


def _cut_short(source: Glance, volumes: Sequence[Volume]) -> Iterator[Recognition]:
    """Yield that the source ends before what lies in it does, as the partition table or a file system says."""
    told = {volume: _size_told(source.read_at(volume.offset_bytes, HEAD_BYTES)) for volume in volumes}
    end_bytes, volume = max(
        ((volume.offset_bytes + max(volume.size_bytes, told[volume]), volume) for volume in volumes),
        key=lambda end: end[0],
    )
    if end_bytes > source.size_bytes:
        yield Recognition(
            code="cut-short",
            title="cut short",
            verdict=Caution.WARN,
            message=f"{volume.name} at {volume.offset_bytes:#x} should go on to {end_bytes:#x}, but the source ends "
            f"at {source.size_bytes:#x}: what lies behind is missing",
            advice="copy the drive again if this copy was cut short; a drive that shows less than it holds has a "
            "hidden area, sits in an enclosure that hides a part, or is one of an array's",
            offset_bytes=source.size_bytes,
        )


def _size_told(head: bytes) -> int:
    """Return how long a file system says it is, by its first superblock; 0 where it is none of these."""
    if head[1080:1082] == b"\x53\xef":  # ext2 to 4
        high = int.from_bytes(head[1360:1364], "little") if head[1120] & 0x80 else 0  # 64bit, incompatible feature
        return (high << 32 | int.from_bytes(head[1028:1032], "little")) << 10 + min(head[1048], 6)
    if head[3:11] == b"NTFS    ":
        return int.from_bytes(head[40:48], "little") * int.from_bytes(head[11:13], "little")
    if head[3:11] == b"EXFAT   ":
        return int.from_bytes(head[72:80], "little") << min(head[108], 12)
    if head[:4] == b"XFSB":
        return int.from_bytes(head[8:16], "big") * int.from_bytes(head[4:8], "big")
    return 0


def _gpt(source: Glance, sector_bytes: int) -> tuple[Volume, ...]:
    raw = source.read_at(sector_bytes, 512)
    if len(raw) < GPT_HEADER.sizeof() or not raw.startswith(b"EFI PART"):
        return ()
    header = GPT_HEADER.parse(raw)
    count = min(header.entry_count, MAX_GPT_ENTRIES)
    if not 128 <= header.entry_bytes <= 4096:
        return ()
    table = source.read_at(header.entries_sector * sector_bytes, count * header.entry_bytes)
    found = []
    for index in range(len(table) // header.entry_bytes):
        entry = GPT_ENTRY.parse(table[index * header.entry_bytes :][:48])
        sectors = entry.last_sector - entry.first_sector + 1
        if any(entry.kind) and sectors > 0:
            found.append(_volume(index + 1, entry.first_sector, sectors, sector_bytes))
    return tuple(volume for volume in found if volume.offset_bytes < source.size_bytes)


def _mbr(source: Glance, table: Sequence[construct.Container]) -> Iterator[Volume]:
    """Yield the primary partitions, and the logical ones along the chain of extended boot records."""
    chain, base, sector_bytes = 0, 0, source.sector_bytes
    for number, entry in enumerate(table, start=1):
        if entry.kind in EXTENDED:
            chain = base = entry.first_sector
        elif entry.kind not in (0, PROTECTIVE) and entry.first_sector * sector_bytes < source.size_bytes:
            yield _volume(number, entry.first_sector, entry.sectors, sector_bytes)
    for number in range(5, 5 + MAX_LOGICAL_PARTITIONS):
        record = source.read_at(chain * sector_bytes, 512) if chain else b""
        if len(record) < 512 or record[510:512] != b"\x55\xaa":
            return
        own, following = MBR.parse(record).entries[:2]
        first_sector = chain + own.first_sector
        if own.kind and first_sector * sector_bytes < source.size_bytes:
            yield _volume(number, first_sector, own.sectors, sector_bytes)
        chain = base + following.first_sector if following.kind in EXTENDED else 0


def _volume(number: int, first_sector: int, sectors: int, sector_bytes: int) -> Volume:
    return Volume(
        offset_bytes=first_sector * sector_bytes, size_bytes=sectors * sector_bytes, name=f"partition {number}"
    )


def _at(source: Glance, volume: Volume, head: bytes, offset_bytes: int, size_bytes: int) -> bytes:
    if offset_bytes + size_bytes <= len(head):
        return head[offset_bytes : offset_bytes + size_bytes]
    if offset_bytes < 0 or offset_bytes + size_bytes > volume.size_bytes:
        return b""
    return source.read_at(volume.offset_bytes + offset_bytes, size_bytes)


def _told(
    volume: Volume, code: str, title: str, message: str, advice: str = "", caution: Caution = Caution.WARN
) -> Recognition:
    return Recognition(
        code=code,
        title=title,
        verdict=caution,
        message=f"{volume.name} at {volume.offset_bytes:#x} is {title}: {message}",
        advice=advice,
        offset_bytes=volume.offset_bytes,
    )


def _apfs(source: Glance, volume: Volume, head: bytes) -> Iterator[Recognition]:
    """Yield an APFS container (Apple File System Reference, nx_superblock_t): the key locker tells of encryption."""
    if head[32:36] != b"NXSB":
        return
    if int.from_bytes(head[1304:1312], "little"):  # nx_keylocker.pr_block_count
        message = f"it keeps encryption keys (FileVault): of encrypted volumes {_LOCKED}"
        yield _told(
            volume, "apfs-encrypted", "an APFS container", message, "unlock it on a Mac, and carve the open volume"
        )
    else:
        message = (
            "compressed files cannot be carved; T2 and Apple-silicon Macs also encrypt their own drive in hardware"
        )
        yield _told(volume, "apfs", "an APFS container", message, caution=Caution.INFO)


def _raid(source: Glance, volume: Volume, head: bytes) -> Iterator[Recognition]:
    """Yield a Linux array member: md superblocks 1.1 at 0, 1.2 at 4 KiB, 1.0 and 0.90 near the end (md(4))."""
    places = {"1.1": 0, "1.2": 4096, "1.0": ((volume.size_bytes // 512 - 16) & ~7) * 512}
    places["0.90"] = (volume.size_bytes & ~0xFFFF) - 0x10000
    for version, offset_bytes in places.items():
        block = _at(source, volume, head, offset_bytes, 96)
        if len(block) < 96 or block[:4] != b"\xfc\x4e\x2b\xa9" or (block[4] == 0) != (version == "0.90"):
            continue
        at = 28 if version == "0.90" else 72
        level = int.from_bytes(block[at : at + 4], "little", signed=True)
        if level == 1:
            message, advice = "a mirror: each member holds whole files and carves like a plain drive", ""
        else:
            message = f"level {level}: larger files are cut in stripes over its drives, and cannot be carved from one"
            advice = "image every member, then `mdadm --assemble --readonly` over loop devices, and carve the array"
        yield _told(volume, "mdraid", f"a member of a Linux RAID (metadata {version})", message, advice)
        return


def _zfs(source: Glance, volume: Volume, head: bytes) -> Iterator[Recognition]:
    """Yield a ZFS label: one of its uberblocks (magic 0x00bab10c) in the ring at 128 KiB."""
    ring = _at(source, volume, head, 128 << 10, 128 << 10)
    magics = (b"\x0c\xb1\xba\x00\0\0\0\0", b"\0\0\0\0\x00\xba\xb1\x0c")
    if any(ring[at : at + 8] in magics for at in range(0, len(ring), 1024)):
        message = "it cuts files in records of 128 KiB, mostly compressed: only small uncompressed files can be carved"
        yield _told(
            volume, "zfs", "a ZFS pool member", message, "import the pool read-only: `zpool import -o readonly=on`"
        )


def _ext4_features(source: Glance, volume: Volume, head: bytes) -> Iterator[Recognition]:
    """Yield ext4 with fscrypt (incompatible feature 0x10000, at 0x60 of the superblock)."""
    if head[1024 + 56 : 1024 + 58] == b"\x53\xef" and int.from_bytes(head[1120:1124], "little") & 0x10000:
        yield _told(
            volume, "fscrypt", "ext4 with encrypted folders", "files in those folders cannot be carved; others can"
        )
