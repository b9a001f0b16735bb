"""Makes the plan of each model of a config."""

from dataclasses import dataclass
from typing import Final

from sluice.config.gateway import GatewayConfig
from sluice.config.limits import LimitRule
from sluice.config.models import Model
from sluice.config.placement.access import allowed_callers
from sluice.config.placement.issuers import issuer_obstacle
from sluice.config.placement.plan_types import AnyOf, Plan, claims
from sluice.config.placement.ways import chosen_ways, named_way
from sluice.config.policy import PolicyDocument
from sluice.config.values import READ_METHODS

MAX_WAYS: Final = 64
"""Maximum ways of admission of a model with native routes. Envoy holds each of them in memory, and
the control plane sends them at each change of a route."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the placement of a model depends on, apart from the model itself.

    `issuers` are those whose tokens Envoy verifies for native routes, and `no_issuers` says why
    there are none.
    """

    placement: str
    issuers: tuple[str, ...]
    no_issuers: str
    rules: tuple[LimitRule, ...]


def surroundings(config: GatewayConfig | PolicyDocument) -> Surroundings:
    """The part of the config that the placement of all models depends on."""
    refused = [(issuer, issuer_obstacle(issuer)) for issuer in config.auth.issuers]
    native = tuple(issuer.issuer for issuer, obstacle in refused if not obstacle)
    why = next((obstacle for _, obstacle in refused), "the config has no issuers of tokens")
    return Surroundings(config.placement, native, "" if native else why, config.limits.rules)


def plans(config: GatewayConfig) -> dict[str, Plan]:
    """The plan of each model, by name."""
    around = surroundings(config)
    return {name: plan(name, model, around) for name, model in config.models.items()}


def without_native_routes(config: GatewayConfig) -> GatewayConfig:
    """The config with `placement: callout` for every model."""
    models = {
        name: model.model_copy(update={"placement": None}) if model.placement else model
        for name, model in config.models.items()
    }
    return config.model_copy(update={"placement": "callout", "models": models})


def plan(name: str, model: Model, around: Surroundings) -> Plan:
    """The plan of one model."""
    obstacle = _obstacle(name, model, around)
    if obstacle:
        return Plan(obstacle)
    access = _allowed_callers(model)
    if access is not None and not access.tests:
        return Plan("access.allow: Envoy cannot compare these values exactly")
    versions = tuple(named_way(version, model) for version in model.versions)
    chosen = tuple(chosen_ways(model))
    ways = (*versions, *chosen)
    if len(ways) > MAX_WAYS:
        return Plan(f"it has more than {MAX_WAYS} ways of admission")
    if all(way.callout for way in ways):
        return Plan(ways[0].callout)
    tests = [way.test for way in chosen if way.test is not None]
    read = dict.fromkeys(claims((*tests, *(() if access is None else (access,)))))
    return Plan("", access, model.access.public, versions, chosen, tuple(read))


def native_methods(model: Model) -> tuple[str, ...]:
    """The methods of requests that Envoy may admit alone. Those that only read are repeated."""
    return tuple(method for method in model.methods if method not in READ_METHODS)


def _allowed_callers(model: Model) -> AnyOf | None:
    """The condition for a caller to use the model; None if there is none."""
    if model.access.public or not model.access.allow:
        return None
    return allowed_callers(model.access.allow)


def _obstacle(name: str, model: Model, around: Surroundings) -> str:
    placement = around.placement if model.placement is None else model.placement
    if placement == "callout":
        return "placement: callout"
    applied = next((rule for rule in around.rules if _may_apply(rule, name)), None)
    if applied is not None:
        return f"limits.rules: {applied.name} may apply, and the callout enforces it"
    if not native_methods(model):
        return "methods: the callout decides GET and HEAD"
    if not around.issuers and not model.access.public:
        return around.no_issuers
    return ""


def _may_apply(rule: LimitRule, model: str) -> bool:
    """Whether the fleet-wide rule may apply to requests of the model."""
    for match in rule.match:
        if match.part == "model":
            exact = match.match == "exact"
            if not any(model == v if exact else model.startswith(v) for v in match.values):
                return False
    return True
