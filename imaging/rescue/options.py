"""Rescue options: what the user may ask of a rescue, with GNU ddrescue's meanings."""

from __future__ import annotations

from dataclasses import dataclass, field

from imaging.errors import UsageError
from imaging.extent import ExtentSet
from imaging.map_lines import MAX_OFFSET_BYTES
from imaging.placement import Placement
from imaging.rescue.limits import Limits
from imaging.rescue.slowness import SlowReads

COPYING_PASSES = 5
DEFAULT_CLUSTER_BYTES = 64 * 1024
LARGE_CLUSTER_BYTES = 4 * DEFAULT_CLUSTER_BYTES
MIN_SKIP_BYTES = 64 * 1024
SKIP_DIVISOR, MAX_SKIP_DIVISOR = 100_000, 100  # of the drive's size: ddrescue's manual, --skip-size


@dataclass(frozen=True, slots=True, kw_only=True)
class RescueOptions:
    """How a rescue goes about its work.

    Attributes:
        compatible: read in the very order of GNU ddrescue; the default order gets most of a drive sooner (see `order`).
        cluster_bytes: how much the copying phase reads at a time (ddrescue's -c); a multiple of the sector. At the
            default size, and in the default order, healthy stretches are read four clusters at a time.
        sector_bytes: how much trimming, scraping and retrying read at a time (-b); None: the drive's physical sector.
        initial_skip_bytes: how far the first pass jumps after a first error (-K); 0: it never jumps; None: a
            100,000th of the drive, at least 64 KiB.
        max_skip_bytes: the jump grows with each error up to this (-K); None: a 100th of the drive.
        copying_passes: which of the passes 1 … 5 of the copying phase are run (--cpass).
        no_trim: leave the trimming phase out (-N).
        no_scrape: leave the scraping phase out (-n).
        retry_passes: how often each bad sector is tried again at the end (-r); -1: without end.
        reverse: every pass goes the other way (-R).
        unidirectional: passes do not change direction (-u).
        try_again: what was not trimmed or not scraped counts as non-tried again, before anything is read (-A).
        retrim: what failed counts as non-trimmed again, before anything is read (-M); with `try_again`, as non-tried.
        input_offset_bytes: where the range to rescue starts (-i).
        size_bytes: how long it is at most (-s); None: to the end of the drive.
        synchronous: every write is on the disk before the next read (-y).
        recheck_errors: after so many errors in a row a drive must read again what it has read before, then after twice
            as many, and so on; 0: never.
        limits: what ends or slows it.
        slow_reads: when a read counts as slow, and is jumped over like one that failed (-a and its companions).
        domain: only this is rescued, as far as it is in the range (-m: the finished blocks of a mapfile); None: all.
        output_offset_bytes: where the image has the range's first byte (-o); None: where the drive has it.
        sparse: zeros that were read are left as holes in the image (-S).
        preallocate: the image's room is taken before anything is read (-p).
        compare_before_write: what the image has already is not written again (-W).
        force: the image may be a block device, and what is on it be overwritten (-f).
    """

    compatible: bool = False
    cluster_bytes: int = DEFAULT_CLUSTER_BYTES
    sector_bytes: int | None = None
    initial_skip_bytes: int | None = None
    max_skip_bytes: int | None = None
    copying_passes: frozenset[int] = field(default_factory=lambda: frozenset(range(1, COPYING_PASSES + 1)))
    no_trim: bool = False
    no_scrape: bool = False
    retry_passes: int = 0
    reverse: bool = False
    unidirectional: bool = False
    try_again: bool = False
    retrim: bool = False
    input_offset_bytes: int = 0
    size_bytes: int | None = None
    synchronous: bool = False
    recheck_errors: int = 64
    limits: Limits = field(default_factory=Limits)
    slow_reads: SlowReads = field(default_factory=SlowReads)
    domain: ExtentSet | None = None
    output_offset_bytes: int | None = None
    sparse: bool = False
    preallocate: bool = False
    compare_before_write: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """The sizes a rescue reads and jumps by, settled for one drive; all in bytes.

    A read of `large_bytes` that fails is read again in clusters; it is the cluster where there are no larger reads.
    """

    cluster_bytes: int
    large_bytes: int
    sector_bytes: int
    initial_skip_bytes: int
    max_skip_bytes: int


def settle_geometry(options: RescueOptions, *, drive_bytes: int, sector_bytes: int, physical_bytes: int) -> Geometry:
    """Fill in what the user left to us.

    Args:
        options: what the user asked for.
        drive_bytes: the drive's size.
        sector_bytes: its logical sector: no read is smaller or less aligned.
        physical_bytes: its physical sector: what fails as one.

    Raises:
        UsageError: a size does not fit the drive's sectors, or a range or pass that cannot be.
    """
    _check(options, sector_bytes)
    if options.input_offset_bytes >= drive_bytes:
        raise UsageError(
            f"the range to rescue starts at {options.input_offset_bytes}, but the source ends at {drive_bytes}"
        )
    if options.initial_skip_bytes is None:
        initial_bytes = _round_up(max(drive_bytes // SKIP_DIVISOR, MIN_SKIP_BYTES), MIN_SKIP_BYTES)
    else:
        initial_bytes = _round_up(options.initial_skip_bytes, sector_bytes)
    max_bytes = drive_bytes // MAX_SKIP_DIVISOR if options.max_skip_bytes is None else options.max_skip_bytes
    grows = not options.compatible and options.cluster_bytes == DEFAULT_CLUSTER_BYTES
    return Geometry(
        cluster_bytes=options.cluster_bytes,
        large_bytes=LARGE_CLUSTER_BYTES if grows else options.cluster_bytes,
        sector_bytes=options.sector_bytes or max(sector_bytes, physical_bytes),
        initial_skip_bytes=initial_bytes,
        max_skip_bytes=max(initial_bytes, _round_up(max_bytes, sector_bytes)),
    )


def settle_placement(options: RescueOptions, domain: ExtentSet, *, drive_bytes: int) -> Placement:
    """Return where in the image the drive's bytes lie.

    An image that has them where the drive has them is as long as the drive; another one ends with the range.

    Args:
        options: what the user asked for.
        domain: what is rescued.
        drive_bytes: the drive's size.

    Raises:
        UsageError: the image would end beyond the offsets that a file can have.
    """
    shift_bytes = 0
    if options.output_offset_bytes is not None:
        shift_bytes = options.output_offset_bytes - options.input_offset_bytes
    asked_bytes = drive_bytes if options.size_bytes is None else options.input_offset_bytes + options.size_bytes
    end_bytes = min(asked_bytes, drive_bytes) + shift_bytes
    if end_bytes > MAX_OFFSET_BYTES:
        raise UsageError(f"the image would end beyond {MAX_OFFSET_BYTES:#x}; give a smaller output position")
    return Placement(
        shift_bytes=shift_bytes,
        image_bytes=end_bytes if shift_bytes else drive_bytes,
        needed_bytes=min(int(domain.ends[-1]) + shift_bytes, end_bytes) if domain else 0,
    )


def _check(options: RescueOptions, sector_bytes: int) -> None:
    options.limits.check()
    options.slow_reads.check()
    for name, value in (("cluster", options.cluster_bytes), ("sector", options.sector_bytes)):
        if value is not None and (value <= 0 or value % sector_bytes):
            raise UsageError(f"a {name} of {value} bytes is not a multiple of the drive's sector, {sector_bytes} bytes")
    if (options.initial_skip_bytes or 0) < 0 or (options.max_skip_bytes or 0) < 0:
        raise UsageError("a skip size cannot be negative")
    if not options.copying_passes <= frozenset(range(1, COPYING_PASSES + 1)):
        raise UsageError(f"copying passes are numbered 1 to {COPYING_PASSES}")
    if options.retry_passes < -1:
        raise UsageError("the number of retry passes is -1 (without end), 0 or more")
    if options.recheck_errors < 0:
        raise UsageError("the number of errors before a known good sector is read again is 0 (never) or more")
    if options.input_offset_bytes < 0 or (options.size_bytes or 0) < 0:
        raise UsageError("the range to rescue cannot have a negative position or size")
    if (options.output_offset_bytes or 0) < 0:
        raise UsageError("the position in the image cannot be negative")


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
