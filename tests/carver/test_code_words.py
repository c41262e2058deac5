"""Every code that a user can see has words: the validators' sources are walked for codes."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from carver.report.code_words import GROUPS, HARMLESS, MEANS, groups_of, meaning

ROOT = Path(__file__).parent.parent.parent
SOURCES = [
    *sorted((ROOT / "signatures").rglob("*.py")),
    *(ROOT / "carver" / name for name in ("judge.py", "workers.py", "identify/hints.py", "identify/checkpoints.py")),
    *(ROOT / "carver" / "stages" / name for name in ("extracting.py", "seeking.py", "claiming.py", "judging.py")),
]
CODE_NAMES = {"code", "fault"}  # what a parameter or field that takes a code is called
CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
NO_CODES = {  # what is returned and looks the same: datatypes, kinds of files, outcomes of a search
    *("bool", "enum", "compound", "object", "record", "checkpoint", "mobile", "pt2", "torchscript"),
    *("crowded", "doubtful", "in-part", "nowhere", "several", "unlike-sum"),
}


def trees() -> Iterator[ast.AST]:
    return (ast.parse(path.read_text()) for path in SOURCES)


def named_places() -> dict[str, set[int]]:
    """Return, of each function and class, which of its positional arguments are codes."""
    places: dict[str, set[int]] = {}
    for node in (node for tree in trees() for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef):
            names = [each.arg for each in node.args.args if each.arg not in ("self", "cls")]
        elif isinstance(node, ast.ClassDef):
            made = next((f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
            fields = [f.target.id for f in node.body if isinstance(f, ast.AnnAssign) and isinstance(f.target, ast.Name)]
            names = [each.arg for each in made.args.args[1:]] if made else fields
        else:
            continue
        places.setdefault(node.name, set()).update(at for at, name in enumerate(names) if name in CODE_NAMES)
    return places


def called(node: ast.AST) -> str:
    """Return the last name of what a node names; "" where it names nothing."""
    return node.id if isinstance(node, ast.Name) else str(getattr(node, "attr", ""))


def is_for_code(target: ast.AST) -> bool:
    """Whether a code is assigned, alone or among others."""
    return any(called(each) in CODE_NAMES for each in (target, *getattr(target, "elts", ())))


def texts(node: ast.AST | None) -> Iterator[str]:
    """Yield the texts that an expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*texts(node.body), *texts(node.orelse))
    elif isinstance(node, ast.BoolOp):
        yield from (text for value in node.values for text in texts(value))
    elif isinstance(node, ast.Tuple) and node.elts:
        yield from texts(node.elts[0])  # (code, where) and (what, code)
        yield from texts(node.elts[-1])


def codes() -> set[str]:
    """Return every code in the sources: what is given as one, called one, or returned."""
    places, found = named_places(), set()
    for node in (node for tree in trees() for node in ast.walk(tree)):
        if isinstance(node, ast.Call):
            given = [node.args[at] for at in places.get(called(node.func), ()) if at < len(node.args)]
            given += [keyword.value for keyword in node.keywords if keyword.arg in CODE_NAMES]
            found |= {text for value in given for text in texts(value)}
        elif isinstance(node, ast.Return) or (isinstance(node, ast.Assign) and is_for_code(node.targets[0])):
            found |= set(texts(node.value))
        elif isinstance(node, ast.For) and called(node.target) in CODE_NAMES and isinstance(node.iter, ast.Tuple):
            found |= {text for value in node.iter.elts for text in texts(value)}
    return {text for text in found if CODE.fullmatch(text)} - NO_CODES


FOUND = codes()


def test_the_walk_finds_the_codes_that_are_known_to_be_there():
    assert len(FOUND) > 200
    assert {"unread", "foreign-file-inside", "directory-displaced", "header-end", "object-header", "timeout"} <= FOUND


def test_every_code_of_the_validators_has_words():
    assert sorted(FOUND - set(MEANS)) == []


def test_there_are_no_words_for_codes_that_are_no_more():
    assert sorted(set(MEANS) - FOUND) == []


def test_a_code_has_one_meaning_and_calls_for_one_step():
    every = [code for group in GROUPS for code in group.means]
    assert len(every) == len(set(every))


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: next(iter(group.means)))
def test_every_group_of_codes_but_the_harmless_says_what_to_do(group):
    assert (group.step == "") == (group is HARMLESS)
    told = group.step.format(files="3 files")
    assert group is HARMLESS or ("3 files" in told and told[0].isupper() and told.endswith("."))
    assert all(words[:1].islower() or words[:4] in ("JSON", "ONNX") for words in group.means.values())


def test_a_rejection_is_known_by_its_code_behind_the_format():
    assert meaning("safetensors:header-end") == meaning("header-end") != ""
    assert meaning("some-later-code") == "" and groups_of(["some-later-code"]) == set()
    assert len(groups_of(["cut-short", "end-missing", "unread"])) == 2
