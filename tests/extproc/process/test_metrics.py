"""The metrics and the status show the numbers of a worker's components."""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from extproc.auth import Authenticator, CredentialsError
from extproc.breaker import Breaker
from extproc.convert import ConversionLimits, ConversionPool, Converter, Signature
from extproc.convert.inference import InferenceRequest, Reading
from extproc.convert.tensor import Tensor
from extproc.counter_table import CounterTable, create
from extproc.limits import steady_clock
from extproc.limits.arithmetic import Algorithm, Limit
from extproc.limits.ledger import Ledger
from extproc.memory_budget import MemoryBudget
from extproc.process.breaker_gauges import BreakerGauges
from extproc.process.broker import serve_budgets
from extproc.process.metrics import (
    ConversionTimes,
    conversion_gauges,
    cpu_counters,
    limit_backend_counters,
    limit_backend_gauges,
    memory_counters,
    memory_gauges,
    resident_gauges,
    token_counters,
)
from extproc.process.shared_table import COLUMNS
from extproc.protection import Protection, ProtectionSettings
from extproc.services.budgets import BudgetService
from extproc.telemetry import catalog
from extproc.telemetry.exposition import TableCollector
from extproc.telemetry.metrics import LOST_SERIES, MICROS_PER_SECOND, Metrics, series_name
from extproc.telemetry.publisher import MetricsPublisher
from extproc.telemetry.status import BreakerStatus, CalloutStatus, read_status
from sluice.config import Auth, PolicyDocument
from sluice.config.breaker import BreakerConfig
from sluice.contract.names import cluster_name
from tests.extproc.decision.requests import document
from tests.extproc.policy.received import protect

MINUTE = 60 * MICROS_PER_SECOND
NOW = 1000.0


@dataclass
class Worker:
    """One worker's table and components, with a clock that always returns `NOW`."""

    path: Path
    columns: int = 10_000

    def __post_init__(self) -> None:
        create(self.path, 2, self.columns)
        self.table = CounterTable(self.path, 0)
        self.metrics = Metrics(self.table)
        self.publisher = MetricsPublisher(self.metrics)
        self.protection = Protection(self.table, ProtectionSettings(), lambda: NOW)

    def exposed(self) -> list[str]:
        """The lines of the metrics page."""
        self.publisher.publish()
        registry = CollectorRegistry()
        registry.register(TableCollector(CounterTable(self.path), catalog.FAMILIES))
        return generate_latest(registry).decode().splitlines()

    def status(self) -> CalloutStatus:
        self.publisher.publish()
        return read_status(CounterTable(self.path))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path / "counters")
    yield worker
    worker.table.close()


def apply(worker: Worker, policy: PolicyDocument) -> None:
    asyncio.run(protect(worker.protection, policy))


def test_the_status_and_the_metrics_show_every_breaker(worker: Worker) -> None:
    apply(worker, document({"m": {}, "quiet": {}, "unprotected": {"breaker": {"enabled": False}}}))
    breaker = worker.protection.breaker
    breaker.record(NOW, "m/v1", ok=False, count=30)
    breaker.record(NOW, "m/v1", ok=True, count=10)
    breaker.record(NOW, "quiet/v1", ok=True, count=3)
    worker.publisher.add(BreakerGauges(worker.metrics, worker.protection).publish)
    shown = {(b.model, b.version): b for b in worker.status().breakers}
    assert shown["m", "v1"] == BreakerStatus("m", "v1", "open", 0.75, 40)
    assert shown["quiet", "v1"] == BreakerStatus("quiet", "v1", "closed", None, 3)
    assert {model for model, _ in shown} == {"m", "quiet"}
    exposed = worker.exposed()
    for line in (
        'sluice_breaker_state{model="m",version="v1"} 2.0',
        'sluice_breaker_error_ratio{model="m",version="v1"} 0.75',
        'sluice_breaker_requests{model="m",version="v1"} 40.0',
        "sluice_breaker_unprotected_versions 0.0",
    ):
        assert line in exposed
    assert not any(line.startswith('sluice_breaker_error_ratio{model="quiet"') for line in exposed)


def test_the_breaker_of_a_removed_version_is_not_shown(worker: Worker) -> None:
    apply(worker, document({"m": {}}))
    worker.protection.breaker.record(NOW, "m/v1", ok=False, count=30)
    worker.publisher.add(BreakerGauges(worker.metrics, worker.protection).publish)
    assert [b.state for b in worker.status().breakers if b.version == "v1"] == ["open"]
    apply(worker, document({"other": {}}))
    assert {b.model for b in worker.status().breakers} == {"other"}
    assert not any('model="m"' in line for line in worker.exposed())


def test_the_gauges_of_a_breaker_that_becomes_idle_are_those_of_one_without_requests(
    tmp_path: Path,
) -> None:
    worker, now = Worker(tmp_path / "counters"), NOW
    worker.protection = Protection(worker.table, ProtectionSettings(), lambda: now)
    apply(worker, document({"m": {}}))
    worker.publisher.add(BreakerGauges(worker.metrics, worker.protection).publish)
    worker.protection.breaker.record(now, "m/v1", ok=False, count=3)
    worker.protection.breaker.record(now, "m/v1", ok=True, count=97)
    (shown,) = (each for each in worker.status().breakers if each.version == "v1")
    assert shown == BreakerStatus("m", "v1", "closed", 0.03, 100)
    now += 60
    (shown,) = (each for each in worker.status().breakers if each.version == "v1")
    assert shown == BreakerStatus("m", "v1", "closed", None, 0)
    worker.table.close()


def test_versions_without_room_for_a_breaker_are_counted(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "small", columns=85)
    apply(worker, document({"m": {}}))
    worker.publisher.add(BreakerGauges(worker.metrics, worker.protection).publish)
    status = worker.status()
    assert status.breakers == []
    assert status.unprotected == len(document({"m": {}}).models["m"].versions)
    assert f"sluice_breaker_unprotected_versions {status.unprotected}.0" in worker.exposed()
    worker.table.close()


def test_the_table_has_room_for_a_thousand_models_with_two_versions(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "counters", columns=COLUMNS)
    versions = {(f"model-{number}", name) for number in range(1000) for name in ("v1", "v2")}
    breaker = Breaker(worker.table, {cluster_name(*labels): BreakerConfig() for labels in versions})
    for labels in versions:
        for status in ("2xx", "4xx", "5xx", "none"):
            worker.metrics.counter(catalog.REQUESTS, *labels, status, "stable", "")
        for times in (catalog.REQUEST_SECONDS, catalog.UPSTREAM_SECONDS):
            worker.metrics.histogram(times, *labels)
        for gauge in (catalog.BREAKER_STATE, catalog.BREAKER_ERROR_RATIO, catalog.BREAKER_REQUESTS):
            worker.metrics.gauge(gauge, *labels)
    breaker.update(NOW)
    assert len(breaker.protected) == 2000
    assert breaker.unprotected == 0
    assert worker.table.total(worker.table.column(series_name(LOST_SERIES, ()))) == 0
    worker.table.close()


def test_lookups_in_the_token_cache_are_counted(worker: Worker) -> None:
    authenticator = Authenticator(Auth())
    worker.publisher.add_counters("tokens", partial(token_counters, authenticator))
    for _ in range(2):
        with pytest.raises(CredentialsError):
            authenticator.identify({"authorization": b"Bearer unknown"}, NOW)
    authenticator.identify({}, NOW)
    exposed = worker.exposed()
    assert 'sluice_tokens_total{cache="miss"} 2.0' in exposed
    assert 'sluice_tokens_total{cache="hit"} 0.0' in exposed


def test_a_worker_exports_its_cpu_time_and_its_memory(worker: Worker) -> None:
    worker.publisher.add_counters("cpu", partial(cpu_counters, 1))
    worker.publisher.add_gauges(partial(resident_gauges, 1))
    before, after = time.process_time(), {}
    for line in worker.exposed():
        name, _, value = line.partition(" ")
        after[name] = value
    assert before - 0.001 <= float(after['sluice_worker_cpu_seconds_total{worker="1"}'])
    assert float(after['sluice_worker_cpu_seconds_total{worker="1"}']) <= time.process_time()
    assert float(after['sluice_worker_resident_bytes{worker="1"}']) > 10_000_000


def test_evicted_budgets_are_counted(worker: Worker) -> None:
    apply(worker, document(limits={"backend": {"max_keys": 2000}}))
    worker.publisher.add_counters("budgets", partial(limit_backend_counters, worker.protection))
    worker.publisher.add_gauges(partial(limit_backend_gauges, worker.protection))
    budgets = worker.protection.budgets
    limit = Limit(Algorithm.TOKEN_BUCKET, 1, MINUTE, 10)
    for number in range(2005):
        budgets.spend(number, limit, str(number), 1)
    exposed = worker.exposed()
    assert "sluice_limit_evictions_total 5.0" in exposed
    assert not any(line.startswith("sluice_limit_backend_up") for line in exposed)


def test_a_lost_backend_is_down_and_its_evictions_are_counted(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "counters")
    socket = tmp_path / "limits"
    protection = Protection(worker.table, ProtectionSettings(socket))
    limit = Limit(Algorithm.TOKEN_BUCKET, 1, MINUTE, 10)
    worker.publisher.add_gauges(partial(limit_backend_gauges, protection))
    evicted = worker.metrics.counter(catalog.LIMIT_EVICTIONS)

    async def fetch(key: str) -> None:
        budgets = protection.budgets
        pending = budgets.fetch(int(protection.clock() * MICROS_PER_SECOND), limit, key, 1)
        assert pending is not None
        await pending

    async def run() -> None:
        async with serve_budgets(socket, BudgetService(Ledger(1), steady_clock(), evicted.add)):
            # On a slow machine, 2,001 keys take longer than the default timeout. Leases are also
            # renewed after half of their lifetime, and each renewal of a key evicts another one.
            backend = {"max_keys": 2000, "timeout": 5, "leases": {"lifetime": 60}}
            await protect(protection, document(limits={"backend": backend}))
            await asyncio.gather(*(fetch(str(number)) for number in range(2001)))
            exposed = worker.exposed()
            assert "sluice_limit_backend_up 1.0" in exposed
            # The broker evicts twice: the worker evicts a key, too, and returns its tokens.
            assert "sluice_limit_evictions_total 2.0" in exposed
        await fetch("d")
        assert "sluice_limit_backend_up 0.0" in worker.exposed()
        await protection.close()

    asyncio.run(run())
    worker.table.close()


def converter(gate: threading.Event, min_thread_size: int) -> Converter:
    """A converter that accepts any body and waits for the gate."""

    def source(body: bytes, headers: Mapping[str, str]) -> Reading:
        yield 0
        assert gate.wait(60)
        return InferenceRequest([Tensor("x", "UINT8", (len(body),), body)])

    return Converter(
        "test-grpc", "grpc", Signature("m"), ConversionLimits(), min_thread_size, source
    )


def test_conversions_are_timed_and_pending_ones_are_counted(worker: Worker) -> None:
    gate = threading.Event()
    pool = ConversionPool(threads=1, observe=ConversionTimes(worker.metrics).observe)
    worker.publisher.add_gauges(partial(conversion_gauges, pool))

    async def convert() -> None:
        caller = pool.for_caller("a")
        jobs = [
            asyncio.ensure_future(caller.convert_request(converter(gate, 0), b"a", {}))
            for _ in "ab"
        ]
        await asyncio.sleep(0)
        assert "sluice_conversions_pending 2.0" in worker.exposed()
        gate.set()
        await asyncio.gather(*jobs)
        caller.convert_request(converter(gate, 1000), b"a", {})

    asyncio.run(convert())
    pool.close()
    exposed = worker.exposed()
    assert "sluice_conversions_pending 0.0" in exposed
    # The third conversion was small, so it ran without a thread.
    count = "sluice_conversion_seconds_count"
    assert f'{count}{{converter="test-grpc",phase="work"}} 3.0' in exposed
    assert f'{count}{{converter="test-grpc",phase="wait"}} 2.0' in exposed


def test_the_memory_budget_is_exposed(worker: Worker) -> None:
    memory = MemoryBudget(100)
    worker.publisher.add_gauges(partial(memory_gauges, memory))
    worker.publisher.add_counters("memory", partial(memory_counters, memory))
    memory.reserve(70)
    memory.reserve(31)
    exposed = worker.exposed()
    assert "sluice_memory_used_bytes 70.0" in exposed
    assert "sluice_memory_limit_bytes 100.0" in exposed
    assert "sluice_memory_refused_total 1.0" in exposed
