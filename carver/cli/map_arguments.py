"""Arguments of `carver map`: letters and long names are ddrescuelog's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from carver.cli.sizes import SECTOR_BYTES, SizeInSectors, size

EXIT_CODES = """exit codes:
  0 finished; -p, -P: the same; -D: done; -d: deleted
  1 -p, -P: they differ; -D, -d: not done; all four: the domain is empty, so nothing was tested (or an internal error)
  2 usage   3 a mapfile is wrong or cannot be read   4 output (no room, write error, would overwrite)
  130 interrupted   141 whoever read the output has closed it (`| head`)"""

FORMATS = ("list", "bitmap", "bitmap-be", "bitmap-le")
MAX_BLOCK_BYTES = 2**31 - 1  # ddrescuelog's limit

_DEFAULTS = {  # of options whose argument is optional, which getopt takes only when it is attached
    "-c": "--create-mapfile=+-",
    "--create-mapfile": "--create-mapfile=+-",
    "-C": "--complete-mapfile=?",
    "--complete-mapfile": "--complete-mapfile=?",
}
_TAKE_DASHES = {  # whose argument may begin with -
    "-l": "--list-blocks",
    "--list-blocks": "--list-blocks",
    "-a": "--change-types",
    "--change-types": "--change-types",
}


def as_getopt_reads(words: Sequence[str]) -> list[str]:
    """Return the words so that argparse reads them as getopt would: `-c FILE`, `-l -/ FILE`."""
    read: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if word == "--":
            read += [word, *waiting]
        elif word in _TAKE_DASHES:
            read.append("=".join([_TAKE_DASHES[word], *(next(waiting, None) or "",)]))
        else:
            read.append(_DEFAULTS.get(word, word))
    # argparse loses an argument that is "--"; as types it says the same as "-"
    return ["--list-blocks=-" if word in ("-l--", "--list-blocks=--") else word for word in read]


def add(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `carver map`."""
    command.add_argument("maps", nargs="+", type=Path, metavar="MAPFILE", help="- is standard input (with -c: output)")
    _operations(command.add_argument_group("what to do (one of these); new maps go to standard output"))
    group = command.add_argument_group("where, and how")
    group.add_argument("-m", "--domain-mapfile", type=Path, metavar="FILE", help="only where FILE is finished")
    group.add_argument("-L", "--loose-domain", action="store_true", help="the FILE of -m or -P may have gaps")
    group.add_argument(
        "-i",
        "--input-position",
        action=SizeInSectors,
        sector="block_size",
        default=0,
        help="where the domain begins [0]",
    )
    group.add_argument("-s", "--size", action=SizeInSectors, sector="block_size", help="how long it is at most")
    group.add_argument(
        "-o",
        "--output-position",
        action=SizeInSectors,
        sector="block_size",
        help="for -c, -l, --shift: where -i goes [-i]",
    )
    group.add_argument(
        "-b", "--block-size", type=_block_size, default=SECTOR_BYTES, metavar="BYTES", help="for -c and -l [512]"
    )
    group.add_argument("-F", "--format", choices=FORMATS, default="list", help="for -c and -l [list]")
    group.add_argument("-B", "--binary-prefixes", action="store_true", help="for -t and -A: KiB instead of kB")
    group.add_argument("-f", "--force", action="store_true", help="accepted, but nothing is ever written over")


def _operations(group: argparse._ArgumentGroup) -> None:
    one = group.add_mutually_exclusive_group()
    one.add_argument("-t", "--show-status", action="store_true", default=None, help="summary of one or more maps")
    one.add_argument("-l", "--list-blocks", metavar="TYPES", help="numbers of the blocks of these types (?*/-+)")
    one.add_argument("-c", "--create-mapfile", metavar="[T1T2]", help="make a map of the block list on stdin [+-]")
    one.add_argument("-C", "--complete-mapfile", metavar="[T]", help="fill the gaps of a map made by hand [?]")
    one.add_argument("-a", "--change-types", metavar="OLD,NEW", help="replace types, as `tr` replaces characters")
    one.add_argument("-n", "--invert-mapfile", action="store_true", default=None, help="finished <-> others")
    one.add_argument("-x", "--xor-mapfile", type=Path, metavar="FILE", help="finished in one of both")
    one.add_argument("-y", "--and-mapfile", type=Path, metavar="FILE", help="finished in both")
    one.add_argument("-z", "--or-mapfile", type=Path, metavar="FILE", help="finished in either")
    one.add_argument("-A", "--annotate-mapfile", action="store_true", default=None, help="add positions for people")
    one.add_argument("--picture", type=Path, metavar="FILE", help="draw the map: an SVG, or a page when FILE is *.html")
    one.add_argument("--shift", action="store_true", default=None, help="move all blocks by -o minus -i")
    one.add_argument("-p", "--compare-mapfile", type=Path, metavar="FILE", help="are the blocks the same?")
    one.add_argument("-P", "--compare-as-domain", type=Path, metavar="FILE", help="are the finished ones the same?")
    one.add_argument("-D", "--done-status", action="store_true", default=None, help="is everything finished?")
    one.add_argument("-d", "--delete-if-done", action="store_true", default=None, help="delete MAPFILE if it is done")


def _block_size(text: str) -> int:
    block_bytes = size(text)
    if not 1 <= block_bytes <= MAX_BLOCK_BYTES:
        raise argparse.ArgumentTypeError(f"{text} is no block size; those are 1 to 2^31-1")
    return block_bytes
