"""Which versions and sources of observations the config has."""

from collections.abc import Iterable

from sluice.config import GatewayConfig
from sluice.contract.names import cluster_name
from xds.envoys.observations import SOURCES, Observations


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
