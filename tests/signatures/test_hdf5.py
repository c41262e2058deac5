"""HDF5: every sample is graded as its format can prove, and nothing else passes for one."""

import io

import pytest

from fixtures.formats import hdf5 as built
from imaging.extent import Extent
from imaging.window import Window
from signatures import hdf5
from signatures.verdict import Grade

SEED = 20261122
SAMPLES = {sample.name: sample for sample in built.samples(SEED)}


class Memory:
    """A Source over bytes."""

    locator = "memory"
    sector_bytes = 512

    def __init__(self, content, unread=None):
        self.content = bytes(content)
        self.unread = unread
        self.size_bytes = len(self.content)

    def read_at(self, offset_bytes, size_bytes):
        return self.content[offset_bytes : offset_bytes + size_bytes]


def judge(content, unread=None):
    source = Memory(content, unread)
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
    np = pytest.importorskip("numpy")
    sample = SAMPLES["v0-user-block-512"]
    tensor = next(t for t in judge(sample.content).tensors if t.name == "big_endian")
    found = np.frombuffer(sample.content, dtype=">f8", count=11, offset=tensor.offset_bytes)
    again = next(s for s in built.samples(SEED) if s.name == "v0")
    assert found.tobytes() in again.content
    assert np.abs(found).max() < 10


def test_a_library_that_only_carries_the_signature_is_rejected():
    for tail in (bytes(4000), b"\xff" * 4000, b"HDF5 signature check failed\0" * 100, bytes(range(256)) * 16):
        assert judge(hdf5.SIGNATURE + tail).grade is Grade.REJECTED
