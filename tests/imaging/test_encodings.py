"""What is no raw image is refused, what hides files is told, and a raw image that only begins like one is neither."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.encodings import CONTAINERS, MAX_FAULTS, Caution, Glance, recognise_path
from imaging.errors import ReadFault
from imaging.volumes import SUPERBLOCKS, Volume, partitions, recognise
from tests.command import need

NOISE = np.random.default_rng(1).bytes(300_000)
MIB = 1 << 20


class Bytes:
    """A source of given bytes, read from a sparse mapping of offsets."""

    def __init__(self, size_bytes, *pieces, locator="drive.img", sector_bytes=512):
        self.size_bytes, self.locator, self.sector_bytes, self.unread = size_bytes, locator, sector_bytes, None
        self.pieces = pieces

    def read_at(self, offset_bytes, size_bytes):
        size_bytes = max(0, min(size_bytes, self.size_bytes - offset_bytes))
        made = bytearray(size_bytes)
        for start, piece in self.pieces:
            low, high = max(start, offset_bytes), min(start + len(piece), offset_bytes + size_bytes)
            if low < high:
                made[low - offset_bytes : high - offset_bytes] = piece[low - start : high - start]
        return bytes(made)


class Unreadable(Bytes):
    reads = 0

    def read_at(self, offset_bytes, size_bytes):
        self.reads += 1
        raise ReadFault("bad sector", offset_bytes=offset_bytes, size_bytes=size_bytes, errno=5)


def _whole(content, locator="drive.img"):
    return Bytes(len(content), (0, content), locator=locator)


def _told(source, **options):
    return [(one.code, str(one.verdict)) for one in recognise(source, **options)]


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda container: f"{container.code}-{container.magic[:4].hex()}")
def test_every_container_is_refused_with_what_to_do(container):
    at = container.offset_bytes if container.offset_bytes >= 0 else MIB + container.offset_bytes
    (found,) = recognise(Bytes(MIB, (at, container.magic)))
    assert (found.code, found.verdict) == (container.code, Caution.REFUSE)
    assert "drive.img" in found.message
    assert "{" not in found.advice


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda container: f"{container.code}-{container.magic[:4].hex()}")
def test_a_container_on_a_device_is_told_but_not_refused(container):
    at = container.offset_bytes if container.offset_bytes >= 0 else MIB + container.offset_bytes
    assert _told(Bytes(MIB, (at, container.magic)), device=True) == [(container.code, "warn")]


COMPRESSORS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("code", COMPRESSORS)
@pytest.mark.parametrize("content", [NOISE, bytes(40 * MIB)], ids=["noise", "zeros"])
def test_a_file_compressed_as_a_whole_is_refused_whatever_its_name(code, content):
    assert _told(_whole(COMPRESSORS[code](content))) == [(code, "refuse")]


@pytest.mark.parametrize("code", ["gzip", "bzip2"])
def test_a_raw_image_whose_first_file_is_a_compressed_one_is_carved(code):
    assert _told(_whole(COMPRESSORS[code](NOISE) + bytes(512))) == []


@pytest.mark.parametrize("magic", [b"\x1f\x8b\x08", b"BZh9", b"BZh91AY&SY", b"7z\xbc\xaf\x27\x1c", b"\xfd7zXZ\x00"])
def test_a_compression_magic_alone_is_not_believed(magic):
    assert _told(_whole(magic + bytes(5) + NOISE)) == []


def test_a_compressed_stream_that_goes_on_too_long_to_follow_is_told_and_its_name_decides(monkeypatch):
    monkeypatch.setattr("imaging.encodings.MAX_FOLLOWED_BYTES", 1 << 16)
    content = gzip.compress(NOISE)
    assert _told(_whole(content)) == [("gzip", "warn")]
    assert _told(_whole(content, locator="drive.img.gz")) == [("gzip", "refuse")]


def test_a_zstd_frame_is_told_and_its_name_decides():
    content = b"\x28\xb5\x2f\xfd\x04\x00" + NOISE
    assert _told(_whole(content)) == [("zstd", "warn")]
    assert _told(_whole(content, locator="drive.img.zst")) == [("zstd", "refuse")]


def test_a_7z_archive_is_refused_when_it_ends_where_the_file_does():
    start = (100).to_bytes(8, "little") + (20).to_bytes(8, "little") + bytes(4)
    head = b"7z\xbc\xaf\x27\x1c\x00\x04" + zlib.crc32(start).to_bytes(4, "little") + start
    assert _told(_whole(head + NOISE[:120])) == [("7z", "refuse")]
    assert _told(_whole(head + NOISE[:1000])) == []


def _zip(*names):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, NOISE[:2000])
    return made.getvalue()


def test_a_model_that_is_a_zip_is_carved_as_it_is_but_a_zipped_image_is_refused():
    assert _told(_whole(_zip("archive/data.pkl", "archive/data/0"))) == [("zip-file", "warn")]
    assert _told(_whole(_zip("drive.IMG"))) == [("zip", "refuse")]
    assert _told(_whole(_zip("container.description", "version.txt"))) == [("aff4", "refuse")]


def test_a_raw_image_whose_first_file_is_a_zip_is_carved():
    assert _told(_whole(_zip("archive/data.pkl") + bytes(512))) == []


def test_a_fixed_vhd_is_raw_with_a_footer_and_a_dynamic_one_is_refused():
    footer = b"conectix" + bytes(52) + (2).to_bytes(4, "big") + bytes(448)
    assert _told(Bytes(MIB, (MIB - 512, footer))) == [("vhd-fixed", "info")]
    assert _told(Bytes(MIB, (0, footer), (MIB - 512, footer))) == [("vhd", "refuse")]


@pytest.mark.parametrize(
    ("form", "code"), [("qcow2", "qcow2"), ("vmdk", "vmdk"), ("vhdx", "vhdx"), ("vdi", "vdi"), ("vpc", "vhd")]
)
def test_images_that_qemu_makes_are_refused(tmp_path, form, code):
    need("qemu-img is not installed (apt-get install qemu-utils)" if shutil.which("qemu-img") is None else None)
    made = tmp_path / "made"
    subprocess.run(["qemu-img", "create", "-q", "-f", form, str(made), "8M"], check=True, timeout=60)
    assert _told(_whole(made.read_bytes())) == [(code, "refuse")]


def test_a_sparse_bundle_and_the_first_piece_of_several_are_known_by_their_paths(tmp_path):
    (tmp_path / "disk.sparsebundle" / "bands").mkdir(parents=True)
    assert recognise_path(tmp_path / "disk.sparsebundle").code == "sparsebundle"
    (tmp_path / "drive.001").write_bytes(b"a")
    assert recognise_path(tmp_path / "drive.001") is None
    (tmp_path / "drive.002").write_bytes(b"b")
    assert recognise_path(tmp_path / "drive.001").code == "split-raw"
    (tmp_path / "drive.000").write_bytes(b"0")  # as `split -d -a 3` numbers them
    assert recognise_path(tmp_path / "drive.000").code == "split-raw"
    assert recognise_path(tmp_path) is None


def _volume(superblock, at=0):
    return [(at + offset, mark) for offset, mark in superblock.marks]


def _mbr(*entries):
    table = b"".join(
        bytes([0, 0, 0, 0, kind, 0, 0, 0]) + first.to_bytes(4, "little") + count.to_bytes(4, "little")
        for kind, first, count in entries
    )
    return table.ljust(64, b"\0") + b"\x55\xaa"


def _gpt(first, last, *, sector_bytes=512):
    header = b"EFI PART" + bytes(64) + (2).to_bytes(8, "little") + (128).to_bytes(4, "little")
    header += (128).to_bytes(4, "little") + bytes(4)
    entry = b"k" * 16 + b"o" * 16 + first.to_bytes(8, "little") + last.to_bytes(8, "little")
    protective = _mbr((0xEE, 1, 0xFFFFFFFF))
    return [(446, protective), (sector_bytes, header), (2 * sector_bytes, entry)]


@pytest.mark.parametrize("superblock", SUPERBLOCKS, ids=lambda superblock: superblock.title)
def test_every_volume_is_told_at_the_start_of_the_drive_and_of_a_partition(superblock):
    whole = Bytes(4 * MIB, *_volume(superblock))
    assert _told(whole) == [(superblock.code, str(superblock.caution))]
    second = Bytes(8 * MIB, (446, _mbr((7, 64, 64), (7, 2048, 8192))), *_volume(superblock, MIB))
    (found,) = recognise(second)
    assert (found.code, found.offset_bytes) == (superblock.code, MIB)
    assert "partition 2 at 0x100000" in found.message


@pytest.mark.parametrize("sector_bytes", [512, 4096])
def test_volumes_are_found_in_gpt_partitions_of_either_sector_size(sector_bytes):
    luks = (256 * sector_bytes, b"LUKS\xba\xbe\x00\x02")
    source = Bytes(16 * MIB, *_gpt(256, 1023, sector_bytes=sector_bytes), luks)
    assert [one.code for one in recognise(source)] == ["luks"]
    assert partitions(Glance(source)) == (
        Volume(offset_bytes=256 * sector_bytes, size_bytes=768 * sector_bytes, name="partition 1"),
    )


def test_logical_partitions_are_followed_and_a_circle_of_them_ends():
    link = _mbr((0x83, 8, 100), (5, 0, 200))
    source = Bytes(MIB, (446, _mbr((5, 64, 1000))), (64 * 512 + 446, link))
    found = partitions(Glance(source))
    assert found[0] == Volume(offset_bytes=72 * 512, size_bytes=100 * 512, name="partition 5")
    assert len(found) == 64


def test_an_encrypted_apfs_container_is_told_by_its_key_locker():
    head = bytes(32) + b"NXSB" + bytes(1400)
    assert _told(Bytes(MIB, (0, head))) == [("apfs", "info")]
    assert _told(Bytes(MIB, (0, head), (1304, b"\x01"))) == [("apfs-encrypted", "warn")]


@pytest.mark.parametrize(
    ("at", "minor", "level_at"), [(0, 1, 72), (4096, 1, 72), ((MIB // 512 - 16) * 512, 1, 72), (MIB - 0x10000, 0, 28)]
)
def test_a_raid_member_is_told_wherever_its_superblock_lies(at, minor, level_at):
    superblock = bytearray(b"\xfc\x4e\x2b\xa9" + bytes([minor]) + bytes(91))
    superblock[level_at] = 5
    (found,) = recognise(Bytes(MIB, (at, bytes(superblock))))
    assert found.code == "mdraid"
    assert "level 5" in found.message
    superblock[level_at] = 1
    (mirror,) = recognise(Bytes(MIB, (at, bytes(superblock))))
    assert "mirror" in mirror.message


def test_a_zfs_label_is_told_by_any_of_its_uberblocks():
    assert _told(Bytes(MIB, ((128 << 10) + 5 * 1024, b"\x0c\xb1\xba\x00\0\0\0\0"))) == [("zfs", "warn")]


def test_ext4_with_encrypted_folders_is_told_and_plain_ext4_is_not():
    assert _told(Bytes(MIB, (1080, b"\x53\xef"))) == []
    assert _told(Bytes(MIB, (1080, b"\x53\xef"), (1120, b"\x00\x00\x01\x00"))) == [("fscrypt", "warn")]


def test_what_cannot_be_read_is_not_recognised_and_not_tried_for_long():
    source = Unreadable(4 * MIB)
    assert recognise(source) == []
    assert source.reads == MAX_FAULTS


def test_a_drive_that_stalls_is_not_looked_at_for_long(monkeypatch):
    clock = iter([0, 5, 10, 15, 20, *range(21, 1000)])
    monkeypatch.setattr("imaging.encodings.monotonic", lambda: next(clock))
    look = Glance(Bytes(MIB, (0, b"abc")))
    assert [look.read_at(0, 3) for _ in range(6)] == [b"abc"] * 4 + [b""] * 2


def test_an_empty_source_is_nothing():
    assert recognise(Bytes(0)) == []


@settings(max_examples=200, deadline=None)
@given(
    head=st.binary(max_size=700), tail=st.binary(max_size=600), magic=st.sampled_from(CONTAINERS), start=st.booleans()
)
def test_hostile_heads_and_tails_are_looked_at_without_failing(head, tail, magic, start):
    size_bytes = 300_000
    content = (magic.magic + head) if start else head
    boot = (446, _mbr((0xEE, 1, 5), (5, 9, 9))) if not start else (0, b"")
    source = Bytes(size_bytes, (0, content), boot, (512, b"EFI PART" + tail), (size_bytes - len(tail), tail))
    assert isinstance(recognise(source), list)


def _ext(blocks, *, log_block=2, high=0, at=0):
    flags = bytes([0x80 if high else 0, 0, 0, 0])
    words = [(1028, blocks.to_bytes(4, "little")), (1048, bytes([log_block])), (1080, b"\x53\xef"), (1120, flags)]
    return [(at + place, word) for place, word in (*words, (1360, high.to_bytes(4, "little")))]


NTFS = [(3, b"NTFS    "), (11, (512).to_bytes(2, "little")), (40, (3 * MIB // 512).to_bytes(8, "little"))]
EXFAT = [(3, b"EXFAT   "), (72, (3 * MIB // 512).to_bytes(8, "little")), (108, b"\x09")]
XFS = [(0, b"XFSB"), (4, (4096).to_bytes(4, "big")), (8, (3 * MIB // 4096).to_bytes(8, "big"))]


@pytest.mark.parametrize(
    "laid",
    [
        _ext(3 * MIB // 4096),
        NTFS,
        EXFAT,
        XFS,
        [(446, _mbr((0x83, 8, 3 * MIB // 512 - 8)))],
        _gpt(256, 3 * MIB // 512 - 1),
        [(446, _mbr((0x83, 8, 100))), *_ext(3 * MIB // 4096 - 1, at=4096)],
    ],
    ids=["ext4", "ntfs", "exfat", "xfs", "mbr", "gpt", "in a partition"],
)
def test_a_copy_that_ends_before_what_lies_in_it_is_told_and_a_whole_one_is_not(laid):
    assert "cut-short" not in [one.code for one in recognise(Bytes(3 * MIB, *laid))]
    (cut,) = [one for one in recognise(Bytes(3 * MIB - 512, *laid)) if one.code == "cut-short"]
    assert cut.verdict is Caution.WARN and "should go on to 0x300000, but the source ends at 0x2ffe00" in cut.message


def test_a_large_ext4_is_believed_in_all_64_bits_of_its_length():
    (cut,) = recognise(Bytes(MIB, *_ext(1, high=1)))
    assert f"go on to {(1 << 32 | 1) << 12:#x}" in cut.message


def test_a_protective_entry_is_no_partition_where_no_gpt_can_be_read():
    assert recognise(Bytes(MIB, (446, _mbr((0xEE, 1, 0xFFFFFFFF))))) == []
