"""Mistyped: argparse's words for a wrong command, said as a person would."""

from __future__ import annotations

import re

COMMANDS = "rescue, image, scan, carve, report, score, map"
_PLAIN = (  # argparse's words (Python 3.11 to 3.14), and ours
    (r"argument COMMAND: invalid choice: (?P<said>'[^']*').*", rf"there is no command \g<said>; there are {COMMANDS}"),
    (r"the following arguments are required: COMMAND", f"say which command: {COMMANDS}"),
    (r"the following arguments are required: (?P<names>.*), (?P<last>[^,]*)", r"\g<names> and \g<last> are missing"),
    (r"the following arguments are required: (?P<name>.*)", r"\g<name> is missing"),
    (r"argument (?P<name>\S+): expected (?:one|at least one) argument", r"\g<name> needs a value behind it"),
    (r"argument (?P<name>\S+): ignored explicit argument (?P<said>'.*')", r"\g<name> takes no value, not \g<said>"),
    (r"argument (?P<name>\S+): not allowed with argument (?P<other>\S+)", r"\g<name> and \g<other> exclude each other"),
    (r"ambiguous option: (?P<said>\S+) could match (?P<names>.*)", r"\g<said> may be one of \g<names>: write it out"),
    (r"argument (?P<name>\S+): invalid choice: (?P<said>'[^']*') \(choose from (?P<known>.*)\)",
     r"\g<name>: there is no \g<said>; there are \g<known>"),
    (r"argument (?P<name>\S+): (?P<rest>.*)", r"\g<name>: \g<rest>"),
)  # fmt: skip


def plainly(message: str) -> str:
    """Return what argparse says of a wrong command in plain words; what is not known, as it is."""
    for pattern, words in _PLAIN:
        if met := re.fullmatch(pattern, message, re.DOTALL):
            return met.expand(words)
    return message
