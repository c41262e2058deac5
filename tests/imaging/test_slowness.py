import pytest

from imaging.errors import UsageError
from imaging.rescue.slowness import SlowJudge, SlowReads

KIB = 1024
CLUSTER = 64 * KIB


def judge(judge: SlowJudge, seconds: float, size_bytes: int = CLUSTER, *, run_seconds: float = 60.0) -> bool:
    return judge.judge(size_bytes, seconds, run_seconds=run_seconds, average_rate_bytes=10e6)


def used_to(seconds: float, rules: SlowReads | None = None, *, adaptive: bool = True) -> SlowJudge:
    """Return a judge that has seen many reads of a cluster in so many seconds."""
    made = SlowJudge(rules or SlowReads(), adaptive=adaptive)
    for _ in range(500):
        assert not judge(made, seconds)
    return made


def test_a_read_at_a_tenth_of_the_usual_rate_is_slow() -> None:
    made = used_to(0.02)
    assert not judge(made, 0.19)
    assert judge(made, 0.21)
    assert made.slow_reads == 1


def test_a_seek_between_fast_reads_is_not_slow() -> None:
    rules = SlowReads(min_read_rate_bytes=10_000_000)
    assert not any(judge(used_to(0.0005, rules), seconds) for seconds in [0.03, *[0.0005] * 150, 0.04])


def test_many_short_reads_that_are_slow_together_are_slow() -> None:
    made = used_to(0.0005, SlowReads(min_read_rate_bytes=10_000_000))
    assert any(judge(made, 0.03) for _ in range(8))


def test_where_no_rate_is_given_quick_reads_are_never_slow_since_backward_each_costs_a_turn() -> None:
    made = used_to(0.0005)
    assert not any(judge(made, 0.03) for _ in range(100))


def test_a_drive_that_has_become_slow_for_good_is_no_longer_called_slow() -> None:
    made = used_to(0.001)
    told = [judge(made, 0.2) for _ in range(1000)]
    assert told[0]
    assert not told[-1]


def test_without_a_rate_and_in_gnu_order_nothing_is_slow() -> None:
    made = used_to(0.0005, adaptive=False)
    assert not judge(made, 100.0)


def test_a_given_rate_counts_from_the_delay_on() -> None:
    made = SlowJudge(SlowReads(min_read_rate_bytes=1_000_000, delay_slow_seconds=30.0), adaptive=False)
    assert not judge(made, 0.2, run_seconds=29.0)
    assert judge(made, 0.2, run_seconds=31.0)
    assert not judge(made, 0.2, 1024 * KIB, run_seconds=31.0)


def test_rate_zero_is_a_tenth_of_the_average_of_the_run() -> None:
    made = SlowJudge(SlowReads(min_read_rate_bytes=0), adaptive=False)
    assert judge(made, 0.2, 190_000)
    assert not judge(made, 0.2, 210_000)


def test_too_many_slow_reads_are_a_limit_and_reset_slow_counts_only_those_in_a_row() -> None:
    for reset, expected in ((False, True), (True, False)):
        rules = SlowReads(min_read_rate_bytes=1_000_000, max_slow_reads=2, reset_slow=reset)
        made = SlowJudge(rules, adaptive=False)
        for seconds in (0.2, 0.2, 0.01, 0.1, 0.2):
            judge(made, seconds, 64 * KIB if seconds == 0.2 else 512 * KIB)
        assert (made.limit is not None) == expected
        assert made.limit is None or "more than 2 reads were slow" in made.limit


@pytest.mark.parametrize(
    "rules",
    [
        SlowReads(min_read_rate_bytes=-1),
        SlowReads(delay_slow_seconds=-1),
        SlowReads(max_slow_reads=-1, min_read_rate_bytes=0),
        SlowReads(max_slow_reads=3),
    ],
)
def test_rules_that_cannot_be_are_refused(rules: SlowReads) -> None:
    with pytest.raises(UsageError):
        rules.check()


def test_one_slow_read_is_told_as_one() -> None:
    made = SlowJudge(SlowReads(min_read_rate_bytes=1_000_000, max_slow_reads=1), adaptive=False)
    assert judge(made, 1.0) and judge(made, 1.0)
    assert made.limit == "more than 1 read was slow (--max-slow-reads)"
