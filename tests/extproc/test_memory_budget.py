"""The memory budget refuses what exceeds its limit, and reserves nothing for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.memory_budget import MemoryBudget


def test_a_reservation_up_to_the_limit_is_accepted() -> None:
    budget = MemoryBudget(10)
    assert budget.reserve(4)
    assert budget.reserve(6)
    assert (budget.used, budget.refused) == (10, 0)


@pytest.mark.parametrize("size", [7, 1 << 40])
def test_a_reservation_above_the_limit_is_refused_and_takes_nothing(size: int) -> None:
    budget = MemoryBudget(10)
    budget.reserve(4)
    assert not budget.reserve(size)
    assert (budget.used, budget.refused) == (4, 1)
    assert budget.reserve(6)


def test_released_bytes_can_be_reserved_again() -> None:
    budget = MemoryBudget(10)
    budget.reserve(10)
    budget.release(4)
    assert budget.reserve(4)
    assert not budget.reserve(1)


@given(st.lists(st.integers(0, 20)))
def test_the_reserved_bytes_never_exceed_the_limit(sizes: list[int]) -> None:
    budget = MemoryBudget(50)
    accepted = [size for size in sizes if budget.reserve(size)]
    assert budget.used == sum(accepted) <= budget.limit
    for size in accepted:
        budget.release(size)
    assert budget.used == 0


def test_a_part_of_a_budget_is_limited_by_both() -> None:
    whole = MemoryBudget(10)
    part = MemoryBudget(6, whole)
    assert not part.reserve(7)
    assert part.reserve(5)
    assert whole.reserve(5)
    assert not part.reserve(1)
    assert (part.used, whole.used, whole.refused) == (5, 10, 2)
    part.release(5)
    assert (part.used, whole.used) == (0, 5)
