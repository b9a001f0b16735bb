"""Compiles the models of a config, each into its part of the resources.

Most edits change one model of many, so the models of the latest config are kept.
"""

import json
from dataclasses import dataclass

from google.protobuf.message import Message

from protos.cluster_pb2 import Cluster
from sluice.config import GatewayConfig, Model
from sluice.config.gateway import Requests
from sluice.config.placement import Plan, Surroundings, plan, surroundings
from sluice.contract import names
from xds.protocol.snapshot import Resource, Resources
from xds.resources import clusters, endpoints, jwt_authn, native, routes
from xds.resources.local_rate_limit import ModelLimits, model_limits
from xds.resources.model_messages import serialized
from xds.resources.native.predicates import to_routes
from xds.resources.route_table import ModelTable


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """The serialized resources of one model.

    `plan`: where its requests are decided. `table`: its part of the route table.
    """

    clusters: Resources
    endpoints: Resources
    plan: Plan
    table: ModelTable


class ModelCache:
    """The compiled models of the latest config."""

    def __init__(self) -> None:
        self._models: dict[_Key, CompiledModel] = {}

    def compile(self, config: GatewayConfig, groups: tuple[str, ...]) -> list[CompiledModel]:
        """Compile the models of a config. `groups`: the claims with groups of callers."""
        shared = _Shared.of(config, groups)
        # The hash of one text is computed once, and that of a section for every model.
        text = shared.text()
        models: dict[_Key, CompiledModel] = {}
        for name, model in config.models.items():
            limits = model_limits(config.limits, name, model)
            key = _Key(name, model.serialized, text, limits)
            models[key] = self._models.get(key) or _compile(name, model, shared, limits)
        self._models = models
        return list(models.values())


@dataclass(frozen=True, slots=True)
class _Key:
    """Everything that a model's resources depend on.

    `content` is the model as JSON, because a `Model` is not hashable.
    """

    name: str
    content: bytes
    shared: str
    limits: ModelLimits


@dataclass(frozen=True, slots=True)
class _Shared:
    """The part of the config that the resources of every model depend on."""

    buffer_limit: int
    requests: Requests
    surroundings: Surroundings
    groups: tuple[str, ...]

    @classmethod
    def of(cls, config: GatewayConfig, groups: tuple[str, ...]) -> "_Shared":
        """The shared part of a config."""
        limit = config.listener.stream_buffer_limit
        return cls(limit, config.requests, surroundings(config), groups)

    def text(self) -> str:
        """The part as text: equal parts have equal texts."""
        around = self.surroundings
        return json.dumps(
            (
                self.buffer_limit,
                self.requests.model_dump_json(),
                (around.placement, around.issuers, around.no_issuers),
                [rule.model_dump_json() for rule in around.rules],
                self.groups,
            )
        )


def _compile(name: str, model: Model, shared: _Shared, limits: ModelLimits) -> CompiledModel:
    versions = {names.cluster_name(name, each): v for each, v in model.versions.items()}
    made = {
        cluster: clusters.version_cluster(cluster, version, model.pool, shared.buffer_limit)
        for cluster, version in versions.items()
    }
    placed = plan(name, model, shared.surroundings)
    route = routes.callout_route(name, model, shared.requests, limits)
    return CompiledModel(
        clusters={cluster: _resource(message) for cluster, message in made.items()},
        endpoints={
            cluster: _resource(endpoints.version_endpoints(cluster, version))
            for cluster, version in versions.items()
            if made[cluster].type == Cluster.EDS
        },
        plan=placed,
        table=_table(
            native.NativeModel(name, model, placed, shared.requests, shared.groups, route)
        ),
    )


def _table(each: native.NativeModel) -> ModelTable:
    """The model's part of the route table."""
    name, model, route = each.name, each.model, each.callout
    prefixes = model.prefixes(name)
    decided = serialized(to_routes(routes.decided_routes(route, model.retries)))
    if not each.plan.native:
        jwt_authn.omit(route)
        return ModelTable(name, prefixes, decided, serialized(to_routes((route,))))
    return ModelTable(
        name,
        prefixes,
        decided,
        serialized(to_routes((route,))),
        native=serialized(native.operations(each)),
        everywhere=serialized(native.everywhere(each)) if model.paths else b"",
    )


def _resource(message: Message) -> Resource:
    return Resource.of(serialized(message))
