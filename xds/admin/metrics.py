"""Prometheus metrics of the control plane."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.config import GatewayConfig
from sluice.contract.names import split_cluster_name
from sluice.version import VERSION
from xds.envoys.fleet import count_states
from xds.envoys.observations import Observations
from xds.envoys.reporters import SOURCES
from xds.protocol import resource_types
from xds.protocol.client_streams import by_client
from xds.protocol.nodes import NodeKind
from xds.protocol.resource_types import ResourceType
from xds.state import ControlPlaneState

HELP = {
    "sluice_build_info": "The version of the program, as a label; always 1.",
    "sluice_xds_version_info": "The config version in force, as a label; always 1.",
    "sluice_xds_in_sync": "Whether every node is in sync and no rollout is running.",
    "sluice_xds_in_error": "Whether the latest config is invalid or rejected by a node.",
    "sluice_xds_config_timestamp_seconds": "Unix time at which the latest valid config was read.",
    "sluice_xds_config_reads_total": "Configs read: accepted (valid) or refused (invalid).",
    "sluice_xds_models": "Models in the config.",
    "sluice_xds_nodes": "Connected nodes, by kind.",
    "sluice_xds_endpoints": "Endpoints of models by state, summed over all Envoys that were asked.",
    "sluice_xds_envoy_answers": "Whether the Envoy at this address answers the control plane.",
    "sluice_xds_upstream_requests_total": "Requests to endpoints that have ended, from Envoys.",
    "sluice_xds_upstream_errors_total": "Those of these requests that failed.",
    "sluice_xds_reporters": "Envoys and workers that report the traffic of versions.",
    "sluice_xds_report_age_seconds": "Time since the latest report of the one that is behind most.",
    "sluice_xds_reports_refused_total": "Streams of reports ended because of what a client sent.",
    "sluice_xds_canary_percent": "Percentage of users that get a canary, in the latest config.",
    "sluice_xds_canary_decisions_total": "Decisions of this control plane about canaries.",
    "sluice_xds_pushes_total": "Responses sent to nodes.",
    "sluice_xds_pushed_bytes_total": "Bytes of these responses.",
    "sluice_xds_acks_total": "Responses that nodes accepted (ACK).",
    "sluice_xds_nacks_total": "Responses that nodes rejected (NACK).",
}
"""The help text of every metric, by its name."""


class StateCollector(Collector):
    """Creates the metrics from the state of the control plane, at every scrape."""

    def __init__(self, state: ControlPlaneState) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """The current metrics."""
        state, rollout = self._state, self._state.rollout
        every = (state.nodes, state.istiods)
        kinds = Counter(streams[0].kind for nodes in every for streams in by_client(nodes))
        versions = {rollout.version: 1} if rollout.version is not None else {}
        return [
            _gauge("sluice_build_info", "version", {VERSION: 1}),
            _gauge("sluice_xds_version_info", "version", versions),
            _gauge("sluice_xds_in_sync", value=rollout.in_sync),
            _gauge("sluice_xds_in_error", value=state.error is not None),
            _gauge("sluice_xds_config_timestamp_seconds", value=state.changed_at),
            _counter("sluice_xds_config_reads_total", "result", state.reads),
            _gauge("sluice_xds_models", value=len(state.config.models)),
            _gauge("sluice_xds_nodes", "kind", {k: kinds[k] for k in get_args(NodeKind)}),
            _gauge("sluice_xds_endpoints", "state", count_states(state.fleet.envoys)),
            _gauge(
                "sluice_xds_envoy_answers",
                "source",
                {view.source: view.error is None for view in state.fleet.envoys},
            ),
            *_traffic(state.observations, state.videos.refused),
            _canary_percents(state.config),
            _counter("sluice_xds_canary_decisions_total", "decision", state.canary_decisions),
            *(
                _counter(name, "type", {each.name: counts[each] for each in resource_types.ALL})
                for name, counts in (
                    ("sluice_xds_pushes_total", _sum(each.pushes for each in every)),
                    ("sluice_xds_pushed_bytes_total", _sum(each.pushed_bytes for each in every)),
                    ("sluice_xds_acks_total", _sum(each.acks for each in every)),
                    ("sluice_xds_nacks_total", _sum(each.nacks for each in every)),
                )
            ),
        ]


def _sum(counts: Iterable[Counter[ResourceType]]) -> Counter[ResourceType]:
    return sum(counts, Counter())


def _traffic(observations: Observations, of_videos: Counter[str]) -> Iterator[Metric]:
    """What Envoys have counted, and how fresh the reports are. Workers export their own counts."""
    requests, errors = (
        CounterMetricFamily(name, HELP[name], labels=["model", "version"])
        for name in ("sluice_xds_upstream_requests_total", "sluice_xds_upstream_errors_total")
    )
    for cluster, total in observations.totals["envoy"].items():
        labels = split_cluster_name(cluster)
        requests.add_metric(labels, total.requests)
        errors.add_metric(labels, total.errors)
    yield from (requests, errors)
    now = time.monotonic()
    counts: Counter[str] = Counter(dict.fromkeys(SOURCES, 0))
    ages: dict[str, float] = {}
    for reporter in observations.reporters:
        counts[reporter.source] += 1
        age = reporter.age(now)
        if age is not None:
            ages[reporter.source] = max(age, ages.get(reporter.source, 0.0))
    yield _gauge("sluice_xds_reporters", "source", counts)
    yield _gauge("sluice_xds_report_age_seconds", "source", ages)
    yield _counter(
        "sluice_xds_reports_refused_total", "source", {**observations.refused, **of_videos}
    )


def _canary_percents(config: GatewayConfig) -> Metric:
    name = "sluice_xds_canary_percent"
    family = GaugeMetricFamily(name, HELP[name], labels=["model", "version"])
    for model, settings in config.models.items():
        for canary in settings.canaries:
            family.add_metric([model, canary.version], canary.percent)
    return family


def _gauge(
    name: str, label: str = "", values: Mapping[str, float] | None = None, *, value: float = 0
) -> Metric:
    family = GaugeMetricFamily(name, HELP[name], labels=[label] if label else [])
    for key, number in ({"": value} if values is None else values).items():
        family.add_metric([key] if label else [], float(number))
    return family


def _counter(name: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, HELP[name], labels=[label])
    for key, number in values.items():
        family.add_metric([key], number)
    return family
