from collections.abc import Callable

import pytest

from carver.candidates import Candidate
from carver.judge import judge
from imaging.errors import BudgetExceeded, ReadFault
from imaging.extent import Extent, ExtentSet, span
from imaging.window import Window
from signatures.format import Format
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Finding, Grade, Verdict, rejected


class Memory:
    """Zeros as a source, some never read."""

    locator = "memory"
    size_bytes = 10_000
    sector_bytes = 512

    def __init__(self, unread: ExtentSet | None = None) -> None:
        self.unread = unread

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        return bytes(max(0, min(size_bytes, self.size_bytes - offset_bytes)))


def judged(validate: Callable[[Window], Verdict], unread: ExtentSet | None = None, *, start: int = 1000) -> Verdict:
    form = Format(name="toy", suffix=".toy", title="a toy", patterns=(), validate=validate, proves="nothing")
    candidate = Candidate(format="toy", layout=(span(start, 10_000),), hits=())
    return judge(Memory(unread), candidate, {"toy": form})


def a_tensor(name: str, *pairs: tuple[int, int], grade: Grade = Grade.CONSISTENT) -> Tensor:
    layout = tuple(Extent(offset_bytes=o, size_bytes=s) for o, s in pairs)
    return Tensor(name=name, dtype="uint8", shape=(1,), layout=layout, grade=grade.value)


def a_verdict(grade: Grade, *tensors: Tensor) -> Verdict:
    return Verdict(grade=grade, size_bytes=4000, tensors=tensors, data_evidence=DataEvidence.NONE)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (BudgetExceeded("more than a million"), "budget", "a million"),
        (ReadFault("bad sector at 0x10", offset_bytes=16, size_bytes=1), "read-fault", "bad sector at 0x10"),
        (MemoryError(), "memory", "memory limit"),
        (KeyError("shape"), "validator-failed", "KeyError: 'shape'"),
        (RecursionError("deep"), "validator-failed", "RecursionError"),
        (AssertionError(), "validator-failed", "in fail"),
    ],
)
def test_a_validator_that_raises_makes_it_undecided_and_says_why(error: Exception, code: str, told: str) -> None:
    def fail(window: Window) -> Verdict:
        raise error

    verdict = judged(fail)
    assert verdict.grade is Grade.UNDECIDED
    assert [finding.code for finding in verdict.findings] == [code]
    assert told in verdict.findings[0].detail
    assert "\n" not in verdict.findings[0].detail


def test_what_is_not_for_the_judge_goes_through() -> None:
    def interrupt(window: Window) -> Verdict:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judged(interrupt)


def test_unread_ranges_lower_exactly_the_tensors_they_hit() -> None:
    tensors = (
        a_tensor("before", (0, 100)),
        a_tensor("touched-by-one-byte", (100, 101)),
        a_tensor("after", (300, 100)),
        a_tensor("second-piece-hit", (500, 10), (250, 10)),
        a_tensor("proven", (200, 50), grade=Grade.INTACT),
        a_tensor("stored-nowhere"),
    )
    verdict = judged(lambda window: a_verdict(Grade.CONSISTENT, *tensors), ExtentSet((span(1200, 1300),)))
    assert verdict.grade is Grade.DAMAGED
    hit = [t.name for t in verdict.tensors if t.grade == Grade.DAMAGED]
    assert hit == ["touched-by-one-byte", "second-piece-hit"]
    assert verdict.findings == (
        Finding(
            code="unread", offset_bytes=200, detail="100 bytes of it were never read from the drive; 2 tensors are hit"
        ),
    )


@pytest.mark.parametrize("unread", [None, ExtentSet(), ExtentSet((span(0, 1000), span(5000, 6000)))])
def test_unread_ranges_elsewhere_change_nothing(unread: ExtentSet | None) -> None:
    verdict = a_verdict(Grade.CONSISTENT, a_tensor("a", (0, 4000)))
    assert judged(lambda window: verdict, unread) == verdict


def test_checksums_that_agree_prove_what_was_never_read() -> None:
    """The image's fill under a computed checksum that agrees is what the file holds there: zeros."""
    verdict = a_verdict(Grade.INTACT, a_tensor("a", (0, 4000), grade=Grade.INTACT))
    assert judged(lambda window: verdict, ExtentSet((span(1200, 1300),))) == verdict


@pytest.mark.parametrize("grade", [Grade.TRUNCATED, Grade.DAMAGED, Grade.UNDECIDED])
def test_a_worse_grade_is_not_bettered_by_unread_ranges(grade: Grade) -> None:
    verdict = judged(lambda window: a_verdict(grade), ExtentSet((span(1200, 1300),)))
    assert verdict.grade is grade
    assert [finding.code for finding in verdict.findings] == ["unread"]


def test_a_rejection_is_passed_on_as_it_is() -> None:
    verdict = judged(lambda window: rejected("no", at_bytes=3), ExtentSet((span(0, 9000),)))
    assert verdict == rejected("no", at_bytes=3)
