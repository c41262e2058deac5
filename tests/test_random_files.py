"""Random files: what no list of samples has. Each is read as its library reads it, and ends where it ends.

The libraries write and read in child processes: libhdf5 may crash on what it is asked for here.
"""

import random
import subprocess
import sys
from pathlib import Path

import pytest

import signatures
from fixtures.formats._onnx_random import random_onnx
from fixtures.formats._safetensors_random import random_safetensors
from imaging.extent import span
from imaging.source import RawImage
from imaging.window import Window
from tests.test_agreement import compare

BATCH = 40
MOST_REFUSED = BATCH // 20  # combinations that libhdf5 takes, and writes a file of that it cannot read itself
WRITE = """
import sys
from pathlib import Path
from fixtures.formats._hdf5_random import write_random
for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    try:
        write_random(seed, Path(sys.argv[3]) / f"{seed}.h5")
    except (OSError, RuntimeError):
        (Path(sys.argv[3]) / f"{seed}.h5").unlink(missing_ok=True)
"""


def written(first, folder):
    """Return the files of a batch of seeds."""
    command = [sys.executable, "-c", WRITE, str(first), str(first + BATCH), str(folder)]
    subprocess.run(command, cwd=Path(__file__).parents[1], timeout=200, capture_output=True)
    return sorted(folder.glob("*.h5"))


def judged(kind, path):
    with RawImage(path) as image:
        return signatures.formats()[kind].validate(Window(image, (span(0, image.size_bytes),)))


def wrong_ends(kind, paths):
    """Return what is not good, or does not end where its file ends, alone and before random bytes."""
    found = {}
    for path in paths:
        size_bytes = path.stat().st_size
        for tail in (b"", random.Random(size_bytes).randbytes(3000)):
            with path.open("ab") as file:
                file.write(tail)
            verdict = judged(kind, path)
            if verdict.grade not in ("INTACT", "CONSISTENT") or verdict.size_bytes != size_bytes:
                found[path.stem] = (verdict.grade, verdict.size_bytes, size_bytes, verdict.findings)
    return found


def check_batch(first, folder):
    pytest.importorskip("h5py")
    paths = written(first, folder)
    wrong, refused = compare("hdf5", paths)
    assert wrong == {}
    assert len(refused) + BATCH - len(paths) <= MOST_REFUSED
    assert wrong_ends("hdf5", [path for path in paths if path.stem not in refused]) == {}


def test_random_hdf5_files_are_read_as_h5py_reads_them_and_end_where_they_end(tmp_path):
    check_batch(0, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("first", range(BATCH, 20_000, BATCH))
def test_many_random_hdf5_files_are_read_as_h5py_reads_them(first, tmp_path):
    check_batch(first, tmp_path)


def check_built(kind, build, seeds, folder):
    """Check files that our own builder makes, which the library must all read."""
    paths = [folder / f"{seed}.{kind}" for seed in seeds]
    for seed, path in zip(seeds, paths, strict=True):
        path.write_bytes(build(seed))
    assert compare(kind, paths) == ({}, {})
    assert wrong_ends(kind, paths) == {}


def test_random_safetensors_files_are_read_as_the_library_reads_them_and_end_where_they_end(tmp_path):
    check_built("safetensors", random_safetensors, range(200), tmp_path)


def test_random_onnx_models_are_read_as_the_library_reads_them_and_end_where_they_end(tmp_path):
    pytest.importorskip("onnx")
    check_built("onnx", random_onnx, range(150), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("first", range(200, 10_000, 200))
def test_many_random_safetensors_files_and_onnx_models_are_read_as_their_libraries_read_them(first, tmp_path):
    pytest.importorskip("onnx")
    check_built("safetensors", random_safetensors, range(first, first + 200), tmp_path)
    check_built("onnx", random_onnx, range(first, first + 200), tmp_path)
