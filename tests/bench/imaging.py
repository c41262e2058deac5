"""Bench: the imager beside GNU ddrescue, on simulated failing drives and on real devices.

Run it with `python -m tests.bench.imaging [simulated] [devices] [--seeds 3] [--kinds …] [--mechanics disk flash]`;
`tests/bench/RESULTS.md` keeps what came out. The simulated part (minutes) needs `ddrescue`: its order of reads is had
from its test mode (`ddrescue -H map --log-reads`) and replayed on the same drive model (see `drive_model`), beside our
plan. For GNU ddrescue's slow reads (-a) it runs before the simulated drive itself (see `gnu_live`). The part on real
devices needs root; see `imaging_devices`.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable
from pathlib import Path

from imaging.rescue.options import RescueOptions
from tests.bench import gnu_live, imaging_devices
from tests.bench.drive_kinds import KINDS, SIZE_BYTES
from tests.bench.drive_model import DISK, FLASH, Condition, Mechanics
from tests.bench.rescue_runs import SHARES, Curve, run_gnu, run_ours

MECHANICS = {"disk": DISK, "flash": FLASH}
OURS, GNU = "carver", "GNU ddrescue"
SLOW_ARGUMENTS = ("-a", "10M", "--delay-slow=1")
SECONDS_MARKS = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
READS_MARKS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)


def contenders(mechanics: Mechanics, condition: Condition) -> dict[str, Callable[[], Curve]]:
    """Return who is tried on a drive."""
    sector = condition.physical_sector_bytes
    chosen = {OURS: lambda: run_ours(mechanics, condition, RescueOptions()), GNU: lambda: run_gnu(mechanics, condition)}
    if sector != 512:
        chosen[f"{GNU} -b {sector}"] = lambda: run_gnu(mechanics, condition, ("-b", str(sector)))
    if condition.weakness.areas and gnu_live.missing() is None:
        chosen[f"{GNU} {' '.join(SLOW_ARGUMENTS)}"] = lambda: gnu_live.run_gnu_live(
            mechanics, condition, SLOW_ARGUMENTS
        )
    return chosen


def measure(mechanics: Mechanics, kinds: list[str], seeds: int) -> None:
    """Print a table of milestones, one of ratios, and the curves of the first seed."""
    rows, ratios, curves = [], [], []
    for kind in kinds:
        runs: dict[str, list[Curve]] = {}
        good: list[int] = []
        for seed in range(seeds):
            condition = KINDS[kind](seed)
            good.append(condition.damage.size_bytes - condition.damage.bad_bytes)
            for name, one in contenders(mechanics, condition).items():
                runs.setdefault(name, []).append(one())
        for name, made in runs.items():
            rows.append(milestones(kind, name, made, good))
            curves.append(curve_row(kind, name, made[0], good[0]))
            if name != OURS:
                ratios.append(ratio_row(kind, name, runs[OURS], made, good))
    show("kind|who|50 %|90 %|99 %|100 %|to the end|reads|errors|not rescued", rows)
    show("kind|carver to|50 %|90 %|99 %|100 %|reads|errors", ratios)
    head = [f"{mark:,} s" for mark in SECONDS_MARKS] + [f"{mark:,} reads" for mark in READS_MARKS]
    show("|".join(["kind", "who", *head]), curves)


def milestones(kind: str, name: str, made: list[Curve], good: list[int]) -> list[str]:
    """Return medians over the seeds: simulated seconds to shares of what can be rescued, reads, errors."""
    times = [
        middle(curve.seconds_to(int(size * share)) for curve, size in zip(made, good, strict=True)) for share in SHARES
    ]
    left = sum(size - curve.final_bytes for curve, size in zip(made, good, strict=True))
    cells = [f"{seconds:,.1f}" if seconds < 1000 else f"{seconds:,.0f}" for seconds in times]
    cells.append(f"{middle(curve.seconds[-1] for curve in made):,.0f}")
    cells += [f"{middle(curve.reads for curve in made):,.0f}", f"{middle(curve.errors for curve in made):,.0f}"]
    return [kind, name, *cells, str(left)]


def ratio_row(kind: str, name: str, ours: list[Curve], theirs: list[Curve], good: list[int]) -> list[str]:
    """Return the medians of our times to theirs, seed by seed, and the worst of them."""
    cells = []
    for share in SHARES:
        marks = [int(size * share) for size in good]
        both = zip(ours, theirs, marks, strict=True)
        ratios = [own.seconds_to(mark) / other.seconds_to(mark) for own, other, mark in both]
        cells.append(f"{statistics.median(ratios):.3f} ({max(ratios):.3f})")
    for count in ("reads", "errors"):
        pairs = [(getattr(own, count), getattr(other, count)) for own, other in zip(ours, theirs, strict=True)]
        cells.append(f"{statistics.median(own / other for own, other in pairs):.2f}" if pairs[0][1] else "none")
    return [kind, name, *cells]


def curve_row(kind: str, name: str, curve: Curve, good: int) -> list[str]:
    """Return what of the rescuable bytes was there after so many seconds, and so many reads, in per cent."""
    at = [curve.rescued_at(mark) if mark < curve.seconds[-1] else None for mark in SECONDS_MARKS]
    at += [curve.rescued[mark] if mark < curve.reads else None for mark in READS_MARKS]
    return [kind, name, *("" if had is None else f"{100 * had / good:.2f}" for had in at)]


def middle(values: object) -> float:
    return float(statistics.median(values))  # type: ignore[call-overload]


def show(head: str, rows: list[list[str]]) -> None:
    print(f"\n| {head.replace('|', ' | ')} |\n|{'---|' * (head.count('|') + 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["simulated", "devices"], help="simulated, devices")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--mechanics", nargs="+", default=list(MECHANICS), choices=list(MECHANICS))
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where the real device's file lies")
    parser.add_argument("--size-mib", type=int, default=1024, help="of the real device")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    if "simulated" in chosen.parts:
        for name in chosen.mechanics:
            print(f"\n### simulated {name}, {SIZE_BYTES >> 30} GiB unless said otherwise, {chosen.seeds} seeds")
            measure(MECHANICS[name], chosen.kinds, chosen.seeds)
    if "devices" in chosen.parts:
        imaging_devices.measure(chosen.folder, chosen.size_mib, chosen.rounds)


if __name__ == "__main__":
    main()
