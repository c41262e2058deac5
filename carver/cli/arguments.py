"""Arguments: what can be typed."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from carver import __version__
from carver.cli import imaging_arguments, map_arguments
from carver.cli.mistyped import plainly
from carver.cli.sizes import byte_range, count, share, size
from carver.visible import visible
from imaging.errors import UsageError

EXIT_CODES = """exit codes:
  0 finished (damage of the drive is told, not an error)   1 internal error   2 usage
  3 input or permission   4 output (no room, write error)   130 interrupted, the same command goes on
  10 with --strict (or a score's bar): unread sectors or damaged files remain, or a score falls short; with --verify:
     the image is not as it was hashed   11 ended by a limit (-X, -e, -E, -T …), the same command goes on
  141 whoever read the output has closed it (`| head`)"""

BY_THEMSELVES = ("-h", "--help", "--version")  # options that need no command

AS_GETOPT_READS: dict[str, Callable[[Sequence[str]], list[str]]] = {
    "map": map_arguments.as_getopt_reads,
    "image": imaging_arguments.as_getopt_reads,
    "rescue": imaging_arguments.as_getopt_reads,
}


class _Parser(argparse.ArgumentParser):
    """A parser that answers a wrong command with one line, not with a page of everything that can be typed."""

    def error(self, message: str) -> NoReturn:
        said = visible(plainly(message))
        self.exit(UsageError.exit_code, f"carver: {said} (`{self.prog} --help` shows what can be typed)\n")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help with an option and its meaning on one line, where they fit."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34)


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Return what was typed (by default: this program's arguments), and the line itself as `command_line`."""
    words = sys.argv[1:] if words is None else words
    as_getopt_reads = AS_GETOPT_READS.get(words[0], list) if words else list
    top = parser()
    if words and words[0].startswith("-") and words[0] not in BY_THEMSELVES:  # ddrescue's habit, and git's
        top.error(f"options go behind the command: `carver COMMAND {words[0]} …`")
    options, rest = top.parse_known_args(as_getopt_reads(words))
    if rest:  # told by the command's own help, where argparse would name the whole program's
        _refuse_unknown(f"carver {options.command}", rest)
    options.command_line = shlex.join(["carver", *words])
    return options


def _refuse_unknown(prog: str, words: Sequence[str]) -> NoReturn:
    unknown = [word for word in words if word.startswith("-")]
    what = f"there is no {' '.join(unknown)} here" if unknown else f"{shlex.join(words)} is one word too many"
    _Parser(prog=prog).error(what)


def parser() -> argparse.ArgumentParser:
    """Return the whole command line's parser."""
    top = _Parser(
        prog="carver",
        description="Bring back machine-learning weights from failing drives, deleted files and raw images.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"carver {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _rescue(_command(commands, "rescue", "image a failing drive (or take an image file), carve it, report: all in one"))
    _image(_command(commands, "image", "copy a failing drive to an image and a mapfile, as GNU ddrescue does"))
    _scan(_command(commands, "scan", "find where files may begin in an image"))
    _carve(_command(commands, "carve", "find, validate and write the files of an image"))
    _report(_command(commands, "report", "write a case's reports anew, for example after editing case.toml"))
    _score(_command(commands, "score", "compare a case with the truth of a test image"))
    map_arguments.add(
        _command(commands, "map", "show, compare and change mapfiles, as ddrescuelog does", map_arguments.EXIT_CODES)
    )
    return top


def _command(
    commands: argparse._SubParsersAction[_Parser], name: str, text: str, exit_codes: str = EXIT_CODES
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text, epilog=exit_codes, formatter_class=_HelpFormatter)
    command.add_argument("--json", action="store_true", help="results for machines on stdout")
    command.add_argument("-q", "--quiet", action="store_true", help="no progress bars")
    command.add_argument("-v", "--verbose", action="store_true", help="say what is done, with offsets")
    return command


def _rescue(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", type=Path, metavar="SOURCE", help="a block device, or a raw image file")
    command.add_argument("case", type=Path, metavar="CASE", help="the folder that gets everything; not on the source")
    command.add_argument("extra", nargs="*", type=Path, default=[], metavar="", help=argparse.SUPPRESS)
    command.usage = "carver rescue [OPTIONS] SOURCE CASE"
    imaging_arguments.add(command, whole_road=True)
    _carving_options(command)
    _case_options(command)


def _image(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", type=Path, metavar="SOURCE", help="a block device (or a file)")
    command.add_argument("image", type=Path, metavar="IMAGE", help="the raw image to write")
    command.add_argument("map", type=Path, nargs="?", metavar="MAPFILE", help="default: IMAGE.map")
    command.usage = "carver image [OPTIONS] SOURCE IMAGE [MAPFILE]"
    imaging_arguments.add(command, whole_road=False)
    _case_options(command)


def _scan(command: argparse.ArgumentParser) -> None:
    _image_arguments(command)
    command.add_argument("--case", type=Path, metavar="DIR", help="keep the hits there, for `carve --out DIR` to go on")
    _choice_options(command)


def _carve(command: argparse.ArgumentParser) -> None:
    _image_arguments(command)
    command.add_argument("--out", type=Path, metavar="DIR", help="the case folder (needed, but for --dry-run)")
    command.add_argument("--dry-run", action="store_true", help="list the files and the room they take; write none")
    _carving_options(command)
    _case_options(command)


def _report(command: argparse.ArgumentParser) -> None:
    command.add_argument("case", type=Path, metavar="CASE", help="a case folder")
    _case_options(command)


def _score(command: argparse.ArgumentParser) -> None:
    command.add_argument("case", type=Path, metavar="CASE", help="a case folder, or its report.json")
    command.add_argument("--truth", type=Path, required=True, metavar="TRUTH.json", help="what the image really holds")
    command.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML there")
    command.add_argument("--min-recall", type=share, metavar="0..1", help="exit 10 below this byte-exact recall")
    command.add_argument("--min-precision", type=share, metavar="0..1", help="exit 10 below this precision")


def _image_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("image", type=Path, metavar="IMAGE", help="a raw image (or a healthy device)")
    command.add_argument("map", type=Path, nargs="?", metavar="MAPFILE", help="default: the one beside the image")
    imaging_arguments.mounted(command)


def _carving_options(command: argparse.ArgumentParser) -> None:
    _choice_options(command)
    command.add_argument("--min-size", type=size, default=0, metavar="BYTES", help="leave out smaller files")
    command.add_argument("--md5", action="store_true", help="MD5 beside SHA-256")
    command.add_argument("--strict", action="store_true", help="exit 10 if unread sectors or damaged files remain")


def _choice_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--formats", metavar="A,B", help="only these (default: all that are known)")
    command.add_argument("--range", type=byte_range, metavar="START-END", help="only files that begin there")
    command.add_argument("--threads", type=count, metavar="N", help="default: one a processor")


def _case_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("the case (also in CASE/case.toml, where there is a case folder)")
    group.add_argument("--case-number", metavar="TEXT", help="the lab's number of the case")
    for name, text in (
        ("evidence", "the item examined"),
        ("examiner", "who examines it"),
        ("organisation", "the lab or office"),
        ("notes", "what a reader should know"),
    ):
        group.add_argument(f"--{name}", metavar="TEXT", help=text)


def check_threads(threads: int | None) -> int:
    """Return how many threads to use.

    Raises:
        UsageError: fewer than one.
    """
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise UsageError("--threads takes a number from 1")
    return threads
