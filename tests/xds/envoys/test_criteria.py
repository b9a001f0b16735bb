"""Requests against criteria."""

import pytest

from sluice.config.rollout import RolloutCriteria
from xds.envoys.criteria import Figures, breach

BEFORE = Figures(1000, 10, 0.1)


def judged(seen: Figures, before: Figures | None = BEFORE, **criteria: float | None) -> str | None:
    unchecked = dict.fromkeys(RolloutCriteria.model_fields)
    settings = RolloutCriteria.model_validate({**unchecked, "min_requests": 100, **criteria})
    return breach(settings, seen, before, "before the change")


@pytest.mark.parametrize(
    ("criterion", "value", "good", "bad", "reason"),
    [
        (
            "max_error_rate", 0.05, Figures(200, 10, None), Figures(200, 11, None),
            "5.5 % of 200 requests failed, more than 5 %",
        ),
        (
            "max_error_rate_increase", 0.05, Figures(200, 12, None), Figures(200, 13, None),
            "6.5 % of 200 requests failed, over 5 % more than the 1 % before the change",
        ),
        (
            "max_p99", 0.25, Figures(200, 0, 0.25), Figures(200, 0, 0.251),
            "p99 of 200 requests is 251 ms, more than 250 ms",
        ),
        (
            "max_p99_increase", 0.5, Figures(200, 0, 0.15), Figures(200, 0, 0.1501),
            "p99 of 200 requests is 150.1 ms, over 50 % more than the 100 ms before the change",
        ),
    ],
)  # fmt: skip
def test_the_reason_has_the_figures(
    criterion: str, value: float, good: Figures, bad: Figures, reason: str
) -> None:
    assert judged(good, **{criterion: value}) is None
    assert judged(bad, **{criterion: value}) == reason


def test_few_requests_say_nothing() -> None:
    assert judged(Figures(99, 99, 9.0), max_error_rate=0.1, max_p99=0.1) is None
    assert judged(Figures(100, 99, 9.0), max_error_rate=0.1) is not None


@pytest.mark.parametrize("before", [None, Figures(99, 0, 0.001), Figures(1000, 0, None)])
def test_without_enough_requests_before_nothing_is_compared(before: Figures | None) -> None:
    assert judged(Figures(200, 0, 9.0), before, max_p99_increase=0.1) is None


def test_a_key_without_a_value_is_not_checked() -> None:
    assert judged(Figures(200, 200, 9.0)) is None
