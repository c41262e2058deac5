"""A terminal to run a command on: what a user would see of it, line by line."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Callable, Sequence

from tests.command import COMMAND, TIMEOUT_SECONDS

CONTROL = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])")
CTRL_C = b"\x03"


class Screen:
    """Lines as a terminal of so many columns shows them; of its controls only those that progress bars use."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._lines: list[list[str]] = [[]]
        self._row = self._column = 0
        self._waiting = ""

    @property
    def text(self) -> str:
        return "\n".join("".join(line).rstrip() for line in self._lines)

    def feed(self, text: str) -> None:
        text, self._waiting = self._waiting + text, ""
        while text:
            if text[0] == "\x1b":
                if (control := CONTROL.match(text)) is None:
                    self._waiting = text
                    return
                self._control(control[1], control[2])
                text = text[control.end() :]
            else:
                self._put(text[0])
                text = text[1:]

    def _control(self, number: str, letter: str) -> None:
        assert letter in "AJK", f"a control that is not known here: {letter}"
        if letter == "A":
            self._row = max(self._row - int(number or 1), 0)
        if letter == "J":
            del self._lines[self._row + 1 :]
        if letter in "JK":
            del self._lines[self._row][self._column :]

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._row, self._column = self._row + 1, 0
        else:
            if self._column == self._columns:
                self._row, self._column = self._row + 1, 0
            self._grow()
            line = self._lines[self._row]
            line.extend(" " * (self._column + 1 - len(line)))
            line[self._column] = character
            self._column += 1
        self._grow()

    def _grow(self) -> None:
        while len(self._lines) <= self._row:
            self._lines.append([])


def show(
    *arguments: object,
    columns: int = 100,
    rows: int = 30,
    keys: Sequence[tuple[Callable[[str], bool], bytes]] = (),
) -> tuple[int, list[str]]:
    """Run `carver` on a terminal; return its exit code, and what was seen each time that something changed.

    Args:
        arguments: of the command.
        columns: the terminal's width; 0: it does not say.
        rows: its height.
        keys: what is typed, one after the other, once what is seen fits.
    """
    command = [*COMMAND, *map(str, arguments)]
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe(command[0], command, {**os.environ, "TERM": "xterm"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    screen, seen, waiting = Screen(columns or 200), [""], list(keys)
    until = time.monotonic() + TIMEOUT_SECONDS
    try:
        while time.monotonic() < until:
            if not select.select([terminal], [], [], 1.0)[0]:
                continue
            screen.feed(_read(terminal))
            seen.append(screen.text)
            if waiting and waiting[0][0](screen.text):
                os.write(terminal, waiting.pop(0)[1])
    except EOFError:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), seen
    finally:
        os.close(terminal)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError(f"it did not end in time:\n{seen[-1]}")


def _read(terminal: int) -> str:
    try:
        content = os.read(terminal, 1 << 16)
    except OSError as fault:
        if fault.errno != errno.EIO:
            raise
        content = b""
    if not content:
        raise EOFError
    return content.decode("utf-8", errors="replace")
