"""The command line: the only room that prints. Results go to stdout, talk and progress to stderr.

Nothing heavy is imported before a command is chosen, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import os
import select
import sys

from carver.cli import signals
from carver.cli.arguments import parse
from carver.cli.complaints import complain, explain_crashes, log_to_stderr
from imaging.errors import CarverError, DestinationFullError, InputError, Interrupted

ORDER = "run the same command again"
READER_GONE = 128 + 13  # what a shell says of a program that SIGPIPE ended
LOOK_SECONDS = 0.5


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code (see the README's table)."""
    options = parse(argv)
    explain_crashes(verbose=options.verbose)
    log_to_stderr(verbose=options.verbose)
    signals.listen()
    command = importlib.import_module(f"carver.cli.{options.command}")
    while True:
        try:
            return int(command.run(options, signals.stopping))
        except DestinationFullError as error:
            if not _at_terminal():
                complain(str(error))
                return error.exit_code
            complain(without_order(str(error)))
            if not _wait_for_room():
                return error.exit_code
        except CarverError as error:
            complain(str(error))
            return error.exit_code
        except PermissionError as fault:  # at a mere look: a folder on the way is closed to us
            complain(f"no permission to look at {fault.filename}; run the same command with sudo")
            return InputError.exit_code
        except KeyboardInterrupt:
            complain("stopped at once; the same command goes on from what was saved")
            return Interrupted.exit_code
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the flush at exit has nothing to complain of
            return READER_GONE


def _at_terminal() -> bool:
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty())


def without_order(complaint: str) -> str:
    """Return a complaint of a full destination without its last clause, "make room and run …": the pause says more."""
    said, _, order = complaint.rpartition("; ")
    return said if said and order.endswith(ORDER) else complaint


def _wait_for_room() -> bool:
    """Pause for the user at the terminal to make room; False where the user has enough."""
    try:
        with signals.ending_at_once():  # before it is said: a Ctrl-C in between would be swallowed by the wait
            if signals.stopping():
                return False
            complain("paused. Make room and press Enter to go on, or Ctrl-C to end (all is saved)")
            while not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
                pass  # a Ctrl-C between two instructions is raised here, where a read would keep it waiting
            return bool(sys.stdin.readline()) and not signals.stopping()
    except KeyboardInterrupt:
        return False
