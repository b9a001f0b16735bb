"""Callers share the memory of conversions: what waits, and what runs."""

from collections import Counter

from extproc.convert.conversion_memory import ConversionMemory
from extproc.convert.memory_needed import response_memory
from extproc.memory_budget import MemoryBudget
from sluice.config.gateway import Callout, Requests


class Lane:
    """Waiting bodies, whose memory is reserved."""

    def __init__(self, memory: ConversionMemory, **sizes: int) -> None:
        self._memory = memory
        self.sizes = Counter(sizes)
        memory.add(self)
        memory.reserve(self.sizes.total())

    def waiting_sizes(self) -> Counter[str]:
        return self.sizes

    def refuse_newest(self, caller: str) -> None:
        """Refuse the only job of a caller."""
        self._memory.release(self.sizes.pop(caller))


def test_waiting_bodies_take_at_most_a_quarter() -> None:
    memory = ConversionMemory(MemoryBudget(200))
    Lane(memory, a=20, b=20)
    assert memory.make_room("c", 10)
    assert not memory.make_room("c", 20)


def test_a_single_body_may_take_more_than_a_quarter() -> None:
    assert ConversionMemory(MemoryBudget(100)).make_room("a", 60)


def test_the_caller_with_the_most_waiting_bytes_makes_room_in_any_lane() -> None:
    memory = ConversionMemory(MemoryBudget(200))
    images, documents = Lane(memory, a=15, b=10), Lane(memory, a=20)
    assert memory.make_room("c", 15)
    assert (images.sizes, documents.sizes) == ({"a": 15, "b": 10}, {})


def test_a_caller_with_as_many_bytes_displaces_nobody() -> None:
    budget = MemoryBudget(200)
    memory = ConversionMemory(budget)
    lane = Lane(memory, a=25, b=25)
    assert not memory.make_room("c", 25)
    assert not memory.make_room("a", 1)
    assert lane.sizes == {"a": 25, "b": 25}
    assert budget.refused == 2


def test_a_caller_runs_jobs_in_at_most_a_half_of_the_memory() -> None:
    memory = ConversionMemory(MemoryBudget(160))
    memory.reserve(60)
    memory.run("a", 60)
    assert memory.may_run("a", 0, 20)
    assert not memory.may_run("a", 0, 21)
    assert memory.may_run("b", 0, 60)
    memory.stop("a", 60)
    assert memory.may_run("a", 0, 60)


def test_large_jobs_leave_memory_for_small_ones() -> None:
    memory = ConversionMemory(MemoryBudget(160))
    memory.reserve(100)
    assert memory.may_run("a", 0, 20)
    assert not memory.may_run("a", 0, 21)
    memory.reserve(50)
    assert memory.may_run("b", 0, 10)
    assert not memory.may_run("b", 0, 11)


def test_a_job_may_need_the_whole_memory() -> None:
    memory = ConversionMemory(MemoryBudget(160))
    assert memory.may_run("a", 0, 160)
    memory.reserve(30)
    assert not memory.may_run("a", 0, 160)
    assert memory.may_run("a", 30, 160)


def test_a_job_that_needs_most_of_the_memory_runs_beside_small_ones() -> None:
    memory = ConversionMemory(MemoryBudget(160))
    memory.reserve(10)
    assert memory.may_run("a", 0, 140)
    assert not memory.may_run("a", 0, 142)


def test_the_default_limit_of_responses_fits_the_default_memory() -> None:
    memory = ConversionMemory(MemoryBudget(Callout().max_memory))
    size = Requests().max_response
    assert memory.fits(size, response_memory(size))
