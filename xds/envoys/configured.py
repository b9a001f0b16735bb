"""Which versions and sources of observations the config has, and which nodes must report."""

from collections.abc import Collection, Iterable

from sluice.config import GatewayConfig
from sluice.contract.names import CALLOUT_AGENT, cluster_name
from xds.envoys.observations import Observations
from xds.envoys.reporters import SOURCES, SourceName
from xds.protocol.nodes import Node, Nodes


def configure(observations: Observations, configs: Iterable[GatewayConfig]) -> None:
    """Count the versions of these configs: during a rollout, those of the old and the new one.

    Without reports of finished requests, workers have nothing to report.
    """
    reported, clusters = True, set[str]()
    for config in configs:
        reported = reported and config.telemetry.reports.enabled
        for model, settings in config.models.items():
            clusters.update(cluster_name(model, version) for version in settings.versions)
    observations.configure(clusters, SOURCES if reported else ("envoy",))


def reporting_nodes(nodes: Nodes, source: SourceName) -> Collection[str]:
    """The ids of the connected Envoys or workers: the control plane expects reports of each."""
    expected = _is_worker if source == "worker" else _is_envoy
    return {node.id for node in nodes if expected(node)}


def _is_worker(node: Node) -> bool:
    """Not a command that gets the policy, such as `sluice explain`."""
    return node.kind == "callout" and node.agent == CALLOUT_AGENT


def _is_envoy(node: Node) -> bool:
    """Not another client that gets clusters. Only an Envoy sends the version of its build."""
    return node.kind == "envoy" and node.build_version is not None
