"""The command line: the only room that prints. Results go to stdout, talk and progress to stderr.

Nothing heavy is imported before a command is chosen, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import logging
import signal
import sys
import threading
from types import FrameType

from carver.cli.arguments import parser
from imaging.errors import CarverError, DestinationFullError, Interrupted

_stopping = threading.Event()


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code (see the README's table)."""
    options = parser().parse_args(argv)
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.ERROR, format="carver: %(message)s")
    _listen()
    command = importlib.import_module(f"carver.cli.{options.command}")
    while True:
        try:
            return int(command.run(options, _stopping.is_set))
        except DestinationFullError as error:
            if not _wait_for_room(error):
                return error.exit_code
        except CarverError as error:
            print(f"carver: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            print("carver: stopped at once; the same command goes on from what was saved", file=sys.stderr)
            return Interrupted.exit_code
        except BrokenPipeError:
            sys.stderr.close()
            return 0


def _listen() -> None:
    _stopping.clear()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    """First time: finish the read or write under way, save, end. Second time: end at once."""
    if _stopping.is_set():
        raise KeyboardInterrupt
    _stopping.set()
    print("\ncarver: stopping: saving what is done (once more to stop at once)", file=sys.stderr)


def _wait_for_room(error: DestinationFullError) -> bool:
    """Pause for the user to make room; False where nobody sits at a terminal."""
    print(f"carver: {error}", file=sys.stderr)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print("carver: paused. Make room and press Enter to go on, or Ctrl-C to end (all is saved)", file=sys.stderr)
    try:
        return bool(sys.stdin.readline()) and not _stopping.is_set()
    except KeyboardInterrupt:
        return False
