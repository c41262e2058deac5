"""A distributed checkpoint with a damaged object stays one file: what lies behind the damage is found and told."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest

from fixtures.formats import torch_distributed as distcp
from fixtures.formats.pytorch_zip import Member, write_archive
from imaging.extent import span
from imaging.window import Window
from signatures import _torch_chain, torch_distributed
from signatures.verdict import Grade
from tests.signatures.zip_window import MemorySource, codes, judge, patched, starts_in

FORMAT = torch_distributed.FORMAT
RNG = np.random.default_rng(12)
SMALL = distcp.write_object(b"\x80\x02K\x07.")
OBJECTS = [SMALL, *(distcp.write_tensor(RNG.standard_normal(size)) for size in (300, 2000, 40, 2500, 700))]
STARTS = [sum(map(len, OBJECTS[:number])) for number in range(len(OBJECTS) + 1)]
CONTENT = b"".join(OBJECTS)


class Watched(MemorySource):
    """Keeps where the last of its reads begins."""

    last_read_bytes = 0

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        self.last_read_bytes = max(self.last_read_bytes, offset_bytes)
        return super().read_at(offset_bytes, size_bytes)


def erased(low: int, high: int, *, fill: bytes = b"") -> bytes:
    return patched(CONTENT, low, fill or bytes(high - low)) + bytes(9000)


def grades(verdict) -> dict[str, str]:
    return {tensor.name: tensor.grade for tensor in verdict.tensors}


def expected(*damaged: int) -> dict[str, str]:
    return {str(number): "DAMAGED" if number in damaged else "INTACT" for number in range(1, 6)}


def one_file(content: bytes, *damaged: int, tensors: dict[str, str], said: set[str]) -> None:
    """Check that the verdict is that on the whole file, with these objects damaged."""
    assert 0 in starts_in(FORMAT, content)
    verdict = judge(FORMAT, content)
    assert (verdict.grade, verdict.size_bytes) == (Grade.DAMAGED, len(CONTENT))
    assert verdict.facts["object_bytes"] == [len(one) for one in OBJECTS]
    assert verdict.facts["damaged_objects"] == list(damaged)
    assert grades(verdict) == tensors
    assert codes(verdict) == said
    assert {finding.detail.split(":")[0] for finding in verdict.findings} == {f"object {n}" for n in damaged}


def test_a_sector_lost_inside_a_tensor_damages_this_one_alone():
    low = STARTS[2] // 512 * 512 + 2048
    one_file(erased(low, low + 512), 2, tensors=expected(2), said={"crc-mismatch"})


def test_an_object_whose_head_is_lost_is_found_by_its_end():
    content = erased(STARTS[2], STARTS[2] + 300)
    one_file(content, 2, tensors=expected(2), said={"record-header-lost", "names-lost"})
    (lost,) = (tensor for tensor in judge(FORMAT, content).tensors if tensor.name == "2")
    assert (lost.dtype, lost.layout[0].offset_bytes, lost.size_bytes) == ("uint8", STARTS[2], len(OBJECTS[2]))


def test_an_object_that_lost_nothing_but_its_first_header_has_its_tensor_proven():
    one_file(erased(STARTS[2], STARTS[2] + 40), 2, tensors=expected(), said={"record-header-lost"})


def test_a_sector_between_two_objects_costs_the_end_of_one_and_the_head_of_the_next():
    low = (STARTS[2] - 1) // 512 * 512
    said = {"directory-cut", "record-header-lost", "names-lost"}
    assert low < STARTS[2] - 22
    one_file(erased(low, low + 512), 1, 2, tensors=expected(2), said=said)


@pytest.mark.parametrize("fill", [b"", random.Random(3).randbytes(len(OBJECTS[2]))], ids=["zeros", "random"])
def test_an_object_without_head_and_end_is_what_lies_between_the_others(fill):
    low, high = STARTS[2] - 60, STARTS[3] - 60
    content = erased(low, high, fill=fill)
    one_file(content, 1, 2, tensors=expected(2), said={"directory-cut", "object-lost"})
    (lost,) = (finding for finding in judge(FORMAT, content).findings if finding.code == "object-lost")
    assert (lost.offset_bytes, str(len(OBJECTS[2])) in lost.detail) == (STARTS[2], True)


def test_objects_that_are_lost_together_are_told_as_one_stretch_with_its_length():
    low, high = STARTS[1] + 900, STARTS[4] + 2000
    verdict = judge(FORMAT, erased(low, high))
    assert (verdict.grade, verdict.size_bytes) == (Grade.DAMAGED, len(CONTENT))
    assert verdict.facts["lost_objects"] == [2]
    (lost,) = (finding for finding in verdict.findings if finding.code == "object-lost")
    assert lost.offset_bytes == STARTS[2]
    assert str(STARTS[4] - STARTS[2]) in lost.detail
    assert grades(verdict) == {"1": "DAMAGED", "2": "DAMAGED", "3": "DAMAGED", "4": "INTACT"}


def test_records_of_a_lost_object_are_no_files_of_their_own():
    content = bytearray(erased(STARTS[2] - 60, STARTS[2] + 600))
    content[STARTS[3] - 150 : STARTS[3]] = bytes(150)  # its middle is still there
    verdict = judge(FORMAT, bytes(content))
    assert verdict.facts["lost_objects"] == [2]
    inner = content.index(b"PK\x03\x04", STARTS[2], STARTS[3])
    assert inner in verdict.explained


def test_the_first_object_may_be_the_damaged_one():
    content = erased(0, 512)
    assert starts_in(FORMAT, bytes(512) + content) == {512}
    one_file(content, 0, tensors=expected(), said={"record-header-lost"})
    cut_end = erased(STARTS[1] - 60, STARTS[1] + 600)
    one_file(cut_end, 0, 1, tensors=expected(1), said={"directory-cut", "record-header-lost", "names-lost"})


def test_a_file_that_is_cut_is_truncated_with_damage_before_its_end_or_without():
    cut = CONTENT[: STARTS[4] + 3000]
    assert judge(FORMAT, cut + bytes(9000)).grade is Grade.TRUNCATED
    verdict = judge(FORMAT, patched(cut, STARTS[2] + 2000, bytes(300)) + bytes(9000))
    assert verdict.grade is Grade.TRUNCATED
    assert verdict.facts["damaged_objects"] == [2, 4]
    assert verdict.facts["object_bytes"] == [len(one) for one in OBJECTS[:4]]


def test_what_stands_on_a_sectors_edge_behind_a_cut_file_is_another_file():
    cut = CONTENT[: STARTS[4] + 3000]
    gap = bytes(-len(cut) % 512 + 512)
    verdict = judge(FORMAT, cut + gap + CONTENT)
    assert (verdict.grade, verdict.facts["objects"]) == (Grade.TRUNCATED, 5)


def test_a_whole_file_is_not_joined_with_the_rest_of_another():
    rest = CONTENT[STARTS[2] + 100 :]  # another file's, whose head is lost
    for gap in (bytes(513), b"slack" + bytes(508)):
        verdict = judge(FORMAT, CONTENT + gap + rest)
        assert (verdict.grade, verdict.size_bytes) == (Grade.INTACT, len(CONTENT))


def test_behind_a_whole_file_that_zeros_follow_nothing_is_looked_for():
    content = CONTENT + bytes(-len(CONTENT) % 4096)
    source = Watched(content + bytes(200_000))
    assert FORMAT.validate(Window(source, (span(0, source.size_bytes),))).grade is Grade.INTACT
    assert source.last_read_bytes < len(content)


def test_behind_a_cut_object_is_not_looked_without_end(monkeypatch):
    monkeypatch.setattr(_torch_chain, "MIN_SURE_LOOK_BYTES", 1 << 16)
    source = Watched(CONTENT[:-60] + bytes(1 << 22))
    window = Window(source, (span(0, source.size_bytes),))
    assert _torch_chain.behind_cut(window, STARTS[5]) == (len(OBJECTS[5]), None)
    assert source.last_read_bytes < len(CONTENT) + (1 << 17)


def test_what_torch_writes_comes_back_around_a_lost_sector(tmp_path):
    torch = pytest.importorskip("torch")
    from torch.distributed import checkpoint

    weights = {f"w{number}": torch.randn(30 + number, 50) for number in range(5)}
    checkpoint.save({"model": weights, "lr": 0.1}, checkpoint_id=str(tmp_path / "dcp"))
    (path,) = (tmp_path / "dcp").glob("*.distcp")
    content = path.read_bytes()
    whole = judge(FORMAT, content)
    ends = np.cumsum(whole.facts["object_bytes"]).tolist()
    for at, hit in (
        (whole.tensors[2].layout[0].offset_bytes + 1000, {"3"}),
        (ends[2], {"3"}),
        (ends[3] - 200, {"3", "4"}),
    ):
        low = at // 512 * 512
        verdict = judge(FORMAT, patched(content, low, bytes(512)) + bytes(5000))
        assert (verdict.grade, verdict.size_bytes) == (Grade.DAMAGED, len(content))
        lost = {name for name, grade in grades(verdict).items() if grade == "DAMAGED"}
        assert lost
        assert lost <= hit
        for number in verdict.facts["damaged_objects"]:
            assert str(number) in hit | {"2"}
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            if number not in verdict.facts["damaged_objects"]:
                torch.load(io.BytesIO(content[start:end]), weights_only=True)


def test_one_zip_alone_with_anything_behind_it_is_no_distributed_checkpoint():
    members = [Member(name="data.pkl", data=b"\x80\x02K\x07.")]
    alone = write_archive("archive", members)
    for behind in (b"slack", bytes(5000), b"PK\x03\x04" + bytes(500)):
        assert judge(FORMAT, alone + behind).findings[0].code == "single-zip"
