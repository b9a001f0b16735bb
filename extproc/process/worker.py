"""One callout worker: a process that subscribes to the policy and serves Envoy.

A worker listens only after it has applied a policy, so that Envoy never calls a worker without a
policy.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import NoReturn

import uvloop

from extproc.convert import ConversionPool
from extproc.memory_budget import MemoryBudget
from extproc.mirror import Copies
from extproc.policy.policies import Policies
from extproc.policy.received import ReceivedPolicy
from extproc.policy.subscriber import follow
from extproc.process.allocator import release_freed_memory
from extproc.process.breaker_gauges import BreakerGauges
from extproc.process.heartbeat import Heartbeat
from extproc.process.metrics import (
    ConversionTimes,
    admission_cache_counters,
    conversion_counters,
    conversion_gauges,
    copy_counters,
    key_set_gauges,
    limit_backend_counters,
    limit_backend_gauges,
    limit_counters,
    memory_counters,
    memory_gauges,
    rate_limit_counters,
    transport_counters,
)
from extproc.process.serving import Serving
from extproc.process.telemetry import TelemetrySettings, WorkerTelemetry
from extproc.process.traffic_reports import BreakerStates, TrafficReporter
from extproc.protection import Protection, ProtectionSettings
from extproc.rpc import Services, unary
from extproc.services.decider import Decider
from extproc.services.ext_authz import Authorization
from extproc.services.ext_proc.service import ExternalProcessor, MarkedProcessor
from extproc.services.health import NOT_SERVING, SERVING, HealthService
from extproc.services.inspection import InspectionService
from extproc.services.native_runtime import NativeRuntimeService
from extproc.services.ratelimit import RateLimitService
from extproc.telemetry.entry import AccessLogEntry
from extproc.telemetry.traffic import TrafficCounts
from extproc.transport import Tls, TransportLimits, TransportName, serve
from protos.base_pb2 import Node
from sluice.contract.names import CALLOUT_AGENT, NODE_CLUSTER
from sluice.contract.paths import EXT_AUTHZ, EXT_PROC
from sluice.supervision.stack_dump import dump_at_signal, stack_file
from sluice.tls import NO_CREDENTIALS, ClientCredentials

log = logging.getLogger(__name__)


SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that holds the interpreter lock gives it to the event loop. With the
interpreter's default of 5 ms, a conversion on a thread delays every turn of the loop by so much."""


RELEASE_DELAY = 1.0
"""Seconds after a policy until freed memory returns to the kernel: when the old policy is not in
use any more."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Settings of one worker. `drain_timeout` is in seconds, `max_memory` in bytes.

    `tls`: TLS of the worker's server; None for a server without it. `xds_credentials`: those of the
    worker at the xDS server.
    """

    index: int
    address: str
    xds: str
    transport: TransportName
    drain_timeout: float
    max_memory: int
    tls: Tls | None = None
    xds_credentials: ClientCredentials = NO_CREDENTIALS


def main(
    settings: WorkerSettings,
    telemetry: TelemetrySettings,
    protection: ProtectionSettings,
    lifeline: Connection,
) -> None:
    """Run until SIGTERM or the end of the supervisor, which holds the other end of `lifeline`."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=f"%(asctime)s %(levelname)s worker {settings.index}: %(message)s",
    )
    dump_at_signal(stack_file(telemetry.table.parent, settings.index))
    # Ctrl-C reaches the whole process group. The supervisor decides when a worker stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_INTERVAL)
    worker_telemetry = WorkerTelemetry(telemetry, settings.index)
    uvloop.run(Worker(settings, worker_telemetry, protection).run(lifeline))


def services(
    policies: Policies,
    health: HealthService,
    runtime: NativeRuntimeService,
    telemetry: WorkerTelemetry,
    protection: Protection,
    memory: MemoryBudget,
    pool: ConversionPool,
    copies: Copies,
) -> Services:
    """Create the services of a worker and register their metrics."""
    observer = telemetry.decisions
    decider = Decider(policies.in_force, observer=observer, protection=protection)
    of_stage = Decider(policies.staged, observer=observer, protection=protection.staged)
    processor = ExternalProcessor(decider, pool, memory, copies)
    staged = ExternalProcessor(of_stage, pool, memory, copies)
    authorization = Authorization(decider)
    telemetry.publisher.add_counters(
        "admissions", partial(admission_cache_counters, processor.admissions, staged.admissions)
    )
    telemetry.publisher.add_counters("limits", partial(limit_counters, protection))
    telemetry.publisher.add_counters(
        "rate limits", partial(rate_limit_counters, protection.descriptor_limiter)
    )
    telemetry.publisher.add_counters("budgets", partial(limit_backend_counters, protection))
    telemetry.publisher.add_counters("conversions", partial(conversion_counters, pool))
    telemetry.publisher.add_counters("copies", partial(copy_counters, copies))
    telemetry.publisher.add_counters("memory", partial(memory_counters, memory))
    telemetry.publisher.add(BreakerGauges(telemetry.metrics, protection).publish)
    telemetry.publisher.add_gauges(partial(key_set_gauges, policies.in_force))
    telemetry.publisher.add_gauges(partial(limit_backend_gauges, protection))
    telemetry.publisher.add_gauges(partial(conversion_gauges, pool))
    telemetry.publisher.add_gauges(partial(memory_gauges, memory))
    return {
        EXT_PROC: MarkedProcessor(policies, processor, staged).open,
        EXT_AUTHZ: unary(authorization.check),
        **health.services(),
        **runtime.services(),
        **telemetry.access_log.services(),
        **InspectionService(protection, policies.in_force).services(),
        **RateLimitService(protection.descriptor_limiter, protection.clock).services(),
    }


class Worker:
    """Composes the parts of a worker."""

    def __init__(
        self, settings: WorkerSettings, telemetry: WorkerTelemetry, protection: ProtectionSettings
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._protection = Protection(telemetry.table, protection)
        self._traffic, self._staged_traffic = TrafficCounts(), TrafficCounts()
        record, record_staged = self._protection.record, self._protection.record_staged
        telemetry.access_log.add_recorder(record, record_staged)
        telemetry.access_log.add_recorder(self._traffic.record, self._record_staged_traffic)
        self._policies = Policies()
        self._health = HealthService(NOT_SERVING)
        self._runtime = NativeRuntimeService(self._protection.failing)
        self._protection.breaker.on_change(self._runtime.publish)
        self._memory = MemoryBudget(settings.max_memory)
        self._pool = ConversionPool(
            memory=self._memory, observe=ConversionTimes(telemetry.metrics).observe
        )
        self._copies = Copies(self._memory)
        self._heartbeat = Heartbeat(telemetry.table)
        self._serving = Serving(telemetry.table)
        self._has_policy = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self, lifeline: Connection) -> None:
        """Subscribe to the policy, serve, and drain. Raises OSError if the address is in use."""
        self._heartbeat.start()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_reader(lifeline.fileno(), self._orphaned, lifeline)
        following = asyncio.create_task(
            follow(
                self._settings.xds,
                _node(self._settings.index),
                self._apply,
                credentials=self._settings.xds_credentials,
            )
        )
        serving = asyncio.create_task(self._serve())
        background = [
            asyncio.create_task(self._telemetry.publish()),
            asyncio.create_task(self._protection.update_breakers()),
            asyncio.create_task(self._report_traffic()),
        ]
        try:
            await asyncio.wait({following, serving}, return_when=asyncio.FIRST_COMPLETED)
            for task in (following, serving):
                if task.done():
                    task.result()
        finally:
            loop.remove_reader(lifeline.fileno())
            following.cancel()
            for task in background:
                task.cancel()
            self._policies.close()
            self._copies.close()
            await self._protection.close()
            self._telemetry.close()
            self._heartbeat.stop()

    def _record_staged_traffic(self, entries: Sequence[AccessLogEntry]) -> None:
        """Count the requests of staged Envoys twice: as a part of all requests."""
        self._traffic.record(entries)
        self._staged_traffic.record(entries)

    async def _report_traffic(self) -> NoReturn:
        protection = self._protection
        reporter = TrafficReporter(
            _node(self._settings.index),
            self._traffic,
            self._staged_traffic,
            BreakerStates(protection.breaker, protection.monotonic),
            self._copies.counts.take,
        )
        await reporter.run(self._settings.xds, self._settings.xds_credentials)

    def _orphaned(self, lifeline: Connection) -> None:
        # A closed pipe stays readable. Without `remove_reader`, the loop would call this endlessly.
        asyncio.get_running_loop().remove_reader(lifeline.fileno())
        self._stop.set()

    async def _serve(self) -> None:
        if not await self._wait_for_policy():
            return
        settings = self._settings
        worker_services = services(
            self._policies,
            self._health,
            self._runtime,
            self._telemetry,
            self._protection,
            self._memory,
            self._pool,
            self._copies,
        )
        server = serve(
            settings.transport,
            worker_services,
            settings.address,
            # A message contains a whole body, and the policy limits bodies. So the only other limit
            # of a message is the memory, from which conversions reserve what they write.
            limits=TransportLimits(
                max_message=settings.max_memory,
                max_send_queue=max(TransportLimits().max_send_queue, settings.max_memory),
            ),
            memory=self._memory,
            tls=settings.tls,
        )
        self._telemetry.publisher.add_counters(
            "transport", partial(transport_counters, server.counters)
        )
        log.info("listening on %s (%s)", await server.start(), settings.transport)
        # The objects created so far live as long as the process. The garbage collector ignores
        # frozen objects, so its pauses are shorter.
        gc.collect()
        gc.freeze()
        self._health.set("", SERVING)
        self._serving.begin()
        await self._stop.wait()
        self._serving.end()
        self._health.set("", NOT_SERVING)
        self._runtime.close()
        await server.drain(settings.drain_timeout)

    async def _wait_for_policy(self) -> bool:
        """Wait until a policy is in force. Returns False if the worker must stop."""
        waits = [asyncio.create_task(event.wait()) for event in (self._has_policy, self._stop)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return not self._stop.is_set()

    async def _apply(self, received: ReceivedPolicy) -> None:
        """Apply a policy and its staged one completely, or raise ValueError and change nothing.

        All steps that can fail run before the first commit.
        """
        # To read and compile many models takes long. The worker does not hang.
        self._heartbeat.beat()
        settings, stage = received.settings, received.staged
        limits = None if stage is None else stage.settings.limits
        protection = await self._protection.prepare(settings.limits, limits)
        try:
            policies = self._policies.compile(received)
            telemetry = self._telemetry.prepare(settings)
        except BaseException:
            await protection.discard()
            raise
        # First, because the next line may publish that a breaker has changed.
        self._runtime.vouch(policies.native_routes)
        breakers = policies.in_force.breakers
        self._protection.commit(protection, breakers, policies.staged_breakers)
        mark = self._policies.mark
        self._policies.commit(policies)
        if mark != self._policies.mark:
            # The counts of one stage must not be taken for those of the next one.
            self._staged_traffic.take()
        self._runtime.publish()
        self._telemetry.commit(telemetry, policies, stage)
        self._pool.set_timeout(settings.conversion_timeout)
        log.info("policy %s is in force", settings.version)
        if stage is not None:
            staged, nodes = stage.settings.version, len(stage.nodes)
            log.info("policy %s is in force for %d staged Envoys", staged, nodes)
        self._has_policy.set()
        asyncio.get_running_loop().call_later(RELEASE_DELAY, release_freed_memory)


def _node(index: int) -> Node:
    node = Node(
        id=f"callout-{socket.gethostname()}-{index}",
        cluster=NODE_CLUSTER,
        user_agent_name=CALLOUT_AGENT,
    )
    node.metadata.update({"pid": os.getpid()})
    return node
