"""Reports to the control plane what a worker has seen (protos/observations.proto).

A report that the control plane has not confirmed is sent again on the next stream, with the same
number. Meanwhile, the counts of the next report add up.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from itertools import cycle
from typing import Final, NoReturn, Protocol

from google.protobuf.message import DecodeError

from extproc.breaker import Breaker
from extproc.rpc import RpcError
from extproc.telemetry.traffic import TrafficCounts
from extproc.transport.aio.client import ClientCall, ClientLimits, open_call
from protos.base_pb2 import Node
from protos.observations_pb2 import BreakerState, ComparisonCounts, Received, Report
from sluice.contract.paths import OBSERVATIONS
from sluice.contract.traffic import REPORT_INTERVAL
from sluice.tls import NO_CREDENTIALS, ClientCredentials

log = logging.getLogger(__name__)

LIMITS: Final = ClientLimits(max_message=1 << 10)
"""The control plane only confirms reports."""

CONFIRMATION_TIMEOUT: Final = 10.0
"""Seconds until a report is sent again on another stream."""


class ReportedBreakers(Protocol):
    """The part of the breakers that a report has."""

    @property
    def unprotected(self) -> int:
        """How many versions have no breaker."""

    def states(self) -> Iterable[BreakerState]:
        """The breakers to report."""


class TrafficReporter:
    """Sends the reports of one worker process.

    `staged`: the part of `counts` that staged Envoys have reported. `comparisons` returns the
    counts of copies since its previous call, `clock` monotonic seconds.
    """

    def __init__(
        self,
        node: Node,
        counts: TrafficCounts,
        staged: TrafficCounts,
        breakers: ReportedBreakers,
        comparisons: Callable[[], Iterable[ComparisonCounts]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._counts = counts
        self._staged = staged
        self._breakers = breakers
        self._comparisons = comparisons
        self._clock = clock
        self._process = random.getrandbits(64)
        self._number = 0
        self._unconfirmed: Report | None = None
        self._since = self._next_since = clock()

    async def run(
        self, addresses: str, credentials: ClientCredentials = NO_CREDENTIALS
    ) -> NoReturn:
        """Report, and connect again whenever the stream ends, until cancelled.

        `addresses` of control planes are separated by commas. One of them gets the reports.
        """
        for address in cycle(addresses.split(",")):
            try:
                call = await open_call(address, OBSERVATIONS, LIMITS, credentials)
                try:
                    await self._report(call)
                finally:
                    call.close()
            except (RpcError, OSError, DecodeError) as error:
                # The subscriber to the policy logs why the control plane does not respond.
                log.debug("reports to the control plane %s: %s", address, error)
            await asyncio.sleep(REPORT_INTERVAL)
        raise AssertionError("a cycle does not end")

    async def _report(self, call: ClientCall) -> None:
        """Send reports on one stream until it ends."""
        node: Node | None = self._node
        while True:
            report = self._unconfirmed or self._next()
            report.seconds = self._clock() - self._since
            del report.breakers[:]
            report.breakers.extend(self._breakers.states())
            report.unprotected = self._breakers.unprotected
            if node is None:
                report.ClearField("node")
            else:
                report.node.CopyFrom(node)
            call.send(report.SerializeToString())
            async with asyncio.timeout(CONFIRMATION_TIMEOUT):
                response = await call.receive()
            if response is None:
                return
            if Received.FromString(response).number == report.number:
                self._unconfirmed, self._since, node = None, self._next_since, None
            await asyncio.sleep(REPORT_INTERVAL)

    def _next(self) -> Report:
        self._number += 1
        self._next_since = self._clock()
        self._unconfirmed = Report(
            process=self._process,
            number=self._number,
            versions=self._counts.take(),
            staged=self._staged.take(),
            comparisons=self._comparisons(),
        )
        return self._unconfirmed


class BreakerStates:
    """The breakers that are not idle. `clock` returns the seconds of the breaker's clock."""

    def __init__(self, breaker: Breaker, clock: Callable[[], float]) -> None:
        self._breaker = breaker
        self._clock = clock

    @property
    def unprotected(self) -> int:
        """How many versions have no breaker."""
        return self._breaker.unprotected

    def states(self) -> Iterable[BreakerState]:
        """The breakers to report."""
        for cluster, summary in self._breaker.active(self._clock()).items():
            yield BreakerState(
                cluster=cluster,
                state=summary.state.name,
                error_rate=summary.error_rate,
                requests=summary.volume,
            )
