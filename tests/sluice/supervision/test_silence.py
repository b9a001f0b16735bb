"""The supervisor measures how long a worker is silent."""

from sluice.supervision.silence import CHECK_INTERVAL, MAX_STEP, Silence

STARTED_AT = 100.0


def looked(silence: Silence, counts: list[int]) -> Silence:
    """Look once for each count, at the usual interval."""
    for number, count in enumerate(counts, 1):
        silence.look(STARTED_AT + number * CHECK_INTERVAL, count)
    return silence


def test_a_count_that_grows_ends_the_silence() -> None:
    assert looked(Silence(STARTED_AT, 7), [7, 7, 7]).seconds == 3 * CHECK_INTERVAL
    assert looked(Silence(STARTED_AT, 7), [7, 7, 8]).seconds == 0
    assert looked(Silence(STARTED_AT, 7), [7, 7, 8, 8]).seconds == CHECK_INTERVAL


def test_the_count_of_the_predecessor_is_no_heartbeat() -> None:
    assert not looked(Silence(STARTED_AT, 7), [7, 7]).has_beaten
    assert looked(Silence(STARTED_AT, 7), [7, 8, 8]).has_beaten


def test_a_time_without_looks_hardly_counts() -> None:
    """The machine was suspended for an hour: the workers did not run either."""
    silence = looked(Silence(STARTED_AT, 7), [8, 8])
    silence.look(STARTED_AT + 3600, 8)
    assert silence.seconds == CHECK_INTERVAL + MAX_STEP
    silence.look(STARTED_AT + 3600 + CHECK_INTERVAL, 9)
    assert silence.seconds == 0
