"""Reader: the program that reads a drive for its parent, so that a read that hangs in the kernel hangs nobody else.

It is asked over its standard input and answers over its standard output; the bytes go through memory that both share.
First it tells, as one line of JSON, what it opened, or why it could not. Then each `QUESTION` gets one `ANSWER`. A
question that depends on the one before it is answered with `errno.ECANCELED`, and nothing is read, where that one
failed or came short. The end of its input ends it, and so does the end of its parent.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import struct
import sys
from collections.abc import Sequence
from errno import ECANCELED
from pathlib import Path
from time import perf_counter

from imaging.direct import BUFFER_BYTES, DirectDevice, is_claimed
from imaging.errors import CarverError

QUESTION = struct.Struct("<QIIi")  # position, size, offset in the memory, whether it depends on the one before
ANSWER = struct.Struct("<iIQd")  # errno (0: success), bytes read, what is left of the device after an error, seconds
SLOTS = 2  # one read is answered while the next is under way
MEMORY_BYTES = SLOTS * BUFFER_BYTES
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def serve(arguments: Sequence[str]) -> None:
    """Read for the parent until it closes the pipe: the life of a child.

    Args:
        arguments: the device, the descriptor of the shared memory, the parent's process id.
    """
    path, descriptor, parent = arguments[0], int(arguments[1]), int(arguments[2])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when to stop
    _end_with(parent)
    memory = mmap.mmap(descriptor, MEMORY_BYTES)
    try:
        device = DirectDevice(path, memory)
    except CarverError as refusal:
        _tell({"refusal": str(refusal)})
        return
    except OSError as fault:
        _tell({"refusal": f"{path} does not say how large it is: {fault.strerror}; is the drive all there?"})
        return
    _tell(
        {
            "size_bytes": device.size_bytes,
            "sector_bytes": device.sector_bytes,
            "physical_sector_bytes": device.physical_sector_bytes,
            "claimed": is_claimed(Path(path)),
        }
    )
    answer_questions(device)


def answer_questions(device: DirectDevice) -> None:
    """Answer until the pipe closes."""
    whole = True
    while len(question := os.read(0, QUESTION.size)) == QUESTION.size:
        position_bytes, size_bytes, memory_offset_bytes, depends = QUESTION.unpack(question)
        if depends and not whole:
            answer = ANSWER.pack(ECANCELED, 0, 0, 0.0)
        else:
            begin = perf_counter()
            try:
                got_bytes = device.fill_at(memory_offset_bytes, position_bytes, size_bytes)
                answer = ANSWER.pack(0, got_bytes, 0, perf_counter() - begin)
            except OSError as fault:
                got_bytes = 0
                answer = ANSWER.pack(fault.errno or 0, 0, device.present_bytes(), perf_counter() - begin)
            whole = got_bytes == size_bytes
        try:
            os.write(1, answer)
        except BrokenPipeError:
            return


def _tell(facts: dict[str, object]) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


def _end_with(parent: int) -> None:
    """Have the kernel end this process with its parent (elsewhere than on Linux the end of the pipe does)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before
        sys.exit(1)
