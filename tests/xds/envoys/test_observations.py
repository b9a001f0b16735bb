"""Windows over what reporters saw, with a clock that the test sets."""

import random
import sys
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.contract.names import CALLOUT_AGENT
from sluice.contract.traffic import BINS, REPORT_INTERVAL, bin_start, latency_bin
from tests.xds.sotw_node import SotwNode
from xds.envoys.configured import reporting_nodes
from xds.envoys.histogram import Histogram
from xds.envoys.observations import FORGET_AFTER, Observations
from xds.envoys.reporters import (
    SILENT_AFTER,
    BreakerState,
    BreakerView,
    Counts,
    Reporter,
    SourceName,
)
from xds.envoys.series import MAX_WINDOW
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.protocol.shared_names import OverLimitError
from xds.protocol.sotw import SotwRequest

START = 1000.0


def observations(*clusters: str) -> Observations:
    created = Observations()
    created.configure({"m/v1", "m/v2", *clusters})
    return created


def reporter(seen: Observations, node: str = "a", source: SourceName = "worker") -> Reporter:
    return seen.join(source, node, START)


def at(*latencies: int) -> Mapping[int, int]:
    """One request with each latency, in microseconds."""
    return Counter(map(latency_bin, latencies))


def test_counts_of_all_nodes_are_added() -> None:
    seen = observations()
    for node in ("a", "b"):
        reporter(seen, node).report(START + 1, {"m/v1": Counts(10, 1), "m/v2": Counts(5, 0)})
    window = seen.window("m", "v1", 60, START + 2)
    assert (window.state, window.requests, window.errors, window.error_rate) == (
        "current", 20, 2, 0.1,
    )  # fmt: skip
    assert (window.nodes, window.silent) == (("a", "b"), ())


def test_without_a_reporter_nothing_is_known() -> None:
    window = observations().window("m", "v1", 60, START)
    assert (window.state, window.source, window.error_rate, window.age) == (
        "missing", None, None, None,
    )  # fmt: skip


def test_a_version_without_requests_has_no_error_rate() -> None:
    seen = observations()
    reporter(seen).report(START, {})
    window = seen.window("m", "v1", 60, START + 1)
    assert (window.state, window.requests, window.error_rate, window.quantile(0.99)) == (
        "current", 0, None, None,
    )  # fmt: skip


def test_a_reporter_that_has_not_reported_yet_is_silent() -> None:
    seen = observations()
    reporter(seen)
    window = seen.window("m", "v1", 60, START)
    assert (window.state, window.silent, window.age) == ("stale", ("a",), None)


def test_one_silent_node_makes_the_window_stale() -> None:
    seen = observations()
    silent, talking = reporter(seen, "a"), reporter(seen, "b")
    silent.report(START, {"m/v1": Counts(10, 0)})
    later = START + SILENT_AFTER + 1
    talking.report(later, {})
    window = seen.window("m", "v1", 60, later)
    assert (window.state, window.nodes, window.silent) == ("stale", ("b",), ("a",))
    assert window.age == SILENT_AFTER + 1
    assert window.requests == 10


def test_a_node_that_leaves_is_missed_until_it_is_forgotten_or_back() -> None:
    seen = observations()
    left, other = reporter(seen, "a"), reporter(seen, "b")
    left.leave(START)
    other.report(START, {})
    assert seen.window("m", "v1", 60, START + 1).silent == ("a",)
    other.report(START + FORGET_AFTER, {})
    assert seen.window("m", "v1", 60, START + FORGET_AFTER).state == "current"

    other.leave(START + 40)
    back = seen.join("worker", "b", START + 41)
    back.report(START + 43, {})
    window = seen.window("m", "v1", 60, START + 43)
    assert (window.state, window.nodes) == ("current", ("b",))


def test_when_all_nodes_are_gone_nothing_is_known() -> None:
    seen = observations()
    only = reporter(seen)
    only.report(START, {"m/v1": Counts(10, 0)})
    only.leave(START + 1)
    assert seen.window("m", "v1", 60, START + 2).state == "stale"
    assert seen.window("m", "v1", 60, START + 2 + FORGET_AFTER).state == "missing"


def test_a_start_shows_in_the_covered_time() -> None:
    seen = observations()
    reporter(seen).report(START + 2, {})
    assert seen.window("m", "v1", 60, START + 7).covered == 7
    assert seen.window("m", "v1", 60, START + 700).covered == 60


def test_after_a_silence_the_covered_time_begins_again() -> None:
    seen = observations()
    only, other = reporter(seen, "a"), reporter(seen, "b")
    for second in range(100):
        other.report(START + second, {})
        if second < 20 or second >= 40:
            only.report(START + second, {})
    assert seen.window("m", "v1", 60, START + 100).covered == 60
    assert seen.window("m", "v1", 100, START + 100).covered == 60
    late = {"m/v1": Counts(100, 50, seconds=SILENT_AFTER + 1)}
    only.report(START + 100, late)
    assert seen.window("m", "v1", 60, START + 105).covered == 5


def test_a_node_that_comes_back_at_once_does_not_interrupt_the_covered_time() -> None:
    seen = observations()
    first = reporter(seen)
    first.report(START, {})
    first.leave(START + 50)
    again = seen.join("worker", "a", START + 53)
    again.report(START + 54, {})
    assert seen.window("m", "v1", 60, START + 55).covered == 55
    again.leave(START + 60)
    seen.join("worker", "a", START + 80).report(START + 80, {})
    assert seen.window("m", "v1", 60, START + 85).covered == 5


def test_a_node_that_should_report_and_does_not_is_silent() -> None:
    seen = observations()
    seen.expect(lambda source: {"a", "b"} if source == "worker" else {"envoy"})
    reporter(seen, "a").report(START, {})
    window = seen.window("m", "v1", 60, START)
    assert (window.state, window.silent) == ("stale", ("b",))
    reporter(seen, "b").report(START, {})
    assert seen.window("m", "v1", 60, START + 1).state == "current"


def test_late_counts_are_in_the_totals_but_in_no_window() -> None:
    seen = observations()
    only = reporter(seen)
    only.report(START, {"m/v1": Counts(100, 50, seconds=SILENT_AFTER + 1)})
    only.report(START + 2, {"m/v1": Counts(10, 0)})
    window = seen.window("m", "v1", 60, START + 3)
    assert (window.requests, window.errors) == (10, 0)
    assert seen.totals["worker"]["m/v1"].requests == 110


def test_a_window_has_the_counts_of_one_source() -> None:
    seen = observations()
    reporter(seen, source="envoy").report(START, {"m/v1": Counts(7, 0)}, in_progress={"m/v1": 3})
    window = seen.window("m", "v1", 60, START)
    assert (window.source, window.requests, window.in_progress) == ("envoy", 7, 3)
    reporter(seen, source="worker").report(START, {"m/v1": Counts(5, 0)})
    window = seen.window("m", "v1", 60, START)
    assert (window.source, window.requests, window.in_progress) == ("worker", 5, None)
    assert seen.window("m", "v1", 60, START, "envoy").requests == 7
    seen.configure({"m/v1"}, ("envoy",))
    assert seen.window("m", "v1", 60, START).source == "envoy"


@given(
    st.lists(st.tuples(st.floats(0, 900), st.integers(1, 50)), max_size=60),
    st.floats(10, MAX_WINDOW),
)
def test_a_window_counts_nothing_older_and_misses_at_most_one_bucket(
    reports: list[tuple[float, int]], seconds: float
) -> None:
    seen = observations()
    only = reporter(seen)
    reports = sorted(reports)
    for after, requests in reports:
        only.report(START + after, {"m/v1": Counts(requests, 0)})
    now = START + 900
    found = seen.window("m", "v1", seconds, now).requests
    bucket = 5 if seconds <= 55 else 30
    assert found <= sum(n for after, n in reports if START + after >= now - seconds)
    assert found >= sum(n for after, n in reports if START + after >= now - seconds + bucket)


def test_versions_that_are_not_in_the_config_are_not_counted() -> None:
    seen = observations()
    reporter(seen).report(START, {f"x/v{n}": Counts(1, 0) for n in range(100)})
    assert seen.busiest(600, START + 600, 10) == []
    assert seen.unknown == 100


def test_a_removed_version_is_forgotten() -> None:
    seen = observations()
    only = reporter(seen)
    only.report(START, {"m/v1": Counts(1, 0), "m/v2": Counts(1, 0)})
    seen.configure({"m/v2"})
    only.report(START + REPORT_INTERVAL, {})
    assert seen.busiest(60, START + 2, 10) == [("m", "v2")]
    assert list(seen.totals["worker"]) == ["m/v2"]


def test_a_version_without_requests_is_forgotten_after_the_longest_window() -> None:
    seen = observations()
    only = reporter(seen)
    size = len(everything(seen))
    only.report(START, {"m/v1": Counts(1, 0)})
    only.report(START + MAX_WINDOW + 10, {})
    seen.totals["worker"].clear()
    assert len(everything(seen)) <= size + 2


def test_the_busiest_versions_come_first_and_those_with_errors_before() -> None:
    names = [f"x/v{n}" for n in range(10)]
    seen = observations(*names)
    counts = {name: Counts(number + 1, 0) for number, name in enumerate(names)}
    reporter(seen).report(START, {**counts, "x/v3": Counts(4, 2)})
    assert seen.busiest(60, START + 1, 3) == [("x", "v3"), ("x", "v9"), ("x", "v8")]


def test_too_many_reporters_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xds.envoys.observations.MAX_REPORTERS", 3)
    seen = observations()
    for number in range(3):
        reporter(seen, str(number))
    with pytest.raises(OverLimitError):
        reporter(seen, "4")


def test_the_memory_of_a_busy_version_is_bounded() -> None:
    """A version with requests in each interval of an hour keeps the buckets of one window."""
    names = [f"m{n}/v1" for n in range(20)]
    seen = observations(*names)
    only = reporter(seen)

    def fill(first: int, last: int) -> int:
        draw = random.Random(1)
        for number in range(first, last):
            latencies = at(*(int(draw.lognormvariate(10, 0.5)) for _ in range(50)))
            counts = {name: Counts(50, 1, latencies) for name in names}
            only.report(START + number * 5, counts)
        return sum(sys.getsizeof(each) for each in everything(seen))

    once = fill(0, 150)
    assert fill(150, 700) < 1.1 * once


def everything(root: object) -> list[object]:
    """The objects that can be reached through attributes and containers."""
    found, queue = dict[int, object](), [root]
    while queue:
        each = queue.pop()
        if id(each) in found or isinstance(each, type):
            continue
        found[id(each)] = each
        if isinstance(each, dict):
            queue += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set | frozenset) or type(each).__name__ == "deque":
            queue += list(each)
        slots = [name for kind in type(each).__mro__ for name in getattr(kind, "__slots__", ())]
        queue += [getattr(each, name) for name in slots if hasattr(each, name)]
        queue += list(getattr(each, "__dict__", {}).values())
    return list(found.values())


def test_of_the_reports_of_a_breaker_the_one_that_admits_the_least_counts() -> None:
    seen = observations()
    views = [
        BreakerView(BreakerState.CLOSED, 0.0, 9),
        BreakerView(BreakerState.REDUCED, 0.2, 10),
        BreakerView(BreakerState.REDUCED, 0.2, 30),
        BreakerView(BreakerState.CLOSED, 0.0, 99),
    ]
    for index, view in enumerate(views):
        breakers = {"m/v1": view, "unknown/v1": view}
        reporter(seen, str(index)).report(START, {}, breakers=breakers, unprotected=index % 3)
    assert seen.breakers(START) == {"m/v1": views[2]}
    assert seen.unprotected(START) == 2


def test_a_breaker_is_unknown_without_workers_and_closed_if_none_reports_it() -> None:
    seen = observations()
    assert seen.breaker("m", "v1", START) is None
    first, second = reporter(seen, "a"), reporter(seen, "b")
    first.report(START, {})
    assert seen.breaker("m", "v1", START) == BreakerView(BreakerState.CLOSED)
    second.report(START, {}, breakers={"m/v1": BreakerView(BreakerState.OPEN, 0.5, 40)})
    assert seen.breaker("m", "v1", START) == BreakerView(BreakerState.OPEN, 0.5, 40)
    assert seen.breakers(START) == {"m/v1": BreakerView(BreakerState.OPEN, 0.5, 40)}
    second.report(START + 2, {})
    assert seen.breakers(START + 2) == {}
    first.leave(START + 3)
    second.leave(START + 3)
    assert seen.breaker("m", "v1", START + 3) is None
    assert seen.breakers(START + 3) is None


def test_bins_are_contiguous_and_narrow() -> None:
    starts = [bin_start(number) for number in range(BINS + 1)]
    assert all(latency_bin(start) == number for number, start in enumerate(starts[:BINS]))
    assert all(latency_bin(end - 1) == number for number, end in enumerate(starts[1:]))
    assert all(end - start <= max(1, start / 8) for start, end in pairwise(starts))
    assert latency_bin(1 << 60) == BINS - 1
    assert latency_bin(-5) == 0


@given(st.lists(st.integers(1, 10**8), min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_within_one_bin(micros: list[int], share: float) -> None:
    histogram = Histogram()
    for each in micros:
        histogram.add(at(each))
    exact = sorted(micros)[min(len(micros) - 1, max(0, int(-(-share * len(micros) // 1)) - 1))]
    found = histogram.quantile(share)
    assert found is not None
    assert exact * 0.875 - 1 <= found * 1e6 <= exact * 1.125 + 1


def test_merged_histograms_have_the_quantiles_of_all() -> None:
    fast, slow = Histogram(), Histogram()
    fast.add({latency_bin(1000): 90})
    slow.add({latency_bin(1_000_000): 10})
    slow.merge(fast)
    assert slow.total == 100
    assert slow.quantile(0.5) == pytest.approx(0.001, rel=0.13)
    assert slow.quantile(0.99) == pytest.approx(1, rel=0.13)


def test_connected_envoys_and_workers_must_report() -> None:
    nodes = Nodes(lambda: 0.0)
    for name, resource_type, agent, build in (
        ("envoy-1", resource_types.CLUSTER, "envoy", (1, 40, 0)),
        ("another client", resource_types.CLUSTER, "grpcurl", None),
        ("callout-0", resource_types.POLICY, CALLOUT_AGENT, None),
        ("sluice explain", resource_types.POLICY, "", None),
    ):
        client = SotwNode(nodes)
        client.send(SotwRequest(resource_type))
        client.node.id, client.node.agent, client.node.build_version = name, agent, build
    assert reporting_nodes(nodes, "envoy") == {"envoy-1"}
    assert reporting_nodes(nodes, "worker") == {"callout-0"}
