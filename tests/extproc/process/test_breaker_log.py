"""The supervisor logs each change of a breaker once, however many workers see it."""

import logging
from pathlib import Path

import pytest

from extproc.breaker import BreakerState
from extproc.counter_table import CounterTable, create
from extproc.process.breaker_log import LOOK_INTERVAL, MIN_LOG_INTERVAL, BreakerLog
from extproc.telemetry import catalog
from extproc.telemetry.metrics import Metrics

WORKERS = 2


class Workers:
    """The gauges of two workers, and the supervisor's log of them."""

    def __init__(self, directory: Path) -> None:
        path = directory / "counters"
        create(path, WORKERS + 1, 500)
        self._metrics = [Metrics(CounterTable(path, row)) for row in range(WORKERS)]
        self.log = BreakerLog(CounterTable(path, WORKERS), 0.0)
        self.now = 0.0

    def publish(self, state: BreakerState, *, version: str = "v1", requests: int = 0) -> None:
        for metrics in self._metrics:
            metrics.gauge(catalog.BREAKER_STATE, "m", version).set(int(state))
            metrics.gauge(catalog.BREAKER_REQUESTS, "m", version).set(requests)
            metrics.gauge(catalog.BREAKER_ERROR_RATIO, "m", version).set(0.75)

    def look(self, after: float = LOOK_INTERVAL) -> None:
        self.now += after
        self.log.on_deadline(self.now)


@pytest.fixture
def workers(tmp_path: Path) -> Workers:
    return Workers(tmp_path)


def test_each_change_is_one_line_with_the_version_and_the_counts(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    workers.publish(BreakerState.CLOSED)
    workers.look()
    workers.publish(BreakerState.OPEN, requests=40)
    workers.look()
    workers.look()
    workers.publish(BreakerState.CLOSED)
    workers.look(after=MIN_LOG_INTERVAL)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            "breaker of m/v1: closed -> open after 0.5 s; 40 requests in its window, of which 75% "
            "of the latest failed; only probes are admitted",
        ),
        (
            "INFO",
            "breaker of m/v1: open -> closed after 5.5 s; 0 requests in its window, of which 75% "
            "of the latest failed; all requests are admitted",
        ),
    ]


def test_versions_that_appear_later_are_watched_too(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    workers.publish(BreakerState.CLOSED)
    workers.look()
    workers.publish(BreakerState.OPEN, version="v2")
    workers.look()
    (record,) = caplog.records
    assert record.getMessage().startswith("breaker of m/v2: unknown -> open")


def test_a_breaker_that_flaps_has_one_line_per_interval(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    workers.publish(BreakerState.CLOSED)
    workers.look()
    looks = round(10 * MIN_LOG_INTERVAL / LOOK_INTERVAL)
    for number in range(looks):
        workers.publish(BreakerState.REDUCED if number % 2 else BreakerState.CLOSED)
        workers.look()
    assert 5 <= len(caplog.records) <= 11


def test_the_next_look_is_scheduled(workers: Workers) -> None:
    workers.look()
    assert workers.log.deadline == workers.now + LOOK_INTERVAL
