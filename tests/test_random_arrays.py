"""Random files written by gguf and NumPy: our tensors are theirs, whatever type, order of bytes, shape or key."""

import importlib.util

import pytest

from signatures import formats
from tests import random_arrays
from tests.command import need
from tests.reference import LIBRARIES
from tests.signatures.zip_window import judge
from tests.test_agreement import compare

WRITERS = {
    "gguf": random_arrays.write_gguf,
    "numpy_array": random_arrays.write_array,
    "npz": random_arrays.write_archive,
}
BATCH = 500


def disagreements(kind, folder, seeds):
    """Write the files of `seeds`; return what differs, was refused, or is not judged whole and to its last byte."""
    need(None if importlib.util.find_spec(LIBRARIES[kind]) else f"{LIBRARIES[kind]} is not installed")
    paths = [WRITERS[kind](seed, folder) for seed in seeds]
    wrong, refused = compare(kind, paths)
    told = wrong | refused
    for path in paths:
        content = path.read_bytes()
        verdict = judge(formats()[kind], content)
        if not verdict.grade.good or verdict.findings or verdict.size_bytes != len(content):
            told.setdefault(path.stem, (verdict.grade, verdict.size_bytes, verdict.findings))
    return told


@pytest.mark.parametrize("kind", WRITERS)
def test_the_tensors_of_random_files_are_those_of_their_library(kind, tmp_path):
    assert disagreements(kind, tmp_path, range(150)) == {}


@pytest.mark.long
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("first", range(10_000, 15_000, BATCH))
def test_the_tensors_of_thousands_of_random_files_are_those_of_their_library(kind, tmp_path, first):
    assert disagreements(kind, tmp_path, range(first, first + BATCH)) == {}
