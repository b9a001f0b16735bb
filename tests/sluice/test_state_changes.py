"""Each change of a state is found once, and neither a start nor a flapping state floods the log."""

from hypothesis import given
from hypothesis import strategies as st

from sluice.state_changes import StateChange, StateChanges


def changes(grace: float = 30.0, interval: float = 5.0) -> StateChanges[str]:
    return StateChanges("good", grace=grace, interval=interval)


def test_a_change_is_found_once_with_the_time_since_the_change_before() -> None:
    tracked = changes()
    assert tracked.observe(0.0, "a", "good") is None
    assert tracked.observe(9.0, "a", "bad") == StateChange("good", "bad", 9.0)
    assert tracked.observe(10.0, "a", "bad") is None
    assert tracked.observe(20.0, "a", "good") == StateChange("bad", "good", 11.0)
    assert tracked.since("a") == 20.0


def test_a_state_that_is_bad_at_first_is_a_change_only_if_it_lasts() -> None:
    tracked = changes(grace=30.0)
    assert tracked.observe(0.0, "starts", "bad") is None
    assert tracked.observe(2.0, "starts", "good") is None
    assert tracked.observe(3.0, "starts", "bad") == StateChange("good", "bad", 1.0)
    assert tracked.observe(0.0, "never", "bad") is None
    assert tracked.observe(29.0, "never", "bad") is None
    assert tracked.observe(30.0, "never", "bad") == StateChange(None, "bad", 30.0)


def test_a_key_that_is_forgotten_starts_again() -> None:
    tracked = changes()
    tracked.observe(0.0, "a", "good")
    tracked.forget("a")
    tracked.forget("unknown")
    assert tracked.observe(100.0, "a", "bad") is None


@given(st.lists(st.sampled_from(["good", "bad", "worse"]), max_size=200))
def test_a_key_has_at_most_one_change_per_interval_and_the_last_state_is_found(
    states: list[str],
) -> None:
    tracked = changes(grace=0.0, interval=5.0)
    found = [
        (now, change)
        for now, state in enumerate(states)
        if (change := tracked.observe(now, "a", state)) is not None
    ]
    assert all(later - earlier >= 5 for (earlier, _), (later, _) in zip(found, found[1:]))  # noqa: B905, RUF007
    if states:
        tracked.observe(len(states) + 5, "a", states[-1])
        assert tracked.observe(len(states) + 11, "a", states[-1]) is None
