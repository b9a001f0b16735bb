"""Compiles a config into a snapshot: one compiler function for each resource type."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.message import Message

from protos.cluster_pb2 import Cluster
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
from xds.resources.policy import policy
from xds.resources.rate_limit_config import rate_limit_configs


def build(config: GatewayConfig, policy: PolicyDocument, directory: Path) -> Snapshot:
    """Compile a config with its policy.

    TLS file names in the config are relative to `directory`.
    """
    inputs = _Inputs(config, policy, directory, _models.compile(config))
    resources = {each: compiler(inputs) for each, compiler in COMPILERS.items()}
    return Snapshot.of(resources, policy.version)


@dataclass(frozen=True, slots=True)
class _ModelKey:
    """Everything that a model's resources depend on.

    `content` is the model as JSON, because a `Model` is not hashable.
    """

    name: str
    content: bytes
    buffer_limit: int
    requests: str
    limits: ModelLimits


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


class _ModelCache:
    """The compiled models of the latest config, because most edits change one model of many."""

    def __init__(self) -> None:
        self._models: dict[_ModelKey, _CompiledModel] = {}

    def compile(self, config: GatewayConfig) -> list[_CompiledModel]:
        """Compile the models of a config."""
        # The hash of one text is computed once, and that of a section for every model.
        buffer_limit, requests = config.listener.stream_buffer_limit, config.requests
        text = requests.model_dump_json()
        models: dict[_ModelKey, _CompiledModel] = {}
        for name, model in config.models.items():
            limits = model_limits(config.limits, name, model)
            key = _ModelKey(name, model.serialized, buffer_limit, text, limits)
            models[key] = self._models.get(key) or _compile_model(
                name, model, buffer_limit, requests, limits
            )
        self._models = models
        return list(models.values())


_models = _ModelCache()


def _compile_model(
    model_name: str, model: Model, buffer_limit: int, requests: Requests, limits: ModelLimits
) -> _CompiledModel:
    versions = {names.cluster_name(model_name, name): v for name, v in model.versions.items()}
    made = {
        name: clusters.version_cluster(name, version, model.pool, buffer_limit)
        for name, version in versions.items()
    }
    return _CompiledModel(
        clusters={name: _resource(cluster) for name, cluster in made.items()},
        endpoints={
            name: _resource(endpoints.version_endpoints(name, version))
            for name, version in versions.items()
            if made[name].type == Cluster.EDS
        },
        routes=tuple(
            (routes.precedence(route), serialized(route))
            for route in routes.model_routes(model_name, model, requests, limits)
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
    # Without models, so that the listener depends on nothing else of them.
    rest = inputs.config.model_copy(update={"models": {}})
    answers_readiness = server_status.answers_readiness(inputs.config)
    return {names.LISTENER: _listener.resource(rest, inputs.directory, answers_readiness)}


class _ListenerCache:
    """The latest listener, because its messages are slow and most edits change models only."""

    def __init__(self) -> None:
        self._latest: tuple[tuple[GatewayConfig, Path, bool], Resource] | None = None

    def resource(self, config: GatewayConfig, directory: Path, answers_readiness: bool) -> Resource:
        """The listener of a config, which may have any models."""
        key = (config, directory, answers_readiness)
        if self._latest is None or self._latest[0] != key:
            message = listener(config, directory, answers_readiness=answers_readiness)
            self._latest = key, Resource.of(bytes(message))
        return self._latest[1]


_listener = _ListenerCache()


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
    return {names.POLICY: Resource.of(policy(inputs.policy))}


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
