"""A full ledger evicts budgets, and evictions never admit more than the limit."""

from hypothesis import given
from hypothesis import strategies as st

from extproc.limits.arithmetic import Algorithm, Limit
from extproc.limits.ledger import Ledger
from tests.extproc.limits.histories import SECOND, START, assert_limit_holds, limits


@given(
    limits,
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 500_000), st.integers(1, 40)), max_size=120
    ),
)
def test_limits_hold_in_spite_of_evictions(limit: Limit, uses: list[tuple[int, int, int]]) -> None:
    ledger, now = Ledger(max_keys=2), START
    spent: dict[int, list[tuple[int, int]]] = {}
    for key, elapsed, wanted in uses:
        now += elapsed
        shared = ledger.budget(now, limit, str(key))
        if shared.free(now) >= wanted:
            shared.take(now, wanted)
            spent.setdefault(key, []).append((now, wanted))
        assert len(ledger) <= 2
    for history in spent.values():
        assert_limit_holds(limit, history)


def test_the_budget_unused_for_the_longest_time_is_evicted() -> None:
    limit = Limit(Algorithm.TOKEN_BUCKET, 1, 3600 * SECOND, 10)
    ledger = Ledger(max_keys=2)
    for second, key in enumerate(["a", "b", "a"]):
        ledger.budget(START + second, limit, key).take(START + second, 1)
    ledger.budget(START + 10, limit, "c")
    assert ledger.budget(START + 10, limit, "a").free(START + 10) == 8
    assert ledger.evictions == 1


def test_the_keys_of_one_client_do_not_empty_the_budgets_of_new_keys() -> None:
    """A client uses 2,600 keys in turn, more than the ledger keeps, until all are evicted."""
    limit = Limit(Algorithm.SLIDING_WINDOW, 100, 3600 * SECOND, 100)
    ledger = Ledger(max_keys=2000)
    for use in range(3 * 2600):
        now = START + use
        budget = ledger.budget(now, limit, f"attacker {use % 2600}")
        budget.take(now, min(1, budget.free(now)))
    admitted = sum(ledger.budget(now, limit, f"new {n}").free(now) == 100 for n in range(1000))
    assert admitted >= 990


def test_a_key_that_returns_after_its_eviction_has_spent_its_tokens() -> None:
    limit = Limit(Algorithm.TOKEN_BUCKET, 1, SECOND, 10)
    ledger = Ledger(max_keys=1)
    ledger.budget(START, limit, "a").take(START, 1)
    ledger.budget(START, limit, "b").take(START, 1)
    assert ledger.budget(START, limit, "a").free(START) == 0
    assert ledger.budget(START + 3 * SECOND, limit, "b").free(START + 3 * SECOND) == 3


def test_a_full_budget_is_evicted_without_a_loss() -> None:
    limit = Limit(Algorithm.TOKEN_BUCKET, 1, SECOND, 10)
    ledger = Ledger(max_keys=1)
    ledger.budget(START, limit, "a").take(START, 1)
    later = START + 1 * SECOND
    ledger.budget(later, limit, "b").take(later, 1)
    assert ledger.evictions == 0
    assert ledger.budget(later, limit, "a").free(later) == 10


def test_a_new_key_has_its_whole_burst_without_evictions() -> None:
    limit = Limit(Algorithm.TOKEN_BUCKET, 1, SECOND, 10)
    assert Ledger(max_keys=100).budget(START, limit, "new").free(START) == 10


def test_a_budget_keeps_its_state_when_the_rate_changes() -> None:
    ledger = Ledger(max_keys=100)
    before = Limit(Algorithm.TOKEN_BUCKET, 1, SECOND, 10)
    after = Limit(Algorithm.TOKEN_BUCKET, 5, SECOND, 20)
    ledger.budget(START, before, "key").take(START, 10)
    assert ledger.budget(START, after, "key").free(START) == 0
    assert ledger.budget(START, after, "key").free(START + SECOND) == 5
