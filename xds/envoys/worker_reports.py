"""Reads the reports of callout workers (protos/observations.proto).

A worker counts the requests that Envoy has reported to it as finished, with the breaker's
definition of an error, and latencies from the last byte sent to the model server to the first byte
of its response. It also counts the copies that it has sent (mirroring). It repeats a report that
the control plane has not confirmed.
"""

import math
from collections import OrderedDict
from dataclasses import replace
from typing import Final

from protos.base_pb2 import Node
from protos.observations_pb2 import ComparisonCounts, Received, Report, VersionCounts
from sluice.contract.paths import OBSERVATION_METHOD, OBSERVATION_SERVICE
from sluice.contract.traffic import BINS
from xds.envoys.observations import MAX_REPORTERS
from xds.envoys.reporters import (
    MAX_REPORTED,
    BreakerState,
    BreakerView,
    Comparison,
    Counts,
    Reporter,
    SourceName,
)
from xds.envoys.reports import MAX_COUNT, InvalidReportError
from xds.protocol.reflection import Method
from xds.protocol.shared_names import OverLimitError

_STATES: Final = frozenset(BreakerState)


class WorkerReportReader:
    """The service of callout workers."""

    source: SourceName = "worker"
    service = OBSERVATION_SERVICE
    method = OBSERVATION_METHOD
    messages = Method(Report, Received)
    greeting: bytes | None = None

    def __init__(self) -> None:
        self._received: OrderedDict[int, int] = OrderedDict()
        """The latest report of each process, so that no report counts twice."""

    def node(self, message: bytes) -> Node:
        """The worker that reports."""
        report = Report.FromString(message)
        if not report.HasField("node"):
            raise InvalidReportError("the first report of a worker has no node")
        return report.node

    def read(self, reporter: Reporter, message: bytes, now: float) -> bytes | None:
        """Count a report, unless it is a repeated one, and confirm it."""
        report = Report.FromString(message)
        sizes = (
            len(report.versions), len(report.staged),
            len(report.breakers), len(report.comparisons),
        )  # fmt: skip
        if max(sizes) > MAX_REPORTED:
            raise OverLimitError(f"more than {MAX_REPORTED} versions in one report")
        counts = {each.cluster: _counts(each, report.seconds) for each in report.versions}
        staged = {each.cluster: _counts(each, report.seconds) for each in report.staged}
        for each in report.comparisons:
            known = counts.get(each.cluster, Counts(0, 0, seconds=report.seconds))
            counts[each.cluster] = replace(known, comparison=_comparison(each))
        breakers = {
            each.cluster: BreakerView(
                _state(each.state),
                _share(each.error_rate) if each.HasField("error_rate") else None,
                each.requests,
            )
            for each in report.breakers
        }
        repeated = report.number <= self._received.get(report.process, 0)
        reporter.report(
            now, {} if repeated else counts, staged=staged, breakers=breakers,
            unprotected=report.unprotected,
        )  # fmt: skip
        if not repeated:
            self._received[report.process] = report.number
            self._received.move_to_end(report.process)
            if len(self._received) > MAX_REPORTERS:
                self._received.popitem(last=False)
        return Received(number=report.number).SerializeToString()


def _counts(version: VersionCounts, seconds: float) -> Counts:
    if len(version.bins) > BINS or len(version.counts) != len(version.bins):
        raise InvalidReportError("the latencies of a version are not valid")
    counted = sum(version.counts)
    if not version.errors <= version.requests <= MAX_COUNT or counted > version.requests:
        raise InvalidReportError("the counts of a version contradict each other")
    if max(version.bins, default=0) >= BINS:
        raise InvalidReportError("the latencies of a version are not valid")
    latencies = dict(zip(version.bins, version.counts, strict=True))
    return Counts(version.requests, version.errors, latencies, seconds)


def _comparison(counts: ComparisonCounts) -> Comparison:
    if not counts.agreed <= counts.compared or counts.compared + counts.failed > MAX_COUNT:
        raise InvalidReportError("the counts of copies contradict each other")
    differences = (counts.max_difference, counts.max_relative_difference)
    if counts.dropped > MAX_COUNT or not all(0 <= each < math.inf for each in differences):
        raise InvalidReportError("the figures of copies are not valid")
    return Comparison(counts.compared, counts.agreed, counts.failed, counts.dropped, *differences)


def _state(number: int) -> BreakerState:
    if number not in _STATES:
        raise InvalidReportError("a breaker has an unknown state")
    return BreakerState(number)


def _share(number: float) -> float:
    if not 0 <= number <= 1:
        raise InvalidReportError("the error rate of a breaker is not between 0 and 1")
    return number
