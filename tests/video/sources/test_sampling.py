"""Sampling by presentation time."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from video.sources.sampling import MAX_GAP, PresentationClock, Sampler, Sampling

RATES = st.floats(0.05, 240)


def _sampled(times: list[float], rate: float | None) -> list[int]:
    sampler = Sampler(Sampling(rate))
    return [index for index, time in enumerate(times) if sampler.sample(time)]


@given(st.lists(st.floats(0, 1000), min_size=1).map(sorted))
def test_without_a_rate_all_frames_are_sampled(times: list[float]) -> None:
    assert _sampled(times, None) == list(range(len(times)))


@given(RATES, st.integers(2, 500), st.floats(-0.3, 0.3))
def test_at_the_rate_of_the_source_jitter_loses_no_frame(rate: float, n: int, shift: float) -> None:
    times = [index / rate + (shift / rate if index % 3 == 1 else 0) for index in range(n)]
    assert _sampled(times, rate) == list(range(n))


@given(st.floats(1, 60), st.integers(1, 12), st.integers(20, 300))
def test_a_rate_that_divides_that_of_the_source_takes_every_nth_frame(
    fps: float, divisor: int, count: int
) -> None:
    times = [round(index / fps, 3) for index in range(count)]
    assert _sampled(times, fps / divisor) == list(range(0, count, divisor))


@given(RATES, st.lists(st.floats(0, 2), min_size=1, max_size=200))
def test_never_more_frames_than_the_rate_allows(rate: float, steps: list[float]) -> None:
    times = [sum(steps[: index + 1]) for index in range(len(steps))]
    chosen = _sampled(times, rate)
    assert chosen[0] == 0
    assert len(chosen) <= math.ceil((times[-1] - times[0]) * rate) + 2


@given(RATES, st.floats(0.2, 4), st.integers(50, 400))
def test_the_rate_does_not_drift(rate: float, ratio: float, count: int) -> None:
    fps = rate * ratio
    times = [index / fps for index in range(count)]
    assert len(_sampled(times, rate)) == pytest.approx(min(rate, fps) * count / fps, abs=2)


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf])
def test_a_rate_must_be_more_than_0(rate: float) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Sampling(rate)


@given(st.lists(st.none() | st.floats(-1e9, 1e9), max_size=100))
def test_times_start_at_0_and_never_decrease(timestamps: list[float | None]) -> None:
    clock = PresentationClock(0.04)
    times = [clock.advance(each) for each in timestamps]
    assert times == sorted(times)
    assert times[:1] in ([], [0.0])


@given(st.lists(st.floats(-1e6, 1e6), max_size=100))
def test_no_step_is_larger_than_a_pause(timestamps: list[float]) -> None:
    clock = PresentationClock(0.04)
    times = [clock.advance(each) for each in timestamps]
    assert all(b - a <= MAX_GAP + 1e-6 for a, b in pairwise(times))


@pytest.mark.parametrize("jump", [-100_000.0, -1.0, 100.0, 100_000.0])
def test_after_a_jump_of_the_timestamps_times_go_on(jump: float) -> None:
    clock = PresentationClock(0.04)
    timestamps = [5 + n / 10 for n in range(10)] + [6 + jump + n / 10 for n in range(10)]
    times = [clock.advance(each) for each in timestamps]
    assert times == pytest.approx([n / 10 for n in range(20)])


def test_a_missing_timestamp_is_one_interval_after_the_frame_before_it() -> None:
    clock = PresentationClock(0.04)
    assert [clock.advance(each) for each in (None, None, None)] == pytest.approx([0, 0.04, 0.08])
    clock = PresentationClock(0.04)
    times = [clock.advance(each) for each in (7.0, 7.1, None, 7.3)]
    assert times == pytest.approx([0, 0.1, 0.2, 0.3])


def test_a_late_frame_has_the_time_of_the_frame_before_it() -> None:
    clock = PresentationClock(0.04)
    times = [clock.advance(each) for each in (1.0, 1.1, 1.05, 1.2)]
    assert times == pytest.approx([0, 0.1, 0.1, 0.2])
