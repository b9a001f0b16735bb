"""DecisionMetrics times decisions with the clock that it is given."""

from pathlib import Path

import pytest

from extproc.counter_table import CounterTable, create
from extproc.decision import decide
from extproc.telemetry import catalog
from extproc.telemetry.decisions import STAGE_SAMPLE_INTERVAL, DecisionMetrics
from extproc.telemetry.exposition import find_series
from extproc.telemetry.metrics import Histogram, Metrics
from tests.extproc.decision.requests import make_policy, make_request

TICK = 10_000
"""Nanoseconds between two readings of the clock."""


@pytest.fixture
def table(tmp_path: Path) -> CounterTable:
    create(tmp_path / "counters", 1, 1000)
    return CounterTable(tmp_path / "counters", 0)


@pytest.fixture
def metrics(table: CounterTable) -> DecisionMetrics:
    readings = iter(range(0, 1 << 40, TICK))
    return DecisionMetrics(Metrics(table), lambda: next(readings))


def durations(table: CounterTable, family: Histogram) -> dict[tuple[str, ...], tuple[int, int]]:
    """Number and sum in µs of the observations, by label values."""
    found = {}
    for labels, column in find_series(table, [family])[family.name]:
        *counts, micros = table.block(0, column, family.width)
        if sum(counts):
            found[labels] = sum(counts), micros
    return found


def test_a_decision_is_timed_and_returned_unchanged(
    metrics: DecisionMetrics, table: CounterTable
) -> None:
    compiled = make_policy()
    assert metrics.decide(compiled, make_request()) == decide(compiled, make_request())
    assert durations(table, catalog.DECISION_SECONDS) == {("admit",): (1, TICK // 1000)}
    assert durations(table, catalog.STAGE_SECONDS) == {}


def test_the_stages_of_a_sample_of_decisions_are_timed(
    metrics: DecisionMetrics, table: CounterTable
) -> None:
    compiled = make_policy()
    for _ in range(STAGE_SAMPLE_INTERVAL):
        metrics.decide(compiled, make_request())
    stages = durations(table, catalog.STAGE_SECONDS)
    assert stages["validate", "pass"] == (1, TICK // 1000)
    assert {verdict for _, verdict in stages} == {"pass"}


def test_final_decisions_are_counted_by_stage_verdict_and_reason(
    metrics: DecisionMetrics, table: CounterTable
) -> None:
    compiled = make_policy()
    admitted = decide(compiled, make_request())
    refused = decide(compiled, make_request("/nowhere"))
    for decision in (admitted, refused, refused):
        metrics.record(decision)
    series = find_series(table, [catalog.DECISIONS])[catalog.DECISIONS.name]
    assert {labels: table.total(column) for labels, column in series} == {
        ("all", "admit", admitted.reason): 1,
        ("validate", "refuse", "unknown_model"): 2,
    }


def test_refused_credentials_are_counted_by_cause(
    metrics: DecisionMetrics, table: CounterTable
) -> None:
    compiled = make_policy()
    for authorization in ("Basic eA==", "Bearer x", "Bearer y"):
        metrics.record(metrics.decide(compiled, make_request(authorization=authorization)))
    metrics.record(metrics.decide(compiled, make_request()))
    found = find_series(table, [catalog.CREDENTIALS_REFUSED])[catalog.CREDENTIALS_REFUSED.name]
    counted = {labels: sum(table.values(column)) for labels, column in found}
    assert counted == {("wrong_scheme",): 1, ("malformed",): 2}
