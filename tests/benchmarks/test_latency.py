import pytest

from benchmarks.latency import Summary, percentile, recovery_seconds, tail_ratio
from benchmarks.load import UNANSWERED, Outcome


def outcome(scheduled: float, latency_ms: float, status: int = 200, late: float = 0.0) -> Outcome:
    return Outcome(scheduled, scheduled + late, scheduled + latency_ms / 1000, status)


def test_a_percentile_is_one_of_the_values() -> None:
    """Percentiles are found by nearest rank; the order of the values does not matter."""
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.5, 0.9, 0.99)] == [50, 90, 99]


@pytest.mark.parametrize(("count", "share"), [(0, 0.5), (1, 0.5), (99, 0.99), (999, 0.999)])
def test_too_few_values_give_no_percentile(count: int, share: float) -> None:
    """The maximum of a few values is not reported as their p99.9."""
    assert percentile([1.0] * count, share) is None
    assert percentile([1.0] * round(1 / (1 - share)), share) == 1


def test_latency_counts_from_the_scheduled_arrival() -> None:
    """The wait before a request is sent is part of its latency."""
    summary = Summary.of([outcome(0, 300, late=0.25), outcome(0.1, 100)])
    assert summary.accepted.worst == pytest.approx(300)
    assert summary.accepted.p50 == pytest.approx(100)


def test_accepted_refused_and_other_answers_are_summarized_apart() -> None:
    """Refused requests have their own latencies; other answers are counted by status."""
    summary = Summary.of(
        [
            outcome(0, 10),
            outcome(0, 20),
            outcome(0, 1, 503),
            outcome(0, 1, 500),
            outcome(0, 1, UNANSWERED),
        ]
    )
    assert (summary.accepted.count, summary.refused.count) == (2, 1)
    assert summary.accepted.worst == pytest.approx(20)
    assert summary.other == {"unanswered": 1, "500": 1}


def test_goodput_counts_accepted_requests_over_the_whole_time() -> None:
    """Refusals do not count, and the time lasts until the last answer."""
    outcomes = [outcome(second, 1000) for second in range(9)]
    outcomes += [outcome(second, 10, 503) for second in range(9)]
    assert Summary.of(outcomes).goodput == pytest.approx(9 / 9)
    assert Summary.of([*outcomes, outcome(8, 10_000)]).goodput == pytest.approx(10 / 18)


def test_one_disturbed_round_does_not_change_the_tail_ratio() -> None:
    """The ratio is the median over the rounds; rounds too short for a p99 do not count."""

    def round_of(worst_ms: float, requests: int = 100) -> list[Outcome]:
        slow = [outcome(0, worst_ms)] * 2
        return [*slow, *[outcome(0, 10)] * (requests - len(slow))]

    assert tail_ratio([round_of(30), round_of(900), round_of(20)]) == pytest.approx(3)
    assert tail_ratio([round_of(30), round_of(900), round_of(900)]) == pytest.approx(90)
    assert tail_ratio([round_of(900, requests=50), round_of(30)]) == pytest.approx(3)
    assert tail_ratio([round_of(30, requests=50)]) is None


def test_the_summary_gives_the_share_of_requests_sent_in_time() -> None:
    """A request that was never sent counts as late."""
    never = Outcome(0, float("inf"), 1, UNANSWERED)
    on_time = [outcome(0, 5), outcome(0, 5, late=0.009)]
    assert Summary.of([*on_time, outcome(0, 50, late=0.02), never]).in_time == 0.5


def test_no_outcomes_are_an_error() -> None:
    """A load without requests does not give a latency of 0."""
    with pytest.raises(ValueError, match="too short"):
        Summary.of([])


def test_recovery_needs_three_windows_in_a_row_with_low_latency() -> None:
    """Two good windows do not suffice; a bad window after three good ones is ignored."""
    worst = [900.0, 10.0, 10.0, 300.0, 10.0, 12.0, 10.0, 300.0]
    outcomes = [outcome(100 + s + n / 10, worst[s]) for s in range(8) for n in range(10)]
    assert recovery_seconds(outcomes, origin=98.5, bound_ms=15) == pytest.approx(5.5)
    assert recovery_seconds(outcomes, origin=98.5, bound_ms=1000) == pytest.approx(1.5)
    assert recovery_seconds(outcomes, origin=98.5, bound_ms=11) is None


def test_a_window_with_a_refusal_is_no_recovery() -> None:
    """Even a fast refusal does not count as low latency."""
    outcomes = [outcome(0, 10), outcome(1.5, 1, 503)]
    outcomes += [outcome(2.5 + second, 10) for second in range(3)]
    assert recovery_seconds(outcomes, origin=0, bound_ms=20) == pytest.approx(2)
