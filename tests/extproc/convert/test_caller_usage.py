"""Used thread time fades, and the number of callers is bounded."""

from extproc.convert.caller_usage import HALF_LIFE, CallerUsage


def test_an_unknown_caller_has_used_nothing() -> None:
    assert CallerUsage().seconds("a", 0.0) == 0


def test_used_time_adds_up_and_fades() -> None:
    usage = CallerUsage()
    usage.add("a", 2.0, 100.0)
    usage.add("a", 3.0, 100.0 + HALF_LIFE)
    assert usage.seconds("a", 100.0 + HALF_LIFE) == 4.0
    assert usage.seconds("a", 100.0 + 2 * HALF_LIFE) == 2.0


def test_the_caller_that_was_active_the_longest_time_ago_is_dropped() -> None:
    usage = CallerUsage(max_callers=2)
    for caller in ("a", "b", "a", "c"):
        usage.add(caller, 1.0, 0.0)
    assert [usage.seconds(caller, 0.0) for caller in "abc"] == [2.0, 0.0, 1.0]
    assert len(usage) == 2
