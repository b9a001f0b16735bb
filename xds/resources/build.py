"""Compiles a config into a snapshot: one compiler function for each resource type."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from google.protobuf.message import Message

from protos.cluster_pb2 import Cluster
from sluice.config import GatewayConfig, PolicyDocument
from sluice.config.node_groups import NodeGroup
from sluice.config.placement import without_native_routes
from sluice.config.secrets import NO_SECRETS, Secrets
from sluice.contract import names
from sluice.keys.key_set import KeySet
from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Resource, Resources, Snapshot, Variant
from xds.resources import (
    cors,
    extensions,
    jwt_authn,
    local_rate_limit,
    native,
    route_table,
    routes,
    runtime,
    secrets,
    server_status,
    telemetry,
    video,
)
from xds.resources.callout_cluster import callout_cluster
from xds.resources.envoy_versions import (
    EnvoyVariants,
    callout_only,
    group_variant,
    not_awaiting,
)
from xds.resources.jwt_authn import Tokens
from xds.resources.listener_settings import ListenerSettings
from xds.resources.listeners import ListenerCache
from xds.resources.models import CompiledModel, ModelCache, not_served
from xds.resources.omitted_callout import EXT_PROC
from xds.resources.policy import PolicyCache
from xds.resources.proto_messages import serialized
from xds.resources.rate_limit_config import rate_limit_configs
from xds.resources.video_config import VideoConfigCache

NO_KEY_SETS: Final[Mapping[str, KeySet]] = MappingProxyType({})


def build(
    config: GatewayConfig,
    policy: PolicyDocument,
    directory: Path,
    fetched: Mapping[str, KeySet] = NO_KEY_SETS,
    read: Secrets = NO_SECRETS,
    *,
    keep: bool = True,
) -> Snapshot:
    """Compile a config with its policy, the fetched key sets by issuer, and the secrets as read.

    TLS file names in the config are relative to `directory`. Parts that have not changed since the
    latest config are not compiled again. `keep`: whether this config becomes the latest. Only one
    thread may compile such a config; others may compile further ones meanwhile.
    """
    tokens = Tokens.of(policy.auth, fetched)
    models = _models.compile(config, tokens.group_claims, keep=keep)
    inputs = _Inputs(config, policy, directory, tokens, models, read, keep)
    older = replace(inputs, awaits_clusters=False)
    variants = {
        not_awaiting(""): Variant(partial(_snapshot, older)),
        callout_only(""): Variant(partial(_callout_only, older)),
    }
    for name, group in config.node_groups.items():
        variant, without = group_variant(name), group.model_copy(update={"placement": "callout"})
        variants[variant] = Variant(partial(_of_group, inputs, group))
        variants[not_awaiting(variant)] = Variant(partial(_of_group, older, group))
        variants[callout_only(variant)] = Variant(partial(_of_group, older, without))
    choice = EnvoyVariants.of(config.node_groups)
    return Snapshot.of(_compile(inputs), policy.version, variants, choice)


def _of_group(inputs: "_Inputs", group: NodeGroup) -> Snapshot:
    """The snapshot for the Envoys of a group. It has only resources of Envoys.

    The models are compiled as for the others, so that one policy switches the native routes of all
    Envoys.
    """
    config, tokens, models = inputs.config, inputs.tokens, inputs.models
    if group.placement == "callout":
        config = without_native_routes(config)
        tokens = Tokens(inputs.policy.auth, (), {})
        models = _callout_only_models.compile(config, tokens.group_claims)
    if group.models is not None:
        served = frozenset(group.models)
        models = [each if each.table.name in served else not_served(each) for each in models]
    envoy = config.envoy.model_copy(update={"runtime": {**config.envoy.runtime, **group.runtime}})
    listener = group.listener_of(config.listener)
    # The configs of the callout, of the video service and of other servers are not for Envoys.
    config = config.model_copy(update={"listener": listener, "envoy": envoy, "node_groups": {}})
    own = replace(inputs, config=config, tokens=tokens, models=models)
    return Snapshot.of(
        {each: compiler(own) for each, compiler in COMPILERS.items() if each not in _NOT_OF_ENVOYS},
        inputs.policy.version,
    )


def _callout_only(inputs: "_Inputs") -> Snapshot:
    """The snapshot for Envoys that get no native routes."""
    config = without_native_routes(inputs.config)
    tokens = Tokens(inputs.policy.auth, (), {})
    models = _callout_only_models.compile(config, tokens.group_claims)
    return _snapshot(replace(inputs, config=config, tokens=tokens, models=models))


def _snapshot(inputs: "_Inputs") -> Snapshot:
    return Snapshot.of(_compile(inputs), inputs.policy.version)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The input of a compiler function.

    `awaits_clusters`: whether the Envoys can hold a request until they have its cluster.
    """

    config: GatewayConfig
    policy: PolicyDocument
    directory: Path
    tokens: Tokens
    models: list[CompiledModel]
    secrets: Secrets
    keep: bool = True
    awaits_clusters: bool = True


_models, _callout_only_models = ModelCache(), ModelCache()
_policies, _listener_cache = PolicyCache(), ListenerCache()
_video_configs = VideoConfigCache()


def _compile(inputs: _Inputs) -> Mapping[ResourceType, Resources]:
    return {each: compiler(inputs) for each, compiler in COMPILERS.items()}


def _runtime(inputs: _Inputs) -> Resources:
    return runtime.runtime(inputs.config.envoy)


def _clusters(inputs: _Inputs) -> Resources:
    callout = callout_cluster(inputs.config.callout, inputs.config.identity, inputs.directory)
    collectors = telemetry.collectors(inputs.config.telemetry)
    own = (callout, *_video_clusters(inputs), *collectors)
    return {cluster.name: _resource(cluster) for cluster in own} | {
        name: resource for model in inputs.models for name, resource in model.clusters.items()
    }


def _video_clusters(inputs: _Inputs) -> list[Cluster]:
    config = inputs.config
    if config.video is None:
        return []
    return video.clusters(
        config.video,
        config.auth.api_key_header,
        config.listener.stream_buffer_limit,
        config.identity,
        inputs.directory,
    )


def _endpoints(inputs: _Inputs) -> Resources:
    return {name: resource for model in inputs.models for name, resource in model.endpoints.items()}


def _secrets(inputs: _Inputs) -> Resources:
    served = {model.table.name for model in inputs.models if model.clusters}
    models = {name: each for name, each in inputs.config.models.items() if name in served}
    return secrets.secrets(inputs.config.model_copy(update={"models": models}), inputs.secrets)


def _listeners(inputs: _Inputs) -> Resources:
    return _listener_cache.resources(
        ListenerSettings.of(inputs.config),
        inputs.directory,
        answers_readiness=server_status.answers_readiness(inputs.config),
        awaits_clusters=inputs.awaits_clusters,
        keep=inputs.keep,
    )


def _extensions(inputs: _Inputs) -> Resources:
    name = names.JWT_FILTER
    tokens = extensions.extension(name, jwt_authn.filter_config(inputs.tokens, _claims(inputs)))
    limits = local_rate_limit.filter_configs(inputs.config.limits)
    return {name: Resource.of(bytes(tokens), ttl=inputs.tokens.ttl)} | {
        name: _resource(config) for name, config in limits.items()
    }


def _routes(inputs: _Inputs) -> Resources:
    config, plans = inputs.config, [model.plan for model in inputs.models]
    limits = [each.name for each in local_rate_limit.http_filters()]
    status = list(server_status.routes([EXT_PROC, names.JWT_FILTER], limits))
    others = routes.fallback_routes()
    for route in (*status, *others):
        cors.allow_origins(route, config.requests.cors, ("POST",))
    public = any(each.native and each.public for each in plans)
    callers = jwt_authn.callers(inputs.tokens, _claims(inputs))
    matcher = route_table.matcher(
        (model.table for model in inputs.models),
        (route_table.Fixed(route.match.path, (route,)) for route in status),
        others,
        native.admissible(callers, public=public) if any(each.native for each in plans) else None,
    )
    removed = jwt_authn.removed_credentials(inputs.policy.auth)
    parts = routes.route_configuration(config, matcher, removed)
    return {names.ROUTE_CONFIGURATION: Resource.of(*parts)}


def _claims(inputs: _Inputs) -> list[str]:
    """The claims that native routes read."""
    found = (claim for model in inputs.models for claim in model.plan.claims)
    return sorted({claim for claim in found if claim is not None})


def _policy(inputs: _Inputs) -> Resources:
    native = {model.table.name: model.digest for model in inputs.models if model.plan.native}
    return _policies.resources(inputs.policy, native, keep=inputs.keep)


def _videos(inputs: _Inputs) -> Resources:
    return _video_configs.resources(
        inputs.config, inputs.secrets.videos, inputs.directory, keep=inputs.keep
    )


def _rate_limits(inputs: _Inputs) -> Resources:
    configs = rate_limit_configs(inputs.config.limits.domains)
    return {name: Resource.of(body) for name, body in configs.items()}


def _resource(message: Message) -> Resource:
    return Resource.of(serialized(message))


COMPILERS: Final[Mapping[ResourceType, Callable[[_Inputs], Resources]]] = {
    resource_types.RUNTIME: _runtime,
    resource_types.CLUSTER: _clusters,
    resource_types.ENDPOINT: _endpoints,
    resource_types.SECRET: _secrets,
    resource_types.LISTENER: _listeners,
    resource_types.EXTENSION: _extensions,
    resource_types.ROUTE: _routes,
    resource_types.POLICY: _policy,
    resource_types.VIDEO: _videos,
    resource_types.RATE_LIMIT: _rate_limits,
}
"""The compiler function of each resource type, which returns the resources by name."""

_NOT_OF_ENVOYS: Final = (
    resource_types.POLICY,
    resource_types.VIDEO,
    resource_types.RATE_LIMIT,
)
