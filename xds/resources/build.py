"""Puts the resources of a config together into one snapshot."""

from pathlib import Path

from protos import policy_pb2
from sluice.config import GatewayConfig, PolicyDocument
from xds import type_urls
from xds.cache import Snapshot
from xds.resources import clusters, endpoints
from xds.resources.listener import LISTENER_NAME, listener
from xds.resources.routes import ROUTES_NAME, route_configuration

POLICY_NAME = "policy"


def build(config: GatewayConfig, policy: PolicyDocument, directory: Path) -> Snapshot:
    """Compile a config; file names in it (TLS) are relative to `directory`."""
    return Snapshot.of(
        {
            type_urls.CLUSTER: {
                cluster.name: bytes(cluster) for cluster in clusters.clusters(config)
            },
            type_urls.ENDPOINT: {
                assignment.cluster_name: bytes(assignment)
                for assignment in endpoints.assignments(config)
            },
            type_urls.LISTENER: {LISTENER_NAME: bytes(listener(config, directory))},
            type_urls.ROUTE: {ROUTES_NAME: bytes(route_configuration(config))},
            type_urls.POLICY: {POLICY_NAME: _policy(policy)},
        },
        warmup=clusters.warmup(config),
    )


def _policy(policy: PolicyDocument) -> bytes:
    config = policy.model_dump_json().encode()
    return policy_pb2.Policy(version=policy.version, config=config).SerializeToString()
