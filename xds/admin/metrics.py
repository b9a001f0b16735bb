"""Prometheus metrics of the control plane."""

from collections import Counter
from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from xds.admin.status import ControlPlaneState
from xds.envoys.fleet import count_states
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes

HELP = {
    "sluice_xds_version_info": "The config version in force, as a label; always 1.",
    "sluice_xds_in_sync": "Whether every node is in sync and no rollout is running.",
    "sluice_xds_in_error": "Whether the latest config is invalid or rejected by a node.",
    "sluice_xds_config_timestamp_seconds": "Unix time at which the latest valid config was read.",
    "sluice_xds_config_reads_total": "Configs read: accepted (valid) or refused (invalid).",
    "sluice_xds_models": "Models in the config.",
    "sluice_xds_nodes": "Connected nodes, by kind.",
    "sluice_xds_endpoints": "Endpoints of models by state, summed over all Envoys that were asked.",
    "sluice_xds_envoy_answers": "Whether the Envoy at this address answers the control plane.",
    "sluice_xds_pushes_total": "Responses sent to nodes.",
    "sluice_xds_pushed_bytes_total": "Bytes of these responses.",
    "sluice_xds_acks_total": "Responses that nodes accepted (ACK).",
    "sluice_xds_nacks_total": "Responses that nodes rejected (NACK).",
}
"""The help text of every metric, by its name."""


class StateCollector(Collector):
    """Creates the metrics from the state of the control plane, at every scrape."""

    def __init__(self, state: ControlPlaneState, nodes: Nodes) -> None:
        self._state = state
        self._nodes = nodes

    def collect(self) -> Iterable[Metric]:
        """The current metrics."""
        status, state = self._state.status(), self._state
        kinds = Counter(node.kind for node in status.nodes)
        versions = {status.version: 1} if status.version is not None else {}
        return [
            _gauge("sluice_xds_version_info", "version", versions),
            _gauge("sluice_xds_in_sync", value=status.in_sync),
            _gauge("sluice_xds_in_error", value=status.error is not None),
            _gauge("sluice_xds_config_timestamp_seconds", value=status.changed_at),
            _counter("sluice_xds_config_reads_total", "result", state.reads),
            _gauge("sluice_xds_models", value=len(state.config.models)),
            _gauge(
                "sluice_xds_nodes", "kind", {k: kinds[k] for k in ("envoy", "callout", "unknown")}
            ),
            _gauge("sluice_xds_endpoints", "state", count_states(state.fleet.envoys)),
            _gauge(
                "sluice_xds_envoy_answers",
                "source",
                {view.source: view.error is None for view in state.fleet.envoys},
            ),
            *(
                _counter(name, "type", {each.name: counts[each] for each in resource_types.ALL})
                for name, counts in (
                    ("sluice_xds_pushes_total", self._nodes.pushes),
                    ("sluice_xds_pushed_bytes_total", self._nodes.pushed_bytes),
                    ("sluice_xds_acks_total", self._nodes.acks),
                    ("sluice_xds_nacks_total", self._nodes.nacks),
                )
            ),
        ]


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
