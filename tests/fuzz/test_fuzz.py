"""Mutated files: some hundred a format here, `CARVER_FUZZ_INPUTS` (a million) in the long run; see `tests.fuzz.run`."""

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import signatures
from tests.fuzz.mutation import OPERATIONS, mutated

INPUTS = 150
ROOT = Path(__file__).parents[2]


def run(*arguments, timeout=None):
    command = [sys.executable, "-m", "tests.fuzz.run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT)


def test_every_mutation_changes_something_and_the_seed_is_left_alone():
    seeds = [bytes(range(256)) * 8, b'{"number": 1234}' * 40]
    before = list(seeds)
    for operation in OPERATIONS:
        changed = 0
        for number in range(40):
            content = bytearray(seeds[number % 2])
            operation(random.Random(number), content, seeds)
            changed += content != seeds[number % 2]
        assert changed > 5, operation
    assert len({mutated(random.Random(number), seeds) for number in range(50)}) > 40
    assert seeds == before


def test_some_hundred_mutated_files_of_every_format_are_survived():
    names = list(signatures.formats())
    done = run(",".join(names), INPUTS, timeout=280)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["format"] for one in told] == names
    for one in told:
        assert sum(one["counts"].values()) == INPUTS
        assert len(one["counts"]) > 1, one


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", signatures.formats())
def test_a_million_mutated_files_are_survived(name):
    done = run(name, os.environ.get("CARVER_FUZZ_INPUTS", "1000000"))
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", signatures.formats())
def test_a_million_inputs_guided_by_coverage_are_survived(name):
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed")
    done = run("--atheris", name, os.environ.get("CARVER_FUZZ_INPUTS", "1000000"))
    assert done.returncode == 0, done.stderr[-4000:]
