"""TrafficCounts counts requests by version, as the breaker counts them, and their latencies."""

from dataclasses import replace

import pytest

from extproc.telemetry.entry import AccessLogEntry, Progress
from extproc.telemetry.traffic import TrafficCounts
from protos.observations_pb2 import VersionCounts
from sluice.contract.traffic import latency_bin
from tests.extproc.telemetry.test_requests import entry


def counted(*entries: AccessLogEntry) -> dict[str, VersionCounts]:
    counts = TrafficCounts()
    counts.record(entries)
    return {each.cluster: each for each in counts.take()}


def test_requests_errors_and_latencies_are_counted_by_version() -> None:
    entries = [entry(), entry(), entry(status=500), entry(version="v2")._replace(upstream_us=7000)]
    found = counted(*entries)
    first, second = found["m/v1"], found["m/v2"]
    assert (first.requests, first.errors) == (3, 1)
    assert dict(zip(first.bins, first.counts, strict=True)) == {latency_bin(1000): 3}
    assert (second.requests, second.errors, list(second.bins)) == (1, 0, [latency_bin(7000)])


def test_counts_start_again_after_each_report() -> None:
    counts = TrafficCounts()
    same = entry()
    for expected in (2, 1):
        counts.record([same] * expected)
        (version,) = counts.take()
        assert version.requests == expected
    assert counts.take() == []


@pytest.mark.parametrize(
    "uncounted",
    [
        entry(version=""),
        entry(status=0),
        entry()._replace(outcome=replace(entry().outcome, upstream="")),
        entry(status=503)._replace(
            progress=Progress(
                request_received=False, received_first=False, response_started=True,
                response_short=False,
            )
        ),
    ],
    ids=["no version", "no response", "refused by the gateway", "incomplete request"],
)  # fmt: skip
def test_what_the_breaker_does_not_count_is_not_counted(uncounted: AccessLogEntry) -> None:
    assert counted(uncounted) == {}


def test_a_request_without_a_response_has_no_latency() -> None:
    (version,) = counted(entry(status=504)._replace(upstream_us=None)).values()
    assert (version.requests, version.errors, list(version.bins)) == (1, 1, [])
