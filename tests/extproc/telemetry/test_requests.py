"""RequestMetrics counts entries, and bounds the label values."""

from pathlib import Path

import pytest

from extproc.counter_table import CounterTable, create
from extproc.telemetry import catalog
from extproc.telemetry.entry import AccessLogEntry, Progress, RequestOutcome
from extproc.telemetry.exposition import find_series
from extproc.telemetry.metrics import Counter, Metrics
from extproc.telemetry.requests import MAX_REASONS, RequestMetrics
from sluice.contract.names import Placement

ANSWERED = Progress(
    request_received=True, received_first=True, response_started=True, response_short=False
)


@pytest.fixture
def table(tmp_path: Path) -> CounterTable:
    create(tmp_path / "counters", 1, 10_000)
    return CounterTable(tmp_path / "counters", 0)


@pytest.fixture
def metrics(table: CounterTable) -> RequestMetrics:
    metrics = RequestMetrics(Metrics(table))
    metrics.set_names({"m": frozenset({"v1"})}, frozenset({"per-user"}))
    return metrics


def entry(
    model: str = "m",
    version: str = "v1",
    status: int = 200,
    reason: str = "stable",
    rule: str = "",
    placement: Placement = "callout",
    admission: str = "",
    grpc_error: int | None = None,
) -> AccessLogEntry:
    outcome = RequestOutcome(
        "GET", "HTTP/2", status, "", reason, model, version, False, "a:1",
        placement=placement, admission=admission, rule=rule, grpc_error=grpc_error,
    )  # fmt: skip
    return AccessLogEntry(outcome, ANSWERED, 0, 2000, 1000, 0, 0, "", "/", "", "", "", "")


def counted(table: CounterTable, family: Counter = catalog.REQUESTS) -> dict[tuple[str, ...], int]:
    """The values of a counter by label values: model, version, status, reason and rule."""
    series = find_series(table, [family])[family.name]
    return {labels: table.total(column) for labels, column in series}


@pytest.mark.parametrize(
    ("finished", "labels"),
    [
        (entry(), ("m", "v1", "2xx", "stable", "")),
        (entry(version="v9"), ("m", "other", "2xx", "stable", "")),
        (entry(model="unknown"), ("other", "other", "2xx", "stable", "")),
        (entry(model="unknown", version=""), ("other", "", "2xx", "stable", "")),
        (entry(model="", version=""), ("", "", "2xx", "stable", "")),
        (entry(status=0, reason="client_left"), ("m", "v1", "none", "client_left", "")),
        (entry(grpc_error=503), ("m", "v1", "5xx", "stable", "")),
    ],
)
def test_a_request_is_counted_by_bounded_labels(
    metrics: RequestMetrics, table: CounterTable, finished: AccessLogEntry, labels: tuple[str, ...]
) -> None:
    metrics.record([finished, finished])
    assert counted(table) == {labels: 2}


def test_new_models_of_a_policy_become_labels(metrics: RequestMetrics, table: CounterTable) -> None:
    finished = entry(model="new")
    metrics.record([finished])
    metrics.set_names({"new": frozenset({"v1"})}, frozenset())
    metrics.record([finished])
    assert counted(table) == {
        ("other", "other", "2xx", "stable", ""): 1,
        ("new", "v1", "2xx", "stable", ""): 1,
    }


def test_reasons_beyond_the_maximum_are_other(metrics: RequestMetrics, table: CounterTable) -> None:
    metrics.record([entry(reason=f"reason-{number}") for number in range(MAX_REASONS + 5)])
    found = counted(table)
    assert len(found) == MAX_REASONS + 1
    assert found["m", "v1", "2xx", "other", ""] == 5


def test_only_limits_of_the_policy_become_labels(
    metrics: RequestMetrics, table: CounterTable
) -> None:
    metrics.record([entry(status=429, rule=rule) for rule in ("per-user", "gone", "max_body")])
    assert counted(table) == {
        ("m", "v1", "4xx", "stable", "per-user"): 1,
        ("m", "v1", "4xx", "stable", ""): 2,
    }


def test_requests_are_counted_by_placement(metrics: RequestMetrics, table: CounterTable) -> None:
    metrics.record([entry(placement="native"), *[entry()] * 2, entry(model="gone")])
    assert counted(table, catalog.REQUESTS_BY_PLACEMENT) == {
        ("m", "native"): 1,
        ("m", "callout"): 2,
        ("other", "callout"): 1,
    }


def test_only_admissions_by_envoy_are_counted_as_decisions(
    metrics: RequestMetrics, table: CounterTable
) -> None:
    """The callout has counted its own, and a limit of Envoy refuses before any decision."""
    metrics.record(
        [
            *[entry(placement="native", admission="stable")] * 2,
            # The model server failed, which is not the decision.
            entry(placement="native", admission="stable", status=503, reason="model_unreachable"),
            entry(placement="native", status=429, reason="rate_limited"),
            entry(admission="stable"),
        ]
    )
    assert counted(table, catalog.DECISIONS) == {("all", "admit", "stable"): 3}
