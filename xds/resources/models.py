"""Compiles the models of a config, each into its part of the resources.

Most edits change one model of many, so the models of the latest config are kept.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from google.protobuf.message import Message
from pydantic.main import IncEx

from protos.cluster_pb2 import Cluster
from sluice.config import GatewayConfig, Model
from sluice.config.auth import Auth
from sluice.config.gateway import Requests
from sluice.config.limits import Limits
from sluice.config.placement import Plan, Surroundings, plan, surroundings
from sluice.contract import names
from xds.protocol.snapshot import Resource, Resources
from xds.resources import clusters, endpoints, jwt_authn, native, routes, video
from xds.resources.local_rate_limit import ModelLimits, model_limits
from xds.resources.native.predicates import to_routes
from xds.resources.proto_messages import serialized
from xds.resources.route_table import ModelTable, ancestors


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """The serialized resources of one model.

    `plan`: where its requests are decided. `table`: its part of the route table. `digest`: the hash
    of everything that its native routes depend on, apart from the keys of tokens.
    """

    clusters: Resources
    endpoints: Resources
    plan: Plan
    table: ModelTable
    digest: str


@dataclass(frozen=True, slots=True)
class _Latest:
    """The latest compilation of a model. Most edits leave the object of the model as it is."""

    model: Model
    key: "_Key"
    compiled: CompiledModel


@dataclass(frozen=True, slots=True)
class _LatestModels:
    """The models of the latest config, by name, and what all of them depend on."""

    models: Mapping[str, _Latest]
    shared: str
    limits: Limits


class ModelCache:
    """The compiled models of the latest config."""

    def __init__(self) -> None:
        self._latest = _LatestModels({}, "", Limits())

    def compile(
        self, config: GatewayConfig, groups: tuple[str, ...], *, keep: bool = True
    ) -> list[CompiledModel]:
        """Compile the models of a config. `groups`: the claims with groups of callers.

        `keep`: whether they replace those of the latest config.
        """
        shared = _Shared.of(config, groups)
        digest = shared.digest()
        inner = _inner_paths(config.models)
        before = self._latest
        same = digest == before.shared and config.limits == before.limits
        models: dict[str, _Latest] = {}
        for name, model in config.models.items():
            latest, below = before.models.get(name), inner.get(name, ())
            if not (same and latest and latest.model is model and latest.key.inner == below):
                limits = model_limits(config.limits, name, model)
                key = _Key(name, model.serialized, digest, limits, below)
                known = latest is not None and latest.key == key
                compiled = latest.compiled if latest and known else _compile(key, model, shared)
                latest = _Latest(model, key, compiled)
            models[name] = latest
        if keep:
            self._latest = _LatestModels(models, digest, config.limits)
        return [latest.compiled for latest in models.values()]


@dataclass(frozen=True, slots=True)
class _Key:
    """Everything that a model's resources depend on.

    `content` is the model as JSON, because a `Model` is not hashable. `inner` are the paths of
    other models below its own.
    """

    name: str
    content: bytes
    shared: str
    limits: ModelLimits
    inner: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Shared:
    """The part of the config that the resources of every model depend on."""

    buffer_limit: int
    requests: Requests
    surroundings: Surroundings
    groups: tuple[str, ...]
    auth: Auth

    @classmethod
    def of(cls, config: GatewayConfig, groups: tuple[str, ...]) -> "_Shared":
        """The shared part of a config."""
        limit = config.listener.stream_buffer_limit
        return cls(limit, config.requests, surroundings(config), groups, config.auth)

    def digest(self) -> str:
        """A hash of the part, apart from the keys of tokens."""
        around = self.surroundings
        text = json.dumps(
            (
                self.buffer_limit,
                self.requests.model_dump_json(),
                (around.placement, around.issuers, around.no_issuers),
                [rule.model_dump_json() for rule in around.rules],
                self.groups,
                self.auth.model_dump_json(exclude=_NO_CREDENTIALS),
            )
        )
        return hashlib.sha256(text.encode()).hexdigest()


_NO_CREDENTIALS: Final[Mapping[str, IncEx | bool]] = {
    "api_keys": True,
    "token_cache_entries": True,
    "issuers": {"__all__": {"jwks", "jwks_file", "jwks_uri", "jwks_refresh", "jwks_max_stale"}},
}
"""What native routes do not depend on in `auth`: no native route admits an API key, and the keys of
tokens belong to the filter that verifies these."""

_NO_ENDPOINTS: Final[Mapping[str, IncEx | bool]] = {
    "pool": True,
    "mirror": True,
    "versions": {
        "__all__": {"endpoints", "endpoints_from", "health_check", "tls", "headers_from_secret"}
    },
}
"""What belongs to the clusters of a model only, and its mirror, which changes no decision."""


def not_served(model: CompiledModel) -> CompiledModel:
    """The resources of a model for Envoys that do not serve it: they refuse its requests.

    The paths stay those of the model, so that no other model gets its requests.
    """
    routes_of = _refusal()
    before = model.table
    table = ModelTable(
        before.name, before.prefixes, routes_of, routes_of, has_video=before.has_video
    )
    return CompiledModel({}, {}, Plan("the group of the Envoy does not serve it"), table, "")


@cache
def _refusal() -> bytes:
    return serialized(to_routes([routes.not_served_route()]))


def _inner_paths(models: Mapping[str, Model]) -> dict[str, tuple[str, ...]]:
    """The paths of other models below those of a model, by its name.

    A new one takes its requests from the native routes of the model.
    """
    if not any(model.paths for model in models.values()):
        return {}
    owners = {path: name for name, model in models.items() for path in model.prefixes(name)}
    found: dict[str, list[str]] = defaultdict(list)
    for path, name in owners.items():
        for ancestor in ancestors(path):
            if owners.get(ancestor, name) != name:
                found[owners[ancestor]].append(path)
    return {name: tuple(sorted(paths)) for name, paths in found.items()}


def _digest(key: _Key, model: Model) -> str:
    """The hash of everything that the native routes of a model depend on."""
    own = model.model_dump_json(exclude=_NO_ENDPOINTS)
    content = json.dumps((key.name, own, key.shared, repr(key.limits), key.inner))
    return hashlib.sha256(content.encode()).hexdigest()[:_DIGEST_LENGTH]


_DIGEST_LENGTH: Final = 16
"""Hex digits: two models of a name do not have the same digest by chance."""


def _compile(key: _Key, model: Model, shared: _Shared) -> CompiledModel:
    name = key.name
    versions = {names.cluster_name(name, each): v for each, v in model.versions.items()}
    made = {
        cluster: clusters.version_cluster(cluster, version, model.pool, shared.buffer_limit)
        for cluster, version in versions.items()
    }
    placed = plan(name, model, shared.surroundings)
    route = routes.callout_route(name, model, shared.requests, key.limits)
    digest = _digest(key, model)
    return CompiledModel(
        clusters={cluster: _resource(message) for cluster, message in made.items()},
        endpoints={
            cluster: _resource(endpoints.version_endpoints(cluster, version))
            for cluster, version in versions.items()
            if made[cluster].type == Cluster.EDS
        },
        plan=placed,
        table=_table(
            native.NativeModel(name, digest, model, placed, shared.requests, shared.groups, route)
        ),
        digest=digest,
    )


def _table(each: native.NativeModel) -> ModelTable:
    """The model's part of the route table."""
    name, model, route = each.name, each.model, each.callout
    prefixes = model.prefixes(name)
    of_video = video.routes(name, model, each.requests)
    decided = serialized(to_routes([*of_video, *routes.decided_routes(route, model.retries)]))
    if not each.plan.native:
        jwt_authn.omit(route)
        undecided = serialized(to_routes((route,)))
        return ModelTable(name, prefixes, decided, undecided, has_video=bool(of_video))
    return ModelTable(
        name,
        prefixes,
        decided,
        serialized(to_routes((route,))),
        native=serialized(native.operations(each)),
        everywhere=serialized(native.everywhere(each)) if model.paths else b"",
        has_video=bool(of_video),
    )


def _resource(message: Message) -> Resource:
    return Resource.of(serialized(message))
