"""Drive kinds: the failing drives of the imager's benchmark; seeded, so that everyone reads the same ones."""

from __future__ import annotations

import random
from collections.abc import Callable

from fixtures.failing_drive import SECTOR_BYTES, damage_of
from tests.bench.drive_model import Condition, Weakness

MIB = 1 << 20
SIZE_BYTES = 4096 * MIB
ADVANCED_SECTOR_BYTES = 4096


def healthy(seed: int) -> Condition:
    """Nothing is wrong."""
    return Condition(damage=damage_of(SIZE_BYTES, []))


def scattered(seed: int) -> Condition:
    """300 single bad sectors, a third of them in clumps of two to five within 200 KiB."""
    rng = random.Random(seed)
    places: list[int] = []
    while len(places) < 300:
        place = rng.randrange(SIZE_BYTES // SECTOR_BYTES - 500)
        clump = rng.randint(2, 5) if rng.random() < 0.1 else 1
        places += [place + rng.randrange(400) for _ in range(clump)]
    return Condition(damage=damage_of(SIZE_BYTES, [(place * SECTOR_BYTES, SECTOR_BYTES) for place in places]))


def big_zone(seed: int) -> Condition:
    """One zone of 16 to 32 MiB, in which every 20th sector can be read, thinning out over 1 MiB at both edges."""
    rng = random.Random(seed)
    size = rng.randrange(16 * MIB, 32 * MIB)
    start = rng.randrange(SIZE_BYTES // 8, SIZE_BYTES * 7 // 8) // SECTOR_BYTES * SECTOR_BYTES
    bad = []
    for offset in range(start, start + size, SECTOR_BYTES):
        edge = min(offset - start, start + size - offset) / MIB
        if rng.random() < min(0.95, edge):
            bad.append((offset, SECTOR_BYTES))
    return Condition(damage=damage_of(SIZE_BYTES, bad))


def head_stripes(seed: int) -> Condition:
    """One of four heads is dead: a stripe of about 1 MiB in every 4 MiB, over the middle quarter of the drive.

    The tracks become shorter on the way inward, so the period drifts; here and there a sector can be read.
    """
    rng = random.Random(seed)
    bad: list[tuple[int, int]] = []
    position, end = SIZE_BYTES * 3 // 8 + rng.randrange(MIB), SIZE_BYTES * 5 // 8
    while position < end:
        shrink = 1 - 0.1 * (position / SIZE_BYTES)
        track = int(MIB * shrink) // SECTOR_BYTES * SECTOR_BYTES
        start = position // SECTOR_BYTES * SECTOR_BYTES
        good = rng.randrange(track // SECTOR_BYTES) * SECTOR_BYTES
        bad += [(start, good), (start + good + SECTOR_BYTES, track - good - SECTOR_BYTES)]
        position += 4 * track
    return Condition(damage=damage_of(SIZE_BYTES, bad))


def slow_zone(seed: int) -> Condition:
    """256 MiB in two zones where each sector takes 2 ms, and 40 single bad sectors elsewhere."""
    rng = random.Random(seed)
    areas = []
    for half in (0, 1):
        start = half * SIZE_BYTES // 2 + rng.randrange(SIZE_BYTES // 3) // SECTOR_BYTES * SECTOR_BYTES
        areas.append((start, 128 * MIB))
    places = [rng.randrange(SIZE_BYTES // SECTOR_BYTES) * SECTOR_BYTES for _ in range(40)]
    return Condition(
        damage=damage_of(SIZE_BYTES, [(place, SECTOR_BYTES) for place in places]),
        weakness=Weakness(areas=tuple(areas), slow_seconds=0.002),
    )


def dying_end(seed: int) -> Condition:
    """Bad sectors from 85 % on, ever denser: one in 4 MiB at first, and everything dead in the last 8 MiB."""
    rng = random.Random(seed)
    start, dead = SIZE_BYTES * 85 // 100 // SECTOR_BYTES, (SIZE_BYTES - 8 * MIB) // SECTOR_BYTES
    bad, sector = [], start
    while sector < dead:
        depth = (sector - start) / (dead - start)
        gap = 8192 * (1 / 256) ** depth  # sectors between two bad ones: 4 MiB … 16 KiB
        sector += 1 + int(rng.expovariate(1 / gap))
        bad.append((sector * SECTOR_BYTES, SECTOR_BYTES))
    bad.append((dead * SECTOR_BYTES, 8 * MIB - SECTOR_BYTES))  # the last is good: GNU ddrescue cuts a bad end off
    return Condition(damage=damage_of(SIZE_BYTES, bad))


def advanced_format(seed: int) -> Condition:
    """300 bad physical sectors of 4096 bytes on a drive that shows 512, alone and in runs of up to eight."""
    rng = random.Random(seed)
    size = ADVANCED_SECTOR_BYTES
    bad = [(rng.randrange(SIZE_BYTES // size) * size, size * rng.choice((1, 1, 1, 2, 8))) for _ in range(150)]
    return Condition(damage=damage_of(SIZE_BYTES, bad), physical_sector_bytes=size)


def mixed(seed: int) -> Condition:
    """A drive of 1 GiB with everything: up to 25 zones of 64 KiB to 8 MiB, sparse to dead, and single bad sectors."""
    rng = random.Random(seed)
    size = SIZE_BYTES // 4
    bad: list[tuple[int, int]] = []
    for _ in range(rng.randint(3, 25)):
        zone = int(2 ** rng.uniform(16, 23))
        start = rng.randrange(size - zone) // SECTOR_BYTES * SECTOR_BYTES
        share = rng.choice([0.02, 0.2, 0.9, 1.0])
        offsets = range(start, start + zone, SECTOR_BYTES)
        bad += [(offset, SECTOR_BYTES) for offset in offsets if rng.random() < share]
    bad += [(rng.randrange(size // SECTOR_BYTES - 1) * SECTOR_BYTES, SECTOR_BYTES) for _ in range(rng.randint(0, 200))]
    return Condition(damage=damage_of(size, [extent for extent in bad if extent[0] < size - SECTOR_BYTES]))


def uneven_stripes(seed: int) -> Condition:
    """A drive of 1 GiB; in 128 MiB of it dead stripes of 230 to 350 KiB, close together, at uneven distances."""
    rng = random.Random(seed)
    size, bad = SIZE_BYTES // 4, []
    position = size // 2
    while position < size // 2 + 128 * MIB:
        stripe = rng.randrange(230, 350) * 1024
        bad.append((position, stripe))
        position += rng.randrange(600, 900) * 1024
    return Condition(damage=damage_of(size, bad))


KINDS: dict[str, Callable[[int], Condition]] = {
    "healthy": healthy,
    "scattered sectors": scattered,
    "one big zone": big_zone,
    "head-striped": head_stripes,
    "slow zones": slow_zone,
    "dying end": dying_end,
    "512e, scattered": advanced_format,
    "mixed": mixed,
    "uneven stripes": uneven_stripes,
}
