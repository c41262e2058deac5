"""Hidden areas: what a drive keeps behind its visible end (HPA, DCO), as far as the kernel tells. Nothing is touched.

The kernel keeps what an ATA drive answers to IDENTIFY DEVICE in /sys/class/ata_device. It says whether the drive has
these feature sets, and how many sectors are visible; the size that lies behind is asked of the drive with commands
that we do not send (`hdparm -N`, `hdparm --dco-identify`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from imaging import block_stack
from imaging.block_stack import SYS, read_text

IDENTIFY_WORDS = 256
MAX_TEXT_BYTES = IDENTIFY_WORDS * 8
HPA_WORD, HPA_BIT = 82, 10  # ATA8-ACS, IDENTIFY DEVICE: word 82 supported, word 85 enabled
HPA_ENABLED_WORD = 85
DCO_WORD, DCO_BIT = 83, 11
VISIBLE_48_WORD = 100  # four words: user addressable sectors, 48 bits
_PORT = re.compile(r"ata\d+")
_WORD = re.compile(r"[0-9a-fA-F]{4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenAreas:
    """What is known of them; None where nothing tells.

    Attributes:
        hpa_supported: the drive can hide its end (Host Protected Area).
        hpa_enabled: that feature set is on; whether something is hidden, it does not say.
        dco_supported: the drive's own configuration can hide sectors and features (Device Configuration Overlay).
        visible_sectors: what the drive said it has, when the kernel asked.
        note: in words.
    """

    hpa_supported: bool | None = None
    hpa_enabled: bool | None = None
    dco_supported: bool | None = None
    visible_sectors: int | None = None
    note: str


def hidden_areas(device: Path | str, *, sys_root: Path = SYS) -> HiddenAreas:
    """Return what /sys tells of a drive's hidden areas; no device is opened."""
    number = block_stack.number_of(device)
    return HiddenAreas(note="no drive") if number is None else hidden_areas_of_number(number, sys_root=sys_root)


def hidden_areas_of_number(number: str, *, sys_root: Path = SYS) -> HiddenAreas:
    """Return what /sys tells of the block device "major:minor"."""
    disk = block_stack.disk_folder_of(number, sys_root=sys_root)
    if disk is not None and disk.name.startswith("nvme"):
        return HiddenAreas(note="NVMe drives have neither HPA nor DCO")
    words = _identify_words(disk) if disk is not None else None
    if words is None:
        return HiddenAreas(note="not known: the kernel keeps no ATA identification of this drive")
    supported, enabled = _bit(words[HPA_WORD], HPA_BIT), _bit(words[HPA_ENABLED_WORD], HPA_BIT)
    dco = _bit(words[DCO_WORD], DCO_BIT)
    return HiddenAreas(
        hpa_supported=supported,
        hpa_enabled=enabled,
        dco_supported=dco,
        visible_sectors=sum(words[VISIBLE_48_WORD + index] << 16 * index for index in range(4)) or None,
        note=(
            "the drive has neither HPA nor DCO"
            if not (supported or dco)
            else "the drive can hide sectors; whether it does was not asked of it (`hdparm -N` and "
            "`hdparm --dco-identify` ask); only what is visible was imaged"
        ),
    )


def _identify_words(disk: Path) -> tuple[int, ...] | None:
    """Return the 256 words of the one drive at the disk's ATA port; None where there is none, or several."""
    port = next((folder for folder in disk.resolve().parents if _PORT.fullmatch(folder.name)), None)
    found = sorted(port.glob("link*/dev*/ata_device/dev*/id")) if port is not None else []
    text = (read_text(found[0]) or "")[:MAX_TEXT_BYTES] if len(found) == 1 else ""
    words = text.split()
    if len(words) != IDENTIFY_WORDS or not all(_WORD.fullmatch(word) for word in words):
        return None
    return tuple(int(word, 16) for word in words)


def _bit(word: int, bit: int) -> bool:
    return bool(word >> bit & 1)
