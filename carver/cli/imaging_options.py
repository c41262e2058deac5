"""Imaging options: what was typed, checked as a whole and handed to the rescue in its own terms."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from carver.cli import map_files
from carver.cli.sizes import SECTOR_BYTES
from imaging.acquisition import Wishes
from imaging.errors import UsageError
from imaging.extent import ExtentSet
from imaging.kernel_settings import WantedSettings
from imaging.mapfile import BlockStatus, Mapfile
from imaging.rescue.limits import Limits
from imaging.rescue.options import DEFAULT_CLUSTER_BYTES, RescueOptions
from imaging.rescue.slowness import SlowReads


def check(options: Namespace) -> None:
    """Refuse what does not go together.

    Raises:
        UsageError: it does not; the message says what to leave out.
    """
    if options.read_timeout <= 0:
        raise UsageError("--read-timeout is more than 0 seconds")
    if options.sparse and options.preallocate:
        raise UsageError("-S leaves holes and -p takes all the room: leave one of them out")
    if options.loose_domain and options.domain_mapfile is None and options.test_mode is None:
        raise UsageError("-L is about the map of -m or -H: give one of these, or leave -L out")
    if options.fill_mode is not None and options.generate_mode:
        raise UsageError("-F changes an image and -G makes its map: one at a time")
    if (options.fill_mode is not None or options.generate_mode) and options.test_mode is not None:
        raise UsageError("-H is about reading a drive, which -F and -G do not: leave it out")
    if options.ignore_write_errors:
        raise UsageError("-w would hide that an image is not what its map says: mend the destination instead")
    if options.verify and not options.hash:
        raise UsageError("--verify compares hashes, and --no-hash makes none: leave one of them out")
    if [options.domain_mapfile, options.test_mode].count(map_files.STANDARD) > 1:
        raise UsageError("standard input can be read only once: name a file")


def check_whole_road(options: Namespace) -> None:
    """Refuse what belongs to `carver image` alone.

    Raises:
        UsageError: such an option was given.
    """
    given = [
        name
        for name, is_given in (
            ("-o", options.output_position is not None),
            ("-f", options.force),
            ("-F", options.fill_mode is not None),
            ("-G", options.generate_mode),
        )
        if is_given
    ]
    if given:
        raise UsageError(f"{given[0]} belongs to `carver image`: a case has its own image and map")


def without_effect(options: Namespace) -> list[str]:
    """Return which options were given that choose how a drive is read, where an image file is read in place."""
    unread = {
        "-i": options.input_position,
        "-s": options.size is not None,
        "-m": options.domain_mapfile,
        "-r": options.retry_passes,
        "-n": options.no_scrape,
        "-N": options.no_trim,
        "-R": options.reverse,
        "-A": options.try_again,
        "-M": options.retrim,
        "-S": options.sparse,
        "-p": options.preallocate,
        "-b": options.sector_size,
        "--verify": options.verify,
    }
    return [name for name, given in unread.items() if given]


def rescue_options(options: Namespace) -> RescueOptions:
    """Return what is asked of the rescue.

    Raises:
        InputError: the map of -m cannot be read.
        MapfileError: it breaks its grammar.
    """
    initial_skip_bytes, max_skip_bytes = options.skip_size
    return RescueOptions(
        compatible=options.compat,
        cluster_bytes=_cluster_bytes(options),
        sector_bytes=options.sector_size,
        initial_skip_bytes=initial_skip_bytes,
        max_skip_bytes=max_skip_bytes,
        **({} if options.cpass is None else {"copying_passes": options.cpass}),
        no_trim=options.no_trim,
        no_scrape=options.no_scrape,
        retry_passes=options.retry_passes,
        reverse=options.reverse,
        unidirectional=options.unidirectional,
        try_again=options.try_again,
        retrim=options.retrim,
        input_offset_bytes=options.input_position,
        size_bytes=options.size,
        synchronous=options.synchronous,
        recheck_errors=options.recheck_errors,
        limits=_limits(options),
        slow_reads=SlowReads(
            min_read_rate_bytes=options.min_read_rate,
            delay_slow_seconds=options.delay_slow,
            max_slow_reads=options.max_slow_reads,
            reset_slow=options.reset_slow,
        ),
        domain=domain(options),
        output_offset_bytes=options.output_position,
        sparse=options.sparse,
        preallocate=options.preallocate,
        compare_before_write=options.compare_before_write,
        force=options.force,
    )


def wishes(options: Namespace, case: Mapping[str, str]) -> Wishes:
    """Return what is to be kept and watched around the rescue."""
    return Wishes(
        case=case,
        algorithms=options.hash,
        smart=not options.no_smart,
        settings=WantedSettings(
            command_timeout_seconds=options.command_timeout,
            readahead_kib=None if options.readahead is None else options.readahead // 1024,
            erc_deciseconds=options.scterc,
        ),
        max_celsius=options.max_temperature,
        hook=options.on_trouble,
        hook_seconds=options.on_trouble_time,
        test_map=options.test_mode,
    )


def _cluster_bytes(options: Namespace) -> int:
    if options.cluster_size is None:
        return DEFAULT_CLUSTER_BYTES
    return int(options.cluster_size) * (options.sector_size or SECTOR_BYTES)


def _limits(options: Namespace) -> Limits:
    max_bad_areas, count_new_areas = options.max_bad_areas
    return Limits(
        max_read_errors=options.max_read_errors,
        max_bad_areas=max_bad_areas,
        count_new_areas=count_new_areas,
        max_error_rate_bytes=options.max_error_rate,
        timeout_seconds=options.timeout,
        max_read_rate_bytes=options.max_read_rate,
        pause_on_error_seconds=options.pause_on_error,
        pause_on_pass_seconds=options.pause_on_pass,
        reopen_on_error=options.reopen_on_error,
    )


def domain(options: Namespace) -> ExtentSet | None:
    """Return what -m restricts the rescue to; None: nothing.

    Raises:
        InputError: the map cannot be read, or has nothing finished.
        MapfileError: it breaks its grammar.
    """
    if options.domain_mapfile is None:
        return None
    finished = load_map(options, options.domain_mapfile).extents(BlockStatus.FINISHED)
    if not finished:
        raise UsageError(f"-m {options.domain_mapfile}: nothing in it is finished, so there is nothing to read")
    return finished


def load_map(options: Namespace, path: Path) -> Mapfile:
    """Read the map of -m or -H: with -L one made by hand."""
    return (map_files.load_loosely if options.loose_domain else map_files.load)(path)
