"""A limit holds for the tokens spent, whatever holders and the network do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.limits.arithmetic import Algorithm, Budget, LeaseRequest, Limit, new_budget
from tests.extproc.limits.histories import (
    SECOND,
    START,
    History,
    Step,
    assert_limit_holds,
    limits,
    steps,
)


def request(limit: Limit, sequence: int, **changes: int) -> LeaseRequest:
    values = {"held": 0, "returned": 0, "want": 0, "lifetime": SECOND} | changes
    return LeaseRequest("key", limit, "worker", sequence, **values)


def drain(shared: Budget, now: int) -> int:
    free = shared.free(now)
    shared.take(now, free)
    return free


@given(limits, steps)
def test_never_more_is_spent_than_the_limit_allows_in_any_span(
    limit: Limit, history_steps: list[Step]
) -> None:
    history = History(limit, new_budget(limit, START).exchange)
    for step in history_steps:
        history.play(step)
        history.spend_everything() if step.keep % 3 == 0 else None
    history.spend_everything()
    assert_limit_holds(limit, history.spent)


@given(limits, st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(1, 50)), max_size=80))
def test_never_more_is_taken_directly_than_the_limit_allows(
    limit: Limit, takes: list[tuple[int, int]]
) -> None:
    shared, now, spent = new_budget(limit, START), START, []
    for elapsed, wanted in takes:
        now += elapsed
        if shared.free(now) >= wanted:
            shared.take(now, wanted)
            spent.append((now, wanted))
    assert_limit_holds(limit, spent)


@given(limits, steps)
def test_a_token_is_free_after_the_wait_and_not_before(
    limit: Limit, history_steps: list[Step]
) -> None:
    shared = new_budget(limit, START)
    now = START
    for step in history_steps:
        now += step.elapsed
        drain(shared, now)
        wait = shared.wait(now, 1)
        assert wait > 0
        assert shared.free(now + wait - 1) == 0
        assert shared.free(now + wait) >= 1
        now += wait


@given(limits)
def test_all_tokens_are_free_after_the_reset(limit: Limit) -> None:
    shared = new_budget(limit, START)
    assert drain(shared, START) == limit.capacity
    assert shared.free(START + shared.reset(START)) == limit.capacity


def test_a_token_bucket_of_1000_a_second_admits_its_burst_and_then_its_rate() -> None:
    limit = Limit(Algorithm.TOKEN_BUCKET, 1000, SECOND, 2000)
    shared, admitted = new_budget(limit, START), 0
    for number in range(30_000):
        now = START + number * SECOND // 3000
        if shared.free(now):
            shared.take(now, 1)
            admitted += 1
    assert admitted == 2000 + 10 * 1000 - 1  # the last request comes 1/3 ms before the tenth second


@pytest.mark.parametrize("algorithm", Algorithm)
def test_returned_tokens_are_free_for_others(algorithm: Algorithm) -> None:
    limit = Limit(algorithm, 10, 60 * SECOND, 10)
    shared = new_budget(limit, START)
    assert shared.exchange(START, request(limit, 1, want=10)).tokens == 10
    assert shared.free(START) == 0
    shared.exchange(START, request(limit, 2, held=2, returned=5))
    assert shared.free(START) == 5


@pytest.mark.parametrize("algorithm", Algorithm)
def test_an_expired_lease_counts_as_spent(algorithm: Algorithm) -> None:
    limit = Limit(algorithm, 10, 3600 * SECOND, 10)
    shared = new_budget(limit, START)
    shared.exchange(START, request(limit, 1, want=10))
    assert shared.free(START + 60 * SECOND) == 0


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_request_that_arrives_after_a_later_one_changes_nothing(algorithm: Algorithm) -> None:
    limit = Limit(algorithm, 10, 3600 * SECOND, 10)
    shared = new_budget(limit, START)
    shared.exchange(START, request(limit, 2, want=4))
    late = shared.exchange(START, request(limit, 1, want=6, returned=4))
    assert (late.tokens, late.free) == (0, 6)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_holder_cannot_return_more_than_it_had(algorithm: Algorithm) -> None:
    limit = Limit(algorithm, 10, 3600 * SECOND, 10)
    shared = new_budget(limit, START)
    shared.take(START, 10)
    assert shared.exchange(START, request(limit, 1, returned=10, want=10)).tokens == 0


@pytest.mark.parametrize("algorithm", Algorithm)
def test_time_that_runs_backwards_frees_nothing(algorithm: Algorithm) -> None:
    limit = Limit(algorithm, 10, SECOND, 10)
    shared = new_budget(limit, START)
    shared.take(START, 10)
    assert shared.free(START - 3600 * SECOND) == 0
    assert shared.free(START) == 0
