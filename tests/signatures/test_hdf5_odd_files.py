"""HDF5 files that h5py writes when it is asked for what few ask for, each of which was once read wrongly."""

import io

import numpy as np
import pytest

from tests.signatures.test_hdf5 import codes, judge

h5py = pytest.importorskip("h5py")
h5d, h5f, h5p, h5s, h5t, h5z = h5py.h5d, h5py.h5f, h5py.h5p, h5py.h5s, h5py.h5t, h5py.h5z
DATA = np.arange(600, dtype="f4") / 7


def written(build, **settings):
    target = io.BytesIO()
    with h5py.File(target, "w", **settings) as file:
        build(file)
    return target.getvalue()


def chunked(file, *steps, shape=(600,), sizes=(200,), limits=None, kind=None, early=False):
    """Create a dataset "w" under these filters, in this order."""
    settings = h5p.create(h5p.DATASET_CREATE)
    settings.set_chunk(sizes)
    if early:
        settings.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    for step in steps:
        getattr(settings, f"set_{step}")(*((4,) if step == "deflate" else ()))
    space = h5s.create_simple(shape, limits)
    return h5py.Dataset(h5d.create(file.id, b"w", kind or h5t.IEEE_F32LE, space, settings))


@pytest.mark.parametrize(
    "steps",
    [
        ("deflate", "shuffle"),
        ("deflate", "deflate", "shuffle"),
        ("fletcher32", "shuffle"),
        ("deflate", "fletcher32", "shuffle", "fletcher32"),
        ("fletcher32", "deflate"),
    ],
)
def test_filters_in_any_order_are_undone_and_their_checksums_compared(steps):
    def build(file):
        chunked(file, *steps)[...] = DATA

    content = written(build)
    (tensor,) = judge(content).tensors
    assert (judge(content).grade, tensor.grade) == ("INTACT", "INTACT")
    for extent in tensor.layout:
        at = extent.offset_bytes + extent.size_bytes // 2
        assert judge(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]).grade == "DAMAGED"


@pytest.mark.parametrize(("addresses", "lengths"), [(4, 8), (8, 4), (4, 4)])
def test_sizes_of_addresses_and_of_lengths_may_differ(tmp_path, addresses, lengths):
    made, opened, path = h5p.create(h5p.FILE_CREATE), h5p.create(h5p.FILE_ACCESS), tmp_path / "w.h5"
    made.set_sizes(addresses, lengths)
    opened.set_libver_bounds(h5f.LIBVER_EARLIEST, h5f.LIBVER_V18)
    with h5py.File(h5f.create(str(path).encode(), h5f.ACC_TRUNC, made, opened)) as file:
        for index in range(30):
            file[f"group{index % 3}/w{index}"] = DATA
        file["text"] = ["word", "another", ""]
    verdict = judge(path.read_bytes())
    assert (verdict.grade, codes(verdict)) == ("CONSISTENT", set())
    assert len(verdict.tensors) == 31


def test_chunks_without_an_index_are_numbered_over_the_limits_of_the_shape():
    def build(file):
        chunked(file, shape=(5, 4), sizes=(2, 2), limits=(5, 9), early=True)[...] = DATA[:20].reshape(5, 4)

    content = written(build, libver="latest")
    (tensor,) = judge(content).tensors
    pieces = [content[extent.offset_bytes : extent.end_bytes] for extent in tensor.layout]
    assert [len(piece) for piece in pieces] == [32, 32, 32]  # of rows of five chunks, two are inside the shape
    assert np.frombuffer(pieces[0], "f4").tolist() == DATA[[0, 1, 4, 5, 2, 3, 6, 7]].tolist()


def test_an_empty_dataset_with_room_for_chunks_is_no_damage():
    def build(file):
        chunked(file, shape=(0,), sizes=(4,), limits=(40,), early=True)

    verdict = judge(written(build, libver="latest"))
    assert (verdict.grade, codes(verdict)) == ("CONSISTENT", set())


def test_complex_numbers_of_long_doubles_have_numpys_name():
    content = written(lambda file: file.create_dataset("w", data=np.ones(3, np.clongdouble)))
    assert [tensor.dtype for tensor in judge(content).tensors] == ["complex256"]


def test_references_to_regions_in_a_header_are_not_proven_since_their_regions_lie_elsewhere():
    def build(file):
        file["w"] = DATA
        settings = h5p.create(h5p.DATASET_CREATE)
        settings.set_layout(h5d.COMPACT)
        kind, space = h5t.STD_REF_DSETREG, h5s.create_simple((1,))
        h5py.Dataset(h5d.create(file.id, b"r", kind, space, settings))[0] = file["w"].regionref[:3]

    grades = {tensor.name: tensor.grade for tensor in judge(written(build, libver="latest")).tensors}
    assert grades["r"] == "CONSISTENT"


@pytest.mark.parametrize("signature", [b"FSHD", b"FSSE"])
def test_a_changed_byte_in_the_list_of_free_space_that_a_file_keeps_is_damage(signature):
    def build(file):
        for index in range(30):
            file[f"w{index}"] = DATA
        for index in range(0, 30, 2):
            del file[f"w{index}"]

    content = written(build, libver="latest", fs_strategy="fsm", fs_persist=True)
    assert judge(content).grade == "CONSISTENT"
    at = content.index(signature) + 6
    verdict = judge(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert (verdict.grade, codes(verdict)) == ("DAMAGED", {"metadata-checksum"})


def test_a_thousand_external_links_do_not_hide_what_is_broken():
    def build(file):
        for index in range(1000):
            file[f"link{index}"] = h5py.ExternalLink("other.h5", "/x")
        chunked(file, "fletcher32")[...] = DATA

    content = written(build)
    at = judge(content).tensors[0].offset_bytes
    verdict = judge(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert verdict.grade == "DAMAGED"
    told = [finding.code for finding in verdict.findings]
    assert (told.count("chunk-checksum"), told.count("external-link")) == (1, 21)
