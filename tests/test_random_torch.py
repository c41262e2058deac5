"""Random files written by torch: our tensors are torch's, whatever was nested, tied, viewed, quantised or sparse."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import need
from tests.test_agreement import compare

BATCH = 500
ROOT = Path(__file__).parents[1]


def disagreements(folder, seeds):
    """Write the files of `seeds` and return what differs or was refused, of those that torch reads."""
    need(None if importlib.util.find_spec("torch") else "torch is not installed")
    command = [sys.executable, "-m", "tests.random_torch", folder, str(seeds.start), str(seeds.stop)]
    subprocess.run(command, check=True, timeout=280, cwd=ROOT)
    told = {}
    for kind, ending in (("pytorch_zip", "zip"), ("pytorch_legacy", "legacy")):
        paths = sorted(folder.glob(f"*.{ending}.pt"))
        assert paths
        wrong, refused = compare(kind, paths, "--own-files")
        told |= wrong | refused
    return told


def test_the_tensors_of_random_files_are_those_that_torch_reads(tmp_path):
    assert disagreements(tmp_path, range(120)) == {}


@pytest.mark.long
@pytest.mark.parametrize("first", range(10_000, 16_000, BATCH))
def test_the_tensors_of_thousands_of_random_files_are_those_that_torch_reads(tmp_path, first):
    assert disagreements(tmp_path, range(first, first + BATCH)) == {}
