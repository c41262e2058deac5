"""Child: the parent's end of one reading process. Nothing here ever waits for it.

The child is exec'd in a session of its own, with no descriptor but its pipes and the shared memory, and in the root
folder: one that hangs in the kernel, even after SIGKILL, keeps no lock, no terminal, no pipeline and no mount of ours.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from imaging.direct import BUFFER_BYTES
from imaging.reader import ANSWER, MEMORY_BYTES, QUESTION, SLOTS

log = logging.getLogger(__name__)

# -I: nothing from the working folder; the path of modules is the parent's
BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from imaging.reader import serve; serve(sys.argv[2:])"
PIPE_BYTES = 1 << 16
MAX_GREETING_BYTES = 1 << 16
PARTING_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What a child opened, in bytes, and whether something in the system holds it for itself."""

    size_bytes: int
    sector_bytes: int
    physical_sector_bytes: int
    claimed: bool = field(default=False, compare=False)  # this may change while it stays the same drive


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A read that a child was asked for; `slot` is its part of the memory."""

    position_bytes: int
    size_bytes: int
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of it.

    Attributes:
        question: what was asked.
        errno: 0 where it was read.
        view: the bytes, valid until the slot is asked to be filled again.
        present_bytes: what the child saw of the device after an error.
        seconds: how long the device took for it, measured by the child.
    """

    question: Question
    errno: int
    view: memoryview
    present_bytes: int
    seconds: float


class Child:
    """A process that reads one device.

    Attributes:
        greeting: what it opened; None until it says so.
        refusal: why it could not; None where it could.
        dead: it ended without being told to.
        answers: what it answered and nobody has taken yet, in order.
        questions: what it has not answered yet, in order.
    """

    def __init__(self, path: Path, command: Sequence[str] | None = None) -> None:
        """Start it.

        Args:
            path: the device.
            command: another program that speaks as `imaging.reader` does; device, descriptor and process id follow.
        """
        self.greeting: Greeting | None = None
        self.refusal: str | None = None
        self.dead = False
        self.questions: deque[Question] = deque()
        self.answers: deque[Answer] = deque()
        self._inbox = b""
        self._slot = 0
        with _anonymous_file() as shared:
            shared.truncate(MEMORY_BYTES)
            self._memory = mmap.mmap(shared.fileno(), MEMORY_BYTES)
            program = command or [
                sys.executable,
                "-I",
                "-c",
                BOOT,
                json.dumps([str(Path(p).absolute()) for p in sys.path]),
            ]
            self._process = subprocess.Popen(
                [*program, str(path.absolute()), str(shared.fileno()), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # one that hangs must not keep the end of our stderr open
                bufsize=0,
                close_fds=True,
                pass_fds=(shared.fileno(),),
                start_new_session=True,
                cwd="/",
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._ask, self._hear = self._process.stdin, self._process.stdout

    def fileno(self) -> int:
        """Return what becomes readable when it has something to say."""
        return self._hear.fileno()

    @property
    def process_id(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def idle(self) -> bool:
        """Whether it has the device open and owes no answer."""
        return self.greeting is not None and not self.questions and not self.dead

    def ask(self, position_bytes: int, size_bytes: int, *, depends: bool = False) -> Question:
        """Ask for bytes; at most `SLOTS` questions are open, and `depends` on the one before being read whole."""
        question = Question(position_bytes=position_bytes, size_bytes=size_bytes, slot=self._slot)
        self._slot = (self._slot + 1) % SLOTS
        self.questions.append(question)
        with suppress(BrokenPipeError):  # it died: listening tells
            self._ask.write(QUESTION.pack(position_bytes, size_bytes, question.slot * BUFFER_BYTES, depends))
        return question

    def listen(self) -> None:
        """Take what it said; call it when `fileno()` is readable, and it does not block."""
        said = os.read(self._hear.fileno(), PIPE_BYTES)
        if not said:
            self.dead = True
            return
        self._inbox += said
        if self.greeting is None and self.refusal is None:
            self._take_greeting()
        while self.questions and len(self._inbox) >= ANSWER.size:
            self._take_answer()

    def end(self, *, patient: bool = False) -> None:
        """Kill it. It is waited for only where it is `patient`ly expected to die at once, and that not for long."""
        for pipe in (self._ask, self._hear):
            with suppress(OSError):
                pipe.close()
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            if self._process.poll() is None and patient:
                self._process.wait(PARTING_SECONDS)
        if self._process.returncode is None:
            log.info("the reading process %d still has a read to end, and is left behind", self._process.pid)

    def _take_greeting(self) -> None:
        line, found, self._inbox = self._inbox.partition(b"\n")
        if not found:
            self._inbox, self.dead = line, len(line) > MAX_GREETING_BYTES
            return
        facts = json.loads(line)
        if "refusal" in facts:
            self.refusal = facts["refusal"]
        else:
            self.greeting = Greeting(**facts)

    def _take_answer(self) -> None:
        question = self.questions.popleft()
        errno, got_bytes, present_bytes, seconds = ANSWER.unpack_from(self._inbox)
        self._inbox = self._inbox[ANSWER.size :]
        start = question.slot * BUFFER_BYTES
        view = memoryview(self._memory)[start : start + min(got_bytes, question.size_bytes)]
        self.answers.append(
            Answer(question=question, errno=errno, view=view, present_bytes=present_bytes, seconds=seconds)
        )


def _anonymous_file() -> IO[bytes]:
    """Return a file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("carver"), "r+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)
