"""Encodings: what the first and last bytes of an "image" are, when they are not a drive's plain sectors.

A container (E01, qcow2, gzip, …) does not hold files at their own places, so carving it would find next to nothing: it
is refused with the command that makes it raw. What lies *inside* a raw image and changes what carving can find
(encryption, arrays, compression) is the neighbour's, `imaging.volumes`.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePath
from time import monotonic

from imaging.errors import ReadFault
from imaging.source import Source

HEAD_BYTES = 4096
MAX_FAULTS = 8  # each may cost a failing drive seconds
MAX_LOOK_SECONDS = 20
TRAILER_BYTES = 512  # VHD's and UDIF's last sector
STEP_BYTES = 1 << 16
OUTPUT_BYTES = 1 << 22
MAX_OUTPUTS = 32
MAX_FOLLOWED_BYTES = 1 << 24
EOCD_BYTES = 22  # APPNOTE 4.3.16
MAX_COMMENT_BYTES = 65535  # APPNOTE 4.4.12
VHD_FIXED = 2  # VHD specification 1.0, "Disk Type"
IMAGE_SUFFIXES = (".img", ".dd", ".raw", ".bin", ".e01", ".vmdk", ".qcow2", ".vhd", ".vhdx", ".dmg", ".iso", ".001")


class Caution(StrEnum):
    """What a recognition means for the run."""

    REFUSE = "refuse"
    WARN = "warn"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognition:
    """Something recognised by its signature.

    Attributes:
        code: short, kebab-case.
        title: its name for people.
        verdict: whether carving is refused, or the user only told.
        message: one plain sentence: what carving can and cannot find there.
        advice: what to do, with one command where there is one.
        offset_bytes: where it lies.
    """

    code: str
    title: str
    verdict: Caution
    message: str
    advice: str
    offset_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container with a magic that leaves no doubt; `offset_bytes` is counted from the end when negative."""

    code: str
    title: str
    magic: bytes
    advice: str
    offset_bytes: int = 0


_QEMU = "make it raw: `qemu-img convert -O raw {path} out.raw`, then give out.raw"
_EWF = "make it raw: `ewfexport -t out -f raw {path}` (libewf), then give out.raw"
_DMG = "make it raw: `hdiutil convert {path} -format UDTO -o out` (macOS) or `dmg2img {path} out.img` (Linux)"

CONTAINERS = (
    Container(code="ewf", title="EnCase/EWF (E01)", magic=b"EVF\x09\x0d\x0a\xff\x00", advice=_EWF),
    Container(code="ewf-logical", title="EWF logical evidence (L01)", magic=b"LVF\x09\x0d\x0a\xff\x00", advice=_EWF),
    Container(code="ewf2", title="EnCase 7 (Ex01)", magic=b"EVF2\x0d\x0a\x81\x00", advice=_EWF),
    Container(
        code="aff",
        title="AFF",
        magic=b"AFF10\r\n\x00",
        advice="make it raw: `affconvert -r {path}` (afflib), then give the .raw file",
    ),
    Container(
        code="ad1",
        title="FTK logical evidence (AD1)",
        magic=b"ADSEGMENTEDFILE\x00",
        advice="it holds files, not sectors: export them with FTK Imager",
    ),
    Container(code="qcow2", title="QEMU copy-on-write (qcow2)", magic=b"QFI\xfb", advice=_QEMU),
    Container(code="qed", title="QEMU enhanced disk (QED)", magic=b"QED\x00", advice=_QEMU),
    Container(code="vmdk", title="VMware disk (VMDK)", magic=b"KDMV", advice=_QEMU),
    Container(
        code="vmdk-descriptor",
        title="VMware disk descriptor",
        magic=b"# Disk DescriptorFile",
        advice="give the raw -flat.vmdk file that it names; if it names none, `qemu-img convert -O raw {path} out.raw`",
    ),
    Container(code="vhdx", title="Hyper-V disk (VHDX)", magic=b"vhdxfile", advice=_QEMU),
    Container(code="vdi", title="VirtualBox disk (VDI)", magic=b"\x7f\x10\xda\xbe", offset_bytes=64, advice=_QEMU),
    Container(code="parallels", title="Parallels disk", magic=b"WithoutFreeSpace", advice=_QEMU),
    Container(code="parallels", title="Parallels disk", magic=b"WithouFreSpacExt", advice=_QEMU),
    Container(
        code="dmg", title="Apple disk image (UDIF)", magic=b"koly\0\0\0\x04\0\0\x02\0", offset_bytes=-512, advice=_DMG
    ),
    Container(code="sparseimage", title="Apple sparse image", magic=b"sprs\0\0\0\x03", advice=_DMG),
    Container(code="dmg-encrypted", title="encrypted Apple disk image", magic=b"encrcdsa", advice=_DMG),
    Container(
        code="partclone",
        title="partclone (Clonezilla) image",
        magic=b"partclone-image",
        advice="make it raw: `partclone.restore -C -s {path} -O out.raw`, then give out.raw",
    ),
    Container(
        code="ntfsclone",
        title="ntfsclone image",
        magic=b"\0ntfsclone-image",
        advice="make it raw: `ntfsclone --restore-image --overwrite out.raw {path}`, then give out.raw",
    ),
    Container(
        code="android-sparse",
        title="Android sparse image",
        magic=b"\x3a\xff\x26\xed\x01\x00",
        advice="make it raw: `simg2img {path} out.raw`, then give out.raw",
    ),
)


class Glance:
    """A look at a source: bytes, or none where it cannot be read. After a few faults, or too long, it looks no more.

    Signatures are a help to people, not evidence, and a failing drive has better things to do.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.locator, self.size_bytes, self.sector_bytes = source.locator, source.size_bytes, source.sector_bytes
        self._faults_left = MAX_FAULTS
        self._until = monotonic() + MAX_LOOK_SECONDS

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return the bytes there; fewer at the end, none where they cannot be read."""
        if not 0 <= offset_bytes < self.size_bytes or self._faults_left <= 0 or monotonic() > self._until:
            return b""
        try:
            return self._source.read_at(offset_bytes, size_bytes)
        except ReadFault:
            self._faults_left -= 1
            return b""


def recognise_container(source: Glance, *, sectors_for_sure: bool) -> Iterator[Recognition]:
    """Yield the container that a source is, if it is one.

    Args:
        source: what the user gave.
        sectors_for_sure: it is a block device or has a partition table, so whatever lies at its start is a part of
            the drive: said, but not refused.
    """
    head = source.read_at(0, HEAD_BYTES)
    tail = source.read_at(max(0, source.size_bytes - TRAILER_BYTES), TRAILER_BYTES)
    found = [_refused(c.code, c.title, c.advice, source) for c in CONTAINERS if _matches(c, head, tail)]
    for recognise_one in (_vhd, _gzip, _xz, _bzip2, _zstd, _seven_zip, _zip):
        if not found:
            found += [one for one in (recognise_one(source, head, tail),) if one]
    for recognition in found[:1]:
        if sectors_for_sure and recognition.verdict is Caution.REFUSE:
            yield _softened(recognition)
        else:
            yield recognition


def recognise_path(path: Path) -> Recognition | None:
    """Return what can be told from the path alone: a bundle folder, the first of several pieces."""
    name = path.name.lower()
    if path.is_dir() and (name.endswith(".sparsebundle") or (path / "bands").is_dir()):
        return Recognition(
            code="sparsebundle",
            title="Apple sparse bundle",
            verdict=Caution.REFUSE,
            message=f"{path} is an Apple sparse bundle, a folder of bands, not raw bytes",
            advice=_DMG.format(path=path),
        )
    if name.endswith((".000", ".001")) and path.with_suffix(f".00{int(name[-1]) + 1}").exists():
        return Recognition(
            code="split-raw",
            title="raw image in pieces",
            verdict=Caution.REFUSE,
            message=f"{path} is the first of several pieces: files in or across the others would be missed",
            advice=f"join them: `cat {path.with_suffix('')}.[0-9][0-9][0-9] > whole.raw`, then give whole.raw",
        )
    return None


def _matches(container: Container, head: bytes, tail: bytes) -> bool:
    if container.offset_bytes < 0:
        return tail[len(tail) + container.offset_bytes :].startswith(container.magic) if len(tail) >= 512 else False
    return head[container.offset_bytes :].startswith(container.magic)


def _refused(code: str, title: str, advice: str, source: Glance) -> Recognition:
    message = f"{source.locator} is not raw bytes but {title}: carving it would miss almost everything"
    return Recognition(
        code=code, title=title, verdict=Caution.REFUSE, message=message, advice=advice.format(path=source.locator)
    )


def _doubtful(code: str, title: str, advice: str, source: Glance) -> Recognition:
    message = f"{source.locator} begins like {title}; if the whole of it is one, carving will find almost nothing"
    return Recognition(
        code=code,
        title=title,
        verdict=Caution.WARN,
        message=message,
        advice=f"if so, {advice.format(path=source.locator)}",
    )


def _softened(recognition: Recognition) -> Recognition:
    return Recognition(
        code=recognition.code,
        title=recognition.title,
        verdict=Caution.WARN,
        message=f"the first sectors hold {recognition.title}, which is not unpacked",
        advice=f"if the whole of it is one, {recognition.advice}",
    )


def _vhd(source: Glance, head: bytes, tail: bytes) -> Recognition | None:
    """Tell a dynamic VHD (a copy of the footer first) from a fixed one, which is raw with a footer behind."""
    if head.startswith(b"conectix"):
        return _refused("vhd", "Virtual PC disk (VHD)", _QEMU, source)
    if not tail.startswith(b"conectix") or int.from_bytes(tail[60:64], "big") != VHD_FIXED:
        return None
    return Recognition(
        code="vhd-fixed",
        title="fixed VHD",
        verdict=Caution.INFO,
        message="a fixed VHD: raw sectors with a footer of 512 bytes behind them, which can be carved as it is",
        advice="nothing to do",
        offset_bytes=source.size_bytes - TRAILER_BYTES,
    )


def _compressed(
    source: Glance, *, code: str, title: str, command: str, suffixes: tuple[str, ...], whole: bool | None
) -> Recognition | None:
    """Refuse what is surely one compressed file; doubt what may be a compressed file in a raw image's first sectors.

    Args:
        source: what the user gave.
        code: of the recognition.
        title: of the recognition.
        command: unpacks it; `{path}` stands for the source.
        suffixes: names that settle it.
        whole: whether the stream was seen to end where the file does; None when it was not followed so far.
    """
    advice = f"unpack it first: `{command}`, then give what comes out"
    if whole or PurePath(source.locator).suffix.lower() in suffixes:
        return _refused(code, f"compressed with {title}", advice, source)
    return _doubtful(code, f"a {title} file", advice, source) if whole is None else None


def _gzip(source: Glance, head: bytes, tail: bytes) -> Recognition | None:
    """RFC 1952, 2.3.1: method 8, reserved flags zero; and the stream must really inflate."""
    if not head.startswith(b"\x1f\x8b\x08") or len(head) < 18 or head[3] & 0xE0 or head[8] not in (0, 2, 4):
        return None
    stream = zlib.decompressobj(wbits=31)

    def step(data: bytes) -> bytes:
        stream.decompress(data)  # deflate cannot make more than 1032 bytes of one: 64 MiB a step
        return stream.unused_data

    whole = _followed(source, step, lambda: stream.eof, zlib.error)
    return _compressed(
        source, code="gzip", title="gzip", command="gunzip -k {path}", suffixes=(".gz", ".tgz", ".gzip"), whole=whole
    )


def _bzip2(source: Glance, head: bytes, tail: bytes) -> Recognition | None:
    """The magic, a level digit and the first block's magic (pi); and the stream must really decompress."""
    if not (head.startswith(b"BZh") and head[3:4] in b"123456789" and head[4:10] == b"1AY&SY"):
        return None
    stream = bz2.BZ2Decompressor()

    def step(data: bytes) -> bytes:
        stream.decompress(data, OUTPUT_BYTES)  # bzip2 can make a million bytes of one
        for _ in range(MAX_OUTPUTS):
            if stream.eof or stream.needs_input:
                break
            stream.decompress(b"", OUTPUT_BYTES)
        return stream.unused_data

    whole = _followed(source, step, lambda: stream.eof, OSError)
    return _compressed(
        source, code="bzip2", title="bzip2", command="bunzip2 -k {path}", suffixes=(".bz2", ".tbz2"), whole=whole
    )


def _followed(
    source: Glance, step: Callable[[bytes], bytes], at_end: Callable[[], bool], error: type[Exception]
) -> bool | None:
    """Follow a compressed stream a little way, its output bounded.

    Returns:
        True when it ends where the source does, False when it ends before or breaks, None when it goes on.
    """
    for offset_bytes in range(0, min(source.size_bytes, MAX_FOLLOWED_BYTES), STEP_BYTES):
        piece = source.read_at(offset_bytes, STEP_BYTES)
        try:
            left = step(piece)
        except error:
            return False
        if at_end():
            return not left and offset_bytes + len(piece) >= source.size_bytes
    return None


def _xz(source: Glance, head: bytes, tail: bytes) -> Recognition | None:
    """The .xz format, 2.1.1: magic, two flag bytes, their CRC-32; the footer ends in "YZ"."""
    if not head.startswith(b"\xfd7zXZ\x00") or zlib.crc32(head[6:8]) != int.from_bytes(head[8:12], "little"):
        return None
    footer = tail[-12:]
    whole = footer[10:] == b"YZ" and zlib.crc32(footer[4:10]) == int.from_bytes(footer[:4], "little")
    return _compressed(
        source, code="xz", title="xz", command="unxz -k {path}", suffixes=(".xz", ".txz"), whole=whole or None
    )


def _zstd(source: Glance, head: bytes, tail: bytes) -> Recognition | None:
    """RFC 8878, 3.1.1: magic; the reserved bit of the descriptor is zero."""
    if not head.startswith(b"\x28\xb5\x2f\xfd") or len(head) < 5 or head[4] & 0x08:
        return None
    return _compressed(
        source, code="zstd", title="Zstandard", command="unzstd -k {path}", suffixes=(".zst", ".tzst"), whole=None
    )


def _seven_zip(source: Glance, head: bytes, tail: bytes) -> Recognition | None:
    """7zFormat.txt, "SignatureHeader": the CRC-32 of the start header, which gives the archive's end."""
    if not head.startswith(b"7z\xbc\xaf\x27\x1c") or zlib.crc32(head[12:32]) != int.from_bytes(head[8:12], "little"):
        return None
    end_bytes = 32 + int.from_bytes(head[12:20], "little") + int.from_bytes(head[20:28], "little")
    whole = end_bytes == source.size_bytes
    return _compressed(source, code="7z", title="7-Zip", command="7z x {path}", suffixes=(".7z",), whole=whole)


def _zip(source: Glance, head: bytes, tail: bytes) -> Recognition | None:
    """Recognise a zip that is the whole file: its end record (APPNOTE 4.3.16) must end where the file does."""
    if not head.startswith(b"PK\x03\x04"):
        return None
    end = source.read_at(max(0, source.size_bytes - EOCD_BYTES - MAX_COMMENT_BYTES), 1 << 17)
    at = end.rfind(b"PK\x05\x06")
    if at < 0 or at + EOCD_BYTES + int.from_bytes(end[at + 20 : at + 22], "little") != len(end):
        return None
    directory_bytes = int.from_bytes(end[at + 12 : at + 16], "little")
    names = end[max(0, at - directory_bytes) : at].lower()
    first = head[30 : 30 + int.from_bytes(head[26:28], "little")].lower()
    if first.startswith(b"container.description") or b"information.turtle" in names:
        advice = "make it raw: `aff4imager --export_dir . --export_all {path}`, then give what comes out"
        return _refused("aff4", "AFF4", advice, source)
    if first.decode("utf-8", "replace").endswith(IMAGE_SUFFIXES):
        return _refused(
            "zip", "a zip archive of an image", "unpack it first: `unzip {path}`, then give the image", source
        )
    return Recognition(
        code="zip-file",
        title="zip file",
        verdict=Caution.WARN,
        message=f"{source.locator} is itself one zip file (a model saved by torch.save is one), not a drive's image",
        advice="it is carved as it is; to look for images or files packed inside, unpack it first",
    )
