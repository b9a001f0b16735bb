"""Rates, latencies and delays by the times that are passed in."""

from hypothesis import given
from hypothesis import strategies as st

from video.streams.backoff import MAX_DELAY, MIN_DELAY, STABLE_AFTER, ReconnectBackoff
from video.streams.placement import worker_of
from video.streams.recent import RecentLatencies, RecentRate


def test_the_rate_counts_the_last_seconds_only() -> None:
    rate = RecentRate(now=100.0)
    for frame in range(600):
        rate.add(100.0 + frame / 30)
    assert abs(rate.per_second(120.0) - 30) < 0.5
    assert rate.per_second(140.0) == 0


def test_the_rate_of_a_stream_that_has_just_begun_is_not_too_low() -> None:
    rate = RecentRate(now=100.5)
    for frame in range(60):
        rate.add(100.5 + frame / 30)
    assert abs(rate.per_second(102.5) - 30) < 1


@given(st.lists(st.floats(0.0002, 500), min_size=1, max_size=300), st.sampled_from([0.5, 0.99]))
def test_a_quantile_is_off_by_few_percent(latencies: list[float], share: float) -> None:
    recent = RecentLatencies()
    for latency in latencies:
        recent.add(5.0, latency)
    (found,) = recent.quantiles(5.0, share)
    below = sum(latency <= found * 1.05 for latency in latencies)
    above = sum(latency >= found / 1.05 for latency in latencies)
    assert below >= share * len(latencies)
    assert above >= (1 - share) * len(latencies)


def test_old_latencies_are_forgotten() -> None:
    recent = RecentLatencies()
    recent.add(5.0, 3.0)
    recent.add(16.0, 0.01)
    assert recent.quantiles(16.0, 0.99)[0] < 0.02
    assert recent.quantiles(40.0, 0.5, 0.99) == [0.0, 0.0]


def test_the_delay_doubles_up_to_its_maximum() -> None:
    backoff = ReconnectBackoff()
    delays = [backoff.delay_after(0.0, 0.5) for _ in range(9)]
    assert delays[:3] == [MIN_DELAY, 2 * MIN_DELAY, 4 * MIN_DELAY]
    assert delays[-1] == MAX_DELAY


def test_a_stable_session_resets_the_delay() -> None:
    backoff = ReconnectBackoff()
    for _ in range(5):
        backoff.delay_after(STABLE_AFTER - 1, 0.5)
    assert backoff.delay_after(STABLE_AFTER, 0.5) == MIN_DELAY


def test_delays_are_spread() -> None:
    assert ReconnectBackoff().delay_after(0, 0.0) < ReconnectBackoff().delay_after(0, 1.0)


def test_streams_are_spread_over_the_workers_and_stay_there() -> None:
    workers = [worker_of(f"camera-{number}", 4) for number in range(400)]
    assert workers == [worker_of(f"camera-{number}", 4) for number in range(400)]
    assert all(70 < workers.count(worker) < 130 for worker in range(4))
