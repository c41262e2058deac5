"""Agreement: of every file our tensors are those of the format's own library, in names, dtypes, shapes and bytes.

The library reads in a child process with limits. For a folder of real files set `CARVER_CORPUS` and `CARVER_CATALOG`
as for `test_corpus.py`, and run with `-m long`.
"""

import contextlib
import csv
import hashlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import signatures
from imaging.extent import span
from imaging.source import RawImage
from imaging.window import Window
from tests.command import need
from tests.reference import LIBRARIES
from tests.test_corpus import format_of

SECONDS = 280
# samples that the libraries of today do not read, and a word of the reason that they give
REFUSED = {
    "gguf": {"every-type": "GGMLQuantizationType"},  # retired types, of which files still exist
    "numpy_array": {"objects": "Object arrays", "objects-in-records": "Object arrays"},
    "pytorch_zip": {"torchscript": "__torch__", "pt2": ".pt2"},  # the one has no code, the other is torch.export's
    "pytorch_legacy": {"protocol-4": "Weights only", "protocol-5": "Weights only"},
}
ONLY_OURS = {  # beginnings of names that the reference does not list
    "onnx": ("sparse",),  # a sparse initializer
    "pytorch_zip": ("_state", "_context", "CONSTANTS."),  # TorchScript's attributes and constants: no parameters
}
UNPACKED = ("float.unpacked", "int64.unpacked")  # values one by one, between their tags: only names can be compared


def samples_of(kind):
    return list(importlib.import_module(f"fixtures.formats.{kind}").samples(11))


def ours(kind, path):
    """Return our tensors in the reference's terms, with the bytes as they are stored."""
    with RawImage(path) as image:
        verdict = signatures.formats()[kind].validate(Window(image, (span(0, image.size_bytes),)))
        return [(tensor, stored(image, kind, tensor)) for tensor in verdict.tensors]


def stored(image, kind, tensor):
    layout = sorted(tensor.layout, key=lambda extent: extent.offset_bytes) if kind == "hdf5" else tensor.layout
    return b"".join(image.read_at(extent.offset_bytes, extent.size_bytes) for extent in layout)


def in_terms_of(reference, raw):
    """Return (size, hash) of our bytes, unpacked where the reference has more of them or others."""
    wanted_bytes, first = reference["size_bytes"], reference["offset_bytes"]
    if hashlib.sha256(raw).hexdigest() != reference["sha256"] and raw:
        with contextlib.suppress(zlib.error):
            raw = zlib.decompressobj(-15).decompress(raw)[first : first + wanted_bytes]
    return len(raw), hashlib.sha256(raw).hexdigest() if raw else ""


def references(kind, paths, *options):
    """Return what the library reads of each file: a list of tensors, or the text of its refusal."""
    need(None if importlib.util.find_spec(LIBRARIES[kind]) else f"{LIBRARIES[kind]} is not installed")
    command = [sys.executable, "-m", "tests.reference", *options, kind, *map(str, paths)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=root)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(paths), done.stderr[-2000:]
    return answers


def differences(kind, path, reference):
    """Yield in words whatever our list and the library's do not have in common."""
    found = {}
    for tensor, raw in ours(kind, path):
        found.setdefault(tensor.name, []).append((tensor, raw))
    for told in reference:
        if not found.get(told["name"]):
            yield f"{told['name']}: not in our list"
            continue
        tensor, raw = found[told["name"]].pop(0)
        mine, theirs = (tensor.dtype, list(tensor.shape)), (told["dtype"], told["shape"])
        if told["sha256"] is not None and tensor.name not in UNPACKED:
            mine, theirs = (*mine, *in_terms_of(told, raw)), (*theirs, told["size_bytes"], told["sha256"])
        if mine != theirs:
            yield f"{told['name']}: we say {mine}, the library {theirs}"
    for name, left in found.items():
        if left and not name.startswith(ONLY_OURS.get(kind, ())):
            yield f"{name}: only in our list"


def compare(kind, paths, *options):
    """Return what differs, by the file's stem, and what the library refused."""
    wrong, refused = {}, {}
    for path, reference in zip(paths, references(kind, paths, *options), strict=True):
        if isinstance(reference, str):
            refused[path.stem] = reference
        elif found := list(differences(kind, path, reference)):
            wrong[path.stem] = found[:5]
    return wrong, refused


@pytest.mark.parametrize("kind", LIBRARIES)
def test_the_tensors_of_every_sample_are_those_of_its_library(kind, tmp_path):
    samples = samples_of(kind)
    paths = [tmp_path / f"{sample.name}.{kind}" for sample in samples]
    for sample, path in zip(samples, paths, strict=True):
        path.write_bytes(sample.content)
    wrong, refused = compare(kind, paths)
    assert wrong == {}
    expected = REFUSED.get(kind, {})
    assert refused.keys() == expected.keys()
    assert all(expected[name] in refused[name] for name in refused)


def test_a_difference_in_name_dtype_shape_or_bytes_is_seen(tmp_path):
    (sample,) = (one for one in samples_of("safetensors") if one.name == "scalar")
    path = tmp_path / "scalar.safetensors"
    path.write_bytes(sample.content)
    (right,) = references("safetensors", [path])[0]
    assert list(differences("safetensors", path, [right])) == []
    for change in ({"name": "b"}, {"dtype": "int64"}, {"shape": [1]}, {"sha256": "0" * 64}, {"size_bytes": 4}):
        assert list(differences("safetensors", path, [right | change]))


@pytest.mark.long
@pytest.mark.parametrize("kind", LIBRARIES)
def test_the_tensors_of_every_file_of_the_corpus_are_those_of_its_library(kind):
    folder, catalog = os.environ.get("CARVER_CORPUS"), os.environ.get("CARVER_CATALOG")
    if not folder or not catalog:
        pytest.skip("no corpus: CARVER_CORPUS and CARVER_CATALOG are not set")
    with Path(catalog).open(newline="") as table:
        rows = csv.DictReader(table, delimiter="\t")
        paths = [Path(folder) / row["path"] for row in rows if format_of(row) == kind]
    wrong, refused = compare(kind, paths)
    print(f"{kind}: {len(paths)} files, {len(refused)} refused by the library: {refused}")
    assert wrong == {}
