"""The restart delay grows while a process keeps ending early, up to a limit."""

from hypothesis import given
from hypothesis import strategies as st

from sluice.restart import (
    MAX_RESTART_DELAY,
    MIN_RESTART_DELAY,
    STABLE_AFTER,
    RestartBackoff,
)


def test_the_delay_doubles_up_to_the_maximum() -> None:
    backoff = RestartBackoff()
    delays = [backoff.delay_after(0.0) for _ in range(9)]
    assert delays == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_stable_process_is_restarted_after_the_minimum_delay() -> None:
    backoff = RestartBackoff()
    for _ in range(5):
        backoff.delay_after(0.0)
    assert backoff.delay_after(STABLE_AFTER + 1) == MIN_RESTART_DELAY
    assert backoff.delay_after(0.0) == 2 * MIN_RESTART_DELAY


@given(st.lists(st.floats(0, 100)))
def test_the_delay_is_always_within_its_limits(uptimes: list[float]) -> None:
    backoff = RestartBackoff()
    for uptime in uptimes:
        assert MIN_RESTART_DELAY <= backoff.delay_after(uptime) <= MAX_RESTART_DELAY
