"""What is said of a command that was typed wrongly: one plain line, in no parser's own words."""

from __future__ import annotations

import pytest

from carver.cli.arguments import parse, parser
from carver.cli.mistyped import COMMANDS

CASES = {
    "": "say which command: rescue, image, scan",
    "recover x": "there is no command 'recover'; there are rescue, image, scan",
    "rescue": "SOURCE and CASE are missing",
    "rescue a.img": "CASE is missing",
    "score CASE": "--truth is missing",
    "image -r x a b": "-r/--retry-passes: 'x' is no number of retry passes; write e.g. 3, or -1 for passes without end",
    "image -r -2 a b": "'-2' is no number of retry passes",
    "image -r": "-r/--retry-passes needs a value behind it",
    "image -T 5x a b": "-T/--timeout: '5x' is no time; write e.g. 90, 1.5m",
    "image -c x a b": "'x' is no whole number from 0",
    "image --json=3 a b": "--json takes no value, not '3'",
    "image --s 3 a b": "--s may be one of --size, --sector-size",
    "scan a.img --threads two": "--threads: 'two' is no whole number from 0",
    "scan a.img --min-size 3": "there is no --min-size here (`carver scan --help`",
    "report CASE other": "other is one word too many (`carver report --help`",
    "-r3 scan a.img": "options go behind the command: `carver COMMAND -r3 …`",
    "map -F x a.map": "-F/--format: there is no 'x'; there are",
    "map -n -D a.map": "-D/--done-status and -n/--invert-mapfile exclude each other",
    "carve a.img --range abc": "--range: 'abc' is no range; write START-END",
    "score CASE --truth t --min-recall x": "--min-recall: 'x' is no share from 0 to 1; write e.g. 0.99",
    "score CASE --truth t --min-recall nan": "'nan' is no share from 0 to 1",
    "score CASE --truth t --min-precision 1.1": "'1.1' is no share from 0 to 1",
}


@pytest.mark.parametrize("line", CASES)
def test_a_wrong_command_is_told_plainly(line, capsys):
    with pytest.raises(SystemExit) as end:
        parse(line.split())
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert said.startswith("carver: ") and said.count("\n") == 1
    assert CASES[line] in said
    for raw in ("argument ", "invalid", "unrecognized", "required", "expected"):
        assert raw not in said


def test_every_command_is_among_those_that_are_told():
    choices = next(iter(parser()._subparsers._group_actions)).choices  # type: ignore[union-attr]
    assert COMMANDS.split(", ") == list(choices)  # type: ignore[arg-type]


def test_what_is_right_is_taken_as_before():
    assert parse(["image", "-r", "-1", "a", "b"]).retry_passes == -1
    assert parse(["score", "CASE", "--truth", "t", "--min-recall", "0.5"]).min_recall == 0.5
    assert parse(["scan", "a.img", "--threads", "2"]).threads == 2
