"""What the scan's tests share: small formats of their own, the cases, and an oracle that knows only `bytes.find`."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from carver import chunks
from carver.automaton import Automaton, PatternTable
from imaging.errors import ReadFault
from imaging.extent import Extent, ExtentSet
from imaging.source import RawImage
from signatures.format import Format, Pattern, SectorProbe, Starts
from signatures.verdict import rejected

MAGICS = (b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b'\0\0\0\0{"', b"BEGIN-OF-A-LONG-PATTERN-0123456789")


def a_format(
    name: str = "toy",
    magics: Sequence[bytes] = (),
    *,
    patterns: tuple[Pattern, ...] = (),
    probes: tuple[SectorProbe, ...] = (),
    starts: Starts | None = None,
) -> Format:
    named = tuple(Pattern(bytes=magic, name=f"p{i}") for i, magic in enumerate(magics))
    return Format(
        name=name,
        suffix=".toy",
        title="a toy",
        patterns=named + patterns,
        probes=probes,
        validate=lambda window: rejected("toy"),
        proves="nothing",
        starts=starts,
    )


def oracle(data: bytes, table: PatternTable, unread: ExtentSet | None = None) -> list[tuple[int, int]]:
    """Every hit by plain search, as (offset, pattern number)."""
    hits = []
    for number, (_, entry) in enumerate(table):
        if isinstance(entry, Pattern):
            offsets = [at for at in found(data, entry.bytes) if asked(data, at, entry)]
            offsets = [at - len(entry.before) for at in offsets]
            size = len(entry.before) + len(entry.bytes) + len(entry.after)
        else:
            offsets, size = probed(data, entry), len(entry.allowed)
        gone = [range(e.offset_bytes, e.end_bytes) for e in unread or ()]
        hits += [(at, number) for at in offsets if not any(at < g.stop and g.start < at + size for g in gone)]
    return sorted(hits)


def asked(data: bytes, at: int, entry: Pattern) -> bool:
    """Whether the bytes around a constant are what its pattern says."""
    end = at + len(entry.bytes)
    before, after = data[max(at - len(entry.before), 0) : at], data[end : end + len(entry.after)]
    if len(before) < len(entry.before) or len(after) < len(entry.after):
        return False
    return all(value in values for value, values in zip(before + after, entry.before + entry.after, strict=True))


def found(data: bytes, needle: bytes) -> list[int]:
    offsets, at = [], data.find(needle)
    while at >= 0:
        offsets.append(at)
        at = data.find(needle, at + 1)
    return offsets


def probed(data: bytes, probe: SectorProbe) -> list[int]:
    size = len(probe.allowed)
    sectors = range(0, len(data) - size + 1, 512)
    return [at for at in sectors if all(data[at + i] in values for i, values in enumerate(probe.allowed))]


def planted(size: int, offsets: Iterable[int], magics: Sequence[bytes] = MAGICS, *, seed: int = 7) -> bytes:
    """Seeded random bytes with the magics laid in turn at these offsets."""
    data = bytearray(random.Random(seed).randbytes(size))
    for turn, at in enumerate(offsets):
        magic = magics[turn % len(magics)]
        data[max(at, 0) : max(at, 0) + len(magic)] = magic
    return bytes(data[:size])


def walked(automaton: Automaton, data: bytes, limit: int) -> list[tuple[int, int]]:
    """The pattern kernel's twin: the plain walk over the same tables, byte by byte, with no prefilter."""
    allowed = automaton.asked_allowed.tolist()
    hits, state = [], 0
    for at, value in enumerate(data):
        state = int(automaton.next_states[state, value])
        for number in automaton.out_numbers[automaton.out_first[state] : automaton.out_first[state + 1]].tolist():
            start = at + 1 - int(automaton.ends[number])
            rows = range(int(automaton.asked_first[number]), int(automaton.asked_first[number + 1]))
            places = [start + int(automaton.asked_places[row]) for row in rows]
            if start < 0 or any(place >= len(data) for place in places):
                continue
            if start < limit and all(allowed[row][data[place]] for row, place in zip(rows, places, strict=True)):
                hits.append((start, number))
    return sorted(hits)


OVERLAPPING = (b"abcab", b"bcab", b"cabc", b"abcabcab", b"aaaa", b"aaaaa")
MANY = tuple(bytes([0x12, n]) + f"producer{n % 7}{n}".encode() for n in range(40)) + MAGICS
CASES: dict[str, tuple[Sequence[bytes], bytes]] = {
    "nothing": (MAGICS, b""),
    "shorter-than-a-pattern": (MAGICS, b"PK\x03"),
    "the-pattern-alone": (MAGICS, b"PK\x03\x04"),
    "first-and-last-bytes": (MAGICS, b"PK\x03\x04" + bytes(300) + b"\x89HDF\r\n\x1a\n"),
    "overlapping-patterns": (OVERLAPPING, b"xabcabcabcabaaaaaab" * 40),
    "at-every-place-of-a-block": (MAGICS, b"".join(b"PK\x03\x04" + bytes(64 + i) for i in range(130))),
    "across-block-borders": (MAGICS, planted(5000, range(45, 4900, 63))),
    "long-across-two-blocks": ((b"x" * 100 + b"END",), b"y" * 77 + b"x" * 100 + b"END" + b"x" * 150 + b"END"),
    "half-patterns": (MAGICS, b"PK\x03PK\x03\x03K\x03\x04\x89HDF\r\n\x1aPK" * 30),
    "all-pk": (MAGICS, b"PK\x03\x04" * 2000),
    "all-zeros": (MAGICS, bytes(5000)),
    "all-zeros-wanted": ((bytes(4),), bytes(700)),
    "all-same-byte-wanted": ((b"\xff" * 4, b"\xff" * 9), b"\xff" * 700),
    "no-four-plain-bytes": (
        (b"\x80\x02\x8a\nl\xfc\x9cF", *MAGICS),
        planted(5000, range(9, 4900, 63), [b"\x80\x02\x8a\nl\xfc\x9cF"]),
    ),
    "more-patterns-than-buckets": (MANY, planted(20000, range(9, 19000, 61), MANY)),
    "fingerprints-alone": (MAGICS, b"LONG" * 50 + b'HDF\r\0\0{"' * 100 + b"-PAT" * 77),
    "random": (MAGICS, planted(20000, ())),
}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


class FaultyImage(RawImage):
    """An image whose `bad` says what cannot be read; `use` makes it so for mapping and reading alike."""

    bad: Callable[[int, int], bool] = staticmethod(lambda offset_bytes, size_bytes: False)

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        if self.bad(offset_bytes, size_bytes):
            raise ReadFault("bad sector", offset_bytes=offset_bytes, size_bytes=size_bytes, errno=5)
        return super().read_at(offset_bytes, size_bytes)

    @classmethod
    def use(cls, monkeypatch: pytest.MonkeyPatch) -> None:
        mapped = chunks._mapped

        def refuses(image: FaultyImage, extent: Extent) -> object:
            return None if image.bad(extent.offset_bytes, extent.size_bytes) else mapped(image, extent)

        monkeypatch.setattr(chunks, "_read_at", cls.read_at_place)
        monkeypatch.setattr(chunks, "_mapped", refuses)

    def read_at_place(self, place: memoryview, offset_bytes: int) -> int:
        if self.bad(offset_bytes, len(place)):
            raise OSError(5, "bad sector")
        return os.preadv(self.fileno(), [place], offset_bytes)
