"""HDF5: every sample is graded as its format can prove, and nothing else passes for one."""

import io

import numpy as np
import pytest

from fixtures.formats import hdf5 as built
from fixtures.formats._hdf5_bytes import Group, OldWriter
from imaging.extent import Extent
from imaging.window import Window
from signatures import hdf5
from signatures._hdf5.labels import model_name
from signatures.verdict import Grade

SEED = 20261122
SAMPLES = {sample.name: sample for sample in built.samples(SEED)}


class Memory:
    """A Source over bytes."""

    locator = "memory"
    sector_bytes = 512
    unread = None

    def __init__(self, content):
        self.content = bytes(content)
        self.size_bytes = len(self.content)

    def read_at(self, offset_bytes, size_bytes):
        return self.content[offset_bytes : offset_bytes + size_bytes]


def judge(content):
    source = Memory(content)
    return hdf5.validate(Window(source, (Extent(offset_bytes=0, size_bytes=source.size_bytes),)))


def codes(verdict):
    return {finding.code for finding in verdict.findings}


def described(verdict):
    return sorted((tensor.name, tensor.dtype, tensor.shape) for tensor in verdict.tensors)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_whole_file_has_its_grade_its_length_and_its_tensors(name):
    sample = SAMPLES[name]
    verdict = judge(sample.content + bytes(4096))
    assert (verdict.grade, verdict.size_bytes) == (sample.grade, len(sample.content)), verdict.findings
    assert described(verdict) == sorted(sample.tensors)


@pytest.mark.parametrize("name", [sample.name for sample in SAMPLES.values() if not sample.writer])
def test_h5py_reads_what_the_byte_level_writer_wrote(name):
    h5py = pytest.importorskip("h5py")
    shapes = {}
    with h5py.File(io.BytesIO(SAMPLES[name].content), "r") as file:
        file.visititems(
            lambda path, found: shapes.update({path: found.shape}) if isinstance(found, h5py.Dataset) else None
        )
    assert shapes == {path: shape for path, _, shape in SAMPLES[name].tensors}


def test_the_bytes_of_a_contiguous_tensor_are_where_the_verdict_says():
    sample = SAMPLES["v0-user-block-512"]
    tensor = next(t for t in judge(sample.content).tensors if t.name == "big_endian")
    found = np.frombuffer(sample.content, dtype=">f8", count=11, offset=tensor.offset_bytes)
    again = next(s for s in built.samples(SEED) if s.name == "v0")
    assert found.tobytes() in again.content
    assert np.abs(found).max() < 10


def test_a_library_that_only_carries_the_signature_is_rejected():
    for tail in (bytes(4000), b"\xff" * 4000, b"HDF5 signature check failed\0" * 100, bytes(range(256)) * 16):
        assert judge(hdf5.SIGNATURE + tail).grade is Grade.REJECTED


def starts_of(content, hit_bytes):
    (pattern,) = (pattern for pattern in hdf5.FORMAT.patterns if not pattern.anchor)
    return list(hdf5.starts(Memory(content), hit_bytes, pattern))


@pytest.mark.parametrize("name", ["v0", "v0-offsets-4", "v0-user-block-512", "v1-user-block-2048"])
def test_a_hit_leads_to_the_first_byte_of_its_file_user_block_included(name):
    content = bytes(4096) + SAMPLES[name].content
    assert starts_of(content, content.index(hdf5.SIGNATURE)) == [4096]


def test_a_superblock_whose_user_block_was_cut_off_starts_its_own_file():
    content = SAMPLES["v1-user-block-2048"].content[2048:]
    assert starts_of(content, 0) == [0]
    verdict = judge(content)
    assert (verdict.grade, verdict.size_bytes) == (Grade.CONSISTENT, len(content))


@pytest.mark.parametrize("tail", [bytes(200), b"\x04" * 200, b"\x00\x00\x00\x00\x00\x03\x08" * 30, b""])
def test_a_hit_without_a_superblock_leads_nowhere(tail):
    assert starts_of(hdf5.SIGNATURE + tail, 0) == []


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        (
            "keras-2",
            {"producer": "Keras 2.3.1 tensorflow", "name": "classifier_7"},
        ),
        ("keras-3", {"producer": "Keras 3 weights", "suffix": ".weights.h5", "name": "little_model"}),
        ("netcdf", {"producer": "netCDF-4", "suffix": ".nc"}),
    ],
)
@pytest.mark.parametrize("superblock", [0, 2, 3])
def test_labels_tell_the_writer_and_the_name(superblock, name, facts):
    if f"sb{superblock}-{name}" not in SAMPLES:
        pytest.skip("h5py is not installed")
    verdict = judge(SAMPLES[f"sb{superblock}-{name}"].content)
    assert (
        dict(verdict.facts) == {"superblock_version": superblock, "user_block_bytes": 0} | dict(verdict.facts) | facts
    )


def labelled(root):
    return judge(OldWriter().write(root)).facts


def test_labels_of_pytables_anndata_and_matlab():
    weights = {"x": np.zeros(3, "<f4")}
    tables = labelled(Group(members=weights, attributes={"PYTABLES_FORMAT_VERSION": b"2.1"}))
    assert tables["producer"] == "PyTables format 2.1"
    cells = labelled(Group(members=weights, attributes={"encoding-type": b"anndata"}))
    assert (cells["producer"], cells["suffix"]) == ("AnnData", ".h5ad")
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512)
    matlab = judge(OldWriter(user_block=header).write(Group(members=weights))).facts
    assert (matlab["producer"], matlab["suffix"]) == ("MATLAB 7.3", ".mat")


@pytest.mark.parametrize(
    "config", [b"", b"{", b"[" * 100_000, b"[]", b'{"config": []}', b'{"config": {"name": 7}}', b"\xff\xfe"]
)
def test_a_broken_model_config_gives_no_name_and_no_error(config):
    assert model_name(config) == ""


def test_random_bytes_after_any_superblock_are_rejected():
    chance = np.random.default_rng(SEED)
    heads = [SAMPLES[name].content[:100] for name in ("v0", "v1", "v0-offsets-4")]
    for head in heads:
        for _ in range(50):
            assert judge(head + chance.bytes(8000)).grade is Grade.REJECTED
