"""Files of very many members, tensors and other objects: either all are told, or it is told that not all are."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest

from carver.candidates import Candidate
from carver.judge import judge as judge_candidate
from fixtures.formats.pytorch_legacy import assemble, layer
from fixtures.formats.pytorch_zip import Member, Weight, pickle_of, write_archive
from fixtures.formats.safetensors import samples as safetensors_samples
from fixtures.formats.torch_distributed import write_tensor
from fixtures.formats.torch_distributed_metadata import samples as metadata_samples
from imaging.errors import BudgetExceeded
from imaging.extent import span
from signatures import (
    _pickle_opcodes,
    _torch_chain,
    _torch_pickle,
    _zip_records,
    _zip_survey,
    npz,
    pytorch_legacy,
    pytorch_zip,
    torch_distributed,
    torch_distributed_metadata,
    zip_archive,
)
from signatures._pickle import read_pickle
from signatures._torch_chain import size_of_object
from signatures.verdict import Grade
from tests.signatures.zip_window import MemorySource, codes, judge, window_on

MANY = 110_000
WEIGHT = [Weight(name="w", dtype="float32", shape=(1,), storage=0)]


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def after_a_history(numbers: int, pushed: bytes = b"K\x07") -> bytes:
    """A checkpoint as people save it: a list of that many values, and the model behind it."""
    model = pickle_of(WEIGHT, {0: 1})[2:-1]
    pickled = b"\x80\x02}(" + text("loss") + b"](" + pushed * numbers + b"e" + text("model") + model + b"u."
    return write_archive("run", [Member(name="data.pkl", data=pickled), Member(name="data/0", data=b"1234")])


def list_of(count: int) -> bytes:
    weights = [Weight(name=f"w{number}", dtype="float32", shape=(1,), storage=number) for number in range(count)]
    pickled = pickle_of(weights, dict.fromkeys(range(count), 1))
    stored = [Member(name=f"data/{number}", data=struct.pack("<f", number)) for number in range(count)]
    return write_archive("many", [Member(name="data.pkl", data=pickled), *stored])


def test_a_long_list_of_numbers_hides_no_tensor(monkeypatch):
    monkeypatch.setattr(_torch_pickle, "MAX_VISITS", 1000)
    verdict = judge(pytorch_zip.FORMAT, after_a_history(20_000))
    assert (verdict.grade, verdict.findings) == (Grade.INTACT, ())
    assert [tensor.name for tensor in verdict.tensors] == ["model.w"]


@pytest.mark.parametrize("pushed", [b"K\x07", b"K\x07\x85"], ids=["numbers", "tuples"])
def test_tensors_that_are_not_reached_are_told_of(monkeypatch, pushed):
    monkeypatch.setattr(_torch_pickle, "MAX_VISITS", 1000)
    verdict = judge(pytorch_zip.FORMAT, after_a_history(40_000, pushed))
    assert (verdict.grade, codes(verdict)) == (Grade.CONSISTENT, {"tensors-unlisted"})


def test_more_tensors_than_are_listed_are_told_of(monkeypatch):
    monkeypatch.setattr(_torch_pickle, "MAX_TENSORS", 2)
    verdict = judge(pytorch_zip.FORMAT, list_of(3))
    assert (verdict.grade, codes(verdict), len(verdict.tensors)) == (Grade.CONSISTENT, {"tensors-unlisted"}, 2)
    verdict = judge(pytorch_legacy.FORMAT, assemble(np.random.default_rng(4), layer()))
    assert (verdict.grade, codes(verdict), len(verdict.tensors)) == (Grade.CONSISTENT, {"tensors-unlisted"}, 2)


def test_nesting_deeper_than_is_followed_is_told_of(monkeypatch):
    monkeypatch.setattr(_torch_pickle, "MAX_DEPTH", 1)
    assert codes(judge(pytorch_zip.FORMAT, after_a_history(3))) == {"tensors-unlisted"}


def test_a_pickle_longer_than_is_read_is_not_called_cut(monkeypatch):
    monkeypatch.setattr(_pickle_opcodes, "MAX_OPCODES", 60)
    verdict = judge(pytorch_zip.FORMAT, after_a_history(100))
    assert (verdict.grade, codes(verdict)) == (Grade.CONSISTENT, {"pickle-length", "unsafe-global"})
    verdict = judge(pytorch_legacy.FORMAT, assemble(np.random.default_rng(4), layer()))
    assert (verdict.grade, codes(verdict)) == (Grade.UNDECIDED, {"pickle-length", "unsafe-global"})


def test_a_zip_of_more_members_than_are_kept_is_left_undecided(monkeypatch):
    monkeypatch.setattr(_zip_survey, "MAX_RECORDS", 3)
    assert judge(pytorch_zip.FORMAT, list_of(2)).grade is Grade.INTACT
    with pytest.raises(BudgetExceeded, match="3 members"):
        judge(pytorch_zip.FORMAT, list_of(3))


def test_tensors_that_are_not_listed_make_no_file_shorter(monkeypatch):
    weights = [Weight(name=f"w{number}", dtype="float32", shape=(1,), storage=number) for number in range(2)]
    pickled = pickle_of(weights, {0: 1, 1: 1})
    large = Member(name="data/1", data=bytes(_zip_survey.SLACK_BYTES + (4 << 20)))
    content = write_archive("many", [Member(name="data.pkl", data=pickled), Member(name="data/0", data=b"1234"), large])
    monkeypatch.setattr(_torch_pickle, "MAX_TENSORS", 1)
    verdict = judge(pytorch_zip.FORMAT, content)
    assert (verdict.grade, verdict.size_bytes) == (Grade.CONSISTENT, len(content))
    assert codes(verdict) == {"tensors-unlisted"}


def test_an_objects_size_is_told_by_all_its_storages_or_not_at_all(monkeypatch):
    weights = [Weight(name=f"w{number}", dtype="float32", shape=(1250,), storage=number) for number in range(3)]
    first, others = (pickle_of(some, dict.fromkeys(range(3), 1250))[2:-1] for some in (weights[:1], weights[1:]))
    pickled = b"\x80\x02}(" + text("model") + first + text("optimizer") + others + b"u."
    members = [Member(name="data.pkl", data=pickled)]
    members += [Member(name=".format_version", data=b"1"), Member(name="byteorder", data=b"little")]
    members += [Member(name=f"data/{number}", data=bytes(5000)) for number in range(3)]
    content = write_archive("archive", [*members, Member(name="version", data=b"3\n")], serialization_id=True)
    assert size_of_object(window_on(content)) == len(content)
    told = set()
    for visits in range(20):
        monkeypatch.setattr(_torch_chain, "MAX_VISITS", visits)
        told.add(size_of_object(window_on(content)))
    assert told == {0, len(content)}


def test_what_a_torch_zip_inside_leaves_out_is_told(monkeypatch):
    inner = Member(name="data/weights/model.pt", data=list_of(3))
    content = write_archive("program", [Member(name="data.pkl", data=pickle_of([], {})), inner])
    assert judge(pytorch_zip.FORMAT, content).grade is Grade.INTACT
    monkeypatch.setattr(_torch_pickle, "MAX_TENSORS", 2)
    verdict = judge(pytorch_zip.FORMAT, content)
    assert (verdict.grade, codes(verdict), len(verdict.tensors)) == (Grade.CONSISTENT, {"tensors-unlisted"}, 2)


def test_a_pickle_whose_objects_share_their_parts_is_walked_within_bounds():
    count = 3000
    pairs = b"}q\x01" + b"(" + b"".join(text(str(number)) + b"]" for number in range(count)) + b"u0"
    state = b"(" + b"h\x01" * count + b"t"
    value = read_pickle(b"\x80\x02" + pairs + b"cos\nsystem\n)R" + state + b"b.").value
    assert isinstance(value.state, tuple) and len(value.state) == count
    named = _torch_pickle.TensorsOf(value, max_visits=10_000)
    assert (list(named), named.cut) == ([], True)


def test_a_lost_storage_is_told_behind_many_unsafe_names():
    unsafe = b"(" + b"".join(b"cos\nname%d\n" % number for number in range(_zip_survey.MAX_FINDINGS + 50)) + b"t"
    weights = [Weight(name="w", dtype="float32", shape=(1,), storage=0)]
    verdict = judge(
        pytorch_zip.FORMAT, write_archive("m", [Member(name="data.pkl", data=pickle_of(weights, {0: 1}, extra=unsafe))])
    )
    assert (verdict.grade, verdict.tensors[0].grade) == (Grade.DAMAGED, "DAMAGED")


def test_a_broken_entry_in_a_long_directory_costs_no_more_than_itself(monkeypatch):
    content = bytearray(list_of(60))
    at = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    content[at : at + 4] = b"XXXX"
    monkeypatch.setattr(_zip_survey, "MAX_MARKS", 50)
    verdict = judge(pytorch_zip.FORMAT, bytes(content))
    assert (verdict.grade, codes(verdict)) == (Grade.DAMAGED, {"directory-damaged"})


def test_a_plain_zip_of_more_members_than_are_followed_is_left_undecided(monkeypatch):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for number in range(5):
            archive.writestr(f"{number}.safetensors", next(safetensors_samples(1)).content)
    assert judge(zip_archive.FORMAT, held.getvalue()).grade is Grade.INTACT
    monkeypatch.setattr(_zip_records, "MAX_RECORDS", 5)
    assert judge(zip_archive.FORMAT, held.getvalue()).grade is Grade.INTACT
    monkeypatch.setattr(_zip_records, "MAX_RECORDS", 4)
    with pytest.raises(BudgetExceeded, match="4 members"):
        judge(zip_archive.FORMAT, held.getvalue())


def test_the_metadata_of_a_checkpoint_that_is_longer_than_is_read_is_left_undecided(monkeypatch):
    sample = next(metadata_samples(1))
    monkeypatch.setattr(_pickle_opcodes, "MAX_OPCODES", 100)
    verdict = judge(torch_distributed_metadata.FORMAT, sample.content)
    assert (verdict.grade, "pickle-length" in codes(verdict)) == (Grade.UNDECIDED, True)


@pytest.mark.long
def test_a_list_of_very_many_small_tensors_is_whole():
    content = list_of(MANY)
    verdict = judge(pytorch_zip.FORMAT, content)
    assert (verdict.grade, verdict.size_bytes, verdict.findings) == (Grade.INTACT, len(content), ())
    assert len(verdict.tensors) == MANY


@pytest.mark.long
def test_an_archive_of_very_many_arrays_is_whole():
    held = io.BytesIO()
    np.savez(held, **{f"a{number}": np.full(3, number) for number in range(MANY)})
    verdict = judge(npz.FORMAT, held.getvalue())
    assert (verdict.grade, verdict.size_bytes, verdict.findings) == (Grade.INTACT, len(held.getvalue()), ())
    assert len(verdict.tensors) == MANY


@pytest.mark.long
def test_a_distributed_checkpoint_of_very_many_objects_is_whole():
    content = b"".join(write_tensor(np.full(4, float(number))) for number in range(MANY))
    candidate = Candidate(format="torch_distributed", layout=(span(0, len(content)),), hits=())
    verdict = judge_candidate(MemorySource(content), candidate, {"torch_distributed": torch_distributed.FORMAT})
    assert (verdict.grade, verdict.size_bytes, verdict.findings) == (Grade.INTACT, len(content), ())
    assert len(verdict.tensors) == MANY
