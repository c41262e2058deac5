"""What the bytes of a file look like, and what that does to its verdict when it is written."""

import numpy as np
import pytest

from carver.claims import Claim, Owned
from carver.stages.claiming import Planned
from carver.stages.extracting import _looked_at, _with_evidence
from imaging.extent import span
from signatures.plausibility import Plausibility
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Finding, Grade, Verdict

SIZE = 1 << 20
TENSORS = tuple(
    Tensor(name=f"t{number}", dtype="float32", shape=(128, 1024), layout=(span(at, at + (1 << 19)),))
    for number, at in enumerate((0, 1 << 19))
)
FINDING = Finding(code="zero-tail", detail="said before")


def verdict(grade=Grade.CONSISTENT):
    return Verdict(grade=grade, size_bytes=SIZE, tensors=TENSORS, findings=(FINDING,), facts={"a": 1})


def seen(*, striped):
    content = bytearray(np.random.default_rng(1).normal(scale=0.02, size=SIZE // 4).astype("<f4").tobytes())
    if striped:
        content[65536:131072] = np.random.default_rng(2).bytes(65536)
    looked = Plausibility(TENSORS)
    looked.take(0, bytes(content[:300_000]))
    looked.take(300_000, bytes(content[300_000:]))
    return looked


def planned(grade, parent=None):
    claim = Claim(
        start_bytes=0, size_bytes=SIZE, format="toy", grade=grade, container=parent is None, log_position=(0, 0)
    )
    return Planned(owned=Owned(claim=claim, parent=parent), end_bytes=SIZE)


def test_weights_that_look_like_weights_are_called_plausible_and_never_better_graded():
    final = _with_evidence(verdict(), seen(striped=False))
    assert (final.grade, final.data_evidence, final.findings) == (
        Grade.CONSISTENT, DataEvidence.PLAUSIBLE, (FINDING,)
    )  # fmt: skip
    assert final.facts["a"] == 1
    assert final.facts["plausibility"]["weight_like_bytes"] == SIZE


@pytest.mark.parametrize("grade", [Grade.DAMAGED, Grade.TRUNCATED])
def test_a_bad_grade_stays_whatever_the_weights_look_like(grade):
    final = _with_evidence(verdict(grade), seen(striped=False))
    assert (final.grade, final.data_evidence) == (grade, DataEvidence.NONE)


def test_encrypted_stripes_make_the_file_damaged_and_only_the_tensors_that_they_hit():
    final = _with_evidence(verdict(), seen(striped=True))
    assert (final.grade, final.data_evidence) == (Grade.DAMAGED, DataEvidence.NONE)
    assert [tensor.grade for tensor in final.tensors] == ["DAMAGED", "CONSISTENT"]
    assert [finding.code for finding in final.findings] == ["zero-tail", "tensor-uniform-block", "random-weights"]


def test_what_a_checksum_proved_is_not_looked_at():
    files = [planned(Grade.INTACT), planned(Grade.CONSISTENT, parent=0), planned(Grade.CONSISTENT)]
    assert _looked_at(verdict(), files[1], files) == ()
    assert _looked_at(verdict(), files[2], files) == TENSORS
    assert _looked_at(verdict(Grade.INTACT), files[2], files) == ()
    assert _looked_at(verdict(Grade.UNDECIDED), files[2], files) == ()
    assert _looked_at(verdict(Grade.DAMAGED), files[2], files) == TENSORS


def test_zeros_at_the_end_that_the_format_told_are_not_told_again():
    content = bytearray(np.random.default_rng(1).normal(scale=0.02, size=SIZE // 4).astype("<f4").tobytes())
    content[65536 + 512 :] = bytes(SIZE - 65536 - 512)
    for offset_bytes, told in ((65536 + 512, 0), (4096, 1)):
        looked = Plausibility(TENSORS)
        looked.take(0, bytes(content))
        before = Verdict(
            grade=Grade.CONSISTENT,
            size_bytes=SIZE,
            tensors=TENSORS,
            findings=(Finding(code="zero-tail", offset_bytes=offset_bytes),),
        )
        final = _with_evidence(before, looked)
        assert [finding.code for finding in final.findings].count("tensor-zero-run") == told
