"""Compiles a config into a snapshot: one compiler function for each resource type."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from google.protobuf.message import Message

from protos import policy_pb2
from sluice.config import GatewayConfig, Model, PolicyDocument
from sluice.config.gateway import Requests
from sluice.contract import names
from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Resource, Resources, Snapshot
from xds.resources import (
    clusters,
    cors,
    endpoints,
    extensions,
    local_rate_limit,
    routes,
    server_status,
    telemetry,
)
from xds.resources.callout_cluster import callout_cluster
from xds.resources.filters import EXT_PROC
from xds.resources.listener import listener
from xds.resources.local_rate_limit import ModelLimits, model_limits
from xds.resources.model_messages import serialized
from xds.resources.rate_limit_config import rate_limit_configs

MAX_COMPILED_MODELS = 20_000
"""Compiled models in the cache: twice the maximum of a config, for an edit that changes all."""


def build(config: GatewayConfig, policy: PolicyDocument, directory: Path) -> Snapshot:
    """Compile a config with its policy.

    TLS file names in the config are relative to `directory`.
    """
    inputs = _Inputs(config, policy, directory, [_compile_model(key) for key in _keys(config)])
    resources = {each: compiler(inputs) for each, compiler in COMPILERS.items()}
    return Snapshot.of(resources, policy.version)


@dataclass(frozen=True, slots=True)
class _ModelKey:
    """Everything that a model's resources depend on.

    `content` is the model as JSON, because a `Model` is not hashable.
    """

    name: str
    content: str
    buffer_limit: int
    requests: Requests
    limits: ModelLimits
    model: Model = field(compare=False)


@dataclass(frozen=True, slots=True)
class _CompiledModel:
    """The serialized resources of one model."""

    clusters: Resources
    endpoints: Resources
    routes: tuple[tuple[int, bytes], ...]
    """Each with its precedence."""


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The input of a compiler function."""

    config: GatewayConfig
    policy: PolicyDocument
    directory: Path
    models: list[_CompiledModel]


def _keys(config: GatewayConfig) -> Iterator[_ModelKey]:
    buffer_limit, requests = config.listener.stream_buffer_limit, config.requests
    for name, model in config.models.items():
        limits = model_limits(config.limits, name, model)
        yield _ModelKey(name, model.model_dump_json(), buffer_limit, requests, limits, model)


@lru_cache(MAX_COMPILED_MODELS)
def _compile_model(key: _ModelKey) -> _CompiledModel:
    """Compile one model. The result is cached, because most edits change one model of many."""
    versions = {names.cluster_name(key.name, name): v for name, v in key.model.versions.items()}
    return _CompiledModel(
        clusters={
            name: _resource(
                clusters.version_cluster(name, version, key.model.pool, key.buffer_limit)
            )
            for name, version in versions.items()
        },
        endpoints={
            name: _resource(endpoints.version_endpoints(name, version))
            for name, version in versions.items()
            if endpoints.uses_eds(version)
        },
        routes=tuple(
            (routes.precedence(route), serialized(route))
            for route in routes.model_routes(key.name, key.model, key.requests, key.limits)
        ),
    )


def _clusters(inputs: _Inputs) -> Resources:
    callout = callout_cluster(inputs.config.callout)
    collectors = telemetry.collectors(inputs.config.telemetry)
    return {cluster.name: _resource(cluster) for cluster in (callout, *collectors)} | {
        name: resource for model in inputs.models for name, resource in model.clusters.items()
    }


def _endpoints(inputs: _Inputs) -> Resources:
    return {name: resource for model in inputs.models for name, resource in model.endpoints.items()}


def _listeners(inputs: _Inputs) -> Resources:
    return {names.LISTENER: Resource.of(bytes(listener(inputs.config, inputs.directory)))}


def _extensions(_: _Inputs) -> Resources:
    name = names.JWT_FILTER
    return {name: Resource.of(bytes(extensions.extension(name, extensions.NO_TOKENS)))}


def _routes(inputs: _Inputs) -> Resources:
    of_models = [each for model in inputs.models for each in model.routes]
    table = [route for _, route in sorted(of_models, key=lambda each: -each[0])]
    limits = [each.name for each in local_rate_limit.http_filters()]
    others = [*server_status.routes([EXT_PROC], limits), *routes.fallback_routes()]
    for route in others:
        cors.allow_origins(route, inputs.config.requests.cors, ("POST",))
    table += map(serialized, others)
    body = routes.route_configuration(inputs.config, table)
    return {names.ROUTE_CONFIGURATION: Resource.of(body)}


def _policy(inputs: _Inputs) -> Resources:
    message = policy_pb2.Policy(
        version=inputs.policy.version, config=inputs.policy.model_dump_json().encode()
    )
    return {names.POLICY: Resource.of(message.SerializeToString())}


def _rate_limits(inputs: _Inputs) -> Resources:
    configs = rate_limit_configs(inputs.config.limits.domains)
    return {name: Resource.of(body) for name, body in configs.items()}


def _resource(message: Message) -> Resource:
    return Resource.of(serialized(message))


COMPILERS: Final[Mapping[ResourceType, Callable[[_Inputs], Resources]]] = {
    resource_types.CLUSTER: _clusters,
    resource_types.ENDPOINT: _endpoints,
    resource_types.LISTENER: _listeners,
    resource_types.EXTENSION: _extensions,
    resource_types.ROUTE: _routes,
    resource_types.POLICY: _policy,
    resource_types.RATE_LIMIT: _rate_limits,
}
"""The compiler function of each resource type, which returns the resources by name."""
