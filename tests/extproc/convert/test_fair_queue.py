"""The queue serves callers in turn, and a caller cannot fill it."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from extproc.convert.fair_queue import FairQueue


@dataclass(eq=False, slots=True)
class Job:
    caller: str
    size: int = 1


def queue(
    max_jobs: int = 8, max_caller_jobs: int = 8, used: dict[str, float] | None = None
) -> FairQueue[Job]:
    return FairQueue(max_jobs, max_caller_jobs, lambda caller: (used or {}).get(caller, 0.0))


def put(waiting: FairQueue[Job], caller: str, size: int = 1) -> tuple[Job, Job | None]:
    """Put a job. Returns it, and the job that is dropped for it."""
    job = Job(caller, size)
    waiting.put(job)
    return job, waiting.drop_excess(job)


def taken(waiting: FairQueue[Job]) -> str:
    """The callers of the waiting jobs, in the order in which the queue returns them."""
    found = ""
    while (job := waiting.take(lambda _: True)) is not None:
        found += job.caller
    return found


def test_the_caller_that_used_less_goes_first() -> None:
    waiting = queue(used={"a": 2.0, "b": 1.0})
    for caller in "aacbb":
        put(waiting, caller)
    assert taken(waiting) == "cbbaa"


def test_callers_that_used_the_same_go_in_order_of_arrival() -> None:
    waiting = queue()
    for caller in "abc":
        put(waiting, caller)
    assert taken(waiting) == "abc"


def test_a_caller_whose_job_cannot_start_is_passed_over() -> None:
    waiting = queue()
    put(waiting, "a", size=5)
    put(waiting, "a", size=1)
    put(waiting, "b", size=2)
    job = waiting.take(lambda job: job.size < 3)
    assert job is not None
    assert job.caller == "b"
    assert waiting.take(lambda job: job.size < 3) is None
    assert len(waiting) == 2


def test_a_newcomer_takes_the_place_of_the_newest_job_of_the_longest_queue() -> None:
    waiting = queue(max_jobs=4)
    jobs = [put(waiting, caller)[0] for caller in "abaa"]
    newcomer, dropped = put(waiting, "c")
    assert dropped is jobs[3]
    assert newcomer in waiting
    assert len(waiting) == 4


def test_among_equally_long_queues_the_caller_that_used_the_most_loses() -> None:
    waiting = queue(max_jobs=2, used={"b": 1.0})
    put(waiting, "a")
    second, _ = put(waiting, "b")
    assert put(waiting, "c")[1] is second


def test_without_a_longer_queue_the_new_job_is_dropped() -> None:
    waiting = queue(max_jobs=2)
    put(waiting, "a")
    put(waiting, "b")
    for caller in "ac":
        newcomer, dropped = put(waiting, caller)
        assert dropped is newcomer


def test_one_caller_has_a_bound_of_its_own() -> None:
    waiting = queue(max_caller_jobs=2)
    for _ in range(2):
        assert put(waiting, "a")[1] is None
    newcomer, dropped = put(waiting, "a")
    assert dropped is newcomer


def test_a_job_that_returns_goes_before_its_callers_other_jobs() -> None:
    waiting = queue(max_jobs=1)
    first, _ = put(waiting, "a")
    assert waiting.take(lambda _: True) is first
    put(waiting, "a")
    waiting.put_back(first)
    assert waiting.take(lambda _: True) is first
    assert len(waiting) == 1


def test_the_bytes_of_each_caller_are_known() -> None:
    waiting = queue()
    put(waiting, "a", size=6)
    newest, _ = put(waiting, "a", size=4)
    put(waiting, "b", size=9)
    assert waiting.sizes() == {"a": 10, "b": 9}
    assert waiting.pop_newest("a") is newest
    assert waiting.sizes() == {"a": 6, "b": 9}


@given(st.lists(st.sampled_from("aaaaabc"), max_size=60))
def test_the_bound_holds_and_no_caller_has_more_than_its_share(arrivals: list[str]) -> None:
    waiting = queue(max_jobs=6)
    kept: list[Job] = []
    for caller in arrivals:
        job, dropped = put(waiting, caller)
        kept = [each for each in [*kept, job] if each is not dropped]
        assert len(waiting) == len(kept) <= 6
    counts = {caller: sum(job.caller == caller for job in kept) for caller in "abc"}
    for caller in "abc":
        # A caller lacks a place only if no other caller has more than one job more.
        if counts[caller] < arrivals.count(caller):
            assert max(counts.values()) <= counts[caller] + 1
