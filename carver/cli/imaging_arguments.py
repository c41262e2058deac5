"""Arguments of imaging: letters, long names and suffixes are GNU ddrescue's, wherever it has them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from carver import __version__
from carver.cli.sizes import SizeInSectors, count, interval, retries, size

PREVIEW_LINES, MAX_PREVIEW_LINES = 3, 32
COPYING_PASSES = 5
MIN_SKIP_BYTES = 64 * 1024
ALGORITHMS = ("sha256", "md5")

ALWAYS_SO: dict[tuple[str, ...], str] = {
    ("-B", "--binary-prefixes"): "sizes are shown in KiB, MiB, GiB",
    ("-C", "--complete-only"): "a map covers the drive from its first run on, and no more than the drive",
    ("-D", "--odirect"): "what is written reaches its disk before the map says so, and every write error is told",
    ("-I", "--verify-input-size"): "a map of a drive of another size is refused",
}
NOT_TAKEN: dict[tuple[str, ...], str] = {
    ("-t", "--truncate"): "an image is never written over; give another name",
    ("-x", "--extend-outfile"): "the image is as long as the drive from the start",
    ("--command-mode",): "it takes no commands; -i, -s and -m choose what is read, and every run goes on from the map",
    ("--mapfile-interval",): "what is read is safe on the disk every 2 seconds, so there is nothing to choose",
    ("--same-file",): "nothing is ever written to the source",
}
_FLAGS = re.compile(r"-[a-zA-Z]*P\Z")


def as_getopt_reads(words: Sequence[str]) -> list[str]:
    """Return the words so that argparse reads them as getopt would: `-P DEVICE`, `-F -/ FILE`."""
    read: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if word == "--":
            read += [word, *waiting]
        elif word in ("-F", "--fill-mode"):
            read.append("=".join(["--fill-mode", *(next(waiting, None) or "",)]))
        elif word == "--data-preview" or _FLAGS.match(word):  # its argument is taken only when it is attached
            read.append(f"{word}{'=' if word.startswith('--') else ''}{PREVIEW_LINES}")
        else:
            read.append(word)
    return read


def add(command: argparse.ArgumentParser, *, whole_road: bool) -> None:
    """Add what can be asked of imaging.

    Args:
        command: the command.
        whole_road: carving follows, in a case that names the image itself; what belongs to `carver image` alone is
            taken all the same, so that it can be answered.
    """
    _which_part(command.add_argument_group("which part of the drive (letters and meanings are GNU ddrescue's)"))
    _reading(command.add_argument_group("how it is read"))
    _phases(command.add_argument_group("which phases and passes"))
    _limits(command.add_argument_group("when to pause, when to give up (the map is kept, the same command goes on)"))
    _image(command.add_argument_group("the image"), whole_road=whole_road)
    _shown(command.add_argument_group("what is shown and noted"))
    _evidence(command.add_argument_group("the record (IMAGE.acquisition.json)"))
    _drive(command.add_argument_group("the drive itself (only where asked for; settings are put back at the end)"))
    command.add_argument("-V", "--version", action="version", version=f"carver {__version__}", help=argparse.SUPPRESS)
    for names in ALWAYS_SO:
        command.add_argument(*names, action="store_true", help=argparse.SUPPRESS)
    for names, reason in NOT_TAKEN.items():
        command.add_argument(*names, action=_NotTaken, reason=reason, help=argparse.SUPPRESS)


def mounted(command: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the permission to read a source that is in use."""
    command.add_argument(
        "--allow-mounted-source", action="store_true", help="read a source that is in use all the same"
    )


def _which_part(group: argparse._ArgumentGroup) -> None:
    _position(group, "-i", "--input-position", default=0, text="where it begins [0]")
    _position(group, "-s", "--size", text="how long it is at most; -1: to the end [to the end]")
    group.add_argument("-m", "--domain-mapfile", type=Path, metavar="FILE", help="only where the map FILE is finished")
    group.add_argument("-L", "--loose-domain", action="store_true", help="the FILE of -m or -H may have gaps")
    group.add_argument(
        "-H", "--test-mode", type=Path, metavar="FILE", help="no drive: SOURCE fails as the map FILE says"
    )
    mounted(group)


def _reading(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-b", "--sector-size", type=size, metavar="BYTES", help="of the drive [what it says itself]")
    group.add_argument("-c", "--cluster-size", type=count, metavar="SECTORS", help="read at a time [64 KiB]")
    group.add_argument(
        "-K",
        "--skip-size",
        type=_skips,
        default=(None, None),
        metavar="[I][,MAX]",
        help="first and longest jump behind errors",
    )
    group.add_argument(
        "-a",
        "--min-read-rate",
        type=size,
        metavar="BYTES",
        help="leave slower areas for later; 0: found out [found out]",
    )
    group.add_argument(
        "--delay-slow", type=interval, default=30.0, metavar="TIME", help="with -a: do not judge the start [30]"
    )
    group.add_argument("--reset-slow", action="store_true", help="for --max-slow-reads: only those in a row count")
    group.add_argument("--compat", action="store_true", help="read in the very order of GNU ddrescue")
    group.add_argument("-d", "--idirect", action="store_true", help="accepted: devices are always read directly")
    group.add_argument("-O", "--reopen-on-error", action="store_true", help="open the drive anew after each error")
    group.add_argument("-Z", "--max-read-rate", type=size, metavar="BYTES", help="never read more a second")
    group.add_argument(
        "--read-timeout", type=interval, default=60.0, metavar="TIME", help="a read may take so long [60]"
    )
    group.add_argument(
        "--recheck-errors", type=count, default=64, metavar="N", help="after N errors in a row look again [64]"
    )
    group.add_argument(
        "-J",
        "--verify-on-error",
        action="store_const",
        const=1,
        dest="recheck_errors",
        help="the same as --recheck-errors 1",
    )
    group.add_argument(
        "--wait-for-return",
        type=interval,
        metavar="TIME",
        help="wait so long for a drive that vanishes [not; 5m with --on-trouble]",
    )


def _phases(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-r",
        "--retry-passes",
        type=retries,
        default=0,
        metavar="N",
        help="read bad sectors again N times; -1: for ever",
    )
    group.add_argument("-n", "--no-scrape", action="store_true", help="leave out the scraping phase")
    group.add_argument("-N", "--no-trim", action="store_true", help="leave out the trimming phase")
    group.add_argument(
        "--cpass", type=_passes, metavar="RANGE", help="only these passes of copying, e.g. 1,3-5; 0: none"
    )
    group.add_argument("-R", "--reverse", action="store_true", help="every pass in the other direction")
    group.add_argument("-u", "--unidirectional", action="store_true", help="all passes in the same direction")
    group.add_argument("-A", "--try-again", action="store_true", help="non-trimmed and non-scraped count as non-tried")
    group.add_argument("-M", "--retrim", action="store_true", help="failed blocks count as non-trimmed")


def _limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-X", "--max-read-errors", type=count, metavar="N", help="end after more failed reads")
    group.add_argument(
        "-e",
        "--max-bad-areas",
        type=_areas,
        default=(None, False),
        metavar="[+]N",
        help="end with more [new] bad areas",
    )
    group.add_argument("-E", "--max-error-rate", type=size, metavar="BYTES", help="end when more fail a second")
    group.add_argument("--max-slow-reads", type=count, metavar="N", help="end after more slow reads (with -a)")
    group.add_argument("-T", "--timeout", type=interval, metavar="TIME", help="end when nothing was read for so long")
    group.add_argument(
        "--pause-on-error", type=interval, default=0.0, metavar="TIME", help="after each failed read [0]"
    )
    group.add_argument("--pause-on-pass", type=interval, default=0.0, metavar="TIME", help="between passes [0]")


def _image(group: argparse._ArgumentGroup, *, whole_road: bool) -> None:
    group.add_argument("-S", "--sparse", action="store_true", help="zeros that were read take no room")
    group.add_argument("-p", "--preallocate", action="store_true", help="take all the room at the start")
    group.add_argument("-W", "--compare-before-write", action="store_true", help="what is there already is not written")
    group.add_argument("-y", "--synchronous", action="store_true", help="every write reaches the disk at once")
    hidden = argparse.SUPPRESS if whole_road else None
    _position(group, "-o", "--output-position", text=hidden or "where in the image it begins [as on the drive]")
    group.add_argument(
        "-f", "--force", action="store_true", help=hidden or "IMAGE may be a device: all that is on it is overwritten"
    )
    group.add_argument(
        "-F", "--fill-mode", metavar="TYPES", help=hidden or "fill IMAGE's blocks of these types (?*/-+l) with SOURCE"
    )
    group.add_argument(
        "-G", "--generate-mode", action="store_true", help=hidden or "make MAPFILE of IMAGE: its zeros were not read"
    )
    group.add_argument("-w", "--ignore-write-errors", action="store_true", help=argparse.SUPPRESS)


def _shown(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-P",
        "--data-preview",
        type=_lines,
        default=0,
        metavar="LINES",
        help="show so much of what was read last [-P alone: 3]",
    )
    group.add_argument("--ask", action="store_true", help="show drive and image, and ask before anything is read")
    group.add_argument("--log-events", type=Path, metavar="FILE", help="append a line for each pass, and for the end")
    group.add_argument("--log-rates", type=Path, metavar="FILE", help="append position, rates and errors each second")
    group.add_argument("--log-reads", type=Path, metavar="FILE", help="append every read; FILE grows fast")


def _evidence(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--hash", type=_algorithms, default=("sha256",), metavar="A,B", help="of the image: sha256, md5 [sha256]"
    )
    group.add_argument("--no-hash", action="store_const", const=(), dest="hash", help="the image is not hashed")
    group.add_argument("--verify", action="store_true", help="at the end, read the image again and compare its hashes")
    group.add_argument("--no-smart", action="store_true", help="do not ask the drive for its SMART values")


def _drive(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--max-temperature", type=count, metavar="CELSIUS", help="pause above, end if it does not cool")
    group.add_argument(
        "--on-trouble", metavar="COMMAND", help="run when the drive hangs or is gone, to switch its power, say"
    )
    group.add_argument(
        "--on-trouble-time", type=interval, default=60.0, metavar="TIME", help="COMMAND may take so long [60]"
    )
    group.add_argument(
        "--command-timeout", type=count, metavar="SECONDS", help="after which the kernel gives a command up"
    )
    group.add_argument("--readahead", type=size, metavar="BYTES", help="how far the kernel reads ahead")
    group.add_argument(
        "--scterc",
        type=_recovery,
        metavar="R[,W]",
        help="tenths of a second that the drive tries a bad sector; 0: ever",
    )


def _position(group: argparse._ArgumentGroup, *names: str, text: str, default: int | None = None) -> None:
    """Add a position or size, whose `s` counts the sectors of -b."""
    group.add_argument(
        *names, action=SizeInSectors, sector="sector_size", endless=default is None, default=default, help=text
    )


class _NotTaken(argparse.Action):
    """An option of GNU ddrescue that has no place here: answered with the reason."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, reason: str, **others: object) -> None:
        super().__init__(option_strings, dest, nargs=0, **others)  # type: ignore[arg-type]
        self._reason = reason

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        raise argparse.ArgumentError(self, f"not here: {self._reason}")


def _algorithms(text: str) -> tuple[str, ...]:
    """Return the names of hashes, each once."""
    names = tuple(dict.fromkeys(text.lower().replace("-", "").split(",")))
    unknown = [name for name in names if name not in ALGORITHMS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no hash that is known; those are {', '.join(ALGORITHMS)}")
    return names


def _recovery(text: str) -> tuple[int, int]:
    """Return the drive's time for reading and for writing; one number is for both."""
    reading, _, writing = text.partition(",")
    return count(reading), count(writing or reading)


def _lines(text: str) -> int:
    lines = count(text)
    if not 1 <= lines <= MAX_PREVIEW_LINES:
        raise argparse.ArgumentTypeError(f"{lines} lines; it shows 1 to {MAX_PREVIEW_LINES}")
    return lines


def _areas(text: str) -> tuple[int, bool]:
    """Return the number of bad areas, and whether only new ones count."""
    return count(text.removeprefix("+")), text.startswith("+")


def _skips(text: str) -> tuple[int | None, int | None]:
    """Return the first and the longest jump of "[INITIAL][,MAX]"; None: left to us."""
    first, _, longest = text.partition(",")
    if not first and not longest:
        raise argparse.ArgumentTypeError(f"{text!r}: give the first jump, the longest, or both: 64Ki,1Mi")
    initial_bytes, max_bytes = (size(part) if part else None for part in (first, longest))
    if 0 < (initial_bytes or 0) < MIN_SKIP_BYTES or (max_bytes is not None and max_bytes < MIN_SKIP_BYTES):
        raise argparse.ArgumentTypeError("a jump is at least 64Ki; 0 as the first: no jumps")
    if initial_bytes and max_bytes is not None and max_bytes < initial_bytes:
        raise argparse.ArgumentTypeError("the longest jump is shorter than the first")
    return initial_bytes, max_bytes


def _passes(text: str) -> frozenset[int]:
    """Return the passes of "1,3-5"; "0" is none."""
    if text == "0":
        return frozenset()
    passes: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        low, high = count(first), count(last if dash else first)
        if not 1 <= low <= high <= COPYING_PASSES:
            raise argparse.ArgumentTypeError(f"{text!r}: passes are numbered 1 to {COPYING_PASSES}, e.g. 1,3-5")
        passes.update(range(low, high + 1))
    return frozenset(passes)
