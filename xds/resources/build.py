"""Puts the resources of a config together into one snapshot."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from protos import policy_pb2
from sluice.config import GatewayConfig, Model, PolicyDocument
from sluice.contract import names
from xds.protocol import resource_types
from xds.protocol.snapshot import Snapshot
from xds.resources import clusters, endpoints, routes, telemetry
from xds.resources.listener import listener
from xds.resources.rate_limit_config import rate_limit_configs

MAX_COMPILED = 20_000
"""Models remembered: twice as many as a config may have, for an edit that changes all."""


def build(config: GatewayConfig, policy: PolicyDocument, directory: Path) -> Snapshot:
    """Compile a config; file names in it (TLS) are relative to `directory`."""
    callout = clusters.callout_cluster(config.callout)
    compiled = [_model(key) for key in _keys(config)]
    table = [route for model in compiled for route in model.routes]
    return Snapshot.of(
        {
            resource_types.CLUSTER: {callout.name: bytes(callout)}
            | {cluster.name: bytes(cluster) for cluster in telemetry.collectors(config.telemetry)}
            | {name: body for model in compiled for name, body in model.clusters.items()},
            resource_types.ENDPOINT: {
                name: body for model in compiled for name, body in model.endpoints.items()
            },
            resource_types.LISTENER: {names.LISTENER: bytes(listener(config, directory))},
            resource_types.ROUTE: {
                names.ROUTE_CONFIGURATION: routes.route_configuration(
                    config, [*table, *map(bytes, routes.others())]
                )
            },
            resource_types.POLICY: {names.POLICY: _policy(policy)},
            resource_types.RATE_LIMIT: rate_limit_configs(config.limits.domains),
        },
        warmup=clusters.warmup(config),
    )


@dataclass(frozen=True, slots=True)
class _Key:
    """What a model's resources depend on; `content` stands for the model, which has no hash."""

    name: str
    content: str
    buffer: int
    max_body: int
    model: Model = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A model's serialized resources: clusters and endpoints by name, routes in order."""

    clusters: dict[str, bytes]
    endpoints: dict[str, bytes]
    routes: tuple[bytes, ...]


def _keys(config: GatewayConfig) -> list[_Key]:
    buffer, max_body = config.listener.stream_buffer_limit, config.requests.max_body
    return [
        _Key(name, model.model_dump_json(), buffer, max_body, model)
        for name, model in config.models.items()
    ]


@lru_cache(MAX_COMPILED)
def _model(key: _Key) -> _Compiled:
    """Compile a model. Remembered: a millisecond each, and an edit changes one of many."""
    named = {names.cluster_name(key.name, name): v for name, v in key.model.versions.items()}
    return _Compiled(
        clusters={
            name: bytes(clusters.version_cluster(name, version, key.model.pool, key.buffer))
            for name, version in named.items()
        },
        endpoints={
            name: bytes(endpoints.of_version(name, version))
            for name, version in named.items()
            if endpoints.discovered(version)
        },
        routes=tuple(map(bytes, routes.model_routes(key.name, key.model, key.max_body))),
    )


def _policy(policy: PolicyDocument) -> bytes:
    config = policy.model_dump_json().encode()
    return policy_pb2.Policy(version=policy.version, config=config).SerializeToString()
